//! Small clips made with ffmpeg: the sample that stays, and the one that the self-check sends.
//!
//! Called by `up`. A clip appears whole or not at all. Without ffmpeg the service runs as well; then there is no sample
//! and no self-check, and `up` says so.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use tokio::process::Command;
use tokio::time::timeout;

use crate::process::{Signal, command, spawn};

const PICTURE: &str = "testsrc=size=320x180:rate=25";
const SOUND: &str = "sine=frequency=440:sample_rate=48000";
/// Not every ffmpeg has the first one.
const VIDEO_ENCODERS: [&str; 2] = ["libx264", "mpeg4"];

/// A clip takes a fraction of a second, on a very busy machine a few.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the sample once; whether it is there.
pub(super) async fn keep_sample(path: &Path) -> bool {
    if path.exists() {
        return true;
    }
    let unfinished = path.with_extension("mp4.new");
    let made = match make(&unfinished, 5, &["-f", "lavfi", "-i", SOUND, "-c:a", "aac"]).await {
        Ok(Made::Yes) => fs::rename(&unfinished, path).map(|()| Made::Yes).context("could not rename it"),
        other => other,
    };
    match made {
        Ok(Made::Yes) => return true,
        Ok(Made::NoFfmpeg) => tracing::warn!("ffmpeg was not found, so there is no sample; `make setup` installs it"),
        Err(error) => tracing::warn!("the sample {} could not be made: {error:#}", path.display()),
    }
    false
}

/// Whether a clip was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// It is there.
    Yes,
    /// There is no ffmpeg to make it with.
    NoFfmpeg,
}

/// Makes two seconds of video without sound.
pub(super) async fn make_short(path: &Path) -> Result<Made> {
    make(path, 2, &[]).await
}

async fn make(path: &Path, seconds: u32, sound: &[&str]) -> Result<Made> {
    let mut said = String::new();
    for encoder in VIDEO_ENCODERS {
        let child = match spawn(ffmpeg(path, seconds, sound, encoder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Made::NoFfmpeg),
            child => child.context("could not start ffmpeg")?,
        };
        let output = timeout(PATIENCE, child.wait_with_output()).await.context("ffmpeg does not end")?;
        let output = output.context("could not wait for ffmpeg")?;
        if output.status.success() {
            return Ok(Made::Yes);
        }
        said = format!("ffmpeg failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Err(Error::msg(said))
}

fn ffmpeg(path: &Path, seconds: u32, sound: &[&str], encoder: &str) -> Command {
    let mut command = command("ffmpeg", None, Signal::KILL);
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-f", "lavfi", "-i", PICTURE]);
    command.args(sound).args(["-c:v", encoder, "-pix_fmt", "yuv420p", "-t", &seconds.to_string()]);
    command.args(["-movflags", "+faststart", "-f", "mp4"]).arg(path);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_sample_is_made_once_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("sample.mp4");
        assert!(keep_sample(&path).await);
        let made = fs::metadata(&path).expect("sample");
        assert!(made.len() > 10_000, "{} bytes", made.len());
        assert!(keep_sample(&path).await);
        let again = fs::metadata(&path).expect("sample");
        assert_eq!(made.modified().expect("time"), again.modified().expect("time"));
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
    }

    #[tokio::test]
    async fn what_ffmpeg_says_is_told() {
        let error = make_short(Path::new("/nonexistent/clip.mp4")).await.expect_err("no such directory").to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}
