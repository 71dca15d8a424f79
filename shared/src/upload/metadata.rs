//! `Upload-Metadata`: what a client says of its file, as pairs of a key and a value in base64. Kept as it came; what the
//! service itself understands is read out here and cleaned. Called when an upload is created; trusts nothing in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::checksum::Wanted;
use crate::error::{Code, Error};
use crate::job::Profile;

/// Longest header value, in bytes.
pub const MAX_METADATA_BYTES: usize = 4096;
/// Most keys.
pub const MAX_KEYS: usize = 32;
/// Longest content type that is kept, in characters.
const MAX_TYPE_CHARS: usize = 255;
/// Name of an upload that was given none.
const UNNAMED: &str = "upload";

/// What a client says of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// As it came; given back as it is.
    pub sent: Option<String>,
    /// `filename` or `name`, without control characters and cut to a bearable length.
    pub filename: String,
    /// `filetype` or `type`: the client's word, never trusted.
    pub content_type: Option<String>,
    /// `checksum`: whether a digest of the whole is wanted.
    pub checksum: Wanted,
    /// `probe`: the profile of the job to be made when the last byte is stored.
    pub probe: Option<Profile>,
}

impl Metadata {
    /// Reads the header's value; `most` is the longest file name in bytes.
    pub fn parse(value: Option<&str>, most: usize) -> Result<Self, Error> {
        let pairs = pairs(value.unwrap_or_default())?;
        let find = |keys: [&str; 2]| {
            let value = keys.iter().find_map(|key| pairs.iter().find(|(k, _)| k == key)).map(|(_, v)| v);
            value.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let filename = find(["filename", "name"]).map(|name| clean(&name, most)).filter(|name| !name.is_empty());
        let content_type = find(["filetype", "type"]).map(|kind| clean(&kind, 4 * MAX_TYPE_CHARS));
        Ok(Self {
            sent: value.map(str::to_owned),
            filename: filename.unwrap_or_else(|| UNNAMED.to_owned()),
            content_type: content_type
                .map(|t| t.chars().take(MAX_TYPE_CHARS).collect())
                .filter(|t: &String| !t.is_empty()),
            checksum: find(["checksum"; 2]).map_or(Ok(Wanted::No), |c| Wanted::parse(&c))?,
            probe: find(["probe"; 2]).map_or(Ok(None), |p| probe(&p))?,
        })
    }
}

/// The pairs: keys are unique, printable ASCII without space and comma; a value may be missing.
fn pairs(value: &str) -> Result<Vec<(&str, Vec<u8>)>, Error> {
    let bad = |detail: String| Error::new(Code::BadRequest, detail);
    if value.len() > MAX_METADATA_BYTES {
        return Err(bad(format!("Upload-Metadata has {} bytes; at most {MAX_METADATA_BYTES} are taken.", value.len())));
    }
    let mut pairs: Vec<(&str, Vec<u8>)> = Vec::new();
    if value.trim().is_empty() {
        return Ok(pairs);
    }
    for pair in value.split(',') {
        let pair = pair.trim_matches(' ');
        let (key, text) = pair.split_once(' ').unwrap_or((pair, ""));
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad("A key in Upload-Metadata is printable ASCII without spaces and commas.".into()));
        }
        if pairs.len() == MAX_KEYS {
            return Err(bad(format!("Upload-Metadata has more than {MAX_KEYS} keys.")));
        }
        if pairs.iter().any(|(known, _)| *known == key) {
            return Err(bad(format!("The key '{key}' stands twice in Upload-Metadata.")));
        }
        let decoded = STANDARD.decode(text).map_err(|_| {
            bad(format!("The value of '{key}' in Upload-Metadata is not base64 (RFC 4648, section 4)."))
        })?;
        pairs.push((key, decoded));
    }
    Ok(pairs)
}

/// A name without control characters, at most `most` bytes long.
fn clean(name: &str, most: usize) -> String {
    let mut cleaned = String::new();
    for c in name.chars().filter(|c| !c.is_control()) {
        if cleaned.len() + c.len_utf8() > most {
            break;
        }
        cleaned.push(c);
    }
    cleaned
}

fn probe(word: &str) -> Result<Option<Profile>, Error> {
    let known = Profile::ALL.into_iter().find(|p| p.as_str() == word);
    match word {
        "" | "0" | "false" => Ok(None),
        "1" | "true" => Ok(Some(Profile::default())),
        _ if known.is_some() => Ok(known),
        _ => {
            let words = Profile::ALL.map(Profile::as_str).join(", ");
            let detail = format!("The metadata 'probe' is 1 or a profile; the profiles are {words}.");
            Err(Error::new(Code::BadRequest, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &str) -> Result<Metadata, Error> {
        Metadata::parse(Some(value), 1024)
    }

    fn pair(key: &str, value: &str) -> String {
        format!("{key} {}", STANDARD.encode(value))
    }

    #[test]
    fn the_words_we_know_are_read() {
        let sent = [
            pair("filename", "holi\nday é.mp4"),
            pair("filetype", "video/mp4"),
            pair("probe", "quick"),
            pair("checksum", "sha256"),
            "flag".to_owned(),
        ]
        .join(",");
        let metadata = parse(&sent).unwrap();
        assert_eq!(metadata.sent.as_deref(), Some(sent.as_str()));
        assert_eq!(metadata.filename, "holiday é.mp4");
        assert_eq!(metadata.content_type.as_deref(), Some("video/mp4"));
        assert_eq!((metadata.checksum, metadata.probe), (Wanted::Report, Some(Profile::Quick)));
        assert_eq!(parse(&pair("probe", "1")).unwrap().probe, Some(Profile::Standard));
        assert_eq!(Metadata::parse(None, 1024).unwrap().filename, "upload");
        assert_eq!(parse(&pair("filename", "\n")).unwrap().filename, "upload");
        assert_eq!(parse(&pair("name", &"é".repeat(600))).unwrap().filename.len(), 1024);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let many: Vec<String> = (0..33).map(|i| format!("k{i}")).collect();
        for bad in [
            "a ?",
            "a YQ",
            "a YQ==,a YQ==",
            "a,,b",
            ",",
            "é YQ==",
            "a  YQ==",
            "a YQ== YQ==",
            &many.join(","),
            &pair("probe", "deep"),
            &pair("checksum", "md5:x"),
            &format!("a {}", "A".repeat(4096)),
        ] {
            assert_eq!(parse(bad).unwrap_err().code(), Code::BadRequest, "{bad}");
        }
        assert!(parse(&many[..32].join(",")).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_names_stay_bearable(value in ".{0,200}", name in "\\PC{0,80}", most in 1_usize..60) {
            let _ = parse(&value);
            let metadata = Metadata::parse(Some(&pair("filename", &name)), most).unwrap();
            prop_assert!(metadata.filename.len() <= most.max(UNNAMED.len()));
            prop_assert!(!metadata.filename.chars().any(char::is_control));
        }
    }
}
