//! The API as a client sees it: whether it answers and is ready, by what way, what its answers carry, and whether it believes the
//! proxy in front. What only callers with a key are told is skipped without one.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use tokio::time::timeout;

use super::DoctorArgs;
use super::check::{At, Checks};
use crate::client::Client;
use crate::commands::Target;
use crate::up::StateArgs;

const REACHABLE: At = At("api", "reachable");
const READY: At = At("api", "ready");
const VERSION: At = At("api", "version");
const HTTPS: At = At("api", "https");
const HEADERS: At = At("api", "headers");
const PROXY: At = At("api", "proxy");
const ROLE: At = At("api", "database role");

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read: 500 workers describe themselves in a fraction of it. Who answers may be anybody.
const MOST_BYTES: usize = 4 << 20;
/// What every answer carries.
const ALWAYS: [&str; 4] = ["content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"];
/// What it carries when the API knows that the client came by TLS.
const BY_TLS: &str = "strict-transport-security";

/// Looks at it.
pub(super) async fn look(target: &Target, state: &StateArgs, args: &DoctorArgs, checks: &mut Checks) {
    let next = "start it, or name its address with --url or FFPROBE_API_URL";
    let client = match target.client(state) {
        Ok(client) => client,
        Err(error) => return checks.fail(REACHABLE, format!("{error:#}"), "correct FFPROBE_API_KEY"),
    };
    let (status, headers, ready) = match ask(&client, "/health/ready").await {
        Ok(answer) => answer,
        Err(why) => return checks.fail(REACHABLE, why, next),
    };
    let Some(health) = ready["status"].as_str() else {
        return checks.fail(REACHABLE, format!("HTTP {status}, and not as an FFprobe API answers"), next);
    };
    checks.ok(REACHABLE, client.url());
    let parts =
        ["database", "redis", "storage"].map(|part| format!("{part} {}", ready[part].as_str().unwrap_or("unknown")));
    match health {
        "healthy" => checks.ok(READY, parts.join(", ")),
        "degraded" => {
            checks.warn(READY, parts.join(", "), "see to the part that is not healthy; jobs start later meanwhile");
        }
        _ => checks.fail(READY, parts.join(", "), "see to the part that is not healthy; the log of the API says why"),
    }
    let (theirs, ours) = (ready["version"].as_str().unwrap_or("unknown"), env!("CARGO_PKG_VERSION"));
    if theirs == ours {
        checks.ok(VERSION, theirs);
    } else {
        checks.warn(VERSION, format!("{theirs}, and this probectl is {ours}"), "use the probectl of the same version");
    }
    judge_way(target, &client, args, &headers, checks);
    judge_role(&client, checks).await;
}

async fn ask(client: &Client, path: &str) -> Result<(StatusCode, HeaderMap, Value), String> {
    let asked = async {
        let mut response = client.send(client.request(Method::GET, path)).await.map_err(|e| format!("{e:#}"))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| e.without_url().to_string())? {
            if body.len() + piece.len() > MOST_BYTES {
                return Err(format!("the answer is longer than {MOST_BYTES} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        // what is no JSON is no answer of ours, and is told so by whoever asked
        Ok((status, headers, serde_json::from_slice(&body).unwrap_or_default()))
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

fn judge_way(target: &Target, client: &Client, args: &DoctorArgs, headers: &HeaderMap, checks: &mut Checks) {
    let missing: Vec<&str> = ALWAYS.into_iter().filter(|name| !headers.contains_key(*name)).collect();
    if missing.is_empty() {
        checks.ok(HEADERS, "all that browsers need");
    } else {
        checks.fail(HEADERS, format!("missing: {}", missing.join(", ")), "let the proxy in front pass them on");
    }
    let url = Url::parse(client.url()).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    if url.as_ref().is_some_and(|url| url.scheme() == "https") {
        checks.ok(HTTPS, "by TLS, verified");
        // the API ends no TLS itself, so there is a proxy, and it says how the client came
        if headers.contains_key(BY_TLS) {
            checks.ok(PROXY, "the API believes it");
        } else {
            checks.fail(
                PROXY,
                format!("no {BY_TLS}: the API does not believe the proxy, so all clients are one address to it"),
                "name the proxy in TRUSTED_PROXIES, and let it send X-Forwarded-For, -Proto and -Host (docs/tls.md)",
            );
        }
        return;
    }
    checks.skip(PROXY, "the address is not that of a proxy with TLS; run this with the address that clients use");
    match args.plaintext.hosts() {
        Err(error) => checks.refuse(HTTPS, error),
        Ok(_) if target.is_local() => checks.ok(HTTPS, "not needed: it is this machine"),
        Ok(trusted) if trusted.allows(host) => checks.warn(
            HTTPS,
            "in clear, because PLAINTEXT_HOSTS trusts the network",
            "let clients come by a proxy with TLS (docs/tls.md)",
        ),
        Ok(_) => {
            checks.fail(HTTPS, "clients and their keys come in clear", "put a proxy with TLS in front (docs/tls.md)");
        }
    }
}

/// What the API's own role may do, which need not be the one that was given here.
async fn judge_role(client: &Client, checks: &mut Checks) {
    match ask(client, "/api/v1/probe/health").await {
        Ok((StatusCode::OK, _, health)) => match health["audit_append_only"].as_bool() {
            Some(true) => checks.ok(ROLE, "can add to the audit trail, not change it"),
            Some(false) => checks.fail(
                ROLE,
                "the API's database role may change the audit trail",
                "let another role own the schema (docs/operations.md, two roles), and restart the API",
            ),
            None => checks.skip(ROLE, "without a key the API does not say; set FFPROBE_API_KEY"),
        },
        Ok((status, ..)) => {
            checks.warn(
                ROLE,
                format!("the key is not accepted (HTTP {status})"),
                "correct FFPROBE_API_KEY, or leave it out",
            );
        }
        Err(why) => checks.skip(ROLE, why),
    }
}
