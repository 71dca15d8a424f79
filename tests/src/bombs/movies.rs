//! Bombs in ISO boxes: sample tables of a few bytes that stand for millions of entries. Listed by [`super::all`].

use std::fs::File;
use std::io::{self, Write};

use super::{Bomb, Protection as P};
use crate::containers::isobmff::{
    Kind, Track, atom, co64, ctts, ftyp, full, moov, stsc, stsz_constant, stts, video_entry, words,
};

pub(super) const BOMBS: &[Bomb] = &[
    Bomb {
        name: "stsz_30m_x8.mp4",
        plain: "5.5 GB from 3.7 kB",
        stopped_by: &[P::MaxAlloc, P::Memory],
        write: |f| index(f, 8, 30_000_000),
    },
    Bomb {
        name: "stsz_10m_x8.mp4",
        plain: "1.9 GB: each index is just small enough for -max_alloc; 1.4 MB of complaints",
        stopped_by: &[P::Memory, P::Complaints],
        write: |f| index(f, 8, 10_000_000),
    },
    Bomb { name: "stsz_30m.mp4", plain: "736 MB", stopped_by: &[P::MaxAlloc], write: |f| index(f, 1, 30_000_000) },
    Bomb {
        name: "stsz_10m.mp4",
        plain: "278 MB: a film could have it",
        stopped_by: &[P::Itself],
        write: |f| index(f, 1, 10_000_000),
    },
    Bomb { name: "stsz_3m.mp4", plain: "118 MB", stopped_by: &[P::Itself], write: |f| index(f, 1, 3_000_000) },
    Bomb { name: "stsz_1m.mp4", plain: "72 MB", stopped_by: &[P::Itself], write: |f| index(f, 1, 1_000_000) },
    Bomb {
        name: "ctts_9m_x8.mp4",
        plain: "index and composition times of every sample",
        stopped_by: &[P::Memory],
        write: composition,
    },
    Bomb {
        name: "trun_10m_x16.mp4",
        plain: "fragments whose samples have no bytes in the table",
        stopped_by: &[P::MaxAlloc],
        write: fragments,
    },
    Bomb {
        name: "elst_2000_x_1m.mp4",
        plain: "each edit takes the whole index again",
        stopped_by: &[P::MaxAlloc, P::Memory, P::Processor],
        write: edits,
    },
    Bomb {
        name: "elst_sparse.mp4",
        plain: "an edit list of 2.4 GB of nothing",
        stopped_by: &[P::MaxAlloc, P::Processor],
        write: edits_of_nothing,
    },
    Bomb { name: "boxes_deep.mp4", plain: "gives up at a depth of 10", stopped_by: &[P::Itself], write: deep },
    Bomb {
        name: "boxes_empty.mp4",
        plain: "reads four million boxes without content",
        stopped_by: &[P::Processor],
        write: empty,
    },
    Bomb {
        name: "boxes_zero.mp4",
        plain: "sizes of 0 and 1 within one another",
        stopped_by: &[P::Itself],
        write: zero_sized,
    },
];

/// A table without data: `count` samples of one byte in one chunk, two ticks each (one tick would be taken for sound that
/// needs no index).
fn table(count: u32) -> Vec<u8> {
    let entry = video_entry(b"mp4v", 320, 180, &[]);
    [entry, stts(&[(count, 2)]), stsc(&[(1, count)]), stsz_constant(1, count), co64(&[48])].concat()
}

fn track(count: u32) -> Track {
    Track::new(Kind::Video, 90_000, u64::from(count) * 2, &[&table(count)])
}

fn movie(file: &mut File, tracks: &[Track], more: &[u8]) -> io::Result<()> {
    file.write_all(&[ftyp(), moov(tracks, more), atom(b"mdat", &[&[0; 64]])].concat())
}

fn index(file: &mut File, tracks: usize, count: u32) -> io::Result<()> {
    let tracks: Vec<Track> = std::iter::repeat_with(|| track(count)).take(tracks).collect();
    movie(file, &tracks, &[])
}

fn composition(file: &mut File) -> io::Result<()> {
    const SAMPLES: u32 = 9_000_000;
    let later = || {
        let table = [table(SAMPLES), ctts(&[(SAMPLES, 7)])].concat();
        Track::new(Kind::Video, 90_000, u64::from(SAMPLES) * 2, &[&table])
    };
    movie(file, &std::iter::repeat_with(later).take(8).collect::<Vec<_>>(), &[])
}

/// An `elst` of these edits: (length in milliseconds, where in the media in ticks).
fn edit_list(count: u32, edits: &[u8]) -> Vec<u8> {
    atom(b"edts", &[&full(b"elst", 0, &[&words(&[count]), edits])])
}

fn edits(file: &mut File) -> io::Result<()> {
    const EDITS: u32 = 2_000;
    const SAMPLES: u32 = 1_000_000;
    let mut track = track(SAMPLES);
    let edit = words(&[SAMPLES / 90 * 2, 0, 0x0001_0000]);
    track.edits = edit_list(EDITS, &edit.repeat(EDITS as usize));
    movie(file, &[track], &[])
}

/// The boxes around the list say 2.4 GB, and the file is a hole of that length behind its head.
fn edits_of_nothing(file: &mut File) -> io::Result<()> {
    const EDITS: u32 = 200_000_000;
    const LENGTH: u32 = EDITS * 12;
    let sized = |kind: &[u8; 4], size: u32| [&size.to_be_bytes()[..], kind].concat();
    let head = [
        ftyp(),
        sized(b"moov", LENGTH + 40),
        sized(b"trak", LENGTH + 32),
        sized(b"edts", LENGTH + 24),
        sized(b"elst", LENGTH + 16),
        words(&[0, EDITS]),
    ]
    .concat();
    file.write_all(&head)?;
    file.set_len(head.len() as u64 + u64::from(LENGTH))
}

/// Sixteen `moof`, each with a `trun` that claims ten million samples and stores nothing about any of them.
fn fragments(file: &mut File) -> io::Result<()> {
    const SAMPLES: u32 = 10_000_000;
    let defaults = full(b"trex", 0, &[&words(&[1, 1, 3000, 1, 0])]);
    movie(file, &[track(0)], &atom(b"mvex", &[&defaults]))?;
    let runs: Vec<u8> = (1..=16)
        .flat_map(|number| {
            let traf = [full(b"tfhd", 0x02_0000, &[&words(&[1])]), full(b"trun", 0, &[&words(&[SAMPLES])])].concat();
            atom(b"moof", &[&full(b"mfhd", 0, &[&words(&[number])]), &atom(b"traf", &[&traf])])
        })
        .collect();
    file.write_all(&runs)
}

fn deep(file: &mut File) -> io::Result<()> {
    const DEPTH: u32 = 100_000;
    let heads = (1..=DEPTH).rev().flat_map(|left| [&(left * 8).to_be_bytes()[..], b"moov"].concat());
    let mut bytes = ftyp();
    bytes.extend(heads);
    file.write_all(&bytes)
}

fn empty(file: &mut File) -> io::Result<()> {
    let boxes = atom(b"udta", &[]).repeat(4_000_000);
    file.write_all(&[ftyp(), atom(b"moov", &[&boxes])].concat())
}

fn zero_sized(file: &mut File) -> io::Result<()> {
    let zero = [&[0; 4][..], b"moov", &[0; 4], b"trak"].concat();
    let one = [&1_u32.to_be_bytes()[..], b"free", &[0; 8]].concat();
    file.write_all(&[ftyp(), one.repeat(1000), zero.repeat(1000)].concat())
}
