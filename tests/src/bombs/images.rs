//! Bombs of pixels: pictures of 16,000 × 16,000 in a few megabytes, bare and inside containers that are probed. Listed by
//! [`super::all`].

use std::fs::File;
use std::io::{self, Write};

use super::{Bomb, Protection as P};
use crate::containers::crc32_reflected;
use crate::containers::isobmff::{Kind, Track, atom, co64, ftyp, full, moov, stsc, stsz, stts, video_entry, words};

/// Width and height. FFmpeg refuses more than 2^28 pixels, an edge of 128 included.
const SIDE: u32 = 16_000;

pub(super) const BOMBS: &[Bomb] = &[
    Bomb { name: "pixels_16k.png", plain: "782 MB", stopped_by: &[P::Formats, P::MaxAlloc], write: png_file },
    Bomb {
        name: "pixels_16k.mov",
        plain: "the same picture as the one frame of a film",
        stopped_by: &[P::MaxAlloc, P::Memory],
        write: png_movie,
    },
    Bomb {
        name: "covers_16k_x8.m4a",
        plain: "the same picture as eight covers",
        stopped_by: &[P::MaxAlloc, P::Memory, P::Processor],
        write: png_covers,
    },
];

fn png_file(file: &mut File) -> io::Result<()> {
    file.write_all(&png())
}

fn png_movie(file: &mut File) -> io::Result<()> {
    let (picture, head) = (png(), ftyp());
    let size = u32::try_from(picture.len()).expect("some megabytes");
    let entry = video_entry(b"png ", SIDE as u16, SIDE as u16, &[]);
    let table = [entry, stts(&[(1, 3000)]), stsc(&[(1, 1)]), stsz(&[size]), co64(&[head.len() as u64 + 8])];
    let track = Track::new(Kind::Video, 90_000, 3000, &[&table.concat()]);
    file.write_all(&[head, atom(b"mdat", &[&picture]), moov(&[track], &[])].concat())
}

fn png_covers(file: &mut File) -> io::Result<()> {
    let picture = atom(b"data", &[&words(&[14, 0]), &png()]);
    let covers = atom(b"ilst", &[&atom(b"covr", &[&picture.repeat(8)])]);
    let hdlr = full(b"hdlr", 0, &[&[0; 4], b"mdirappl", &[0; 9]]);
    let meta = full(b"meta", 0, &[&hdlr, &covers]);
    file.write_all(&[ftyp(), moov(&[], &atom(b"udta", &[&meta])), atom(b"mdat", &[&[0; 64]])].concat())
}

/// A black picture in RGB.
fn png() -> Vec<u8> {
    let bytes = u64::from(SIDE) * (3 * u64::from(SIDE) + 1);
    let head = [&SIDE.to_be_bytes()[..], &SIDE.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &head), &chunk(b"IDAT", &zeros(bytes)), &chunk(b"IEND", &[])].concat()
}

fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let summed = [kind, body].concat();
    let length = u32::try_from(body.len()).expect("less than 4 GiB");
    [&length.to_be_bytes()[..], &summed, &crc32_reflected(&summed).to_be_bytes()].concat()
}

/// At least so many zeros, compressed: one of them, and then copies of 258 at a distance of one, 13 bits each.
fn zeros(bytes: u64) -> Vec<u8> {
    let (mut out, mut held, mut bits) = (vec![0x78, 0x01], 0_u32, 0_u32);
    let mut put = |out: &mut Vec<u8>, value: u32, count: u32| {
        held |= value << bits;
        bits += count;
        while bits >= 8 {
            out.push(held as u8);
            held >>= 8;
            bits -= 8;
        }
    };
    put(&mut out, 0b011, 3); // the last block, of fixed codes
    put(&mut out, 0b0000_1100, 8); // literal 0, bits in the order they are read
    for _ in 0..bytes.div_ceil(258) {
        put(&mut out, 0b1010_0011, 8); // length 258
        put(&mut out, 0, 5); // distance 1
    }
    put(&mut out, 0, 7 + 7); // the end, and the last byte filled up
    out.extend_from_slice(&[0; 4]); // a checksum that nobody looks at
    out
}
