//! What fragmented files say about their end: the segment index `sidx` at the head, and the random access index `mfra` that
//! some writers put last. Used by the walk over the top level, the tail also for files with too many boxes to walk.
//! No fragment is opened.

use super::super::Verdict;
use super::super::field::{be16, be32, be64};
use super::super::reader::{Look, Reader};
use super::super::report::{Report, digits};
use super::boxes::{self, Atom};

/// References of a segment index that are added up; at two seconds each, an hour and a half. A longer index says nothing.
const MAX_REFERENCES: u16 = 2700;
/// Streams whose segment indexes are told apart.
const MAX_STREAMS: usize = 16;
/// Bytes of the box `mfro`, which ends `mfra` and the file.
const RANDOM_ACCESS_OFFSET_BYTES: u64 = 16;
/// Boxes looked at behind the last fragment that the random access index names.
const MAX_LAST_BOXES: usize = 16;

/// The segment indexes met so far.
#[derive(Default)]
pub(super) struct Segments {
    /// The streams that have an index.
    streams: Vec<u32>,
    /// Whether one stream has several, one for each segment, or there are too many streams.
    repeated: bool,
    /// Segments in the shortest index.
    references: Option<u16>,
    end: Option<u64>,
}

impl Segments {
    /// Takes in a `sidx` box (ISO/IEC 14496-12, 8.16.3).
    pub(super) fn note(&mut self, reader: &mut Reader<'_>, sidx: Atom) -> Look<()> {
        let head = reader.view(sidx.body, 32)?;
        match be32(head, 4) {
            Some(stream) if !self.streams.contains(&stream) && self.streams.len() < MAX_STREAMS => {
                self.streams.push(stream);
            }
            _ => self.repeated = true,
        }
        let (first, list) = match head.first() {
            Some(0) => (be32(head, 16).map(u64::from), 20),
            Some(1) => (be64(head, 20), 28),
            _ => return Ok(()),
        };
        let (Some(first), Some(count)) = (first, be16(head, list + 2)) else { return Ok(()) };
        let list = sidx.body.saturating_add(list as u64 + 4);
        if count > MAX_REFERENCES || list.saturating_add(u64::from(count) * 12) > sidx.end {
            return Ok(());
        }
        let references = reader.view(list, usize::from(count) * 12)?;
        let sizes =
            references.chunks_exact(12).filter_map(|one| be32(one, 0)).map(|size| u64::from(size & 0x7fff_ffff));
        let end = sidx.end.saturating_add(first).saturating_add(sizes.sum());
        self.references = Some(self.references.map_or(count, |least| least.min(count)));
        self.end = self.end.max(Some(end));
        Ok(())
    }

    /// Where the last segment ends that an index names.
    pub(super) fn expected(&self) -> Option<u64> {
        self.end
    }

    /// Whether the file must end here. One index per stream lists all segments of a file, or all of a media segment in a file
    /// without `moov`; where every segment has its own, none says whether another one follows.
    pub(super) fn covers(&self, end: u64, alone: bool) -> bool {
        let several = self.references.is_some_and(|least| least > 1);
        !self.repeated && (alone || several) && self.end == Some(end)
    }
}

/// The verdict on a file with more boxes than were walked, from the random access index at its end.
pub(super) fn judge_tail(reader: &mut Reader<'_>, report: &mut Report) -> Look<Verdict> {
    let Some(mfra) = random_access(reader)? else {
        report.say("There are more boxes than were looked at, and no random access index 'mfra' at the end.".into());
        return Ok(Verdict::Unknown);
    };
    report.say(format!("The random access index 'mfra', which is written last, is at {}.", digits(mfra.start)));
    let verdict = report.closes("The index", mfra.end);
    let Some(fragment) = last_fragment(reader, mfra)? else { return Ok(verdict) };
    let mut at = fragment;
    for place in 0..MAX_LAST_BOXES {
        match boxes::read(reader, at)? {
            Some(it) if (place > 0 || it.kind == *b"moof") && it.end <= mfra.start => at = it.end,
            _ => {
                report.say(format!("The fragment that it names at {} is not there: the file is damaged.", digits(at)));
                return Ok(Verdict::Unknown);
            }
        }
        if at == mfra.start {
            report.say(format!("The last fragment that it names, at {}, reaches up to it.", digits(fragment)));
            break;
        }
    }
    Ok(verdict)
}

/// The `mfra` box, if it ends the file (8.8.11).
fn random_access(reader: &mut Reader<'_>) -> Look<Option<Atom>> {
    let len = reader.len();
    let (_, tail) = reader.tail(RANDOM_ACCESS_OFFSET_BYTES as usize)?;
    let size = be32(tail, 12).filter(|_| tail.get(4..8) == Some(b"mfro"));
    let Some(start) = size.and_then(|size| len.checked_sub(size.into())) else { return Ok(None) };
    Ok(boxes::read(reader, start)?.filter(|it| it.kind == *b"mfra" && it.end == len))
}

/// Where the last fragment begins that the first table of the index names (8.8.10).
fn last_fragment(reader: &mut Reader<'_>, mfra: Atom) -> Look<Option<u64>> {
    let Some(tfra) = boxes::child(reader, mfra, b"tfra")? else { return Ok(None) };
    let Some(head) = reader.take::<16>(tfra.body)? else { return Ok(None) };
    let (Some(lengths), Some(count)) = (be32(&head, 8), be32(&head, 12)) else { return Ok(None) };
    let word: u64 = if head[0] == 1 { 8 } else { 4 };
    let numbers: u64 = (0..3).map(|place| u64::from(lengths >> (2 * place) & 3) + 1).sum();
    let entry = 2 * word + numbers;
    let Some(before) = u64::from(count).checked_sub(1) else { return Ok(None) };
    let at = tfra.body.saturating_add(16).saturating_add(before * entry);
    if at.saturating_add(entry) > tfra.end {
        return Ok(None);
    }
    let entry = reader.view(at, 2 * word as usize)?;
    Ok(if word == 8 { be64(entry, 8) } else { be32(entry, 4).map(u64::from) })
}
