//! The private PostgreSQL: making its data, its arguments, and when it is ready.
//!
//! Called by `private::server`. The data directory appears whole, with the application's database in it, by one rename:
//! however we are killed, the next start finds either nothing or everything.
//! It must never listen on a network address; the 0700 directory of the socket is the access control.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::install::Install;
use super::orphan::{self, Trace};
use super::site::Site;
use super::{DATABASE, Durability};
use crate::process::{Signal, command, spawn};

/// initdb writes and syncs some 40 MB; a slow disk takes its time.
const INITDB_PATIENCE: Duration = Duration::from_secs(180);

/// Ends what an earlier run left and makes the data if there is none.
pub(super) async fn prepare(site: &Site, install: &Install, durability: Durability) -> Result<()> {
    let data = site.postgres();
    settle(site, &data).await?;
    if !data.exists() {
        let unfinished = site.unfinished_postgres();
        settle(site, &unfinished).await?;
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).with_context(|| format!("could not remove {}", unfinished.display()))?;
        }
        site.make_private(&unfinished)?;
        timeout(INITDB_PATIENCE, async {
            initialise(site, install, durability, &unfinished).await?;
            create_database(site, install, durability, &unfinished).await
        })
        .await
        .with_context(|| format!("making the database took longer than {} s", INITDB_PATIENCE.as_secs()))??;
        fs::rename(&unfinished, &data).with_context(|| format!("could not rename {}", unfinished.display()))?;
        if durability == Durability::Durable {
            let state = File::open(site.state()).and_then(|directory| directory.sync_all());
            state.with_context(|| format!("could not sync {}", site.state().display()))?;
        }
    }
    forget_stale_pid(&data)?;
    for socket in [".s.PGSQL.5432", ".s.PGSQL.5432.lock"] {
        // PostgreSQL refuses a lock file whose number happens to belong to a live process by now.
        remove_if_there(&site.run().join(socket))?;
    }
    Ok(())
}

async fn settle(site: &Site, data: &Path) -> Result<()> {
    debug_assert!(data.starts_with(site.state()));
    orphan::clear(&trace(data), Signal::INT, Signal::QUIT).await
}

fn trace(data: &Path) -> Trace<'_> {
    Trace { program: "postgres", directory: data, argument: data }
}

/// PostgreSQL itself ignores a pid file whose process is dead, and then checks shared memory too; but it refuses when
/// the number belongs by now to another process of its user (numbers repeat quickly in containers) or to a zombie.
fn forget_stale_pid(data: &Path) -> Result<()> {
    let path = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let pid: Option<u32> = text.lines().next().and_then(|line| line.trim().parse().ok());
    let Some(pid) = pid.filter(|pid| Path::new(&format!("/proc/{pid}")).exists()) else { return Ok(()) };
    ensure!(!trace(data).fits(pid), "PostgreSQL of an earlier run (process {pid}) still runs on {}", data.display());
    tracing::info!(pid, "removing a stale postmaster.pid: its number belongs to another process now");
    remove_if_there(&path)
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

async fn initialise(site: &Site, install: &Install, durability: Durability, data: &Path) -> Result<()> {
    let mut initdb = command(install.program("initdb"), site.identity(), Signal::KILL);
    initdb.arg("-D").arg(data);
    // The C locale exists everywhere, and its order does not change with the operating system's libraries.
    initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"]);
    if durability == Durability::Throwaway {
        initdb.arg("--no-sync");
    }
    let output = output_of(initdb, b"").await.context("could not run initdb")?;
    ensure!(output.status.success(), "initdb failed ({}):\n{}", output.status, last_lines(&output));
    Ok(())
}

/// PostgreSQL's single-user mode needs no server and no client. It exits with 0 after an error too, so what it says counts.
async fn create_database(site: &Site, install: &Install, durability: Durability, data: &Path) -> Result<()> {
    let mut single = command(install.program("postgres"), site.identity(), Signal::KILL);
    single.arg("--single").arg("-D").arg(data).args(["-c", "log_checkpoints=off", "-c", "log_min_messages=error"]);
    if durability == Durability::Throwaway {
        single.arg("-F");
    }
    single.arg("postgres");
    let statement = format!("create database {DATABASE}\n");
    let output = output_of(single, statement.as_bytes()).await.context("could not run postgres --single")?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "could not create the database {DATABASE} ({}):\n{}",
        output.status,
        last_lines(&output)
    );
    Ok(())
}

async fn output_of(mut command: Command, input: &[u8]) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = spawn(command)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it reads says why in its output.
        let _ = stdin.write_all(input).await;
    }
    Ok(child.wait_with_output().await?)
}

fn last_lines(output: &Output) -> String {
    let text = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
    let lines: Vec<_> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

const ALWAYS: &[&str] = &[
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "logging_collector=off",
    "log_destination=stderr",
    "timezone=UTC",
    "log_timezone=UTC",
];
const DURABLE: &[&str] = &["fsync=on", "full_page_writes=on", "synchronous_commit=on", "max_connections=100"];
const THROWAWAY: &[&str] = &[
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "max_connections=300",
    "wal_level=minimal",
    "max_wal_senders=0",
    "log_checkpoints=off",
];

/// The server, ready to spawn. It ends by SIGINT, a fast shutdown, when we die.
pub(super) fn server(site: &Site, install: &Install, durability: Durability) -> Command {
    let mut command = command(install.program("postgres"), site.identity(), Signal::INT);
    command.arg("-D").arg(site.postgres()).arg("-k").arg(quoted(&site.run()));
    let of_durability = match durability {
        Durability::Durable => DURABLE,
        Durability::Throwaway => THROWAWAY,
    };
    for setting in ALWAYS.iter().chain(of_durability) {
        command.args(["-c", setting]);
    }
    command
}

/// The setting is a list; quoted, a path may hold a comma.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('"', "\"\""))
}

/// Whether the server with this process id takes connections: it writes so into line 8 of its pid file.
pub(super) fn is_ready(site: &Site, pid: u32) -> bool {
    // No file yet means not ready yet.
    let text = fs::read_to_string(site.postgres().join("postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines();
    lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid)
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}
