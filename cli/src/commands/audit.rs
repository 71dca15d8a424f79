//! `probectl audit`: look at the trail, follow it, export it; `probectl audit prune` erases what is old in it, as the owner of
//! the schema and straight against PostgreSQL, because the service itself cannot.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Duration as Span, Utc};
use clap::{Args, Subcommand, ValueEnum};

use serde_json::Value;
use shared::config::{DatabaseArgs, OwnerArgs, PlaintextArgs};
use shared::store::{self, PgConnectOptions};
use tokio::time::sleep;

use super::SUCCESS;
use crate::client::Client;
use crate::terminal;

/// How long events are kept, if nothing else is said.
pub const RETENTION: Duration = Duration::from_secs(400 * DAY);
const DAY: u64 = 24 * 3600;
/// Events erased in one statement.
const BATCH: i64 = 5_000;
/// How often the trail is looked at while it is followed.
const LOOK: Duration = Duration::from_secs(2);
/// How long an event may have been on its way when it is seen; what comes later is not shown while following.
const ON_ITS_WAY: Span = Span::seconds(30);
/// Events remembered as shown, while following.
const REMEMBERED: usize = 20_000;
/// Events asked for at once, while following.
const PAGE: usize = 1_000;

const API: &str = "/api/v1/audit";

/// Shows the audit trail.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AuditArgs {
    /// What else to do.
    #[command(subcommand)]
    command: Option<AuditCommand>,
    /// Which events.
    #[command(flatten)]
    pub list: ListArgs,
}

/// What else there is to do with the trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Erase old events, as the owner of the schema
    Prune(PruneArgs),
}

/// Which events to show, and how.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this action, or all that begin so: job.create, key., auth
    #[arg(long)]
    action: Option<String>,
    /// Only by this actor: the public id of a key, or the id of a session
    #[arg(long)]
    actor: Option<String>,
    /// Only what was done to the thing with this id
    #[arg(long)]
    target: Option<String>,
    /// Only what ended so: success, denied, failed, unknown
    #[arg(long)]
    outcome: Option<String>,
    /// Only what happened at this instant (RFC 3339) or later
    #[arg(long)]
    from: Option<DateTime<Utc>>,
    /// Only what happened before this instant
    #[arg(long)]
    to: Option<DateTime<Utc>>,
    /// Only of this tenant; needs a key with platform reach
    #[arg(long)]
    tenant: Option<String>,
    /// How many, the newest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Go on with what happens, until Ctrl-C
    #[arg(long, conflicts_with_all = ["to", "export"])]
    follow: bool,
    /// Print all events that fit, not only the newest, in this form
    #[arg(long, value_name = "FORM", conflicts_with_all = ["limit", "json"])]
    export: Option<Form>,
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values with a header.
    Csv,
}

/// What to erase.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Age in days, such as 400d
    #[arg(long, value_parser = days, default_value = "400d")]
    older_than: Duration,
    /// Where PostgreSQL is.
    #[command(flatten)]
    database: DatabaseArgs,
    /// Who owns the schema.
    #[command(flatten)]
    owner: OwnerArgs,
    /// What may be spoken to in clear.
    #[command(flatten)]
    plaintext: PlaintextArgs,
}

impl AuditArgs {
    /// What to erase, if that is what is wanted.
    pub fn prune(&self) -> Option<&PruneArgs> {
        self.command.as_ref().map(|AuditCommand::Prune(prune)| prune)
    }
}

/// Reads whole days, such as `400d` or `400`.
fn days(text: &str) -> Result<Duration, String> {
    let days: Option<u64> = text.strip_suffix('d').unwrap_or(text).parse().ok();
    let days = days.filter(|days| (1..=36_500).contains(days));
    days.map(|days| Duration::from_secs(days * DAY)).ok_or_else(|| "write 1 to 36500 days, such as 400d".to_owned())
}

/// Runs `audit prune`.
pub async fn erase(args: &PruneArgs) -> Result<u8> {
    let owner = args.owner.ownership(&args.database, &args.plaintext)?.owner;
    let erased = prune(owner, args.older_than).await.context("the audit trail was not pruned")?;
    terminal::remark(&format!(
        "{erased} events were older than {} days; they are erased.",
        args.older_than.as_secs() / DAY
    ));
    Ok(SUCCESS)
}

/// Erases events older than `age` and says how many.
pub async fn prune(owner: PgConnectOptions, age: Duration) -> Result<u64> {
    let pool = store::connect(owner, 1);
    let mut erased = 0;
    loop {
        let batch = store::audit::prune(&pool, age, BATCH).await?;
        erased += batch;
        if batch < BATCH.unsigned_abs() {
            pool.close().await;
            return Ok(erased);
        }
    }
}

/// Runs `audit`.
pub async fn show(client: &Client, args: ListArgs) -> Result<u8> {
    if let Some(form) = args.export {
        return export(client, &args, form).await;
    }
    let mut query = args.filters();
    query.push(("limit", args.limit.to_string()));
    let page = client.get(API, &query).await?;
    let events: Vec<&Value> = page["data"].as_array().into_iter().flatten().collect();
    if args.follow {
        // as in a log, the newest stands at the end
        let mut shown = Shown::default();
        shown.print(&args, events.into_iter().rev());
        return follow(client, &args, shown).await;
    }
    events.iter().for_each(|event| print(&args, event));
    Ok(SUCCESS)
}

async fn export(client: &Client, args: &ListArgs, form: Form) -> Result<u8> {
    let word = if form == Form::Csv { "csv" } else { "ndjson" };
    let mut query = args.filters();
    query.push(("format", word.to_owned()));
    let print = |piece: &[u8]| {
        ensure!(terminal::bytes(piece), "what was printed is not complete: its reader has gone away");
        Ok(())
    };
    client.export(API, &query, print).await?;
    Ok(SUCCESS)
}

/// Shows what happens. Only Ctrl-C ends it: an API that is away for a while may be starting anew.
async fn follow(client: &Client, args: &ListArgs, mut shown: Shown) -> Result<u8> {
    let first = shown.oldest;
    loop {
        sleep(LOOK).await;
        // what is older than the first page is not asked for; if that was empty, whatever comes is new
        let since = shown.newest.map(|newest| newest - ON_ITS_WAY).max(first);
        match look(client, args, since).await {
            // our own looks would follow each other for ever
            Ok(events) => shown.print(args, events.iter().rev().filter(|e| e["action"] != "audit.read")),
            Err(error) => terminal::remark(&format!("probectl: {error:#}")),
        }
    }
}

/// All events since that instant, newest first, as many as are remembered.
async fn look(client: &Client, args: &ListArgs, since: Option<DateTime<Utc>>) -> Result<Vec<Value>> {
    let mut query = args.filters();
    query.retain(|(name, _)| *name != "from");
    query.extend(args.from.max(since).map(|from| ("from", from.to_rfc3339())));
    query.push(("limit", PAGE.to_string()));
    let mut events = Vec::new();
    let mut cursor: Option<String> = None;
    while events.len() < REMEMBERED {
        let mut query = query.clone();
        query.extend(cursor.take().map(|c| ("cursor", c)));
        let mut page = client.get(API, &query).await?;
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if let Value::Array(data) = page["data"].take() {
            events.extend(data);
        }
        if cursor.is_none() {
            break;
        }
    }
    Ok(events)
}

/// Events shown lately, so that looking back shows none twice.
#[derive(Default)]
struct Shown {
    ids: HashSet<String>,
    /// The same ids, oldest first.
    order: VecDeque<String>,
    newest: Option<DateTime<Utc>>,
    oldest: Option<DateTime<Utc>>,
}

impl Shown {
    fn print<'a>(&mut self, args: &ListArgs, events: impl Iterator<Item = &'a Value>) {
        for event in events {
            if self.first_time(event) {
                print(args, event);
            }
        }
    }

    fn first_time(&mut self, event: &Value) -> bool {
        let id = event["id"].as_str().unwrap_or_default();
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        if let Some(at) = event["happened_at"].as_str().and_then(|at| at.parse().ok()) {
            self.newest = self.newest.max(Some(at));
            self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
        }
        true
    }
}

impl ListArgs {
    fn filters(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        query.extend(self.action.clone().map(|v| ("action", v)));
        query.extend(self.actor.clone().map(|v| ("actor", v)));
        query.extend(self.target.clone().map(|v| ("target", v)));
        query.extend(self.outcome.clone().map(|v| ("outcome", v)));
        query.extend(self.tenant.clone().map(|v| ("tenant", v)));
        query.extend(self.from.map(|v| ("from", v.to_rfc3339())));
        query.extend(self.to.map(|v| ("to", v.to_rfc3339())));
        query
    }
}

fn print(args: &ListArgs, event: &Value) {
    if args.json { terminal::line(&event.to_string()) } else { terminal::line(&summary(event)) }
}

/// An event in one line.
fn summary(event: &Value) -> String {
    let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let of = |kind: &Value, id: &Value| match (kind.as_str(), id.as_str()) {
        (Some(kind), Some(id)) => format!("{kind}:{id}"),
        (Some(kind), None) => kind.to_owned(),
        _ => "-".to_owned(),
    };
    let actor = of(&event["actor"]["kind"], &event["actor"]["id"]);
    let target = of(&event["target"]["kind"], &event["target"]["id"]);
    // an event of the service itself has neither, and so has one that was never answered
    let status = event["status"].as_u64().map_or_else(|| "-".to_owned(), |status| status.to_string());
    let how = event["code"].as_str().map_or(status, str::to_owned);
    let (at, action, outcome) = (word(&event["happened_at"]), word(&event["action"]), word(&event["outcome"]));
    let client = word(&event["client_address"]);
    format!("{at}  {outcome:7}  {action:16}  {actor}  {client}  {target}  {how}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_fits_on_a_line_and_is_shown_once() {
        let event = json!({"id": "1", "happened_at": "2026-11-24T20:00:00Z", "outcome": "denied", "action": "auth.forbidden",
            "actor": {"kind": "key", "id": "abc"}, "client_address": "192.0.2.7", "target": {"kind": "queue", "id": null},
            "status": 403, "code": "forbidden"});
        assert_eq!(
            summary(&event),
            "2026-11-24T20:00:00Z  denied   auth.forbidden    key:abc  192.0.2.7  queue  forbidden"
        );
        let own = json!({"happened_at": "2026-11-24T20:00:00Z", "outcome": "success", "action": "key.create",
            "actor": {"kind": "system", "id": null}, "target": {"kind": "key", "id": "abc"}, "status": null, "code": null});
        assert_eq!(summary(&own), "2026-11-24T20:00:00Z  success  key.create        system  -  key:abc  -");
        let mut shown = Shown::default();
        assert!(shown.first_time(&event) && !shown.first_time(&event));
        assert_eq!(shown.newest, "2026-11-24T20:00:00Z".parse().ok());
    }

    #[test]
    fn an_age_is_given_in_days() {
        assert_eq!(days("400d"), Ok(RETENTION));
        assert_eq!(days("1"), Ok(Duration::from_secs(DAY)));
        for bad in ["", "0", "-1d", "400h", "1.5d", "99999999999999999999"] {
            assert!(days(bad).is_err(), "{bad}");
        }
    }
}
