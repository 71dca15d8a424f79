//! The headers of tus requests, each with its one right form. Called by the API before anything is looked up, so that a
//! request that is malformed costs nothing. Refuses what is sent twice, signed, padded or too long.

use axum::http::HeaderMap;

use super::{Concat, Metadata, VERSION};
use crate::error::{Code, Error};

/// What a creating request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// Bytes of the whole; `None` if said later. Of an upload made from parts: `None`, its parts say it.
    pub length: Option<u64>,
    /// What it is.
    pub metadata: Metadata,
    /// What it is to other uploads.
    pub concat: Concat,
    /// `Upload-Concat` as it came.
    pub concat_sent: Option<String>,
}

/// Whether the request speaks tus: it says so, or carries one of its headers or its content type.
pub fn is_tus(headers: &HeaderMap) -> bool {
    let speaks = |name: &str| name == "tus-resumable" || name.starts_with("upload-");
    headers.keys().any(|name| speaks(name.as_str()))
        || headers.get("content-type").is_some_and(|kind| kind.as_bytes() == super::CONTENT_TYPE.as_bytes())
}

/// The header's only value; `None` without the header.
pub fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str() {
        Ok(text) if values.next().is_none() => Ok(Some(text)),
        _ => Err(Error::new(Code::BadRequest, format!("The header {name} is sent once, in visible ASCII."))),
    }
}

/// Insists on the protocol version that is spoken here.
pub fn require_version(headers: &HeaderMap) -> Result<(), Error> {
    let sent = headers.get_all("tus-resumable").iter().collect::<Vec<_>>();
    if sent.len() == 1 && sent[0].as_bytes() == VERSION.as_bytes() {
        return Ok(());
    }
    let detail =
        format!("A tus request carries the header Tus-Resumable: {VERSION}; other versions are not spoken here.");
    Err(Error::new(Code::TusVersion, detail))
}

/// A whole number of bytes as PostgreSQL and file systems can hold it; `None` without the header.
fn number(headers: &HeaderMap, name: &str) -> Result<Option<u64>, Error> {
    let Some(text) = single(headers, name)? else { return Ok(None) };
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let value = if digits { text.parse::<u64>().ok() } else { None };
    match value {
        Some(value) if i64::try_from(value).is_ok() => Ok(Some(value)),
        // in form, but beyond what any file system holds: too large rather than misspelt
        _ if digits && name == "upload-length" => {
            Err(Error::new(Code::TooLarge, "No file is as large as Upload-Length says."))
        }
        _ => Err(Error::new(Code::BadRequest, format!("The header {name} is a whole number in plain digits."))),
    }
}

/// `Upload-Offset`, which a continuing request must carry.
pub fn offset(headers: &HeaderMap) -> Result<u64, Error> {
    number(headers, "upload-offset")?.ok_or_else(|| {
        Error::new(Code::BadRequest, "A continuing request carries Upload-Offset: the number of bytes already stored.")
    })
}

/// `Upload-Length`, if the request carries it.
pub fn length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    number(headers, "upload-length")
}

impl Creation {
    /// Reads a creating request. `origins` are what this service may be called by, `filename_bytes` the longest name.
    pub fn parse(headers: &HeaderMap, origins: &[String], filename_bytes: usize) -> Result<Self, Error> {
        let bad = |detail: &str| Error::new(Code::BadRequest, detail);
        let concat_sent = single(headers, "upload-concat")?;
        let concat = Concat::parse(concat_sent, origins)?;
        let length = length(headers)?;
        let deferred = single(headers, "upload-defer-length")?;
        if deferred.is_some_and(|value| value != "1") {
            return Err(bad("Upload-Defer-Length is 1 or left out."));
        }
        match (&concat, length, deferred) {
            (Concat::Final(_), None, None) => {}
            (Concat::Final(_), ..) => {
                return Err(bad("An upload put together from parts has their length. Leave out Upload-Length."));
            }
            (_, Some(_), Some(_)) => return Err(bad("Send Upload-Length or Upload-Defer-Length, not both.")),
            (_, None, None) => {
                return Err(bad(
                    "Send Upload-Length: the number of bytes to come, or Upload-Defer-Length: 1 to say it later.",
                ));
            }
            _ => {}
        }
        let metadata = Metadata::parse(single(headers, "upload-metadata")?, filename_bytes)?;
        Ok(Self { length, metadata, concat, concat_sent: concat_sent.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        map
    }

    fn create(pairs: &[(&str, &str)]) -> Result<Creation, Code> {
        Creation::parse(&headers(pairs), &[], 1024).map_err(|e| e.code())
    }

    #[test]
    fn a_length_is_said_now_or_later() {
        assert_eq!(create(&[("upload-length", "0")]).unwrap().length, Some(0));
        assert_eq!(create(&[("upload-length", "53687091200")]).unwrap().length, Some(53_687_091_200));
        assert_eq!(create(&[("upload-defer-length", "1")]).unwrap().length, None);
        assert_eq!(create(&[("upload-length", "9223372036854775808")]), Err(Code::TooLarge));
        for bad in [
            &[][..],
            &[("upload-length", "1"), ("upload-defer-length", "1")],
            &[("upload-length", "1"), ("upload-length", "1")],
            &[("upload-defer-length", "2")],
            &[("upload-length", "1"), ("upload-concat", "final;/api/v1/uploads/x")],
        ] {
            assert_eq!(create(bad), Err(Code::BadRequest), "{bad:?}");
        }
        for bad in ["", "+1", " 1", "1 ", "1.0", "0x1", "-1", "1e3", "١", "é", "99999999999999999999999"] {
            assert_eq!(create(&[("upload-length", bad)]), Err(Code::BadRequest), "{bad}");
            assert!(offset(&headers(&[("upload-offset", bad)])).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_version_must_fit_exactly() {
        assert!(require_version(&headers(&[("tus-resumable", "1.0.0")])).is_ok());
        for bad in [&[][..], &[("tus-resumable", "0.2.2")], &[("tus-resumable", "1.0.0"), ("tus-resumable", "1.0.0")]] {
            assert_eq!(require_version(&headers(bad)).unwrap_err().code(), Code::TusVersion);
        }
    }

    #[test]
    fn tus_is_recognised_by_its_headers() {
        for (name, value) in
            [("tus-resumable", "1.0.0"), ("upload-length", "1"), ("content-type", "application/offset+octet-stream")]
        {
            assert!(is_tus(&headers(&[(name, value)])), "{name}");
        }
        assert!(!is_tus(&headers(&[("content-type", "video/mp4"), ("uploads", "x")])));
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_are_written(value in 0_u64..=i64::MAX as u64) {
            prop_assert_eq!(offset(&headers(&[("upload-offset", &value.to_string())])).unwrap(), value);
        }

        #[test]
        fn no_header_panics(value in proptest::collection::vec(0x20_u8..=0x7e, 0..60), which in 0_usize..6) {
            let name = ["upload-length", "upload-defer-length", "upload-concat", "upload-metadata", "upload-offset", "tus-resumable"][which];
            let mut map = HeaderMap::new();
            map.insert(name, HeaderValue::from_bytes(&value).unwrap());
            let _ = (Creation::parse(&map, &[], 100), offset(&map), require_version(&map));
        }
    }
}
