//! The normaliser against what the real ffprobe says of real files. No server: only ffmpeg, ffprobe and `shared::media`.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use shared::media::{self, Media, NormalizeError};
use tests::samples::{self, Outcome, Sample};

/// The containers the samples use; without playlists, as in the product.
const CONTAINERS: &str = "mov,matroska,webm,mpegts,mxf,avi,wav,flac,mp3";

fn ffprobe(path: &Path, arguments: &[&str]) -> String {
    let run = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json=c=1", "-format_whitelist", CONTAINERS])
        .args(arguments)
        .arg("-i")
        .arg(path)
        .output()
        .expect("ffprobe runs");
    String::from_utf8(run.stdout).expect("ffprobe prints UTF-8")
}

fn headers(path: &Path) -> String {
    ffprobe(path, &["-show_format", "-show_streams", "-show_chapters", "-show_programs"])
}

fn first_frame(path: &Path) -> String {
    ffprobe(path, &["-select_streams", "v:0", "-read_intervals", "%+#1", "-show_frames"])
}

fn normalized(sample: &Sample) -> Media {
    let path = sample.path();
    let size = std::fs::metadata(path).expect("a sample").len();
    let name = format!("{}.{}", sample.name, sample.extension);
    media::normalize(&name, size, &headers(path), Some(&first_frame(path))).expect("a good file is described")
}

#[test]
fn media_says_what_ffmpeg_was_told() {
    let begun = Instant::now();
    samples::make_all();
    println!("samples ready after {:?}", begun.elapsed());
    let mut wrong = Vec::new();
    for sample in samples::all() {
        let media = serde_json::to_value(normalized(sample)).expect("media is JSON");
        println!("{}", serde_json::to_string_pretty(&media).expect("media is JSON"));
        wrong.extend(sample.differences(&media));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn differences_are_noticed() {
    let sample = samples::all().iter().find(|sample| sample.name == "wav").expect("a sample");
    let mut media = serde_json::to_value(normalized(sample)).expect("media is JSON");
    media["audio"][0]["channels"] = json!(2);
    media["container"]["duration_seconds"] = json!(1.2);
    media["container"].as_object_mut().expect("an object").remove("brand");
    let differences = sample.differences(&media);
    let expected = [
        "wav /audio/0/channels: ffmpeg was told 6, media says 2",
        "wav /container/brand: ffmpeg was told null, media says nothing",
        "wav /container/duration_seconds: ffmpeg was told 1.0, media says 1.2",
    ];
    assert_eq!(differences, expected);
}

#[test]
fn without_the_first_frame_nothing_is_called_standard_range() {
    for sample in samples::all() {
        let media = media::normalize("n", 1, &headers(sample.path()), None).expect("a good file is described");
        for video in media.video {
            let formats = serde_json::to_value(&video.hdr.formats).expect("formats are JSON");
            let expected = if sample.name == "hlg" { json!(["HLG"]) } else { Value::Null };
            assert_eq!(formats, expected, "{}", sample.name);
        }
    }
}

#[test]
fn frames_may_stand_in_the_same_document() {
    let path = samples::path("hdr10");
    let both = ffprobe(&path, &["-show_format", "-show_streams", "-show_frames", "-read_intervals", "%+#1"]);
    let media = media::normalize("n", 1, &both, None).expect("a good file is described");
    assert_eq!(media.video[0].hdr.max_cll, Some(1000));
}

#[test]
fn hostile_files_are_refused_or_described_from_their_header() {
    for hostile in samples::hostile() {
        let path = hostile.path();
        let described = media::normalize("x.mp4", 1, &headers(&path), Some(&first_frame(&path)));
        match hostile.outcome {
            Outcome::Unreadable => assert!(matches!(described, Err(NormalizeError::Nothing)), "{}", hostile.name),
            Outcome::HeaderOnly => {
                let video = &described.expect("the header is whole").video[0];
                assert_eq!((video.width, video.frame_count), (Some(320), Some(25)), "{}", hostile.name);
            }
        }
    }
}

#[test]
fn the_raw_document_carries_the_clients_name() {
    for sample in samples::all() {
        let raw = headers(sample.path());
        let renamed = media::rename_filename(&raw, "client's \"name\".bin").expect("ffprobe prints JSON");
        let ours = serde_json::to_string(&sample.path()).expect("a path is text");
        assert_eq!(renamed.matches(&ours).count(), 0, "our path leaks: {renamed}");
        assert_eq!(renamed, raw.replacen(&ours, r#""client's \"name\".bin""#, 1), "nothing else changes");
    }
}

/// The names of pixel formats are read by grammar; FFmpeg itself says what each means.
#[test]
fn pixel_formats_mean_what_ffmpeg_says() {
    let list = Command::new("ffmpeg").args(["-hide_banner", "-pix_fmts"]).output().expect("ffmpeg runs").stdout;
    let list = String::from_utf8(list).expect("text");
    let mut checked = 0;
    for line in list.lines().skip_while(|line| *line != "-----").skip(1) {
        // FLAGS NAME NB_COMPONENTS BITS_PER_PIXEL [BIT_DEPTHS]
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, name, _, bits_per_pixel, ..] = columns[..] else { panic!("unexpected line {line}") };
        let json = format!(r#"{{"streams":[{{"codec_type":"video","pix_fmt":"{name}"}}]}}"#);
        let video = &media::normalize("n", 1, &json, None).expect("JSON").video[0];
        let Some(depths) = columns.get(4).map(|depths| depths.split('-').collect::<Vec<_>>()) else {
            continue;
        };
        let even = depths.iter().all(|depth| *depth == depths[0]) && !name.starts_with("bayer");
        let told: Option<u32> = even.then(|| depths[0].parse().expect("a depth"));
        assert_eq!(video.bit_depth, told, "{name}");
        // Three or four samples of equal depth per pixel are 4:4:4; fewer bits than that are subsampled.
        if let (Some(depth), Some(chroma), 3..) = (told, &video.chroma_subsampling, depths.len()) {
            let bits: usize = bits_per_pixel.parse().expect("a number");
            let alpha = if depths.len() == 4 { depth as usize } else { 0 };
            let chroma_bits = (bits - alpha) * 2 / depth as usize;
            let expected = match chroma.as_str() {
                "4:4:4" => 6,
                "4:2:2" | "4:4:0" => 4,
                "4:2:0" | "4:1:1" => 3,
                "4:1:0" => 2,
                other => panic!("{name} is {other}"),
            };
            assert_eq!(chroma_bits, expected, "{name} is not {chroma}");
        }
        checked += 1;
    }
    assert!(checked > 150, "only {checked} formats were checked");
}
