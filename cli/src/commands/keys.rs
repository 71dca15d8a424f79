//! `probectl keys`: list, create, rotate and revoke API keys. A key that is made goes to standard output alone, so that a
//! script can take it; it is stored nowhere.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::SUCCESS;
use crate::client::Client;
use crate::terminal;

/// Manages API keys.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List the tenant's keys, newest first
    List(ListArgs),
    /// Make a key and print it; it is shown only then
    Create(CreateArgs),
    /// Make a key that takes over from another, and print it
    Rotate(RotateArgs),
    /// Revoke a key, for good
    Revoke {
        /// Id of the key
        id: String,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// How many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Print the page as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// A name for people
    name: String,
    /// What it may do at most
    #[arg(long, value_parser = ["viewer", "submitter", "admin"], default_value = "submitter")]
    role: String,
    /// Narrow it to these rights, joined by commas: jobs:read,jobs:write
    #[arg(long, value_delimiter = ',')]
    scopes: Vec<String>,
    /// Address ranges it may be used from, joined by commas: 10.0.0.0/8,192.0.2.7
    #[arg(long, value_delimiter = ',')]
    networks: Vec<String>,
    /// When it expires: 12h, 90d, or seconds. Default: never
    #[arg(long, value_parser = seconds)]
    expires_in: Option<u64>,
    /// Most requests a minute
    #[arg(long)]
    rate_per_minute: Option<u32>,
    /// Let it manage tenants and queues; needs such a key
    #[arg(long)]
    platform: bool,
    /// Make it for this tenant, by its id; needs a platform key. Default: your own
    #[arg(long)]
    tenant: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// Id of the key
    id: String,
    /// How long the old one goes on: 30m, 12h, 7d, or seconds
    #[arg(long, value_parser = seconds, default_value = "1d")]
    overlap: u64,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(client: &Client, args: KeysArgs) -> Result<u8> {
    match args.command {
        KeysCommand::List(args) => {
            let page = client.get("/api/v1/api-keys", &[("limit", args.limit.to_string())]).await?;
            if args.json {
                terminal::json(&page);
            } else {
                terminal::table(&table(&page));
            }
        }
        KeysCommand::Create(args) => {
            let path = match &args.tenant {
                Some(id) => format!("/api/v1/tenants/{id}/api-keys"),
                None => "/api/v1/api-keys".to_owned(),
            };
            show(&client.post(&path, &wish(&args)).await?, args.json)?;
        }
        KeysCommand::Rotate(args) => {
            let body = json!({"overlap_seconds": args.overlap});
            show(&client.post(&format!("/api/v1/api-keys/{}/rotate", args.id), &body).await?, args.json)?;
        }
        KeysCommand::Revoke { id } => {
            client.delete(&format!("/api/v1/api-keys/{id}")).await?;
            terminal::remark("The key opens nothing any more.");
        }
    }
    Ok(SUCCESS)
}

fn wish(args: &CreateArgs) -> Value {
    let mut body = Map::new();
    body.insert("name".into(), json!(args.name));
    body.insert("role".into(), json!(args.role));
    body.insert("platform".into(), json!(args.platform));
    body.insert("networks".into(), json!(args.networks));
    if !args.scopes.is_empty() {
        body.insert("scopes".into(), json!(args.scopes));
    }
    body.extend(args.expires_in.map(|seconds| ("expires_in".to_owned(), json!(seconds))));
    body.extend(args.rate_per_minute.map(|rate| ("rate_per_minute".to_owned(), json!(rate))));
    Value::Object(body)
}

/// The key alone for scripts, or the whole answer.
fn show(made: &Value, json: bool) -> Result<()> {
    if json {
        terminal::json(made);
        return Ok(());
    }
    let Some(key) = made["key"].as_str() else { bail!("the answer holds no key; is this an FFprobe API?") };
    terminal::remark(&format!("Key {}. It is shown only now; keep it safe.", word(&made["id"])));
    terminal::line(key);
    Ok(())
}

fn table(page: &Value) -> Vec<Vec<String>> {
    let mut rows = vec![["ID", "NAME", "ROLE", "STATE", "EXPIRES", "LAST USED", "FROM"].map(str::to_owned).to_vec()];
    for key in page["data"].as_array().into_iter().flatten() {
        let reach = if key["platform"] == true { " (platform)" } else { "" };
        rows.push(vec![
            word(&key["id"]),
            word(&key["name"]),
            format!("{}{reach}", word(&key["role"])),
            word(&key["state"]),
            instant(&key["expires_at"]),
            instant(&key["last_used_at"]),
            word(&key["last_used_from"]),
        ]);
    }
    rows
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// To the minute: `2026-01-02 03:04`.
fn instant(value: &Value) -> String {
    word(value).replacen('T', " ", 1).chars().take(16).collect()
}

/// Seconds, or minutes, hours or days with their letter.
fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let count: Option<u64> = number.parse().ok();
    count.and_then(|n| n.checked_mul(unit)).ok_or_else(|| "write it as 30m, 12h, 90d, or seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in [("45", Some(45)), ("45s", Some(45)), ("30m", Some(1_800)), ("12h", Some(43_200))] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        assert_eq!(seconds("90d"), Ok(7_776_000));
        for bad in ["", "d", "1w", "-1", "1.5h", "99999999999999999999d", "18446744073709551615d", "1é"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_fits_on_a_line() {
        let key = json!({"id": "1", "name": "ci", "role": "admin", "platform": true, "state": "active",
            "expires_at": null, "last_used_at": "2026-01-02T03:04:05.678Z", "last_used_from": "192.0.2.7"});
        let rows = table(&json!({"data": [key]}));
        assert_eq!(rows[1], ["1", "ci", "admin (platform)", "active", "-", "2026-01-02 03:04", "192.0.2.7"]);
    }
}
