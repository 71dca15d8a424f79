//! The life of a job, verb by verb: what each does to a job in every state, and what it does without the lease.

use std::time::Duration;

use serde_json::json;
use shared::id::{LeaseToken, TenantId, WorkerId};
use shared::job::{Claim, Failure, FailureCode, JobState, Located, NewJob, Priority, Profile, Source};
use shared::lifecycle::{self, Beat, Held};
use shared::store::job::lease::Claimant;
use shared::store::result::NewResult;
use shared::store::{self, Pool};
use tests::Installation;

fn worker(roots: &[&str]) -> Claimant {
    let media_roots = roots.iter().map(|r| (*r).to_owned()).collect();
    Claimant { id: WorkerId::new(), name: "w".into(), media_roots, has_uploads: false }
}

async fn tenant(db: &Pool) -> TenantId {
    store::access::ensure_tenant(db, "default", &[]).await.expect("a tenant")
}

fn new_job(tenant: TenantId) -> NewJob {
    NewJob {
        tenant,
        source: Source::Path { path: "/a.mp4".into() },
        located: Some(Located { roots: vec!["media".into()], inside: "a.mp4".into() }),
        profile: Profile::Standard,
        priority: Priority::Normal,
        external_id: None,
        metadata: serde_json::Map::new(),
        max_attempts: 2,
    }
}

fn result() -> NewResult {
    NewResult { media: json!({}), ffprobe: "{}".into(), provenance: json!({}), warnings: vec![], degraded: false }
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
    assert!(
        lifecycle::claim_overdue(db, &worker(&["media"])).await.expect("asks").is_none(),
        "its ticket may still come"
    );
    shift("- interval '6 seconds'").await;
    assert!(lifecycle::claim_overdue(db, &worker(&["other"])).await.expect("asks").is_none());
    assert!(lifecycle::claim_overdue(db, &worker(&["other", "media"])).await.expect("asks").is_some());
    assert!(lifecycle::claim_overdue(db, &worker(&["media"])).await.expect("asks").is_none(), "it runs");
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
    let attempts = store::attempt::list(db, job.id).await.expect("lists");
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
        let mut tx = db.begin().await.expect("begins");
        assert!(store::job::dispatch::try_relay_turn(&mut tx).await.expect("asks"));
        seen.extend(store::job::dispatch::mark_due(&mut tx, batch).await.expect("marks"));
        tx.commit().await.expect("commits");
    }
    assert_eq!(seen, wanted);
    let mut one = db.begin().await.expect("begins");
    let mut two = db.begin().await.expect("begins");
    assert!(store::job::dispatch::try_relay_turn(&mut one).await.expect("asks"));
    assert!(!store::job::dispatch::try_relay_turn(&mut two).await.expect("asks"), "relays take turns");
}
