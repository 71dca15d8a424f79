//! The life of a job, verb by verb: what each does to a job in every state, and what it does without the lease.

use std::time::Duration;

use serde_json::json;
use shared::id::{JobId, LeaseToken, TenantId, WorkerId};
use shared::job::{Claim, Failure, FailureCode, JobState, Lane, Located, NewJob, Options, Priority, Profile, Source};
use shared::lifecycle::{self, Beat, Held};
use shared::store::job::lease::Claimant;
use shared::store::result::NewResult;
use shared::store::{self, Pool};
use tests::Installation;

fn worker(roots: &[&str]) -> Claimant {
    let media_roots = roots.iter().map(|r| (*r).to_owned()).collect();
    Claimant {
        id: WorkerId::new(),
        name: "w".into(),
        media_roots,
        has_uploads: false,
        s3_profiles: Vec::new(),
        lease: Duration::from_secs(20),
    }
}

async fn tenant(db: &Pool) -> TenantId {
    store::access::ensure_tenant(db, "default", &store::access::Grants::default()).await.expect("a tenant")
}

fn new_job(tenant: TenantId) -> NewJob {
    NewJob {
        tenant,
        source: Source::Path { path: "/a.mp4".into() },
        located: Some(Located { roots: vec!["media".into()], inside: "a.mp4".into() }),
        sealed: None,
        profile: Profile::Standard,
        options: Options::default(),
        priority: Priority::Normal,
        external_id: None,
        metadata: serde_json::Map::new(),
        max_attempts: 2,
        expires_at: None,
        webhook: None,
        audit: None,
    }
}

fn result() -> NewResult {
    NewResult { media: json!({}), ffprobe: "{}".into(), provenance: json!({}), ..NewResult::default() }
}

async fn overdue(db: &Pool, roots: &[&str]) -> Vec<JobId> {
    let five = Duration::from_secs(5);
    store::job::dispatch::list_overdue(db, Lane::Fast, &worker(roots), five, 10).await.expect("lists")
}

async fn mark_due(db: &Pool, limit: i64) -> Vec<JobId> {
    let mut tx = db.begin().await.expect("begins");
    assert!(store::job::dispatch::try_relay_turn(&mut tx).await.expect("asks"));
    let due = store::job::dispatch::mark_due(&mut tx, Lane::Fast, limit).await.expect("marks");
    tx.commit().await.expect("commits");
    due
}

async fn claimed(db: &Pool) -> Claim {
    let job = lifecycle::submit(db, &new_job(tenant(db).await)).await.expect("submits");
    lifecycle::claim(db, job.id, &worker(&["media"])).await.expect("asks").expect("is to be had")
}

async fn state(db: &Pool, claim: &Claim) -> JobState {
    store::job::find(db, claim.job.tenant, claim.job.id).await.expect("asks").expect("there").state
}

#[tokio::test]
async fn only_one_of_many_workers_gets_a_job() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let job = lifecycle::submit(db, &new_job(tenant(db).await)).await.expect("submits");
    let tries: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let db = db.clone();
                async move { lifecycle::claim(&db, job.id, &worker(&["media"])).await.expect("asks").is_some() }
            })
        })
        .collect();
    let mut winners = 0;
    for won in tries {
        winners += usize::from(won.await.expect("no panic"));
    }
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn a_worker_gets_only_what_it_can_reach_and_what_is_due() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let job = lifecycle::submit(db, &new_job(tenant(db).await)).await.expect("submits");
    assert!(lifecycle::claim(db, job.id, &worker(&[])).await.expect("asks").is_none(), "without the root");
    assert!(lifecycle::claim(db, job.id, &worker(&["other"])).await.expect("asks").is_none(), "with another root");
    let shift = |by: &'static str| async move {
        sqlx::query(sqlx::AssertSqlSafe(format!("update job set run_at = clock_timestamp() {by}")))
            .execute(db)
            .await
            .expect("shifts")
    };
    shift("+ interval '1 hour'").await;
    assert!(lifecycle::claim(db, job.id, &worker(&["media"])).await.expect("asks").is_none(), "before its time");
    shift("- interval '4 seconds'").await;
    assert!(overdue(db, &["media"]).await.is_empty(), "its ticket may still come");
    shift("- interval '6 seconds'").await;
    assert!(overdue(db, &["other"]).await.is_empty());
    assert_eq!(overdue(db, &["other", "media"]).await, [job.id]);
    assert!(lifecycle::claim(db, job.id, &worker(&["media"])).await.expect("asks").is_some());
    assert!(overdue(db, &["media"]).await.is_empty(), "it runs");
}

#[tokio::test]
async fn without_the_lease_nothing_changes() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let claim = claimed(db).await;
    let late = Claim { token: LeaseToken::new(), ..claim.clone() };
    let failure = Failure::new(FailureCode::InvalidMedia, "x");
    assert_eq!(lifecycle::beat(db, &late, None).await.expect("asks"), Beat::Lost);
    assert_eq!(lifecycle::finish(db, &late, &result(), "").await.expect("asks"), Held::No);
    assert_eq!(lifecycle::fail(db, &late, &failure, None, 0.5).await.expect("asks"), Held::No);
    assert_eq!(lifecycle::release(db, &late).await.expect("asks"), Held::No);
    assert_eq!(state(db, &claim).await, JobState::Running);
    let results: i64 = sqlx::query_scalar("select count(*) from result").fetch_one(db).await.expect("counts");
    assert_eq!(results, 0);

    assert_eq!(lifecycle::beat(db, &claim, None).await.expect("asks"), Beat::Renewed);
    assert_eq!(lifecycle::finish(db, &claim, &result(), "").await.expect("asks"), Held::Yes);
    assert_eq!(state(db, &claim).await, JobState::Succeeded);
    // the same verbs again, and every other, find nothing to do
    assert_eq!(lifecycle::finish(db, &claim, &result(), "").await.expect("asks"), Held::No);
    assert_eq!(lifecycle::fail(db, &claim, &failure, None, 0.5).await.expect("asks"), Held::No);
    assert_eq!(lifecycle::release(db, &claim).await.expect("asks"), Held::No);
    assert_eq!(lifecycle::beat(db, &claim, None).await.expect("asks"), Beat::Lost);
    assert!(lifecycle::claim(db, claim.job.id, &worker(&["media"])).await.expect("asks").is_none());
    assert_eq!(state(db, &claim).await, JobState::Succeeded);
}

#[tokio::test]
async fn failures_retry_or_end_by_their_class() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let transient = Failure::new(FailureCode::StorageError, "x");
    let claim = claimed(db).await;
    assert_eq!(lifecycle::fail(db, &claim, &transient, Some("tail"), 0.5).await.expect("asks"), Held::Yes);
    let job = store::job::find(db, claim.job.tenant, claim.job.id).await.expect("asks").expect("there");
    assert_eq!((job.state, job.attempt, job.failure), (JobState::Queued, 1, Some(transient.clone())));
    let wait = (job.run_at - chrono::Utc::now()).to_std().expect("later");
    assert!(wait > Duration::from_secs(3) && wait < Duration::from_secs(6), "{wait:?}");

    sqlx::query("update job set run_at = clock_timestamp()").execute(db).await.expect("shifts");
    let again = lifecycle::claim(db, job.id, &worker(&["media"])).await.expect("asks").expect("is to be had");
    assert_eq!(again.job.attempt, 2);
    lifecycle::fail(db, &again, &transient, None, 0.5).await.expect("asks");
    assert_eq!(state(db, &claim).await, JobState::Failed, "attempts are used up");
    let attempts = store::attempt::list(db, job.id, 0, 100).await.expect("lists");
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].stderr_tail.as_deref(), Some("tail"));

    let claim = claimed(db).await;
    lifecycle::fail(db, &claim, &Failure::new(FailureCode::InvalidMedia, "x"), None, 0.5).await.expect("asks");
    assert_eq!(state(db, &claim).await, JobState::Failed, "permanent at once");
    let claim = claimed(db).await;
    lifecycle::fail(db, &claim, &Failure::new(FailureCode::Canceled, "x"), None, 0.5).await.expect("asks");
    assert_eq!(state(db, &claim).await, JobState::Canceled);
}

#[tokio::test]
async fn due_jobs_are_dispatched_once_and_in_order() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let tenant = tenant(db).await;
    let mut wanted = Vec::new();
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        for _ in 0..2 {
            wanted.push(lifecycle::submit(db, &NewJob { priority, ..new_job(tenant) }).await.expect("submits").id);
        }
    }
    wanted.rotate_left(4);
    wanted[2..].rotate_left(2);
    let mut seen = Vec::new();
    for batch in [4, 4, 4] {
        seen.extend(mark_due(db, batch).await);
    }
    assert_eq!(seen, wanted);
    let mut one = db.begin().await.expect("begins");
    let mut two = db.begin().await.expect("begins");
    assert!(store::job::dispatch::try_relay_turn(&mut one).await.expect("asks"));
    assert!(!store::job::dispatch::try_relay_turn(&mut two).await.expect("asks"), "relays take turns");
}

/// A job in each state, by the verbs that lead there.
async fn job_in(db: &Pool, state: JobState) -> (TenantId, JobId) {
    let tenant = tenant(db).await;
    let failure = Failure::new(FailureCode::InvalidMedia, "x");
    let id = match state {
        JobState::Queued => lifecycle::submit(db, &new_job(tenant)).await.expect("submits").id,
        JobState::Running => claimed(db).await.job.id,
        JobState::Succeeded => {
            let claim = claimed(db).await;
            lifecycle::finish(db, &claim, &result(), "").await.expect("finishes");
            claim.job.id
        }
        JobState::Failed => {
            let claim = claimed(db).await;
            lifecycle::fail(db, &claim, &failure, None, 0.5).await.expect("fails");
            claim.job.id
        }
        JobState::Canceled => {
            let id = lifecycle::submit(db, &new_job(tenant)).await.expect("submits").id;
            lifecycle::cancel(db, tenant, id).await.expect("cancels");
            id
        }
    };
    assert_eq!(store::job::find(db, tenant, id).await.expect("asks").expect("there").state, state);
    (tenant, id)
}

/// A verb's outcome for each state it may meet.
type Row = [(JobState, Option<JobState>); 5];

/// The table of ARCHITECTURE.md: from every state, what each verb from outside leads to. `None`: it is refused.
#[tokio::test]
async fn every_transition_from_outside_is_as_the_table_says() {
    use JobState::{Canceled, Failed, Queued, Running, Succeeded};
    let installation = Installation::new().await;
    let db = &installation.db;
    let past = "update job set expires_at = clock_timestamp() - interval '1 second', lease_until = case when state = 'running' \
                then clock_timestamp() - interval '1 second' end where id = $1";
    #[rustfmt::skip]
    let table: [(&str, Row); 6] = [
        ("claim",  [(Queued, Some(Running)),  (Running, None),           (Succeeded, None), (Failed, None),         (Canceled, None)]),
        ("cancel", [(Queued, Some(Canceled)), (Running, Some(Running)),  (Succeeded, None), (Failed, None),         (Canceled, Some(Canceled))]),
        ("retry",  [(Queued, None),           (Running, None),           (Succeeded, None), (Failed, Some(Queued)), (Canceled, Some(Queued))]),
        ("expire", [(Queued, Some(Canceled)), (Running, None),           (Succeeded, None), (Failed, None),         (Canceled, None)]),
        ("rescue", [(Queued, None),           (Running, Some(Queued)),   (Succeeded, None), (Failed, None),         (Canceled, None)]),
        ("delete", [(Queued, Some(Queued)),   (Running, None),           (Succeeded, Some(Succeeded)), (Failed, Some(Failed)), (Canceled, Some(Canceled))]),
    ];
    for (verb, row) in table {
        for (from, to) in row {
            let (tenant, id) = job_in(db, from).await;
            let shift = async || sqlx::query(past).bind(id).execute(db).await.expect("shifts");
            let done = match verb {
                "claim" => lifecycle::claim(db, id, &worker(&["media"])).await.expect("asks").is_some(),
                "cancel" => lifecycle::cancel(db, tenant, id).await.is_ok(),
                "retry" => lifecycle::retry(db, tenant, id, 3).await.is_ok(),
                "expire" => {
                    shift().await;
                    lifecycle::expire(db).await.expect("expires").contains(&id)
                }
                "rescue" => {
                    shift().await;
                    lifecycle::rescue(db).await.expect("rescues").iter().any(|r| r.id == id)
                }
                _ => lifecycle::delete(db, tenant, id).await.is_ok(),
            };
            assert_eq!(done, to.is_some(), "{verb} of a {from:?} job");
            let now = store::job::find(db, tenant, id).await.expect("asks");
            match (verb, to) {
                ("delete", Some(_)) => assert!(now.is_none(), "a deleted {from:?} job is gone"),
                (_, to) => assert_eq!(now.expect("there").state, to.unwrap_or(from), "{verb} of a {from:?} job"),
            }
        }
    }
}

#[tokio::test]
async fn a_cancel_outlives_the_worker_that_was_asked() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let claim = claimed(db).await;
    assert_eq!(
        lifecycle::cancel(db, claim.job.tenant, claim.job.id).await.expect("asks"),
        lifecycle::Cancel::Requested
    );
    assert_eq!(lifecycle::beat(db, &claim, None).await.expect("asks"), Beat::CancelRequested);
    sqlx::query("update job set lease_until = clock_timestamp() - interval '1 second'")
        .execute(db)
        .await
        .expect("shifts");
    lifecycle::rescue(db).await.expect("rescues");
    let job = store::job::find(db, claim.job.tenant, claim.job.id).await.expect("asks").expect("there");
    assert_eq!((job.state, job.failure.map(|f| f.code)), (JobState::Canceled, Some(FailureCode::Canceled)));
}

#[tokio::test]
async fn a_retry_keeps_the_history_and_gives_new_attempts() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let (tenant, id) = job_in(db, JobState::Failed).await;
    lifecycle::retry(db, tenant, id, 3).await.expect("retries");
    let job = store::job::find(db, tenant, id).await.expect("asks").expect("there");
    assert_eq!((job.attempt, job.max_attempts, job.failure), (1, 4, None));
    let claim = lifecycle::claim(db, id, &worker(&["media"])).await.expect("asks").expect("is to be had");
    lifecycle::finish(db, &claim, &result(), "").await.expect("finishes");
    let attempts = store::attempt::list(db, id, 0, 100).await.expect("lists");
    assert_eq!(attempts.len(), 2);
    assert!(attempts.iter().all(|a| a.ended_at.is_some()));
}

#[tokio::test]
async fn a_tenants_limit_holds_on_every_path() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let tenant = tenant(db).await;
    sqlx::query("update tenant set max_running = 3").execute(db).await.expect("limits");
    let mut jobs = Vec::new();
    for _ in 0..12 {
        jobs.push(lifecycle::submit(db, &new_job(tenant)).await.expect("submits").id);
    }
    let tries: Vec<_> = jobs
        .iter()
        .map(|id| {
            let (db, id) = (db.clone(), *id);
            tokio::spawn(async move { lifecycle::claim(&db, id, &worker(&["media"])).await.expect("asks") })
        })
        .collect();
    let mut claims = Vec::new();
    for claim in tries {
        claims.extend(claim.await.expect("no panic"));
    }
    assert_eq!(claims.len(), 3, "twelve workers at once, three may run");
    assert!(mark_due(db, 100).await.is_empty(), "the relay sends no tickets in vain");
    lifecycle::finish(db, &claims[0], &result(), "").await.expect("finishes");
    assert_eq!(mark_due(db, 100).await.len(), 1);
}

#[tokio::test]
async fn a_paused_lane_starts_nothing() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let job = lifecycle::submit(db, &new_job(tenant(db).await)).await.expect("submits");
    store::lane::pause(db, Lane::Fast, Some("storage is moved"), None).await.expect("pauses");
    assert!(mark_due(db, 10).await.is_empty());
    assert!(lifecycle::claim(db, job.id, &worker(&["media"])).await.expect("asks").is_none());
    sqlx::query("update job set run_at = run_at - interval '1 minute'").execute(db).await.expect("shifts");
    assert!(overdue(db, &["media"]).await.is_empty());
    // a pause whose time is over is none
    store::lane::pause(db, Lane::Fast, None, Some(chrono::Utc::now() - Duration::from_secs(60))).await.expect("pauses");
    assert_eq!(overdue(db, &["media"]).await, [job.id]);
    store::lane::resume(db, Lane::Fast).await.expect("resumes");
    assert!(lifecycle::claim(db, job.id, &worker(&["media"])).await.expect("asks").is_some());
}

#[tokio::test]
async fn one_tenants_backlog_does_not_keep_another_waiting() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let heavy = tenant(db).await;
    let bulk = "insert into job (id, tenant_id, profile, lane, priority, path, roots, path_inside, max_attempts, rank_at)
        select gen_random_uuid(), $1, 'standard', 'fast', 1, 'a', '{media}', 'a', 5, clock_timestamp() + interval '5 minutes'
        from generate_series(1, $2)";
    installation.fill(sqlx::query(bulk).bind(heavy).bind(20_000)).await;
    let light = store::access::ensure_tenant(db, "light", &store::access::Grants::default()).await.expect("a tenant");
    let single = lifecycle::submit(db, &new_job(light)).await.expect("submits").id;
    // one slot: every round sends one ticket, whose job is run at once
    let mut served = Vec::new();
    for _ in 0..3 {
        let due = mark_due(db, 1).await;
        let claim = lifecycle::claim(db, due[0], &worker(&["media"])).await.expect("asks").expect("is to be had");
        lifecycle::finish(db, &claim, &result(), "").await.expect("finishes");
        served.push(due[0]);
    }
    let place = served.iter().position(|id| *id == single);
    println!("behind 20,000 jobs of another tenant, a single job was served as number {:?}", place.map(|p| p + 1));
    assert!(place.is_some_and(|p| p <= 1), "{place:?}");
    // eight slots: half of the tickets are the light tenant's as long as it has any
    for _ in 0..8 {
        lifecycle::submit(db, &new_job(light)).await.expect("submits");
    }
    let due = mark_due(db, 8).await;
    let sql = "select count(*) from job where id = any($1) and tenant_id = $2";
    let ids: Vec<uuid::Uuid> = due.iter().map(|j| j.0).collect();
    let of_light: i64 = sqlx::query_scalar(sql).bind(ids).bind(light).fetch_one(db).await.expect("counts");
    assert_eq!((due.len(), of_light), (8, 4));
}

#[tokio::test]
async fn low_priority_never_starves() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let tenant = tenant(db).await;
    let submit =
        async |priority| lifecycle::submit(db, &NewJob { priority, ..new_job(tenant) }).await.expect("submits").id;
    let low = submit(Priority::Low).await;
    let normal = submit(Priority::Normal).await;
    let high = submit(Priority::High).await;
    assert_eq!(mark_due(db, 10).await, [high, normal, low]);
    sqlx::query("update job set dispatched_at = null").execute(db).await.expect("takes back");
    // the low one has waited for eleven minutes, the normal one for seven
    let wait = "update job set rank_at = rank_at - make_interval(mins => $2) where id = $1";
    sqlx::query(wait).bind(low).bind(11).execute(db).await.expect("waits");
    sqlx::query(wait).bind(normal).bind(7).execute(db).await.expect("waits");
    assert_eq!(mark_due(db, 10).await, [normal, low, high], "waiting makes up for priority");
}

#[tokio::test]
async fn retries_that_wait_for_their_time_are_not_in_the_way() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let claim = claimed(db).await;
    lifecycle::fail(db, &claim, &Failure::new(FailureCode::StorageError, "x"), None, 0.5).await.expect("fails");
    store::job::dispatch::promote(db, 10).await.expect("promotes");
    assert!(mark_due(db, 10).await.is_empty());
    sqlx::query("update job set run_at = clock_timestamp()").execute(db).await.expect("time passes");
    assert_eq!(store::job::dispatch::promote(db, 10).await.expect("promotes"), 1);
    assert_eq!(mark_due(db, 10).await, [claim.job.id]);
}

#[tokio::test]
async fn a_wish_to_cancel_outlives_a_retry_and_a_drain() {
    let installation = Installation::new().await;
    let db = &installation.db;
    for verb in ["fail", "release"] {
        let claim = claimed(db).await;
        lifecycle::cancel(db, claim.job.tenant, claim.job.id).await.expect("asks");
        let held = match verb {
            "fail" => lifecycle::fail(db, &claim, &Failure::new(FailureCode::StorageError, "x"), None, 0.5).await,
            _ => lifecycle::release(db, &claim).await,
        };
        assert_eq!(held.expect("asks"), Held::Yes);
        let job = store::job::find(db, claim.job.tenant, claim.job.id).await.expect("asks").expect("there");
        assert_eq!(
            (job.state, job.failure.map(|f| f.code)),
            (JobState::Canceled, Some(FailureCode::Canceled)),
            "{verb}"
        );
    }
}

#[tokio::test]
async fn an_overdue_backlog_at_its_limit_hides_nobody() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let limited = tenant(db).await;
    sqlx::query("update tenant set max_running = 1").execute(db).await.expect("limits");
    let mut first = Vec::new();
    for _ in 0..20 {
        first.push(lifecycle::submit(db, &new_job(limited)).await.expect("submits").id);
    }
    lifecycle::claim(db, first[0], &worker(&["media"])).await.expect("asks").expect("is to be had");
    let other = store::access::ensure_tenant(db, "other", &store::access::Grants::default()).await.expect("a tenant");
    let theirs = lifecycle::submit(db, &new_job(other)).await.expect("submits").id;
    sqlx::query("update job set run_at = run_at - interval '1 minute'").execute(db).await.expect("waits");
    assert_eq!(overdue(db, &["media"]).await, [theirs]);
}

#[tokio::test]
async fn a_ticket_that_is_taken_back_puts_aside_only_what_nobody_reaches() {
    let installation = Installation::new().await;
    let db = &installation.db;
    let id = lifecycle::submit(db, &new_job(tenant(db).await)).await.expect("submits").id;
    let aside = Duration::from_secs(30);
    let due = async || {
        let sql = "select run_at <= clock_timestamp() and rank_at is not null and dispatched_at is null from job where id = $1";
        sqlx::query_scalar::<_, bool>(sql).bind(id).fetch_one(db).await.expect("asks")
    };
    mark_due(db, 1).await;
    store::job::dispatch::take_back(db, id, aside).await.expect("takes back");
    assert!(due().await, "without any worker it stays where it is");
    let add = "insert into worker (id, name, version, roles, lanes, slots, media_roots, has_uploads)
        values (gen_random_uuid(), 'w', '0', '{probe}', '{fast}', 1, $1, false)";
    sqlx::query(add).bind(vec!["other".to_owned()]).execute(db).await.expect("adds");
    store::job::dispatch::take_back(db, id, aside).await.expect("takes back");
    assert!(!due().await, "no worker has the mount");
    sqlx::query(add).bind(vec!["media".to_owned()]).execute(db).await.expect("adds");
    sqlx::query("update job set run_at = clock_timestamp()").execute(db).await.expect("time passes");
    store::job::dispatch::promote(db, 1).await.expect("promotes");
    store::job::dispatch::take_back(db, id, aside).await.expect("takes back");
    assert!(due().await, "one of two has it");
}
