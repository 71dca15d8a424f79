//! The private Redis: its arguments, and when it is ready.
//!
//! Called by `private::server`. It holds tickets and wake-ups only; PostgreSQL is the truth, so a lost Redis costs seconds.
//! It must never listen on a network address.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::Durability;
use super::orphan::{self, Trace};
use super::site::Site;
use crate::process::{Signal, command};

/// How long one PING may take before it counts as no answer.
const PING_PATIENCE: Duration = Duration::from_secs(1);

/// Ends what an earlier run left: it would remove the new server's socket when it goes.
pub(super) async fn prepare(site: &Site) -> Result<()> {
    let (directory, socket) = (site.redis(), site.redis_socket());
    let trace = Trace { program: "redis-server", directory: &directory, argument: &socket };
    orphan::clear(&trace, Signal::TERM, Signal::KILL).await?;
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", socket.display()))
        }
        _ => Ok(()),
    }
}

/// The server, ready to spawn. It saves and ends by SIGTERM when we die.
pub(super) fn server(site: &Site, durability: Durability) -> Command {
    let mut command = command("redis-server", site.identity(), Signal::TERM);
    command.args(["--port", "0", "--unixsocketperm", "700", "--daemonize", "no", "--save", ""]);
    command.args(["--maxmemory-policy", "noeviction"]);
    command.args(match durability {
        Durability::Durable => ["--appendonly", "yes", "--appendfsync", "everysec"],
        Durability::Throwaway => ["--appendonly", "no", "--appendfsync", "no"],
    });
    command.arg("--unixsocket").arg(site.redis_socket()).arg("--dir").arg(site.redis());
    command
}

/// Whether the server answers; while it loads its file it answers with an error.
pub(super) async fn is_ready(socket: &Path) -> bool {
    let ping = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(&answer == b"+PONG\r\n")
    };
    // Whatever fails here is tried again: the caller asks until the server is ready, has ended, or time is up.
    matches!(timeout(PING_PATIENCE, ping).await, Ok(Ok(true)))
}
