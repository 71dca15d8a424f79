//! Hostile input through the whole product: every exploit, odd name and bomb is submitted as a job. None shows a secret,
//! none connects, none takes more memory or time than a job may, each ends with the code that stands here, and the worker
//! goes on. That the attacks work where a protection is missing is shown in `attacks`.

mod bombs;
mod exploits;
mod memory;
mod watch;

use serde_json::Value;
use tests::Http;

/// How a job ended: its failure's code, or `succeeded`, or `degraded` if a limit bit and it succeeded all the same.
fn ending(job: &Value) -> &str {
    match (job["state"].as_str(), job["failure"]["code"].as_str()) {
        (Some("succeeded"), _) if job["result"]["degraded"] == true => "degraded",
        (Some("failed"), Some(code)) => code,
        (state, _) => state.unwrap_or("no state"),
    }
}

/// Submits a file of the media root and returns the job's end, or the code of the refusal.
async fn probe(http: &Http, path: &str) -> Value {
    let body = serde_json::json!({"source": {"type": "path", "path": path}});
    let answer = http.post("/api/v1/jobs", &body).await;
    match answer.status.as_u16() {
        202 => http.wait(answer.json["id"].as_str().expect("an id")).await,
        _ => serde_json::json!({"state": "failed", "failure": {"code": answer.json["code"]}}),
    }
}
