//! Every sample through the whole product under every profile, against what was stored of it in `tests/snapshots`. What depends
//! on the encoder's build (sizes, bit rates, its own name) is blanked, so the rest must be equal on every FFmpeg 5.1.
//!
//! After an intended change: `INSTA_UPDATE=always cargo test -p tests corpus::`, and look at the difference before it is kept.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use serde_json::{Map, Value, json};
use tests::samples::{self, Sample};
use tests::{Http, Installation};

/// The release that the snapshots are of.
const RELEASE: &str = "5.1";
const PROFILES: [&str; 4] = ["quick", "standard", "packets", "frames"];
/// Jobs waited for at once.
const AT_ONCE: usize = 8;
/// Longest time for all of them, on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where the snapshots lie, seen from this file.
const FOLDER: &str = "../snapshots";

/// Parts of a result that follow from the media alone.
const PARTS: [&str; 6] = ["media", "completeness", "suspicious", "degraded", "packets", "frames"];
/// Words in the names of numbers that an encoder's build decides.
const ENCODED: [&str; 6] = ["bytes", "bit_rate", "byte", "coverage", "share", "pkt"];
/// Members that an encoder's build decides as a whole.
const BUILD: [&str; 16] = [
    "writing_application",
    "encoder",
    "ENCODER",
    "BPS",
    "NUMBER_OF_BYTES",
    "DURATION",
    "sizes",
    "peak",
    "average",
    "peak_at_seconds",
    "picture_type",
    "picture_types",
    "listed",
    "distances",
    "first_gaps",
    "evidence",
];

/// The release of ffmpeg and ffprobe, such as `5.1`, and what they say of themselves.
fn release() -> (bool, String) {
    let says = |program: &str| {
        let said = Command::new(program).arg("-version").output().expect("it is installed").stdout;
        String::from_utf8_lossy(&said).split_whitespace().nth(2).unwrap_or_default().to_owned()
    };
    let both = [says("ffmpeg"), says("ffprobe")];
    let is_ours = |version: &String| {
        let rest = version.trim_start_matches('n').strip_prefix(RELEASE);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    (both.iter().all(is_ours), both.join(", "))
}

/// Blanks what depends on the build, and rounds times.
fn blank(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                // MXF numbers its packages at random
                let is_random = name.ends_with("_umid");
                let is_build = is_random || BUILD.contains(&name.as_str()) || name.starts_with("_STATISTICS");
                let is_encoded = value.is_number() && ENCODED.iter().any(|word| name.contains(word));
                match value {
                    Value::Null | Value::Bool(_) => {}
                    Value::Array(list) if is_build => *value = json!(if list.is_empty() { "none" } else { "some" }),
                    _ if is_build || is_encoded => *value = json!("…"),
                    _ => blank(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(blank),
        Value::Number(number) if number.is_f64() => {
            *value = json!((number.as_f64().unwrap_or_default() * 1e3).round() / 1e3);
        }
        _ => {}
    }
}

async fn result(http: &Http, sample: &Sample, profile: &str) -> Value {
    let path = format!("/{}.{}", sample.name, sample.extension);
    let body = json!({"source": {"type": "path", "path": path}, "profile": profile});
    let answer = http.post("/api/v1/jobs", &body).await;
    let job = http.wait(answer.json["id"].as_str().unwrap_or_else(|| panic!("{path}: {}", answer.json))).await;
    match (&job["failure"]["code"], &job["result"]) {
        (Value::Null, Value::Object(result)) => {
            let part = |name: &str| Some((name.to_owned(), result.get(name).filter(|part| !part.is_null())?.clone()));
            Value::Object(PARTS.into_iter().filter_map(part).collect())
        }
        (code, _) => json!({ "failure": code }),
    }
}

/// One sample under every profile. The longer profiles describe the file as `standard` does, which is checked and not kept
/// three times.
async fn everything(http: &Http, sample: &Sample) -> Value {
    let mut all = Map::new();
    for profile in PROFILES {
        let mut found = result(http, sample, profile).await;
        if let Some(standard) = all.get("standard").and_then(Value::as_object)
            && let Some(members) = found.as_object_mut()
        {
            members.retain(|name, value| standard.get(name) != Some(value));
        }
        all.insert(profile.to_owned(), found);
    }
    let mut all = Value::Object(all);
    blank(&mut all);
    all
}

#[tokio::test]
async fn every_sample_is_what_it_was() {
    let (is_ours, versions) = release();
    if !is_ours {
        return println!("skipped: the snapshots are of FFmpeg {RELEASE}, and this machine has {versions}");
    }
    samples::make_all();
    let (installation, http, _programs) = Installation::running().await;
    for sample in samples::all() {
        let bytes = std::fs::read(sample.path()).expect("a sample");
        installation.put(&format!("{}.{}", sample.name, sample.extension), &bytes);
    }
    let begun = Instant::now();
    let jobs = stream::iter(samples::all()).map(async |sample| (sample, everything(&http, sample).await));
    let found: Vec<_> = jobs.buffered(AT_ONCE).collect().await;
    let took = begun.elapsed();
    println!("{} samples under {} profiles: {took:.1?}", found.len(), PROFILES.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(FOLDER);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (sample, found) in &found {
            insta::assert_json_snapshot!(sample.name, found);
        }
    });
    assert!(took < PATIENCE, "{took:?}");
}

#[test]
fn every_snapshot_is_of_a_sample() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots");
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let kept = std::fs::read_dir(folder).expect("the snapshots").map(|entry| name(entry.expect("an entry")));
    let kept: BTreeSet<String> = kept.filter(|name| name.ends_with(".snap")).collect();
    let expected = samples::all().iter().map(|sample| format!("{}.snap", sample.name)).collect();
    assert_eq!(kept, expected);
}

#[test]
fn only_what_the_build_decides_is_blanked() {
    let mut seen = json!({
        "size_bytes": 7, "bit_rate": null, "width": 320, "evidence": [], "start_seconds": 0.12345,
        "tags": {"encoder": "Lavc1", "title": "a"}, "list": [{"bytes": 1, "faststart": true}],
    });
    blank(&mut seen);
    let expected = json!({
        "size_bytes": "…", "bit_rate": null, "width": 320, "evidence": "none", "start_seconds": 0.123,
        "tags": {"encoder": "…", "title": "a"}, "list": [{"bytes": "…", "faststart": true}],
    });
    assert_eq!(seen, expected);
}
