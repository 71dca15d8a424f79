//! The audit trail: rows are added, read and, by the owner of the schema, pruned. No function here changes one: the role
//! that the application connects with could not (see [`super::role`]).

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor, Postgres, QueryBuilder};

use super::unreadable;
use crate::audit::{Actor, ActorKind, Event, Outcome, Target};
use crate::error::{Error, Result};
use crate::id::{AuditEventId, TenantId};

/// Adds the events of one parameter, a JSON array of [`Row`]s; none if it is empty. A part of a statement, so that an event
/// can travel with the statement it tells of and cost no way to the database of its own.
macro_rules! record {
    ($events:literal) => {
        concat!(
            "insert into audit_event (id, happened_at, tenant_id, actor_kind, actor_id, client, request_id, action,
                target_kind, target_id, outcome, status, code, detail)
            select id, clock_timestamp() - make_interval(secs => age_seconds), tenant_id, actor_kind, actor_id, client,
                request_id, action, target_kind, target_id, outcome, status, code, detail
            from jsonb_to_recordset(",
            $events,
            ") as event (id uuid, age_seconds float8, tenant_id uuid, actor_kind text, actor_id text, client inet,
                request_id text, action text, target_kind text, target_id text, outcome text, status smallint, code text,
                detail jsonb)"
        )
    };
}
pub(super) use record;

/// An event as the database reads it.
#[derive(Debug, Serialize)]
pub(super) struct Row<'a> {
    id: AuditEventId,
    /// PostgreSQL's clock counts, so what waited says for how long.
    age_seconds: f64,
    tenant_id: Option<TenantId>,
    actor_kind: ActorKind,
    actor_id: Option<&'a str>,
    client: Option<IpAddr>,
    request_id: Option<&'a str>,
    action: &'static str,
    target_kind: Option<&'a str>,
    target_id: Option<&'a str>,
    outcome: Outcome,
    status: Option<u16>,
    code: Option<&'static str>,
    detail: &'a Map<String, Value>,
}

impl<'a> Row<'a> {
    fn new(event: &'a Event, age: Duration) -> Self {
        Self {
            id: event.id,
            age_seconds: age.as_secs_f64(),
            tenant_id: event.tenant,
            actor_kind: event.actor.kind,
            actor_id: event.actor.id.as_deref(),
            client: event.client,
            request_id: event.request_id.as_deref(),
            action: event.action,
            target_kind: event.target.as_ref().map(|t| t.kind.as_str()),
            target_id: event.target.as_ref().and_then(|t| t.id.as_deref()),
            outcome: event.outcome,
            status: event.status,
            code: event.code,
            detail: &event.detail,
        }
    }
}

/// An event that happens now, or none, as the parameter of a statement with `record!` in it.
pub(super) fn of(event: Option<&Event>) -> Json<Vec<Row<'_>>> {
    Json(event.map(|e| Row::new(e, Duration::ZERO)).into_iter().collect())
}

/// Adds an event that happens now.
pub async fn insert(db: impl PgExecutor<'_>, event: &Event) -> Result<()> {
    sqlx::query(record!("$1")).bind(of(Some(event))).execute(db).await?;
    Ok(())
}

/// Adds events that happened so long ago. Those that are there already, because the answer to an earlier try was lost, are
/// left as they are.
pub async fn insert_late(db: impl PgExecutor<'_>, events: &[(Duration, &Event)]) -> Result<()> {
    let rows: Vec<Row> = events.iter().map(|(age, event)| Row::new(event, *age)).collect();
    sqlx::query(concat!(record!("$1"), " on conflict do nothing")).bind(Json(rows)).execute(db).await?;
    Ok(())
}

/// Which events a list shows. Fields that are `None` do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Whose action is this word or begins with it: letters, `_` and dots.
    pub action: Option<String>,
    /// By the actor with this id.
    pub actor: Option<String>,
    /// Done to the thing with this id.
    pub target: Option<String>,
    /// That ended so.
    pub outcome: Option<Outcome>,
    /// That happened at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// That happened before this instant.
    pub to: Option<DateTime<Utc>>,
}

/// A place in a list: the last event already seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// When it happened.
    pub happened_at: DateTime<Utc>,
    /// Its id, which parts events of the same instant.
    pub id: AuditEventId,
}

/// An event as stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its id.
    pub id: AuditEventId,
    /// When it happened.
    pub happened_at: DateTime<Utc>,
    /// Whose trail it belongs to.
    pub tenant: Option<TenantId>,
    /// Who did it.
    pub actor: Actor,
    /// From where.
    pub client: Option<IpAddr>,
    /// In which request.
    pub request_id: Option<String>,
    /// What; a later build may know more actions.
    pub action: String,
    /// To what.
    pub target: Option<Target>,
    /// How it ended.
    pub outcome: Outcome,
    /// Status of the answer.
    pub status: Option<i16>,
    /// Code of the problem.
    pub code: Option<String>,
    /// A few facts.
    pub detail: Map<String, Value>,
}

#[derive(Debug, FromRow)]
struct Found {
    id: AuditEventId,
    happened_at: DateTime<Utc>,
    tenant_id: Option<TenantId>,
    actor_kind: ActorKind,
    actor_id: Option<String>,
    client: Option<String>,
    request_id: Option<String>,
    action: String,
    target_kind: Option<String>,
    target_id: Option<String>,
    outcome: Outcome,
    status: Option<i16>,
    code: Option<String>,
    detail: Json<Map<String, Value>>,
}

impl TryFrom<Found> for Stored {
    type Error = Error;

    fn try_from(row: Found) -> Result<Self> {
        let client = row.client.map(|c| c.parse().map_err(|e| unreadable("audit event", e))).transpose()?;
        Ok(Self {
            id: row.id,
            happened_at: row.happened_at,
            tenant: row.tenant_id,
            actor: Actor { kind: row.actor_kind, id: row.actor_id },
            client,
            request_id: row.request_id,
            action: row.action,
            target: row.target_kind.map(|kind| Target { kind, id: row.target_id }),
            outcome: row.outcome,
            status: row.status,
            code: row.code,
            detail: row.detail.0,
        })
    }
}

/// The events that pass the filter, newest first, at most `limit`, those after `after`.
pub async fn list(db: impl PgExecutor<'_>, filter: &Filter, after: Option<After>, limit: i64) -> Result<Vec<Stored>> {
    let mut sql = QueryBuilder::<Postgres>::new(
        "select id, happened_at, tenant_id, actor_kind, actor_id, host(client) as client, request_id, action, target_kind,
            target_id, outcome, status, code, detail from audit_event where true",
    );
    if let Some(tenant) = filter.tenant {
        sql.push(" and tenant_id = ").push_bind(tenant);
    }
    if let Some(action) = &filter.action {
        // a range of the index: the letters of actions come before '~'
        sql.push(" and action >= ").push_bind(action).push(" and action < ").push_bind(format!("{action}~"));
    }
    if let Some(actor) = &filter.actor {
        sql.push(" and actor_id = ").push_bind(actor);
    }
    if let Some(target) = &filter.target {
        sql.push(" and target_id = ").push_bind(target);
    }
    match filter.outcome {
        None => {}
        // written out, so that the index of what did not go well can be seen to hold them
        Some(Outcome::Success) => drop(sql.push(" and outcome = 'success'")),
        Some(Outcome::Denied) => drop(sql.push(" and outcome = 'denied'")),
        Some(Outcome::Failed) => drop(sql.push(" and outcome = 'failed'")),
        Some(Outcome::Unknown) => drop(sql.push(" and outcome = 'unknown'")),
    }
    if let Some(from) = filter.from {
        sql.push(" and happened_at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        sql.push(" and happened_at < ").push_bind(to);
    }
    if let Some(after) = after {
        sql.push(" and (happened_at, id) < (").push_bind(after.happened_at).push(", ").push_bind(after.id).push(")");
    }
    sql.push(" order by happened_at desc, id desc limit ").push_bind(limit);
    let rows: Vec<Found> = sql.build_query_as().fetch_all(db).await?;
    rows.into_iter().map(Stored::try_from).collect()
}

/// The present instant of the clock that the trail is written by.
pub async fn now(db: impl PgExecutor<'_>) -> Result<DateTime<Utc>> {
    Ok(sqlx::query_scalar("select clock_timestamp()").fetch_one(db).await?)
}

/// One round of erasing events older than `age`, the oldest first. Only the owner of the schema may. Returns how many; call
/// again while it returns `batch`.
pub async fn prune(db: impl PgExecutor<'_>, age: Duration, batch: i64) -> Result<u64> {
    // the instant is asked for once, so that it bounds the index and is not compared with every row
    let sql = "delete from audit_event where id in (
        select id from audit_event where happened_at < (select clock_timestamp() - make_interval(secs => $1))
        order by happened_at limit $2)";
    Ok(sqlx::query(sql).bind(age.as_secs_f64()).bind(batch).execute(db).await?.rows_affected())
}
