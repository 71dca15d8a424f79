//! Test only: answers as ffprobe 5.1 prints them, and broken in every way.

use proptest::prelude::*;

use super::super::{Lights, MAX_FORMATS, MAX_KINDS, MAX_LISTED, MAX_SPANS, Request, ValueCount};
use super::*;
use crate::media::ScanType;

/// What ffprobe 5.1 printed for the first frame of an HDR10 file of x265's, shortened.
const HDR10: &str = r#"{ "frames": [
    { "media_type": "video", "stream_index": 0, "key_frame": 1, "best_effort_timestamp_time": "0.000000",
      "pkt_pos": "44", "pkt_size": "6856", "width": 320, "height": 180, "pix_fmt": "yuv420p10le", "pict_type": "I",
      "interlaced_frame": 0, "top_field_first": 0, "repeat_pict": 0, "side_data_list": [
        { "side_data_type": "Mastering display metadata", "red_x": "34000/50000", "red_y": "16000/50000",
          "green_x": "13250/50000", "green_y": "34500/50000", "blue_x": "7500/50000", "blue_y": "3000/50000",
          "white_point_x": "15635/50000", "white_point_y": "16450/50000", "min_luminance": "50/10000",
          "max_luminance": "10000000/10000" },
        { "side_data_type": "Content light level metadata", "max_content": 1000, "max_average": 400 },
        { "side_data_type": "HDR Dynamic Metadata SMPTE2094-40 (HDR10+)", "application version": 1 },
        { "side_data_type": "Dolby Vision RPU Data" }, { "side_data_type": "Dolby Vision Metadata", "rpu_type": 2 },
        { "side_data_type": "H.26[45] User Data Unregistered SEI message" },
        { "side_data_type": "H.26[45] User Data Unregistered SEI message" } ] } ] }"#;

fn plan() -> Plan {
    let file = r#"{"format":{"duration":"100"},"streams":[{"index":0,"codec_type":"video","avg_frame_rate":"25/1"}]}"#;
    Plan::new(&Request { windows: 1, first: 100, ..Request::default() }, file).unwrap()
}

fn read(json: &str) -> Frames {
    plan().read(json).unwrap()
}

/// An answer with these frames, each given as its time and more fields.
fn answer(frames: &[(f64, &str)]) -> String {
    let frame = |(at, more): &(f64, &str)| {
        format!(r#"{{"media_type":"video","stream_index":0,"best_effort_timestamp_time":"{at:.6}"{more}}}"#)
    };
    format!(r#"{{"frames":[{}]}}"#, frames.iter().map(frame).collect::<Vec<_>>().join(","))
}

fn side(data: &str) -> String {
    format!(r#","side_data_list":[{data}]"#)
}

#[test]
fn hdr_metadata_of_a_frame() {
    let frames = read(HDR10);
    let display = frames.hdr.first_mastering_display.clone().unwrap();
    assert_eq!((display.max_luminance, display.red.map(|red| red.x)), (Some(1000.0), Some(0.68)));
    assert_eq!(frames.hdr.last_light, Some(Lights { max_cll: Some(1000), max_fall: Some(400) }));
    let hdr = &frames.hdr;
    assert_eq!((hdr.hdr10_plus_frames, hdr.dolby_vision_frames, hdr.vivid_frames), (1, 1, 0));
    assert_eq!(frames.side_data.len(), 6, "a frame counts once per kind");
    assert!(frames.side_data.iter().all(|count| count.frames == 1));
    assert_eq!((frames.scanning.verdict, frames.closed_captions), (Some(ScanType::Progressive), Some(false)));
    assert_eq!((frames.picture_types.i, frames.keyframes, frames.frames[0].bytes), (1, 1, Some(6856)));
    assert_eq!(frames.formats[0].pixel_format.as_deref(), Some("yuv420p10le"));
}

#[test]
fn captions_afd_and_timecodes() {
    let captions = side(
        r#"{"side_data_type":"ATSC A53 Part 4 Closed Captions"},
        {"side_data_type":"Active format description","active_format":10}"#,
    );
    let group = side(r#"{"side_data_type":"GOP timecode","timecode":"00:59:59:24"}"#);
    let smpte = side(
        r#"{"side_data_type":"SMPTE 12-1 timecode","timecodes":[{"value":"01:00:00:00"},{"value":"x"}]},
        {"side_data_type":"Active format description","active_format":8},
        {"side_data_type":"Active format description","active_format":99}"#,
    );
    let tag = r#","tags":{"timecode":"01:00:00:01"}"#;
    let frames = read(&answer(&[(0.0, &captions), (0.04, &group), (0.08, &smpte), (0.12, tag), (0.16, &captions)]));
    assert_eq!(frames.closed_captions, Some(true));
    assert_eq!(frames.afd, [ValueCount { value: 8, frames: 1 }, ValueCount { value: 10, frames: 2 }]);
    let label =
        |found: &Option<super::super::TimecodeAt>| found.as_ref().map(|at| (at.timecode.clone(), at.at_seconds));
    assert_eq!(label(&frames.first_timecode), Some(("00:59:59:24".to_owned(), Some(0.04))));
    assert_eq!(label(&frames.last_timecode), Some(("01:00:00:01".to_owned(), Some(0.12))));
}

#[test]
fn coverage_says_what_was_seen() {
    let places: Vec<String> = (0..7).map(|n| format!(r#","pkt_pos":"{}""#, n * 100)).collect();
    let mut list: Vec<(f64, &str)> = vec![(0.0, &places[0]), (0.04, &places[1]), (0.08, &places[2])];
    list.extend([(50.0, places[5].as_str()), (50.04, &places[6])]);
    list.extend([(0.04, places[1].as_str()), (50.0, &places[5])]);
    list.push((0.04, &places[4]));
    let frames = read(&answer(&list));
    let coverage = &frames.coverage;
    assert_eq!((coverage.frames, coverage.repeated_frames, coverage.untimed_frames), (6, 2, 0));
    let seen: Vec<_> = coverage.seen.iter().map(|span| (span.start_seconds, span.frames)).collect();
    assert_eq!(seen, [(0.0, 3), (50.0, 2), (0.04, 1)], "the same time at another place is another frame");
    assert!((coverage.seconds - 0.24).abs() < 1e-9 && (coverage.share.unwrap() - 0.0024).abs() < 1e-9, "{coverage:?}");
    let asked: Vec<_> = coverage.asked.iter().map(|asked| (asked.start_seconds, asked.packets)).collect();
    assert_eq!(asked, [(None, 100), (Some(50.0), 25)]);
    assert!(coverage.complete);
}

#[test]
fn keyframe_distances_do_not_span_holes() {
    let (key, other) = (r#","key_frame":1,"pict_type":"I""#, r#","key_frame":0,"pict_type":"B""#);
    let frames = read(&answer(&[(0.0, key), (0.04, other), (0.08, key), (50.0, other), (50.04, key), (50.08, key)]));
    let distances = frames.keyframe_distances.unwrap();
    assert_eq!((distances.count, distances.min, distances.max, distances.mean), (2, 1, 2, 1.5));
    assert_eq!((frames.picture_types.i, frames.picture_types.b, frames.keyframes), (4, 2, 4));
}

#[test]
fn fields_and_changes_of_format() {
    let top = r#","interlaced_frame":1,"top_field_first":1,"repeat_pict":1,"width":720,"height":576"#;
    let bottom = r#","interlaced_frame":1,"top_field_first":0,"width":720,"height":480"#;
    let frames = read(&answer(&[(0.0, top), (0.04, bottom), (0.08, bottom)]));
    let counts = frames.scanning.counts;
    assert_eq!((counts.top_first, counts.bottom_first, counts.repeated_fields), (1, 2, 1));
    assert_eq!(frames.scanning.verdict, Some(ScanType::Interlaced));
    let heights: Vec<_> = frames.formats.iter().map(|format| (format.at_seconds, format.height)).collect();
    assert_eq!((heights, frames.format_changes), (vec![(Some(0.0), Some(576)), (Some(0.04), Some(480))], 1));
    let mixed = read(&answer(&[(0.0, top), (0.04, r#","interlaced_frame":0"#)]));
    assert_eq!(mixed.scanning.verdict, None);
}

#[test]
fn a_cut_answer_is_told_as_far_as_it_goes() {
    let whole = answer(&[(0.0, ""), (0.04, ""), (0.08, "")]);
    let cut = read(&whole[..whole.len() - 20]);
    assert_eq!((cut.coverage.frames, cut.coverage.complete), (2, false));
    let error = plan().read(&whole[..30]).unwrap_err();
    assert!(error.to_string().starts_with("ffprobe's frames output"), "{error}");
    assert!(plan().read("").is_err() && plan().read("[]").is_err());
    let none = read(r#"{"other":[1],"frames":[]}"#);
    assert_eq!((none.coverage.frames, none.closed_captions, none.scanning.verdict), (0, None, None));
}

#[test]
fn lists_are_bounded() {
    let data: Vec<String> = (0..60).map(|n| format!(r#"{{"side_data_type":"kind {n}"}}"#)).collect();
    let more: Vec<String> = (0..3000)
        .map(|n| format!(r#","width":{}{}"#, n % 7 + 1, side(&data.join(",")).replace("kind", &format!("k{}", n % 3))))
        .collect();
    let list: Vec<(f64, &str)> = more.iter().enumerate().map(|(n, more)| (n as f64 * 10.0, more.as_str())).collect();
    let frames = read(&answer(&list));
    assert_eq!((frames.frames.len(), frames.formats.len(), frames.format_changes), (MAX_LISTED, MAX_FORMATS, 2999));
    assert_eq!(
        (frames.side_data.len(), frames.coverage.seen.len(), frames.coverage.frames),
        (MAX_KINDS, MAX_SPANS, 3000)
    );
    assert_eq!(frames.coverage.seen.iter().map(|span| span.frames).sum::<u64>(), 3000);
}

#[test]
fn frames_of_other_streams_are_passed_over() {
    let json = r#"{"frames":[{"stream_index":1},{"media_type":"audio","stream_index":0},{"stream_index":0},7,null]}"#;
    // what is no frame is one that says nothing
    assert_eq!((read(json).coverage.frames, read(json).coverage.untimed_frames), (3, 3));
}

proptest! {
    #[test]
    fn broken_answers_never_panic(cut in 0..HDR10.len(), at in 0..HDR10.len(), byte in any::<u8>(), numbers in any::<(f64, i64)>()) {
        let mut bytes = HDR10.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut);
        let odd = format!(r#"{{"frames":[{{"best_effort_timestamp_time":{},"pkt_pos":{}}},{{"best_effort_timestamp_time":"1e308"}}]}}"#, numbers.0, numbers.1);
        for json in [String::from_utf8_lossy(&bytes).into_owned(), odd] {
            if let Ok(frames) = plan().read(&json) {
                let json = serde_json::to_string(&frames).unwrap();
                prop_assert_eq!(serde_json::from_str::<Frames>(&json).unwrap().coverage.frames, frames.coverage.frames);
            }
        }
    }
}
