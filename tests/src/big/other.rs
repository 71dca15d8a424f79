//! A big transport stream and a big MXF file: what ffmpeg wrote at both ends, and a hole or filler between. Written by
//! [`super::Shape`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use serde_json::json;

use crate::containers::mpegts::PACKET;
use crate::samples::{self, Sample};

/// How much of a transport stream stands at each end: more than ffprobe looks at before it knows the streams, and when
/// it looks for the last time stamp.
const END_BYTES: usize = 6 << 20;

pub(super) fn transport_stream(file: &mut File, bytes: u64) -> io::Result<()> {
    static ENDS: LazyLock<[Sample; 2]> = LazyLock::new(|| {
        let common = "-f lavfi -i testsrc2=size=640x360:rate=25:duration=16 -f lavfi -i sine=duration=16 -c:v libx264 -preset ultrafast -c:a aac -muxrate 4M";
        let end = |name, more| Sample::new(name, "ts", &[common, more], json!({}));
        [end("big_head", ""), end("big_tail", "-output_ts_offset 7200")]
    });
    let [start, end] = &*ENDS;
    let packets = |sample: &Sample| {
        std::fs::read(sample.path()).map(|mut bytes| {
            bytes.truncate(bytes.len().min(END_BYTES) / PACKET * PACKET);
            bytes
        })
    };
    let (start, end, packet) = (packets(start)?, packets(end)?, PACKET as u64);
    if bytes < (start.len() + end.len()) as u64 {
        // a small one is only the head of a large one
        let whole = usize::try_from(bytes).unwrap_or(usize::MAX).min(start.len()) / PACKET * PACKET;
        return file.write_all_at(&start[..whole], 0);
    }
    let end_at = (bytes - end.len() as u64) / packet * packet;
    file.write_all_at(&start, 0)?;
    file.write_all_at(&end, end_at)
}

/// The key of a partition pack, without the bytes that tell its kind.
const PARTITION: [u8; 13] = [6, 14, 43, 52, 2, 5, 1, 1, 13, 1, 2, 1, 1];
const FOOTER: u8 = 4;
/// The key of the pack that lists all partitions.
const RANDOM_INDEX: [u8; 16] = [6, 14, 43, 52, 2, 5, 1, 1, 13, 1, 2, 1, 1, 17, 1, 0];
/// The key of bytes that mean nothing.
const FILL: [u8; 16] = [6, 14, 43, 52, 1, 1, 1, 2, 3, 1, 2, 16, 1, 0, 0, 0];
/// Where in a partition pack its own place and the footer's stand.
const THIS_PARTITION: usize = 8;
const FOOTER_PARTITION: usize = 24;

pub(super) fn mxf(file: &mut File, bytes: u64) -> io::Result<()> {
    let mut sample = std::fs::read(samples::path("mxf"))?;
    let packs: Vec<Pack> = packs(&sample).collect();
    let footer = packs.iter().find(|p| p.kind(&sample) == Some(FOOTER)).expect("the sample has a footer").at;
    let filler = bytes.saturating_sub(sample.len() as u64).max(32);
    let moved = (footer as u64 + filler).to_be_bytes();
    for pack in packs.iter().filter(|p| p.kind(&sample).is_some()).collect::<Vec<_>>() {
        sample[pack.value + FOOTER_PARTITION..][..8].copy_from_slice(&moved);
        if pack.at == footer {
            sample[pack.value + THIS_PARTITION..][..8].copy_from_slice(&moved);
        }
    }
    if let Some(index) = packs.iter().find(|p| sample[p.at..p.at + 16] == RANDOM_INDEX) {
        // pairs of a number and a place; the last pair is the footer's, and a length of four bytes follows
        sample[index.end - 12..index.end - 4].copy_from_slice(&moved);
    }
    let mut fill = FILL.to_vec();
    fill.push(0x88);
    fill.extend_from_slice(&(filler - 25).to_be_bytes());
    let (start, end) = sample.split_at(footer);
    file.write_all_at(start, 0)?;
    file.write_all_at(&fill, footer as u64)?;
    file.write_all_at(end, footer as u64 + filler)
}

/// A key with its value.
struct Pack {
    at: usize,
    value: usize,
    end: usize,
}

impl Pack {
    /// Which partition it begins, if any.
    fn kind(&self, bytes: &[u8]) -> Option<u8> {
        let key = &bytes[self.at..self.at + 16];
        (key[..13] == PARTITION && (2..=FOOTER).contains(&key[13])).then_some(key[13])
    }
}

/// The packs of a file one after the other, up to the first that does not fit.
fn packs(bytes: &[u8]) -> impl Iterator<Item = Pack> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = *bytes.get(at + 16)?;
        let more = if first < 0x80 { 0 } else { usize::from(first & 0x7f) };
        let long = bytes.get(at + 17..at + 17 + more)?.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        let value = at + 17 + more;
        let end = value + if more == 0 { usize::from(first) } else { long };
        let pack = Pack { at, value, end };
        at = end;
        (end <= bytes.len()).then_some(pack)
    })
}
