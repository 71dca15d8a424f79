//! A big Matroska file: the tracks and the first cluster of ffmpeg's sample, then clusters that each hold one block in a
//! hole, and cues for all of them at the end. Written by [`super::Shape`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::containers::ebml::{
    self, CLUSTER, CUES, SEEK_HEAD, SEGMENT, SIMPLE_BLOCK, TIMESTAMP, TRACKS, children, element, head, header, info,
    master, uint, uint_wide,
};
use crate::samples;

/// Bytes of a cluster: 50,000 of them in the largest file.
const CLUSTER_BYTES: u64 = 1 << 20;
/// Milliseconds of a cluster.
const CLUSTER_MS: u64 = 200;

pub(super) fn write(file: &mut File, bytes: u64) -> io::Result<()> {
    let sample = std::fs::read(samples::path("mkv"))?;
    let (tracks, first) = parts_of(&sample);
    let clusters = (bytes / CLUSTER_BYTES).max(1);
    let length = (1000 + clusters * CLUSTER_MS) as f64;
    let seek = |info_at: u64, tracks_at: u64, cues_at: u64| {
        let entry = |id: u32, at: u64| master(0x4DBB, &[element(0x53AB, &id.to_be_bytes()), uint_wide(0x53AC, at)]);
        master(SEEK_HEAD, &[entry(ebml::INFO, info_at), entry(TRACKS, tracks_at), entry(CUES, cues_at)])
    };
    let (header, info) = (header(), info(length));
    // positions count from the first byte inside the segment
    let info_at = seek(0, 0, 0).len() as u64;
    let tracks_at = info_at + info.len() as u64;
    let first_at = tracks_at + tracks.len() as u64;
    let start = first_at + first.len() as u64;
    let cues_at = start + clusters * CLUSTER_BYTES;
    let cues = cues(first_at, start, clusters);
    let inside = header.len() as u64 + 12;
    let whole =
        [header, head(SEGMENT, cues_at + cues.len() as u64), seek(info_at, tracks_at, cues_at), info, tracks, first];
    file.set_len(inside + cues_at)?;
    file.write_all_at(&whole.concat(), 0)?;
    file.write_all_at(&cues, inside + cues_at)?;
    for number in 0..clusters {
        let time = uint_wide(TIMESTAMP, time_of(number));
        let block = CLUSTER_BYTES - 12 - time.len() as u64 - 9;
        let start_of_block = [0x81, 0, 0, 0x80];
        let bytes =
            [&head(CLUSTER, CLUSTER_BYTES - 12)[..], &time, &head(SIMPLE_BLOCK, block), &start_of_block].concat();
        file.write_all_at(&bytes, inside + start + number * CLUSTER_BYTES)?;
    }
    Ok(())
}

/// When a cluster begins: after the second that is there.
fn time_of(number: u64) -> u64 {
    1000 + number * CLUSTER_MS
}

fn cues(first_at: u64, start: u64, clusters: u64) -> Vec<u8> {
    let point = |time: u64, at: u64| master(0xBB, &[uint(0xB3, time), master(0xB7, &[uint(0xF7, 1), uint(0xF1, at)])]);
    let others = (0..clusters).flat_map(|n| point(time_of(n), start + n * CLUSTER_BYTES));
    let points: Vec<u8> = point(0, first_at).into_iter().chain(others).collect();
    element(CUES, &points)
}

/// The tracks and the first cluster of a file, as they are.
fn parts_of(sample: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (_, _, first) = children(sample).next().expect("the sample has a header");
    let rest = &sample[first.len()..];
    // ffmpeg writes a segment whose size is known; its head has 4 + 8 bytes
    let inside: Vec<_> = children(&rest[12..]).collect();
    let part = |id| inside.iter().find(|(found, _, _)| *found == id).map(|(_, _, all)| all.to_vec());
    (part(TRACKS).expect("the sample has tracks"), part(CLUSTER).expect("the sample has a cluster"))
}
