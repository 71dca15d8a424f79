//! What ends a scan or makes it wait: lanes, cancellation, a stopping worker, limits, budgets and an origin that hangs.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::big::{FOUR_GB, Shape};
use tests::cost::{Site, Way};
use tests::origin::Act;
use tests::samples;
use tests::slow::SlowFfprobe;

use super::{ending, show};

/// Longest wait for a state to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at a job until it is as wanted.
async fn until(site: &Site, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let job = show(site, id).await;
        if holds(&job) {
            return job;
        }
        assert!(begun.elapsed() < PATIENCE, "never came true: {what}: {job}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a child of the worker runs.
fn has_children(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the worker runs").flatten();
    let mut lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.any(|list| !list.trim().is_empty())
}

/// A scan that is under way: a file of several GB, and the job.
async fn scan(site: &Site) -> String {
    let file = Shape::Matroska.write(&site.installation.media(), 4 * FOUR_GB);
    let id = site.submit(&json!({"source": site.source(&file, Way::Path), "profile": "packets"})).await;
    until(site, &id, "the scan is under way", |job| job["progress"]["percent"].as_f64() > Some(0.0)).await;
    id
}

#[tokio::test]
async fn a_canceled_scan_is_gone_at_once() {
    let site = Site::new(&[]).await;
    let id = scan(&site).await;
    assert!(has_children(site.worker.pid()));
    let begun = Instant::now();
    let answer = site.http.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).await;
    assert!(answer.status.is_success(), "{}", answer.text);
    until(&site, &id, "it is canceled", |job| job["state"] == "canceled").await;
    println!("canceled after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(!has_children(site.worker.pid()));
}

#[tokio::test]
async fn a_stopping_worker_hands_its_scan_back() {
    let mut site = Site::new(&[("SHUTDOWN_GRACE", "1")]).await;
    let id = scan(&site).await;
    site.worker.signal(Signal::TERM);
    let begun = Instant::now();
    let status = site.worker.wait();
    assert!(status.success() && begun.elapsed() < Duration::from_secs(6), "{status} after {:?}", begun.elapsed());
    let job = show(&site, &id).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("queued"), &json!(0)), "{job}");
    let attempts = site.http.get(&format!("/api/v1/jobs/{id}/attempts")).await.json;
    assert_eq!(attempts["data"][0]["outcome"], "released", "{attempts}");
}

#[tokio::test]
async fn scans_leave_a_slot_to_others() {
    let mut site = Site::new(&[]).await;
    let slow = SlowFfprobe::new(site.installation.folder());
    site.worker = site.installation.worker(&slow.settings());
    let put = site.installation.media().join("a.mp4");
    std::fs::copy(samples::path("mp4"), &put).expect("a copy");
    slow.hold();
    let source = site.source(&put, Way::Path);
    let mut ids = Vec::new();
    for profile in ["packets", "frames", "packets"] {
        ids.push(site.submit(&json!({"source": source, "profile": profile})).await);
    }
    slow.wait_for_one().await;
    let look = site.submit(&json!({"source": source})).await;
    until(&site, &look, "the look runs", |job| job["state"] == "running").await;
    let mut states = Vec::new();
    for id in &ids {
        states.push(show(&site, id).await["state"].as_str().expect("a state").to_owned());
    }
    states.sort();
    assert_eq!(states, ["queued", "queued", "running"], "a scan took the last slot");
    slow.let_go();
    for id in ids.iter().chain([&look]) {
        assert_eq!(ending(&site.http.wait(id).await), "succeeded");
    }
}

#[tokio::test]
async fn limits_of_scans_bite() {
    for (limits, code) in
        [("deadline=1s,rate=1000000GB", "deadline_exceeded"), ("cpu=1s", "cpu_limit"), ("output=2kB", "output_limit")]
    {
        let site = Site::new(&[("LIMITS_PACKETS", limits), ("LIMITS_FRAMES", limits)]).await;
        let file = Shape::Matroska.write(&site.installation.media(), 4 * FOUR_GB);
        let job = site.run(&json!({"source": site.source(&file, Way::Path), "profile": "packets"})).await;
        assert_eq!((ending(&job), &job["attempt"]), (code, &json!(1)), "{limits}: {job}");
        if code == "output_limit" {
            let put = site.installation.media().join("a.mp4");
            std::fs::copy(samples::path("mp4"), &put).expect("a copy");
            let job = site.run(&json!({"source": site.source(&put, Way::Path), "profile": "frames"})).await;
            assert_eq!((ending(&job), &job["attempt"]), (code, &json!(1)), "{limits}: {job}");
        }
    }
}

#[tokio::test]
async fn budgets_end_scans_and_say_so() {
    let site = Site::new(&[]).await;
    let file = Shape::Matroska.write(&site.installation.media(), 4 * FOUR_GB);
    for way in [Way::Path, Way::Http] {
        let body = json!({"source": site.source(&file, way), "profile": "packets", "budget": {"max_read_bytes": 1_000_000_000}});
        let job = site.run(&body).await;
        assert_eq!((ending(&job), &job["attempt"]), ("budget_exceeded", &json!(1)), "{job}");
        assert!(job["failure"]["message"].as_str().expect("a message").contains("1000000000"), "{job}");
        assert!(site.took(&job).await < Duration::from_secs(2), "{job}");
    }
    assert!(site.origin.body_bytes() < 4 << 20, "{} bytes were sent", site.origin.body_bytes());
    let body = json!({"source": site.source(&file, Way::Path), "profile": "packets", "budget": {"max_seconds": 2}});
    let job = site.run(&body).await;
    let took = site.took(&job).await;
    assert_eq!((ending(&job), &job["attempt"]), ("budget_exceeded", &json!(1)), "{job}");
    assert!(job["failure"]["message"].as_str().expect("a message").contains("max_seconds"), "{job}");
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&took), "{took:?}");
    // a budget that is just enough
    let put = site.installation.media().join("a.mp4");
    std::fs::copy(samples::path("mp4"), &put).expect("a copy");
    let size = std::fs::metadata(&put).expect("a file").len();
    for way in [Way::Path, Way::Http] {
        let body =
            json!({"source": site.source(&put, way), "profile": "packets", "budget": {"max_read_bytes": 3 * size}});
        let job = site.run(&body).await;
        assert_eq!(ending(&job), "succeeded", "{job}");
    }
}

#[tokio::test]
async fn an_origin_that_hangs_is_named() {
    let site = Site::new(&[]).await;
    let file = Shape::Matroska.write(&site.installation.media(), 1 << 30);
    let url = site.origin.script(
        "/hangs.mkv",
        file,
        &[const { Act::Serve }, Act::Serve, Act::Serve, Act::Serve, Act::Serve],
        Act::Silent,
    );
    let id = site.submit(&json!({"source": {"type": "url", "url": url}, "profile": "packets"})).await;
    let job = until(&site, &id, "it stalls", |job| job["progress"]["stalled"].is_string()).await;
    println!("{}", job["progress"]);
    assert_eq!(job["progress"]["stalled"], "Waiting for the server's answer.", "{job}");
    assert!(job["progress"]["bytes_read"].as_u64() > Some(1 << 20), "{job}");
    let begun = Instant::now();
    site.http.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).await;
    until(&site, &id, "it is canceled", |job| job["state"] == "canceled").await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
