//! Finds the PostgreSQL programs: those of the version that made the data, else the newest.
//!
//! Called by `private` once per start. It must never pick a version that cannot read the data, and names the package to
//! install when nothing fits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use super::site::Site;
use crate::process::{Signal, command, spawn};

/// One installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Install {
    major: u32,
    /// None: the programs are on the path.
    directory: Option<PathBuf>,
}

impl Install {
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.as_ref().map_or_else(|| PathBuf::from(name), |directory| directory.join(name))
    }
}

/// The programs to run for the data of this state directory.
pub(super) async fn find(site: &Site) -> Result<Install> {
    let mut installs = packaged("/usr/lib/postgresql", "", "bin");
    installs.extend(packaged("/usr", "pgsql-", "bin"));
    if let Some(major) = on_the_path().await {
        installs.push(Install { major, directory: None });
    }
    choose(installs, made_by(&site.postgres())?, &site.postgres())
}

fn choose(installs: Vec<Install>, made_by: Option<u32>, data: &Path) -> Result<Install> {
    let found: Vec<_> = installs.iter().map(|install| install.major).collect();
    match made_by {
        Some(major) => installs.into_iter().find(|install| install.major == major).with_context(|| {
            format!(
                "the data in {} was made by PostgreSQL {major}, which is not installed (found: {found:?}); install it, for \
                 example with `apt-get install postgresql-{major}`, or start with an empty directory in FFPROBE_API_STATE_DIR",
                data.display()
            )
        }),
        None => installs.into_iter().max_by_key(|install| install.major).context(
            "no PostgreSQL server was found; install one with `make setup` or `apt-get install postgresql`",
        ),
    }
}

/// The major version that made the data, None if there is no data yet.
fn made_by(data: &Path) -> Result<Option<u32>> {
    if !data.exists() {
        return Ok(None);
    }
    let path = data.join("PG_VERSION");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    text.trim().parse().map(Some).with_context(|| format!("{} holds no version: {text:?}", path.display()))
}

/// Versions beside each other: Debian's `/usr/lib/postgresql/15/bin`, PGDG's `/usr/pgsql-15/bin`.
fn packaged(parent: &str, prefix: &str, programs: &str) -> Vec<Install> {
    // A missing parent means that this distribution keeps them elsewhere.
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let installs = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let major = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
        let directory = entry.path().join(programs);
        let whole = directory.join("initdb").exists() && directory.join("postgres").exists();
        whole.then_some(Install { major, directory: Some(directory) })
    });
    installs.collect()
}

async fn on_the_path() -> Option<u32> {
    for program in ["initdb", "postgres"] {
        let mut command = command(program, None, Signal::KILL);
        command.arg("--version").stdout(Stdio::piped()).stderr(Stdio::null());
        // Not there, or not runnable: then this is no install.
        let output = spawn(command).ok()?.wait_with_output().await.ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if program == "postgres" {
            return major(&text);
        }
    }
    None
}

/// The major version in "postgres (PostgreSQL) 15.18 (Debian 15.18-0)".
fn major(version: &str) -> Option<u32> {
    let (_, rest) = version.split_once("(PostgreSQL) ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(major: u32) -> Install {
        Install { major, directory: Some(PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"))) }
    }

    #[test]
    fn the_data_decides_the_version_and_otherwise_the_newest_wins() {
        let data = Path::new("/state/pg");
        let all = || vec![install(9), install(17), install(15)];
        assert_eq!(choose(all(), Some(15), data).expect("15"), install(15));
        assert_eq!(choose(all(), None, data).expect("newest"), install(17));
        let error = choose(all(), Some(16), data).expect_err("16 is missing").to_string();
        assert!(error.contains("PostgreSQL 16") && error.contains("postgresql-16"), "{error}");
        let error = choose(Vec::new(), None, data).expect_err("none").to_string();
        assert!(error.contains("make setup"), "{error}");
    }

    #[test]
    fn the_version_is_read_from_what_the_program_prints() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major("something else"), None);
    }
}
