//! Whether a media file is whole: a verdict with its evidence, from a bounded look at headers and tail.
//!
//! Called by the worker with a file or a remote object behind [`Bytes`]; ffprobe itself exits 0 on files that were cut off.
//! The look never exceeds [`MAX_READS`] and [`MAX_BYTES`], whatever the file says, so it costs the same at 5 MB and 50 GB.
//! Pure: it reads only through [`Bytes`], decodes nothing, never panics or overflows, and never guesses: `truncated` and
//! `complete` each rest on what the container itself says, and where it says nothing the verdict is `unknown`.

mod aiff;
mod avi;
mod chunk;
mod crc;
mod ebml;
mod field;
mod flac;
mod flv;
mod matroska;
mod mp3;
mod mp4;
mod mpegts;
mod mxf;
mod ogg;
mod reader;
mod report;
mod sniff;
mod wav;

#[cfg(test)]
mod memory;
#[cfg(test)]
mod property;

use std::io;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use reader::{Look, Reader, Stop};
use report::{Report, bytes, digits};

pub use reader::{MAX_BYTES, MAX_READS};
pub use report::{MAX_EVIDENCE, MAX_SENTENCE_BYTES};
pub use sniff::content_type;

/// Bytes at the start of a file that its container is told from.
const HEAD_BYTES: usize = 4096;
/// More bytes of tags than any tagger writes. ffprobe drops a picture that needs more memory than it gets, and says nothing.
const LARGEST_TAG_BYTES: u64 = 128 << 20;
/// ID3v2 tags skipped before a container. Some taggers add one more instead of replacing the first.
const MAX_LEADING_TAGS: u32 = 4;

/// Something with bytes at offsets: a file, or a remote object read by ranges.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty without asking how long it is")]
pub trait Bytes {
    /// The length in bytes.
    fn len(&self) -> u64;

    /// Reads from `offset` into `into` and returns how many bytes came, like `pread`: possibly fewer than asked for, and
    /// none only at the end.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
}

/// Whether a file is whole, and why we say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Completeness {
    /// The verdict.
    pub verdict: Verdict,
    /// The container, by content; the name of the file plays no part.
    pub container: Container,
    /// What the verdict rests on: at most 8 plain sentences.
    #[schema(max_items = 8, example = json!(["The box 'mdat' at 48 ends at 1,048,576, 512,000 bytes beyond the end of the file."]))]
    pub evidence: Vec<String>,
    /// How long the file says it is, in bytes. Of a truncated file, at least this many bytes belong to it. Null if it
    /// does not say.
    pub expected_bytes: Option<u64>,
    /// How long the file is, in bytes.
    pub actual_bytes: u64,
    /// Bytes after the end that the container states. Null if it states none.
    pub trailing_bytes: Option<u64>,
    /// How many bytes of ID3 tags stand before the container. Not shown; [`Completeness::doubt`] speaks of it.
    #[serde(skip)]
    pub tag_bytes: u64,
    /// Whether the index stands before the media, so that playback can start while loading. Null outside the MP4 family,
    /// and where the index or the media was not found.
    pub faststart: Option<bool>,
    /// Whether the media is cut into movie fragments. Null outside the MP4 family, and where no index was found.
    pub fragmented: Option<bool>,
}

impl Completeness {
    /// Why to doubt a probe of this file although it succeeded, if the look gives a reason.
    pub fn doubt(&self) -> Option<String> {
        (self.tag_bytes > LARGEST_TAG_BYTES).then(|| {
            format!(
                "Tags of {} stand before the media; a picture of such size is not described.",
                bytes(self.tag_bytes)
            )
        })
    }
}

/// Whether a file is whole. There is no word for a file that still grows: one look cannot tell it from one that was
/// abandoned, and both are `unknown` or, where the missing part is announced, `truncated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CompletenessVerdict)]
pub enum Verdict {
    /// The end that the container states is in the file. What lies between head and tail was not looked at.
    Complete,
    /// The file proves that bytes are missing from it.
    Truncated,
    /// Neither is proven. A transport stream never gets further than this: it has no end mark and may stop at any packet.
    Unknown,
}

/// A container that can be told by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = CompletenessContainer)]
pub enum Container {
    /// MP4, QuickTime and their kin: CMAF, 3GP, M4A, HEIF, AVIF (ISO/IEC 14496-12).
    Mp4,
    /// Matroska and WebM (RFC 9559).
    Matroska,
    /// MXF (SMPTE ST 377-1).
    Mxf,
    /// WAVE, RF64, BW64 and Broadcast Wave (EBU Tech 3306, ITU-R BS.2088).
    Wav,
    /// AIFF and AIFF-C.
    Aiff,
    /// MPEG transport stream with packets of 188, 192 or 204 bytes (ISO/IEC 13818-1).
    #[serde(rename = "mpegts")]
    MpegTs,
    /// AVI and OpenDML.
    Avi,
    /// Flash Video.
    Flv,
    /// Ogg (RFC 3533).
    Ogg,
    /// FLAC outside of Ogg (RFC 9639).
    Flac,
    /// MPEG audio, layers I to III.
    Mp3,
    /// Anything else.
    Unknown,
}

/// Judges whether a file is whole, in at most [`MAX_READS`] reads of [`MAX_BYTES`] together. A file that would need more is
/// `unknown`.
///
/// Errors are those of [`Bytes::read_at`], and [`io::ErrorKind::UnexpectedEof`] if the file became shorter meanwhile.
pub fn judge(bytes: &mut dyn Bytes) -> io::Result<Completeness> {
    let mut reader = Reader::new(bytes);
    let mut report = Report::new(reader.len());
    let verdict = match look(&mut reader, &mut report) {
        Ok(verdict) => verdict,
        Err(Stop::Io(error)) => return Err(error),
        Err(Stop::GaveUp) => {
            let spent = reader.spent();
            report.say(format!("Gave up after {} reads of {} bytes together.", spent.reads, digits(spent.bytes)));
            Verdict::Unknown
        }
    };
    Ok(report.finish(verdict))
}

fn look(reader: &mut Reader<'_>, report: &mut Report) -> Look<Verdict> {
    if reader.len() == 0 {
        report.say("The file is empty.".into());
        return Ok(Verdict::Unknown);
    }
    let Some(start) = skip_leading_tags(reader, report)? else { return Ok(Verdict::Truncated) };
    report.tag_bytes = start;
    let tagged = start > 0;
    report.container = sniff::container(reader.view(start, HEAD_BYTES)?, tagged);
    match report.container {
        Container::Mp4 => mp4::judge(reader, start, report),
        Container::Matroska => matroska::judge(reader, start, report),
        Container::Mxf => mxf::judge(reader, start, report),
        Container::Wav => wav::judge(reader, start, report),
        Container::Aiff => aiff::judge(reader, start, report),
        Container::MpegTs => mpegts::judge(reader, start, report),
        Container::Avi => avi::judge(reader, start, report),
        Container::Flv => flv::judge(reader, start, report),
        Container::Ogg => ogg::judge(reader, start, report),
        Container::Flac => flac::judge(reader, start, report),
        Container::Mp3 => mp3::judge(reader, start, report),
        Container::Unknown => {
            let zeros = reader.view(start, HEAD_BYTES)?.iter().all(|byte| *byte == 0);
            report.say(if zeros { "The file begins with zeros only." } else { "The container is not known." }.into());
            Ok(Verdict::Unknown)
        }
    }
}

/// Where the container begins, behind any ID3v2 tags. Nothing if a tag alone is longer than the file.
fn skip_leading_tags(reader: &mut Reader<'_>, report: &mut Report) -> Look<Option<u64>> {
    let mut start = 0;
    for _ in 0..MAX_LEADING_TAGS {
        let Some(size) = sniff::id3v2_size(reader.view(start, sniff::ID3V2_HEADER_BYTES)?) else { break };
        let end = start + size;
        if end > reader.len() {
            report.closes(&format!("The ID3 tag at {}", digits(start)), end);
            return Ok(None);
        }
        start = end;
    }
    Ok(Some(start))
}

#[cfg(test)]
mod tests {
    use super::memory::judged;
    use super::*;

    #[test]
    fn nothing_and_anything_are_unknown() {
        for (bytes, says) in [
            (Vec::new(), "The file is empty."),
            (b"These are notes, not media.".to_vec(), "The container is not known."),
            (vec![0; 9000], "The file begins with zeros only."),
        ] {
            let found = judged(&bytes);
            assert_eq!((found.verdict, found.container), (Verdict::Unknown, Container::Unknown));
            assert_eq!(found.evidence, [says]);
            assert_eq!((found.expected_bytes, found.actual_bytes), (None, bytes.len() as u64));
        }
    }

    #[test]
    fn a_tag_longer_than_the_file_is_cut() {
        let found = judged(b"ID3\x04\0\0\0\0\x02\0rest");
        assert_eq!((found.verdict, found.expected_bytes), (Verdict::Truncated, Some(10 + 256)));
    }

    #[test]
    fn tags_of_a_size_that_nobody_writes_are_doubted() {
        let mut found = judged(b"FLV\x01\x05\0\0\0\x09");
        for (bytes, doubted) in [(0, false), (LARGEST_TAG_BYTES, false), (LARGEST_TAG_BYTES + 1, true)] {
            found.tag_bytes = bytes;
            assert_eq!(found.doubt().is_some(), doubted, "{bytes}");
        }
        let tagged = judged(&[&b"ID3\x04\0\0\0\0\0\x02"[..], b"..FLV\x01\x05\0\0\0\x09"].concat());
        assert_eq!(tagged.tag_bytes, 12);
    }

    #[test]
    fn the_words_are_those_of_the_documentation() {
        let json = serde_json::to_value(judged(b"FLV\x01\x05\0\0\0\x09")).unwrap();
        assert_eq!((json["verdict"].as_str(), json["container"].as_str()), (Some("truncated"), Some("flv")));
        let back: Completeness = serde_json::from_value(json).unwrap();
        assert_eq!(back.faststart, None);
        for (container, word) in [(Container::MpegTs, "mpegts"), (Container::Mp4, "mp4"), (Container::Wav, "wav")] {
            assert_eq!(serde_json::to_value(container).unwrap(), word);
        }
    }

    #[test]
    fn errors_of_the_source_come_through() {
        struct Broken;
        impl Bytes for Broken {
            fn len(&self) -> u64 {
                100
            }
            fn read_at(&mut self, _: u64, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        assert_eq!(judge(&mut Broken).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
