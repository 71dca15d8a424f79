//! What looks and scans cost: an installation with an origin beside it, jobs whose attempts are timed, and the same ffprobe
//! command outside. The tests of huge files hold the product to its promises with it, the benchmark prints the numbers.
//!
//! The machine is shared, so both sides of a ratio take turns and the quickest run of each counts.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::DateTime;
use serde_json::{Value, json};

use crate::big::{FIFTY_GB, FIVE_MB, Shape};
use crate::origin::Origin;
use crate::process::cpu_of;
use crate::slow::is_gone;
use crate::{Http, Installation, Program};

/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What lets a worker and an API read from this machine's loopback.
pub const LOOPBACK: [(&str, &str); 2] =
    [("EGRESS_ALLOW_CIDRS", "127.0.0.1/32:1-65535"), ("EGRESS_SCHEMES", "https,http")];

/// Settings with others behind them.
pub fn settings<'a>(one: &[(&'a str, &'a str)], other: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [one, other].concat()
}

/// One installation whose jobs may read from an origin on loopback.
pub struct Site {
    /// The installation.
    pub installation: Installation,
    /// Requests with its admin key.
    pub http: Http,
    /// The server of remote objects.
    pub origin: Origin,
    /// The only worker.
    pub worker: Program,
    _api: Program,
}

/// How a job gets at its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In a media root.
    Path,
    /// From the origin.
    Http,
}

impl Site {
    /// Starts one, its worker with some settings changed.
    pub async fn new(changes: &[(&str, &str)]) -> Self {
        let installation = Installation::new().await;
        let (api, http) = installation.api(&LOOPBACK);
        let worker = installation.worker(&settings(&LOOPBACK, changes));
        Self { installation, http, origin: Origin::start(), worker, _api: api }
    }

    /// The source of a file of the media root.
    pub fn source(&self, file: &Path, way: Way) -> Value {
        let name = file.file_name().and_then(|n| n.to_str()).expect("a name");
        match way {
            Way::Path => json!({"type": "path", "path": name}),
            Way::Http => json!({"type": "url", "url": self.origin.serve(&format!("/{name}"), file.to_owned())}),
        }
    }

    /// Submits a job; returns its id.
    pub async fn submit(&self, body: &Value) -> String {
        let answer = self.http.post("/api/v1/jobs", body).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json["id"].as_str().expect("an id").to_owned()
    }

    /// Runs a job to its end.
    pub async fn run(&self, body: &Value) -> Value {
        self.http.wait(&self.submit(body).await).await
    }

    /// How long the latest attempt of a job took.
    pub async fn took(&self, job: &Value) -> Duration {
        let id = job["id"].as_str().expect("an id");
        let list = self.http.get(&format!("/api/v1/jobs/{id}/attempts")).await.json;
        let last = list["data"].as_array().and_then(|a| a.last()).expect("an attempt").clone();
        let at = |name: &str| DateTime::parse_from_rfc3339(last[name].as_str().expect("a time")).expect("a time");
        (at("ended_at") - at("started_at")).to_std().expect("time goes on")
    }
}

/// What a look at a file of 50 GB costs beside its sibling of 5 MB.
#[derive(Debug)]
pub struct Look {
    /// The quickest attempt at the small file, in milliseconds.
    pub small_ms: f64,
    /// The quickest attempt at the large one.
    pub large_ms: f64,
    /// Bytes read of the large one.
    pub read_bytes: u64,
    /// Requests to the origin for the large one; 0 by path.
    pub requests: u64,
    /// The jobs that did not find what is there.
    pub wrong: Vec<String>,
}

impl Look {
    /// How much longer the large file took.
    pub fn ratio(&self) -> f64 {
        self.large_ms / self.small_ms
    }

    /// Both of two looks at the same files: the quickest runs, and everything that went wrong.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.small_ms = self.small_ms.min(other.small_ms);
        self.large_ms = self.large_ms.min(other.large_ms);
        self.read_bytes = self.read_bytes.max(other.read_bytes);
        self.wrong.extend(other.wrong);
        self
    }

    /// A row of a table: shape, way, both times in milliseconds, their ratio, megabytes and requests.
    pub fn line(&self, shape: Shape, way: Way) -> String {
        let (way, megabytes) = (format!("{way:?}"), self.read_bytes as f64 / 1e6);
        format!(
            "{:18} {way:5} {:>9.0} {:>9.0} {:>6.2} {megabytes:>9.1} {:>9}",
            shape.name(),
            self.small_ms,
            self.large_ms,
            self.ratio(),
            self.requests
        )
    }

    /// Looks at both files of a shape with the profile `standard`, so often each, turn by turn.
    pub async fn take(site: &Site, shape: Shape, way: Way, runs: usize) -> Self {
        let mut look = Self { small_ms: f64::MAX, large_ms: f64::MAX, read_bytes: 0, requests: 0, wrong: Vec::new() };
        let media = site.installation.media();
        let files = [FIVE_MB, FIFTY_GB].map(|bytes| (bytes, shape.write(&media, bytes)));
        for _ in 0..runs {
            for (bytes, file) in &files {
                let job = site.run(&json!({"source": site.source(file, way)})).await;
                if job["state"] != "succeeded" || !is_described(&job, shape, *bytes) {
                    look.wrong.push(format!("{} of {bytes} bytes, {way:?}: {job}", shape.name()));
                }
                let took = site.took(&job).await.as_secs_f64() * 1000.0;
                let provenance = &job["result"]["provenance"];
                if *bytes == FIVE_MB {
                    look.small_ms = look.small_ms.min(took);
                    continue;
                }
                look.large_ms = look.large_ms.min(took);
                look.requests = provenance["remote"]["requests"].as_u64().unwrap_or_default();
                let read = if way == Way::Path { &provenance["bytes_read"] } else { &provenance["remote"]["bytes"] };
                look.read_bytes = look.read_bytes.max(read.as_u64().unwrap_or(u64::MAX));
            }
        }
        for (_, file) in files {
            std::fs::remove_file(file).expect("it is ours");
        }
        look
    }
}

/// Whether the description has the file's size, its pictures and its length, and sees that it is whole.
fn is_described(job: &Value, shape: Shape, bytes: u64) -> bool {
    let (media, raw) = (&job["result"]["media"], &job["result"]["ffprobe"]);
    let size = media["container"]["size_bytes"].as_u64().unwrap_or_default();
    let seconds = media["container"]["duration_seconds"].as_f64().unwrap_or_default();
    let has_length = match (shape, bytes) {
        (Shape::Mxf, _) => seconds > 0.9, // its filler has no length
        (_, FIFTY_GB) => seconds > 7000.0,
        _ => seconds > 1.0,
    };
    raw["format"]["format_name"].as_str().is_some_and(|name| name.starts_with(shape.format()))
        && size.abs_diff(bytes) < bytes / 20
        && media["video"][0]["width"].as_u64() >= Some(320)
        && has_length
        && job["result"]["completeness"]["verdict"] != "truncated"
}

/// What a scan of every packet costs beside the same ffprobe command that writes to nowhere.
#[derive(Debug)]
pub struct ScanCost {
    /// The quickest attempt, whole: the look at the headers, the scan, the judgement and what is stored.
    pub attempt: Duration,
    /// The quickest of ffprobe's own runs within an attempt, both together.
    pub runs: Duration,
    /// The quickest run of the same commands outside, both together.
    pub outside: Duration,
    /// The least processor time of ffprobe within an attempt, both runs together.
    pub cpu: Duration,
    /// The least of the same commands outside.
    pub outside_cpu: Duration,
    /// The last job.
    pub job: Value,
}

impl ScanCost {
    /// How much longer the runs took than outside.
    pub fn ratio(&self) -> f64 {
        self.runs.as_secs_f64() / self.outside.as_secs_f64()
    }

    /// A row of a table: shape, way, the whole attempt, its runs and those outside in seconds, their ratio.
    pub fn line(&self, shape: Shape, way: Way) -> String {
        let (way, [attempt, runs, outside]) =
            (format!("{way:?}"), [self.attempt, self.runs, self.outside].map(|time| time.as_secs_f64()));
        format!("{:18} {way:5} {attempt:>9.2} {runs:>9.2} {outside:>9.2} {:>6.3}", shape.name(), self.ratio())
    }

    /// How much more processor time ffprobe took than outside.
    pub fn cpu_ratio(&self) -> f64 {
        self.cpu.as_secs_f64() / self.outside_cpu.as_secs_f64()
    }

    /// Scans a file so often and runs the same commands as often, turn by turn.
    pub async fn take(site: &Site, file: &Path, way: Way, runs: usize) -> Self {
        let (most, job) = (Duration::MAX, Value::Null);
        let mut cost = Self { attempt: most, runs: most, outside: most, cpu: most, outside_cpu: most, job };
        for _ in 0..runs {
            let job = site.run(&json!({"source": site.source(file, way), "profile": "packets"})).await;
            assert_eq!(job["state"], "succeeded", "{job}");
            cost.attempt = cost.attempt.min(site.took(&job).await);
            let provenance = &job["result"]["provenance"];
            let time = |name: &str| Duration::from_millis(provenance[name].as_u64().expect("a time"));
            (cost.runs, cost.cpu) = (cost.runs.min(time("wall_ms")), cost.cpu.min(time("cpu_ms")));
            let outside = ["arguments", "scan_arguments"].map(|name| command(&provenance[name], file));
            cost.outside = cost.outside.min(outside.iter().map(|(wall, _)| *wall).sum());
            cost.outside_cpu = cost.outside_cpu.min(outside.iter().map(|(_, cpu)| *cpu).sum());
            cost.job = job;
        }
        cost
    }
}

/// How long the ffprobe of this machine takes, and its processor time, with the arguments of a result, its output and its
/// complaints to nowhere: over a hole H.264 writes megabytes of them. As courteous as in the jail.
fn command(arguments: &Value, file: &Path) -> (Duration, Duration) {
    let arguments = arguments.as_array().expect("arguments").iter().map(|a| a.as_str().expect("a word"));
    let arguments: Vec<&str> = arguments.collect();
    // what a job reads from an origin is read here from the file itself
    let arguments: Vec<&str> = arguments
        .iter()
        .map(|a| match *a {
            "http://127.0.0.1/input" => "file:/dev/fd/0",
            "http,tcp" => "file",
            other => other,
        })
        .collect();
    let begun = Instant::now();
    let mut child = Command::new("nice")
        .args(["-n", "10", "ffprobe"])
        .args(arguments)
        .stdin(File::open(file).expect("the file is there"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("ffprobe runs");
    // what it took is told until it is collected
    while !is_gone(child.id()) {
        std::thread::sleep(LOOK);
    }
    let (wall, cpu) = (begun.elapsed(), cpu_of(child.id()));
    let status = child.wait().expect("it has ended");
    assert!(status.success(), "{status}");
    (wall, cpu)
}
