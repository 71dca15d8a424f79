//! `probectl submit`: upload, submit, and wait if wished.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::jobs::{summary, wait};
use super::{JOB_FAILED, SUCCESS};
use crate::client::Client;
use crate::terminal::{self, Progress};

/// Which job goes first.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Priority {
    High,
    Normal,
    Low,
}

/// Submits a job for each file.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// Files to probe
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The files lie in the service's media roots: name them, upload nothing
    #[arg(long)]
    remote: bool,
    /// Wait for the end of every job
    #[arg(long)]
    wait: bool,
    /// Print the jobs as JSON, one a line
    #[arg(long)]
    json: bool,
    /// How deep to look
    #[arg(long, default_value = "standard")]
    profile: String,
    /// Which job goes first
    #[arg(long, value_enum, default_value = "normal")]
    priority: Priority,
    /// Your own name for the job; only with a single file
    #[arg(long)]
    external_id: Option<String>,
    /// Your own data, kept with the job; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(|| "write KEY=VALUE".to_owned())
}

/// Runs the command.
pub async fn run(client: &Client, args: SubmitArgs) -> Result<u8> {
    ensure!(
        args.external_id.is_none() || args.files.len() == 1,
        "--external-id names one job; give a single file with it"
    );
    let mut jobs = Vec::new();
    for file in &args.files {
        let source = if args.remote { json!({"type": "path", "path": file}) } else { upload(client, file).await? };
        let job = client
            .post("/api/v1/jobs", &request(&args, source))
            .await
            .with_context(|| format!("{} was not accepted", file.display()))?;
        if !args.wait {
            show(&job, &args);
        }
        jobs.push(job);
    }
    if !args.wait {
        return Ok(SUCCESS);
    }
    let mut code = SUCCESS;
    for job in jobs {
        let ended = wait(client, job["id"].as_str().unwrap_or_default()).await?;
        if ended["state"] != "succeeded" {
            code = JOB_FAILED;
        }
        show(&ended, &args);
    }
    Ok(code)
}

fn request(args: &SubmitArgs, source: Value) -> Value {
    let metadata: Map<String, Value> = args.metadata.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    let priority = match args.priority {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    };
    json!({"source": source, "profile": args.profile, "priority": priority, "external_id": args.external_id, "metadata": metadata})
}

fn show(job: &Value, args: &SubmitArgs) {
    if args.json { terminal::line(&job.to_string()) } else { terminal::line(&summary(job)) }
}

async fn upload(client: &Client, file: &Path) -> Result<Value> {
    let name =
        file.file_name().with_context(|| format!("{} names no file", file.display()))?.to_string_lossy().into_owned();
    let about = tokio::fs::metadata(file).await.with_context(|| format!("cannot look at {}", file.display()))?;
    ensure!(about.is_file(), "{} is not a regular file; name the file itself", file.display());
    let size = about.len();
    let mut progress = Progress::new(name.clone(), size);
    let upload = client.upload(file, &name, move |bytes| progress.advance(bytes)).await;
    let upload = upload.with_context(|| format!("{} was not uploaded", file.display()))?;
    Ok(json!({"type": "upload", "id": upload["id"]}))
}
