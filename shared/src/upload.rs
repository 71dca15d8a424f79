//! Uploads by the tus protocol, version 1.0.0: its words and the rules that need no disk. Called by the API's routes.
//!
//! Headers come in, words or the right refusal come out. Numbers and lists from outside have bounds here. Pure: no I/O, no
//! clock, no async; nothing here knows what is stored.

mod checksum;
mod concat;
mod headers;
mod md5;
mod metadata;

pub use checksum::{ALGORITHMS, Checksum, Hasher, Wanted};
pub use concat::{Concat, MAX_PARTS};
pub use headers::{Creation, is_tus, length, offset, require_version, single};
pub use metadata::{MAX_KEYS, MAX_METADATA_BYTES, Metadata};

use crate::error::{Code, Error};

/// The protocol version that is spoken.
pub const VERSION: &str = "1.0.0";
/// The extensions that are spoken, as announced.
pub const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,expiration,checksum,checksum-trailer,termination,concatenation";
/// The content type of a body that continues an upload.
pub const CONTENT_TYPE: &str = "application/offset+octet-stream";
/// The path that uploads live under.
pub const PATH: &str = "/api/v1/uploads";

/// Where an upload stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, sqlx::Type, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum UploadState {
    /// Bytes are awaited, or are being checked.
    Receiving,
    /// All bytes are stored.
    Complete,
    /// Nobody sent or used it for too long; its bytes are erased.
    Expired,
    /// Its owner gave it up; its bytes are erased.
    Terminated,
    /// Its bytes were not what was announced or allowed; they are erased.
    Rejected,
}

impl UploadState {
    /// Whether its bytes are erased and only its memory is kept.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Expired | Self::Terminated | Self::Rejected)
    }
}

/// How long the body of a request may be, by what was announced. `most` is the largest upload, in bytes.
pub fn room(length: Option<u64>, offset: u64, most: u64) -> u64 {
    length.unwrap_or(most).saturating_sub(offset)
}

/// Refuses a body that is announced to be longer than there is room for, before its first byte is read.
pub fn check_announced(announced: Option<u64>, length: Option<u64>, room: u64) -> Result<(), Error> {
    match announced.filter(|bytes| *bytes > room) {
        None => Ok(()),
        Some(bytes) => Err(beyond(format!("The body has {bytes} bytes"), length, room)),
    }
}

/// Why bytes beyond the end are not taken.
pub fn beyond(what: String, length: Option<u64>, room: u64) -> Error {
    let why = match length {
        Some(length) => format!("the upload was announced with {length} bytes and {room} are missing"),
        None => format!("{room} more are taken here. An operator raises MAX_UPLOAD_BYTES"),
    };
    Error::new(Code::TooLarge, format!("{what}, but {why}."))
}

/// Why an upload of `bytes` is too large.
pub fn too_large(most: u64) -> Error {
    Error::new(
        Code::TooLarge,
        format!("The file is larger than the {most} bytes taken here. An operator raises MAX_UPLOAD_BYTES."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_the_upload_does() {
        assert_eq!(room(Some(10), 4, 100), 6);
        assert_eq!(room(None, 4, 100), 96);
        assert_eq!(room(Some(3), 4, 100), 0);
        assert!(check_announced(Some(6), Some(10), 6).is_ok() && check_announced(None, Some(10), 0).is_ok());
        assert_eq!(check_announced(Some(7), Some(10), 6).unwrap_err().code(), Code::TooLarge);
        assert!(check_announced(Some(7), None, 6).unwrap_err().detail().contains("MAX_UPLOAD_BYTES"));
    }
}
