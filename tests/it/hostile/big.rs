//! Healthy files of 50 GB, by path: described right, and for the price of a small one.

use serde_json::Value;
use tests::Installation;
use tests::big::{FIFTY_GB, FIVE_MB, Shape};

use super::{ending, probe};

/// How much longer a large file may take than its small sibling.
const RATIO: f64 = 1.5;
/// Runs of each; the quickest counts, for the machine is shared.
const RUNS: usize = 3;
/// Most bytes that are read of a large file: its index, and what ffprobe reads ahead.
const MOST_READ: u64 = 64 << 20;

#[tokio::test]
async fn fifty_gb_cost_what_five_mb_cost() {
    let (installation, http, _programs) = Installation::running().await;
    let mut wrong = Vec::new();
    println!("{:18} {:>9} {:>9} {:>6} {:>12}", "file", "5 MB, ms", "50 GB, ms", "ratio", "MB read");
    for shape in Shape::ALL {
        let mut quickest = [f64::MAX; 2];
        let mut read = 0;
        for (bytes, quickest) in [FIVE_MB, FIFTY_GB].into_iter().zip(&mut quickest) {
            let path = shape.write(&installation.media(), bytes);
            for _ in 0..RUNS {
                let job = probe(&http, path.file_name().and_then(|n| n.to_str()).expect("a name")).await;
                if ending(&job) != "succeeded" || !is_described(&job, shape, bytes) {
                    wrong.push(format!("{} of {bytes} bytes: {job}", shape.name()));
                }
                let provenance = &job["result"]["provenance"];
                *quickest = quickest.min(provenance["wall_ms"].as_f64().unwrap_or(f64::MAX));
                read = provenance["bytes_read"].as_u64().unwrap_or(u64::MAX);
            }
            std::fs::remove_file(path).expect("it is ours");
        }
        let [small, large] = quickest;
        println!("{:18} {small:>9} {large:>9} {:>6.2} {:>12.1}", shape.name(), large / small, read as f64 / 1e6);
        if large / small > RATIO || read > MOST_READ {
            wrong.push(format!("{}: {small} ms and {large} ms, {read} bytes read", shape.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the description has the file's size, its pictures and its length.
fn is_described(job: &Value, shape: Shape, bytes: u64) -> bool {
    let (media, raw) = (&job["result"]["media"], &job["result"]["ffprobe"]);
    let size = media["container"]["size_bytes"].as_u64().unwrap_or_default();
    let seconds = media["container"]["duration_seconds"].as_f64().unwrap_or_default();
    let has_length = match (shape, bytes) {
        (Shape::Mxf, _) => seconds > 0.9, // its filler has no length
        (_, FIFTY_GB) => seconds > 7000.0,
        _ => seconds > 1.0,
    };
    raw["format"]["format_name"].as_str().is_some_and(|name| name.starts_with(shape.format()))
        && size.abs_diff(bytes) < bytes / 20
        && media["video"][0]["width"].as_u64() >= Some(320)
        && has_length
}
