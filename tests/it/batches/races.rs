//! What two transactions may do to a batch at the same time: each is stopped where it hurts, and the other one let through.

use std::time::Duration;

use serde_json::json;
use shared::id::{JobId, TenantId};
use shared::lifecycle;
use shared::store::Pool;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tests::{Http, Installation, Program};

use super::{ends, line, send};

/// Stops every transaction that changes a row of a table before it commits, until the gate is opened.
const GATE: &str = "create function wait_at_gate() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock_shared(42); return null; end $$;
    create constraint trigger gate after update on TABLE deferrable initially deferred
        for each row execute function wait_at_gate()";

/// A batch of one job that has failed, and whose end nobody has published.
struct Scene {
    installation: Installation,
    http: Http,
    _api: Program,
    /// Waits for locks as long as it takes: a stage is no service.
    db: Pool,
    gate: PgConnection,
    batch: String,
    job: JobId,
    tenant: TenantId,
}

impl Scene {
    async fn new(table: &str) -> Self {
        let installation = Installation::new().await;
        let (api, http) = installation.api(&[]);
        let batch = send(&http, super::LINES, line("/a.wav", &json!({}))).await.json;
        let batch = batch["id"].as_str().expect("an id").to_owned();
        let db = PgPoolOptions::new().max_connections(5).connect(&installation.owner_url()).await.expect("connects");
        let fail = "update job set state = 'failed', finished_at = clock_timestamp(), failure = '{\"class\": \"transient\",
            \"code\": \"storage_error\", \"message\": \"x\", \"hint\": \"x\", \"retryable\": true}' returning id, tenant_id";
        let (job, tenant) = sqlx::query_as(fail).fetch_one(&db).await.expect("fails");
        sqlx::raw_sql(AssertSqlSafe(GATE.replace("TABLE", table))).execute(&db).await.expect("a gate");
        let mut gate = PgConnection::connect(&installation.owner_url()).await.expect("connects");
        sqlx::query("select pg_advisory_lock(42)").execute(&mut gate).await.expect("closes");
        Self { installation, http, _api: api, db, gate, batch, job, tenant }
    }

    async fn open_gate(&mut self) {
        sqlx::query("select pg_advisory_unlock(42)").execute(&mut self.gate).await.expect("opens");
    }

    /// Waits until so many wait for a lock in this database.
    async fn wait_for(&self, least: i64) {
        while waiting(&self.installation.db).await < least {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn state(&self) -> String {
        let batch = self.http.get(&format!("/api/v1/batches/{}", self.batch)).await.json;
        batch["state"].as_str().expect("a state").to_owned()
    }
}

/// How many wait for a lock in this database.
async fn waiting(db: &Pool) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    sqlx::query_scalar(sql).fetch_one(db).await.expect("looks")
}

#[tokio::test]
async fn a_batch_does_not_end_while_its_last_job_is_queued_again() {
    let mut scene = Scene::new("job").await;
    let (db, tenant, job) = (scene.db.clone(), scene.tenant, scene.job);
    let retry = tokio::spawn(async move { lifecycle::retry(&db, tenant, job, 3).await });
    scene.wait_for(1).await;
    // the publisher still sees a failed job
    assert!(lifecycle::publish(&scene.db).await.expect("publishes").count > 0);
    scene.open_gate().await;
    retry.await.expect("no panic").expect("queued again");
    assert_eq!(scene.state().await, "running");
    lifecycle::publish(&scene.db).await.expect("publishes");
    assert!(ends(&scene.installation).await.is_empty(), "there was no end");
}

#[tokio::test]
async fn a_job_that_is_queued_again_while_its_batch_ends_opens_it() {
    let mut scene = Scene::new("batch").await;
    let db = scene.db.clone();
    let publish = tokio::spawn(async move { lifecycle::publish(&db).await });
    scene.wait_for(1).await;
    let (db, tenant, job) = (scene.db.clone(), scene.tenant, scene.job);
    let retry = tokio::spawn(async move { lifecycle::retry(&db, tenant, job, 3).await });
    // it waits for the publisher, which has not committed; one that did not wait would be through
    while !retry.is_finished() {
        tokio::select! {
            () = scene.wait_for(2) => break,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    scene.open_gate().await;
    assert!(publish.await.expect("no panic").expect("publishes").more, "the end of the batch is still to be told");
    retry.await.expect("no panic").expect("queued again");
    assert_eq!(scene.state().await, "running");
    lifecycle::publish(&scene.db).await.expect("publishes");
    assert_eq!(ends(&scene.installation).await.len(), 1, "it had ended");
}

#[tokio::test]
async fn what_somebody_is_busy_with_is_canceled_too() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let batch = send(&http, super::LINES, super::lines(5)).await.json;
    let path = format!("/api/v1/batches/{}", batch["id"].as_str().expect("an id"));
    // as the relay does when it makes tickets, and a worker that takes a job
    let mut busy = installation.db.begin().await.expect("begins");
    sqlx::query("select from job where batch_number <= 4 for update").execute(&mut *busy).await.expect("locks");
    let claim = "update job set state = 'running', attempt = 1, started_at = clock_timestamp(), lease_token = gen_random_uuid(),
        worker_id = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 minute', run_at = clock_timestamp()
        where batch_number = 4";
    sqlx::query(claim).execute(&mut *busy).await.expect("claims");
    let cancel = tokio::spawn({
        let (http, path) = (http.clone(), format!("{path}/cancel"));
        async move { http.post(&path, &json!({})).await }
    });
    while !cancel.is_finished() && waiting(&installation.db).await < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    busy.commit().await.expect("commits");
    let answer = cancel.await.expect("no panic");
    assert_eq!(answer.json, json!({"canceled": 4, "requested": 1}), "{}", answer.text);
    let counts = http.get(&path).await.json["counts"].clone();
    assert_eq!((&counts["canceled"], &counts["running"]), (&json!(4), &json!(1)));
}
