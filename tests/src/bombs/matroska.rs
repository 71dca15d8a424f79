//! Bombs in EBML: millions of tiny elements, attachments full of nothing, packets of one byte. Listed by [`super::all`].

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use super::{Bomb, Protection as P};
use crate::containers::ebml::{
    ATTACHMENTS, CHAPTERS, CLUSTER, CUES, SEGMENT, SIMPLE_BLOCK, TAGS, TIMESTAMP, UNKNOWN, element, head, header, info,
    master, simple_block, sound_track, uint,
};

pub(super) const BOMBS: &[Bomb] = &[
    Bomb {
        name: "attachments_12x200m.mkv",
        plain: "5.7 GB from a file without data",
        stopped_by: &[P::Memory, P::Processor],
        write: attachments,
    },
    Bomb {
        name: "tags_3m.mkv",
        plain: "742 MB, 23 times the file",
        stopped_by: &[P::Memory, P::Output],
        write: |f| repeated(f, TAGS, 3_000_000),
    },
    Bomb { name: "cues_4m.mkv", plain: "392 MB", stopped_by: &[P::Memory], write: |f| repeated(f, CUES, 4_000_000) },
    Bomb {
        name: "chapters_2m.mkv",
        plain: "300 MB, and more of JSON",
        stopped_by: &[P::Memory, P::Output],
        write: |f| repeated(f, CHAPTERS, 2_000_000),
    },
    Bomb {
        name: "tracks_100k.mkv",
        plain: "207 MB, then it gives up at 1,000 streams",
        stopped_by: &[P::MaxStreams],
        write: tracks,
    },
    Bomb {
        name: "tags_300k_names.mkv",
        plain: "compares each name with all before it",
        stopped_by: &[P::Processor],
        write: names,
    },
    Bomb { name: "ebml_deep.mkv", plain: "gives up at a depth of 16", stopped_by: &[P::Itself], write: deep },
    Bomb {
        name: "ebml_zero.mkv",
        plain: "reads eight million elements without content",
        stopped_by: &[P::Processor],
        write: zero_sized,
    },
    Bomb {
        name: "packets_tiny.mkv",
        plain: "3 s for five million packets before it knows the stream",
        stopped_by: &[P::Processor],
        write: |f| tiny_packets(f, b"A_AC3", 60_000),
    },
    Bomb {
        name: "title_15m.mkv",
        plain: "90 MB of JSON from one title of control characters",
        stopped_by: &[P::Output],
        write: title,
    },
];

fn begin(file: &mut File) -> io::Result<()> {
    begin_with(file, b"A_PCM/INT/LIT")
}

fn begin_with(file: &mut File, codec: &[u8]) -> io::Result<()> {
    file.write_all(&[header(), head(SEGMENT, UNKNOWN), info(1000.0), sound_track(codec)].concat())
}

/// One cluster with a little sound.
fn cluster() -> Vec<u8> {
    master(CLUSTER, &[uint(TIMESTAMP, 0), simple_block(0, &[0x80; 800])])
}

fn attachments(file: &mut File) -> io::Result<()> {
    const BYTES: u64 = 200 << 20;
    begin(file)?;
    let about = [element(0x466E, b"a.bin"), element(0x4660, b"application/octet-stream"), uint(0x46AE, 1)].concat();
    let one = [head(0x61A7, about.len() as u64 + 10 + BYTES), about, head(0x465C, BYTES)].concat();
    file.write_all(&head(ATTACHMENTS, 12 * (one.len() as u64 + BYTES)))?;
    for _ in 0..12 {
        file.write_all(&one)?;
        file.seek(SeekFrom::Current(BYTES as i64))?;
    }
    file.write_all(&cluster())
}

/// One list with as many entries, each as short as it can be.
fn repeated(file: &mut File, list: u32, entries: usize) -> io::Result<()> {
    let (one, before, after) = match list {
        TAGS => {
            let tag = master(0x67C8, &[element(0x45A3, b"n"), element(0x4487, b"v")]);
            (tag, 0x7373, Vec::new())
        }
        CUES => (master(0xBB, &[uint(0xB3, 1), master(0xB7, &[uint(0xF7, 1), uint(0xF1, 1)])]), 0, cluster()),
        _ => (master(0xB6, &[element(0x73C4, &[0; 4]), element(0x91, &[0; 4])]), 0x45B9, Vec::new()),
    };
    begin(file)?;
    let mut body = Vec::with_capacity(one.len() * entries + 16);
    if before != 0 {
        body.extend(head(before, (one.len() * entries) as u64));
    }
    for number in 1..=entries {
        body.extend_from_slice(&one);
        if list == CHAPTERS {
            // its own number and start: FFmpeg searches all of them for a number that does not grow, and leaves out a
            // start that does not
            let (end, digits) = (body.len(), (number as u32).to_be_bytes());
            body[end - 4..].copy_from_slice(&digits);
            body[end - 10..end - 6].copy_from_slice(&digits);
        }
    }
    file.write_all(&head(list, body.len() as u64))?;
    file.write_all(&body)?;
    file.write_all(if after.is_empty() { cluster() } else { after }.as_slice())
}

/// Tags of different names.
fn names(file: &mut File) -> io::Result<()> {
    begin(file)?;
    let tag = |n: u32| master(0x67C8, &[element(0x45A3, format!("{n:06}").as_bytes()), element(0x4487, b"v")]);
    let tags: Vec<u8> = (0..300_000).flat_map(tag).collect();
    file.write_all(&master(TAGS, &[element(0x7373, &tags)]))?;
    file.write_all(&cluster())
}

fn tracks(file: &mut File) -> io::Result<()> {
    file.write_all(&[header(), head(SEGMENT, UNKNOWN), info(1000.0)].concat())?;
    let entry =
        |n: u64| master(0xAE, &[uint(0xD7, n), uint(0x73C5, n), uint(0x83, 0x11), element(0x86, b"S_TEXT/UTF8")]);
    let entries: Vec<u8> = (1..=100_000).flat_map(entry).collect();
    file.write_all(&element(crate::containers::ebml::TRACKS, &entries))?;
    file.write_all(&cluster())
}

/// Tags within tags and chapters within chapters, far deeper than any reader's stack should go.
fn deep(file: &mut File) -> io::Result<()> {
    const DEPTH: u64 = 100_000;
    begin(file)?;
    for (list, before, nested) in [(TAGS, 0x7373, 0x67C8), (CHAPTERS, 0x45B9, 0xB6)] {
        let length = head(nested, 0).len() as u64;
        let heads: Vec<u8> = (0..DEPTH).rev().flat_map(|left| head(nested, left * length)).collect();
        file.write_all(&head(list, heads.len() as u64 + 10))?;
        file.write_all(&head(before, heads.len() as u64))?;
        file.write_all(&heads)?;
    }
    file.write_all(&cluster())
}

fn zero_sized(file: &mut File) -> io::Result<()> {
    begin(file)?;
    let nothing = [0xEC, 0x80].repeat(4_000_000); // Void
    file.write_all(&nothing)?;
    file.write_all(&[0xAE, 0x80].repeat(4_000_000)) // a track where none may stand
}

/// Blocks that each carry 256 packets of one byte. `packets_tiny.mkv` is long enough for a reader's first look;
/// [`many_packets`] for a scan of the whole.
fn tiny_packets(file: &mut File, codec: &[u8], blocks: u32) -> io::Result<()> {
    begin_with(file, codec)?;
    let mut out = BufWriter::new(file);
    let body = [&[0x81, 0, 0, 0x84, 255][..], &[0x80; 256]].concat(); // lacing of equal sizes
    let block = element(SIMPLE_BLOCK, &body);
    for number in 0..blocks.div_ceil(256) {
        let time = uint(TIMESTAMP, u64::from(number) * 8192);
        out.write_all(&element(CLUSTER, &[time, block.repeat(256)].concat()))?;
    }
    out.flush()
}

/// A file whose scan meets this many packets of one byte; about as many bytes.
pub(crate) fn many_packets(file: &mut File, packets: u32) -> io::Result<()> {
    tiny_packets(file, b"A_PCM/INT/LIT", packets.div_ceil(256))
}

fn title(file: &mut File) -> io::Result<()> {
    begin(file)?;
    let tag = master(0x67C8, &[element(0x45A3, b"TITLE"), element(0x4487, &vec![1; 15 << 20])]);
    file.write_all(&master(TAGS, &[master(0x7373, &[tag])]))?;
    file.write_all(&cluster())
}
