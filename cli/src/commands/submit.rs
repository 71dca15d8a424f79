//! `probectl submit`: upload or name, submit, and wait if wished.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::jobs::{summary, wait};
use super::{INTERRUPTED, JOB_FAILED, SUCCESS};
use crate::client::Client;
use crate::terminal;
use crate::up::StateArgs;
use crate::upload::{self, Checksum, Settings};

/// Most parts of a file that are sent side by side.
const MOST_PARTS: i64 = 16;

/// Which job goes first.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Priority {
    High,
    Normal,
    Low,
}

/// How deep to look.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Profile {
    /// Format and streams, as fast as can be
    Quick,
    /// Also chapters, programs, and the first frame where it tells something
    Standard,
    /// Every packet: exact duration, bit rate over time, gaps
    Packets,
    /// Chosen frames, decoded
    Frames,
}

/// A kind of input taken besides audio and video.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Accept {
    Image,
    Subtitle,
    Text,
}

/// The end of `probectl submit --help`.
const MANUAL: &str = "\
A SOURCE is one of these:

  FILE                      a file of this machine; it is uploaded
  https://HOST/PATH         an object that the service fetches itself; http:// where its
                            operator allows it
  s3://PROFILE/BUCKET/KEY   an object in a store that its operator set up as PROFILE
  PATH with --remote        a file in a media root of the service

A file whose name looks like an address is meant with ./ before it. While the command runs, other
users of this machine can see its arguments: an address with a signature in it too.

Uploads survive lost connections, a service that restarts or asks for patience, and the end of
this command. After Ctrl-C, a crash or a reboot the same command goes on where it was, as long as
the file has not changed and the service still has the bytes (two days, unless its operator says
otherwise). What is remembered lies in the folder `resume` of --state-dir.

Examples:
  probectl submit movie.mov --wait
  probectl submit --profile packets --json *.mxf
  probectl submit s3://archive/media/2026/holiday.mp4 --max-seconds 60";

/// Submits a job for each source.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL)]
pub struct SubmitArgs {
    /// What to probe
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// The sources lie in the service's media roots: name them, upload nothing
    #[arg(long)]
    remote: bool,
    /// Wait for the end of every job
    #[arg(long)]
    wait: bool,
    /// Print the jobs as JSON, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    upload: UploadArgs,
}

/// What the job is to do.
#[derive(Debug, Args)]
#[command(next_help_heading = "Job")]
struct JobArgs {
    /// How deep to look
    #[arg(long, visible_alias = "probe", value_enum, default_value = "standard")]
    profile: Profile,
    /// Which job goes first
    #[arg(long, value_enum, default_value = "normal")]
    priority: Priority,
    /// Also take this kind of input, which otherwise fails as `blocked_format`; may be repeated
    #[arg(long, value_enum, value_name = "KIND")]
    accept: Vec<Accept>,
    /// Most bytes read of the input
    #[arg(long, value_name = "BYTES")]
    max_read_bytes: Option<u64>,
    /// Most seconds that one attempt may run
    #[arg(long, value_name = "SECONDS")]
    max_seconds: Option<u32>,
    /// Your own name for the job; only with a single source
    #[arg(long)]
    external_id: Option<String>,
    /// Your own data, kept with the job; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

/// How files are uploaded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Upload")]
struct UploadArgs {
    /// Parts sent side by side, for files of 64 MiB and more. The service then needs twice the space for a while
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=MOST_PARTS))]
    parts: u32,
    /// Have the service verify the whole file by its SHA-256
    #[arg(long, value_enum, default_value = "auto")]
    checksum: Checksum,
    /// Give up when no byte has arrived for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience: u64,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(|| "write KEY=VALUE".to_owned())
}

/// What a job is about, and the upload that was made for it.
struct Named {
    source: Value,
    uploaded: Option<upload::Uploaded>,
}

/// Runs the command.
pub async fn run(client: &Client, state: &StateArgs, args: SubmitArgs) -> Result<u8> {
    ensure!(
        args.job.external_id.is_none() || args.sources.len() == 1,
        "--external-id names one job; give a single source with it"
    );
    let mut jobs = Vec::new();
    for source in &args.sources {
        let Some(job) = unless_interrupted(Box::pin(submit(client, state, &args, source))).await? else {
            explain_interruption(source);
            return Ok(INTERRUPTED);
        };
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

/// What the work comes to; `None` if Ctrl-C or SIGTERM came first.
async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => done.map(Some),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
    }
}

fn explain_interruption(source: &Path) {
    terminal::remark(&format!(
        "\nprobectl: interrupted at {}. What has arrived is kept: the same command goes on from there.",
        shown(source)
    ));
}

async fn submit(client: &Client, state: &StateArgs, args: &SubmitArgs, source: &Path) -> Result<Value> {
    let shown = shown(source);
    let named = name(client, state, args, source).await.with_context(|| format!("{shown} was not uploaded"))?;
    let request = request(&args.job, named.source);
    let job = match &named.uploaded {
        Some(uploaded) => client.post_once("/api/v1/jobs", &request, &uploaded.idempotency_key(&request)).await,
        None => client.post("/api/v1/jobs", &request).await,
    };
    let job = job.with_context(|| format!("{shown} was not accepted"))?;
    named.uploaded.map_or(Ok(()), upload::Uploaded::forget)?;
    Ok(job)
}

/// The source as it may be shown: without what may be secret in an address.
fn shown(source: &Path) -> String {
    let text = source.display().to_string();
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let rest = rest.split(['?', '#']).next().unwrap_or_default();
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            format!("{scheme}://{}{path}", host.rsplit_once('@').map_or(host, |(_, host)| host))
        }
        None => text,
    }
}

/// Uploads a file; names anything else.
async fn name(client: &Client, state: &StateArgs, args: &SubmitArgs, source: &Path) -> Result<Named> {
    if args.remote {
        return Ok(Named { source: json!({"type": "path", "path": source}), uploaded: None });
    }
    if let Some(source) = source.to_str().map(address).transpose()?.flatten() {
        return Ok(Named { source, uploaded: None });
    }
    let settings = Settings {
        parts: args.upload.parts,
        checksum: args.upload.checksum,
        patience: Duration::from_secs(args.upload.patience),
        memory: state.resume_folder(),
    };
    let uploaded = upload::send(client, source, &settings).await?;
    Ok(Named { source: json!({"type": "upload", "id": uploaded.id}), uploaded: Some(uploaded) })
}

/// The source that an address names; `None` if it is a file name.
pub fn address(text: &str) -> Result<Option<Value>> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
    Ok(match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => Some(json!({"type": "url", "url": text})),
        "s3" => {
            let mut words = rest.splitn(3, '/');
            let (profile, bucket, key) = (words.next(), words.next(), words.next());
            let (Some(profile), Some(bucket), Some(key)) = (profile, bucket, key) else {
                bail!("an object is named as s3://PROFILE/BUCKET/KEY");
            };
            ensure!(![profile, bucket, key].contains(&""), "an object is named as s3://PROFILE/BUCKET/KEY");
            Some(json!({"type": "s3", "profile": profile, "bucket": bucket, "key": key}))
        }
        _ => None,
    })
}

/// The word of the API for a choice: the same as on the command line.
pub fn word(choice: &impl ValueEnum) -> Value {
    choice.to_possible_value().map_or(Value::Null, |value| json!(value.get_name()))
}

fn request(args: &JobArgs, source: Value) -> Value {
    let metadata: Map<String, Value> = args.metadata.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    let accept: Vec<Value> = args.accept.iter().map(word).collect();
    let limits = [("max_read_bytes", args.max_read_bytes), ("max_seconds", args.max_seconds.map(u64::from))];
    let budget: Map<String, Value> =
        limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), json!(limit?)))).collect();
    json!({
        "source": source, "profile": word(&args.profile), "priority": word(&args.priority), "accept": accept,
        "budget": budget, "external_id": args.external_id, "metadata": metadata,
    })
}

fn show(job: &Value, args: &SubmitArgs) {
    if args.json { terminal::line(&job.to_string()) } else { terminal::line(&summary(job)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        job: JobArgs,
    }

    #[test]
    fn addresses_are_named_and_files_are_not() {
        assert_eq!(address("a.mov").unwrap(), None);
        assert_eq!(address("./https:/x").unwrap(), None);
        assert_eq!(address("HTTPS://x/a?b").unwrap(), Some(json!({"type": "url", "url": "HTTPS://x/a?b"})));
        let object = json!({"type": "s3", "profile": "p", "bucket": "b", "key": "k/l.mov"});
        assert_eq!(address("s3://p/b/k/l.mov").unwrap(), Some(object));
        for bad in ["s3://", "s3://p/b", "s3://p/b/", "s3:///b/k"] {
            assert!(address(bad).unwrap_err().to_string().contains("s3://PROFILE/BUCKET/KEY"), "{bad}");
        }
    }

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        assert_eq!(shown(Path::new("https://me:pw@host/a.mov?signature=x#y")), "https://host/a.mov");
        assert_eq!(shown(Path::new("https://host/a@b.mov")), "https://host/a@b.mov");
        assert_eq!(shown(Path::new("/a b.mov")), "/a b.mov");
    }

    #[test]
    fn a_request_holds_what_was_said() {
        let line = ["x", "--probe", "packets", "--accept", "image", "--max-seconds", "9", "--metadata", "a=b=c"];
        let made = request(&Line::parse_from(line).job, json!(1));
        let wanted = json!({"source": 1, "profile": "packets", "priority": "normal", "accept": ["image"],
            "budget": {"max_seconds": 9}, "external_id": null, "metadata": {"a": "b=c"}});
        assert_eq!(made, wanted);
    }
}
