//! Lanes: whether they are paused.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgExecutor};

use crate::error::Result;
use crate::job::Lane;

/// A lane as stored.
#[derive(Debug, Clone, FromRow)]
pub struct StoredLane {
    /// The lane.
    pub name: Lane,
    /// Whether it is paused now.
    pub paused: bool,
    /// Why.
    pub paused_reason: Option<String>,
    /// When it resumes by itself; null: when somebody resumes it.
    pub paused_until: Option<DateTime<Utc>>,
}

/// What is told of a lane: a pause that is over is none.
macro_rules! columns {
    () => {
        "name, paused and (paused_until is null or paused_until > clock_timestamp()) as paused, paused_reason, paused_until"
    };
}

/// Both lanes.
pub async fn list(db: impl PgExecutor<'_>) -> Result<Vec<StoredLane>> {
    Ok(sqlx::query_as(concat!("select ", columns!(), " from lane order by name")).fetch_all(db).await?)
}

/// Pauses a lane until `until`, or until it is resumed. Running jobs go on.
pub async fn pause(
    db: impl PgExecutor<'_>,
    lane: Lane,
    reason: Option<&str>,
    until: Option<DateTime<Utc>>,
) -> Result<StoredLane> {
    let sql = concat!(
        "update lane set paused = true, paused_reason = $2, paused_until = $3 where name = $1 returning ",
        columns!()
    );
    Ok(sqlx::query_as(sql).bind(lane).bind(reason).bind(until).fetch_one(db).await?)
}

/// Resumes a lane.
pub async fn resume(db: impl PgExecutor<'_>, lane: Lane) -> Result<StoredLane> {
    let sql = concat!(
        "update lane set paused = false, paused_reason = null, paused_until = null where name = $1 returning ",
        columns!()
    );
    Ok(sqlx::query_as(sql).bind(lane).fetch_one(db).await?)
}
