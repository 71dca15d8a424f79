//! Test only: handmade files of the MP4 family, whole, cut, followed by something, and dishonest.
//!
//! Every one is a few boxes put together here; files by a real writer are judged in the end-to-end tests.

use super::super::memory::{Memory, judged};
use super::super::{Completeness, Verdict};

fn a_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 8).unwrap();
    [&size.to_be_bytes()[..], kind, content].concat()
}

fn ftyp() -> Vec<u8> {
    a_box(b"ftyp", b"isom\0\0\0\0")
}

/// A track with one chunk at this offset that holds two samples, of 30 and 12 bytes.
fn track(chunk: u32, in_this_file: u8) -> Vec<u8> {
    let dref = a_box(b"dref", &[&[0, 0, 0, 0, 0, 0, 0, 1][..], &a_box(b"url ", &[0, 0, 0, in_this_file])].concat());
    let stsc = a_box(b"stsc", &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1]);
    let stsz = a_box(b"stsz", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 30, 0, 0, 0, 12]);
    let stco = a_box(b"stco", &[&[0, 0, 0, 0, 0, 0, 0, 1][..], &chunk.to_be_bytes()].concat());
    let minf = a_box(b"minf", &[a_box(b"dinf", &dref), a_box(b"stbl", &[stsc, stsz, stco].concat())].concat());
    a_box(b"trak", &a_box(b"mdia", &minf))
}

fn moov(chunk: u32) -> Vec<u8> {
    a_box(b"moov", &track(chunk, 1))
}

fn says(parts: &[Vec<u8>]) -> Completeness {
    judged(&parts.concat())
}

#[test]
fn index_and_media_in_either_order_are_whole() {
    let mdat = a_box(b"mdat", &[7; 42]);
    let last = says(&[ftyp(), mdat.clone(), moov(24)]);
    assert_eq!((last.verdict, last.faststart, last.fragmented), (Verdict::Complete, Some(false), Some(false)));
    let offset = u32::try_from(ftyp().len() + moov(0).len() + 8).unwrap();
    let first = says(&[ftyp(), moov(offset), mdat]);
    assert_eq!((first.verdict, first.faststart, first.trailing_bytes), (Verdict::Complete, Some(true), None));
}

#[test]
fn every_cut_is_found() {
    let mdat = a_box(b"mdat", &[7; 42]);
    let offset = u32::try_from(ftyp().len() + moov(0).len() + 8).unwrap();
    for file in [[ftyp(), mdat.clone(), moov(24)].concat(), [ftyp(), moov(offset), mdat].concat()] {
        for len in 8..file.len() {
            let found = judged(&file[..len]);
            assert_eq!(found.verdict, Verdict::Truncated, "{len} of {}: {:?}", file.len(), found.evidence);
        }
    }
}

#[test]
fn what_follows_is_no_part_of_it() {
    let file = [ftyp(), a_box(b"mdat", &[7; 42]), moov(24)].concat();
    for rest in
        [&b"\0\0\0"[..], &[0; 5000], b"\xff\xff\xff\xffabcd and so on", b"\0\0\0\0text", b"\x01\0\0\0\0\0\0\0\0\0"]
    {
        let found = says(&[file.clone(), rest.to_vec()]);
        let trailing = Some(rest.len() as u64);
        assert_eq!((found.verdict, found.trailing_bytes), (Verdict::Complete, trailing), "{:?}", found.evidence);
    }
}

#[test]
fn media_without_a_size_is_measured_by_the_index() {
    let open = |bytes: usize| [&b"\0\0\0\0mdat"[..], &vec![7; bytes]].concat();
    let offset = u32::try_from(ftyp().len() + moov(0).len() + 8).unwrap();
    for (bytes, verdict) in [(42, Verdict::Complete), (41, Verdict::Truncated), (50, Verdict::Complete)] {
        assert_eq!(says(&[ftyp(), moov(offset), open(bytes)]).verdict, verdict, "{bytes}");
    }
    let unfinished = says(&[ftyp(), open(42)]);
    assert_eq!((unfinished.verdict, unfinished.faststart), (Verdict::Truncated, None));
}

#[test]
fn media_in_another_file_proves_nothing() {
    let elsewhere = a_box(b"moov", &track(1_000_000, 0));
    assert_eq!(says(&[ftyp(), elsewhere]).verdict, Verdict::Unknown);
}

#[test]
fn fragments_need_an_index_to_be_complete() {
    let init = [ftyp(), a_box(b"moov", &a_box(b"mvex", &[]))].concat();
    let fragment = [a_box(b"moof", &[1; 60]), a_box(b"mdat", &[7; 90])].concat();
    let media = [init.clone(), fragment.clone(), fragment.clone()].concat();
    let open = judged(&media);
    assert_eq!((open.verdict, open.fragmented, open.faststart), (Verdict::Unknown, Some(true), Some(true)));
    for cut in [1, 97, 98, 160] {
        let found = judged(&media[..media.len() - cut]);
        // 97 bytes off there is one byte of the last 'mdat', 98 bytes off none
        assert_eq!(found.verdict, Verdict::Truncated, "{cut}: {:?}", found.evidence);
    }
    let one_less = judged(&media[..media.len() - fragment.len()]);
    assert_eq!(one_less.verdict, Verdict::Unknown, "{:?}", one_less.evidence);
    let mfra = a_box(b"mfra", &a_box(b"mfro", &[0, 0, 0, 0, 0, 0, 0, 24]));
    assert_eq!(says(&[media.clone(), mfra.clone()]).verdict, Verdict::Complete);
    assert_eq!(says(&[media, mfra, b"\xff\0\0\0trash".to_vec()]).trailing_bytes, Some(9));

    let size = u32::try_from(fragment.len()).unwrap().to_be_bytes();
    let reference = [&size[..], &[0; 8]].concat();
    let sidx = [&[0; 22][..], &[0, 2], &reference, &reference].concat();
    let indexed = [init.clone(), a_box(b"sidx", &sidx), fragment.clone(), fragment.clone()].concat();
    assert_eq!(judged(&indexed).verdict, Verdict::Complete);
    for cut in [1, 98, 166, 300] {
        let found = judged(&indexed[..indexed.len() - cut]);
        assert_eq!(found.verdict, Verdict::Truncated, "{cut}: {:?}", found.evidence);
    }
}

#[test]
fn an_index_for_each_segment_says_nothing_about_the_last() {
    let init = [ftyp(), a_box(b"moov", &a_box(b"mvex", &[]))].concat();
    let fragment = [a_box(b"moof", &[1; 60]), a_box(b"mdat", &[7; 90])].concat();
    let sidx = |first: u32, of: u8, bytes: &[usize]| {
        let references: Vec<u8> =
            bytes.iter().flat_map(|size| [&(*size as u32).to_be_bytes()[..], &[0; 8]].concat()).collect();
        let count = bytes.len() as u8;
        a_box(
            b"sidx",
            &[&[0, 0, 0, 0, 0, 0, 0, of][..], &[0; 8], &first.to_be_bytes(), &[0, 0, 0, count], &references].concat(),
        )
    };
    let size = fragment.len();
    let one_each =
        [init.clone(), sidx(0, 1, &[size]), fragment.clone(), sidx(0, 1, &[size]), fragment.clone()].concat();
    assert_eq!(judged(&one_each).verdict, Verdict::Unknown);
    // one for each track, both over all fragments; the first index has to skip the second
    let second = sidx(0, 2, &[size, size]);
    let first = sidx(second.len() as u32, 1, &[size, size]);
    let both = [init, first, second, fragment.clone(), fragment.clone()].concat();
    assert_eq!(judged(&both).verdict, Verdict::Complete);
    let segment = [a_box(b"styp", b"msdh\0\0\0\0"), sidx(0, 1, &[size]), fragment].concat();
    assert_eq!(judged(&segment).verdict, Verdict::Complete);
}

#[test]
fn sizes_that_cannot_be_are_no_promise() {
    let huge = [&b"\0\0\0\x01mdat"[..], &u64::MAX.to_be_bytes(), &[0; 40]].concat();
    let found = says(&[ftyp(), huge]);
    assert_eq!((found.verdict, found.expected_bytes), (Verdict::Unknown, None), "{:?}", found.evidence);
}

#[test]
fn a_long_row_of_fragments_is_sampled() {
    // 50 GB: the walk ends in the head, the index at the end names the last fragment
    let len = 50_000_000_000_u64;
    let fragment = |at: u64| (at, [a_box(b"moof", &[1; 60]), b"\0\x98\x96\x80mdat".to_vec()].concat());
    let step = 68 + 10_000_000;
    let mut pieces = vec![(0, [ftyp(), a_box(b"moov", &a_box(b"mvex", &[]))].concat())];
    let first = pieces[0].1.len() as u64;
    pieces.extend((0..60).map(|n| fragment(first + n * step)));
    let without = Memory::sparse(len, pieces.clone()).judge();
    assert_eq!((without.verdict, without.fragmented), (Verdict::Unknown, Some(true)));
    let mfra_at = len - 72;
    let last = mfra_at - step;
    let entries = [&[0; 8][..], &last.to_be_bytes(), &[1, 1, 1]].concat();
    let tfra = a_box(b"tfra", &[&[1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1][..], &entries, &[0; 5]].concat());
    let mfra = a_box(b"mfra", &[tfra, a_box(b"mfro", &[0, 0, 0, 0, 0, 0, 0, 72])].concat());
    assert_eq!(mfra.len(), 72);
    pieces.extend([fragment(last), (mfra_at, mfra)]);
    let found = Memory::sparse(len, pieces.clone()).judge();
    assert_eq!(found.verdict, Verdict::Complete, "{:?}", found.evidence);
    pieces.remove(pieces.len() - 2);
    assert_eq!(Memory::sparse(len, pieces).judge().verdict, Verdict::Unknown, "the last fragment is a hole");
}
