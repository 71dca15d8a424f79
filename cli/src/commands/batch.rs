//! `probectl batch`: submit many jobs as one, wait for their end, and read their results.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::submit::{Profile, address, word};
use super::{JOB_FAILED, SUCCESS};
use crate::client::{Client, persist};
use crate::output::Output;
use crate::terminal;

/// Largest list that is sent, in bytes: what the API takes.
const MOST_BYTES: u64 = 64 << 20;
/// How often a batch that goes on is asked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long the list is sent again while no answer comes: whoever misspelled an address wants to know.
const SEND_PATIENCE: Duration = Duration::from_secs(15);
/// How long a service that does not answer is waited for once it has the batch: it may be starting anew.
const PATIENCE: Duration = Duration::from_secs(300);

/// The end of `probectl batch --help`.
const MANUAL: &str = "\
FILE has one source a line, and - is standard input. Empty lines and lines that begin with # are left out.
A line is one of these:

  https://HOST/PATH         an object that the service fetches itself
  s3://PROFILE/BUCKET/KEY   an object in a store that its operator set up as PROFILE
  PATH                      a file in a media root of the service
  {\"source\": …}             a job as in POST /api/v1/jobs

All jobs are accepted or none. A batch has at most 10,000. Files of this machine are uploaded with
`probectl submit`.

Examples:
  find /mnt/media -name '*.mxf' -printf '/%P\\n' | probectl batch - --wait
  probectl batch list.txt --profile packets --results results.csv
  probectl batch --id BATCH_ID --results results.csv     # one that was submitted before";

/// Submits many jobs as one, or goes on with a batch that was submitted before.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL)]
pub struct BatchArgs {
    /// The list; - for standard input
    #[arg(required_unless_present = "id")]
    file: Option<PathBuf>,
    /// Submit nothing, but show this batch, wait for it, or write its results
    #[arg(long, value_name = "BATCH_ID", conflicts_with_all = ["file", "profile", "external_id"])]
    id: Option<Uuid>,
    /// How deep to look, for lines that do not say
    #[arg(long, value_enum, default_value = "standard")]
    profile: Profile,
    /// Your own name for the batch
    #[arg(long)]
    external_id: Option<String>,
    /// Wait for the end of all jobs, and show how far they are
    #[arg(long)]
    wait: bool,
    /// Wait, and then write all results to this file: CSV if its name ends in .csv, else one JSON object a line; - for
    /// standard output
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Print the batch as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(client: &Client, args: BatchArgs) -> Result<u8> {
    // a place that cannot be written to is better known before the work than after it
    let output = args.results.as_deref().map(Output::open).transpose()?;
    let batch = match &args.id {
        Some(id) => client.get(&format!("/api/v1/batches/{id}"), &[]).await?,
        None => submit(client, &args).await.context("the batch was not accepted")?,
    };
    if !args.wait && output.is_none() {
        show(&batch, args.json);
        return Ok(SUCCESS);
    }
    let id = batch["id"].as_str().unwrap_or_default().to_owned();
    terminal::remark(&format!("batch {id}: {} jobs; after an interruption go on with --id", batch["total"]));
    let batch = wait(client, &id).await?;
    let is_taken = output.as_ref().is_some_and(Output::is_stdout);
    if let Some(output) = output {
        save(client, &id, format(&args), output).await?;
    }
    // standard output is one thing or the other
    if is_taken {
        terminal::remark(&summary(&batch));
    } else {
        show(&batch, args.json);
    }
    Ok(if batch["counts"]["succeeded"] == batch["total"] { SUCCESS } else { JOB_FAILED })
}

async fn submit(client: &Client, args: &BatchArgs) -> Result<Value> {
    let lines = read(args.file.as_deref().unwrap_or(Path::new("-")))?;
    let body = translate(&lines, &word(&args.profile))?;
    let query: Vec<_> = args.external_id.iter().map(|id| ("external_id", id.clone())).collect();
    // the service makes one batch of it, however often it comes
    let key = Uuid::new_v4().to_string();
    persist(SEND_PATIENCE, async || client.post_lines("/api/v1/batches", &query, body.clone(), &key).await).await
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?)
    };
    source.take(MOST_BYTES + 1).read_to_string(&mut text).with_context(|| format!("{} is no text", file.display()))?;
    ensure!(text.len() as u64 <= MOST_BYTES, "the list has more than {MOST_BYTES} bytes; make several batches of it");
    Ok(text)
}

/// The list as lines of jobs.
fn translate(text: &str, profile: &Value) -> Result<String> {
    let mut body = String::new();
    // what some editors put before a text is no part of it
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(members) = line.strip_prefix('{') {
            if says_profile(line) {
                body.push_str(line);
            } else {
                let comma = if members.trim_start().starts_with('}') { "" } else { "," };
                body.push_str(&format!("{{\"profile\":{profile}{comma}{members}"));
            }
        } else {
            let named = address(line).with_context(|| format!("line {number}"))?;
            let source = named.unwrap_or_else(|| json!({"type": "path", "path": line}));
            body.push_str(&json!({"source": source, "profile": profile}).to_string());
        }
        body.push('\n');
    }
    ensure!(!body.is_empty(), "the list names nothing; it has one source a line");
    Ok(body)
}

/// Whether a job has its own profile. One that is no JSON says so, too: it is refused by whoever knows why.
fn says_profile(job: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(job).map_or(true, |members| members.contains_key("profile"))
}

/// The batch once all of its jobs have ended.
async fn wait(client: &Client, id: &str) -> Result<Value> {
    let mut told = String::new();
    loop {
        let batch = persist(PATIENCE, async || client.get(&format!("/api/v1/batches/{id}"), &[]).await).await?;
        let line = progress(&batch);
        if line != told {
            terminal::remark(&line);
            told = line;
        }
        if batch["state"] == "completed" {
            return Ok(batch);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How far it is, in whole percent, so that not every look is a line.
fn progress(batch: &Value) -> String {
    let (counts, percent) = (&batch["counts"], batch["percent"].as_f64().unwrap_or_default());
    let failed = match counts["failed"].as_u64() {
        None | Some(0) => String::new(),
        Some(failed) => format!(", {failed} failed"),
    };
    format!("{percent:3.0} %{failed}")
}

/// How the results are written.
fn format(args: &BatchArgs) -> &'static str {
    let extension = args.results.as_deref().and_then(Path::extension);
    if extension.is_some_and(|e| e.eq_ignore_ascii_case("csv")) { "csv" } else { "ndjson" }
}

async fn save(client: &Client, id: &str, format: &str, mut output: Output) -> Result<()> {
    let (path, query) = (format!("/api/v1/batches/{id}/results"), [("format", format.to_owned())]);
    let export = async || {
        ensure!(output.restart()?, "what was written is not complete");
        client.export(&path, &query, |piece| output.write(piece)).await
    };
    persist(PATIENCE, export).await?;
    output.keep()
}

fn show(batch: &Value, as_json: bool) {
    if as_json {
        terminal::json(batch);
    } else {
        terminal::line(&summary(batch));
    }
}

/// A batch in one line.
fn summary(batch: &Value) -> String {
    let counts: Vec<String> = ["queued", "running", "succeeded", "failed", "canceled"]
        .into_iter()
        .filter(|state| batch["counts"][state].as_u64().is_some_and(|n| n > 0))
        .map(|state| format!("{} {state}", batch["counts"][state]))
        .collect();
    let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    format!("{}  {:9}  {}", word(&batch["id"]), word(&batch["state"]), counts.join(", ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_jobs() {
        let text = "# nightly\n/a b.mov\r\n\nhttps://x/a?b\ns3://p/b/k\n{\"source\": 1}\n";
        let lines: Vec<String> = translate(text, &json!("quick")).unwrap().lines().map(str::to_owned).collect();
        let value = |i: usize| serde_json::from_str::<Value>(&lines[i]).unwrap();
        assert_eq!(value(0), json!({"source": {"type": "path", "path": "/a b.mov"}, "profile": "quick"}));
        assert_eq!(value(1)["source"], json!({"type": "url", "url": "https://x/a?b"}));
        assert_eq!(value(2)["source"]["key"], "k");
        assert_eq!(value(3), json!({"source": 1, "profile": "quick"}));
        let kept = "{\"source\": 1, \"profile\": \"frames\"}\n{\"source\"\n";
        assert_eq!(
            translate(&format!("\u{feff}{kept}{{}}"), &json!("quick")).unwrap(),
            format!("{kept}{{\"profile\":\"quick\"}}\n")
        );
        assert!(translate("# x\n\n", &json!("quick")).unwrap_err().to_string().contains("names nothing"));
        assert!(format!("{:#}", translate("/a\ns3://x", &json!(1)).unwrap_err()).starts_with("line 2: "));
    }

    #[test]
    fn a_batch_fits_on_a_line() {
        let batch = json!({"id": "1", "state": "running", "percent": 39.6, "total": 10,
            "counts": {"queued": 6, "running": 0, "succeeded": 3, "failed": 1, "canceled": 0}});
        assert_eq!(summary(&batch), "1  running    6 queued, 3 succeeded, 1 failed");
        assert_eq!(progress(&batch), " 40 %, 1 failed");
    }
}
