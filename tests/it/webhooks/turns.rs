//! Whose turn it is: what is claimed, for whom and how much, who may end it, and what comes to an end. Without a deliverer: the
//! test claims itself, so that every moment is its own.

use std::time::Duration;

use serde_json::json;
use shared::delivery::{self, Ended, Outcome, Unsent};
use shared::event::EventType;
use shared::id::{TenantId, WebhookId};
use shared::store::delivery::turn::{Attempted, Claimed, Room};
use shared::{lifecycle, store};
use tests::{Http, Installation, Program};

use super::{hook, id, tenant};

/// An installation without workers.
struct Stage {
    installation: Installation,
    http: Http,
    tenant: TenantId,
    _api: Program,
}

impl Stage {
    async fn new() -> Self {
        let installation = Installation::new().await;
        let (api, http) = installation.api(&[]);
        let tenant = tenant(&installation, &http).await;
        Self { installation, http, tenant, _api: api }
    }

    async fn hook(&self) -> WebhookId {
        id(&hook(&self.http, "https://example.com/hook", &["batch.completed"]).await.0)
    }

    async fn happen(&self, count: usize) {
        let db = &self.installation.db;
        for _ in 0..count {
            let data = json!({"batch": {}});
            store::event::insert(db, self.tenant, EventType::BatchCompleted, &data).await.expect("inserts");
        }
        lifecycle::publish(db).await.expect("publishes");
    }

    async fn claim(&self, slots: i64) -> Vec<Claimed> {
        self.claim_from(None, slots).await.claimed
    }

    async fn claim_from(&self, place: Option<WebhookId>, slots: i64) -> delivery::Found {
        self.claim_beside(place, slots, 0).await
    }

    /// While so many of the tenant run already, of a hundred.
    async fn claim_beside(&self, place: Option<WebhookId>, slots: i64, running: i64) -> delivery::Found {
        let lease = Duration::from_secs(30);
        let room = Room { slots, per_tenant: 100, running: vec![(self.tenant, running)], per_target: 4, lease };
        delivery::claim(&self.installation.db, place, &room).await.expect("claims")
    }

    async fn end(&self, claimed: &Claimed, status: i16) -> Outcome {
        self.end_asking(claimed, status, None).await
    }

    async fn end_asking(&self, claimed: &Claimed, status: i16, retry_after: Option<Duration>) -> Outcome {
        let error = (status >= 300).then(|| "no".to_owned());
        let attempted =
            Attempted { status: Some(status), error, latency: Duration::from_millis(5), response: Some(String::new()) };
        let ended = Ended { attempted, retry_after };
        delivery::end(&self.installation.db, claimed, &ended, 0.5).await.expect("ends")
    }

    async fn states(&self) -> Vec<(String, i64)> {
        let sql = "select state, count(*) from delivery group by state order by state";
        sqlx::query_as(sql).fetch_all(&self.installation.db).await.expect("counts")
    }

    async fn shift(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.installation.db).await.expect("time passes");
    }
}

const OVER: &str = "update delivery set lease_until = clock_timestamp() - interval '1 second' where state = 'sending'";
const DUE: &str = "update delivery set next_at = clock_timestamp() where state = 'pending'";

#[tokio::test]
async fn four_are_on_their_way_and_one_after_a_failure() {
    let stage = Stage::new().await;
    stage.hook().await;
    stage.happen(10).await;
    let first = stage.claim(100).await;
    assert_eq!(first.len(), 4);
    assert!(stage.claim(100).await.is_empty(), "whoever claims");
    assert_eq!(stage.end(&first[0], 200).await, Outcome::Succeeded);
    let next = stage.claim(100).await;
    assert_eq!(next.len(), 1, "one has ended, one follows");
    assert_eq!(stage.end(&next[0], 500).await, Outcome::Again);
    for claimed in &first[1..] {
        assert!(stage.claim(100).await.is_empty(), "it failed last: one at a time");
        assert_eq!(stage.end(claimed, 500).await, Outcome::Again);
    }
    let probe = stage.claim(100).await;
    assert_eq!(probe.len(), 1);
    assert!(stage.claim(100).await.is_empty());
    assert_eq!(stage.end(&probe[0], 200).await, Outcome::Succeeded);
    assert_eq!(stage.claim(100).await.len(), 4, "a success makes up for it");
}

#[tokio::test]
async fn claims_at_the_same_time_are_counted_one_after_the_other() {
    let stage = Stage::new().await;
    stage.hook().await;
    stage.happen(40).await;
    let claims = futures::future::join_all((0..8).map(|_| stage.claim(10))).await;
    assert_eq!(claims.iter().map(Vec::len).sum::<usize>(), 4);
}

#[tokio::test]
async fn an_end_that_comes_late_changes_nothing() {
    let stage = Stage::new().await;
    stage.hook().await;
    stage.happen(1).await;
    let late = stage.claim(1).await.remove(0);
    stage.shift(OVER).await;
    assert_eq!(delivery::tidy(&stage.installation.db).await.expect("tidies"), 1);
    assert_eq!(stage.end(&late, 200).await, Outcome::Lost, "nobody has it");
    stage.shift(DUE).await;
    let again = stage.claim(1).await.remove(0);
    assert_eq!((again.id, again.attempts), (late.id, 2));
    assert_eq!(stage.end(&late, 410).await, Outcome::Lost, "somebody else has it");
    assert_eq!(stage.states().await, [("sending".to_owned(), 1)]);
    assert_eq!(stage.end(&again, 200).await, Outcome::Succeeded);
    assert_eq!(stage.end(&again, 500).await, Outcome::Lost, "it has ended");
    assert_eq!(stage.states().await, [("succeeded".to_owned(), 1)]);
}

#[tokio::test]
async fn each_target_gets_one_before_any_gets_two() {
    let stage = Stage::new().await;
    let hooks = [stage.hook().await, stage.hook().await, stage.hook().await];
    stage.happen(5).await;
    let mut place = None;
    let mut turns = Vec::new();
    for _ in 0..3 {
        let found = stage.claim_from(place, 1).await;
        turns.push(found.claimed[0].webhook);
        place = found.place;
    }
    turns.sort();
    assert_eq!(turns, hooks, "one slot goes around");
    let mut three: Vec<WebhookId> = stage.claim(3).await.iter().map(|claimed| claimed.webhook).collect();
    three.sort();
    assert_eq!(three, hooks);
    assert!(stage.claim_beside(None, 10, 100).await.claimed.is_empty(), "a tenant that has enough waits");
    assert_eq!(stage.claim_beside(None, 10, 98).await.claimed.len(), 2, "and gets no more than what it may have");
}

#[tokio::test]
async fn what_kills_deliverers_comes_to_an_end() {
    let stage = Stage::new().await;
    stage.hook().await;
    stage.happen(1).await;
    for number in 1..=10 {
        assert_eq!(stage.claim(1).await.len(), 1, "try {number}");
        stage.shift(OVER).await;
        delivery::tidy(&stage.installation.db).await.expect("tidies");
        assert!(stage.claim(1).await.is_empty(), "not at once, so that it kills none of the others");
        stage.shift(DUE).await;
    }
    assert!(stage.claim(1).await.is_empty());
    assert_eq!(stage.states().await, [("failed".to_owned(), 1)]);
}

#[tokio::test]
async fn what_was_not_sent_is_given_back_as_if_nobody_had_claimed_it() {
    let stage = Stage::new().await;
    stage.hook().await;
    stage.happen(1).await;
    let db = &stage.installation.db;
    for _ in 0..12 {
        let claimed = stage.claim(1).await.remove(0);
        assert_eq!((claimed.attempts, claimed.tries), (1, 1));
        let fault = Unsent::Fault("ours", Duration::from_secs(60));
        assert_eq!(delivery::give_back(db, &claimed, fault).await.expect("gives back"), Outcome::Unsent);
        assert_eq!(delivery::give_back(db, &claimed, fault).await.expect("gives back"), Outcome::Lost, "not twice");
        assert!(stage.claim(1).await.is_empty(), "not at once");
        stage.shift(DUE).await;
    }
    let failures: i32 = sqlx::query_scalar("select failures from webhook").fetch_one(db).await.expect("counts");
    assert_eq!(failures, 0);
    let claimed = stage.claim(1).await.remove(0);
    assert_eq!(delivery::give_back(db, &claimed, Unsent::Void).await.expect("gives back"), Outcome::Canceled);
    assert_eq!(stage.states().await, [("canceled".to_owned(), 1)]);
}

#[tokio::test]
async fn what_the_address_before_answers_is_nothing_against_the_new_one() {
    let stage = Stage::new().await;
    let path = format!("/api/v1/webhooks/{}", stage.hook().await);
    stage.happen(3).await;
    let claimed = stage.claim(3).await;
    let moved = stage.http.patch(&path, &json!({"url": "https://example.com/new"})).await;
    assert_eq!(moved.status, 200, "{}", moved.text);
    assert_eq!(stage.end(&claimed[0], 410).await, Outcome::Unsent);
    assert_eq!(stage.end(&claimed[1], 200).await, Outcome::Succeeded, "whoever took it has it");
    let again = stage.claim(1).await.remove(0);
    assert_eq!((again.id, again.attempts), (claimed[0].id, 1), "it goes to the new one at once");
    assert_eq!(stage.http.patch(&path, &json!({"enabled": true})).await.status, 200);
    assert_eq!(stage.end(&claimed[2], 500).await, Outcome::Unsent);
    let shown = stage.http.get(&path).await.json;
    assert_eq!((&shown["enabled"], &shown["failing_since"]), (&json!(true), &json!(null)), "{shown}");
    assert_eq!(stage.http.patch(&path, &json!({"description": "the same place"})).await.status, 200);
    let last = stage.claim(1).await.remove(0);
    assert_eq!(stage.end(&last, 410).await, Outcome::Disabled);
}

#[tokio::test]
async fn a_pause_that_was_asked_for_is_kept() {
    let stage = Stage::new().await;
    stage.hook().await;
    stage.happen(8).await;
    let claimed = stage.claim(4).await;
    assert_eq!(stage.end_asking(&claimed[0], 429, Some(Duration::from_secs(120))).await, Outcome::Again);
    stage.shift("update webhook set failures = 7").await;
    assert_eq!(stage.end_asking(&claimed[1], 503, Some(Duration::from_secs(1))).await, Outcome::Again);
    assert_eq!(stage.end(&claimed[2], 500).await, Outcome::Again);
    assert_eq!(stage.end(&claimed[3], 200).await, Outcome::Succeeded);
    assert!(stage.claim(8).await.is_empty());
    let sql = "select asked_until > clock_timestamp() + interval '100 seconds' and failures = 0 from webhook";
    let kept: bool = sqlx::query_scalar(sql).fetch_one(&stage.installation.db).await.expect("looks");
    assert!(kept, "neither a success nor a later failure ends it");
    stage.shift("update webhook set asked_until = clock_timestamp()").await;
    assert_eq!(stage.claim(8).await.len(), 4);
}

#[tokio::test]
async fn only_failures_that_go_on_disable() {
    let stage = Stage::new().await;
    let path = format!("/api/v1/webhooks/{}", stage.hook().await);
    stage.happen(1).await;
    for (failed, failures, outcome) in [
        // nothing came for days: the failure of today is the first
        ("31 hours", 99, Outcome::Again),
        // days of failure, but only a few
        ("1 hour", 8, Outcome::Again),
        ("29 hours", 9, Outcome::Disabled),
    ] {
        let sql = "update webhook set failing_since = clock_timestamp() - interval '6 days', failures = $1,
            failed_at = clock_timestamp() - $2::text::interval, open_until = null";
        sqlx::query(sql).bind(failures).bind(failed).execute(&stage.installation.db).await.expect("time passes");
        stage.shift(DUE).await;
        let claimed = stage.claim(1).await.remove(0);
        assert_eq!(stage.end(&claimed, 502).await, outcome, "{failed}, {failures}");
        let sql = "select failing_since > clock_timestamp() - interval '1 hour' from webhook";
        let anew: bool = sqlx::query_scalar(sql).fetch_one(&stage.installation.db).await.expect("looks");
        assert_eq!(anew, failed == "31 hours", "the row of failures begins anew");
    }
    assert_eq!(stage.http.get(&path).await.json["disabled_reason"], "failing");
}

#[tokio::test]
async fn deliveries_are_forgotten_before_their_events() {
    let stage = Stage::new().await;
    stage.hook().await;
    stage.happen(3).await;
    let (db, day) = (&stage.installation.db, Duration::from_secs(24 * 3600));
    assert_eq!(store::delivery::prune(db, day, 10).await.expect("prunes"), 0);
    stage.shift("update event set occurred_at = occurred_at - interval '2 days' where sequence < 3").await;
    assert_eq!(store::delivery::prune(db, day, 10).await.expect("prunes"), 2);
    assert_eq!(stage.states().await, [("pending".to_owned(), 1)]);
}

#[tokio::test]
async fn targets_of_jobs_live_as_long_as_a_job_names_them() {
    let stage = Stage::new().await;
    stage.http.post("/api/v1/webhooks/default-secret", &json!({})).await;
    let body = json!({"source": {"type": "path", "path": "/a.wav"}, "webhook": {"url": "https://example.com/a"}});
    let job = stage.http.post("/api/v1/jobs", &body).await;
    assert_eq!(job.status, 202, "{}", job.text);
    stage.shift("update webhook set updated_at = updated_at - interval '2 hours'").await;
    let (db, count) = (&stage.installation.db, "select count(*) from webhook");
    delivery::prune(db).await.expect("prunes");
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(db).await.expect("counts"), 1);
    // it is looked at again in an hour, and is not in the way of others meanwhile
    assert_eq!(store::webhook::prune_targets(db, 1).await.expect("prunes"), 0);
    stage.shift("update webhook set updated_at = updated_at - interval '2 hours'").await;
    stage
        .shift(
            "insert into webhook (id, tenant_id, kind, url, updated_at) select gen_random_uuid(), tenant_id, 'job',
        'https://example.net', updated_at + interval '1 minute' from webhook",
        )
        .await;
    for _ in 0..2 {
        assert_eq!(store::webhook::prune_targets(db, 1).await.expect("prunes"), 1, "one is looked at");
    }
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(db).await.expect("counts"), 1, "the idle one went");
    stage.shift("update webhook set updated_at = updated_at - interval '2 hours'").await;
    stage.http.delete(&format!("/api/v1/jobs/{}", job.json["id"].as_str().expect("an id"))).await;
    delivery::prune(db).await.expect("prunes");
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(db).await.expect("counts"), 0);
}
