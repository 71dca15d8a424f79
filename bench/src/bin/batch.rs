//! What a batch costs: 10,000 different small files as one batch, sent as lines, run by one worker, read back as NDJSON and CSV
//! and compared with what each job says; beside ffprobe alone on the same files, as many at a time. Run with `make batch`, on a
//! machine that does nothing else.
//!
//! Exits with 1 if memory follows the batch or a job takes more than twice its ffprobe.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use reqwest::Method;
use serde_json::json;
use tests::http::Answer;
use tests::{Http, Installation, exports, samples, servers};
use tokio::time::sleep;

/// Files that are looked at at the same time, by the worker and alone.
const SLOTS: usize = 2;
/// Most that a job may take, compared with ffprobe alone.
const PROMISE: f64 = 2.0;
/// Most that the API may grow by, for the batch and for its exports, in bytes.
const MEMORY_PROMISE: u64 = 24 << 20;
/// Where the sound of the sample lies: far behind its head.
const INSIDE: usize = 10_000;

/// Measures what a batch costs.
#[derive(Debug, Parser)]
struct Args {
    /// Files in the batch; at most 10,000
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(100..=10_000))]
    files: u16,
}

/// Makes the files, no two the same; returns the paths that jobs name.
fn files(installation: &Installation, count: usize) -> Vec<String> {
    let mut bytes = std::fs::read(samples::path("wav")).expect("a sample");
    let mut file = |number: usize| {
        bytes[INSIDE..INSIDE + 8].copy_from_slice(&number.to_le_bytes());
        installation.put(&format!("many/{number}.wav"), &bytes)
    };
    (0..count).map(&mut file).collect()
}

/// Looks at files with ffprobe alone; returns the time for each.
fn alone(installation: &Installation, paths: &[String]) -> Duration {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let look = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut ffprobe = Command::new("ffprobe");
            ffprobe.args(["-v", "error", "-show_format", "-show_streams", "-show_chapters", "-of", "json"]);
            let status = ffprobe.arg(installation.media().join(&path[1..])).stdout(Stdio::null()).status();
            assert!(status.expect("ffprobe runs").success(), "{path}");
        }
    };
    thread::scope(|scope| {
        for _ in 0..SLOTS {
            scope.spawn(look);
        }
    });
    begun.elapsed() / u32::try_from(paths.len()).expect("few")
}

/// Sends the files as one batch and waits for its end, telling how it stands.
async fn run(http: &Http, batch: &str, files: usize) {
    let begun = Instant::now();
    let mut told = begun;
    loop {
        let now = http.get(&format!("/api/v1/batches/{batch}")).await.json;
        if now["state"] == "completed" {
            assert_eq!(now["counts"]["succeeded"], files, "{now}");
            return;
        }
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!("{:>5.0} s: {}", begun.elapsed().as_secs_f64(), now["counts"]);
        }
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let files_wanted = usize::from(Args::parse().files);
    let (_private, own) = servers::own().await;
    let installation = Installation::on(&own).await;
    let paths = files(&installation, files_wanted);
    let lines = paths.iter().enumerate().map(|(i, path)| {
        json!({"source": {"type": "path", "path": path}, "external_id": format!("e{i}")}).to_string() + "\n"
    });
    let lines: String = lines.collect();
    let before = alone(&installation, &paths[..files_wanted / 10]);

    let (api, http) = installation.api(&[("LOG_LEVEL", "info")]);
    http.get("/api/v1/batches").await;
    let (memory, begun) = (api.peak_bytes(), Instant::now());
    let request = http.request(Method::POST, "/api/v1/batches").header("content-type", "application/x-ndjson");
    let batch = Answer::of(request.body(lines)).await;
    assert_eq!(batch.status, 202, "{}", batch.text);
    let (accepted, batch_memory) = (begun.elapsed(), api.peak_bytes() - memory);
    println!("{files_wanted} jobs accepted in {accepted:.2?}; the API grew by {} KiB", batch_memory >> 10);

    let slots = SLOTS.to_string();
    let _worker = installation.worker(&[("LOG_LEVEL", "info"), ("WORKER_SLOTS", &slots)]);
    let id = batch.json["id"].as_str().expect("an id");
    let begun = Instant::now();
    run(&http, id, files_wanted).await;
    let job = begun.elapsed() / u32::try_from(files_wanted).expect("few");

    let (memory, begun) = (api.peak_bytes(), Instant::now());
    let (ndjson, csv) = exports::compare(&http, id, files_wanted, 1).await;
    let export_memory = api.peak_bytes() - memory;
    println!(
        "exports of {ndjson} and {csv} bytes, and every job by itself: all the same, in {:.1?}; the API grew by {} KiB",
        begun.elapsed(),
        export_memory >> 10
    );

    let after = alone(&installation, &paths[..files_wanted / 10]);
    let alone = (before + after) / 2;
    let ratio = job.as_secs_f64() / alone.as_secs_f64();
    println!("a job {job:.2?}, ffprobe alone {before:.2?} before and {after:.2?} after: ratio {ratio:.2}");
    let kept = ratio <= PROMISE && batch_memory.max(export_memory) <= MEMORY_PROMISE;
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
