//! One leader among the processes that keep house: an advisory lock held by a connection of its own, so that it is
//! free again the moment its holder dies or loses PostgreSQL, and soon after it began to stand still.

use sqlx::{Connection, PgConnection};

use super::Pool;
use crate::error::Result;

/// The advisory lock. Any number; only this place uses it.
const LOCK: i64 = 0x6666_7075_706b_6565;

/// A leader that says nothing for this long loses the lead: its process stands still, or its machine or network is gone
/// and PostgreSQL has not noticed. One that was only busy takes the lead again when it asks the next time.
const SILENCE: &str = "set idle_session_timeout = '10s'";

/// A process's standing. Dropping it gives the lead up.
#[derive(Debug, Default)]
pub struct Leader {
    held: Option<PgConnection>,
}

impl Leader {
    /// Whether this process leads now; takes the lead if nobody has it.
    pub async fn leads(&mut self, db: &Pool) -> Result<bool> {
        if let Some(connection) = &mut self.held {
            // the lock lives exactly as long as this connection
            if connection.ping().await.is_ok() {
                return Ok(true);
            }
            self.held = None;
        }
        let mut connection = db.acquire().await?;
        if sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut *connection).await? {
            // out of the pool, so that nobody else's statement ever runs on it
            let mut connection = connection.detach();
            sqlx::query(SILENCE).execute(&mut connection).await?;
            self.held = Some(connection);
            return Ok(true);
        }
        Ok(false)
    }
}
