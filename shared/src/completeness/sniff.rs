//! Which container some bytes are, by their content. Used by [`super::judge`] to choose a walker, and for uploads, whose
//! names prove nothing. It looks at the first bytes only and says nothing about what follows.
//! It never reads the file itself: bytes in, a word out.

use super::Container;
use super::field::{array, be32, find};
use super::{mp3, mpegts};

/// Bytes of an ID3v2 header.
pub(super) const ID3V2_HEADER_BYTES: usize = 10;
/// How every partition pack of an MXF file begins.
pub(super) const MXF_PARTITION: [u8; 13] =
    [0x06, 0x0e, 0x2b, 0x34, 0x02, 0x05, 0x01, 0x01, 0x0d, 0x01, 0x02, 0x01, 0x01];
/// The identifier that an EBML file begins with.
const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];
/// First boxes of the MP4 family.
const FIRST_BOXES: [&[u8; 4]; 11] =
    [b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"sidx", b"wide", b"free", b"skip", b"pnot", b"emsg"];

/// The media type of a file that begins with these bytes, by content. Give the first 4 KiB or more. Nothing for what is not
/// one of the containers of [`Container`].
///
/// What stands in a container is not looked at, so MP4, Matroska and Ogg are `video/…` unless their brand says otherwise.
pub fn content_type(head: &[u8]) -> Option<&'static str> {
    let tag = id3v2_size(head).and_then(|size| usize::try_from(size).ok());
    let behind = head.get(tag.unwrap_or(0)..).unwrap_or_default();
    Some(match container(behind, tag.is_some()) {
        Container::Mp4 => mp4_type(head),
        Container::Matroska if find(&head[..head.len().min(64)], b"webm").is_some() => "video/webm",
        Container::Matroska => "video/matroska",
        Container::Mxf => "application/mxf",
        Container::Wav => "audio/wav",
        Container::Aiff => "audio/aiff",
        Container::MpegTs => "video/mp2t",
        Container::Avi => "video/x-msvideo",
        Container::Flv => "video/x-flv",
        Container::Ogg => "application/ogg",
        Container::Flac => "audio/flac",
        Container::Mp3 => "audio/mpeg",
        Container::Unknown => return None,
    })
}

fn mp4_type(head: &[u8]) -> &'static str {
    let brand = array::<4>(head, 8).filter(|_| head.get(4..8) == Some(b"ftyp"));
    match brand.as_ref() {
        None | Some(b"qt  ") => "video/quicktime",
        Some(b"M4A " | b"M4B " | b"M4P ") => "audio/mp4",
        Some(b"heic" | b"heix" | b"mif1" | b"msf1") => "image/heif",
        Some(b"avif" | b"avis") => "image/avif",
        Some([b'3', b'g', b'2', _]) => "video/3gpp2",
        Some([b'3', b'g', _, _]) => "video/3gpp",
        Some(_) => "video/mp4",
    }
}

/// The container that these bytes begin. Behind an ID3 tag that ends where the bytes end, MPEG audio is what is left.
pub(super) fn container(head: &[u8], tagged: bool) -> Container {
    let four = array::<4>(head, 0).unwrap_or_default();
    let form = array::<4>(head, 8).unwrap_or_default();
    match (&four, &form) {
        (b"RIFF" | b"RF64" | b"BW64", b"WAVE") => Container::Wav,
        (b"RIFF", b"AVI ") => Container::Avi,
        (b"FORM", b"AIFF" | b"AIFC") => Container::Aiff,
        (b"OggS", _) => Container::Ogg,
        (b"fLaC", _) => Container::Flac,
        ([b'F', b'L', b'V', 1], _) => Container::Flv,
        (&EBML, _) => Container::Matroska,
        _ if is_mp4(head) => Container::Mp4,
        _ if mxf_run_in(head).is_some() => Container::Mxf,
        _ if mpegts::shape(head).is_some() => Container::MpegTs,
        _ if mp3::begins(head) || (tagged && head.is_empty()) => Container::Mp3,
        _ => Container::Unknown,
    }
}

fn is_mp4(head: &[u8]) -> bool {
    let plausible = be32(head, 0).is_some_and(|size| size == 0 || size == 1 || size >= 8);
    plausible && array::<4>(head, 4).is_some_and(|kind| FIRST_BOXES.contains(&&kind))
}

/// Bytes before the header partition of an MXF file, if there is one among these. SMPTE ST 377-1 allows 64 KiB of them;
/// nobody writes any, and more than the head is not searched.
pub(super) fn mxf_run_in(head: &[u8]) -> Option<usize> {
    let header = |at: &usize| head.get(at + MXF_PARTITION.len()) == Some(&0x02);
    find(head, &MXF_PARTITION).filter(header)
}

/// The length of the ID3v2 tag at the start of these bytes, header and footer included (id3.org, ID3v2.4, section 3).
pub(super) fn id3v2_size(head: &[u8]) -> Option<u64> {
    let [b'I', b'D', b'3', version, _, flags, size @ ..] = array::<ID3V2_HEADER_BYTES>(head, 0)? else { return None };
    if version == 0xff || size.iter().any(|seven| *seven > 0x7f) {
        return None;
    }
    let size = size.iter().fold(0, |sum: u64, seven| sum << 7 | u64::from(*seven));
    let footer = if flags & 0x10 == 0 { 0 } else { ID3V2_HEADER_BYTES as u64 };
    Some(ID3V2_HEADER_BYTES as u64 + size + footer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        let mut ts = vec![0; 188 * 8];
        ts.iter_mut().step_by(188).for_each(|byte| *byte = 0x47);
        let mut m2ts = vec![0; 192 * 8];
        m2ts.iter_mut().skip(4).step_by(192).for_each(|byte| *byte = 0x47);
        let mut mxf = MXF_PARTITION.to_vec();
        mxf.extend([2, 4, 0]);
        let run_in = [&b"some run-in"[..], &mxf].concat();
        for (head, expected) in [
            (&b"\0\0\0\x18ftypisom\0\0\0\0"[..], Some("video/mp4")),
            (b"\0\0\0\x18ftypqt  \0\0\0\0", Some("video/quicktime")),
            (b"\0\0\0\x18ftypM4A \0\0\0\0", Some("audio/mp4")),
            (b"\0\0\0\x18ftypheic\0\0\0\0", Some("image/heif")),
            (b"\0\0\0\x08wide\0\0\0\0mdat", Some("video/quicktime")),
            (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", Some("video/webm")),
            (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska", Some("video/matroska")),
            (b"RIFF\0\0\0\0WAVEfmt ", Some("audio/wav")),
            (b"RF64\xff\xff\xff\xffWAVEds64", Some("audio/wav")),
            (b"RIFF\0\0\0\0AVI LIST", Some("video/x-msvideo")),
            (b"RIFF\0\0\0\0WEBPVP8 ", None),
            (b"FORM\0\0\0\0AIFC", Some("audio/aiff")),
            (b"FLV\x01\x05", Some("video/x-flv")),
            (b"OggS\0", Some("application/ogg")),
            (b"fLaC\0", Some("audio/flac")),
            (b"ID3\x04\0\0\0\0\0\x02..fLaC\0", Some("audio/flac")),
            (b"\xff\xfb\x90\x64", Some("audio/mpeg")),
            (b"ID3\x04\0\0\0\0\x20\x02and a cover", Some("audio/mpeg")),
            (&ts, Some("video/mp2t")),
            (&m2ts, Some("video/mp2t")),
            (&mxf, Some("application/mxf")),
            (&run_in, Some("application/mxf")),
            (b"\0\0\0\x03ftyp", None),
            (b"#EXTM3U", None),
            (b"\x7fELF", None),
            (b"", None),
        ] {
            assert_eq!(content_type(head), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn tags_have_sizes_of_seven_bits() {
        assert_eq!(id3v2_size(b"ID3\x04\0\0\0\0\x02\x01"), Some(10 + 257));
        assert_eq!(id3v2_size(b"ID3\x04\0\x10\0\0\0\x01"), Some(21));
        assert_eq!(id3v2_size(b"ID3\x04\0\0\0\0\x80\x01"), None);
        assert_eq!(id3v2_size(b"ID3\x04\0\0\0\0\0"), None);
    }
}
