//! The profile `packets` end to end: numbers as FFmpeg was told and as ffprobe counts them, the series and its ranges, and
//! that all of it goes with the job.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use shared::access::Role;
use shared::lifecycle;
use tests::cost::{Site, Way};
use tests::{Http, samples};

use super::{ending, ffmpeg};

/// A minute of picture at 25 frames per second in groups of 50, and of sound.
const MINUTE: &str = "-f lavfi -i testsrc2=s=64x48:r=25:d=60 -f lavfi -i sine=sample_rate=48000:d=60 \
    -c:v libx264 -preset ultrafast -g 50 -sc_threshold 0 -c:a aac";

/// Packets and bytes of each stream, counted by ffprobe alone.
fn counted(file: &Path) -> Vec<(u64, u64)> {
    let arguments = ["-v", "error", "-of", "csv=p=0", "-show_entries", "packet=stream_index,size", "-i"];
    let run = Command::new("ffprobe").args(arguments).arg(file).output().expect("ffprobe runs");
    let mut streams = Vec::new();
    for line in String::from_utf8(run.stdout).expect("text").lines() {
        let mut numbers = line.split(',').map_while(|n| n.parse::<u64>().ok());
        let (Some(stream), Some(size)) = (numbers.next(), numbers.next()) else { continue };
        let stream = usize::try_from(stream).expect("small");
        streams.resize(streams.len().max(stream + 1), (0, 0));
        streams[stream].0 += 1;
        streams[stream].1 += size;
    }
    streams
}

/// What a part of a series sums up to: bytes, packets, keyframes.
async fn sums(http: &Http, id: &Value, stream: u64, query: &str) -> ([u64; 3], usize) {
    let answer = http.get(&format!("/api/v1/jobs/{}/series/{stream}?{query}", id.as_str().expect("an id"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let points = answer.json["points"].as_array().expect("points").clone();
    let sum = |name: &str| points.iter().map(|p| p[name].as_u64().expect("a number")).sum();
    (["bytes", "packets", "keyframes"].map(sum), points.len())
}

#[tokio::test]
async fn every_container_is_scanned_and_its_series_add_up() {
    let site = Site::new(&[]).await;
    for name in ["mp4", "mov", "mkv", "webm", "ts", "mxf", "avi", "fragmented", "wav", "flac", "mp3"] {
        let file = samples::path(name);
        let put = site.installation.media().join(name);
        std::fs::copy(&file, &put).expect("a copy");
        let job = site.run(&json!({"source": site.source(&put, Way::Path), "profile": "packets"})).await;
        assert_eq!(ending(&job), "succeeded", "{name}: {job}");
        let packets = &job["result"]["packets"];
        assert_eq!((&packets["unparsed_lines"], &packets["unknown_stream_packets"]), (&json!(0), &json!(0)), "{name}");
        let (mut all, mut bytes) = (0, 0);
        let counted = counted(&file);
        for stream in packets["streams"].as_array().expect("streams") {
            let index = stream["index"].as_u64().expect("an index");
            let told = counted.get(usize::try_from(index).expect("small")).copied().unwrap_or_default();
            let found = (stream["packets"].as_u64().expect("a count"), stream["bytes"].as_u64().expect("a count"));
            assert_eq!(found, told, "{name} stream {index}");
            (all, bytes) = (all + told.0, bytes + told.1);
            if told.0 > 0 && stream["timestamps"]["first_dts_seconds"].is_number() {
                let (sum, _) = sums(&site.http, &job["id"], index, "points=1").await;
                assert_eq!(sum[..2], [told.1, told.0], "{name} stream {index}");
            }
        }
        assert_eq!((&packets["packets"], &packets["bytes"]), (&json!(all), &json!(bytes)), "{name}");
    }
}

#[tokio::test]
async fn a_series_is_read_in_parts_and_only_by_its_tenant() {
    let site = Site::new(&[]).await;
    let file = ffmpeg(MINUTE, &site.installation.media().join("minute.mp4"));
    for way in [Way::Path, Way::Http] {
        let job = site.run(&json!({"source": site.source(&file, way), "profile": "packets"})).await;
        assert_eq!(ending(&job), "succeeded", "{job}");
        let video = &job["result"]["packets"]["streams"][0];
        assert_eq!(
            (&video["packets"], &video["gop"]["count"], &video["keyframes"]),
            (&json!(1500), &json!(30), &json!(30))
        );
        assert_eq!(video["gop"]["lengths"]["fixed"], true, "{video}");
        let bytes = video["bytes"].as_u64().expect("a count");
        for points in [1, 2, 7, 59, 60, 500, 5000] {
            let (sum, count) = sums(&site.http, &job["id"], 0, &format!("points={points}")).await;
            assert_eq!(sum, [bytes, 1500, 30], "points={points}");
            assert!(count <= points && count >= points.min(61) / 2, "{count} of {points}");
        }
        let (first, _) = sums(&site.http, &job["id"], 0, "to=20").await;
        let (second, _) = sums(&site.http, &job["id"], 0, "from=20&to=41").await;
        let (third, count) = sums(&site.http, &job["id"], 0, "from=41").await;
        assert_eq!([0, 1, 2].map(|i| first[i] + second[i] + third[i]), [bytes, 1500, 30]);
        assert!((18..=20).contains(&count), "{count}");
        assert_eq!(sums(&site.http, &job["id"], 0, "from=1000").await, ([0, 0, 0], 0));

        let id = job["id"].as_str().expect("an id");
        site.http.get(&format!("/api/v1/jobs/{id}/series/2")).await.problem(404, "no_series");
        for query in
            ["points=0", "points=5001", "points=x", "from=2&to=1", "from=NaN", "to=nan", "step=1", "from=1&from=2"]
        {
            let answer = site.http.get(&format!("/api/v1/jobs/{id}/series/0?{query}")).await;
            assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        }
        for stream in ["-1", "x", "99999999"] {
            let answer = site.http.get(&format!("/api/v1/jobs/{id}/series/{stream}")).await;
            assert!([400, 404].contains(&answer.status.as_u16()), "{stream}: {}", answer.text);
        }
        let other = site.installation.another_key("other", Role::Admin, &["*"]).await;
        let other = site.http.with_key(Some(&other));
        other.get(&format!("/api/v1/jobs/{id}/series/0")).await.problem(404, "not_found");
    }
    let standard = site.run(&json!({"source": site.source(&file, Way::Path)})).await;
    assert!(standard["result"].get("packets").is_none(), "{standard}");
    let id = standard["id"].as_str().expect("an id");
    site.http.get(&format!("/api/v1/jobs/{id}/series/0")).await.problem(404, "no_series");
    for (profile, jobs) in [("packets", 2), ("standard", 1), ("frames", 0)] {
        let list = site.http.get(&format!("/api/v1/jobs?profile={profile}")).await.json;
        assert_eq!(list["data"].as_array().map(Vec::len), Some(jobs), "{profile}: {list}");
    }
}

#[tokio::test]
async fn series_go_with_their_job() {
    let site = Site::new(&[]).await;
    let put = site.installation.media().join("a.mp4");
    std::fs::copy(samples::path("mp4"), &put).expect("a copy");
    let stored = async || -> i64 {
        sqlx::query_scalar("select count(*) from series").fetch_one(&site.installation.db).await.expect("counts")
    };
    let body = json!({"source": site.source(&put, Way::Path), "profile": "packets"});
    let first = site.run(&body).await;
    assert_eq!(stored().await, 2);
    let second = site.run(&body).await;
    assert_eq!(stored().await, 4);
    let path = format!("/api/v1/jobs/{}", first["id"].as_str().expect("an id"));
    let answer = tests::Answer::of(site.http.request(reqwest::Method::DELETE, &path)).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
    assert_eq!(stored().await, 2);
    site.http.get(&format!("{path}/series/0")).await.problem(404, "not_found");
    let (pruned, _) = lifecycle::prune(&site.installation.db, Duration::ZERO).await.expect("prunes");
    assert_eq!((pruned, stored().await), (1, 0), "{second}");
}

#[tokio::test]
async fn two_hundred_and_fifty_six_streams_take_no_memory() {
    let site = Site::new(&[]).await;
    let words = "-f lavfi -i sine=sample_rate=8000:d=30 -c:a pcm_u8".to_owned() + &" -map 0".repeat(256);
    let file = ffmpeg(&words, &site.installation.media().join("many.mkv"));
    let before = site.worker.peak_bytes();
    let job = site.run(&json!({"source": site.source(&file, Way::Path), "profile": "packets"})).await;
    let grown = site.worker.peak_bytes() - before;
    println!("256 streams: worker +{:.1} MB", grown as f64 / 1e6);
    assert_eq!(ending(&job), "succeeded", "{job}");
    let streams = job["result"]["packets"]["streams"].as_array().expect("streams");
    assert_eq!(streams.len(), 256);
    assert!(streams.iter().all(|s| s["packets"] == streams[0]["packets"] && s["bytes"] == 240_000), "{}", streams[0]);
    assert!(grown < 64 << 20, "the worker grew by {grown} bytes");
    let (sum, _) = sums(&site.http, &job["id"], 255, "points=5").await;
    assert_eq!(sum[0], 240_000);
}
