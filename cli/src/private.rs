//! Private PostgreSQL and Redis: real servers on unix sockets below one state directory.
//!
//! Called by `up` (durable) and by the test harness (throw-away), so that both run the same code. The servers are direct
//! children that die with us; as root they run as an unprivileged user. A second start finds the data of the first,
//! also after `kill -9`.
//! It must never listen on a network address, and never touch a directory that it did not make.

mod install;
mod log;
mod orphan;
mod postgres;
mod redis;
mod server;
mod site;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Error, Result};

use self::server::{Kind, Server};
use self::site::Site;

/// What the servers may forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: committed rows survive a power failure, Redis loses at most its last second.
    Durable,
    /// Everything at a power failure: for tests, which want speed. Data still outlives the processes.
    Throwaway,
}

/// How the servers are started.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What the servers may forget.
    pub durability: Durability,
}

/// The database that exists from the first start on; tests make others beside it.
pub const DATABASE: &str = "ffprobe_api";
/// The role that owns the schema, migrates and prunes; made by `shared::store::role::found`.
pub const OWNER: &str = "ffprobe_api_owner";
/// The role that API and worker connect as.
pub const APPLICATION: &str = "ffprobe_api";
/// The role that made the server's data.
pub const SUPERUSER: &str = "postgres";

/// The process ids of the servers; None while one is being restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pids {
    /// The PostgreSQL postmaster.
    pub postgres: Option<u32>,
    /// The Redis server.
    pub redis: Option<u32>,
}

/// Two running servers and the lock on their state directory. Dropping it asks both to stop and does not wait;
/// [`PrivateServers::stop`] waits.
#[derive(Debug)]
pub struct PrivateServers {
    postgres: Server,
    redis: Server,
    // The last field: the lock is released after the servers were told to stop.
    site: Arc<Site>,
}

impl PrivateServers {
    /// Starts both servers on `state_dir`, making the directory and the data on the first start, and returns when both
    /// answer. The runtime must live as long as the servers: it collects them.
    ///
    /// # Errors
    /// Each says what to do: another instance on the directory, a directory that is not ours, a missing program, a path
    /// too long for a socket, or a server that did not start (with the last lines of its log).
    pub async fn start(state_dir: &Path, options: Options) -> Result<Self> {
        let site = Arc::new(Site::open(state_dir)?);
        let install = install::find(&site).await?;
        let postgres = Server::new(Kind::Postgres { install, durability: options.durability }, Arc::clone(&site));
        let redis = Server::new(Kind::Redis { durability: options.durability }, Arc::clone(&site));
        let mut servers = Self { postgres, redis, site };
        let (postgres, redis) = tokio::join!(servers.postgres.start(), servers.redis.start());
        if let Err(error) = postgres.and(redis) {
            servers.stop().await;
            return Err(error);
        }
        Ok(servers)
    }

    /// [`database_url`] of these servers.
    pub fn database_url(&self, database: &str, role: &str) -> String {
        database_url(self.state_dir(), database, role)
    }

    /// [`redis_url`] of these servers.
    pub fn redis_url(&self) -> String {
        redis_url(self.state_dir())
    }

    /// The state directory with its real path.
    pub fn state_dir(&self) -> &Path {
        self.site.state()
    }

    /// The process ids of the servers.
    pub fn pids(&self) -> Pids {
        Pids { postgres: self.postgres.pid(), redis: self.redis.pid() }
    }

    /// Waits until either server ends by itself; says which and how.
    pub async fn exited(&mut self) -> String {
        tokio::select! {
            message = self.postgres.ended() => message,
            message = self.redis.ended() => message,
        }
    }

    /// Keeps both servers running: starts one that ended again, after a pause that grows, and keeps their logs bounded.
    /// Returns only when one cannot be kept running. Dropping the future leaves the servers as they are.
    pub async fn supervise(&mut self) -> Error {
        tokio::select! {
            error = self.postgres.supervise() => error,
            error = self.redis.supervise() => error,
        }
    }

    /// Stops both servers, waits for their end (about 0.1 s, at most 3 s) and releases the state directory.
    pub async fn stop(mut self) {
        tokio::join!(self.postgres.stop(), self.redis.stop());
    }
}

/// The address of a database for one of its roles, in the form that sqlx and libpq read. The server takes everybody's word
/// for who they are: who reaches its socket may be any of them. The state directory is given with its real path.
pub fn database_url(state_dir: &Path, database: &str, role: &str) -> String {
    format!("postgres:///{database}?host={}&user={role}", percent_encoded(&site::run(state_dir)))
}

/// The address of Redis, in the form that the redis crate reads.
pub fn redis_url(state_dir: &Path) -> String {
    format!("redis+unix://{}", percent_encoded(&site::redis_socket(state_dir)))
}

/// Refuses a state directory that another process holds; makes nothing and keeps no lock.
///
/// # Errors
/// The same message that [`PrivateServers::start`] would give.
pub fn check_not_running(state_dir: &Path) -> Result<()> {
    site::check_not_locked(state_dir)
}

/// A path as part of a URL.
fn percent_encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_odd_letters_is_encoded() {
        assert_eq!(percent_encoded(Path::new("/a b/ü&?/run")), "/a%20b/%C3%BC%26%3F/run");
        assert_eq!(percent_encoded(Path::new("/var/lib/ffprobe-api/run")), "/var/lib/ffprobe-api/run");
    }
}
