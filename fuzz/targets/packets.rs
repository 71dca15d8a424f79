//! Fuzz target: `packets::Scan` on arbitrary bytes in place of ffprobe's lines, in pieces of any length. Fails on a panic, an
//! overflow, a list beyond its bound, a series that does not survive encoding, or an answer that depends on the pieces.

#![no_main]

use fuzz::packets::{MAX_EVIDENCE, MAX_POINTS, Packets, Scan, Series, StreamInfo};
use libfuzzer_sys::fuzz_target;

const STREAMS: &str = r#"{"streams":[{"index":0,"codec_type":"video","time_base":"1/90000"},
    {"index":1,"codec_type":"audio","time_base":"1/48000"},{"index":2,"codec_type":"subtitle","time_base":"1/1000"},
    {"index":3,"codec_type":"audio","time_base":"4294967295/1"},{"index":4,"codec_type":"video","time_base":"1/4294967295"}]}"#;

fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>, file_bytes: u64) -> (Packets, Vec<Series>) {
    let mut scan = Scan::new(&StreamInfo::list(STREAMS).expect("our own JSON"));
    pieces.for_each(|piece| scan.push(piece));
    scan.finish(file_bytes)
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, text)) = input.split_first() else { return };
    let (packets, series) = scan(std::iter::once(text), u64::from(*choice) << 20);
    let (in_pieces, _) = scan(text.chunks(usize::from(*choice).max(1)), u64::from(*choice) << 20);
    let json = serde_json::to_string(&packets).expect("a summary is JSON");
    assert_eq!(json, serde_json::to_string(&in_pieces).expect("a summary is JSON"));
    for stream in &packets.streams {
        assert!(stream.continuity.first_gaps.len() <= MAX_EVIDENCE);
    }
    for one in &series {
        let (from, to) = one.range_seconds();
        assert!(one.slice(from as f64, to as f64, 100).points.len() <= MAX_POINTS);
        assert_eq!(&Series::decode(&one.encode().expect("memory")).expect("our own series"), one);
    }
});
