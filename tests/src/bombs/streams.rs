//! Bombs without an index: transport streams, elementary streams, Ogg, ID3, and holes under a media name. Listed by
//! [`super::all`].

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use super::{Bomb, Protection as P};
use crate::containers::{crc32_ogg, mpegts};

/// As large as the largest upload.
const HOLE: u64 = 50 << 30;

pub(super) const BOMBS: &[Bomb] = &[
    Bomb {
        name: "zeros.mp3",
        plain: "never ends, 2.1 GB",
        stopped_by: &[P::Alias, P::Processor, P::Memory],
        write: hole,
    },
    Bomb {
        name: "zeros.h264",
        plain: "never ends, 2.1 GB",
        stopped_by: &[P::Alias, P::Processor, P::Memory],
        write: hole,
    },
    Bomb {
        name: "zeros",
        plain: "ends at once: without an extension nothing suggests a format",
        stopped_by: &[P::Itself],
        write: hole,
    },
    Bomb {
        name: "start_codes.h264",
        plain: "begins as H.264 and goes on with 50 GB of nothing",
        stopped_by: &[P::Memory, P::Processor],
        write: h264_hole,
    },
    Bomb {
        name: "pids_1000.ts",
        plain: "450 MB and 1.3 MB of JSON for 1,000 streams",
        stopped_by: &[P::MaxStreams],
        write: pids,
    },
    Bomb {
        name: "programs_10k.ts",
        plain: "17 MB of JSON for 10,000 programs of two streams",
        stopped_by: &[P::Memory, P::Processor, P::Output],
        write: programs,
    },
    Bomb {
        name: "broken_slices.h264",
        plain: "40 kB of complaints: like ones are counted",
        stopped_by: &[P::Itself],
        write: slices,
    },
    Bomb {
        name: "pages_400k.ogg",
        plain: "pages that each begin another stream; it gives up at 1,000",
        stopped_by: &[P::MaxStreams, P::Processor],
        write: ogg,
    },
    Bomb { name: "picture_256m.mp3", plain: "302 MB for a cover of nothing", stopped_by: &[P::MaxAlloc], write: id3 },
    Bomb {
        name: "tags_nested.mp3",
        plain: "a million ID3 tags one after the other",
        stopped_by: &[P::Processor],
        write: id3_chain,
    },
];

fn hole(file: &mut File) -> io::Result<()> {
    file.set_len(HOLE)
}

fn h264_hole(file: &mut File) -> io::Result<()> {
    file.write_all(&h264(8))?;
    file.set_len(HOLE)
}

/// Parameter sets and so many slices as an Annex B stream: its content alone says H.264, and no slice can be decoded.
fn h264(count: usize) -> Vec<u8> {
    let sps = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x01, 0x40, 0x7b, 0x20];
    let pps = [0, 0, 0, 1, 0x68, 0xcb, 0x83, 0xcb, 0x20];
    let slice = [0, 0, 0, 1, 0x65, 0x88, 0x84, 0x00, 0x33, 0xff, 0x21, 0x43];
    [&sps[..], &pps, &slice.repeat(count)].concat()
}

/// Five programs of 200 streams, each with its own packets.
fn pids(file: &mut File) -> io::Result<()> {
    const PROGRAMS: u16 = 5;
    const STREAMS: u16 = 200;
    const ROUNDS: u8 = 150;
    let mut out = BufWriter::new(file);
    let pid = |program: u16, stream: u16| 0x200 + program * STREAMS + stream;
    let kinds = [0x1b, 0x02, 0x0f, 0x24];
    out.write_all(&mpegts::pat(&(0..PROGRAMS).map(|p| (p + 1, 0x100 + p)).collect::<Vec<_>>()))?;
    for program in 0..PROGRAMS {
        let streams: Vec<_> = (0..STREAMS).map(|s| (kinds[usize::from(s) % 4], pid(program, s))).collect();
        out.write_all(&mpegts::pmt(0x100 + program, program + 1, &streams))?;
    }
    for round in 0..ROUNDS {
        let payload = [mpegts::pes(0xe0, u64::from(round) * 3600), vec![round; 170]].concat();
        for stream in 0..PROGRAMS * STREAMS {
            out.write_all(&mpegts::packet(pid(0, stream), round, &payload))?;
        }
    }
    out.flush()
}

/// Tables that name new programs again and again, each with the same streams.
fn programs(file: &mut File) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    for round in 0..50_u16 {
        let programs: Vec<_> = (1..=200).map(|p| (round * 200 + p, 0x1000 + (p % 64))).collect();
        out.write_all(&mpegts::pat(&programs))?;
        for (program, pid) in &programs {
            out.write_all(&mpegts::pmt(*pid, *program, &[(0x0f, 0x200), (0x1b, 0x201)]))?;
        }
        out.write_all(&mpegts::packet(0x200, round as u8, &[mpegts::pes(0xc0, 0), vec![0xff; 170]].concat()))?;
    }
    out.flush()
}

/// Slices that refer to parameter sets which are not there: one, then the other, for equal complaints would be counted.
fn slices(file: &mut File) -> io::Result<()> {
    let missing = [[0, 0, 1, 0x65, 0x88, 0x5f, 0xff, 0xff], [0, 0, 1, 0x65, 0x88, 0x7f, 0xff, 0xff]].concat();
    file.write_all(&[h264(8), missing.repeat(1_000_000)].concat())
}

fn ogg(file: &mut File) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    for serial in 0..400_000_u32 {
        let mut page = b"OggS\0\x02".to_vec();
        page.extend_from_slice(&[0; 8]); // its position
        page.extend_from_slice(&serial.to_le_bytes());
        page.extend_from_slice(&[0; 8]); // its number and checksum
        page.extend_from_slice(&[1, 30]);
        page.extend_from_slice(b"\x01vorbis\0\0\0\0\x02\x44\xac\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xb8\x01");
        page.resize(28 + 30, 0);
        let sum = crc32_ogg(&page).to_le_bytes();
        page[22..26].copy_from_slice(&sum);
        out.write_all(&page)?;
    }
    out.flush()
}

/// A number in seven bits a byte.
fn synchsafe(number: u32) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (number >> shift & 0x7f) as u8)
}

/// A tag whose one frame is a cover of all that a tag can hold.
fn id3(file: &mut File) -> io::Result<()> {
    const TAG: u32 = (1 << 28) - 1;
    let head = [&b"ID3\x03\0\0"[..], &synchsafe(TAG), b"APIC", &(TAG - 10).to_be_bytes(), &[0, 0]].concat();
    file.write_all(&[&head[..], b"\0image/png\0\x03\0"].concat())?;
    file.write_all_at(&mp3_frames(100), 10 + u64::from(TAG))
}

fn id3_chain(file: &mut File) -> io::Result<()> {
    let tag = [&b"ID3\x03\0\0"[..], &synchsafe(10), &[0; 10]].concat();
    let mut out = BufWriter::new(file);
    for _ in 0..1_000_000 {
        out.write_all(&tag)?;
    }
    out.write_all(&mp3_frames(100))?;
    out.flush()
}

/// MPEG-1 layer III frames of silence: 128 kbit/s, 44.1 kHz.
fn mp3_frames(count: usize) -> Vec<u8> {
    let mut frame = vec![0xff, 0xfb, 0x90, 0x64];
    frame.resize(417, 0);
    frame.repeat(count)
}
