//! Every packet of files of several GB: memory stays flat, progress only goes on, and the scan costs what ffprobe alone
//! costs.

use std::time::Duration;

use serde_json::{Value, json};
use tests::big::{FOUR_GB, Shape};
use tests::cost::{ScanCost, Site, Way};
use tests::process::cpu_of;

use super::show;

/// How much more processor time ffprobe may take in a scan than with the same commands that write to nowhere: it writes to
/// a pipe, and a busy machine adds its share. That a scan takes at most 1.1 times as long is a matter for a quiet machine
/// and optimised binaries: `make scan`.
const RATIO: f64 = 1.2;
/// Runs of each.
const RUNS: usize = 2;
/// Most that the worker's own memory may grow.
const GROWTH: u64 = 64 << 20;
/// Bytes of a file that is scanned over HTTP.
const ONE_GB: u64 = 1 << 30;
/// Longest time between two signs of progress: beats come every two seconds, and the machine is shared.
const SIGN: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_scan_of_gigabytes_costs_what_ffprobe_costs() {
    let site = Site::new(&[]).await;
    // in its holes H.264 of the other shapes complains of every picture, which the baseline need not read
    let file = Shape::Matroska.write(&site.installation.media(), FOUR_GB);
    let before = site.worker.peak_bytes();
    let cost = ScanCost::take(&site, &file, Way::Path, RUNS).await;
    let own = cpu_of(site.worker.pid()) / u32::try_from(RUNS).expect("few");
    let grown = site.worker.peak_bytes() - before;
    let packets = cost.job["result"]["packets"]["packets"].as_u64().expect("a count");
    println!(
        "4 GB, {packets} packets: attempt {:.2?}, its runs {:.2?}, the same outside {:.2?}, ratio {:.3}; \
        processor {:.2?} and {:.2?}, ratio {:.3}; worker {own:.1?} a scan, +{:.1} MB",
        cost.attempt,
        cost.runs,
        cost.outside,
        cost.ratio(),
        cost.cpu,
        cost.outside_cpu,
        cost.cpu_ratio(),
        grown as f64 / 1e6
    );
    assert!(packets > 4000, "{packets}");
    assert!(grown < GROWTH, "the worker grew by {grown} bytes");
    assert!(cost.cpu_ratio() <= RATIO, "{cost:?}");
}

#[tokio::test]
async fn a_scan_over_http_keeps_memory_flat() {
    let site = Site::new(&[]).await;
    let file = Shape::Matroska.write(&site.installation.media(), ONE_GB);
    let before = site.worker.peak_bytes();
    let cost = ScanCost::take(&site, &file, Way::Http, 1).await;
    let grown = site.worker.peak_bytes() - before;
    let (ratio, remote) = (cost.ratio(), &cost.job["result"]["provenance"]["remote"]);
    println!(
        "1 GB over HTTP: {:.2?}, {ratio:.1} times the file itself; worker +{:.1} MB; {remote}",
        cost.runs,
        grown as f64 / 1e6
    );
    assert!(grown < GROWTH, "the worker grew by {grown} bytes");
    let bytes = remote["bytes"].as_u64().expect("a count");
    assert!((ONE_GB..ONE_GB + ONE_GB / 10).contains(&bytes), "{remote}");
}

#[tokio::test]
async fn progress_goes_on_and_never_back() {
    let site = Site::new(&[]).await;
    let file = Shape::Matroska.write(&site.installation.media(), FOUR_GB);
    let size = std::fs::metadata(&file).expect("a file").len();
    let id = site.submit(&json!({"source": site.source(&file, Way::Path), "profile": "packets"})).await;
    let mut seen: Vec<Value> = Vec::new();
    let mut told = std::time::Instant::now();
    let ended = loop {
        let job = show(&site, &id).await;
        if job["state"] != "running" && job["state"] != "queued" {
            break job;
        }
        if !job["progress"].is_null() && seen.last() != Some(&job["progress"]) {
            seen.push(job["progress"].clone());
            told = std::time::Instant::now();
        }
        assert!(told.elapsed() < SIGN, "no progress for {SIGN:?} after {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let took = site.took(&ended).await;
    println!(
        "{} signs in {took:.1?}: {}",
        seen.len(),
        seen.iter().map(|p| format!("{:.0} % ", p["percent"])).collect::<String>()
    );
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert!(seen.len() as u64 >= took.as_secs() / 3, "{} signs in {took:?}", seen.len());
    for progress in &seen {
        assert_eq!(progress["bytes_total"], size, "{progress}");
        assert!(progress["estimate"]["bytes"].as_u64() >= Some(size), "{progress}");
        assert_eq!(progress["stalled"], Value::Null, "{progress}");
    }
    for name in ["percent", "bytes_read"] {
        let numbers: Vec<f64> = seen.iter().filter_map(|p| p[name].as_f64()).collect();
        assert!(numbers.len() + 1 >= seen.len() && numbers.is_sorted(), "{name}: {numbers:?}");
    }
    assert!(seen.iter().skip(1).all(|p| p["bytes_per_second"].as_i64() > Some(0)), "{seen:?}");
    let last = seen.last().expect("some");
    assert!(last["percent"].as_f64() > Some(40.0) && last["percent"].as_f64() < Some(100.0), "{last}");
}
