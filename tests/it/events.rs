//! Events: every change of a job writes its own, with the change or not at all; they are published in one order that nobody
//! who reads by it can miss a part of.

use serde_json::{Value, json};
use shared::id::{JobId, TenantId};
use shared::lifecycle;
use shared::store;
use shared::store::event::Of;
use tests::{Installation, samples};

use crate::recovery::until;

/// The published events after `sequence`, as JSON.
async fn after(installation: &Installation, of: Of, sequence: i64) -> Vec<Value> {
    let mut connection = installation.db.acquire().await.expect("a connection");
    let page = store::event::list_after(&mut connection, of, &[], sequence, 100).await.expect("lists");
    page.events.iter().map(|event| serde_json::to_value(event).expect("JSON")).collect()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

#[tokio::test]
async fn a_jobs_life_is_told_in_order() {
    let (installation, http, _programs) = Installation::running().await;
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let body = json!({"source": {"type": "path", "path": file}, "external_id": "mine", "metadata": {"a": 1}});
    let job = http.post("/api/v1/jobs", &body).await;
    let id: JobId = job.json["id"].as_str().expect("an id").parse().expect("an id");
    http.wait(&id.to_string()).await;
    let of = Of::Job(id);
    until("the end is published", async || after(&installation, of, 0).await.len() == 3).await;
    let events = after(&installation, of, 0).await;
    assert_eq!(types(&events), ["job.queued", "job.started", "job.succeeded"]);
    let states: Vec<&Value> = events.iter().map(|event| &event["data"]["job"]["state"]).collect();
    assert_eq!(states, ["queued", "running", "succeeded"], "each as it was then");
    let last = &events[2];
    assert_eq!(last["data"]["job"]["external_id"], "mine");
    assert_eq!(last["data"]["job"]["metadata"], json!({"a": 1}));
    assert!(last["data"]["job"]["finished_at"].is_string() && events[1]["data"]["job"]["finished_at"].is_null());
    let sequences: Vec<i64> = events.iter().filter_map(|event| event["sequence"].as_i64()).collect();
    assert!(sequences.is_sorted() && sequences.len() == 3, "{sequences:?}");
}

#[tokio::test]
async fn a_failed_try_and_a_wish_to_cancel_are_told() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let body = json!({"source": {"type": "path", "path": "/nowhere.wav"}});
    let job = http.post("/api/v1/jobs", &body).await;
    let id: JobId = job.json["id"].as_str().expect("an id").parse().expect("an id");
    http.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).await;
    http.post(&format!("/api/v1/jobs/{id}/retry"), &json!({})).await;
    let _worker = installation.worker(&[]);
    http.wait(&id.to_string()).await;
    let of = Of::Job(id);
    until("the end is published", async || {
        after(&installation, of, 0).await.last().is_some_and(|event| event["type"] == "job.failed")
    })
    .await;
    let events = after(&installation, of, 0).await;
    assert_eq!(types(&events), ["job.queued", "job.canceled", "job.queued", "job.started", "job.failed"]);
    assert_eq!(events[1]["data"]["job"]["failure"]["code"], "canceled");
    assert_eq!(events[4]["data"]["job"]["failure"]["code"], "input_not_found");
}

#[tokio::test]
async fn a_change_that_is_rolled_back_tells_nobody() {
    let (installation, tenant, id) = queued().await;
    let mut tx = installation.db.begin().await.expect("begins");
    let sql = "update job set state = 'canceled', finished_at = clock_timestamp() where id = $1";
    sqlx::query(sql).bind(id).execute(&mut *tx).await.expect("changes");
    tx.rollback().await.expect("rolls back");
    lifecycle::publish(&installation.db).await.expect("publishes");
    assert_eq!(types(&after(&installation, Of::Tenant(tenant), 0).await), ["job.queued"]);
}

#[tokio::test]
async fn what_commits_late_is_missed_by_nobody() {
    let (installation, tenant, id) = queued().await;
    lifecycle::publish(&installation.db).await.expect("publishes");
    // written first, in force last
    let mut late = installation.db.begin().await.expect("begins");
    let sql = "update job set state = 'canceled', finished_at = clock_timestamp() where id = $1";
    sqlx::query(sql).bind(id).execute(&mut *late).await.expect("changes");
    let ping = json!({});
    store::event::insert(&installation.db, tenant, shared::event::EventType::Ping, &ping).await.expect("inserts");
    assert_eq!(lifecycle::publish(&installation.db).await.expect("publishes").count, 1);
    let seen = after(&installation, Of::Tenant(tenant), 0).await;
    assert_eq!(types(&seen), ["job.queued", "ping"]);
    late.commit().await.expect("commits");
    assert_eq!(lifecycle::publish(&installation.db).await.expect("publishes").count, 1);
    let rest = after(&installation, Of::All, seen[1]["sequence"].as_i64().expect("a place")).await;
    assert_eq!(types(&rest), ["job.canceled"], "its place comes after what was published before");
    assert_eq!(rest[0]["sequence"], json!(3), "and the places have no gap");
}

#[tokio::test]
async fn publishers_take_turns_and_nobody_waits() {
    let (installation, tenant, _) = queued().await;
    let mut turn = installation.db.begin().await.expect("begins");
    assert_eq!(store::event::take_turn(&mut turn).await.expect("looks"), Some(0));
    assert_eq!(store::event::number(&mut turn, 0, 10).await.expect("numbers").last, 1);
    assert_eq!(lifecycle::publish(&installation.db).await.expect("publishes").count, 0, "another has the turn");
    assert!(after(&installation, Of::Tenant(tenant), 0).await.is_empty(), "not before it is in force");
    turn.rollback().await.expect("rolls back");
    assert_eq!(lifecycle::publish(&installation.db).await.expect("publishes").count, 1, "and nothing is lost");
    assert_eq!(after(&installation, Of::Tenant(tenant), 0).await[0]["sequence"], json!(1));
}

#[tokio::test]
async fn old_events_are_forgotten_and_their_places_never_come_back() {
    let (installation, tenant, _) = queued().await;
    lifecycle::publish(&installation.db).await.expect("publishes");
    let db = &installation.db;
    let day = std::time::Duration::from_secs(24 * 3600);
    assert_eq!(store::event::prune(db, day, 10).await.expect("prunes"), 0);
    sqlx::query("update event set occurred_at = occurred_at - interval '2 days'").execute(db).await.expect("ages");
    store::event::insert(db, tenant, shared::event::EventType::Ping, &json!({})).await.expect("inserts");
    assert_eq!(store::event::prune(db, day, 10).await.expect("prunes"), 1);
    assert_eq!(store::event::known(db).await.expect("looks").oldest, 1);
    lifecycle::publish(db).await.expect("publishes");
    assert_eq!(after(&installation, Of::All, 0).await[0]["sequence"], json!(2));
}

#[tokio::test]
async fn an_event_that_is_erased_while_it_is_published_takes_no_other_along() {
    let (installation, tenant, id) = queued().await;
    let everything = shared::event::EventType::ALL.map(|kind| kind.as_str());
    let webhook = "insert into webhook (id, tenant_id, kind, url, sealed, events)
        values (gen_random_uuid(), $1, 'endpoint', 'x', 'x', $2)";
    sqlx::query(webhook).bind(tenant).bind(everything).execute(&installation.db).await.expect("a webhook");
    for _ in 0..3 {
        let kind = shared::event::EventType::UploadCompleted;
        store::event::insert(&installation.db, tenant, kind, &json!({"upload": {}})).await.expect("inserts");
    }
    let told = async || -> i64 {
        let sql = "select count(*) from delivery";
        sqlx::query_scalar(sql).fetch_one(&installation.db).await.expect("counts")
    };
    let mut erased = installation.db.begin().await.expect("begins");
    sqlx::query("delete from job where id = $1").bind(id).execute(&mut *erased).await.expect("erases");
    // nobody waits for who erases
    assert_eq!(lifecycle::publish(&installation.db).await.expect("publishes").count, 3);
    assert_eq!(told().await, 3, "each of the others is told");
    erased.commit().await.expect("commits");
    assert_eq!(lifecycle::publish(&installation.db).await.expect("publishes").count, 0);
    assert_eq!(store::event::last_sequence(&installation.db).await.expect("looks"), 3);
}

#[tokio::test]
async fn what_cannot_be_read_or_was_erased_hides_nothing_behind_it() {
    let (installation, tenant, id) = queued().await;
    let db = &installation.db;
    for state in ["canceled", "queued", "canceled"] {
        let sql = "update job set state = $2, finished_at = case when $2 = 'canceled' then clock_timestamp() end where id = $1";
        sqlx::query(sql).bind(id).bind(state).execute(db).await.expect("moves");
    }
    lifecycle::publish(db).await.expect("publishes");
    // a newer worker knows a failure that this build does not
    let sql = "update event set data = jsonb_set(data, '{failure}', '{\"code\": \"of_tomorrow\"}') where sequence = 2";
    sqlx::query(sql).execute(db).await.expect("changes");
    // erased between the two looks, as it were: the events are there and the job is not
    let sql = "insert into event (tenant_id, type, job_id, data, sequence)
        select $1, 'job.queued', gen_random_uuid(), '{}', n from generate_series(5, 6) n";
    installation.fill(sqlx::query(sql).bind(tenant)).await;
    let mut connection = db.acquire().await.expect("a connection");
    let mut pages = Vec::new();
    for after in [0, 4, 6] {
        let page = store::event::list_after(&mut connection, Of::Tenant(tenant), &[], after, 4).await.expect("lists");
        pages.push((page.events.iter().map(|event| event.sequence).collect::<Vec<_>>(), page.to, page.is_full));
    }
    assert_eq!(pages, [(vec![1, 3, 4], 4, true), (vec![], 6, false), (vec![], 6, false)]);
    // nor does a job that cannot be read
    let page = store::event::list_after(&mut connection, Of::Tenant(tenant), &[], 2, 3).await.expect("lists");
    assert_eq!((page.events.len(), page.to, page.is_full), (2, 5, true), "full though one of three is gone");
    sqlx::query("update job set failure = '{\"code\": \"of_tomorrow\"}'").execute(db).await.expect("changes");
    store::event::insert(db, tenant, shared::event::EventType::Ping, &json!({})).await.expect("inserts");
    sqlx::query("update event set sequence = 7 where sequence is null").execute(db).await.expect("publishes");
    let page = store::event::list_after(&mut connection, Of::Tenant(tenant), &[], 0, 100).await.expect("lists");
    assert_eq!((page.events.len(), page.to), (1, 7), "only the ping");
}

/// A queued job in an installation without workers.
async fn queued() -> (Installation, TenantId, JobId) {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let job = http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": "/a.wav"}})).await;
    let id = job.json["id"].as_str().expect("an id").parse().expect("an id");
    let sql = "select tenant_id from job where id = $1";
    let tenant = sqlx::query_scalar(sql).bind(id).fetch_one(&installation.db).await.expect("a tenant");
    (installation, tenant, id)
}
