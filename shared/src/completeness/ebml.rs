//! EBML elements (RFC 8794) and a walk over their row. Used by the walker of Matroska. Sizes are the file's word: ends are
//! sums that stop at the highest number instead of overflowing.
//! It never reads the content of an element.

use super::reader::{Look, Reader};

pub(super) const EBML: u32 = 0x1a45_dfa3;
pub(super) const SEGMENT: u32 = 0x1853_8067;
pub(super) const SEEK_HEAD: u32 = 0x114d_9b74;
pub(super) const SEEK: u32 = 0x4dbb;
pub(super) const SEEK_ID: u32 = 0x53ab;
pub(super) const SEEK_POSITION: u32 = 0x53ac;
pub(super) const CLUSTER: u32 = 0x1f43_b675;
pub(super) const CUES: u32 = 0x1c53_bb6b;
/// What stands inside a segment (RFC 9559): Info, Tracks, Tags, Chapters, Attachments, and fillers.
const IN_SEGMENT: [u32; 10] =
    [SEEK_HEAD, CLUSTER, CUES, 0x1549_a966, 0x1654_ae6b, 0x1254_c367, 0x1043_a770, 0x1941_a469, 0xec, 0xbf];
/// What stands inside a cluster: Timestamp, Position, PrevSize, SimpleBlock, BlockGroup, EncryptedBlock, SilentTracks.
const IN_CLUSTER: [u32; 7] = [0xe7, 0xa7, 0xab, 0xa3, 0xa0, 0xaf, 0x5854];

/// An element: its identifier and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    pub(super) id: u32,
    pub(super) body: u64,
    /// Where it ends; nothing if its size is unknown, as in live streams.
    pub(super) end: Option<u64>,
}

/// What begins at an offset.
pub(super) enum Next {
    Element(Element),
    /// The file ends inside of an element's header.
    Cut,
    /// No element can begin like this.
    Nothing,
}

/// Reads the header of an element.
pub(super) fn read(reader: &mut Reader<'_>, at: u64) -> Look<Next> {
    let head = reader.view(at, 12)?;
    let Some(first) = head.first() else { return Ok(Next::Cut) };
    let id_bytes = first.leading_zeros() as usize + 1;
    if id_bytes > 4 {
        return Ok(Next::Nothing);
    }
    let Some(size_first) = head.get(id_bytes) else { return Ok(Next::Cut) };
    let size_bytes = size_first.leading_zeros() as usize + 1;
    if size_bytes > 8 {
        return Ok(Next::Nothing);
    }
    let Some(size) = head.get(id_bytes..id_bytes + size_bytes) else { return Ok(Next::Cut) };
    let id = number(&head[..id_bytes]);
    let marker = 1_u64 << (7 * size_bytes);
    let size = number(size) & (marker - 1);
    let body = at.saturating_add((id_bytes + size_bytes) as u64);
    let end = (size != marker - 1).then(|| body.saturating_add(size));
    Ok(u32::try_from(id).map_or(Next::Nothing, |id| Next::Element(Element { id, body, end })))
}

/// A number with its highest byte first, of 8 bytes at most.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// How a walk over a row of elements ended.
pub(super) enum Row {
    /// An element ends where the file ends.
    Exact,
    /// The element at this place is longer than the file; its end, if its header is whole.
    Beyond(u64, Option<u64>),
    /// At this place is no element of a segment.
    Broken(u64),
    /// The walk was long enough, and came up to here.
    Far(u64),
}

/// Walks the elements of a segment from `at` to the end of the file, into clusters of unknown size, until the reader has
/// spent `until` reads.
pub(super) fn walk(reader: &mut Reader<'_>, mut at: u64, until: u32) -> Look<Row> {
    let len = reader.len();
    while at < len {
        if reader.spent().reads >= until {
            return Ok(Row::Far(at));
        }
        let element = match read(reader, at)? {
            Next::Element(element) => element,
            Next::Cut => return Ok(Row::Beyond(at, None)),
            Next::Nothing => return Ok(Row::Broken(at)),
        };
        let known = IN_SEGMENT.contains(&element.id) || IN_CLUSTER.contains(&element.id);
        match element.end {
            _ if !known => return Ok(Row::Broken(at)),
            Some(end) if end > len => return Ok(Row::Beyond(at, Some(end))),
            Some(end) => at = end,
            None if element.id == CLUSTER => at = element.body,
            None => return Ok(Row::Broken(at)),
        }
    }
    Ok(Row::Exact)
}
