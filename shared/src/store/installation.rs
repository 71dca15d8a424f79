//! The one row that names this database.

use sqlx::PgExecutor;

use crate::error::Result;
use crate::id::InstallationId;

/// The id of this installation.
pub async fn find(db: impl PgExecutor<'_>) -> Result<InstallationId> {
    Ok(sqlx::query_scalar("select id from installation").fetch_one(db).await?)
}
