//! Headers of boxes (ISO/IEC 14496-12, 4.2), and a search among the children of one. Used by the walks of this folder.
//! Sizes are the file's word: ends are sums that stop at the highest number instead of overflowing.
//! The content of a box is not read here.

use super::super::field::{array, be32, be64};
use super::super::reader::{Look, Reader};

/// Bytes of the shortest header.
pub(super) const HEADER_BYTES: u64 = 8;
/// Bytes of a header with a size of 64 bits.
const LARGE_HEADER_BYTES: u64 = 16;
/// Children of one box that are looked at.
const MAX_CHILDREN: usize = 64;

/// A box: its name and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Atom {
    pub(super) kind: [u8; 4],
    pub(super) start: u64,
    /// Where its content begins.
    pub(super) body: u64,
    /// Where it ends; the end of the file for an open one.
    pub(super) end: u64,
    /// Whether it has no size and runs to the end of the file.
    pub(super) open: bool,
}

/// The box that begins at an offset; nothing if these bytes cannot be the header of one.
pub(super) fn read(reader: &mut Reader<'_>, start: u64) -> Look<Option<Atom>> {
    let len = reader.len();
    let head = reader.view(start, LARGE_HEADER_BYTES as usize)?;
    let (Some(size), Some(kind)) = (be32(head, 0), array::<4>(head, 4)) else { return Ok(None) };
    // QuickTime has names with a copyright sign; nobody has control characters.
    if kind.iter().any(u8::is_ascii_control) {
        return Ok(None);
    }
    let (header, size, open) = match (size, be64(head, 8)) {
        (0, _) => (HEADER_BYTES, len.saturating_sub(start), true),
        (1, Some(size)) if size >= LARGE_HEADER_BYTES => (LARGE_HEADER_BYTES, size, false),
        // a cut header of a large box, which is at least as long as its header
        (1, None) => (LARGE_HEADER_BYTES, LARGE_HEADER_BYTES, false),
        (8.., _) => (HEADER_BYTES, size.into(), false),
        _ => return Ok(None),
    };
    Ok(Some(Atom { kind, start, body: start.saturating_add(header), end: start.saturating_add(size), open }))
}

/// The boxes inside a box, in order. The list ends early where something is not a box or reaches out of its parent.
pub(super) fn children(reader: &mut Reader<'_>, parent: Atom, body: u64) -> Look<Vec<Atom>> {
    let mut found = Vec::new();
    let mut at = body;
    while at < parent.end && found.len() < MAX_CHILDREN {
        match read(reader, at)? {
            Some(child) if child.end <= parent.end && !child.open => {
                at = child.end;
                found.push(child);
            }
            _ => break,
        }
    }
    Ok(found)
}

/// The first child with a name.
pub(super) fn child(reader: &mut Reader<'_>, parent: Atom, kind: &[u8; 4]) -> Look<Option<Atom>> {
    Ok(children(reader, parent, parent.body)?.into_iter().find(|child| child.kind == *kind))
}
