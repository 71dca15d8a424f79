//! MPEG audio, layers I to III (ISO/IEC 11172-3, 13818-3). Used by [`super::judge`].
//!
//! The first frame of most files counts the bytes (Xing, Info, VBRI). Without it the frames near the end tell at most that the
//! last one is cut. It decodes nothing; tags at the end are told apart from sound.

use super::Verdict;
use super::field::{be32, le32};
use super::reader::{Look, Reader};
use super::report::{Report, bytes, digits};

/// Bytes of an ID3v1 tag.
pub(super) const ID3V1_BYTES: usize = 128;
/// Bytes of the footer of an APE tag, and of its header if it has one.
const APE_FOOTER_BYTES: usize = 32;
/// Bytes near the end in which a row of frames is looked for, and the frames that make a row.
const TAIL_BYTES: usize = 32 * 1024;
const ROW_FRAMES: usize = 4;
/// Kilobits per second by index, for layers I, II and III of MPEG-1, then layer I and layers II and III of MPEG-2.
const BIT_RATES: [[u64; 14]; 5] = [
    [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];
/// Samples per second of MPEG-1 by index; the later versions halve and quarter them.
const SAMPLE_RATES: [u64; 3] = [44_100, 48_000, 32_000];

/// The header of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Frame {
    /// Bytes of the frame.
    bytes: usize,
    /// Bytes between its header and the place of a Xing header.
    side: usize,
    /// Version, layer and sample rate, which stay the same in a file.
    kind: [u8; 2],
}

/// Whether these bytes begin with a frame, and another one follows it as far as they go.
pub(super) fn begins(head: &[u8]) -> bool {
    frame(head).is_some_and(|first| match head.get(first.bytes..first.bytes + 4) {
        Some(next) => frame(next).is_some_and(|next| next.kind == first.kind),
        None => true,
    })
}

pub(super) fn judge(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Verdict> {
    let tags = tags_at_end(reader)?;
    let len = reader.len();
    let sound_end = len.saturating_sub(tags).max(start);
    let head = reader.view(start, super::HEAD_BYTES)?;
    let Some(first) = frame(head) else {
        report.say("No frame follows the tag at the start.".into());
        return Ok(Verdict::Unknown);
    };
    let Some((name, count)) = counted(head, first) else {
        return judge_row(reader, start, sound_end, report);
    };
    let end = start.saturating_add(count);
    let what = format!("The sound, by the bytes that the header '{name}' counts,");
    if end > sound_end {
        return Ok(report.closes(&what, end.saturating_add(tags)));
    }
    // some writers do not count the frame with the header itself
    let more = sound_end - end;
    if more <= first.bytes as u64 {
        report.expected = Some(len);
        report.say(format!("{what} ends at {}, with {} of tags behind it.", digits(sound_end), bytes(tags)));
        return Ok(Verdict::Complete);
    }
    Ok(report.closes(&what, end))
}

/// The byte count in the first frame, and the name of the header it stands in. Nothing if there is none.
fn counted(head: &[u8], first: Frame) -> Option<(&'static str, u64)> {
    let xing = 4 + first.side;
    let vbri = 4 + 32;
    let (name, count) = match (head.get(xing..xing + 4), head.get(vbri..vbri + 4)) {
        (Some(b"Xing" | b"Info"), _) => {
            let flags = be32(head, xing + 4)?;
            let frames = if flags & 1 == 0 { 0 } else { 4 };
            ("Xing", be32(head, xing + 8 + frames).filter(|_| flags & 2 != 0)?)
        }
        (_, Some(b"VBRI")) => ("VBRI", be32(head, vbri + 10)?),
        _ => return None,
    };
    (count > 0).then_some((name, count.into()))
}

/// The verdict without a count: a row of frames near the end that the file ends in.
fn judge_row(reader: &mut Reader<'_>, start: u64, sound_end: u64, report: &mut Report) -> Look<Verdict> {
    report.say("The first frame does not count the bytes.".into());
    let at = start.max(sound_end.saturating_sub(TAIL_BYTES as u64));
    let wanted = usize::try_from(sound_end.saturating_sub(at)).unwrap_or(0).min(TAIL_BYTES);
    let tail = reader.view(at, wanted)?;
    let Some((frames, stop, cut)) = (0..tail.len()).map(|from| row(tail, from)).find(|row| row.0 >= ROW_FRAMES) else {
        report.say("No row of frames is found near the end of the file.".into());
        return Ok(Verdict::Unknown);
    };
    let stop = at.saturating_add(stop as u64);
    report.say(format!("{frames} frames in a row end at {}.", digits(stop)));
    match cut {
        Some(end) if sound_end == reader.len() => {
            Ok(report.closes("The frame behind them", at.saturating_add(end as u64)))
        }
        _ if stop == sound_end => {
            report.say("Nothing in the file says whether another one should follow.".into());
            Ok(Verdict::Unknown)
        }
        _ => {
            report.say("Behind them is something else.".into());
            Ok(Verdict::Unknown)
        }
    }
}

/// Frames of one kind in a row: how many, where they stop, and where the next one would end if it is cut.
fn row(tail: &[u8], from: usize) -> (usize, usize, Option<usize>) {
    let (mut count, mut stop, mut kind) = (0, from, None);
    while let Some(next) = tail.get(stop..).and_then(frame).filter(|next| kind.is_none_or(|kind| kind == next.kind)) {
        if stop + next.bytes > tail.len() {
            return (count, stop, Some(stop + next.bytes));
        }
        count += 1;
        stop += next.bytes;
        kind = Some(next.kind);
    }
    (count, stop, None)
}

fn frame(head: &[u8]) -> Option<Frame> {
    let [0xff, second, third, fourth] = *head.first_chunk::<4>()? else { return None };
    let (version, layer) = (second >> 3 & 3, second >> 1 & 3);
    let (rate, sampling) = (usize::from(third >> 4), usize::from(third >> 2 & 3));
    if second & 0xe0 != 0xe0 || version == 1 || layer == 0 {
        return None;
    }
    let first = version == 3;
    let table = match (first, layer) {
        (true, 3) => 0,
        (true, 2) => 1,
        (true, _) => 2,
        (false, 3) => 3,
        (false, _) => 4,
    };
    let bits = BIT_RATES[table].get(rate.checked_sub(1)?)? * 1000;
    let samples_per_second = SAMPLE_RATES.get(sampling)? >> [2, 0, 1, 0][usize::from(version)];
    let padding = u64::from(third >> 1 & 1);
    let bytes = match (layer, first) {
        (3, _) => (12 * bits / samples_per_second + padding) * 4,
        (1, false) => 72 * bits / samples_per_second + padding,
        _ => 144 * bits / samples_per_second + padding,
    };
    let mono = fourth >> 6 == 3;
    let side = match (first, mono) {
        (true, false) => 32,
        (true, true) | (false, false) => 17,
        (false, true) => 9,
    };
    Some(Frame { bytes: usize::try_from(bytes).ok()?, side, kind: [second & 0xfe, third & 0x0c] })
}

/// Bytes of the ID3v1 and APE tags at the end.
fn tags_at_end(reader: &mut Reader<'_>) -> Look<u64> {
    let (_, tail) = reader.tail(ID3V1_BYTES + APE_FOOTER_BYTES)?;
    let id3 = tail.len().checked_sub(ID3V1_BYTES).filter(|tag| tail[*tag..].starts_with(b"TAG"));
    let rest = &tail[..id3.unwrap_or(tail.len())];
    let footer = rest.len().checked_sub(APE_FOOTER_BYTES).map_or(&[][..], |at| &rest[at..]);
    let mut tags = (tail.len() - rest.len()) as u64;
    if let (true, Some(size), Some(flags)) = (footer.starts_with(b"APETAGEX"), le32(footer, 12), le32(footer, 20)) {
        let header = if flags & 0x8000_0000 == 0 { 0 } else { APE_FOOTER_BYTES as u64 };
        tags += u64::from(size) + header;
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::memory::judged;

    /// MPEG-1 layer III, 128 kbit/s, 48 kHz: 384 bytes.
    fn frames(count: usize) -> Vec<u8> {
        let frame = [&[0xff, 0xfb, 0x94, 0x44][..], &[0x55; 380]].concat();
        frame.repeat(count)
    }

    #[test]
    fn the_count_decides() {
        let mut file = frames(10);
        file[36..48].copy_from_slice(b"Xing\0\0\0\x02\0\0\x0f\0");
        for (len, verdict) in [(3840, Verdict::Complete), (3839, Verdict::Truncated), (400, Verdict::Truncated)] {
            assert_eq!(judged(&file[..len]).verdict, verdict, "{len}");
        }
        let tag = [&b"TAG"[..], &[0; 125]].concat();
        assert_eq!(judged(&[file.clone(), tag.clone()].concat()).verdict, Verdict::Complete);
        let cut = judged(&[&file[..3000], &tag].concat());
        assert_eq!((cut.verdict, cut.expected_bytes), (Verdict::Truncated, Some(3840 + 128)));
        let trailing = judged(&[file, vec![0; 1000]].concat());
        assert_eq!((trailing.verdict, trailing.trailing_bytes), (Verdict::Complete, Some(1000)));
    }

    #[test]
    fn without_a_count_the_last_frame_tells_a_cut() {
        let file = frames(10);
        assert_eq!(judged(&file).verdict, Verdict::Unknown);
        let cut = judged(&file[..3839]);
        assert_eq!((cut.verdict, cut.expected_bytes), (Verdict::Truncated, Some(3840)), "{:?}", cut.evidence);
        assert_eq!(judged(&[file, b"some notes".to_vec()].concat()).verdict, Verdict::Unknown);
    }
}
