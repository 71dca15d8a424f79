//! The scans of packets and frames against the real ffprobe: files that FFmpeg was told to make are read with the
//! arguments `shared` exports, outside any worker, and compared with what was told and with ffprobe's own counts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use shared::frames::{Frames, Plan, Request};
use shared::media::ScanType;
use shared::packets::{self, GopKind, Packets, Scan, Series, StreamInfo, StreamPackets};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fn path(name: &str) -> PathBuf {
    FOLDER.path().join(name)
}

/// Runs ffmpeg in the folder; the words before the name of the file it makes.
fn ffmpeg(words: &str, name: &str) -> PathBuf {
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(words.split_whitespace())
        .arg(name)
        .current_dir(FOLDER.path())
        .output()
        .expect("ffmpeg runs");
    assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
    path(name)
}

fn ffprobe(path: &Path, arguments: &[&str]) -> Vec<u8> {
    let run = Command::new("ffprobe").args(["-v", "fatal"]).args(arguments).arg(path).output().expect("ffprobe runs");
    run.stdout
}

fn text(path: &Path, arguments: &[&str]) -> String {
    String::from_utf8(ffprobe(path, arguments)).expect("ffprobe prints UTF-8")
}

const HEADERS: [&str; 4] = ["-of", "json=c=1", "-show_format", "-show_streams"];

/// Scans a file, and checks what must be true of every file: counts and bytes as ffprobe counts them, every line
/// understood, and the sums of the series.
fn scan(path: &Path) -> Packets {
    let streams = StreamInfo::list(&text(path, &HEADERS)).expect("JSON");
    let mut scan = Scan::new(&streams);
    for piece in ffprobe(path, &packets::arguments()).chunks(1000) {
        scan.push(piece);
    }
    let (found, series) = scan.finish(std::fs::metadata(path).expect("a file").len());
    let name = path.display();
    assert_eq!((found.unparsed_lines, found.unknown_stream_packets), (0, 0), "{name}");
    let counted = text(path, &["-count_packets", "-of", "json", "-show_entries", "stream=index,nb_read_packets"]);
    let counted: Value = serde_json::from_str(&counted).expect("JSON");
    let sizes = text(path, &["-of", "csv=p=0", "-show_entries", "packet=stream_index,size"]);
    for (stream, counted) in found.streams.iter().zip(counted["streams"].as_array().expect("streams")) {
        let packets: u64 = counted["nb_read_packets"].as_str().map_or(0, |count| count.parse().expect("a count"));
        assert_eq!(stream.packets, packets, "{name} stream {}", stream.index);
        let ours = format!("{},", stream.index);
        let sizes =
            sizes.lines().filter_map(|line| line.strip_prefix(&ours)?.trim_end_matches(',').parse::<u64>().ok());
        assert_eq!(stream.bytes, sizes.sum::<u64>(), "{name} stream {}", stream.index);
    }
    for series in series {
        let stored = Series::decode(&series.encode().expect("zstd compresses")).expect("it is a series");
        let (from, to) = stored.range_seconds();
        let points = stored.slice(from as f64, to as f64, 3).points;
        let stream = found.streams.iter().find(|stream| stream.index == series.stream_index()).expect("its stream");
        assert_eq!(points.iter().map(|point| point.bytes).sum::<u64>(), stream.bytes, "{name}");
        assert_eq!(points.iter().map(|point| point.keyframes).sum::<u64>(), stream.keyframes, "{name}");
    }
    found
}

fn near(found: Option<f64>, told: f64, within: f64) -> bool {
    found.is_some_and(|found| (found - told).abs() <= within)
}

fn duration(stream: &StreamPackets) -> Option<f64> {
    stream.presentation.as_ref().map(|presentation| presentation.duration_seconds)
}

const PICTURE: &str = "-f lavfi -i testsrc2=s=320x180:r=25:d=4";
const TONE: &str = "-f lavfi -i sine=sample_rate=48000:d=4";

#[test]
fn every_container_is_counted_and_even() {
    let h264 = "-c:v libx264 -preset ultrafast -bf 2 -g 25";
    let recipes = [
        ("even.mp4", format!("{h264} -c:a aac")),
        ("fragmented.mp4", format!("{h264} -c:a aac -movflags frag_keyframe+empty_moov")),
        ("even.mkv", format!("{h264} -c:a aac")),
        ("even.ts", format!("{h264} -c:a aac")),
        ("even.flv", format!("{h264} -c:a aac")),
        ("even.mov", "-c:v prores -c:a pcm_s16le".to_owned()),
        ("even.mxf", "-c:v mpeg2video -b:v 2M -g 12 -c:a pcm_s16le".to_owned()),
        ("even.avi", "-c:v mpeg4 -c:a pcm_s16le".to_owned()),
        ("even.webm", "-c:v libvpx -deadline realtime -c:a libopus".to_owned()),
        ("even.ogg", "-c:v libtheora -c:a libvorbis".to_owned()),
    ];
    for (name, codecs) in recipes {
        let found = scan(&ffmpeg(&format!("{PICTURE} {TONE} {codecs}"), name));
        let video = &found.streams[0];
        assert_eq!(video.packets, 100, "{name}");
        assert!(near(duration(video), 4.0, 0.05), "{name} {:?}", video.presentation);
        assert!(near(duration(&found.streams[1]), 4.0, 0.1), "{name} {:?}", found.streams[1].presentation);
        for stream in &found.streams {
            let continuity = &stream.continuity;
            assert_eq!((continuity.gaps, continuity.discontinuities), (0, 0), "{name} {continuity:?}");
            assert_eq!(stream.timestamps.non_monotonic_dts, 0, "{name}");
        }
        let spacing = video.spacing.as_ref().expect("steps");
        assert_eq!(spacing.constant, Some(true), "{name} {spacing:?}");
        assert!(near(Some(spacing.usual_seconds), 0.04, 0.0005), "{name} {spacing:?}");
        let rate = video.bit_rate.as_ref().expect("times");
        assert!(near(rate.average, video.bytes as f64 * 2.0, video.bytes as f64 * 0.03), "{name} {rate:?}");
        let pair = &found.audio_video[0];
        assert!(near(pair.start_offset_seconds, 0.0, 0.15), "{name} {pair:?}");
        assert!(pair.time_distance_seconds.is_some_and(|seconds| seconds <= 1), "{name} {pair:?}");
        assert!(found.coverage.is_some_and(|coverage| coverage > 0.85), "{name} {:?}", found.coverage);
    }
}

#[test]
fn sound_alone_is_described() {
    let found = scan(&ffmpeg(TONE, "tone.wav"));
    let stream = &found.streams[0];
    assert_eq!((stream.bytes, stream.gop.is_none(), found.audio_video.len()), (4 * 96_000, true, 0));
    assert_eq!(duration(stream), Some(4.0));
    assert!(near(stream.bit_rate.as_ref().and_then(|rate| rate.average), 768_000.0, 0.001));
}

#[test]
fn groups_of_pictures_are_open_or_closed_as_told() {
    let x264 = |open| {
        format!(
            "{PICTURE} -c:v libx264 -preset fast -bf 2 -x264-params keyint=20:min-keyint=20:scenecut=0:open-gop={open}"
        )
    };
    let x265 = |open| {
        format!(
            "{PICTURE} -c:v libx265 -preset ultrafast -bf 2 -x265-params log-level=none:keyint=20:min-keyint=20:scenecut=0:bframes=2:open-gop={open}"
        )
    };
    // an MP4 marks the keyframes of open groups of H.264 nowhere but in a table of its own; transport streams show them
    for (name, words, kind) in [
        ("closed264.mp4", x264(0), GopKind::Closed),
        ("closed264.ts", x264(0), GopKind::Closed),
        ("open264.ts", x264(1), GopKind::Mixed),
        ("closed265.mp4", x265(0), GopKind::Closed),
        ("open265.mp4", x265(1), GopKind::Mixed),
    ] {
        let gop = scan(&ffmpeg(&words, name)).streams.remove(0).gop.expect("groups");
        assert_eq!((gop.count, gop.kind, gop.open + gop.closed), (5, Some(kind), 5), "{name} {gop:?}");
        // the first group has nothing before it, and encoders place the others as their B-frames fall
        let open = if kind == GopKind::Mixed { 3..=4 } else { 0..=0 };
        assert!(open.contains(&gop.open) && near(gop.longest_seconds, 0.8, 0.05), "{name} {gop:?}");
        let lengths = gop.lengths.expect("several groups");
        if kind == GopKind::Closed {
            assert_eq!((lengths.min, lengths.max, lengths.fixed, gop.last_length), (20, 20, true, 20), "{name}");
        }
    }
}

#[test]
fn variable_frame_rate_is_seen() {
    let words = format!("{PICTURE} -vf select=not(mod(n\\,7))+mod(n\\,3) -vsync vfr -c:v libx264 -preset ultrafast");
    for name in ["variable.mp4", "variable.mkv"] {
        let stream = scan(&ffmpeg(&words, name)).streams.remove(0);
        assert_eq!(stream.spacing.expect("steps").constant, Some(false), "{name}");
    }
}

#[test]
fn a_hole_in_a_transport_stream_is_a_gap() {
    let source = ffmpeg(&format!("{PICTURE} -c:v mpeg2video -g 25 -bf 0"), "whole.ts");
    let words = format!("-i {} -c copy -copyts -bsf:v noise=drop=between(n\\,50\\,74)", source.display());
    let stream = scan(&ffmpeg(&words, "hole.ts")).streams.remove(0);
    assert_eq!(stream.packets, 75);
    let gap = stream.continuity.first_gaps.first().expect("a gap");
    assert_eq!((stream.continuity.gaps, stream.continuity.discontinuities), (1, 0), "{:?}", stream.continuity);
    assert!(near(Some(gap.seconds), 1.0, 0.001), "{gap:?}");
    let start = stream.timestamps.first_dts_seconds.expect("times");
    assert!(near(Some(gap.at_seconds - start), 2.0, 0.001), "{gap:?}");
}

#[test]
fn joined_transport_streams_break_and_go_on() {
    let part = |offset: u32, name: &str| {
        let words =
            format!("{PICTURE} {TONE} -c:v libx264 -preset ultrafast -bf 2 -g 25 -c:a aac -output_ts_offset {offset}");
        std::fs::read(ffmpeg(&words, name)).expect("a part")
    };
    let (early, late) = (part(0, "early.ts"), part(1000, "late.ts"));
    for (name, bytes) in [("back.ts", [late.clone(), early.clone()].concat()), ("forward.ts", [early, late].concat())] {
        std::fs::write(path(name), bytes).expect("a joined file");
        let found = scan(&path(name));
        for stream in &found.streams {
            let continuity = &stream.continuity;
            assert_eq!(continuity.discontinuities, 1, "{name} {continuity:?}");
            let jump = &continuity.first_discontinuities[0];
            // ffprobe takes a clock that starts anew for a wrap of its 33 bits
            let told = if name == "back.ts" { 95_443.7 - 1004.0 } else { 996.0 };
            assert!(near(Some(jump.seconds), told, 0.2), "{name} {jump:?}");
            let told = if name == "back.ts" { 8.0 } else { 1004.0 };
            assert!(near(duration(stream), told, 0.2), "{name} {:?}", stream.presentation);
        }
    }
}

#[test]
fn a_clock_that_wraps_goes_on() {
    // MPEG's clock has 33 bits at 90 kHz: it begins anew after 95,443.7 s
    let words = format!("{PICTURE} -c:v mpeg2video -g 25 -output_ts_offset 95441");
    let stream = scan(&ffmpeg(&words, "wrap.ts")).streams.remove(0);
    assert!(near(duration(&stream), 4.0, 0.05), "{stream:?}");
    assert_eq!(stream.packets, 100);
}

#[test]
fn late_sound_and_loose_interleaving_are_measured() {
    let late = format!("{PICTURE} -itsoffset 0.5 {TONE} -c:v libx264 -preset ultrafast -c:a pcm_s16le");
    for name in ["late.mkv", "late.mov"] {
        let found = scan(&ffmpeg(&late, name));
        assert!(near(found.audio_video[0].start_offset_seconds, 0.5, 0.03), "{name} {:?}", found.audio_video);
        assert!(near(found.audio_video[0].end_offset_seconds, 0.5, 0.05), "{name} {:?}", found.audio_video);
    }
    // a fragment holds all its pictures and then all its sound
    let apart = format!("{PICTURE} {TONE} -c:v mpeg4 -b:v 1M -c:a aac -movflags empty_moov -frag_duration 3000000");
    let pair = scan(&ffmpeg(&apart, "apart.mp4")).audio_video.remove(0);
    assert!(pair.time_distance_seconds.is_some_and(|seconds| seconds >= 2), "{pair:?}");
    assert!(pair.byte_distance.is_some_and(|bytes| bytes > 100_000), "{pair:?}");
}

/// Looks at frames with the arguments of a plan.
fn frames(path: &Path, request: Request) -> Frames {
    let plan = Plan::new(&request, &text(path, &HEADERS)).expect("a plan");
    let arguments = plan.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    plan.read(&text(path, &arguments)).expect("ffprobe's answer")
}

#[test]
fn windows_are_spread_and_no_frame_counts_twice() {
    let picture = "-f lavfi -i testsrc2=s=320x180:r=25:d=20 -c:v libx264 -preset ultrafast -bf 2 -g 25 -sc_threshold 0";
    for name in ["sample.mp4", "sample.mkv", "sample.ts"] {
        let file = ffmpeg(picture, name);
        let found = frames(&file, Request { first: 50, windows: 4, ..Request::default() });
        let coverage = &found.coverage;
        assert_eq!(coverage.asked.len(), 5, "{name}");
        assert!(coverage.complete && coverage.frames >= 100, "{name} {coverage:?}");
        assert!(coverage.seconds < 20.1 && coverage.share.is_some_and(|share| share > 0.15), "{name} {coverage:?}");
        let mut times: Vec<i64> = found.frames.iter().filter_map(|f| Some((f.at_seconds? * 1e6) as i64)).collect();
        times.sort_unstable();
        let all = times.len();
        times.dedup();
        assert_eq!((times.len(), all as u64), (all, coverage.frames), "{name}");
        for asked in coverage.asked.iter().filter_map(|asked| asked.start_seconds) {
            let meets =
                |span: &shared::frames::Span| span.start_seconds < asked + 2.0 && span.end_seconds > asked - 1.1;
            assert!(coverage.seen.iter().any(meets), "{name} {asked} {:?}", coverage.seen);
        }
        let everything = frames(&file, Request { first: 500, windows: 0, ..Request::default() });
        assert_eq!((everything.coverage.frames, everything.coverage.seen.len()), (500, 1), "{name}");
        let distances = everything.keyframe_distances.expect("keyframes");
        assert_eq!((distances.count, distances.min, distances.max, everything.keyframes), (19, 25, 25, 20), "{name}");
        assert_eq!(everything.scanning.verdict, Some(ScanType::Progressive), "{name}");
        let types = everything.picture_types;
        assert_eq!((types.i, types.i + types.p + types.b, types.other), (20, 500, 0), "{name}");
    }
}

#[test]
fn frames_say_interlaced_and_hdr() {
    let fields =
        "-f lavfi -i testsrc2=s=720x576:r=50:d=1,tinterlace=interleave_top -c:v mpeg2video -flags +ildct+ilme -top 1";
    let found = frames(&ffmpeg(fields, "fields.mxf"), Request::default());
    assert_eq!(found.scanning.verdict, Some(ScanType::Interlaced), "{:?}", found.scanning);
    assert_eq!((found.scanning.counts.top_first, found.scanning.counts.bottom_first), (25, 0));
    let hdr = "-f lavfi -i testsrc2=s=320x180:r=25:d=1 -c:v libx265 -preset ultrafast -pix_fmt yuv420p10le -x265-params \
log-level=none:hdr10=1:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400:\
colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc";
    let found = frames(&ffmpeg(hdr, "hdr.mp4"), Request::default());
    let display = found.hdr.last_mastering_display.expect("a display");
    assert_eq!((display.min_luminance, display.max_luminance), (Some(0.005), Some(1000.0)));
    let light = found.hdr.first_light.expect("light levels");
    assert_eq!((light.max_cll, light.max_fall, found.coverage.frames), (Some(1000), Some(400), 25));
    assert_eq!(found.formats[0].pixel_format.as_deref(), Some("yuv420p10le"));
    assert_eq!((found.closed_captions, found.format_changes), (Some(false), 0));
}

#[test]
fn a_change_of_size_is_seen() {
    let part = |size: &str, name: &str| {
        let words = format!("-f lavfi -i testsrc2=s={size}:r=25:d=1 -c:v mpeg2video -g 5");
        std::fs::read(ffmpeg(&words, name)).expect("a part")
    };
    let both = [part("320x180", "small.ts"), part("640x360", "large.ts")].concat();
    std::fs::write(path("sizes.ts"), both).expect("a joined file");
    let found = frames(&path("sizes.ts"), Request { windows: 0, ..Request::default() });
    let widths: Vec<_> = found.formats.iter().map(|format| format.width).collect();
    assert_eq!((widths, found.format_changes), (vec![Some(320), Some(640)], 1));
}
