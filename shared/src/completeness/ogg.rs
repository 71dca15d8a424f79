//! Ogg (RFC 3533): the pages near the end of the file. Used by [`super::judge`].
//!
//! The last page of every logical stream carries a mark. A page that is longer than the file proves a cut; pages that end
//! with the file, but without the mark, prove nothing, because many recordings of live streams end like this.

use std::collections::BTreeMap;

use super::Verdict;
use super::field::{array, find};
use super::reader::{Look, Reader};
use super::report::{Report, digits};

/// Bytes at the end in which pages are looked for: two of the longest.
const TAIL_BYTES: usize = 2 * 65_307;
/// Bytes of a page's header before its table of segments.
const HEADER_BYTES: usize = 27;
/// How a page begins: the mark and version 0.
const PAGE: &[u8] = b"OggS\0";
/// The flag of the last page of a stream.
const LAST: u8 = 4;
/// Places in the tail from which a row of pages is tried. The first is nearly always right.
const MAX_TRIES: usize = 64;

/// A row of pages and how it ends.
struct Row {
    /// Streams of which a page was seen, and whether their latest was marked as the last.
    streams: BTreeMap<u32, bool>,
    /// Where the row stops in the tail, behind its last whole page.
    stop: usize,
    /// The page at `stop` is cut; where it ends, if its header is whole.
    cut: Option<Option<usize>>,
}

pub(super) fn judge(reader: &mut Reader<'_>, _: u64, report: &mut Report) -> Look<Verdict> {
    let (tail_at, tail) = reader.tail(TAIL_BYTES)?;
    let Some((first, row)) = row_to_the_end(tail) else {
        report.say("No page begins near the end of the file.".into());
        return Ok(Verdict::Unknown);
    };
    let place = |inside: usize| tail_at.saturating_add(inside as u64);
    let (stop, streams) = (place(row.stop), row.streams);
    if row.stop > first {
        report.say(format!("The pages from {} to {} are whole.", digits(place(first)), digits(stop)));
    }
    match row.cut {
        Some(Some(end)) => return Ok(report.closes(&format!("The page at {}", digits(stop)), place(end))),
        Some(None) => {
            report.say(format!("The file ends inside of the header of the page at {}.", digits(stop)));
            return Ok(Verdict::Truncated);
        }
        None => {}
    }
    let over = streams.values().filter(|last| **last).count();
    report
        .say(format!("Of {} streams seen there, {over} end with a page that is marked as their last.", streams.len()));
    if over == streams.len() && over > 0 {
        return Ok(report.closes("The last page", stop));
    }
    report.trails(stop);
    Ok(Verdict::Unknown)
}

/// The first row of pages that reaches the end of the tail, else the first row that has a whole page.
fn row_to_the_end(tail: &[u8]) -> Option<(usize, Row)> {
    let mut best: Option<(usize, Row)> = None;
    let mut from = 0;
    for _ in 0..MAX_TRIES {
        let Some(place) = find(tail.get(from..)?, PAGE) else { break };
        let at = from + place;
        let row = row(tail, at);
        if row.cut.is_some() || row.stop == tail.len() {
            return Some((at, row));
        }
        // behind a row, not inside of it
        from = row.stop.max(at + 1);
        if row.stop > at {
            best = Some((at, row));
        }
    }
    best
}

fn row(tail: &[u8], from: usize) -> Row {
    let mut row = Row { streams: BTreeMap::new(), stop: from, cut: None };
    while row.stop < tail.len() {
        let rest = &tail[row.stop..];
        if !rest.starts_with(&PAGE[..rest.len().min(PAGE.len())]) {
            break;
        }
        let segments =
            rest.get(HEADER_BYTES - 1).and_then(|count| rest.get(HEADER_BYTES..HEADER_BYTES + usize::from(*count)));
        let (Some(segments), Some(serial)) = (segments, array(rest, 14).map(u32::from_le_bytes)) else {
            row.cut = Some(None);
            break;
        };
        let bytes = HEADER_BYTES + segments.len() + segments.iter().map(|segment| usize::from(*segment)).sum::<usize>();
        if bytes > rest.len() {
            row.cut = Some(Some(row.stop + bytes));
            break;
        }
        row.streams.insert(serial, rest[5] & LAST != 0);
        row.stop += bytes;
    }
    row
}

#[cfg(test)]
mod tests {
    use super::super::memory::judged;
    use super::super::{Completeness, Verdict};

    fn page(flags: u8, serial: u8, content: u8) -> Vec<u8> {
        let head = [&b"OggS\0"[..], &[flags], &[0; 8], &[serial, 0, 0, 0], &[0; 8], &[1, content]].concat();
        [head, vec![7; content.into()]].concat()
    }

    fn says(pages: &[Vec<u8>], cut: usize) -> Completeness {
        let mut file = pages.concat();
        file.truncate(file.len() - cut);
        judged(&file)
    }

    #[test]
    fn every_stream_needs_its_last_page() {
        let start = [page(2, 1, 30), page(2, 2, 30), page(0, 1, 200)];
        let end = |flags: [u8; 2]| [&start[..], &[page(flags[0], 1, 200), page(flags[1], 2, 99)]].concat();
        assert_eq!(says(&end([4, 4]), 0).verdict, Verdict::Complete);
        assert_eq!(says(&end([4, 0]), 0).verdict, Verdict::Unknown);
        for cut in [1, 99, 100, 101, 125, 126] {
            assert_eq!(says(&end([4, 4]), cut).verdict, Verdict::Truncated, "{cut}");
        }
        assert_eq!(says(&end([4, 4]), 127).verdict, Verdict::Unknown, "between two pages");
        let followed = says(&[&end([4, 4])[..], &[vec![9; 50]]].concat(), 0);
        assert_eq!((followed.verdict, followed.trailing_bytes), (Verdict::Complete, Some(50)));
    }
}
