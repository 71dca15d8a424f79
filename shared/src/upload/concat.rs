//! `Upload-Concat`: an upload that is part of another, or one put together from parts. Called when an upload is created.
//! Whether the parts exist, belong to the client and are whole is the store's to say.

use crate::error::{Code, Error};
use crate::id::UploadId;

/// Most parts of one upload.
pub const MAX_PARTS: usize = 256;

/// What an upload is to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concat {
    /// Nothing: it stands alone.
    None,
    /// A part: never probed by itself.
    Partial,
    /// Put together from these parts, in this order.
    Final(Vec<UploadId>),
}

impl Concat {
    /// Reads the header's value. `origins` are what this service may be called by, such as `https://probe.example.com`; a
    /// part is named by its whole URL there or by its path.
    pub fn parse(value: Option<&str>, origins: &[String]) -> Result<Self, Error> {
        let bad = |detail: String| Error::new(Code::BadRequest, detail);
        let list = match value {
            None => return Ok(Self::None),
            Some("partial") => return Ok(Self::Partial),
            Some(value) => value.strip_prefix("final;").ok_or_else(|| {
                bad("Upload-Concat is 'partial', or 'final;' followed by the URLs of the parts.".into())
            })?,
        };
        let mut parts = Vec::new();
        for url in list.split(' ').filter(|url| !url.is_empty()) {
            if parts.len() == MAX_PARTS {
                return Err(bad(format!("Upload-Concat names more than {MAX_PARTS} parts.")));
            }
            parts.push(part(url, origins).ok_or_else(|| {
                bad("A part in Upload-Concat is not the URL of an upload here. Name it as its Location did.".into())
            })?);
        }
        if parts.is_empty() {
            return Err(bad("Upload-Concat names no parts.".into()));
        }
        Ok(Self::Final(parts))
    }
}

fn part(url: &str, origins: &[String]) -> Option<UploadId> {
    let path = if url.starts_with('/') {
        url
    } else {
        origins.iter().filter(|o| !o.is_empty()).find_map(|origin| url.strip_prefix(origin.as_str()))?
    };
    let id = path.strip_prefix(super::PATH)?.strip_prefix('/')?;
    // the one way an id is written; `parse` alone would take braces and other forms
    id.parse::<UploadId>().ok().filter(|parsed| parsed.to_string() == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_by_path_or_by_url() {
        let (a, b) = (UploadId::new(), UploadId::new());
        let origins = ["https://probe.example.com".to_owned(), String::new()];
        let parse = |value: &str| Concat::parse(Some(value), &origins).map_err(|e| e.code());
        assert_eq!(Concat::parse(None, &origins).unwrap(), Concat::None);
        assert_eq!(parse("partial"), Ok(Concat::Partial));
        let value = format!("final;/api/v1/uploads/{a} https://probe.example.com/api/v1/uploads/{b}");
        assert_eq!(parse(&value), Ok(Concat::Final(vec![a, b])));
        for bad in [
            "",
            "Partial",
            "final",
            "final;",
            "final;x",
            &format!("final;https://evil.example.com/api/v1/uploads/{a}"),
            &format!("final;https://probe.example.com.evil.com/api/v1/uploads/{a}"),
            &format!("final;//evil.example.com/api/v1/uploads/{a}"),
            &format!("final;/api/v1/uploads/{{{a}}}"),
            &format!("final;/api/v1/uploads/{a}/"),
            &format!("final;/api/v1/jobs/{a}"),
            &format!("final;{}", format!("/api/v1/uploads/{a} ").repeat(257)),
        ] {
            assert_eq!(parse(bad), Err(Code::BadRequest), "{bad}");
        }
    }
}
