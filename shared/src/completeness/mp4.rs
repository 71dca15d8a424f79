//! MP4, QuickTime and their kin: the walk over the top-level boxes (ISO/IEC 14496-12) and what it proves.
//!
//! Used by [`super::judge`]. A file is complete when its boxes end with it, the index is there and the last chunk of each
//! track is inside. A fragmented file may stop behind any fragment and look fine, so it is complete only where a random access
//! index at its end or a segment index at its head says where the end is. It never reads media and no table as a whole.

mod boxes;
mod fragments;
mod index;

#[cfg(test)]
mod tests;

use super::Verdict;
use super::reader::{Look, Reader};
use super::report::{Report, bytes, digits, name};
use boxes::Atom;
use fragments::Segments;

/// Reads of the walk from the head. A file with more boxes than these show is sampled at its tail.
const HEAD_READS: u32 = 24;
/// Bytes behind the last box that are looked at, to tell zeros from anything else.
const REST_BYTES: usize = 1024;
/// Boxes that stand at the top level. A size beyond the end of the file is believed of these only.
const TOP_LEVEL: [&[u8; 4]; 22] = [
    b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"ssix", b"meta", b"free", b"skip", b"wide",
    b"uuid", b"pnot", b"PICT", b"udta", b"pdin", b"meco", b"emsg", b"prft", b"imda", b"junk",
];

/// Boxes that stand before the media of a fragment, so that none of them ends a file.
const ANNOUNCING: [&[u8; 4]; 5] = [b"moof", b"styp", b"sidx", b"prft", b"emsg"];

/// What the walk has met.
#[derive(Default)]
struct Met {
    moov: Option<Atom>,
    /// The first one.
    mdat: Option<Atom>,
    /// Whether the last one runs to the end of the file.
    open_media: bool,
    meta: bool,
    moof: bool,
    random_access: bool,
    /// The last box, if it announces a fragment that should follow.
    announced: Option<Atom>,
    segments: Segments,
}

/// How the walk ended.
enum End {
    /// A box ends where the file ends.
    Exact,
    /// This box is longer than the file.
    Beyond(Atom),
    /// From here on there are no boxes.
    NoBox(u64),
    /// The walk was long enough; the next box would have been here.
    Far(u64),
}

pub(super) fn judge(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Verdict> {
    let mut met = Met::default();
    let end = walk(reader, start, &mut met)?;
    let found = match met.moov {
        Some(moov) if moov.end <= reader.len() => Some(index::look(reader, moov)?),
        _ => None,
    };
    report.faststart = met.moov.zip(met.mdat).map(|(moov, mdat)| moov.start < mdat.start);
    let fragmented = met.moof || found.as_ref().is_some_and(|index| index.announces_fragments);
    report.fragmented = (fragmented || met.moov.is_some()).then_some(fragmented);
    let last_byte = found.and_then(|index| index.last_byte);
    match end {
        End::Exact => {
            let len = reader.len();
            Ok(judge_whole_boxes(&met, last_byte, len, report))
        }
        End::Beyond(last) => Ok(report.closes(&says(&last), last.end)),
        End::NoBox(at) => judge_rest(reader, &met, last_byte, at, report),
        End::Far(at) => {
            report.say(format!("The boxes up to {} are whole.", digits(at)));
            fragments::judge_tail(reader, report)
        }
    }
}

fn says(it: &Atom) -> String {
    format!("The box {} at {}", name(it.kind), digits(it.start))
}

fn walk(reader: &mut Reader<'_>, start: u64, met: &mut Met) -> Look<End> {
    let len = reader.len();
    let mut at = start;
    while at < len {
        if reader.spent().reads >= HEAD_READS {
            return Ok(End::Far(at));
        }
        let Some(next) = boxes::read(reader, at)? else { return Ok(End::NoBox(at)) };
        let known = TOP_LEVEL.contains(&&next.kind);
        if !known && (next.end > len || next.open) {
            return Ok(End::NoBox(at));
        }
        met.note(reader, next)?;
        if next.end > len {
            return Ok(End::Beyond(next));
        }
        at = next.end;
    }
    Ok(End::Exact)
}

impl Met {
    fn note(&mut self, reader: &mut Reader<'_>, next: Atom) -> Look<()> {
        self.announced = ANNOUNCING.contains(&&next.kind).then_some(next);
        match &next.kind {
            b"moov" => self.moov = self.moov.or(Some(next)),
            b"mdat" | b"imda" => {
                self.mdat = self.mdat.or(Some(next));
                self.open_media |= next.open;
            }
            b"moof" => self.moof = true,
            b"meta" => self.meta = true,
            b"mfra" => self.random_access = true,
            b"sidx" => self.segments.note(reader, next)?,
            _ => {}
        }
        Ok(())
    }
}

/// The verdict if the file ends where its last box ends, at `end`.
fn judge_whole_boxes(met: &Met, last_byte: Option<u64>, end: u64, report: &mut Report) -> Verdict {
    if let Some(last) = last_byte.filter(|last| *last > end) {
        return report.closes("The last chunk that the index names", last);
    }
    if met.moof || met.segments.expected().is_some() {
        return judge_fragments(met, end, report);
    }
    match (&met.moov, &met.mdat) {
        (None, Some(_)) if met.open_media => {
            report.say("The box 'mdat' has no size yet and no 'moov' follows: the file was never finished.".into());
            Verdict::Truncated
        }
        (None, Some(_)) if met.meta => report.closes("The last box of the image", end),
        (None, None) if met.meta => {
            report.say("There is a 'meta' box and no media data.".into());
            Verdict::Unknown
        }
        (None, _) => {
            report.say("There is no 'moov' box: the index is missing, and nothing can be played.".into());
            Verdict::Truncated
        }
        (Some(_), None) => {
            report.say("There is an index and no media data in the file.".into());
            Verdict::Unknown
        }
        (Some(_), Some(_)) if met.open_media && last_byte.is_none() => {
            report.say("The box 'mdat' runs to the end of the file and the index does not say where that is.".into());
            Verdict::Unknown
        }
        (Some(_), Some(_)) => {
            let last = last_byte.map(|last| format!(", and the last chunk of the index ends at {}", digits(last)));
            report.say(format!("Index and media are there{}.", last.unwrap_or_default()));
            report.closes("The last box", end)
        }
    }
}

fn judge_fragments(met: &Met, end: u64, report: &mut Report) -> Verdict {
    if let Some(promised) = met.segments.expected().filter(|promised| *promised > end) {
        return report.closes("The last segment that the box 'sidx' names", promised);
    }
    if let Some(last) = met.announced {
        report.say(format!("{} is the last one, and the fragment that it announces is missing.", says(&last)));
        return Verdict::Truncated;
    }
    if met.random_access {
        report.say("The random access index 'mfra', which is written last, is there.".into());
        return report.closes("The last box", end);
    }
    if met.segments.covers(end, met.moov.is_none()) {
        return report.closes("The last segment that the box 'sidx' names", end);
    }
    report.say("The file ends behind a fragment, and nothing in it says whether another one should follow.".into());
    Verdict::Unknown
}

/// The verdict if no box begins at `at`, although the file goes on.
fn judge_rest(
    reader: &mut Reader<'_>,
    met: &Met,
    last_byte: Option<u64>,
    at: u64,
    report: &mut Report,
) -> Look<Verdict> {
    let rest = reader.len().saturating_sub(at);
    let zeros = reader.view(at, REST_BYTES)?.iter().all(|byte| *byte == 0);
    if rest < boxes::HEADER_BYTES && met.moof && !met.random_access {
        report.say(format!("The box at {} has only {} of its header.", digits(at), bytes(rest)));
        return Ok(Verdict::Truncated);
    }
    let verdict = judge_whole_boxes(met, last_byte, at, report);
    if verdict == Verdict::Truncated && met.moov.is_none() && rest >= boxes::HEADER_BYTES {
        let (what, verdict) = if zeros { ("zeros", verdict) } else { ("something else", Verdict::Unknown) };
        report.say(format!("Where the next box should be, at {}, there is {what}.", digits(at)));
        return Ok(verdict);
    }
    if verdict == Verdict::Unknown {
        report.say(format!("The {} from {} on are no box.", bytes(rest), digits(at)));
    }
    Ok(verdict)
}
