//! Bombs under the profiles that read whole files or decode: each ends as a scan may end, and the worker stays small.

use std::time::Instant;

use serde_json::json;
use tests::big;
use tests::bombs;
use tests::cost::{Site, Way};

use super::ending;

/// Most that a bomb may make of the worker itself.
const WORKER_MEMORY: u64 = 256 << 20;
/// Packets of a byte that are scanned, a multiple of 65,536: clusters are whole.
const PACKETS: u32 = 1 << 18;
/// How a scan of a bomb may end.
const ENDINGS: [&str; 10] = [
    "succeeded",
    "invalid_media",
    "truncated_media",
    "memory_limit",
    "cpu_limit",
    "output_limit",
    "deadline_exceeded",
    "no_video",
    "too_many_streams",
    "blocked_format",
];
/// Bombs whose packets or frames are the charge; what their headers do is tried elsewhere.
const BOMBS: [&str; 8] = [
    "packets_tiny.mkv",
    "stsz_30m.mp4",
    "trun_10m_x16.mp4",
    "start_codes.h264",
    "broken_slices.h264",
    "pixels_16k.mov",
    "pages_400k.ogg",
    "tracks_100k.mkv",
];

#[tokio::test]
async fn bombs_under_scans_leave_the_worker_small() {
    let limits = "cpu=2s,deadline=20s";
    let site = Site::new(&[("LIMITS_STANDARD", limits), ("LIMITS_PACKETS", limits), ("LIMITS_FRAMES", limits)]).await;
    println!("{:20} {:8} {:>6} {:>9} {:>10}  ending", "bomb", "profile", "s", "peak MB", "packets");
    let mut wrong = Vec::new();
    for name in BOMBS {
        let file = bombs::named(name).write(&site.installation.media());
        for profile in ["packets", "frames"] {
            let begun = Instant::now();
            let job = site.run(&json!({"source": site.source(&file, Way::Path), "profile": profile})).await;
            let peak = job["result"]["provenance"]["peak_memory_bytes"].as_f64().unwrap_or_default() / 1e6;
            let (end, packets) = (ending(&job), &job["result"]["packets"]["packets"]);
            println!(
                "{name:20} {profile:8} {:>6.1} {peak:>9.1} {:>10}  {end}",
                begun.elapsed().as_secs_f64(),
                packets.to_string()
            );
            if !ENDINGS.contains(&end) || job["attempt"] != 1 {
                wrong.push(format!("{name} under {profile}: {job}"));
            }
        }
        std::fs::remove_file(file).expect("it is ours");
    }
    let file = big::many_packets(&site.installation.media(), PACKETS);
    let job = site.run(&json!({"source": site.source(&file, Way::Path), "profile": "packets"})).await;
    let found = job["result"]["packets"]["packets"].as_u64();
    println!("{PACKETS} packets of a byte: {} {found:?} in {:?}", ending(&job), site.took(&job).await);
    if ending(&job) != "cpu_limit" && found != Some(u64::from(PACKETS)) {
        wrong.push(format!("packets of a byte: {job}"));
    }
    println!("the worker itself: {:.0} MB", site.worker.peak_bytes() as f64 / 1e6);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(site.worker.peak_bytes() < WORKER_MEMORY);
}
