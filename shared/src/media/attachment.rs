//! Cover art and attached files. Used by [`super::normalize`]. They are kept away from `video` because a song with a
//! cover is not a film.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::raw::Stream;
use super::track::{Track, untimed_track};

/// What kind of attachment, in ffprobe's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentKind {
    /// A picture: cover art or thumbnails, ffprobe's disposition `attached_pic`.
    AttachedPic,
    /// A file, ffprobe's codec type `attachment`.
    Attachment,
}

/// A picture or file that belongs to the media but is not played. Its times are null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// ffprobe's stream index.
    pub index: u32,
    /// Picture or file.
    pub kind: AttachmentKind,
    /// Codec in ffprobe's word, for pictures (`mjpeg`, `png`) and known fonts (`ttf`).
    pub codec: Option<String>,
    /// File name, as tagged.
    pub filename: Option<String>,
    /// Media type, as tagged, else from the codec of a picture.
    pub mimetype: Option<String>,
    /// Size of an attached file in bytes; null for pictures.
    pub size_bytes: Option<u64>,
    /// Width of a picture in pixels.
    pub width: Option<u32>,
    /// Height of a picture in pixels.
    pub height: Option<u32>,
    /// What every track has.
    #[serde(flatten)]
    pub track: Track,
}

/// Whether a stream is an attachment, and which.
pub(super) fn kind(stream: &Stream) -> Option<AttachmentKind> {
    match stream.codec_type.text() {
        Some("attachment") => Some(AttachmentKind::Attachment),
        Some("video") if stream.disposition.has("attached_pic") => Some(AttachmentKind::AttachedPic),
        _ => None,
    }
}

pub(super) fn attachment(index: u32, kind: AttachmentKind, stream: &Stream) -> Attachment {
    let codec = stream.codec_name.text();
    let mimetype = stream.tags.get("mimetype").or_else(|| codec.and_then(picture_type));
    Attachment {
        index,
        kind,
        codec: codec.map(str::to_owned),
        filename: stream.tags.get("filename").map(str::to_owned),
        mimetype: mimetype.map(str::to_owned),
        size_bytes: stream.extradata_size.positive().filter(|_| kind == AttachmentKind::Attachment),
        width: stream.width.positive(),
        height: stream.height.positive(),
        track: untimed_track(stream),
    }
}

fn picture_type(codec: &str) -> Option<&'static str> {
    match codec {
        "mjpeg" => Some("image/jpeg"),
        "png" => Some("image/png"),
        "gif" => Some("image/gif"),
        "bmp" => Some("image/bmp"),
        "tiff" => Some("image/tiff"),
        "webp" => Some("image/webp"),
        _ => None,
    }
}
