//! `probectl watch`: what happens, line by line, while it happens; with jobs named, until they have ended.

use anyhow::{Context, Result};
use clap::Args;
use futures::future::try_join_all;
use serde_json::Value;
use shared::event::EventType;

use super::{JOB_FAILED, SUCCESS};
use crate::client::Client;
use crate::events::{Follow, Told};
use crate::terminal;

/// Most jobs that are followed at once, each by a stream of its own.
const MOST_JOBS: usize = 50;

/// Shows what happens.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Ids of jobs, at most 50: show only what happens to them, from their beginning, and stop when all have ended. Without
    /// any, show what happens from now on, until Ctrl-C
    #[arg(value_name = "JOB", num_args = 0..=MOST_JOBS)]
    jobs: Vec<String>,
    /// Only these types, joined by commas: job.queued, job.started, job.progress, job.succeeded, job.failed, job.canceled,
    /// upload.completed, batch.completed, webhook.disabled, ping
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    types: Vec<EventType>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Reads the type of an event.
pub fn kind(word: &str) -> Result<EventType, String> {
    word.parse().map_err(|()| {
        let known: Vec<&str> = EventType::ALL.into_iter().map(EventType::as_str).collect();
        format!("the types are {}", known.join(", "))
    })
}

/// Runs `watch`.
pub async fn run(client: &Client, args: WatchArgs) -> Result<u8> {
    if args.jobs.is_empty() {
        return everything(client, &args).await;
    }
    let ends = try_join_all(args.jobs.iter().map(|job| one(client, &args, job))).await?;
    Ok(if ends.iter().all(|end| *end == Some(EventType::JobSucceeded)) { SUCCESS } else { JOB_FAILED })
}

/// Shows everything; only Ctrl-C ends it.
async fn everything(client: &Client, args: &WatchArgs) -> Result<u8> {
    let types: Vec<&str> = args.types.iter().map(|kind| kind.as_str()).collect();
    let query = if types.is_empty() { Vec::new() } else { vec![("types", types.join(","))] };
    let mut stream = Follow::new("/api/v1/events", query);
    while let Some(told) = stream.next(client).await? {
        show(args, &told)?;
    }
    Ok(SUCCESS)
}

/// Shows what happens to a job, and returns what it ended with; none if that is not known any more.
async fn one(client: &Client, args: &WatchArgs, job: &str) -> Result<Option<EventType>> {
    let mut stream = Follow::new(format!("/api/v1/jobs/{job}/events"), Vec::new());
    let mut last = None;
    while let Some(told) = stream.next(client).await? {
        if told.kind == "end" {
            break;
        }
        last = told.kind.parse::<EventType>().ok().or(last);
        show(args, &told)?;
    }
    Ok(match last.filter(|last| last.ends_a_job()) {
        Some(last) => Some(last),
        // its events were forgotten
        None => {
            format!("job.{}", super::jobs::wait(client, job).await?["state"].as_str().unwrap_or_default()).parse().ok()
        }
    })
}

fn show(args: &WatchArgs, told: &Told) -> Result<()> {
    if told.kind == "reset" {
        terminal::remark("probectl: older events are not known any more; look at the jobs themselves");
        return Ok(());
    }
    let kind = told.kind.parse::<EventType>();
    if !args.types.is_empty() && kind.is_ok_and(|kind| !args.types.contains(&kind)) {
        return Ok(());
    }
    if args.json {
        terminal::line(&told.data);
    } else {
        let event = serde_json::from_str(&told.data).context("an event is not JSON; is this an FFprobe API?")?;
        terminal::line(&summary(&event));
    }
    Ok(())
}

/// An event in one line.
fn summary(event: &Value) -> String {
    let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let (at, kind, data) = (word(&event["timestamp"]), word(&event["type"]), &event["data"]);
    let about = if data["job"].is_object() {
        job(&data["job"])
    } else if data["upload"].is_object() {
        let upload = &data["upload"];
        format!("{}  {}  {} bytes", word(&upload["id"]), word(&upload["filename"]), upload["size_bytes"])
    } else {
        data.to_string()
    };
    format!("{at}  {kind:13}  {about}").trim_end().to_owned()
}

fn job(job: &Value) -> String {
    let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let source = &job["source"];
    let source = ["path", "url", "key", "id"].iter().find_map(|name| source[*name].as_str()).unwrap_or("-");
    let told = match (&job["failure"], &job["progress"]) {
        (Value::Object(failure), _) => format!("{}: {}", word(&failure["code"]), word(&failure["message"])),
        (_, Value::Object(progress)) => Value::Object(progress.clone()).to_string(),
        _ => String::new(),
    };
    format!("{}  {source}  {told}", word(&job["id"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_fits_on_a_line() {
        let failure = json!({"code": "empty_input", "message": "0 bytes"});
        let job = json!({"id": "1", "source": {"type": "path", "path": "/x"}, "failure": failure, "progress": null});
        let event = json!({"type": "job.failed", "timestamp": "2026-11-24T20:00:00Z", "data": {"job": job}});
        assert_eq!(summary(&event), "2026-11-24T20:00:00Z  job.failed     1  /x  empty_input: 0 bytes");
        let event =
            json!({"type": "job.queued", "timestamp": "t", "data": {"job": {"id": "1", "source": {"key": "k"}}}});
        assert_eq!(summary(&event), "t  job.queued     1  k");
        let event = json!({"type": "ping", "timestamp": "t", "data": {}});
        assert_eq!(summary(&event), "t  ping           {}");
    }
}
