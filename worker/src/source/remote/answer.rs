//! What an HTTP answer to a request for a part of an object means. Pure; called by the origins with status and headers,
//! never with a body. Believes nothing that does not fit what was asked.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    LAST_MODIFIED, RETRY_AFTER,
};
use shared::job::FailureCode;

use super::fault::Fault;
use super::name;
use super::origin::{Object, Validator};

/// Longest wait that a server is believed to want.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest validator that is kept and sent back.
const VALIDATOR_MAX_BYTES: usize = 1024;

/// The object behind an answer to the first request, and the offset after the last byte that comes with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) object: Object,
    /// None if all bytes come, because the server does not serve parts.
    pub(super) until: Option<u64>,
}

/// Judges the answer to the request for the first `length` bytes of what lies at a URL with this path.
pub(super) fn first(
    status: StatusCode,
    headers: &HeaderMap,
    path: &str,
    length: u64,
    now: SystemTime,
) -> Result<First, Fault> {
    let object = |size_bytes| {
        let name = one(headers, &CONTENT_DISPOSITION)?.and_then(name::of_disposition);
        let name = name.unwrap_or_else(|| name::of_url_path(path));
        Ok(Object { size_bytes, validator: validator(headers)?, name })
    };
    match status {
        StatusCode::PARTIAL_CONTENT => {
            let (until, size) = content_range(headers, 0, length)?;
            Ok(First { object: object(size)?, until: Some(until) })
        }
        StatusCode::OK => {
            refuse_encoding(headers)?;
            match number(headers, &CONTENT_LENGTH)? {
                Some(0) => Err(empty()),
                Some(size) => Ok(First { object: object(size)?, until: None }),
                None => Err(no_ranges("The server sends neither parts of the object nor its size.")),
            }
        }
        // the first byte is not there; a server that says otherwise cannot serve ranges
        StatusCode::RANGE_NOT_SATISFIABLE => match one(headers, &CONTENT_RANGE)?.map(str::trim) {
            None | Some("bytes */0") => Err(empty()),
            Some(_) => Err(no_ranges("The server says that the object has bytes, and refuses to send the first ones.")),
        },
        _ => Err(refusal(status, headers, now)),
    }
}

/// Judges the answer to the request for `from..until`; gives the offset after the last byte that comes.
pub(super) fn part(
    status: StatusCode,
    headers: &HeaderMap,
    object: &Object,
    from: u64,
    until: u64,
    now: SystemTime,
) -> Result<u64, Fault> {
    let same = match (&object.validator, validator(headers)?) {
        // a cache on the way may leave a header out; the size is compared all the same
        (Validator::None, _) | (_, Validator::None) => true,
        (known, seen) => *known == seen,
    };
    match status {
        StatusCode::PARTIAL_CONTENT if !same => Err(Fault::changed("The object is another one than at the start.")),
        StatusCode::PARTIAL_CONTENT => {
            let (end, size) = content_range(headers, from, until)?;
            if size == object.size_bytes {
                Ok(end)
            } else {
                Err(Fault::changed(format!("The object has {size} bytes and had {} at the start.", object.size_bytes)))
            }
        }
        StatusCode::PRECONDITION_FAILED => Err(Fault::changed("The server says that the object changed.")),
        StatusCode::RANGE_NOT_SATISFIABLE => Err(Fault::changed("The object became shorter while it was read.")),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Fault::changed("The object was removed while it was read.")),
        StatusCode::OK if !same => Err(Fault::changed("The object is another one than at the start.")),
        StatusCode::OK => Err(no_ranges("The server sent a part of the object once, and now it does not.")),
        _ => Err(refusal(status, headers, now)),
    }
}

/// What a status means that carries no bytes of the object.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Fault {
    use FailureCode as C;
    let message = format!("The server answered {}.", status.as_u16());
    match status.as_u16() {
        401 | 403 | 407 => Fault::last(C::RemoteForbidden, message),
        404 | 410 => Fault::last(C::RemoteNotFound, message),
        501 | 505 => Fault::last(C::RemoteRejected, message),
        408 | 425 | 429 | 500..=599 => Fault::unavailable(message, retry_after(headers, now)),
        _ => Fault::last(C::RemoteRejected, message),
    }
}

/// The version that the headers tell. A weak tag (`W/`) does not promise the same bytes, so it counts for nothing.
fn validator(headers: &HeaderMap) -> Result<Validator, Fault> {
    let text = |name| one(headers, &name).map(|v| v.map(str::trim).filter(|v| v.len() <= VALIDATOR_MAX_BYTES));
    if let Some(tag) = text(ETAG)?.filter(|t| t.len() >= 2 && t.starts_with('"') && t.ends_with('"')) {
        return Ok(Validator::Tag(tag.to_owned()));
    }
    Ok(text(LAST_MODIFIED)?.map_or(Validator::None, |date| Validator::Modified(date.to_owned())))
}

/// The end of the part that comes and the size of the whole, from `Content-Range: bytes FIRST-LAST/SIZE`. A part may end
/// before what was asked for (RFC 9110 §15.3.7), and never begins elsewhere.
fn content_range(headers: &HeaderMap, from: u64, until: u64) -> Result<(u64, u64), Fault> {
    refuse_encoding(headers)?;
    let multipart = |t: &str| t.trim_start().get(..10).is_some_and(|t| t.eq_ignore_ascii_case("multipart/"));
    if one(headers, &CONTENT_RANGE)?.is_none() && one(headers, &CONTENT_TYPE)?.is_some_and(multipart) {
        return Err(rejected("The server sent several parts where one was asked for."));
    }
    let wrong = || rejected("The server does not say clearly which part of the object it sent.");
    let text = one(headers, &CONTENT_RANGE)?.ok_or_else(wrong)?;
    let (range, size) = text.trim().strip_prefix("bytes ").and_then(|r| r.split_once('/')).ok_or_else(wrong)?;
    if size.trim() == "*" {
        return Err(no_ranges("The server does not tell the size of the object."));
    }
    let size = digits(size).ok_or_else(wrong)?;
    let (first, last) = range.split_once('-').and_then(|(f, l)| Some((digits(f)?, digits(l)?))).ok_or_else(wrong)?;
    let end = last.checked_add(1).ok_or_else(wrong)?;
    if first != from || end <= from || end > until || end > size {
        return Err(rejected("The server sent another part of the object than it was asked for."));
    }
    if number(headers, &CONTENT_LENGTH)?.is_some_and(|length| length != end - from) {
        return Err(rejected("The server's answer has another length than the part it says it sent."));
    }
    Ok((end, size))
}

/// Bytes that were compressed on the way are not those of the object, and ranges of them mean something else.
fn refuse_encoding(headers: &HeaderMap) -> Result<(), Fault> {
    match one(headers, &CONTENT_ENCODING)?.map(str::trim) {
        None | Some("" | "identity") => Ok(()),
        Some(_) => Err(rejected("The server sent the object compressed, although it was asked not to.")),
    }
}

/// `Retry-After` in both forms: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match digits(text) {
        Some(seconds) => Duration::from_secs(seconds),
        None => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The one value of a header. Two that differ are no answer: each program on the way would believe another one.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Fault> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        return Err(rejected("The server sent a header twice, with different values."));
    }
    Ok(value.to_str().ok())
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Fault> {
    Ok(one(headers, name)?.and_then(digits))
}

/// A number written in digits alone; one too large for 64 bits is none.
fn digits(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The object has no bytes.
pub(super) fn empty() -> Fault {
    Fault::last(FailureCode::EmptyInput, "The object has 0 bytes.")
}

/// The server cannot be read in parts.
pub(super) fn no_ranges(message: &str) -> Fault {
    Fault::last(FailureCode::RangeNotSupported, message)
}

/// The answer is not one to what was asked.
pub(super) fn rejected(message: &str) -> Fault {
    Fault::last(FailureCode::RemoteRejected, message)
}

#[cfg(test)]
mod tests;
