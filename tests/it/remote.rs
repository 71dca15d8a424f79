//! Remote sources through HTTP, with the real API and worker: what is read and how, what goes wrong and how it is told, what
//! must never be connected to or shown, and how an attempt that hangs is stopped. The origins are this package's own.

mod budgets;
mod faults;
mod kinds;
mod s3;
mod secrets;
mod stops;
pub(super) mod targets;
mod walls;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::origin::Origin;
use tests::{Http, Installation, Program};
use uuid::Uuid;

/// An installation whose API and worker may read from one origin on this machine.
struct Site {
    origin: Origin,
    http: Http,
    installation: Installation,
    api: Program,
    worker: Program,
}

impl Site {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With more settings for the worker.
    async fn with(settings: &[(&str, &str)]) -> Self {
        let (installation, origin) = (Installation::new().await, Origin::start());
        let open = opened(&[&origin]);
        let egress = [("EGRESS_SCHEMES", "https,http"), ("EGRESS_ALLOW_CIDRS", open.as_str())];
        let (api, http) = installation.api(&egress);
        let worker = installation.worker(&[&egress[..], settings].concat());
        Self { origin, http, installation, api, worker }
    }

    /// Submits a job for a URL.
    async fn submit(&self, url: &str) -> String {
        submit(&self.http, &json!({"source": {"type": "url", "url": url}})).await
    }

    /// Lets the wait for the next attempt be over.
    async fn now(&self, job: &str) {
        let sql = "update job set run_at = clock_timestamp() where id = $1 and state = 'queued'";
        sqlx::query(sql).bind(id(job)).execute(&self.installation.db).await.expect("time passes");
    }

    /// Waits for the end of a job's first attempt, and returns the job: ended, or queued for another attempt.
    async fn first_attempt(&self, job: &str) -> Value {
        until("the first attempt ends", async || {
            let shown = self.http.get(&format!("/api/v1/jobs/{job}")).await.json;
            let waits = shown["state"] == "queued" && !shown["failure"].is_null();
            (waits || !matches!(shown["state"].as_str(), Some("queued" | "running"))).then_some(shown)
        })
        .await
    }

    /// Waits until a request for this path has come.
    async fn asked(&self, path: &str) {
        until("the origin is asked", async || (!self.origin.exchanges_of(path).is_empty()).then_some(())).await;
    }
}

/// A setting that opens these origins and no more.
fn opened(origins: &[&Origin]) -> String {
    let rules: Vec<String> =
        origins.iter().map(|o| format!("{}/32:{}", o.address().ip(), o.address().port())).collect();
    rules.join(",")
}

fn id(job: &str) -> Uuid {
    Uuid::parse_str(job).expect("an id")
}

/// Submits a job.
async fn submit(http: &Http, body: &Value) -> String {
    let job = http.post("/api/v1/jobs", body).await;
    assert_eq!(job.status, 202, "{}", job.text);
    job.json["id"].as_str().expect("an id").to_owned()
}

/// Waits until `what` comes true and returns what it found.
pub(super) async fn until<T>(what: &str, find: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A WAV file of so many bytes that holds a tone of noise: `packets` reads all of it, in order.
pub(super) fn wav(bytes: usize) -> Vec<u8> {
    let data = (bytes - 44) & !3;
    let mut file = b"RIFF".to_vec();
    file.extend(u32::try_from(36 + data).expect("small").to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
    file.extend(48_000_u32.to_le_bytes());
    file.extend(192_000_u32.to_le_bytes());
    file.extend(b"\x04\0\x10\0data");
    file.extend(u32::try_from(data).expect("small").to_le_bytes());
    file.extend((0..data).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8));
    file
}
