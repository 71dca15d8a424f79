//! The normaliser against what the real ffprobe says of real files. No server: only ffmpeg, ffprobe and `shared::media`.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

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

/// What ffprobe says of a file.
struct Probe {
    headers: String,
    first_frame: String,
}

fn probe(path: &Path) -> Probe {
    Probe {
        headers: ffprobe(path, &["-show_format", "-show_streams", "-show_chapters", "-show_programs"]),
        first_frame: ffprobe(path, &["-select_streams", "v:0", "-read_intervals", "%+#1", "-show_frames"]),
    }
}

/// Every sample with what ffprobe says of it, probed once for all tests, two at a time.
fn probed() -> impl Iterator<Item = (&'static Sample, &'static Probe)> {
    static PROBES: LazyLock<Vec<Probe>> = LazyLock::new(|| {
        samples::make_all();
        let (first, second) = samples::all().split_at(samples::all().len() / 2);
        let half = |samples: &'static [Sample]| move || samples.iter().map(|sample| probe(sample.path())).collect();
        std::thread::scope(|scope| {
            let second = scope.spawn(half(second));
            let mut probes: Vec<Probe> = half(first)();
            probes.append(&mut second.join().expect("ffprobe ran"));
            probes
        })
    });
    samples::all().iter().zip(PROBES.iter())
}

fn normalized(sample: &Sample, probe: &Probe) -> Media {
    let size = std::fs::metadata(sample.path()).expect("a sample").len();
    let name = format!("{}.{}", sample.name, sample.extension);
    media::normalize(&name, size, &probe.headers, Some(&probe.first_frame)).expect("a good file is described")
}

#[test]
fn media_says_what_ffmpeg_was_told() {
    let mut wrong = Vec::new();
    for (sample, probe) in probed() {
        let media = serde_json::to_value(normalized(sample, probe)).expect("media is JSON");
        wrong.extend(sample.differences(&media));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn differences_are_noticed() {
    let (sample, probe) = probed().find(|(sample, _)| sample.name == "wav").expect("a sample");
    let mut media = serde_json::to_value(normalized(sample, probe)).expect("media is JSON");
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
fn without_the_first_frame_nothing_is_guessed() {
    for (sample, probe) in probed() {
        let media = media::normalize("n", 1, &probe.headers, None).expect("a good file is described");
        for video in media.video {
            let formats = serde_json::to_value(&video.hdr.formats).expect("formats are JSON");
            let expected = match sample.name {
                "hlg" => json!(["HLG"]),
                // HDR10's metadata stands in the frame, and untagged 10 bits may be anything
                "hdr10" | "ten_bit" => Value::Null,
                _ => json!([]),
            };
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
        let probe = probe(&path);
        let described = media::normalize("x.mp4", 1, &probe.headers, Some(&probe.first_frame));
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
    for (sample, probe) in probed() {
        let raw = &probe.headers;
        let renamed = media::rename_filename(raw, "client's \"name\".bin").expect("ffprobe prints JSON");
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
        // Hardware surfaces have no depth.
        if bits_per_pixel == "0" {
            assert_eq!((video.bit_depth, &video.chroma_subsampling), (None, &None), "{name}");
            continue;
        }
        let depths: Vec<&str> = columns.get(4).expect("depths").split('-').collect();
        let even = depths.iter().all(|depth| *depth == depths[0]) && !name.starts_with("bayer");
        let told: Option<u32> = even.then(|| depths[0].parse().expect("a depth"));
        assert_eq!(video.bit_depth, told, "{name}");
        // Three or four samples of equal depth per pixel are 4:4:4; fewer bits than that are subsampled.
        if let (Some(depth), Some(chroma), 3..) = (told, &video.chroma_subsampling, depths.len()) {
            let bits: usize = bits_per_pixel.parse().expect("a number");
            let alpha = if depths.len() == 4 { depth as usize } else { 0 };
            // ffmpeg rounds half bits down
            let chroma_bits = ((bits - alpha) * 2 + depth as usize / 2) / depth as usize;
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
