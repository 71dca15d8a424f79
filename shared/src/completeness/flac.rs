//! FLAC (RFC 9639). Used by [`super::judge`].
//!
//! The header says how many samples there are, and every frame which samples it carries. So the last frame near the end of
//! the file tells whether samples are missing, and its check sum whether it is whole. It decodes nothing.

use std::collections::BTreeSet;

use super::Verdict;
use super::crc::{crc8, crc16};
use super::field::{array, be16, be24, be64};
use super::mp3::ID3V1_BYTES;
use super::reader::{Look, Reader};
use super::report::{Report, bytes, digits};

/// Bytes of the mark `fLaC`, and of a metadata block's header.
const MARK_BYTES: u64 = 4;
/// Metadata blocks that are passed.
const MAX_BLOCKS: usize = 64;
/// Bytes at the end in which the last frames are looked for: two of the longest, at least and at most this many.
const MIN_TAIL_BYTES: usize = 64 * 1024;
const MAX_TAIL_BYTES: usize = 256 * 1024;
/// Bytes of a frame's header, at most.
const MAX_HEADER_BYTES: usize = 16;

/// What the stream says of itself (8.2).
struct Stream {
    block_samples: u64,
    min_frame_bytes: usize,
    max_frame_bytes: usize,
    samples: u64,
}

/// A frame: where it begins in the tail, and which samples it carries.
#[derive(Clone, Copy)]
struct Frame {
    at: usize,
    first: u64,
    end: u64,
}

pub(super) fn judge(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Verdict> {
    let mut stream = None;
    let mut at = start.saturating_add(MARK_BYTES);
    for _ in 0..MAX_BLOCKS {
        let Some(head) = reader.take::<4>(at)? else {
            report.say("The file ends inside of its metadata.".into());
            return Ok(Verdict::Truncated);
        };
        let body = at.saturating_add(4);
        let end = body.saturating_add(be24(&head, 1).unwrap_or(0).into());
        if end > reader.len() {
            return Ok(report.closes(&format!("The metadata block at {}", digits(at)), end));
        }
        if head[0] & 0x7f == 0 && stream.is_none() {
            stream = stream_of(reader.view(body, 34)?);
        }
        at = end;
        if head[0] & 0x80 != 0 {
            break;
        }
    }
    match stream.filter(|stream| stream.samples > 0) {
        Some(stream) => judge_tail(reader, &stream, at, report),
        None => {
            report.say("The header does not say how many samples there are.".into());
            Ok(Verdict::Unknown)
        }
    }
}

fn stream_of(info: &[u8]) -> Option<Stream> {
    let frame_bytes = |place| be24(info, place).and_then(|bytes| usize::try_from(bytes).ok());
    Some(Stream {
        block_samples: be16(info, 0)?.into(),
        min_frame_bytes: frame_bytes(4)?,
        max_frame_bytes: frame_bytes(7)?,
        samples: be64(info, 10)? & 0xf_ffff_ffff,
    })
}

fn judge_tail(reader: &mut Reader<'_>, stream: &Stream, audio: u64, report: &mut Report) -> Look<Verdict> {
    let Some(sync) = reader.take::<2>(audio)? else {
        report.say(format!("The file ends before the first of {} samples.", digits(stream.samples)));
        return Ok(Verdict::Truncated);
    };
    let wanted = stream.max_frame_bytes.saturating_mul(2).clamp(MIN_TAIL_BYTES, MAX_TAIL_BYTES);
    let at = audio.max(reader.len().saturating_sub(wanted as u64));
    let tail = reader.view(at, wanted)?;
    let tagged = tail.len().checked_sub(ID3V1_BYTES).filter(|tag| tail[*tag..].starts_with(b"TAG"));
    let sound = &tail[..tagged.unwrap_or(tail.len())];
    let frames: Vec<Frame> = (0..sound.len()).filter_map(|at| frame(sound, at, sync, stream)).collect();
    if let Some(last) = frames.iter().rev().find(|frame| frame.end == stream.samples) {
        let rest = &sound[last.at..];
        let begins = digits(at.saturating_add(last.at as u64));
        report.say(format!("The last frame, with sample {}, begins at {begins}.", digits(stream.samples)));
        return Ok(judge_last(rest, stream, report));
    }
    // Two frames in a row are no accident of the bits of one.
    let ends: BTreeSet<u64> = frames.iter().map(|frame| frame.end).collect();
    let row = frames.iter().rev().find(|last| ends.contains(&last.first));
    match row {
        Some(last) => {
            let (end, samples) = (digits(last.end), digits(stream.samples));
            report.say(format!("The last frame ends with sample {end} of {samples}."));
            Ok(Verdict::Truncated)
        }
        None => {
            report.say("No frames are found near the end of the file.".into());
            Ok(Verdict::Unknown)
        }
    }
}

/// The verdict from the bytes of the frame that carries the last sample.
fn judge_last(rest: &[u8], stream: &Stream, report: &mut Report) -> Verdict {
    let mut sum = 0;
    let mut closed = None;
    for (place, byte) in (1..).zip(rest) {
        sum = crc16(sum, *byte);
        if sum == 0 && place >= stream.min_frame_bytes.max(MAX_HEADER_BYTES / 2) {
            closed = Some(place);
        }
    }
    match closed {
        Some(end) if end == rest.len() => {
            report.say("Its check sum is right.".into());
            Verdict::Complete
        }
        // The check sum of something shorter may be right by accident.
        Some(end) => {
            report.say(format!("It is cut, or {} that do not belong to it follow.", bytes((rest.len() - end) as u64)));
            Verdict::Unknown
        }
        None => {
            report.say("No check sum closes it before the file ends.".into());
            Verdict::Truncated
        }
    }
}

/// The frame whose header stands at a place (9.1), in the blocking strategy of the first frame.
fn frame(tail: &[u8], at: usize, sync: [u8; 2], stream: &Stream) -> Option<Frame> {
    let head = &tail[at..tail.len().min(at + MAX_HEADER_BYTES)];
    if !head.starts_with(&sync) || sync[0] != 0xff || sync[1] & 0xfe != 0xf8 {
        return None;
    }
    let codes = *head.get(2)?;
    let (number, number_bytes) = coded_number(head.get(4..)?)?;
    let behind = 4 + number_bytes;
    let (samples, size_bytes) = match codes >> 4 {
        0 => return None,
        1 => (192, 0),
        code @ 2..=5 => (576 << (code - 2), 0),
        6 => (u64::from(*head.get(behind)?) + 1, 1),
        7 => (u64::from(be16(head, behind)?) + 1, 2),
        code => (256 << (code - 8), 0),
    };
    let rate_bytes = match codes & 0x0f {
        12 => 1,
        13 | 14 => 2,
        15 => return None,
        _ => 0,
    };
    let header = head.get(..=behind + size_bytes + rate_bytes)?;
    if crc8(header) != 0 || array::<1>(head, 3)?[0] & 1 != 0 {
        return None;
    }
    let first = if sync[1] & 1 == 1 { number } else { number.checked_mul(stream.block_samples)? };
    let end = first.checked_add(samples).filter(|end| *end <= stream.samples)?;
    Some(Frame { at, first, end })
}

/// A number in the manner of UTF-8, of up to 36 bits, and how many bytes it has (9.1.5).
fn coded_number(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let count = match first.leading_ones() as usize {
        0 => return Some((first.into(), 1)),
        count @ 2..=7 => count,
        _ => return None,
    };
    let mut number = u64::from(first) & (0x7f >> count);
    for byte in bytes.get(1..count)? {
        if byte & 0xc0 != 0x80 {
            return None;
        }
        number = number << 6 | u64::from(byte & 0x3f);
    }
    Some((number, count))
}
