//! Instants that clients send, in bodies, queries and cursors: only those that everybody can hold.

use chrono::{DateTime, Datelike, Utc};
use shared::{Code, Error};

/// Refuses an instant that RFC 3339 cannot write or PostgreSQL cannot hold. The year counts in UTC: an offset may push
/// the last hours of 9999 beyond it.
pub fn check_instant(at: DateTime<Utc>) -> Result<(), Error> {
    if (1..=9999).contains(&at.year()) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidValue, "The year of an instant is between 1 and 9999."))
}
