//! Test only: whole scans over lines as ffprobe prints them, and over anything else.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Continuity, GopKind, MAX_EVIDENCE};
use super::*;

const VIDEO: StreamInfo = StreamInfo { index: 0, kind: StreamKind::Video, time_base: Some((1, 1000)) };
const AUDIO: StreamInfo = StreamInfo { index: 1, kind: StreamKind::Audio, time_base: Some((1, 48_000)) };
const WORDS: StreamInfo = StreamInfo { index: 2, kind: StreamKind::Subtitle, time_base: Some((1, 1000)) };

fn scan(text: &str) -> (Packets, Vec<Series>) {
    let mut scan = Scan::new(&[VIDEO, AUDIO, WORDS]);
    scan.push(text.as_bytes());
    scan.finish(1_000_000)
}

/// Video of 25 frames per second whose decoding times, in milliseconds, are these; every 25th is a keyframe.
fn video(times: impl IntoIterator<Item = i64>) -> Packets {
    let line = |(n, dts): (usize, i64)| {
        let flags = if n % 25 == 0 { "K_" } else { "__" };
        format!("0,{},{dts},40,1000,{},{flags}\n", dts + 40, n * 1000)
    };
    scan(&times.into_iter().enumerate().map(line).collect::<String>()).0
}

#[test]
fn an_even_stream_is_even() {
    let (packets, series) =
        scan(&(0..100).map(|n| format!("0,{0},{0},40,{1},{2},K_\n", n * 40, 500 + n, n * 700)).collect::<String>());
    let stream = &packets.streams[0];
    assert_eq!((packets.packets, stream.packets, stream.keyframes, stream.bytes), (100, 100, 100, 54_950));
    assert_eq!((packets.end_bytes, packets.unparsed_lines), (Some(99 * 700 + 599), 0));
    let shown = stream.presentation.clone().unwrap();
    assert_eq!(
        (shown.start_seconds, shown.end_seconds, shown.duration_seconds, shown.packet_seconds),
        (0.0, 4.0, 4.0, 4.0)
    );
    let rate = stream.bit_rate.clone().unwrap();
    assert_eq!((rate.average, rate.peak), (Some(109_900.0), 8 * (75..100).map(|n| 500 + n).sum::<u64>()));
    let spacing = stream.spacing.clone().unwrap();
    assert_eq!((spacing.constant, spacing.usual_seconds, spacing.usual_share), (Some(true), 0.04, 1.0));
    let lengths = stream.gop.clone().unwrap().lengths.unwrap();
    assert_eq!((lengths.min, lengths.max, lengths.fixed), (1, 1, true));
    assert_eq!((stream.continuity.gaps, stream.continuity.discontinuities), (0, 0));
    assert_eq!(series.len(), 1, "streams without packets have no series");
    let points = series[0].slice(0.0, 4.0, 4).points;
    assert_eq!((points.len(), points[0].packets, points[3].bytes), (4, 25, (75..100).map(|n| 500 + n).sum()));
}

#[test]
fn a_hole_is_a_gap_and_a_leap_is_none() {
    let stream = video((0..50).chain(75..100).map(|n| n * 40)).streams.remove(0);
    let gap = &stream.continuity.first_gaps[0];
    assert_eq!((stream.continuity.gaps, gap.at_seconds, gap.seconds, gap.position_bytes), (1, 2.0, 1.0, Some(50_000)));
    assert_eq!((stream.continuity.gap_seconds, stream.continuity.discontinuities), (1.0, 0));
    let shown = stream.presentation.unwrap();
    assert_eq!((shown.duration_seconds, shown.packet_seconds), (4.0, 3.0));
    assert_eq!(stream.spacing.unwrap().longest.seconds, 1.04);

    let stream = video((0..50).map(|n| n * 40).chain((0..50).map(|n| n * 40 + 12_001))).streams.remove(0);
    let jump = &stream.continuity.first_discontinuities[0];
    assert_eq!((stream.continuity.gaps, stream.continuity.discontinuities), (0, 1));
    assert_eq!((jump.at_seconds, jump.seconds), (2.0, 10.001));
    let stream = video([0, 40, 100]).streams.remove(0);
    assert_eq!(stream.continuity.gaps, 0, "half a duration late is jitter");
    assert_eq!(video([0, 40, 101]).streams.remove(0).continuity.gaps, 1);
}

#[test]
fn a_clock_of_one_tick_per_frame_is_exact() {
    let coarse = StreamInfo { time_base: Some((1, 25)), ..VIDEO };
    let read = |times: &[i64]| {
        let mut scan = Scan::new(&[coarse]);
        times.iter().for_each(|dts| scan.push(format!("0,{dts},{dts},1,9,1,K_\n").as_bytes()));
        scan.finish(1).0.streams.remove(0)
    };
    let even = read(&[0, 1, 2, 3, 4]);
    assert_eq!((even.continuity.gaps, even.spacing.unwrap().constant), (0, Some(true)));
    let lacks_one = read(&[0, 1, 2, 4, 5]);
    assert_eq!((lacks_one.continuity.gaps, lacks_one.continuity.gap_seconds), (1, 0.04));
    assert_eq!(lacks_one.spacing.unwrap().constant, Some(false));
}

#[test]
fn a_clock_that_runs_back_is_closed_up() {
    let clip = || (0..50).map(|n| n * 40);
    let stream = video(clip().chain(clip())).streams.remove(0);
    let jump = &stream.continuity.first_discontinuities[0];
    assert_eq!((stream.continuity.discontinuities, jump.at_seconds, jump.seconds), (1, 2.0, -2.0));
    assert_eq!((stream.timestamps.non_monotonic_dts, stream.timestamps.duplicate_pts), (1, 0));
    assert_eq!(stream.presentation.unwrap().duration_seconds, 4.0);
    assert_eq!(stream.timestamps.last_dts_seconds, Some(1.96), "timestamps are told as stated");

    let stream = video([0, 40, 80, 60, 80, 120]).streams.remove(0);
    assert_eq!((stream.timestamps.non_monotonic_dts, stream.continuity.discontinuities), (1, 0));
    assert_eq!(stream.timestamps.duplicate_pts, 1);
    assert_eq!(video([0, 40, 40, 80]).streams[0].timestamps.repeated_dts, 1);

    let wrapped = video(clip().chain(clip().map(|t| t + (1 << 50)))).streams.remove(0);
    assert_eq!(wrapped.presentation.unwrap().duration_seconds, 4.0, "one wrong stamp does not stretch the file");
}

#[test]
fn pauses_of_subtitles_are_none() {
    let (packets, _) = scan("2,0,0,1000,10,5,K_\n2,60000,60000,1000,10,6,K_\n2,1000,1000,1000,10,7,K_\n");
    let continuity = &packets.streams[2].continuity;
    assert_eq!((continuity.gaps, continuity.discontinuities), (0, 1), "but running back is");
}

#[test]
fn missing_values_are_counted() {
    let text =
        "0,23,N/A,40,7,1,K_\n0,143,N/A,40,7,2,__\n0,63,23,40,7,3,__\n0,103,63,N/A,7,N/A,__C\n0,N/A,103,40,7,5,_D_\n";
    let stream = scan(text).0.streams.remove(0);
    let stamps = &stream.timestamps;
    assert_eq!((stamps.missing_pts, stamps.missing_dts, stamps.missing_durations), (1, 2, 1));
    assert_eq!(
        (stamps.first_pts_seconds, stamps.first_dts_seconds, stamps.last_dts_seconds),
        (Some(0.023), Some(0.023), Some(0.103))
    );
    assert_eq!((stream.corrupt_packets, stream.discard_packets), (Some(1), 1));
    assert_eq!((stamps.reordered_packets, stamps.reorder_seconds), (None, Some(0.04)));
    assert_eq!(stream.gop.unwrap().kind, None);
    assert_eq!(stream.continuity, Continuity::default(), "packets without decoding time are no disorder");
    assert_eq!(scan("0,1,1,1,1,1,K_\n").0.streams[0].corrupt_packets, None, "this ffprobe does not say");
}

#[test]
fn priming_is_not_shown() {
    let text = "1,-1024,-1024,1024,9,1,KD,\n\n1,0,0,1024,9,2,K_\n";
    let (packets, _) = scan(text);
    let shown = packets.streams[1].presentation.clone().unwrap();
    assert_eq!((shown.start_seconds, shown.packet_seconds, packets.unparsed_lines), (0.0, 1024.0 / 48_000.0, 0));
}

#[test]
fn sound_and_picture_side_by_side() {
    let mut lines = String::new();
    for second in 0..10 {
        lines += &format!("0,{0},{0},1000,900,{1},K_\n", second * 1000, second * 1000);
        lines += &format!("1,{0},{0},48000,100,{1},K_\n", second * 48_000 + 24_000, second * 1000 + 900);
    }
    let (packets, _) = scan(&lines);
    let pair = &packets.audio_video[0];
    assert_eq!((pair.video_index, pair.audio_index), (0, 1));
    assert_eq!((pair.start_offset_seconds, pair.end_offset_seconds), (Some(0.5), Some(0.5)));
    assert_eq!(
        (pair.byte_distance, pair.time_distance_seconds, pair.resolution_seconds),
        (Some(900), Some(1), Some(1))
    );
}

#[test]
fn open_groups_are_seen() {
    let text = "0,40,0,40,9,1,K_\n0,80,40,40,9,2,__\n0,200,80,40,9,3,K_\n0,120,120,40,9,4,__\n0,160,160,40,9,5,__\n";
    let stream = scan(text).0.streams.remove(0);
    let gop = stream.gop.unwrap();
    assert_eq!((gop.kind, gop.open, gop.closed, gop.count), (Some(GopKind::Mixed), 1, 1, 2));
    assert_eq!((stream.timestamps.reordered_packets, stream.timestamps.reorder_seconds), (Some(2), Some(0.12)));
}

#[test]
fn everything_is_bounded() {
    let times = (0..500).map(|n| n * 500);
    let stream = video(times).streams.remove(0);
    assert_eq!((stream.continuity.gaps, stream.continuity.first_gaps.len()), (499, MAX_EVIDENCE));
    let mut scan = Scan::new(&[VIDEO]);
    for n in 0..140_000_i64 {
        scan.push(format!("0,N/A,{},1,1,1,K_\n", n * 1000).as_bytes());
    }
    let (_, series) = scan.finish(1);
    let all = series[0].slice(0.0, 1e9, MAX_BUCKETS);
    assert_eq!(series[0].resolution_seconds(), 4);
    assert_eq!(all.points.iter().map(|p| p.packets).sum::<u64>(), 140_000);
    assert!(Series::decode(&series[0].encode().unwrap()) == Ok(series[0].clone()));
}

#[test]
fn other_streams_and_lines_are_counted() {
    let long = format!("0,1,1,1,1,1,K_{}\n", ",".repeat(MAX_LINE_BYTES));
    let (packets, _) = scan(&format!("7,1,1,1,1,1,K_\n999,1,1,1,1,1,K_\nwords\n\n{long}0,1,1,1,1,1,K_"));
    assert_eq!((packets.unknown_stream_packets, packets.unparsed_lines), (2, 2));
    assert_eq!((packets.packets, packets.streams[0].packets), (3, 1), "the last line needs no end");
}

/// Times near the ends of the range, odd values and plausible ones.
fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("N/A".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        (-100_000_i64..100_000).prop_map(|n| n.to_string()),
        Just(i64::MAX.to_string()),
        Just((i64::MIN + 1).to_string()),
    ]
}

fn line() -> impl Strategy<Value = String> {
    let numbers = (0..5_u32, time(), time(), time(), any::<u32>(), time());
    let flags = prop_oneof![Just("K_"), Just("__"), Just("KDC"), Just("K_,"), Just("")];
    (numbers, flags).prop_map(|((stream, pts, dts, duration, size, position), flags)| {
        format!("{stream},{pts},{dts},{duration},{size},{position},{flags}\n")
    })
}

fn in_pieces(bytes: &[u8], cuts: &[usize]) -> (Packets, Vec<Series>) {
    let tiny = StreamInfo { index: 3, kind: StreamKind::Audio, time_base: Some((1, u32::MAX)) };
    let huge = StreamInfo { index: 4, kind: StreamKind::Video, time_base: Some((u32::MAX, 1)) };
    let mut scan = Scan::new(&[VIDEO, AUDIO, WORDS, tiny, huge]);
    let mut left = bytes;
    for cut in cuts {
        let (piece, rest) = left.split_at(cut % (left.len() + 1));
        scan.push(piece);
        left = rest;
    }
    scan.push(left);
    scan.finish(77)
}

proptest! {
    // a case may fill all buckets of five series
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_do_not_matter(lines in vec(line(), 0..40), noise in vec(any::<u8>(), 0..700), cuts in vec(any::<usize>(), 0..30)) {
        let bytes = [lines.concat().into_bytes(), noise].concat();
        let (whole, series) = in_pieces(&bytes, &[]);
        prop_assert_eq!(&in_pieces(&bytes, &cuts), &(whole.clone(), series.clone()));
        // every number is finite, else JSON would turn it into null
        let json = serde_json::to_string(&whole).unwrap();
        prop_assert_eq!(serde_json::from_str::<Packets>(&json).unwrap().packets, whole.packets);
        for series in series {
            prop_assert_eq!(Series::decode(&series.encode().unwrap()), Ok(series));
        }
    }
}
