//! Test only: whatever the bytes are, the judge ends within its bound and does not panic. Arbitrary bytes, real headers with
//! bytes replaced by what hurts, sizes at the edges of their types, and indexes that point at each other.
//! What the verdicts are is tested beside each walker.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::memory::{Memory, judged};
use super::{Verdict, content_type};

/// Starts of files of every container, with the fields that walkers obey.
fn starts() -> Vec<Vec<u8>> {
    let mxf = |kind: u8| {
        let key = [0x06, 0x0e, 0x2b, 0x34, 2, 5, 1, 1, 0x0d, 1, 2, 1, 1, kind, 4, 0, 0x83, 0, 0, 0x58];
        [&key[..], &[0, 1, 0, 3, 0, 0, 2, 0], &[0; 16], &200_u64.to_be_bytes(), &[0; 56]].concat()
    };
    let mkv = b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff";
    let seeks = b"\x11\x4d\x9b\x74\x8e\x4d\xbb\x8b\x53\xab\x84\x11\x4d\x9b\x74\x53\xac\x81\x00";
    let cluster = b"\x1f\x43\xb6\x75\xff\xe7\x81\x00\xa3\x84....\x1c\x53\xbb\x6b\x80";
    let mut ts = vec![0x47; 188 * 6];
    ts.chunks_mut(188).for_each(|packet| packet[3..12].copy_from_slice(&[0x30, 7, 0x10, 1, 2, 3, 4, 5, 6]));
    let flac = b"fLaC\x80\0\0\x22\x10\0\x10\0\0\0\x0e\0\x10\0\x0a\xc4\x42\xf0\0\0\0\x40";
    let mp3 = [&b"\xff\xfb\x94\x44"[..], &[0; 32], b"Xing\0\0\0\x03\0\0\0\x02\0\0\x03\0", &[0; 332]].concat();
    vec![
        b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x10sidx\0\0\0\0\0\0\0\0\0\0\0\x01mdat\0\0\0\0\0\0\0\x20".to_vec(),
        b"\0\0\0\x08wide\0\0\0\x10moov\0\0\0\x08mvex\0\0\0\x08moof\0\0\0\x18mfra\0\0\0\x10mfro\0\0\0\0\0\0\0\x18".to_vec(),
        [&mkv[..], seeks, cluster].concat(),
        [mxf(2), mxf(4)].concat(),
        b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0\xff\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0........\0\0\0\0data\xff\xff\xff\xff".to_vec(),
        b"RIFF\x40\0\0\0AVI LIST\x2c\0\0\0hdrlLIST\x20\0\0\0strlindx\x18\0\0\0\x04\0\0\0\x01\0\0\0........".to_vec(),
        b"FORM\0\0\0\x20AIFFCOMM\0\0\0\x04....SSND\0\0\0\x08........".to_vec(),
        ts,
        b"FLV\x01\x05\0\0\0\x09\0\0\0\0\x12\0\0\x13\0\0\0\0\0\0\0\0\x08filesize\0\x40\x59\0\0\0\0\0\0\0\0\0\x1e".to_vec(),
        b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\x04....OggS\0\x04\0\0\0\0\0\0\0\0\x01\0\0\0".to_vec(),
        [&flac[..], &[0; 16], &[0xff, 0xf8, 0xc9, 0x08, 0, 0x2e], &[0; 40]].concat(),
        [mp3.clone(), mp3].concat(),
        b"ID3\x04\0\0\0\0\0\x03...ID3\x03\0\x10\0\0\0\0..........fLaC\0".to_vec(),
    ]
}

/// Bytes that hurt where a size, a count or an offset stands.
fn edges() -> Vec<Vec<u8>> {
    let numbers = [0, 1, 7, 8, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0x8000_0000, u64::from(u32::MAX), 1 << 63, u64::MAX];
    let wide = numbers.iter().flat_map(|number| [number.to_be_bytes().to_vec(), number.to_le_bytes().to_vec()]);
    let narrow = numbers.iter().map(|number| number.to_be_bytes()[4..].to_vec());
    wide.chain(narrow).chain(starts().into_iter().map(|start| start[..start.len().min(16)].to_vec())).collect()
}

/// A real start, repeated so that walks go on, with a few places overwritten.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), select(edges())), 0..6);
    let noise = vec((any::<Index>(), any::<u8>()), 0..8);
    (vec(select(starts()), 1..5), changes, noise).prop_map(|(parts, changes, noise)| {
        let mut file = parts.concat();
        for (place, bytes) in changes {
            let at = place.index(file.len());
            let count = bytes.len().min(file.len() - at);
            file[at..at + count].copy_from_slice(&bytes[..count]);
        }
        for (place, byte) in noise {
            let at = place.index(file.len());
            file[at] = byte;
        }
        file
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_judged(bytes in vec(any::<u8>(), 0..3000)) {
        judged(&bytes);
        content_type(&bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_start_are_judged(start in select(starts()), rest in vec(any::<u8>(), 0..600)) {
        judged(&[start, rest].concat());
    }

    #[test]
    fn mutated_files_are_judged(file in mutated(), cut in any::<Index>()) {
        content_type(&file);
        judged(&file);
        judged(&file[..cut.index(file.len())]);
    }

    #[test]
    fn mutated_heads_and_tails_of_large_files_are_judged(
        head in mutated(), tail in mutated(), len in 0..u64::MAX, most in 1..5000_usize,
    ) {
        let len = len.max(head.len() as u64);
        let mut memory = Memory::sparse(len, vec![(0, head), (len.saturating_sub(tail.len() as u64), tail)]);
        memory.most = most;
        memory.judge();
    }
}

/// A live segment with a `SeekHead` at this offset that points at another one.
fn pointing(position: u8) -> Vec<u8> {
    let head = &starts()[2][..24];
    let seeks =
        [&b"\x11\x4d\x9b\x74\x8e\x4d\xbb\x8b\x53\xab\x84\x11\x4d\x9b\x74\x53\xac\x81"[..], &[position]].concat();
    [head, &seeks].concat()
}

#[test]
fn indexes_that_point_at_themselves_end() {
    assert_eq!(judged(&pointing(0)).verdict, Verdict::Unknown);
    assert_eq!(judged(&[pointing(19), pointing(0)[24..].to_vec()].concat()).verdict, Verdict::Unknown);
}

#[test]
fn a_hostile_row_of_small_boxes_is_given_up() {
    let file = [&b"\0\0\0\x10ftypisom\0\0\0\0"[..], &b"\0\0\0\x08free".repeat(200_000)].concat();
    let found = judged(&file);
    assert_eq!(found.verdict, Verdict::Unknown, "{:?}", found.evidence);
    let mut spread = Memory::sparse(1 << 40, vec![(0, b"\0\0\0\x10ftypisom\0\0\0\0".to_vec())]);
    assert_eq!(spread.judge().verdict, Verdict::Truncated);
    let lists: Vec<_> =
        (0..100).map(|n| (n * 20_000, [b"RIFF", &19_992_u32.to_le_bytes()[..], b"AVIX"].concat())).collect();
    let mut row = Memory::sparse(2_000_000, lists);
    assert_eq!(row.judge().verdict, Verdict::Unknown);
}
