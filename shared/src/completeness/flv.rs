//! Flash Video (Adobe, Video File Format Specification 10.1, annex E). Used by [`super::judge`].
//!
//! `filesize` in the metadata says where the end is; writers of recordings fill it in last. Without it a file that ends with
//! a whole tag is complete only if that tag ends the video sequence, and otherwise unknown. It reads no media.

use super::Verdict;
use super::field::{array, be24, be32, find};
use super::reader::{Look, Reader};
use super::report::{Report, digits};

/// Bytes of the header and of the empty tag size behind it.
const HEADER_BYTES: u64 = 13;
/// Bytes of a tag's header, and of the size behind a tag.
const TAG_HEADER_BYTES: u64 = 11;
const TAG_SIZE_BYTES: u64 = 4;
/// Bytes at the start in which the metadata is looked for.
const METADATA_BYTES: usize = 8192;
/// The key in the metadata, its length before it and the mark of a number behind it.
const FILE_SIZE: &[u8] = b"\0\x08filesize\0";
/// The walk over the first tags ends at this many reads.
const HEAD_READS: u32 = 40;

pub(super) fn judge(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Verdict> {
    let len = reader.len();
    let first = start.saturating_add(HEADER_BYTES);
    if first > len {
        report.say("The file ends inside of its header.".into());
        return Ok(Verdict::Truncated);
    }
    if let Some(size) = file_size(reader.view(first, METADATA_BYTES)?) {
        let end = start.saturating_add(size);
        if end > len || tag_that_ends(reader, end)?.is_some() {
            return Ok(report.closes("The file, by 'filesize' in its metadata,", end));
        }
        report.say(format!("No tag ends at {}, which is 'filesize' in the metadata.", digits(end)));
    }
    match tag_that_ends(reader, len)? {
        Some(tag) if ends_sequence(reader, tag)? => {
            report.say(format!("The last tag, at {}, ends the video sequence.", digits(tag)));
            Ok(report.closes("The last tag", len))
        }
        Some(tag) => {
            report.say(format!("The file ends with the tag at {}.", digits(tag)));
            report.say("Nothing in it says whether another one should follow.".into());
            Ok(Verdict::Unknown)
        }
        None => walk(reader, first, report),
    }
}

/// `filesize` as the metadata says it.
fn file_size(metadata: &[u8]) -> Option<u64> {
    let place = find(metadata, FILE_SIZE)? + FILE_SIZE.len();
    let size = f64::from_be_bytes(array(metadata, place)?);
    // a number that is no number becomes zero, one too large the largest
    Some(size as u64).filter(|size| *size > 0)
}

/// Where the tag begins that ends here, by the size behind it and by its own.
fn tag_that_ends(reader: &mut Reader<'_>, end: u64) -> Look<Option<u64>> {
    let Some(size_at) = end.checked_sub(TAG_SIZE_BYTES) else { return Ok(None) };
    let size = be32(reader.view(size_at, 4)?, 0).map(u64::from).filter(|size| *size >= TAG_HEADER_BYTES);
    let Some(tag) = size.and_then(|size| size_at.checked_sub(size)) else { return Ok(None) };
    Ok(tag_end(reader, tag)?.filter(|tag_end| *tag_end == end).map(|_| tag))
}

/// Where the tag at an offset ends, its size behind it included. Nothing if no tag begins there.
fn tag_end(reader: &mut Reader<'_>, tag: u64) -> Look<Option<u64>> {
    let Some(head) = reader.take::<11>(tag)? else { return Ok(None) };
    let known = matches!(head[0] & 0x1f, 8 | 9 | 18) && head[8..] == [0; 3];
    let size = be24(&head, 1).filter(|_| known).map(u64::from);
    Ok(size.map(|size| tag.saturating_add(TAG_HEADER_BYTES + TAG_SIZE_BYTES + size)))
}

/// Whether a tag is an AVC or HEVC end of sequence.
fn ends_sequence(reader: &mut Reader<'_>, tag: u64) -> Look<bool> {
    let head = reader.view(tag, 13)?;
    Ok(head.first() == Some(&9) && matches!(head.get(11..), Some([codec, 2]) if matches!(codec & 0x0f, 7 | 12)))
}

/// Walks the tags from the head, for files short enough, to tell a cut tag from something behind the last one.
fn walk(reader: &mut Reader<'_>, first: u64, report: &mut Report) -> Look<Verdict> {
    let len = reader.len();
    let mut at = first;
    while at < len && reader.spent().reads < HEAD_READS {
        match tag_end(reader, at)? {
            Some(end) if end > len => return Ok(report.closes(&format!("The tag at {}", digits(at)), end)),
            Some(end) => at = end,
            None if len - at < TAG_HEADER_BYTES && matches!(reader.view(at, 1)?, [8 | 9 | 18]) => {
                report.say(format!("The file ends inside of the header of a tag at {}.", digits(at)));
                return Ok(Verdict::Truncated);
            }
            None => break,
        }
    }
    report.say(format!("The tags up to {} are whole, and no tag ends where the file ends.", digits(at)));
    report.say("The last tag is cut, or something follows it.".into());
    Ok(Verdict::Unknown)
}
