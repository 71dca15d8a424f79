//! Bombs through the whole product: what each cost, and that the worker outlives them all.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use serde_json::Value;
use tests::bombs::{self, Bomb};
use tests::{Installation, samples};

use super::watch::Watch;
use super::{ending, probe};

/// The memory of the profile `standard`.
const MEMORY: u64 = 1 << 30;
/// Its processor seconds, with what the kernel grants before it kills and the watch may see more.
const CPU_SECONDS: f64 = 5.0 + 2.0;
/// Longest time for all of them, on two busy cores.
const PATIENCE: Duration = Duration::from_secs(150);
/// Most memory of the worker itself; the largest answer is 16 MiB, and there are two slots.
const WORKER_MEMORY: u64 = 512 << 20;

/// How each ends. None may succeed without a word: `suspicious` is a success with a reason to doubt it.
const ENDINGS: &[(&str, &str)] = &[
    ("stsz_30m_x8.mp4", "degraded"),
    ("stsz_10m_x8.mp4", "degraded"),
    ("stsz_30m.mp4", "degraded"),
    ("stsz_10m.mp4", "suspicious"),
    ("stsz_3m.mp4", "suspicious"),
    ("stsz_1m.mp4", "suspicious"),
    ("ctts_9m_x8.mp4", "degraded"),
    ("trun_10m_x16.mp4", "memory_limit"),
    ("elst_2000_x_1m.mp4", "degraded"),
    ("elst_sparse.mp4", "memory_limit"),
    ("boxes_deep.mp4", "invalid_media"),
    ("boxes_empty.mp4", "invalid_media"),
    ("boxes_zero.mp4", "truncated_media"),
    ("attachments_12x200m.mkv", "cpu_limit"),
    ("tags_300k_names.mkv", "cpu_limit"),
    ("tags_3m.mkv", "succeeded"),
    ("cues_4m.mkv", "succeeded"),
    ("chapters_2m.mkv", "output_limit"),
    ("tracks_100k.mkv", "too_many_streams"),
    ("ebml_deep.mkv", "succeeded"),
    ("ebml_zero.mkv", "truncated_media"),
    ("packets_tiny.mkv", "succeeded"),
    ("title_15m.mkv", "output_limit"),
    ("zeros.mp3", "invalid_media"),
    ("zeros.h264", "invalid_media"),
    ("zeros", "invalid_media"),
    ("start_codes.h264", "cpu_limit"),
    ("pids_1000.ts", "too_many_streams"),
    ("programs_10k.ts", "output_limit"),
    ("broken_slices.h264", "suspicious"),
    ("pages_400k.ogg", "too_many_streams"),
    ("picture_256m.mp3", "suspicious"),
    ("tags_nested.mp3", "invalid_media"),
    ("pixels_16k.png", "blocked_format"),
    ("pixels_16k.mov", "degraded"),
    ("covers_16k_x8.m4a", "degraded"),
];

/// The same as [`ending`], and whether a success is doubted.
fn told(job: &Value) -> &str {
    let doubts = job["result"]["suspicious"].as_array().is_some_and(|reasons| !reasons.is_empty());
    match ending(job) {
        "succeeded" if doubts => "suspicious",
        other => other,
    }
}

fn expected(bomb: &Bomb) -> &'static str {
    ENDINGS.iter().find(|(name, _)| *name == bomb.name).map_or("not in the table", |(_, code)| code)
}

#[tokio::test]
async fn every_bomb_is_defused() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let worker = installation.worker(&[("LIMITS_STANDARD", "cpu=5s,deadline=60s")]);
    let watch = Watch::over(worker.pid());
    let begun = Instant::now();
    println!("{:24} {:>7} {:>9} {:>8}  {:18} plain ffprobe", "bomb", "s", "peak MB", "read MB", "ending");
    let jobs = stream::iter(bombs::all()).map(async |bomb| {
        let path = bomb.write(&installation.media());
        let begun = Instant::now();
        let job = probe(&http, &format!("/{}", bomb.name)).await;
        std::fs::remove_file(path).expect("it is ours");
        let provenance = &job["result"]["provenance"];
        let mega = |v: &Value| v.as_u64().map_or("-".into(), |n| format!("{:.1}", n as f64 / 1e6));
        println!(
            "{:24} {:>7.1} {:>9} {:>8}  {:18} {}",
            bomb.name,
            begun.elapsed().as_secs_f64(),
            mega(&provenance["peak_memory_bytes"]),
            mega(&provenance["bytes_read"]),
            told(&job),
            bomb.plain
        );
        (bomb, job)
    });
    let mut wrong = Vec::new();
    for (bomb, job) in jobs.buffer_unordered(2).collect::<Vec<_>>().await {
        if told(&job) != expected(bomb) {
            let said = job["failure"]["message"].as_str().unwrap_or_default();
            wrong.push(format!("{} ended with {}, not {} ({said})", bomb.name, told(&job), expected(bomb)));
        }
        if job["result"]["provenance"]["peak_memory_bytes"].as_u64().is_some_and(|peak| peak > MEMORY) {
            wrong.push(format!("{} took more memory than it may", bomb.name));
        }
    }
    let (took, worst) = (begun.elapsed(), watch.worst());
    println!(
        "all of them: {took:.1?}; worst of {} runs: {:.0} MB, {:.1} s of processor; the worker itself: {:.0} MB",
        watch.children(),
        worst.peak_bytes as f64 / 1e6,
        worst.cpu_seconds,
        worker.peak_bytes() as f64 / 1e6
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(watch.children() > 20, "the watch saw {} children", watch.children());
    assert!(worst.peak_bytes <= MEMORY && worst.cpu_seconds <= CPU_SECONDS, "{worst:?}");
    assert!(worker.peak_bytes() < WORKER_MEMORY, "the worker took {} bytes", worker.peak_bytes());
    assert!(took < PATIENCE, "{took:?}");
    installation.put("good.mp4", &std::fs::read(samples::path("mp4")).expect("a sample"));
    assert_eq!(ending(&probe(&http, "/good.mp4").await), "succeeded", "the worker goes on");
}

/// What the jail does by itself, with bombs that would go on: `attacks` shows that nothing else ends them.
#[tokio::test]
async fn deadline_and_complaints_are_bounded() {
    const DEADLINE: Duration = Duration::from_secs(2);
    const COMPLAINTS: usize = 64 << 10;
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let worker = installation.worker(&[("LIMITS_STANDARD", "cpu=60s,deadline=2s")]);
    bombs::named("start_codes.h264").write(&installation.media());
    let begun = Instant::now();
    assert_eq!(ending(&probe(&http, "/start_codes.h264").await), "deadline_exceeded");
    let took = begun.elapsed();
    assert!(took >= DEADLINE && took < DEADLINE * 4, "{took:?}");
    drop(worker);
    let _patient = installation.worker(&[]);
    bombs::named("stsz_10m_x8.mp4").write(&installation.media());
    let job = probe(&http, "/stsz_10m_x8.mp4").await;
    let attempts = http.get(&format!("/api/v1/jobs/{}/attempts", job["id"].as_str().expect("an id"))).await.json;
    let tail = attempts["data"][0]["stderr_tail"].as_str().unwrap_or_default();
    assert!((1..=COMPLAINTS).contains(&tail.len()), "{} bytes of complaints are kept", tail.len());
    assert!(job["result"]["warnings"].as_array().is_some_and(|warnings| warnings.len() <= 50), "{job}");
}
