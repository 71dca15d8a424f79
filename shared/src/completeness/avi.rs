//! AVI, and OpenDML with its row of RIFF lists for more than 1 GiB. Used by [`super::judge`].
//!
//! Every list has a size. Where a list is missing as a whole, the super index `indx` of the streams points behind the end of
//! the file. A row of more lists than can be read within the bound is unknown. It reads headers of chunks only.

use super::Verdict;
use super::chunk::{self, Chunk, NO_SIZE, Order};
use super::field::{le32, le64};
use super::reader::{Look, Reader};
use super::report::Report;

/// Bytes of the name of a list's kind, which its content begins with.
const KIND_BYTES: u64 = 4;
/// Chunks looked at in one list of the header.
const MAX_CHUNKS: usize = 64;
/// Streams whose super index is read.
const MAX_STREAMS: usize = 4;
/// Bytes of a super index before its entries, and of an entry (OpenDML AVI 1.02, 3.0).
const SUPER_INDEX_HEADER_BYTES: u64 = 24;
const SUPER_INDEX_ENTRY_BYTES: u64 = 16;

pub(super) fn judge(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Verdict> {
    let Some(first) = chunk::read(reader, start, Order::Little)? else { return Ok(Verdict::Unknown) };
    if first.size == 0 || first.size == NO_SIZE {
        report.say("The RIFF list has no size: the file was streamed or never finished.".into());
        return Ok(Verdict::Unknown);
    }
    let indexed = indexed_end(reader, first)?;
    let (mut last, mut at, mut lists) = (first, first.next(), 1_u32);
    while last.end() < reader.len() {
        match chunk::read(reader, at, Order::Little)? {
            Some(next) if next.id == *b"RIFF" && reader.view(next.body, 4)? == b"AVIX" => last = next,
            _ => break,
        }
        lists += 1;
        at = last.next();
    }
    if let Some(end) = indexed.filter(|end| *end > reader.len() && *end > last.end()) {
        return Ok(report.closes("The last part of the index that the streams name", end));
    }
    Ok(report.closes(&format!("RIFF list {lists}, the last one,"), last.end()))
}

/// Where the last part of the index begins that a super index in the header names, and its own header ends.
fn indexed_end(reader: &mut Reader<'_>, riff: Chunk) -> Look<Option<u64>> {
    let mut end = None;
    let Some(header) = lists(reader, riff, b"hdrl")?.into_iter().next() else { return Ok(None) };
    for stream in lists(reader, header, b"strl")?.into_iter().take(MAX_STREAMS) {
        for index in chunks(reader, stream)?.into_iter().filter(|chunk| chunk.id == *b"indx") {
            end = end.max(last_part(reader, index)?);
        }
    }
    Ok(end)
}

fn last_part(reader: &mut Reader<'_>, index: Chunk) -> Look<Option<u64>> {
    let head = reader.view(index.body, 8)?;
    // an index of indexes, four words per entry
    let Some(count) = le32(head, 4).filter(|count| *count > 0 && head.starts_with(&[4, 0, 0, 0])) else {
        return Ok(None);
    };
    let before = u64::from(count - 1).saturating_mul(SUPER_INDEX_ENTRY_BYTES);
    let at = index.body.saturating_add(SUPER_INDEX_HEADER_BYTES).saturating_add(before);
    if at.saturating_add(SUPER_INDEX_ENTRY_BYTES) > index.end() {
        return Ok(None);
    }
    let part = le64(reader.view(at, SUPER_INDEX_ENTRY_BYTES as usize)?, 0).filter(|part| *part > 0);
    Ok(part.map(|part| part.saturating_add(chunk::HEADER_BYTES)))
}

/// The lists of one kind inside a list.
fn lists(reader: &mut Reader<'_>, parent: Chunk, kind: &[u8; 4]) -> Look<Vec<Chunk>> {
    let mut found = Vec::new();
    for chunk in chunks(reader, parent)? {
        if chunk.id == *b"LIST" && reader.view(chunk.body, 4)? == kind {
            found.push(chunk);
        }
    }
    Ok(found)
}

/// The chunks inside a list, up to the media, which is not looked at.
fn chunks(reader: &mut Reader<'_>, parent: Chunk) -> Look<Vec<Chunk>> {
    let mut found = Vec::new();
    let mut at = parent.body.saturating_add(KIND_BYTES);
    while at < parent.end() && found.len() < MAX_CHUNKS {
        match chunk::read(reader, at, Order::Little)? {
            Some(chunk) if reader.view(chunk.body, 4)? != b"movi" => {
                at = chunk.next();
                found.push(chunk);
            }
            _ => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::memory::judged;

    fn list(name: &[u8; 4], kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len() + 4).unwrap().to_le_bytes();
        [name, &size[..], kind, content].concat()
    }

    fn two_lists() -> Vec<u8> {
        let media = list(b"LIST", b"movi", &[1; 200]);
        let entry = |at: u64| [&at.to_le_bytes()[..], &[8, 0, 0, 0, 1, 0, 0, 0]].concat();
        let entries = [entry(100), entry(380)].concat();
        let indx = [&b"indx\x38\0\0\0\x04\0\0\0\x02\0\0\x0000dc"[..], &[0; 12], &entries].concat();
        let header = list(b"LIST", b"hdrl", &list(b"LIST", b"strl", &indx));
        [list(b"RIFF", b"AVI ", &[header, media.clone()].concat()), list(b"RIFF", b"AVIX", &media)].concat()
    }

    #[test]
    fn every_list_has_to_be_there() {
        let file = two_lists();
        let first = 12 + 12 + 12 + 64 + 212;
        for (len, verdict) in [
            (file.len(), Verdict::Complete),
            (file.len() - 1, Verdict::Truncated),
            (first + 20, Verdict::Truncated),
            (first, Verdict::Truncated),
            (first - 1, Verdict::Truncated),
            (100, Verdict::Truncated),
        ] {
            let found = judged(&file[..len]);
            assert_eq!(found.verdict, verdict, "{len} of {}: {:?}", file.len(), found.evidence);
        }
        let trailing = judged(&[file, b"\xff\0\x01".to_vec()].concat());
        assert_eq!((trailing.verdict, trailing.trailing_bytes), (Verdict::Complete, Some(3)));
    }
}
