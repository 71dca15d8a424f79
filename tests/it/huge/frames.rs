//! The profiles `frames`, `quick` and `standard` end to end: which frames are looked at, what they say, how little is read,
//! and whether the file is all there.

use serde_json::{Value, json};
use tests::big::{FIFTY_GB, Shape};
use tests::cost::{Site, Way};
use tests::samples;

use super::{ending, ffmpeg};

const PICTURE: &str = "-f lavfi -i testsrc2=s=160x90:r=25:d=20";
const H264: &str = "-c:v libx264 -preset ultrafast -bf 2 -g 25 -sc_threshold 0";

#[tokio::test]
async fn frames_are_looked_at_as_asked() {
    let site = Site::new(&[]).await;
    let media = site.installation.media();
    let file = ffmpeg(&format!("{PICTURE} {H264}"), &media.join("a.mp4"));
    let look = async |way: Way, frames: Value| {
        let job = site.run(&json!({"source": site.source(&file, way), "profile": "frames", "frames": frames})).await;
        assert_eq!(ending(&job), "succeeded", "{job}");
        job["result"]["frames"].clone()
    };
    for way in [Way::Path, Way::Http] {
        let found = look(way, json!({"first": 50, "windows": 0})).await;
        assert_eq!(found["coverage"]["frames"], 50, "{way:?} {}", found["coverage"]);
        assert_eq!(
            (&found["keyframes"], &found["picture_types"]["i"], &found["stream_index"]),
            (&json!(2), &json!(2), &json!(0))
        );
        let found = look(way, json!({"first": 25, "windows": 4, "window_frames": 10})).await;
        let (spans, asked) = (&found["coverage"]["seen"], &found["coverage"]["asked"]);
        assert_eq!((spans.as_array().map(Vec::len), asked.as_array().map(Vec::len)), (Some(5), Some(5)), "{found}");
        let frames = found["coverage"]["frames"].as_u64().expect("a count");
        // pictures at the end of a window may lack their neighbours
        assert!((25 + 4 * 8..=25 + 4 * 10).contains(&frames), "{frames}");
        assert_eq!(found["coverage"]["complete"], true);
    }
    let whole = look(Way::Path, Value::Null).await;
    assert!(whole["coverage"]["frames"].as_u64() >= Some(250), "{}", whole["coverage"]);

    let two = ffmpeg(
        &format!("{PICTURE} -f lavfi -i testsrc2=s=320x180:r=25:d=2 -f lavfi -i sine=d=2 -map 2 -map 0 -map 1 {H264}"),
        &media.join("two.mkv"),
    );
    for (stream, width) in [(1, 160), (2, 320)] {
        let frames = json!({"first": 10, "windows": 0, "stream": stream});
        let job =
            site.run(&json!({"source": site.source(&two, Way::Path), "profile": "frames", "frames": frames})).await;
        let found = &job["result"]["frames"];
        assert_eq!((&found["stream_index"], &found["formats"][0]["width"]), (&json!(stream), &json!(width)), "{job}");
    }
    for stream in [0, 7] {
        let frames = json!({"stream": stream});
        let job =
            site.run(&json!({"source": site.source(&two, Way::Path), "profile": "frames", "frames": frames})).await;
        assert_eq!((ending(&job), &job["attempt"]), ("no_video", &json!(1)), "{job}");
    }
    let sound = ffmpeg("-f lavfi -i sine=d=1", &media.join("a.wav"));
    let job = site.run(&json!({"source": site.source(&sound, Way::Path), "profile": "frames"})).await;
    assert_eq!(ending(&job), "no_video", "{job}");
    for (frames, pointer) in [(json!({"first": 0}), "#/frames/first"), (json!({"windows": 21}), "#/frames/windows")] {
        let body = json!({"source": site.source(&file, Way::Path), "profile": "frames", "frames": frames});
        let answer = site.http.post("/api/v1/jobs", &body).await;
        answer.problem(400, "invalid_value");
        assert_eq!(answer.json["errors"][0]["pointer"], pointer, "{}", answer.text);
    }
}

#[tokio::test]
async fn quick_reads_less_and_says_nothing_of_completeness() {
    let site = Site::new(&[]).await;
    let file = Shape::TransportStream.write(&site.installation.media(), FIFTY_GB);
    for way in [Way::Path, Way::Http] {
        let [quick, standard] =
            ["quick", "standard"].map(|profile| json!({"source": site.source(&file, way), "profile": profile}));
        let (quick, standard) = (site.run(&quick).await, site.run(&standard).await);
        let read = |job: &Value| {
            let provenance = &job["result"]["provenance"];
            let read = if way == Way::Path { &provenance["bytes_read"] } else { &provenance["remote"]["bytes"] };
            read.as_u64().expect("a count")
        };
        println!("{way:?}: quick read {} bytes, standard {}", read(&quick), read(&standard));
        assert!(read(&quick) * 5 < read(&standard) * 4, "{way:?}: {} and {}", read(&quick), read(&standard));
        assert_eq!(quick["result"]["completeness"], Value::Null);
        assert_eq!(quick["result"]["media"]["video"][0]["width"], 640, "{quick}");
        assert!(standard["result"]["completeness"]["verdict"].is_string(), "{standard}");
    }
}

#[tokio::test]
async fn whole_and_cut_files_are_told_apart() {
    let site = Site::new(&[]).await;
    // the verdict on 90 % of the file, or the failure
    let kinds = [
        ("mp4", "truncated_media"),
        ("mov", "truncated_media"),
        ("faststart", "truncated"),
        ("fragmented", "truncated"),
        ("mkv", "truncated"),
        ("webm", "truncated"),
        ("mxf", "truncated"),
        ("avi", "truncated"),
        ("wav", "truncated"),
        ("flac", "truncated"),
        ("mp3", "truncated"),
        ("ts", "truncated"),
    ];
    let mut wrong = Vec::new();
    for (name, cut) in kinds {
        let bytes = std::fs::read(samples::path(name)).expect("a sample");
        for (part, told) in [(bytes.len(), ""), (bytes.len() * 9 / 10, cut)] {
            let put = site.installation.media().join(format!("{name}-{part}"));
            std::fs::write(&put, &bytes[..part]).expect("a file");
            for way in [Way::Path, Way::Http] {
                let job = site.run(&json!({"source": site.source(&put, way)})).await;
                let (completeness, container) = (&job["result"]["completeness"], &job["result"]["media"]["container"]);
                let verdict = completeness["verdict"].as_str().unwrap_or_else(|| ending(&job));
                let is_right =
                    if told.is_empty() { ["complete", "unknown"].contains(&verdict) } else { verdict == told };
                if !is_right {
                    wrong.push(format!("{name}, {part} of {} bytes, {way:?}: {verdict} {completeness}", bytes.len()));
                }
                if completeness.is_object() {
                    for flag in ["faststart", "fragmented"] {
                        assert_eq!(container[flag], completeness[flag], "{name}: {job}");
                    }
                }
                if told.is_empty() {
                    let flags = (&container["faststart"], &container["fragmented"]);
                    let expected = match name {
                        "mp4" | "mov" => (json!(false), json!(false)),
                        "faststart" => (json!(true), json!(false)),
                        "fragmented" => (json!(true), json!(true)),
                        _ => (Value::Null, Value::Null),
                    };
                    assert_eq!(flags, (&expected.0, &expected.1), "{name}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
