//! The self-check: a fresh clip goes through the public API as a client's would, and its result is looked at.
//!
//! Called by `up` once the programs run. When it passes, HTTP, Redis, a worker, ffprobe and PostgreSQL work together.
//! It must never use anything that a client could not.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use shared::access::ApiKey;
use tokio::time::{Instant, sleep};

use super::clip::{self, Made};
use super::plan::Plan;

/// How long the API may take until it is ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long the job may take; the worker may still be starting.
const JOB_PATIENCE: Duration = Duration::from_secs(45);
/// What one request waits for the job, in seconds.
const WAIT_SECONDS: u64 = 20;
/// Longest time for one request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(25);

/// Where to look when the service answers wrongly.
const LOOK: &str = "the messages of ffprobe-api and ffprobe-worker above say more; LOG_LEVEL=debug shows all of them";

/// How the self-check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checked {
    /// What was probed, and how long it took from the first request to the result.
    Passed(String, Duration),
    /// There is no ffmpeg to make a clip with.
    Skipped,
}

/// Waits until the API says that it is ready.
pub(super) async fn await_ready(plan: &Plan) -> Result<()> {
    let client = client()?;
    let url = format!("{}/health/ready", plan.url());
    let begun = Instant::now();
    loop {
        let answer = match client.get(&url).send().await {
            Ok(response) if response.status() == StatusCode::OK => return Ok(()),
            Ok(response) => format!("it answers {}: {}", response.status(), response.text().await.unwrap_or_default()),
            Err(error) => format!("{:#}", anyhow::Error::new(error)),
        };
        if begun.elapsed() > READY_PATIENCE {
            bail!("the API was not ready after {} s ({answer}); {LOOK}", READY_PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(25)).await;
    }
}

/// Sends a clip and compares the result with what ffmpeg was told to make.
pub(super) async fn run(plan: &Plan, key: &ApiKey) -> Result<Checked> {
    let directory = tempfile::tempdir().context("could not make a temporary directory")?;
    let path = directory.path().join("self-check.mp4");
    if clip::make_short(&path).await.context("could not make the clip of the self-check")? == Made::NoFfmpeg {
        return Ok(Checked::Skipped);
    }
    let clip = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
    let begun = Instant::now();
    let job = probe(plan, key, clip).await.with_context(|| format!("the self-check did not pass; {LOOK}"))?;
    let took = begun.elapsed();
    Ok(Checked::Passed(summary(&job).with_context(|| format!("the self-check did not pass; {LOOK}"))?, took))
}

async fn probe(plan: &Plan, key: &ApiKey, clip: Vec<u8>) -> Result<Value> {
    let (client, url) = (client()?, format!("{}/api/v1", plan.url()));
    let ask = |request: RequestBuilder| answer(request.header("X-API-Key", key.expose()));

    let upload = client.post(format!("{url}/uploads")).query(&[("filename", "self-check.mp4")]).body(clip);
    let upload = ask(upload).await.context("the upload")?;
    let order = json!({
        "source": {"type": "upload", "id": upload["id"]},
        "profile": "standard",
        "metadata": {"from": "self-check of probectl up"},
    });
    let job = ask(client.post(format!("{url}/jobs")).json(&order)).await.context("the job")?;
    let id = job["id"].as_str().with_context(|| format!("the answer has no job id: {job}"))?.to_owned();

    let begun = Instant::now();
    loop {
        let show = client.get(format!("{url}/jobs/{id}"));
        let show = show.query(&[("wait", WAIT_SECONDS.to_string().as_str()), ("include", "result")]);
        let job = ask(show).await.context("the result")?;
        match job["state"].as_str() {
            Some("succeeded") => return Ok(job),
            Some("queued" | "running") if begun.elapsed() < JOB_PATIENCE => {}
            Some(state @ ("queued" | "running")) => {
                bail!("job {id} is still {state} after {} s; no worker has finished it", JOB_PATIENCE.as_secs());
            }
            _ => bail!("job {id} ended as {}: {}", job["state"], job["failure"]),
        }
    }
}

/// The body of an answer of the 200s; otherwise an error with what the API says.
async fn answer(request: RequestBuilder) -> Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if !status.is_success() {
        let detail = body["detail"].as_str().unwrap_or(&text);
        bail!("the API answered {status}: {detail}");
    }
    ensure!(body.is_object(), "the API answered {status} with something else than a JSON object: {text}");
    Ok(body)
}

/// What was probed in a few words; an error unless it is the clip that was sent.
fn summary(job: &Value) -> Result<String> {
    let media = &job["result"]["media"];
    let video = &media["video"][0];
    let (seconds, width, height) =
        (media["container"]["duration_seconds"].as_f64(), video["width"].as_u64(), video["height"].as_u64());
    match (seconds, width, height, video["codec"].as_str()) {
        (Some(seconds), Some(320), Some(180), Some(codec)) if (seconds - 2.0).abs() < 0.1 => {
            Ok(format!("{seconds:.1} s of 320x180 {codec}"))
        }
        _ => bail!("2 s of 320x180 video were sent, and the result says: {media}"),
    }
}

fn client() -> Result<Client> {
    // A proxy of the environment is for other machines.
    Client::builder().no_proxy().timeout(REQUEST_PATIENCE).build().context("could not make an HTTP client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_needs_the_right_values() {
        let job = |width: u64, seconds: f64| {
            json!({"result": {"media": {"container": {"duration_seconds": seconds},
                "video": [{"codec": "h264", "width": width, "height": 180}]}}})
        };
        assert_eq!(summary(&job(320, 2.0)).expect("right"), "2.0 s of 320x180 h264");
        assert!(summary(&job(640, 2.0)).is_err() && summary(&job(320, 5.0)).is_err());
        assert!(summary(&json!({"state": "succeeded"})).is_err());
    }
}
