//! What must be true when a storm is over: every accepted job has ended, well or after its last attempt, with one result,
//! its attempts add up, whoever lost a lease had a reason to, all processes end when asked, and nothing is left behind.
//! Called by the tests of `chaos`.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use shared::store::Pool;
use sqlx::FromRow;
use tokio::task::block_in_place;
use tokio::time::sleep;
use uuid::Uuid;

use super::cast::{SLOTS, WORKERS};
use super::clients::Tally;
use super::storm::{Event, Hit, Storm};

/// Longest time from the end of the storm until the last job has ended.
const SETTLE: Duration = Duration::from_secs(180);
/// More keys than this in Redis are leftovers.
const KEYS: usize = 100;
/// A worker that was out of touch may notice so much later.
const AFTERMATH: chrono::TimeDelta = chrono::TimeDelta::seconds(8);

#[derive(Debug, FromRow)]
struct Job {
    id: Uuid,
    state: String,
    attempt: i16,
    max_attempts: i16,
    failure: Option<String>,
    results: i64,
}

#[derive(Debug, FromRow)]
struct Attempt {
    job_id: Uuid,
    number: i16,
    worker_name: String,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    outcome: Option<String>,
}

/// Insists on all of it.
pub(super) async fn judge(mut storm: Storm<'_>, tally: Tally) {
    let db = &storm.installation.db;
    all_ended(db).await;
    let refused = tally.refused.iter().fold(BTreeMap::<_, usize>::new(), |mut all, status| {
        *all.entry(status).or_default() += 1;
        all
    });
    println!("chaos: {} accepted, refused {refused:?}, without answer {}", tally.accepted.len(), tally.unanswered);
    let jobs = sqlx::query_as(
        "select id, state, attempt, max_attempts, failure ->> 'code' as failure,
        (select count(*) from result where job_id = job.id) as results from job",
    );
    let jobs: Vec<Job> = jobs.fetch_all(db).await.expect("lists jobs");
    let attempts = sqlx::query_as(
        "select job_id, number, worker_name, started_at, ended_at, outcome from attempt order by job_id, number",
    );
    let attempts: Vec<Attempt> = attempts.fetch_all(db).await.expect("lists attempts");
    let mut by_job: HashMap<Uuid, Vec<&Attempt>> = HashMap::new();
    for attempt in &attempts {
        by_job.entry(attempt.job_id).or_default().push(attempt);
    }

    let known: HashMap<Uuid, &Job> = jobs.iter().map(|job| (job.id, job)).collect();
    let lost: Vec<_> = tally.accepted.iter().filter(|id| !known.contains_key(id)).collect();
    assert!(lost.is_empty(), "accepted jobs are not there: {lost:?}");
    let none = Vec::new();
    let odd: Vec<String> = jobs
        .iter()
        .filter_map(|job| {
            let attempts = by_job.get(&job.id).unwrap_or(&none);
            odd(job, attempts).map(|why| format!("{why}: {job:?}\n{attempts:#?}"))
        })
        .collect();
    assert!(odd.is_empty(), "{} of {} jobs are odd:\n{}", odd.len(), jobs.len(), odd.join("\n"));
    let orphans: i64 = sqlx::query_scalar(
        "select count(*) from result where not exists (select from job where id = job_id and state = 'succeeded')",
    )
    .fetch_one(db)
    .await
    .expect("counts");
    assert_eq!(orphans, 0, "results without a succeeded job");

    let of = |state: &str| jobs.iter().filter(|job| job.state == state).count();
    let (failed, canceled) = (of("failed"), of("canceled"));
    println!("chaos: {} jobs, {canceled} canceled, {failed} out of attempts", jobs.len());
    assert!(failed * 100 <= jobs.len(), "{failed} jobs ran out of attempts, which is more than bad luck");
    leases(&attempts, &storm.history.events);
    redis(&mut storm).await;
    everybody_hears(&mut storm).await;
    everybody_goes(storm).await;
}

/// Waits until nothing is queued or running.
async fn all_ended(db: &Pool) {
    let begun = Instant::now();
    loop {
        let open: Vec<(String, i64)> =
            sqlx::query_as("select state, count(*) from job where state in ('queued', 'running') group by state")
                .fetch_all(db)
                .await
                .expect("counts");
        if open.is_empty() {
            break println!("chaos: every job had ended {:.1} s after the storm", begun.elapsed().as_secs_f64());
        }
        if begun.elapsed() > SETTLE {
            let stuck: Vec<serde_json::Value> =
                sqlx::query_scalar("select to_jsonb(job) from job where state in ('queued', 'running') limit 10")
                    .fetch_all(db)
                    .await
                    .expect("lists");
            panic!("jobs are stuck: {open:?}, such as {stuck:#?}");
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// What is wrong with a job, if anything.
fn odd(job: &Job, attempts: &[&Attempt]) -> Option<&'static str> {
    let outcomes: Vec<&str> = attempts.iter().filter_map(|a| a.outcome.as_deref()).collect();
    let numbers_fit = attempts.iter().zip(1..).all(|(attempt, number)| attempt.number == number);
    if outcomes.len() != attempts.len() {
        return Some("an attempt is open");
    }
    if !numbers_fit || attempts.len() != usize::try_from(job.attempt).expect("not negative") {
        return Some("the attempts do not add up");
    }
    let (last, before) = match outcomes.split_last() {
        Some((last, before)) => (*last, before),
        None => ("none", &outcomes[..]),
    };
    if before.iter().any(|outcome| *outcome != "lost") {
        return Some("it was run again for another reason than a lost lease");
    }
    match (job.state.as_str(), last, job.results) {
        ("succeeded", "succeeded", 1) => None,
        ("canceled", "none" | "canceled" | "lost", 0) => None,
        ("failed", "lost", 0) if job.attempt == job.max_attempts && job.failure.as_deref() == Some("worker_lost") => {
            None
        }
        _ => Some("state, last attempt and results do not fit"),
    }
}

/// Every lost lease has a fault that explains it, and there are no more of them than slots that were hit.
fn leases(attempts: &[Attempt], events: &[Event]) {
    let lost: Vec<&Attempt> = attempts.iter().filter(|a| a.outcome.as_deref() == Some("lost")).collect();
    let count = |wanted: fn(Hit) -> bool| events.iter().filter(|e| wanted(e.hit)).count();
    let (alone, together) = (count(|h| matches!(h, Hit::Worker(_))), count(|h| h == Hit::Everybody));
    let most = alone * SLOTS + together * WORKERS * SLOTS;
    println!(
        "chaos: {} leases were lost; at most {most} may be: {alone} workers hit with {SLOTS} slots each, {together} times all {WORKERS}",
        lost.len()
    );
    assert!(lost.len() <= most, "more leases were lost than faults explain");
    let unexplained: Vec<_> = lost
        .into_iter()
        .filter(|attempt| {
            let pid: u32 = attempt.worker_name.rsplit('-').next().and_then(|p| p.parse().ok()).expect("HOST-PID");
            let explains = |event: &&Event| {
                let hits = event.hit == Hit::Everybody || event.hit == Hit::Worker(pid);
                hits && attempt.started_at < event.to + AFTERMATH
                    && attempt.ended_at.is_some_and(|end| end > event.from)
            };
            events.iter().find(explains).is_none()
        })
        .collect();
    assert!(unexplained.is_empty(), "leases were lost without a reason: {unexplained:#?}");
}

/// The primary of Redis holds a few keys: housekeeping has a few rounds to see to it.
async fn redis(storm: &mut Storm<'_>) {
    let begun = Instant::now();
    loop {
        let keys: Vec<String> = storm.redis.keys();
        // what stands before the id of a worker or ticket, or the whole name
        let kinds = keys.iter().fold(BTreeMap::<_, usize>::new(), |mut all, key| {
            let kind = key.splitn(3, ':').last().unwrap_or_default();
            *all.entry(kind.trim_end_matches(|c| c != ':')).or_default() += 1;
            all
        });
        if keys.len() < KEYS {
            return println!(
                "chaos: Redis holds {} keys after {} processes: {kinds:?}",
                keys.len(),
                storm.cast.started()
            );
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "Redis holds {} keys: {keys:#?}", keys.len());
        sleep(Duration::from_millis(500)).await;
    }
}

/// Every process has followed Redis through its failovers: it listens at the present primary and nowhere else.
async fn everybody_hears(storm: &mut Storm<'_>) {
    let (begun, all) = (Instant::now(), storm.cast.present());
    loop {
        let ears = storm.redis.ears();
        if ears == (all, 0) {
            return println!("chaos: all {all} processes listen at the present primary of Redis");
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "of {all} processes listen at primary and replica: {ears:?}"
        );
        sleep(Duration::from_millis(200)).await;
    }
}

/// Everybody ends well when asked, and nothing of ours is left.
async fn everybody_goes(storm: Storm<'_>) {
    let Storm { cast, keeper, installation, history, .. } = storm;
    let begun = Instant::now();
    block_in_place(|| cast.stop());
    println!("chaos: everybody had stopped within {:.1} s", begun.elapsed().as_secs_f64());
    // a shell's `sleep` outlives the shell for as long as it sleeps
    let mut left = processes_of(installation.folder());
    while !left.is_empty() && begun.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(100)).await;
        left = processes_of(installation.folder());
    }
    assert!(left.is_empty(), "processes are left: {left:#?}");
    keeper.stop().await;
    // nothing went wrong, so nobody reads them
    let _ = std::fs::remove_dir_all(&history.logs);
}

/// Processes that name this folder in their command line or environment.
fn processes_of(folder: &std::path::Path) -> Vec<String> {
    let folder = folder.to_str().expect("a plain path");
    let pids = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok());
    let ours = pids.filter_map(|entry| {
        let read =
            |name: &str| std::fs::read(entry.path().join(name)).map(|b| String::from_utf8_lossy(&b).replace('\0', " "));
        let command = read("cmdline").ok()?;
        let is_ours = command.contains(folder) || read("environ").is_ok_and(|e| e.contains(folder));
        is_ours.then(|| format!("{} {command}", entry.file_name().to_string_lossy()))
    });
    ours.collect()
}

#[test]
fn odd_jobs_are_seen() {
    let job = |state: &str, attempt, results| Job {
        id: Uuid::nil(),
        state: state.to_owned(),
        attempt,
        max_attempts: 2,
        failure: (state == "failed").then(|| "worker_lost".to_owned()),
        results,
    };
    let says = |job: Job, outcomes: &[Option<&str>]| {
        let attempt = |(outcome, number): (&Option<&str>, i16)| Attempt {
            job_id: job.id,
            number,
            worker_name: String::new(),
            started_at: DateTime::UNIX_EPOCH,
            ended_at: None,
            outcome: outcome.map(str::to_owned),
        };
        let attempts: Vec<Attempt> = outcomes.iter().zip(1..).map(attempt).collect();
        odd(&job, &attempts.iter().collect::<Vec<_>>()).is_some()
    };
    let (lost, good, canceled) = (Some("lost"), Some("succeeded"), Some("canceled"));
    assert!(!says(job("succeeded", 1, 1), &[good]));
    assert!(!says(job("succeeded", 2, 1), &[lost, good]));
    assert!(!says(job("failed", 2, 0), &[lost, lost]));
    assert!(!says(job("canceled", 0, 0), &[]));
    assert!(!says(job("canceled", 2, 0), &[lost, canceled]));
    let odd: [(Job, &[Option<&str>]); 9] = [
        (job("queued", 0, 0), &[]),
        (job("succeeded", 1, 0), &[good]),
        (job("succeeded", 0, 1), &[]),
        (job("succeeded", 1, 1), &[lost, good]),
        (job("succeeded", 2, 1), &[good, good]),
        (job("succeeded", 2, 1), &[None, good]),
        (job("succeeded", 2, 1), &[Some("failed"), good]),
        (job("failed", 1, 0), &[lost]),
        (job("canceled", 1, 1), &[canceled]),
    ];
    for (job, outcomes) in odd {
        let shown = format!("{job:?} {outcomes:?}");
        assert!(says(job, outcomes), "{shown}");
    }
}
