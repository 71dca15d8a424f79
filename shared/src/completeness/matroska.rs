//! Matroska and WebM (RFC 9559). Used by [`super::judge`].
//!
//! A segment with a size says where it ends, and its `SeekHead` where its `Cues` are. A live stream has a segment without
//! size: `Cues` up to the end of the file still prove it whole, an element beyond the end proves it cut, and otherwise it may
//! have stopped behind any cluster and stays unknown. It never reads a block.

use super::Verdict;
use super::ebml::{self, Element, Next, Row, number};
use super::field::find;
use super::reader::{Look, Reader};
use super::report::{Report, digits};

/// Elements between the EBML header and the segment: fillers and checksums.
const MAX_ELEMENTS_BEFORE_SEGMENT: usize = 8;
/// Elements at the start of a segment among which a `SeekHead` is looked for.
const MAX_FIRST_ELEMENTS: usize = 8;
/// Entries of a `SeekHead` that are read, and parts of an entry.
const MAX_SEEKS: usize = 64;
/// `SeekHead`s that are followed: some writers put a second one behind the media.
const MAX_SEEK_HEADS: u32 = 2;
/// The walk from the head of a live stream ends at this many reads, the one from its `Cues` and the one in its tail later.
const HEAD_READS: u32 = 24;
const CUES_READS: u32 = 40;
const TAIL_READS: u32 = 56;
/// Bytes at the end of a live stream in which its last cluster is looked for.
const TAIL_BYTES: usize = 256 * 1024;

pub(super) fn judge(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Verdict> {
    let Some(segment) = segment(reader, start, report)? else { return Ok(Verdict::Truncated) };
    if segment.id != ebml::SEGMENT {
        report.say(format!("There is no segment behind the EBML header; an element {:#x} is there.", segment.id));
        return Ok(Verdict::Unknown);
    }
    let cues = cues(reader, segment, segment.body, MAX_SEEK_HEADS)?;
    match segment.end {
        Some(end) => judge_sized(reader, end, cues, report),
        None => judge_live(reader, segment, cues, report),
    }
}

/// The first element behind the EBML header that is no filler. Nothing if the file ends before.
fn segment(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Option<Element>> {
    let mut at = start;
    for _ in 0..MAX_ELEMENTS_BEFORE_SEGMENT {
        match ebml::read(reader, at)? {
            Next::Element(Element { id: ebml::EBML | 0xec | 0xbf, end: Some(end), .. }) => at = end,
            Next::Element(element) => return Ok(Some(element)),
            Next::Cut => break,
            Next::Nothing => return Ok(Some(Element { id: 0, body: at, end: None })),
        }
    }
    report.say("The file ends before its segment begins.".into());
    Ok(None)
}

fn judge_sized(reader: &mut Reader<'_>, end: u64, cues: Option<u64>, report: &mut Report) -> Look<Verdict> {
    let verdict = report.closes("The segment", end);
    let Some(at) = cues.filter(|_| verdict == Verdict::Complete) else { return Ok(verdict) };
    match ebml::read(reader, at)? {
        Next::Element(Element { id: ebml::CUES, end: Some(cues_end), .. }) if cues_end <= end => {
            report.say(format!("Its index 'Cues' is at {}, where the 'SeekHead' says.", digits(at)));
            Ok(Verdict::Complete)
        }
        _ => {
            report.say(format!("Its index 'Cues' is not at {}, where the 'SeekHead' says.", digits(at)));
            Ok(Verdict::Unknown)
        }
    }
}

fn judge_live(reader: &mut Reader<'_>, segment: Element, cues: Option<u64>, report: &mut Report) -> Look<Verdict> {
    report.say("The segment has no size: the file was streamed, is still written or was never finished.".into());
    if let Some(at) = cues {
        if at >= reader.len() {
            return Ok(report.closes("The index 'Cues'", at.saturating_add(1)));
        }
        if let Next::Element(Element { id: ebml::CUES, .. }) = ebml::read(reader, at)? {
            return Ok(match ebml::walk(reader, at, CUES_READS)? {
                Row::Exact => report.closes("The last element behind the index 'Cues'", reader.len()),
                row => judge_row(&row, report),
            });
        }
    }
    match ebml::walk(reader, segment.body, HEAD_READS)? {
        Row::Far(at) => {
            report.say(format!("The elements up to {} are whole.", digits(at)));
            judge_tail(reader, report)
        }
        row => Ok(judge_row(&row, report)),
    }
}

/// Looks for the last cluster of a live stream that is too long to walk.
fn judge_tail(reader: &mut Reader<'_>, report: &mut Report) -> Look<Verdict> {
    let (tail_at, tail) = reader.tail(TAIL_BYTES)?;
    // a cluster, and in it the element that has to come first
    let clusters: Vec<u64> = tail
        .windows(4)
        .zip(tail_at..)
        .filter(|(id, _)| number(id) == u64::from(ebml::CLUSTER))
        .map(|(_, at)| at)
        .take(MAX_SEEKS)
        .collect();
    for at in clusters {
        let Next::Element(cluster) = ebml::read(reader, at)? else { continue };
        let timestamp = reader.view(cluster.body, 8)?;
        if find(timestamp, &[0xe7]).is_none_or(|place| place > 6) {
            continue;
        }
        report.say(format!("A cluster begins at {}.", digits(at)));
        return Ok(judge_row(&ebml::walk(reader, at, TAIL_READS)?, report));
    }
    report.say("No cluster begins near the end of the file.".into());
    Ok(Verdict::Unknown)
}

fn judge_row(row: &Row, report: &mut Report) -> Verdict {
    match row {
        Row::Exact => {
            report
                .say("The file ends with an element, and nothing in it says whether another one should follow.".into());
            Verdict::Unknown
        }
        Row::Beyond(at, Some(end)) => report.closes(&format!("The element at {}", digits(*at)), *end),
        Row::Beyond(at, None) => {
            report.say(format!("The file ends inside of the header of an element at {}.", digits(*at)));
            Verdict::Truncated
        }
        Row::Broken(at) => {
            report.say(format!("At {} is no element of a segment.", digits(*at)));
            Verdict::Unknown
        }
        Row::Far(at) => {
            report.say(format!("The elements up to {} are whole; more follow than were looked at.", digits(*at)));
            Verdict::Unknown
        }
    }
}

/// Where the `SeekHead` at the start of the segment, or one that it points at, says the `Cues` are.
fn cues(reader: &mut Reader<'_>, segment: Element, from: u64, seek_heads: u32) -> Look<Option<u64>> {
    let mut at = from;
    for _ in 0..MAX_FIRST_ELEMENTS {
        let Next::Element(Element { id, body, end: Some(end) }) = ebml::read(reader, at)? else { break };
        if id == ebml::CLUSTER {
            break;
        }
        if id != ebml::SEEK_HEAD {
            at = end;
            continue;
        }
        let (cues, other) = seeks(reader, body, end)?;
        let absolute = |position: u64| segment.body.saturating_add(position);
        return match (cues, other) {
            (Some(cues), _) => Ok(Some(absolute(cues))),
            // each step leaves one less, so that heads which point at each other end
            (None, Some(other)) if seek_heads > 1 => self::cues(reader, segment, absolute(other), seek_heads - 1),
            (None, _) => Ok(None),
        };
    }
    Ok(None)
}

/// The positions of `Cues` and of another `SeekHead` among the entries of one.
fn seeks(reader: &mut Reader<'_>, body: u64, end: u64) -> Look<(Option<u64>, Option<u64>)> {
    let (mut cues, mut other, mut named) = (None, None, None);
    let mut at = body;
    for _ in 0..MAX_SEEKS {
        let Next::Element(part) = ebml::read(reader, at)? else { break };
        let Some(part_end) = part.end.filter(|part_end| at < end && *part_end <= end) else { break };
        let size = usize::try_from(part_end - part.body).unwrap_or(usize::MAX).min(8);
        let value = number(reader.view(part.body, size)?);
        match (part.id, named) {
            (ebml::SEEK_ID, _) => named = u32::try_from(value).ok(),
            (ebml::SEEK_POSITION, Some(ebml::CUES)) => cues = Some(value),
            (ebml::SEEK_POSITION, Some(ebml::SEEK_HEAD)) => other = Some(value),
            _ => {}
        }
        // an entry is entered, its parts are passed
        at = if part.id == ebml::SEEK { part.body } else { part_end };
    }
    Ok((cues, other))
}
