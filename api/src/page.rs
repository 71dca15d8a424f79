//! Pages of lists that have no filters, the newest item first: keys and tenants. The store is asked for one item more than the
//! client wants, which tells whether there is another page.

use chrono::{DateTime, TimeZone, Utc};
use shared::store::access::key::After;
use uuid::Uuid;

use crate::cursor::{List, Place};
use crate::instant::check_instant;

impl Place for After {
    /// Microseconds (PostgreSQL's resolution), id.
    fn write(&self) -> Vec<u8> {
        let mut bytes = self.created_at.timestamp_micros().to_be_bytes().to_vec();
        bytes.extend(self.id.as_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (time, id) = bytes.split_at_checked(8)?;
        let created_at: DateTime<Utc> = Utc.timestamp_micros(i64::from_be_bytes(time.try_into().ok()?)).single()?;
        check_instant(created_at).ok()?;
        Some(Self { created_at, id: Uuid::from_slice(id).ok()? })
    }
}

/// Leaves `limit` items, and makes the cursor for the page behind them, if there were more.
pub fn cut<T>(items: &mut Vec<T>, limit: i64, cursors: &List<'_>, place: impl Fn(&T) -> After) -> Option<String> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if items.len() <= limit {
        return None;
    }
    items.truncate(limit);
    items.last().map(|last| cursors.encode(&place(last)))
}
