//! Budgets of bytes and seconds: kept for remote objects and files alike, and told as what they are.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::origin::Act;
use tests::samples;

use super::{Site, submit, wav};

async fn outcome(site: &Site, source: Value, profile: &str, budget: Value) -> Value {
    let body = json!({"source": source, "profile": profile, "budget": budget});
    site.http.wait(&submit(&site.http, &body).await).await
}

fn code(job: &Value) -> &str {
    job["failure"]["code"].as_str().unwrap_or_else(|| job["state"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn bytes_are_kept_to() {
    let site = Site::new().await;
    let bytes = wav(8 << 20);
    let path = json!({"type": "path", "path": site.installation.put("a.wav", &bytes)});
    let url = json!({"type": "url", "url": site.origin.serve("/a.wav", bytes.clone())});
    // only a scan is sure to read it all: it is not begun
    for source in [&path, &url] {
        let job = outcome(&site, source.clone(), "packets", json!({"max_read_bytes": 1 << 20})).await;
        assert_eq!(code(&job), "budget_exceeded", "{job}");
        assert_eq!((&job["state"], &job["attempt"]), (&json!("failed"), &json!(1)), "{job}");
    }
    assert!(site.origin.body_bytes() < 1 << 20, "{} bytes were sent", site.origin.body_bytes());
    for source in [&path, &url] {
        let job = outcome(&site, source.clone(), "packets", json!({"max_read_bytes": 32 << 20})).await;
        assert_eq!(code(&job), "succeeded", "{job}");
    }
    // a look at frames reads as far as it must, which is found out while it runs
    let long = std::fs::read(samples::path("ts")).expect("a sample").repeat(100);
    let path = json!({"type": "path", "path": site.installation.put("a.ts", &long)});
    let url = json!({"type": "url", "url": site.origin.serve("/a.ts", long)});
    for source in [&path, &url] {
        let ask = async |bytes: u64| {
            let body = json!({"source": source, "profile": "frames", "frames": {"first": 2000, "windows": 0},
                "budget": {"max_read_bytes": bytes}});
            site.http.wait(&submit(&site.http, &body).await).await
        };
        let job = ask(2 << 20).await;
        assert_eq!(code(&job), "budget_exceeded", "{job}");
        assert_eq!(code(&ask(200 << 20).await), "succeeded");
    }
    let job = outcome(&site, url, "standard", json!({"max_read_bytes": 64})).await;
    assert_eq!(code(&job), "budget_exceeded", "{job}");
}

#[tokio::test]
async fn seconds_are_kept_to() {
    let site = Site::new().await;
    for (name, act) in
        [("/silent", Act::Silent), ("/drip", Act::Drip { bytes: 4000, pause: Duration::from_millis(50) })]
    {
        let url = site.origin.script(name, wav(3 << 20), &[], act);
        let begun = Instant::now();
        let job = outcome(&site, json!({"type": "url", "url": url}), "packets", json!({"max_seconds": 1})).await;
        assert_eq!(code(&job), "budget_exceeded", "{name}: {job}");
        assert_eq!((&job["state"], &job["attempt"]), (&json!("failed"), &json!(1)), "{job}");
        assert!(job["failure"]["message"].as_str().is_some_and(|m| m.contains("max_seconds")), "{job}");
        assert!(begun.elapsed() < Duration::from_secs(6), "{name} took {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn the_operators_limit_counts_without_a_budget() {
    let site = Site::with(&[("MAX_REMOTE_BYTES", "2000000")]).await;
    let url = site.origin.serve("/a.wav", wav(8 << 20));
    let job = outcome(&site, json!({"type": "url", "url": url}), "packets", json!({})).await;
    assert_eq!(code(&job), "budget_exceeded", "{job}");
    let taken = site.origin.body_bytes();
    assert!(taken < 8 << 20, "{taken} bytes were sent");
    let job = outcome(&site, json!({"type": "url", "url": url}), "standard", json!({})).await;
    assert_eq!(code(&job), "succeeded", "{job}");
}
