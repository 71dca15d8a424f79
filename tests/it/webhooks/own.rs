//! Faults of the service itself: they cost an endpoint nothing, and what they held up is sent once they are gone.

use serde_json::{Value, json};
use shared::event::EventType;
use shared::{lifecycle, store};
use sqlx::PgPool;

use super::{Site, id, opened, shift};
use crate::remote::until;

/// What a delivery looks like of which nothing was sent.
fn uncharged(shown: &Value) -> bool {
    shown["state"] == "pending" && shown["attempts"] == 0 && shown["last_error"].is_string()
}

#[tokio::test]
async fn a_worker_without_the_key_charges_no_endpoint() {
    let other = "other:ISEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    let mut site = Site::with(&[("ENCRYPTION_KEYS", other)]).await;
    let (hook, _) = site.hook("/hook", &["batch.completed"]).await;
    // it would have been disabled for one failure more
    shift(&site, "update webhook set failing_since = clock_timestamp() - interval '6 days', failures = 100").await;
    site.happen(8).await;
    until("all were given back", async || {
        let sql = "select count(*) = 8 from delivery where state = 'pending' and attempts = 0 and tries = 0
            and next_at > clock_timestamp() + interval '1 minute'";
        let all: bool = sqlx::query_scalar(sql).fetch_one(&site.installation.db).await.expect("counts");
        all.then_some(())
    })
    .await;
    let shown = site.delivery(&hook, uncharged).await;
    assert!(shown["last_error"].as_str().is_some_and(|e| e.contains("the service")), "{shown}");
    assert_eq!(shown["history"], json!([]), "{shown}");
    assert_eq!(site.show(&hook).await["enabled"], true);
    let lines = site.worker.log().lines().filter(|line| line.contains("cannot send to webhooks")).count();
    assert_eq!(lines, 1, "and it is said once");
    let open = opened(&site.receiver);
    let next = site.installation.worker(&open.each_ref().map(|(name, value)| (*name, value.as_str())));
    std::mem::replace(&mut site.worker, next).stop();
    site.now().await;
    for message in site.messages("/hook", 8).await {
        assert_eq!(message.header("webhook-attempt"), "1");
    }
    let sql = "select failures from webhook where id = $1";
    until("the last one has ended", async || {
        let failures: i32 = sqlx::query_scalar(sql).bind(id(&hook)).fetch_one(&site.installation.db).await.ok()?;
        (failures == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_costs_no_try() {
    let site = Site::new().await;
    let (hook, _) = site.hook("/hook", &["batch.completed"]).await;
    let db = &site.installation.db;
    store::event::insert(db, site.tenant, EventType::BatchCompleted, &json!([])).await.expect("inserts");
    site.delivery(&hook, uncharged).await;
    assert!(site.show(&hook).await["failing_since"].is_null());
    shift(&site, "update event set data = '{\"batch\": {}}'").await;
    let message = site.messages("/hook", 1).await.remove(0);
    assert_eq!(message.header("webhook-attempt"), "1");
}

/// Reading events takes so long that with the claim most of the hold is gone: an attempt could outlive it, and somebody else
/// would send the same beside it.
#[tokio::test]
async fn what_is_not_ready_in_time_is_not_sent() {
    let mut site = Site::with(&[("WORKER_ROLES", "probe")]).await;
    let (hook, _) = site.hook("/hook", &["batch.completed"]).await;
    site.happen(1).await;
    lifecycle::publish(&site.installation.db).await.expect("publishes");
    let owner = PgPool::connect(&site.installation.owner_url()).await.expect("connects");
    let slow = "create policy slow on event using ((select true from pg_sleep(4.3)));
        alter table event enable row level security";
    sqlx::raw_sql(slow).execute(&owner).await.expect("events are slow");
    let open = opened(&site.receiver);
    let egress = open.each_ref().map(|(name, value)| (*name, value.as_str()));
    let next = site.installation.worker(&[&egress[..], &[("WORKER_ROLES", "deliver")]].concat());
    std::mem::replace(&mut site.worker, next).stop();
    let sql = "select last_error from delivery where state = 'pending' and attempts = 0 and last_error is not null";
    let reason = until("it is given back", async || {
        sqlx::query_scalar::<_, String>(sql).fetch_optional(&owner).await.expect("looks")
    })
    .await;
    assert!(reason.contains("in time"), "{reason}");
    assert_eq!(site.receiver.count(), 0);
    sqlx::raw_sql("alter table event disable row level security").execute(&owner).await.expect("events are quick");
    let message = site.messages("/hook", 1).await.remove(0);
    assert_eq!(message.header("webhook-attempt"), "1");
    site.delivery(&hook, |d| d["state"] == "succeeded").await;
}

#[tokio::test]
async fn the_end_of_a_batch_that_was_erased_is_told_to_nobody() {
    let site = Site::new().await;
    let db = &site.installation.db;
    let mut connection = db.acquire().await.expect("connects");
    let target = store::webhook::target(&mut connection, site.tenant, "https://example.com").await.expect("a target");
    site.happen(1).await;
    lifecycle::publish(db).await.expect("publishes");
    let sql = "insert into delivery (event_number, webhook_id) select number, $1 from event";
    sqlx::query(sql).bind(target).execute(db).await.expect("inserts");
    let shown = site.delivery(&target.to_string(), |d| d["state"] != "pending" && d["state"] != "sending").await;
    assert_eq!((&shown["state"], &shown["attempts"]), (&json!("canceled"), &json!(0)), "{shown}");
    assert!(site.show(&target.to_string()).await["failing_since"].is_null());
}
