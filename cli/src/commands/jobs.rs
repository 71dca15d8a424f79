//! `probectl jobs`, `job`, `result`: look at jobs.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::{JOB_FAILED, SUCCESS};
use crate::client::Client;
use crate::terminal;

/// Seconds asked for in one waiting call; the API's maximum.
const WAIT: &str = "30";

/// Lists jobs.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Only these states, joined by commas: queued, running, succeeded, failed, canceled
    #[arg(long)]
    state: Option<String>,
    /// How many
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Print the page as JSON
    #[arg(long)]
    json: bool,
}

/// Shows a job.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Id of the job
    id: String,
    /// Wait for its end
    #[arg(long)]
    wait: bool,
    /// Print a summary line instead of JSON
    #[arg(long)]
    short: bool,
}

/// Shows a result.
#[derive(Debug, Args)]
pub struct ResultArgs {
    /// Id of the job
    id: String,
    /// Print only ffprobe's own JSON
    #[arg(long, conflicts_with = "media")]
    raw: bool,
    /// Print only the normalised description
    #[arg(long)]
    media: bool,
}

/// Runs `jobs`.
pub async fn list(client: &Client, args: JobsArgs) -> Result<u8> {
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.state.map(|s| ("state", s)));
    let page = client.get("/api/v1/jobs", &query).await?;
    if args.json {
        terminal::json(&page);
    } else {
        page["data"].as_array().into_iter().flatten().for_each(|job| terminal::line(&summary(job)));
    }
    Ok(SUCCESS)
}

/// Runs `job`.
pub async fn show(client: &Client, args: JobArgs) -> Result<u8> {
    let job = if args.wait {
        wait(client, &args.id).await?
    } else {
        client.get(&format!("/api/v1/jobs/{}", args.id), &[]).await?
    };
    if args.short {
        terminal::line(&summary(&job));
    } else {
        terminal::json(&job);
    }
    Ok(if matches!(job["state"].as_str(), Some("failed" | "canceled")) { JOB_FAILED } else { SUCCESS })
}

/// Runs `result`.
pub async fn result(client: &Client, args: ResultArgs) -> Result<u8> {
    let result = client.get(&format!("/api/v1/jobs/{}/result", args.id), &[]).await?;
    let part = if args.raw {
        &result["ffprobe"]
    } else if args.media {
        &result["media"]
    } else {
        &result
    };
    terminal::json(part);
    Ok(SUCCESS)
}

/// The job with its result, once it has ended.
pub async fn wait(client: &Client, id: &str) -> Result<Value> {
    let query = [("wait", WAIT.to_owned()), ("include", "result".to_owned())];
    loop {
        let job = client.get(&format!("/api/v1/jobs/{id}"), &query).await?;
        if !matches!(job["state"].as_str(), Some("queued" | "running")) {
            return Ok(job);
        }
    }
}

/// A job in one line.
pub fn summary(job: &Value) -> String {
    let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let source = job["source"]["path"]
        .as_str()
        .or(job["source"]["url"].as_str())
        .or(job["source"]["key"].as_str())
        .or(job["result"]["media"]["name"].as_str())
        .or(job["source"]["id"].as_str())
        .unwrap_or("-");
    let told = if let Some(failure) = job["failure"].as_object() {
        format!("{}: {}", word(&failure["code"]), word(&failure["message"]))
    } else {
        media(&job["result"]["media"])
    };
    format!("{}  {:9}  {source}  {told}", word(&job["id"]), word(&job["state"])).trim_end().to_owned()
}

/// Media in a few words: `mp4, 5.0 s, h264 320x180, aac 2 ch`.
pub fn media(media: &Value) -> String {
    let mut parts: Vec<String> = media["container"]["format"].as_str().map(str::to_owned).into_iter().collect();
    parts.extend(media["container"]["duration_seconds"].as_f64().map(|s| format!("{s:.1} s")));
    let codec = |track: &Value| track["codec"].as_str().unwrap_or("unknown").to_owned();
    for video in media["video"].as_array().into_iter().flatten() {
        parts.push(format!("{} {}x{}", codec(video), video["width"], video["height"]));
    }
    for audio in media["audio"].as_array().into_iter().flatten() {
        parts.push(format!("{} {} ch", codec(audio), audio["channels"]));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_fits_on_a_line() {
        let media = json!({"name": "a.mp4", "container": {"format": "mp4", "duration_seconds": 5.02},
            "video": [{"codec": "h264", "width": 320, "height": 180}], "audio": [{"codec": "aac", "channels": 2}]});
        let job = json!({"id": "1", "state": "succeeded", "source": {"type": "upload", "id": "u"}, "result": {"media": media}});
        assert_eq!(summary(&job), "1  succeeded  a.mp4  mp4, 5.0 s, h264 320x180, aac 2 ch");
        let job = json!({"id": "1", "state": "failed", "source": {"type": "path", "path": "/x"}, "failure": {"code": "empty_input", "message": "0 bytes"}});
        assert_eq!(summary(&job), "1  failed     /x  empty_input: 0 bytes");
    }
}
