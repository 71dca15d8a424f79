//! What the `moov` box says about the end of the media: where the last chunk of each track ends, and whether fragments are to
//! come. Used by the walk over the top level. It reads the last entries of the tables only, of the first tracks only, and
//! takes what does not fit together for absent.

use super::super::field::be32;
use super::super::reader::{Look, Reader};
use super::boxes::{self, Atom};

/// Tracks whose last chunk is looked up.
const MAX_TRACKS: usize = 4;
/// No track is begun after this many reads, so that the tail can still be read.
const LATEST_READ: u32 = 40;
/// Samples in a last chunk whose sizes are added up.
const MAX_SAMPLES: u32 = 1024;
/// Bytes of version, flags and count at the start of a table.
const TABLE_HEADER: u64 = 8;

/// What was found.
pub(super) struct Index {
    /// Where the furthest of the tracks' last chunks ends, at least. Nothing if no track names a chunk in this file.
    pub(super) last_byte: Option<u64>,
    /// Whether there is a `mvex` box.
    pub(super) announces_fragments: bool,
}

pub(super) fn look(reader: &mut Reader<'_>, moov: Atom) -> Look<Index> {
    let children = boxes::children(reader, moov, moov.body)?;
    let announces_fragments = children.iter().any(|child| child.kind == *b"mvex");
    let mut last_byte = None;
    for track in children.into_iter().filter(|child| child.kind == *b"trak").take(MAX_TRACKS) {
        if reader.spent().reads < LATEST_READ {
            last_byte = last_byte.max(last_byte_of(reader, track)?);
        }
    }
    Ok(Index { last_byte, announces_fragments })
}

fn last_byte_of(reader: &mut Reader<'_>, track: Atom) -> Look<Option<u64>> {
    let Some(mdia) = boxes::child(reader, track, b"mdia")? else { return Ok(None) };
    let Some(minf) = boxes::child(reader, mdia, b"minf")? else { return Ok(None) };
    let inside = boxes::children(reader, minf, minf.body)?;
    let of = |boxes: &[Atom], kind: &[u8; 4]| boxes.iter().find(|it| it.kind == *kind).copied();
    let (Some(dinf), Some(stbl)) = (of(&inside, b"dinf"), of(&inside, b"stbl")) else { return Ok(None) };
    if !is_in_this_file(reader, dinf)? {
        return Ok(None);
    }
    let tables = boxes::children(reader, stbl, stbl.body)?;
    let chunk = match (of(&tables, b"stco"), of(&tables, b"co64")) {
        (Some(stco), _) => last_entry::<4>(reader, stco)?.map(|entry| u32::from_be_bytes(entry).into()),
        (None, Some(co64)) => last_entry::<8>(reader, co64)?.map(u64::from_be_bytes),
        (None, None) => None,
    };
    let Some(chunk) = chunk else { return Ok(None) };
    let bytes = match (of(&tables, b"stsc"), of(&tables, b"stsz")) {
        (Some(stsc), Some(stsz)) => last_chunk_bytes(reader, stsc, stsz)?,
        _ => 0,
    };
    Ok(Some(chunk.saturating_add(bytes)))
}

/// Whether the media is in the same file: a data reference says so by its first flag (8.7.2), and offsets into another file
/// prove nothing about this one.
fn is_in_this_file(reader: &mut Reader<'_>, dinf: Atom) -> Look<bool> {
    let Some(dref) = boxes::child(reader, dinf, b"dref")? else { return Ok(false) };
    let entries = boxes::children(reader, dref, dref.body.saturating_add(TABLE_HEADER))?;
    let mut all = !entries.is_empty();
    for entry in entries.into_iter().take(MAX_TRACKS) {
        all &= reader.take::<4>(entry.body)?.is_some_and(|flags| flags[3] & 1 == 1);
    }
    Ok(all)
}

/// The last entry of a table whose entries have `N` bytes.
fn last_entry<const N: usize>(reader: &mut Reader<'_>, table: Atom) -> Look<Option<[u8; N]>> {
    let count = reader.take::<8>(table.body)?.and_then(|head| be32(&head, 4)).unwrap_or(0);
    let Some(before) = u64::from(count).checked_sub(1) else { return Ok(None) };
    let at = table.body.saturating_add(TABLE_HEADER).saturating_add(before.saturating_mul(N as u64));
    if at.saturating_add(N as u64) > table.end {
        return Ok(None);
    }
    reader.take::<N>(at)
}

/// Bytes in the last chunk, at least: the samples that the last entry of `stsc` puts into it, by their sizes in `stsz`.
fn last_chunk_bytes(reader: &mut Reader<'_>, stsc: Atom, stsz: Atom) -> Look<u64> {
    let samples = last_entry::<12>(reader, stsc)?.and_then(|entry| be32(&entry, 4)).unwrap_or(0);
    let head = reader.take::<12>(stsz.body)?.unwrap_or_default();
    let (same, count) = (be32(&head, 4).unwrap_or(0), be32(&head, 8).unwrap_or(0));
    if same > 0 {
        return Ok(u64::from(samples.min(count)) * u64::from(same));
    }
    let Some(before) = count.checked_sub(samples).filter(|_| samples <= MAX_SAMPLES) else { return Ok(0) };
    let at = stsz.body.saturating_add(12).saturating_add(u64::from(before) * 4);
    if at.saturating_add(u64::from(samples) * 4) > stsz.end {
        return Ok(0);
    }
    let sizes = reader.view(at, samples as usize * 4)?;
    Ok(sizes.chunks_exact(4).filter_map(|size| be32(size, 0)).map(u64::from).sum())
}
