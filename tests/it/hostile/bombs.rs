//! Bombs through the whole product: what each cost, and that the worker outlives them all.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
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

/// Bombs that need all of a job's processor time, and are tried in the jail alone (`attacks`), with less of it. One of
/// their kind stays here, to be seen ending as it should.
const ELSEWHERE: &[&str] = &[];

/// How each ends.
const ENDINGS: &[(&str, &str)] = &[
    ("stsz_30m_x8.mp4", "succeeded"),
    ("stsz_10m_x8.mp4", "succeeded"),
    ("stsz_30m.mp4", "succeeded"),
    ("stsz_10m.mp4", "succeeded"),
    ("stsz_3m.mp4", "succeeded"),
    ("stsz_1m.mp4", "succeeded"),
    ("ctts_9m_x8.mp4", "succeeded"),
    ("trun_10m_x16.mp4", "memory_limit"),
    ("elst_2000_x_1m.mp4", "succeeded"),
    ("elst_sparse.mp4", "memory_limit"),
    ("boxes_deep.mp4", "invalid_media"),
    ("boxes_empty.mp4", "invalid_media"),
    ("boxes_zero.mp4", "truncated_media"),
    ("tags_3m.mkv", "succeeded"),
    ("cues_4m.mkv", "succeeded"),
    ("chapters_2m.mkv", "output_limit"),
    ("tracks_100k.mkv", "memory_limit"),
    ("ebml_deep.mkv", "succeeded"),
    ("ebml_zero.mkv", "truncated_media"),
    ("packets_tiny.mkv", "succeeded"),
    ("title_15m.mkv", "output_limit"),
    ("zeros.mp3", "invalid_media"),
    ("zeros.h264", "invalid_media"),
    ("zeros", "invalid_media"),
    ("start_codes.h264", "cpu_limit"),
    ("pids_1000.ts", "invalid_media"),
    ("programs_10k.ts", "output_limit"),
    ("broken_slices.h264", "succeeded"),
    ("pages_400k.ogg", "memory_limit"),
    ("picture_256m.mp3", "succeeded"),
    ("tags_nested.mp3", "invalid_media"),
    ("pixels_16k.png", "blocked_format"),
    ("pixels_16k.mov", "degraded"),
    ("covers_16k_x8.m4a", "degraded"),
];

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
    let bombs: Vec<_> = bombs::all().filter(|bomb| !ELSEWHERE.contains(&bomb.name)).collect();
    let jobs = stream::iter(bombs).map(async |bomb| {
        let path = bomb.write(&installation.media());
        let begun = Instant::now();
        let job = probe(&http, &format!("/{}", bomb.name)).await;
        std::fs::remove_file(path).expect("it is ours");
        let provenance = &job["result"]["provenance"];
        let mega = |v: &serde_json::Value| v.as_u64().map_or("-".into(), |n| format!("{:.1}", n as f64 / 1e6));
        println!(
            "{:24} {:>7.1} {:>9} {:>8}  {:18} {}",
            bomb.name,
            begun.elapsed().as_secs_f64(),
            mega(&provenance["peak_memory_bytes"]),
            mega(&provenance["bytes_read"]),
            ending(&job),
            bomb.plain
        );
        (bomb, job)
    });
    let mut wrong = Vec::new();
    for (bomb, job) in jobs.buffer_unordered(2).collect::<Vec<_>>().await {
        if ending(&job) != expected(bomb) {
            let said = job["failure"]["message"].as_str().unwrap_or_default();
            wrong.push(format!("{} ended with {}, not {} ({said})", bomb.name, ending(&job), expected(bomb)));
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
