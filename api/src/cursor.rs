//! The opaque `cursor` of a list: the last thing shown, and a mark of the filters it belongs to.

use std::fmt::Debug;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeZone, Utc};
use shared::store::job::{After, Filter};
use shared::{Code, Error};
use uuid::Uuid;

use crate::instant::check_instant;

/// Microseconds (PostgreSQL's resolution), id, mark.
const BYTES: usize = 8 + 16 + 8;

/// The cursor that continues after this job.
pub fn encode(after: After, filter: &Filter) -> String {
    encode_place((after.created_at, after.id.0), filter)
}

/// The place a cursor names, if it was made for the same filters.
pub fn decode(text: &str, filter: &Filter) -> Result<After, Error> {
    decode_place(text, filter).map(|(created_at, id)| After { created_at, id: shared::id::JobId(id) })
}

/// The cursor that continues a list after this instant and id. `filter` is whatever must stay the same while paging.
pub fn encode_place((at, id): (DateTime<Utc>, Uuid), filter: &impl Debug) -> String {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend(at.timestamp_micros().to_be_bytes());
    bytes.extend(id.as_bytes());
    bytes.extend(mark(filter));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The instant and id a cursor names, if it was made for the same filters.
pub fn decode_place(text: &str, filter: &impl Debug) -> Result<(DateTime<Utc>, Uuid), Error> {
    let wrong = |detail: &str| Error::new(Code::InvalidCursor, detail);
    let bytes: [u8; BYTES] = URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| b.try_into().ok()).ok_or_else(|| {
        wrong("The cursor was not made by this service. Use next_cursor of an earlier page as it is.")
    })?;
    let (time, rest) = bytes.split_at(8);
    let (id, seen) = rest.split_at(16);
    if seen != mark(filter) {
        return Err(wrong(
            "The cursor was made with other filters. Keep the filters while paging, or start without a cursor.",
        ));
    }
    let micros = i64::from_be_bytes(time.try_into().unwrap_or_default());
    let at: DateTime<Utc> = Utc
        .timestamp_micros(micros)
        .single()
        .filter(|at| check_instant(*at).is_ok())
        .ok_or_else(|| wrong("The cursor names a time that does not exist."))?;
    Ok((at, Uuid::from_slice(id).unwrap_or_default()))
}

/// Eight bytes that differ when the filters do. FNV-1a: it tells mistakes apart, it is no protection.
fn mark(filter: &impl Debug) -> [u8; 8] {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in format!("{filter:?}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::job::JobState;

    #[test]
    fn a_cursor_belongs_to_its_filters() {
        let filter = Filter { states: vec![JobState::Failed], ..Filter::default() };
        let created_at = Utc.timestamp_micros(1_763_798_400_123_456).unwrap();
        let after = After { created_at, id: shared::id::JobId::new() };
        let cursor = encode(after, &filter);
        assert_eq!(decode(&cursor, &filter).unwrap(), after);
        assert_eq!(decode(&cursor, &Filter::default()).unwrap_err().code(), Code::InvalidCursor);
        for bad in ["", "x", "AAAA", &cursor[1..]] {
            assert_eq!(decode(bad, &filter).unwrap_err().code(), Code::InvalidCursor);
        }
    }
}
