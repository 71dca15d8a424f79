//! What the Redis that is the primary now is like, for `probectl doctor`. Asks once, changes nothing, and waits for a second at
//! most.

use std::collections::HashMap;

use super::away;
use super::line::Line;
use crate::config::RedisEndpoint;
use crate::error::Result;

/// A Redis server.
#[derive(Debug, Clone, Default)]
pub struct Server {
    /// Its version, such as `7.0.15`.
    pub version: String,
    /// What it does when its memory is full, such as `noeviction`.
    pub eviction: String,
    /// Whether it writes what it is told to a file.
    pub appends: bool,
    /// `master` or `slave`.
    pub role: String,
    /// Whether it is one of a cluster.
    pub is_cluster: bool,
}

/// Looks at the server that these settings lead to. With sentinels, call it on a runtime.
pub async fn server(endpoint: RedisEndpoint) -> Result<Server> {
    let mut line = Line::new(endpoint).map_err(away)?;
    let text: String = redis::cmd("INFO").query_async(&mut line).await.map_err(away)?;
    Ok(read(&text))
}

/// Reads the answer to `INFO`: lines of `name:value`.
fn read(text: &str) -> Server {
    let facts: HashMap<&str, &str> = text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let word = |name: &str| facts.get(name).copied().unwrap_or_default().to_owned();
    Server {
        version: word("redis_version"),
        eviction: word("maxmemory_policy"),
        appends: word("aof_enabled") == "1",
        role: word("role"),
        is_cluster: word("cluster_enabled") == "1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read() {
        let server =
            read("# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\n");
        assert_eq!((server.version.as_str(), server.eviction.as_str()), ("7.0.15", "noeviction"));
        assert!(server.appends && server.role == "master" && !server.is_cluster);
        assert_eq!(read("noise").version, "");
    }
}
