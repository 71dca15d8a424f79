//! Sessions and their refresh tokens. A session that ended has no row, so whatever is found may be used, as far as its key
//! and the clock allow. Whatever changes one carries its audit event in the same statement. Called by the API's door and the
//! routes of `auth`; upkeep prunes. It never sees a token, only digests.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use super::access::{StoredKey, key_columns};
use super::audit::{self, record};
use crate::access::{Principal, Rights};
use crate::audit::Event;
use crate::error::Result;
use crate::id::{ApiKeyId, SessionId, TenantId};

/// Most sessions of a key; whoever begins another one ends the one that was idle longest.
const MOST_OF_A_KEY: i64 = 100;
/// Most refreshes of a session: one every 15 minutes for 30 days is less than a third of it. Bounds the spent tokens.
const MOST_ROTATIONS: i32 = 10_000;
/// How long a spent token gives the same successor: a client may have lost the answer, or asked twice at once.
const GRACE: Duration = Duration::from_secs(10);

/// A session with the key it was begun with.
#[derive(Debug, FromRow)]
pub struct StoredSession {
    /// The key, as it is now.
    #[sqlx(flatten)]
    pub key: StoredKey,
    session_id: SessionId,
    session_scopes: Option<Vec<String>>,
    /// When it ends at the latest.
    pub session_expires_at: DateTime<Utc>,
    /// Whether that is over, by PostgreSQL's clock.
    pub session_expired: bool,
}

impl StoredSession {
    /// Its id.
    pub fn id(&self) -> SessionId {
        self.session_id
    }

    /// Who the bearer of its tokens is.
    ///
    /// # Errors
    /// As [`StoredKey::principal`].
    pub fn principal(&self) -> Result<Principal> {
        let key = Principal { session: Some(self.session_id), ..self.key.principal()? };
        Ok(match &self.session_scopes {
            Some(scopes) => key.narrowed(Rights::of_scopes(scopes.iter().map(String::as_str))),
            None => key,
        })
    }
}

macro_rules! with_key {
    ($from:literal) => {
        concat!(
            "select ",
            key_columns!(),
            ", s.id as session_id, s.scopes as session_scopes, s.expires_at as session_expires_at,
            s.expires_at <= clock_timestamp() as session_expired
        from session s join api_key k on k.id = s.api_key_id join tenant t on t.id = k.tenant_id ",
            $from
        )
    };
}

/// The session with this id.
pub async fn find(db: impl PgExecutor<'_>, id: SessionId) -> Result<Option<StoredSession>> {
    Ok(sqlx::query_as(with_key!("where s.id = $1")).bind(id).fetch_optional(db).await?)
}

/// The session that a refresh token belongs to, spent or not.
pub async fn find_by_refresh(db: impl PgExecutor<'_>, digest: &[u8; 32]) -> Result<Option<StoredSession>> {
    let sql = with_key!("join refresh_token r on r.session_id = s.id where r.digest = $1");
    Ok(sqlx::query_as(sql).bind(digest.as_slice()).fetch_optional(db).await?)
}

/// How long tokens last.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// A refresh token.
    pub refresh: Duration,
    /// A session, however often it is refreshed.
    pub session: Duration,
}

/// A session about to begin.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// Its id.
    pub id: SessionId,
    /// The owner.
    pub tenant: TenantId,
    /// The key that is exchanged.
    pub key: ApiKeyId,
    /// Rights it is narrowed to.
    pub scopes: Option<Vec<&'a str>>,
    /// Of its first refresh token.
    pub digest: [u8; 32],
    /// Where it begins.
    pub from: IpAddr,
    /// How long it and its tokens last.
    pub lifetimes: Lifetimes,
}

/// Those of `sessions` that have not ended.
pub async fn list_live(db: impl PgExecutor<'_>, sessions: &[SessionId]) -> Result<Vec<SessionId>> {
    let ids: Vec<Uuid> = sessions.iter().map(|s| s.0).collect();
    let sql = "select id from session where id = any($1) and expires_at > clock_timestamp()";
    Ok(sqlx::query_scalar(sql).bind(ids).fetch_all(db).await?)
}

/// A session and its refresh token, just made.
#[derive(Debug, FromRow)]
pub struct Term {
    /// When the session ends at the latest.
    pub session_ends: DateTime<Utc>,
    /// When the refresh token ends.
    pub refresh_ends: DateTime<Utc>,
    /// PostgreSQL's clock.
    pub now: DateTime<Utc>,
}

/// Begins a session; `event` tells of it. Of a key that has as many as it may, it ends the one that was not refreshed for the
/// longest time.
pub async fn insert(db: impl PgExecutor<'_>, new: &NewSession<'_>, event: &Event) -> Result<Term> {
    let sql = concat!(
        "with audited as (",
        record!("$10"),
        "), begun as (
            insert into session (id, tenant_id, api_key_id, scopes, last_used_from, expires_at)
            values ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))
            returning id, created_at, expires_at
        ), token as (
            insert into refresh_token (digest, session_id, rotation, expires_at)
            select $7, id, 0, least(expires_at, created_at + make_interval(secs => $8)) from begun
            returning expires_at
        ), surplus as (
            -- in the order of ids, and not those that somebody has at hand: two that begin at once never wait for each other
            select id from session where id in (
                select id from session where api_key_id = $3 order by rotated_at desc, id desc offset $9)
            order by id for update skip locked
        ), ended as (
            delete from session where id in (select id from surplus)
        )
        select begun.expires_at as session_ends, token.expires_at as refresh_ends, begun.created_at as now
        from begun, token"
    );
    let term = sqlx::query_as(sql)
        .bind(new.id)
        .bind(new.tenant)
        .bind(new.key)
        .bind(&new.scopes)
        .bind(new.from.to_string())
        .bind(new.lifetimes.session.as_secs_f64())
        .bind(new.digest.as_slice())
        .bind(new.lifetimes.refresh.as_secs_f64())
        // the new one is not seen by the statement that makes it
        .bind(MOST_OF_A_KEY - 1)
        .bind(audit::of(Some(event)));
    Ok(term.fetch_one(db).await?)
}

/// What a refresh token came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Turn {
    /// It was turned into its successor.
    Turned,
    /// It was a moment ago, and its successor was not used yet: the same successor is given again.
    Repeated,
    /// It was spent before, so it is in two hands: the session was ended.
    Reused,
    /// Its time, or that of its session, is over.
    Expired,
}

/// How a refresh was decided.
#[derive(Debug, FromRow)]
pub struct Rotation {
    /// What came of it.
    pub turn: Turn,
    /// When session and successor end.
    #[sqlx(flatten)]
    pub term: Term,
}

/// What tells of a refresh.
#[derive(Debug, Clone, Copy)]
pub struct Tellers<'a> {
    /// That the token was turned.
    pub turned: &'a Event,
    /// That it was used again, and its session ended.
    pub reused: &'a Event,
}

/// Decides a refresh, in one statement: of all that ask with the same token at once, one turns it and the others learn so. The
/// row of the session is the lock; what is read of a token never changes. `None`: no session has such a token.
pub async fn rotate(
    db: impl PgExecutor<'_>,
    digest: &[u8; 32],
    successor: &[u8; 32],
    from: IpAddr,
    lifetimes: Lifetimes,
    events: Tellers<'_>,
) -> Result<Option<Rotation>> {
    let sql = concat!(
        "with family as (
            select s.id, s.rotation, s.rotated_at, s.expires_at, r.rotation as shown, r.expires_at as shown_until
            from refresh_token r join session s on s.id = r.session_id
            where r.digest = $1 for no key update of s
        ), judged as materialized (
            select id, rotation, rotated_at, expires_at, clock_timestamp() as now, case
                    when shown < rotation - 1 then 'reused'
                    when shown < rotation and rotated_at <= clock_timestamp() - make_interval(secs => $4) then 'reused'
                    when least(expires_at, shown_until) <= clock_timestamp() then 'expired'
                    when shown < rotation then 'repeated'
                    when rotation >= $5 then 'expired'
                    else 'turned' end as turn
            from family
        ), turned as (
            update session set rotation = session.rotation + 1, rotated_at = j.now, last_used_from = $6
            from judged j where session.id = j.id and j.turn = 'turned'
        ), successor as (
            insert into refresh_token (digest, session_id, rotation, expires_at)
            select $2, id, rotation + 1, least(expires_at, now + make_interval(secs => $3))
            from judged where turn = 'turned'
        ), ended as (
            delete from session using judged j where session.id = j.id and j.turn = 'reused'
        ), told as (",
        record!("$7"),
        " where exists (select from judged where turn = 'turned')
        ), warned as (",
        record!("$8"),
        " where exists (select from judged where turn = 'reused')
        )
        select turn, now, expires_at as session_ends,
            least(expires_at, case turn when 'turned' then now else rotated_at end + make_interval(secs => $3))
                as refresh_ends
        from judged"
    );
    let rotation = sqlx::query_as(sql)
        .bind(digest.as_slice())
        .bind(successor.as_slice())
        .bind(lifetimes.refresh.as_secs_f64())
        .bind(GRACE.as_secs_f64())
        .bind(MOST_ROTATIONS)
        .bind(from.to_string())
        .bind(audit::of(Some(events.turned)))
        .bind(audit::of(Some(events.reused)));
    Ok(rotation.fetch_optional(db).await?)
}

/// A session as it is shown.
#[derive(Debug, FromRow)]
pub struct ListedSession {
    /// Its id.
    pub id: SessionId,
    /// Public id of its key.
    pub key_public_id: String,
    /// Rights it is narrowed to.
    pub scopes: Option<Vec<String>>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it was last refreshed, or began.
    pub last_used_at: DateTime<Utc>,
    /// From where that was.
    pub last_used_from: String,
    /// When it ends at the latest.
    pub expires_at: DateTime<Utc>,
}

/// Whose sessions.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    /// All of the tenant.
    Tenant,
    /// Those of this key of the tenant.
    Key(ApiKeyId),
}

impl Whose {
    fn key(self) -> Option<ApiKeyId> {
        match self {
            Self::Tenant => None,
            Self::Key(key) => Some(key),
        }
    }
}

/// Sessions that are not over, newest first, after the one with this id.
pub async fn list(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    whose: Whose,
    after: Option<SessionId>,
    limit: i64,
) -> Result<Vec<ListedSession>> {
    let sql = "select s.id, k.public_id as key_public_id, s.scopes, s.created_at, s.rotated_at as last_used_at,
            s.last_used_from, s.expires_at
        from session s join api_key k on k.id = s.api_key_id
        where s.tenant_id = $1 and ($2::uuid is null or s.api_key_id = $2) and ($3::uuid is null or s.id < $3)
            and s.expires_at > clock_timestamp()
        order by s.id desc limit $4";
    Ok(sqlx::query_as(sql).bind(tenant).bind(whose.key()).bind(after).bind(limit).fetch_all(db).await?)
}

/// Ends a session, and then `event` tells of it; `false` if there is no such one.
pub async fn delete(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    whose: Whose,
    id: SessionId,
    event: &Event,
) -> Result<bool> {
    let sql = concat!(
        "with ended as (
            delete from session where id = $1 and tenant_id = $2 and ($3::uuid is null or api_key_id = $3) returning id
        ), audited as (",
        record!("$4"),
        " where exists (select from ended)
        )
        select exists (select from ended)"
    );
    let ended = sqlx::query_scalar(sql).bind(id).bind(tenant).bind(whose.key()).bind(audit::of(Some(event)));
    Ok(ended.fetch_one(db).await?)
}

/// Forgets refresh tokens that are over, and sessions that are and have none left; at most `limit` of each. Returns how many
/// rows went. No token outlasts its session, so all of them are forgotten in time; were they left to its own
/// deletion, there would be no bound to it.
pub async fn prune(db: impl PgExecutor<'_>, limit: i64) -> Result<u64> {
    let sql = "with over as (
            delete from session where id in (
                select id from session where expires_at < clock_timestamp()
                    and not exists (select from refresh_token where session_id = session.id)
                order by expires_at limit $1 for update skip locked)
            returning id
        ), stale as (
            delete from refresh_token where digest in (
                select digest from refresh_token where expires_at < clock_timestamp()
                order by expires_at limit $1 for update skip locked)
            returning digest
        )
        select (select count(*) from over) + (select count(*) from stale)";
    let rows: i64 = sqlx::query_scalar(sql).bind(limit).fetch_one(db).await?;
    Ok(rows.unsigned_abs())
}
