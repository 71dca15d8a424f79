//! MPEG transport streams with packets of 188, 192 (M2TS) or 204 bytes (ISO/IEC 13818-1). Used by [`super::judge`].
//!
//! A transport stream has no index and no end: it may be cut behind any packet and is then as good as before. So a whole
//! file is `unknown`, with what its packets and clock say as evidence, and only a cut packet is `truncated`.

use super::Verdict;
use super::reader::{Look, Reader};
use super::report::{Report, bytes, digits};

/// The first byte of every packet.
const SYNC: u8 = 0x47;
/// Bytes of the packet itself; longer ones have a time stamp before or a check sum behind it.
const PACKET_BYTES: usize = 188;
/// Packets at the head that have to begin with [`SYNC`], in a file that has as many.
const SYNC_PACKETS: usize = 5;
/// Packets looked at in head and tail each.
const SAMPLE_PACKETS: usize = 600;
/// Ticks per second of the clock's base and of time stamps, and how far they count.
const TICKS: u64 = 90_000;
const TICK_BITS: u32 = 33;

/// How the packets stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes from packet to packet.
    step: usize,
    /// Bytes before the sync byte.
    before: usize,
}

/// How the packets stand in a file with this head; nothing if it is no transport stream. At least three packets have to
/// be there, because one byte in each proves little.
pub(super) fn shape(head: &[u8]) -> Option<Shape> {
    let shapes = [(188, 0), (192, 4), (204, 0)].map(|(step, before)| Shape { step, before });
    shapes.into_iter().find(|shape| {
        let mut marks = head.iter().skip(shape.before).step_by(shape.step).take(SYNC_PACKETS);
        head.len() > shape.before + 2 * shape.step && marks.all(|byte| *byte == SYNC)
    })
}

/// A clock or time stamp: whose, and in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instant {
    pid: u16,
    ticks: u64,
}

pub(super) fn judge(reader: &mut Reader<'_>, start: u64, report: &mut Report) -> Look<Verdict> {
    let sample = |shape: Shape| SAMPLE_PACKETS * shape.step;
    let Some(shape) = shape(reader.view(start, super::HEAD_BYTES)?) else { return Ok(Verdict::Unknown) };
    let step = shape.step as u64;
    let whole = reader.len().saturating_sub(start) / step;
    let rest = reader.len().saturating_sub(start) % step;

    let head = reader.view(start, sample(shape))?;
    let first = instants(head, shape, clock).next().map(|first| (first, clock as fn(&[u8]) -> Option<Instant>));
    let first = first.or_else(|| instants(head, shape, time_stamp).next().map(|first| (first, time_stamp as _)));

    let tail_at = start.saturating_add(whole.saturating_sub(SAMPLE_PACKETS as u64) * step);
    let tail = reader.view(tail_at, sample(shape) + shape.step)?;
    let lost = tail.iter().skip(shape.before).step_by(shape.step).position(|byte| *byte != SYNC);
    let last = first.and_then(|(first, read)| instants(tail, shape, read).filter(|it| it.pid == first.pid).last());
    let zeros = lost.is_some_and(|lost| tail[lost * shape.step..].iter().all(|byte| *byte == 0));

    report.say(format!("The packets have {}.", bytes(step)));
    if let (Some((first, _)), Some(last)) = (first, last) {
        let lasts = last.ticks.wrapping_sub(first.ticks) & ((1 << TICK_BITS) - 1);
        let (pid, from, to) = (first.pid, seconds(first.ticks), seconds(last.ticks));
        report.say(format!("The clock of PID {pid:#x} goes from {from} to {to} seconds: {} seconds.", seconds(lasts)));
    }
    let end = start.saturating_add(whole * step);
    Ok(match lost.map(|lost| tail_at.saturating_add((lost * shape.step) as u64)) {
        Some(at) => {
            let what = if zeros { "only zeros follow" } else { "something else follows, or packets are damaged" };
            report.say(format!("The packets in the tail are whole up to {}; {what}.", digits(at)));
            report.trailing = (at >= end || zeros).then(|| reader.len().saturating_sub(at));
            Verdict::Unknown
        }
        None if rest > 0 => report.closes(&format!("The packet at {}", digits(end)), end.saturating_add(step)),
        None => {
            report.say(format!("The file ends with a packet, the last of {}.", digits(whole)));
            report.say("A transport stream has no end mark: nothing says whether more should follow.".into());
            Verdict::Unknown
        }
    })
}

fn seconds(ticks: u64) -> String {
    format!("{}.{:03}", ticks / TICKS, ticks % TICKS * 1000 / TICKS)
}

fn instants(bytes: &[u8], shape: Shape, read: fn(&[u8]) -> Option<Instant>) -> impl Iterator<Item = Instant> {
    let packets =
        bytes.chunks_exact(shape.step).filter_map(move |step| step.get(shape.before..shape.before + PACKET_BYTES));
    packets.filter(|packet| packet[0] == SYNC).filter_map(read)
}

fn pid(packet: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([packet.get(1)? & 0x1f, *packet.get(2)?]))
}

/// The base of the program clock reference in a packet (2.4.3.5).
fn clock(packet: &[u8]) -> Option<Instant> {
    let adaptation = packet.get(3)? & 0x20 != 0 && *packet.get(4)? >= 7 && packet.get(5)? & 0x10 != 0;
    let base = packet.get(6..11).filter(|_| adaptation)?;
    let ticks = base.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte)) >> 7;
    Some(Instant { pid: pid(packet)?, ticks })
}

/// The presentation time stamp of a PES packet that begins in a packet (2.4.3.7).
fn time_stamp(packet: &[u8]) -> Option<Instant> {
    let control = *packet.get(3)?;
    let adaptation = if control & 0x20 == 0 { 0 } else { 1 + usize::from(*packet.get(4)?) };
    let begins = packet.get(1)? & 0x40 != 0 && control & 0x10 != 0;
    let pes = packet.get(4 + adaptation..).filter(|pes| begins && pes.starts_with(&[0, 0, 1]))?;
    // private streams without the usual header are told by its two first bits
    let stamped = pes.get(6)? & 0xc0 == 0x80 && pes.get(7)? & 0x80 != 0;
    let [high, b, c, d, e] = *pes.get(9..).filter(|_| stamped)?.first_chunk::<5>()?;
    let ticks = u64::from(high >> 1 & 7) << 30
        | u64::from(b) << 22
        | u64::from(c >> 1) << 15
        | u64::from(d) << 7
        | u64::from(e >> 1);
    Some(Instant { pid: pid(packet)?, ticks })
}

#[cfg(test)]
mod tests {
    use super::super::memory::judged;
    use super::super::{Completeness, Verdict};
    use super::*;

    /// Packets of one PID whose clock counts seconds.
    fn packets(count: u64, shape: Shape) -> Vec<u8> {
        let mut file = Vec::new();
        for second in 0..count {
            let clock = ((second * TICKS) << 7).to_be_bytes();
            let mut packet = vec![0; shape.before];
            packet.extend([SYNC, 0x01, 0x00, 0x20, 183, 0x10]);
            packet.extend(&clock[3..]);
            packet.resize(shape.step, 0xff);
            file.extend(packet);
        }
        file
    }

    fn says(found: &Completeness, words: &str) -> bool {
        found.evidence.iter().any(|sentence| sentence.contains(words))
    }

    #[test]
    fn a_cut_packet_is_truncated_and_a_whole_one_proves_nothing() {
        for (step, before) in [(188, 0), (192, 4), (204, 0)] {
            let shape = Shape { step, before };
            let file = packets(900, shape);
            assert_eq!(super::shape(&file), Some(shape));
            let whole = judged(&file);
            assert_eq!((whole.verdict, whole.trailing_bytes), (Verdict::Unknown, None));
            assert!(says(&whole, "from 0.000 to 899.000 seconds: 899.000"), "{:?}", whole.evidence);
            for cut in [1, 100, step - 1] {
                let found = judged(&file[..file.len() - cut]);
                assert_eq!((found.verdict, found.expected_bytes), (Verdict::Truncated, Some(file.len() as u64)));
            }
            assert_eq!(judged(&file[..file.len() - step]).verdict, Verdict::Unknown);
        }
    }

    #[test]
    fn zeros_and_other_bytes_behind_are_told() {
        let file = packets(900, Shape { step: 188, before: 0 });
        let preallocated = judged(&[file.clone(), vec![0; 10_000]].concat());
        assert_eq!((preallocated.verdict, preallocated.trailing_bytes), (Verdict::Unknown, Some(10_000)));
        let notes = judged(&[file, b"some notes".to_vec()].concat());
        assert_eq!((notes.verdict, notes.trailing_bytes), (Verdict::Unknown, Some(10)));
    }

    #[test]
    fn time_stamps_stand_in_for_a_clock() {
        let stamp =
            [&[SYNC, 0x41, 0x00, 0x10, 0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 5, 0xbf, 0x21][..], &[0; 170]];
        let ticks = Instant { pid: 0x100, ticks: TICKS };
        assert_eq!(time_stamp(&stamp.concat()), Some(ticks));
    }
}
