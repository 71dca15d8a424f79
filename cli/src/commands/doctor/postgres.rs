//! PostgreSQL as API and workers see it: the way there, version, schema, what their role may do, the clock, the lanes, and
//! whether the upload volume is this installation's. Hands on the pool for the look at the workers.

use std::error::Error;
use std::time::Duration;

use chrono::Utc;
use shared::config::{StoragePlace, Way, database_way};
use shared::storage::Storage;
use shared::store::inspection::Server;
use shared::store::role::{Privilege, privilege};
use shared::store::{self, Pool};
use tokio::time::{Instant, timeout};

use super::DoctorArgs;
use super::check::{At, Checks};

const REACHABLE: At = At("postgres", "reachable");
const VERSION: At = At("postgres", "version");
const TLS: At = At("postgres", "tls");
const SCHEMA: At = At("postgres", "schema");
const ROLE: At = At("postgres", "role");
const CLOCK: At = At("postgres", "clock");
const LANES: At = At("postgres", "lanes");
const UPLOADS: At = At("uploads", "volume");

/// The oldest PostgreSQL that the tests know.
const OLDEST: i32 = 150_000;
/// Clocks that differ by more are worth a look: access tokens and signed URLs carry times.
const SKEW: f64 = 2.0;
/// Clocks that differ by more refuse each other's tokens.
const BROKEN_SKEW: f64 = 60.0;
/// Longest look at the upload volume: a dead mount never answers.
const VOLUME_PATIENCE: Duration = Duration::from_secs(5);

/// Looks at it; gives the pool if it answers and has the schema.
pub(super) async fn look(args: &DoctorArgs, checks: &mut Checks) -> Option<Pool> {
    let options = match args.database.options(&args.plaintext) {
        Ok(options) => options,
        Err(error) => {
            checks.refuse(REACHABLE, error);
            return None;
        }
    };
    let (way, host) = (database_way(&options), options.get_host().to_owned());
    let reached = store::inspection::reach(&options).await;
    let db = store::connect(options, 2);
    let server = match reached {
        Ok(()) => store::inspection::server(&db).await,
        Err(error) => Err(error),
    };
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            let next = "start it, or correct DATABASE_URL or POSTGRES_* (docs/tls.md if it is about certificates)";
            checks.fail(REACHABLE, why, next);
            return None;
        }
    };
    checks.ok(REACHABLE, format!("as the role {}", server.role));
    judge_server(&server, way, &host, checks);
    // a new connection took most of the time of the first answer, so another one tells the time
    judge_clock(&db, checks).await;
    match store::schema_is_current(&db).await {
        Ok(true) => checks.ok(SCHEMA, "has every migration of this version"),
        Ok(false) => {
            checks.fail(SCHEMA, "migrations of this version are missing", "run `probectl migrate`");
            return None;
        }
        Err(error) => {
            checks.fail(
                SCHEMA,
                error.to_string(),
                "let the role read the table _sqlx_migrations: run `probectl migrate`",
            );
            return None;
        }
    }
    judge_role(&db, &server, checks).await;
    judge_lanes(&db, checks).await;
    judge_uploads(&db, args, checks).await;
    Some(db)
}

fn judge_server(server: &Server, way: Way, host: &str, checks: &mut Checks) {
    if server.version_number < OLDEST {
        checks.fail(VERSION, &server.version, "update it to PostgreSQL 15 or newer");
    } else if server.read_only {
        checks.fail(
            VERSION,
            format!("{}, a standby", server.version),
            "name the primary in DATABASE_URL or POSTGRES_HOST",
        );
    } else {
        checks.ok(VERSION, &server.version);
    }
    match (way, &server.tls) {
        (Way::Local, _) => checks.ok(TLS, "not needed: it is this machine"),
        (Way::Verified, Some(protocol)) => checks.ok(TLS, format!("{protocol}, verified")),
        (Way::Verified, None) => checks.fail(TLS, "the server says that there is none", "look at what stands between"),
        (Way::Clear, _) => checks.warn(
            TLS,
            format!("without verified TLS, because PLAINTEXT_HOSTS trusts the network to {host}"),
            "set sslmode=verify-full, if others can reach that network (docs/tls.md)",
        ),
    }
}

async fn judge_clock(db: &Pool, checks: &mut Checks) {
    let begun = Instant::now();
    let before = Utc::now();
    let Ok(server) = store::inspection::server(db).await else {
        return checks.skip(CLOCK, "PostgreSQL did not answer again");
    };
    let half = begun.elapsed().as_secs_f64() / 2.0;
    let skew = (server.clock - before).as_seconds_f64() - half;
    let found = format!("{skew:+.2} s from this machine's");
    let next = "let all machines follow the same time (NTP)";
    match skew.abs() {
        s if s > BROKEN_SKEW + half => checks.fail(CLOCK, found, next),
        s if s > SKEW + half => checks.warn(CLOCK, found, next),
        _ => checks.ok(CLOCK, found),
    }
}

async fn judge_role(db: &Pool, server: &Server, checks: &mut Checks) {
    let next =
        "let another role own the schema: MIGRATE_DATABASE_URL of `probectl migrate` (docs/operations.md, two roles)";
    if server.is_mighty {
        let found = format!("{} is a superuser, or may make roles or databases", server.role);
        return checks.fail(ROLE, found, next);
    }
    match privilege(db).await {
        Ok(Privilege::AppendOnly) if server.may_create => {
            checks.warn(ROLE, format!("{} may make tables", server.role), "run `probectl migrate` with both roles");
        }
        Ok(Privilege::AppendOnly) => {
            checks.ok(ROLE, format!("{} can add to the audit trail, not change it", server.role));
        }
        Ok(Privilege::Unrestricted) => {
            checks.fail(ROLE, format!("{} owns the audit trail, or may change it", server.role), next);
        }
        Ok(Privilege::Insufficient) => {
            let found = format!("{} lacks its rights", server.role);
            checks.fail(ROLE, found, "run `probectl migrate` with the owner in MIGRATE_DATABASE_URL");
        }
        Err(error) => checks.fail(ROLE, error.to_string(), "run `probectl migrate`"),
    }
}

async fn judge_lanes(db: &Pool, checks: &mut Checks) {
    let lanes = match store::lane::list(db).await {
        Ok(lanes) => lanes,
        Err(error) => return checks.fail(LANES, error.to_string(), "run `probectl migrate`"),
    };
    let paused: Vec<&str> = lanes.iter().filter(|l| l.paused).map(|l| l.name.as_str()).collect();
    if paused.is_empty() {
        return checks.ok(LANES, "none is paused");
    }
    let paused = paused.join(", ");
    checks.warn(LANES, format!("paused: {paused}"), "resume them when it is time: POST /api/v1/queues/LANE/resume");
}

async fn judge_uploads(db: &Pool, args: &DoctorArgs, checks: &mut Checks) {
    let place = match args.s3.profiles().and_then(|profiles| args.files.storage(&profiles)) {
        Ok(place) => place,
        Err(error) => return checks.refuse(UPLOADS, error),
    };
    if let StoragePlace::Directory(dir) = &place
        && !dir.exists()
    {
        return checks.skip(UPLOADS, format!("{} is not on this machine; run this where an API runs", dir.display()));
    }
    let (installation, storage) = match (store::installation::find(db).await, Storage::open(place)) {
        (Ok(installation), Ok(storage)) => (installation, storage),
        (Err(error), _) => return checks.fail(UPLOADS, error.to_string(), "run `probectl migrate`"),
        (_, Err(error)) => return checks.fail(UPLOADS, error.to_string(), "correct the profile in S3_PROFILES_FILE"),
    };
    let look = tokio::task::spawn_blocking(move || storage.belongs_to(installation));
    match timeout(VOLUME_PATIENCE, look).await {
        Ok(Ok(true)) => checks.ok(UPLOADS, "marked as this installation's"),
        Ok(_) => checks.fail(
            UPLOADS,
            "it does not carry the mark of this installation",
            "mount the volume that the API writes to, or correct STORAGE_URL or DATABASE_URL: one of the two is another's",
        ),
        Err(_) => checks.fail(UPLOADS, "it does not answer", "look at the mount, or at the store"),
    }
}
