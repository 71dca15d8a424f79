//! Redis as API and workers see it: the way there, and the settings of the server that the queue relies on.

use shared::config::Way;
use shared::queue::inspection;

use super::DoctorArgs;
use super::check::{At, Checks};

const REACHABLE: At = At("redis", "reachable");
const VERSION: At = At("redis", "version");
const TLS: At = At("redis", "tls");
const EVICTION: At = At("redis", "eviction");
const APPENDING: At = At("redis", "appending");

/// The oldest major version that the tests know.
const OLDEST: u32 = 7;

/// Looks at it.
pub(super) async fn look(args: &DoctorArgs, checks: &mut Checks) {
    let endpoint = match args.redis.endpoint(&args.plaintext) {
        Ok(endpoint) => endpoint,
        Err(error) => return checks.refuse(REACHABLE, error),
    };
    let way = endpoint.way();
    let server = match inspection::server(endpoint).await {
        Ok(server) => server,
        Err(error) => {
            let next =
                "start it, or correct REDIS_* (docs/tls.md if it is about certificates); until then jobs start later";
            return checks.fail(REACHABLE, error.to_string(), next);
        }
    };
    checks.ok(REACHABLE, "it answers");
    let major: u32 = server.version.split('.').next().and_then(|v| v.parse().ok()).unwrap_or(0);
    match (major >= OLDEST, server.is_cluster, server.role.as_str()) {
        (false, ..) => checks.warn(VERSION, &server.version, "update it to Redis 7 or newer"),
        (_, true, _) => checks.fail(VERSION, "Redis Cluster", "use one primary, with Sentinel if it must not be away"),
        (.., "master") => checks.ok(VERSION, &server.version),
        _ => checks.fail(VERSION, format!("{}, a replica", server.version), "name the primary, or the sentinels"),
    }
    match way {
        Way::Local => checks.ok(TLS, "not needed: it is this machine"),
        Way::Verified => checks.ok(TLS, "verified"),
        Way::Clear => checks.warn(
            TLS,
            "in clear, because PLAINTEXT_HOSTS trusts the network",
            "use rediss:// or REDIS_TLS=on, if others can reach that network (docs/tls.md)",
        ),
    }
    if server.eviction == "noeviction" {
        checks.ok(EVICTION, "none");
    } else {
        let next =
            "set maxmemory-policy noeviction: with another one Redis drops tickets and limits when its memory is full";
        checks.fail(EVICTION, format!("maxmemory-policy is {}", server.eviction), next);
    }
    if server.appends {
        checks.ok(APPENDING, "on");
    } else {
        checks.warn(
            APPENDING,
            "appendonly is off",
            "set appendonly yes: otherwise a restart delays what waits by seconds",
        );
    }
}
