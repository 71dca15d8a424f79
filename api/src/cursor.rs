//! The opaque `cursor` of a list: the last item shown, signed together with the tenant, the list and the filters that it
//! belongs to, so that nobody can make one or take one elsewhere. Every list of `routes` that has pages uses it, and
//! [`link`] for the header beside it. A cursor gives no rights: the list is asked for again with those of the caller.

use std::fmt::Debug;

use axum::http::header::{HeaderName, LINK};
use axum::http::{HeaderValue, Uri};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeZone, Utc};
use shared::access::{Pepper, Principal};
use shared::id::{AuditEventId, BatchId, JobId};
use shared::store::job::After;
use shared::{Code, Error, store};
use uuid::Uuid;

use crate::App;
use crate::instant::check_instant;

/// Bytes of the signature that are kept.
const SIGNATURE: usize = 16;
/// What a cursor looks like, for the document.
pub const PATTERN: &str = "^[A-Za-z0-9_-]{22,256}$";
/// Longest cursor that is looked at, in characters.
const MAX_CHARS: usize = 256;

/// A place in a list.
pub trait Place: Sized {
    /// As bytes.
    fn write(&self) -> Vec<u8>;
    /// From bytes that were signed; `None` if another build wrote them.
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// A list that has pages: what a cursor belongs to.
pub struct List<'a> {
    pepper: &'a Pepper,
    identity: String,
}

impl<'a> List<'a> {
    /// The list `name` as `who` sees it through `filter`.
    pub fn new(app: &'a App, who: &Principal, name: &'static str, filter: &impl Debug) -> Self {
        Self { pepper: &app.pepper, identity: format!("{}/{name}/{filter:?}", who.tenant) }
    }

    /// The cursor that continues after this place.
    pub fn encode(&self, place: &impl Place) -> String {
        let place = place.write();
        let mut bytes = self.sign(&place).to_vec();
        bytes.extend(place);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place a cursor names, if it was made for this list.
    pub fn decode<P: Place>(&self, text: &str) -> Result<P, Error> {
        let bytes = (text.len() <= MAX_CHARS).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten().unwrap_or_default();
        let signed = bytes.split_at_checked(SIGNATURE).filter(|(signature, place)| self.sign(place) == *signature);
        signed.and_then(|(_, place)| P::read(place)).ok_or_else(|| {
            let detail = "The cursor does not belong to this list with these filters. Use next_cursor of the page before as it is, with the same filters, or start without a cursor.";
            Error::new(Code::InvalidCursor, detail)
        })
    }

    /// Compared in any time: a signature that is guessed opens nothing that the caller could not ask for anyway.
    fn sign(&self, place: &[u8]) -> [u8; SIGNATURE] {
        let whole = self.pepper.sign("cursor", &[self.identity.as_bytes(), place]);
        std::array::from_fn(|i| whole[i])
    }
}

/// The next page's address (RFC 8288): this one's, with another cursor.
pub fn link(app: &App, uri: &Uri, cursor: &str) -> Option<(HeaderName, HeaderValue)> {
    let kept = uri.query().unwrap_or_default().split('&').filter(|p| !p.is_empty() && !p.starts_with("cursor="));
    let query: Vec<&str> = kept.collect();
    let query = query.join("&");
    let glue = if query.is_empty() { "" } else { "&" };
    let link = format!("<{}{}?{query}{glue}cursor={cursor}>; rel=\"next\"", app.base_url, uri.path());
    HeaderValue::from_str(&link).ok().map(|value| (LINK, value))
}

/// Most lists: the instant of the last item shown, and its id.
impl Place for (DateTime<Utc>, Uuid) {
    /// Microseconds (PostgreSQL's resolution), id.
    fn write(&self) -> Vec<u8> {
        let mut bytes = self.0.timestamp_micros().to_be_bytes().to_vec();
        bytes.extend(self.1.as_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (time, id) = bytes.split_at_checked(8)?;
        let at: DateTime<Utc> = Utc.timestamp_micros(i64::from_be_bytes(time.try_into().ok()?)).single()?;
        check_instant(at).ok()?;
        Some((at, Uuid::from_slice(id).ok()?))
    }
}

impl Place for After {
    fn write(&self) -> Vec<u8> {
        (self.created_at, self.id.0).write()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Place::read(bytes).map(|(created_at, id)| Self { created_at, id: JobId(id) })
    }
}

impl Place for store::audit::After {
    fn write(&self) -> Vec<u8> {
        (self.happened_at, self.id.0).write()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Place::read(bytes).map(|(happened_at, id)| Self { happened_at, id: AuditEventId(id) })
    }
}

impl Place for store::batch::After {
    fn write(&self) -> Vec<u8> {
        (self.created_at, self.id.0).write()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Place::read(bytes).map(|(created_at, id)| Self { created_at, id: BatchId(id) })
    }
}

/// The number of the last item shown, where a list is numbered.
impl Place for i16 {
    fn write(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<'a>(pepper: &'a Pepper, identity: &str) -> List<'a> {
        List { pepper, identity: identity.to_owned() }
    }

    #[test]
    fn a_cursor_belongs_to_its_list() {
        let pepper = Pepper::new("pepper".to_owned().into());
        let jobs = list(&pepper, "tenant/jobs/failed");
        let created_at = Utc.timestamp_micros(1_763_798_400_123_456).unwrap();
        let after = After { created_at, id: JobId::new() };
        let cursor = jobs.encode(&after);
        assert_eq!(jobs.decode::<After>(&cursor).unwrap(), after);
        assert_eq!(jobs.encode(&after), cursor, "the same place is the same cursor");
        let other_pepper = Pepper::new("other".to_owned().into());
        for other in [list(&pepper, "tenant/jobs/queued"), list(&pepper, ""), list(&other_pepper, "tenant/jobs/failed")]
        {
            assert_eq!(other.decode::<After>(&cursor).unwrap_err().code(), Code::InvalidCursor);
        }
        assert_eq!(jobs.decode::<i16>(&cursor).unwrap_err().code(), Code::InvalidCursor);
    }

    #[test]
    fn no_changed_cursor_is_taken() {
        let pepper = Pepper::new("pepper".to_owned().into());
        let list = list(&pepper, "x");
        let cursor = list.encode(&7_i16);
        assert_eq!(list.decode::<i16>(&cursor).unwrap(), 7);
        let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(list.decode::<i16>(&URL_SAFE_NO_PAD.encode(changed)).is_err(), "bit {bit}");
        }
        for bad in ["", "x", "AAAA", &cursor[1..], &"A".repeat(10_000)] {
            assert!(list.decode::<i16>(bad).is_err(), "{bad}");
        }
    }
}
