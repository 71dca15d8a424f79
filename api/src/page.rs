//! Pages of lists, the newest item first. The store is asked for one item more than the
//! client wants, which tells whether there is another page.

use shared::store::access::key::After;

use crate::cursor::{List, Place};

impl Place for After {
    fn write(&self) -> Vec<u8> {
        (self.created_at, self.id).write()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Place::read(bytes).map(|(created_at, id)| Self { created_at, id })
    }
}

/// Leaves `limit` items, and makes the cursor for the page behind them, if there were more.
pub fn cut<T, P: Place>(items: &mut Vec<T>, limit: i64, cursors: &List<'_>, place: impl Fn(&T) -> P) -> Option<String> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if items.len() <= limit {
        return None;
    }
    items.truncate(limit);
    items.last().map(|last| cursors.encode(&place(last)))
}
