//! Finding ffprobe and what its dynamic loader needs, once at the worker's start. Runs the program outside the jail, on
//! no input. Called by [`super::Ffprobe::detect`].

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;

/// How long it may take to tell its version: the first start after a boot reads 200 libraries from disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Where libraries lie if the loader does not tell (musl's does not).
const USUAL_LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/local/lib"];
/// The loaders of the platforms we know, if the loader does not tell its name.
const USUAL_LOADERS: [&str; 4] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// A program that says it is ffprobe.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Where it lies, without symbolic links.
    pub(super) path: PathBuf,
    /// As it names it.
    pub(super) version: String,
    /// Itself and its loader.
    pub(super) execute: Vec<PathBuf>,
    /// The directories of its libraries.
    pub(super) read: Vec<PathBuf>,
}

impl Program {
    pub(super) async fn find(path: Option<&Path>, search: &OsStr) -> anyhow::Result<Self> {
        let named = match path {
            Some(path) => path.to_owned(),
            None => {
                std::env::split_paths(search).map(|dir| dir.join("ffprobe")).find(|file| is_executable(file)).context(
                    "ffprobe is not on PATH. Install the package ffmpeg, or name the program with FFPROBE_PATH.",
                )?
            }
        };
        let wrong = || {
            format!(
                "FFPROBE_PATH: {} cannot be used. Name an ffprobe of 5.1 or later (package ffmpeg)",
                named.display()
            )
        };
        let path = named.canonicalize().with_context(wrong)?;
        if path.to_str().is_none() {
            bail!("{}: its path is not UTF-8", wrong());
        }
        let answer = ask(Command::new(&path).env_clear().arg("-version")).await.with_context(wrong)?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let version =
            text.strip_prefix("ffprobe version ").and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        let Some(version) = version else {
            bail!("{}: its answer to -version is not ffprobe's ({})", wrong(), answer.status);
        };
        let (loader, read) = libraries(&path).await.with_context(wrong)?;
        Ok(Self { execute: std::iter::once(path.clone()).chain(loader).collect(), path, version, read })
    }
}

/// The loader and the directories of all libraries of a program, from the loader itself (this is what `ldd` does). So an
/// ffprobe in /opt or a Nix store needs no setting. A static program ignores the variable and only tells its version.
async fn libraries(program: &Path) -> anyhow::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let answer = ask(Command::new(program).env_clear().arg("-version").env("LD_TRACE_LOADED_OBJECTS", "1")).await?;
    let (loaders, dirs) = parse_trace(&String::from_utf8_lossy(&answer.stdout));
    let known = |paths: &[&str]| paths.iter().filter_map(|p| Path::new(p).canonicalize().ok()).collect::<BTreeSet<_>>();
    let loaders = if loaders.is_empty() { known(&USUAL_LOADERS) } else { canonical(loaders) };
    let dirs = if dirs.is_empty() { known(&USUAL_LIBRARIES) } else { canonical(dirs) };
    Ok((loaders.into_iter().collect(), outermost(dirs)))
}

/// Lines are `name => /path (0x…)` for libraries and `/path (0x…)` for the loader.
fn parse_trace(text: &str) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut loaders, mut files) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let Some((entry, _address)) = line.trim().rsplit_once(" (0x") else { continue };
        match entry.split_once(" => ") {
            Some((_name, path)) if path.starts_with('/') => files.push(PathBuf::from(path)),
            None if entry.starts_with('/') => loaders.push(PathBuf::from(entry)),
            _ => {}
        }
    }
    (loaders, files)
}

/// The real places: a library found through links (Debian's alternatives) is read where it really lies.
fn canonical(paths: Vec<PathBuf>) -> BTreeSet<PathBuf> {
    paths.into_iter().filter_map(|p| p.canonicalize().ok()).collect()
}

/// The directories of these files or directories, without those that lie in another one.
fn outermost(paths: BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let dirs: BTreeSet<PathBuf> =
        paths.into_iter().filter_map(|p| if p.is_dir() { Some(p) } else { p.parent().map(Path::to_owned) }).collect();
    dirs.iter().filter(|dir| !dirs.iter().any(|other| other != *dir && dir.starts_with(other))).cloned().collect()
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

async fn ask(command: &mut Command) -> anyhow::Result<Output> {
    // the environment it will have in the jail: what needs more fails here, at the start, and not on a job
    let output = command.env("LANG", "C").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(ANSWER_WITHIN, output).await;
    output
        .with_context(|| format!("no answer within {} seconds", ANSWER_WITHIN.as_secs()))?
        .context("it cannot be started")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_trace_gives_loader_and_libraries() {
        let trace = "\tlinux-vdso.so.1 (0x00007f)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x00007f)\n\tlibgone.so => not found\n\
            \tlibq.so => /opt/a b/libq.so (0x1)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let (loaders, files) = parse_trace(trace);
        assert_eq!(loaders, [PathBuf::from("/lib64/ld-linux-x86-64.so.2")]);
        assert_eq!(files, [PathBuf::from("/lib/x/libm.so.6"), PathBuf::from("/opt/a b/libq.so")]);
        assert_eq!(parse_trace("ffprobe version 7.1 Copyright (c) 2007-2024\n"), (vec![], vec![]));
    }

    #[test]
    fn a_directory_inside_another_needs_no_rule() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("blas");
        std::fs::create_dir(&inner).unwrap();
        let files = [dir.path().join("liba.so"), inner.join("libblas.so")];
        for file in &files {
            std::fs::write(file, "").unwrap();
        }
        assert_eq!(outermost(files.into_iter().collect()), [dir.path().to_owned()]);
    }
}
