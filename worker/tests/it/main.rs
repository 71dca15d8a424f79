//! The jail and ffprobe as the worker runs them: the real launcher, the real ffprobe, files made by ffmpeg. Each test
//! holds a lock and ends by making sure that it left no process behind, so one runs at a time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod endings;
mod media;
mod places;
mod remote;
mod samples;
mod scan;
mod walls;

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::job::Profile;
use tokio::sync::{Mutex, MutexGuard};
use worker::ffprobe::{Ffprobe, Probe, Run};
use worker::jail::Sandbox;

/// The worker's binary, which is also the launcher.
const LAUNCHER: &str = env!("CARGO_BIN_EXE_ffprobe-worker");

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// One test's time alone on the stage.
struct Stage {
    _alone: MutexGuard<'static, ()>,
    dir: tempfile::TempDir,
}

impl Stage {
    async fn enter() -> Self {
        Self { _alone: ONE_AT_A_TIME.lock().await, dir: tempfile::tempdir().unwrap() }
    }

    /// Writes a file into the test's own directory.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Something that says it is ffprobe and then does what `script` says. A shell forks, so the walls must be off. What
    /// the script calls `$SLEEP` is found again by its name, wherever it goes.
    async fn pretender(&self, script: &str) -> Ffprobe {
        let sleep = self.dir.path().join("sleep");
        if !sleep.exists() {
            std::os::unix::fs::symlink("/bin/sleep", &sleep).unwrap();
        }
        let script = script.replace("$SLEEP", sleep.to_str().unwrap());
        let text =
            format!("#!/bin/sh\n[ \"$1\" = -version ] && {{ echo 'ffprobe version 0-fake'; exit; }}\n{script}\n");
        let path = self.file("pretender", text);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        ffprobe(Some(&path), Sandbox::Off).await
    }

    /// The end of a test: no process of it is left, not even a zombie.
    async fn leave(self) {
        for _ in 0..200 {
            if children().is_empty() && !anybody_knows(self.dir.path()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left behind: children {:?}, or a process of {}", children(), self.dir.path().display());
    }
}

async fn ffprobe(path: Option<&Path>, sandbox: Sandbox) -> Ffprobe {
    #[expect(clippy::disallowed_methods, reason = "the tests use the machine's own ffprobe")]
    let search = std::env::var_os("PATH").unwrap_or_default();
    Ffprobe::detect(path, &search, sandbox, Path::new(LAUNCHER)).await.unwrap()
}

fn probe(path: &Path) -> Probe {
    Probe::new(File::open(path).unwrap(), Profile::Standard)
}

/// Runs the distribution's ffprobe on a file, in the jail as far as this machine has one.
async fn run(path: &Path) -> Run {
    ffprobe(None, Sandbox::BestEffort).await.run(probe(path)).await
}

/// Process ids and states of our children, zombies included.
fn children() -> Vec<String> {
    let me = std::process::id().to_string();
    processes()
        .filter_map(|dir| std::fs::read_to_string(dir.join("stat")).ok())
        .filter(|stat| {
            // "pid (name) state parent …", where a name may hold anything
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&me))
        })
        .collect()
}

/// Whether any process on this machine has the directory in its command line.
fn anybody_knows(dir: &Path) -> bool {
    let dir = dir.to_str().unwrap();
    processes()
        .filter_map(|p| std::fs::read(p.join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(dir))
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let is_process = |name: OsString| name.to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    std::fs::read_dir("/proc").unwrap().flatten().filter(move |e| is_process(e.file_name())).map(|e| e.path())
}
