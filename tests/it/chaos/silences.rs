//! What stands still instead of dying: relays, the process that keeps house, PostgreSQL; and clocks that are wrong. Staged
//! one by one, because a storm never lasts long enough for them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rustix::process::Signal;
use serde_json::json;
use tests::slow::SlowFfprobe;
use tests::{Http, Installation, Program, samples, servers};
use tokio::time::sleep;
use uuid::Uuid;

use super::keeper::Keeper;

/// Submits jobs and returns their ids.
async fn submit(installation: &Installation, http: &Http, jobs: usize) -> Vec<Uuid> {
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let mut ids = Vec::new();
    for _ in 0..jobs {
        let job = http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": file}})).await;
        assert_eq!(job.status, 202, "{}", job.text);
        ids.push(job.json["id"].as_str().and_then(|id| id.parse().ok()).expect("an id"));
    }
    ids
}

async fn until(what: &str, patience: Duration, holds: impl AsyncFn() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < patience, "did not come true within {patience:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

async fn count(installation: &Installation, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&installation.db).await.expect("counts")
}

#[tokio::test]
async fn with_every_relay_dead_jobs_start_seconds_later() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let relays: Vec<Program> = (0..2).map(|_| installation.worker(&[("WORKER_ROLES", "relay,upkeep")])).collect();
    relays.into_iter().for_each(Program::kill);
    // more than the API sends tickets for by itself
    let jobs = submit(&installation, &http, 80).await;
    // some wait for their next attempt: nobody has told them yet that it is due
    let sql = "update job set rank_at = null, dispatched_at = null, run_at = clock_timestamp() + interval '1 second'
        where id in (select id from job order by id desc limit 5)";
    sqlx::query(sql).execute(&installation.db).await.expect("shifts");
    let _worker = installation.worker(&[("WORKER_ROLES", "probe")]);
    let took = until("all jobs end", Duration::from_secs(90), async || {
        count(&installation, "select count(*) from job where state = 'succeeded'").await == 80
    })
    .await;
    let waits: Vec<f64> = sqlx::query_scalar(
        "select extract(epoch from started_at - greatest(created_at, coalesce(lag(finished_at, 2) over (order by started_at), created_at)))::float8 from job",
    )
    .fetch_all(&installation.db)
    .await
    .expect("lists");
    // both slots take the next job when the one before has ended, so a wait counts from there
    let longest = waits.into_iter().fold(0.0, f64::max);
    println!(
        "without any relay {} jobs were done after {:.1} s; the longest wait beside a free slot was {longest:.1} s",
        jobs.len(),
        took.as_secs_f64()
    );
    assert!(longest < 10.0, "{longest}");
    assert!(took < Duration::from_secs(35), "two at a time, one after the other, and not two a second: {took:?}");
}

/// The library that shows a process another time (Debian: `faketime`).
fn libfaketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("/usr/lib").flatten().map(|e| e.path());
    let candidates = std::iter::once(PathBuf::from("/usr/lib")).chain(folders);
    let found = candidates.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    found.expect("libfaketime is installed; `make setup` sees to it (Debian: apt-get install faketime)")
}

/// A worker whose clock is wrong.
fn worker_with_clock(installation: &Installation, library: &Path, shift: &str, changes: &[(&str, &str)]) -> Program {
    let library = library.to_str().expect("a plain path");
    // only the time of day is wrong: a machine has no wrong monotonic clock
    let wrong = [("LD_PRELOAD", library), ("FAKETIME", shift), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    let mut worker = installation.start_worker(&[&wrong, changes].concat());
    let line = worker.wait_for_line("working");
    let told: DateTime<Utc> = line["timestamp"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    let off = (told - Utc::now()).num_minutes().abs();
    assert!((58..=62).contains(&off), "its clock is {off} minutes off");
    worker
}

#[tokio::test]
async fn a_clock_wrong_by_an_hour_steals_no_lease_and_starves_nobody() {
    let library = libfaketime();
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let slow = SlowFfprobe::new(installation.folder());
    let lease = ("LEASE_SECONDS", "2");
    let honest = installation.worker(&[&slow.settings()[..], &[lease, ("WORKER_ROLES", "probe")]].concat());
    slow.hold();
    let held = submit(&installation, &http, 1).await[0];
    slow.wait_for_one().await;
    // those whose clock is wrong relay and keep house, and one of them leads
    let early = worker_with_clock(&installation, &library, "-1h", &[lease]);
    let late = worker_with_clock(&installation, &library, "+1h", &[lease]);
    sleep(Duration::from_secs(7)).await;
    let attempts: Vec<(i16, Option<String>)> = sqlx::query_as("select number, outcome from attempt where job_id = $1")
        .bind(held)
        .fetch_all(&installation.db)
        .await
        .expect("lists");
    assert_eq!(attempts, [(1, None)], "held through several leases, by the same worker");
    slow.let_go();
    assert_eq!(http.wait(&held.to_string()).await["attempt"], 1);

    for _ in 0..8 {
        for job in submit(&installation, &http, 4).await {
            assert_eq!(http.wait(&job.to_string()).await["state"], "succeeded");
        }
        sleep(Duration::from_millis(250)).await;
    }
    let ran: Vec<(f64, String)> = sqlx::query_as(
        "select extract(epoch from a.started_at - j.created_at)::float8, a.worker_name
        from job j join attempt a on a.job_id = j.id where j.id <> $1 order by 1",
    )
    .bind(held)
    .fetch_all(&installation.db)
    .await
    .expect("lists");
    assert_eq!(ran.len(), 32, "each ran once");
    let by = |p: &Program| ran.iter().filter(|(_, name)| name.ends_with(&format!("-{}", p.pid()))).count();
    let (shares, longest) = ([by(&honest), by(&early), by(&late)], ran[31].0);
    println!("jobs run by workers with the right clock, one early, one late: {shares:?}; longest wait {longest:.2} s");
    assert!(shares.iter().all(|share| *share > 0), "somebody starves: {shares:?}");
    // jobs that waited for 5 s would be taken without a ticket
    assert!(longest < 4.0, "tickets do not come: {longest}");
    for worker in [&honest, &early, &late] {
        let log = worker.log();
        assert!(!log.contains("apalis worker ended"), "one of them was struck off by another's clock:\n{log}");
    }
}

#[tokio::test]
async fn workers_that_are_gone_leave_nothing_in_redis() {
    let installation = Installation::new().await;
    let gone = installation.worker(&[]);
    let name = format!("-{}-", gone.pid());
    let kept = installation.worker(&[("WORKER_ROLES", "probe")]);
    let kept_name = format!("-{}-", kept.pid());
    let client = redis::Client::open(servers::servers().redis_url()).expect("a URL");
    let mut redis = client.get_multiplexed_async_connection().await.expect("connects");
    let id: Uuid =
        sqlx::query_scalar("select id from installation").fetch_one(&installation.db).await.expect("has one");
    let mut keys = async || -> Vec<String> {
        redis::cmd("KEYS").arg(format!("ffprobe_api:{id}:*:metadata:*")).query_async(&mut redis).await.expect("lists")
    };
    let begun = Instant::now();
    while keys().await.len() < 4 {
        assert!(begun.elapsed() < Duration::from_secs(20), "two workers register for two lanes: {:?}", keys().await);
        sleep(Duration::from_millis(50)).await;
    }
    gone.kill();
    let _upkeep = installation.worker(&[("WORKER_ROLES", "upkeep")]);
    let begun = Instant::now();
    while keys().await.iter().any(|key| key.contains(&name)) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", keys().await);
        // as if a minute had passed since the last look: whoever lives has another heartbeat by then
        let mut shift = client.get_multiplexed_async_connection().await.expect("connects");
        for key in keys().await {
            let _: i64 =
                redis::cmd("HINCRBY").arg(key).arg("beat_seen").arg(-10).query_async(&mut shift).await.expect("shifts");
        }
        sleep(Duration::from_secs(1)).await;
    }
    let left = keys().await;
    assert_eq!(left.iter().filter(|key| key.contains(&kept_name)).count(), 2, "{left:?}");
}

#[tokio::test]
async fn a_housekeeper_that_stands_still_is_replaced() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let first = installation.worker(&[("WORKER_ROLES", "upkeep")]);
    // it leads once it has done a round
    sleep(Duration::from_secs(3)).await;
    let _second = installation.worker(&[("WORKER_ROLES", "upkeep")]);
    first.signal(Signal::STOP);
    submit(&installation, &http, 1).await;
    let claimed =
        "update job set state = 'running', attempt = 1, started_at = clock_timestamp(), worker_id = gen_random_uuid(),
        lease_token = gen_random_uuid(), lease_until = clock_timestamp()";
    sqlx::query(claimed).execute(&installation.db).await.expect("is held by nobody");
    let rescued = async || count(&installation, "select count(*) from job where state = 'queued'").await == 1;
    let took = until("somebody else keeps house", Duration::from_secs(40), rescued).await;
    println!("a job was rescued {:.1} s after the housekeeper had begun to stand still", took.as_secs_f64());
    first.signal(Signal::CONT);
}

#[tokio::test]
async fn a_transaction_of_a_process_that_stands_still_is_ended() {
    let installation = Installation::new().await;
    let still = shared::store::connect(installation.database_url().parse().expect("a URL"), 1);
    let mut held = still.begin().await.expect("begins");
    assert!(shared::store::job::dispatch::try_relay_turn(&mut held).await.expect("asks"));
    let free = async || {
        let mut tx = installation.db.begin().await.expect("begins");
        shared::store::job::dispatch::try_relay_turn(&mut tx).await.expect("asks")
    };
    assert!(!free().await, "one relay at a time");
    let took = until("the turn is free again", Duration::from_secs(30), free).await;
    println!("the turn of a relay that stands still was free after {:.1} s", took.as_secs_f64());
    drop(held);
}

#[tokio::test]
async fn everybody_stops_when_asked_while_postgres_hangs() {
    let (private, own) = servers::own().await;
    let keeper = Keeper::new(private);
    let installation = Installation::on(&own).await;
    let (mut api, http) = installation.api(&[("SHUTDOWN_GRACE", "2")]);
    let slow = SlowFfprobe::new(installation.folder());
    let mut worker = installation.worker(&[&slow.settings()[..], &[("SHUTDOWN_GRACE", "2")]].concat());
    slow.hold();
    submit(&installation, &http, 1).await;
    slow.wait_for_one().await;
    let hanging = keeper.freeze(Duration::from_secs(60));
    let stopping = async {
        // long enough for every part to be waiting for an answer
        sleep(Duration::from_secs(3)).await;
        api.signal(Signal::TERM);
        worker.signal(Signal::TERM);
        let begun = Instant::now();
        let ends = tokio::task::spawn_blocking(move || [api.wait(), worker.wait()]).await.expect("both end");
        assert!(ends.iter().all(std::process::ExitStatus::success), "{ends:?}");
        let took = begun.elapsed();
        println!("with PostgreSQL hanging, API and worker stopped within {:.1} s", took.as_secs_f64());
        assert!(took < Duration::from_secs(20), "{took:?}");
    };
    tokio::select! {
        () = hanging => panic!("it hangs for longer than anybody may take to stop"),
        () = stopping => {}
    }
    keeper.stop().await;
}
