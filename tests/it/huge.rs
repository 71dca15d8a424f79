//! Huge files and scans through the whole product: what they cost, what they find, what ends them. Real binaries, real
//! HTTP, files of up to 50 GB that are mostly holes.

mod frames;
mod hostile;
mod limits;
mod looks;
mod packets;
mod scan;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::cost::Site;

/// How a job ended: its failure's code, or its state.
fn ending(job: &Value) -> &str {
    job["failure"]["code"].as_str().unwrap_or_else(|| job["state"].as_str().unwrap_or("no state"))
}

/// The job as it stands, without waiting.
async fn show(site: &Site, id: &str) -> Value {
    let answer = site.http.get(&format!("/api/v1/jobs/{id}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

/// Runs ffmpeg: the words before the file it makes.
fn ffmpeg(words: &str, file: &Path) -> PathBuf {
    let mut run = Command::new("ffmpeg");
    let run = run.args(["-nostdin", "-v", "error", "-y"]).args(words.split_whitespace()).arg(file);
    let run = run.output().expect("ffmpeg runs");
    assert!(run.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&run.stderr));
    file.to_owned()
}
