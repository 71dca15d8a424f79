//! The workers, by what they say of themselves in the registry: whether each role and each lane has one that lives, what their
//! jails do, and whether they agree on ffprobe.

use std::collections::BTreeSet;

use shared::job::Lane;
use shared::store::worker::{Worker, list_alive};
use shared::store::{self, Pool};

use super::check::{At, Checks};

const ROLES: [(At, &str, &str); 4] = [
    (At("workers", "probe"), "probe", "start a worker with the role probe: no job runs without"),
    (At("workers", "relay"), "relay", "start a worker with the role relay: jobs start seconds later without"),
    (At("workers", "upkeep"), "upkeep", "start a worker with the role upkeep: nothing is rescued or erased without"),
    (At("workers", "deliver"), "deliver", "start a worker with the role deliver: no webhook is sent without"),
];
const LANES: At = At("workers", "lanes");
const SANDBOX: At = At("workers", "sandbox");
const FFPROBE: At = At("workers", "ffprobe");
const UPLOADS: At = At("workers", "uploads");

/// The walls that keep ffprobe from files and networks; with neither, only limits are left.
const CONFINING: [&str; 2] = ["landlock_fs", "seccomp"];
/// Most workers looked at.
const MOST: i64 = 500;

/// Looks at them.
pub(super) async fn look(db: Option<&Pool>, checks: &mut Checks) {
    let all = ROLES.map(|(at, ..)| at).into_iter().chain([LANES, SANDBOX, FFPROBE, UPLOADS]);
    let Some(db) = db else {
        return all.for_each(|at| checks.skip(at, "PostgreSQL could not be asked"));
    };
    let workers = match list_alive(db, MOST).await {
        Ok(workers) => workers,
        Err(error) => return checks.fail(ROLES[0].0, error.to_string(), "see to PostgreSQL"),
    };
    let ready: Vec<&Worker> = workers.iter().filter(|w| !w.draining).collect();
    for (at, role, next) in ROLES {
        match ready.iter().filter(|w| w.roles.iter().any(|r| r == role)).count() {
            0 => checks.fail(at, format!("none is alive ({} s without a sign)", store::worker::ALIVE_SECONDS), next),
            count => checks.ok(at, format!("{count} alive")),
        }
    }
    let probing: Vec<&Worker> = ready.into_iter().filter(|w| w.ffprobe_version.is_some()).collect();
    if probing.is_empty() {
        return [LANES, SANDBOX, FFPROBE, UPLOADS].into_iter().for_each(|at| checks.skip(at, "nobody can probe"));
    }
    judge_lanes(&probing, checks);
    judge_sandbox(&probing, checks);
    let versions: BTreeSet<&str> = probing.iter().filter_map(|w| w.ffprobe_version.as_deref()).collect();
    let versions: Vec<&str> = versions.into_iter().collect();
    match versions[..] {
        [one] => checks.ok(FFPROBE, one),
        _ => checks.warn(FFPROBE, versions.join(", "), "use one version: the same file may be described in two ways"),
    }
    let blind = names(probing.iter().filter(|w| !w.has_uploads));
    if blind.is_empty() {
        checks.ok(UPLOADS, "seen by all");
    } else {
        checks.warn(
            UPLOADS,
            format!("not seen by {blind}"),
            "mount the volume there too: these take no job with an upload",
        );
    }
}

fn judge_lanes(probing: &[&Worker], checks: &mut Checks) {
    let served = |lane: &&Lane| probing.iter().any(|w| w.lanes.iter().any(|l| l == lane.as_str()));
    let lonely: Vec<&str> = [Lane::Fast, Lane::Scan].iter().filter(|l| !served(l)).map(|l| l.as_str()).collect();
    if lonely.is_empty() {
        checks.ok(LANES, "both are served");
    } else {
        let next = "start a worker that serves it (WORKER_LANES): its jobs wait for ever";
        checks.fail(LANES, format!("nobody serves {}", lonely.join(", ")), next);
    }
}

/// What was wanted and does not hold is told; what nobody asked for is the operator's choice, unless nothing holds.
fn judge_sandbox(probing: &[&Worker], checks: &mut Checks) {
    let mut missing = BTreeSet::new();
    let mut bare = Vec::new();
    for worker in probing {
        let walls = worker.protections.0.as_object();
        let status = |wall: &serde_json::Value| wall["status"].as_str().unwrap_or_default().to_owned();
        for (name, wall) in walls.into_iter().flatten() {
            if status(wall) == "unavailable" {
                missing.insert(format!("{name} ({})", wall["reason"].as_str().unwrap_or("no reason told")));
            }
        }
        let holds = |name: &&str| walls.and_then(|walls| walls.get(*name)).is_some_and(|wall| status(wall) == "active");
        if !CONFINING.iter().any(holds) {
            bare.push(worker);
        }
    }
    if !bare.is_empty() {
        let found = format!("ffprobe is not confined on {}", names(bare.into_iter()));
        return checks.fail(SANDBOX, found, "set SANDBOX to required or best_effort; off is for trusted files");
    }
    if missing.is_empty() {
        return checks.ok(SANDBOX, "every protection that was asked for holds");
    }
    let missing: Vec<String> = missing.into_iter().collect();
    checks.warn(SANDBOX, format!("not available: {}", missing.join("; ")), "see docs/operations.md, the jail");
}

fn names<'a>(workers: impl Iterator<Item = &'a &'a Worker>) -> String {
    workers.map(|w| w.name.as_str()).collect::<Vec<_>>().join(", ")
}
