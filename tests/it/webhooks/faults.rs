//! Receivers that do not do what they should, and what becomes of a delivery and of its webhook then. Time is not waited for:
//! rows are shifted.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tests::receiver::Reply;

use super::{Site, a_moment, id};
use crate::remote::until;

fn seconds_until(instant: &Value) -> i64 {
    let at: DateTime<Utc> = instant.as_str().expect("an instant").parse().expect("an instant");
    (at - Utc::now()).num_seconds()
}

#[tokio::test]
async fn what_failed_is_tried_again_under_the_same_id() {
    let site = Site::new().await;
    site.receiver.script("/hook", &[Reply::status(500), Reply::Reset], Reply::status(204));
    let (hook, _) = site.hook("/hook", &["batch.completed"]).await;
    site.happen(1).await;
    let shown = site.delivery(&hook, |d| d["attempts"] == 1 && d["state"] == "pending").await;
    assert_eq!((&shown["last_status"], &shown["history"][0]["response"]), (&json!(500), &json!("answer 500")));
    assert!((0..=6).contains(&seconds_until(&shown["next_at"])), "{shown}");
    assert!(site.show(&hook).await["failing_since"].is_string());
    // the second try comes by itself, after some five seconds
    let shown = site.delivery(&hook, |d| d["attempts"] == 2 && d["state"] == "pending").await;
    assert_eq!(shown["last_status"], Value::Null, "{shown}");
    assert!((235..=361).contains(&seconds_until(&shown["next_at"])), "{shown}");
    site.now().await;
    let shown = site.delivery(&hook, |d| d["state"] == "succeeded").await;
    assert_eq!((&shown["attempts"], &shown["last_status"], &shown["next_at"]), (&json!(3), &json!(204), &Value::Null));
    assert_eq!(shown["history"].as_array().map(Vec::len), Some(3));
    assert!(site.show(&hook).await["failing_since"].is_null(), "a success makes up for it");
    let messages = site.receiver.messages("/hook");
    assert_eq!(messages.len(), 3);
    for (number, message) in (1..).zip(&messages) {
        assert_eq!(message.header("webhook-id"), messages[0].header("webhook-id"));
        assert_eq!(message.header("webhook-attempt"), number.to_string());
        assert_eq!(message.body, messages[0].body);
    }
    let stamp = |at: usize| messages[at].header("webhook-timestamp").parse::<i64>().expect("seconds");
    assert!(stamp(1) >= stamp(0) + 3, "each attempt says when it was made");
}

#[tokio::test]
async fn a_wish_to_be_left_alone_is_granted_within_bounds() {
    let site = Site::new().await;
    for (path, asked, least, most) in
        [("/soon", "120", 115, 121), ("/never", "999999999", 86_390, 86_401), ("/odd", "tomorrow", 0, 7)]
    {
        site.receiver.script(path, &[], Reply::with(429, "Retry-After", asked));
        let (hook, _) = site.hook(path, &["batch.completed"]).await;
        site.happen(1).await;
        let shown = site.delivery(&hook, |d| d["attempts"] == 1 && d["state"] == "pending").await;
        let wait = seconds_until(&shown["next_at"]);
        assert!((least..=most).contains(&wait), "{path}: {wait} s, {shown}");
        site.http.delete(&format!("/api/v1/webhooks/{hook}")).await;
    }
}

#[tokio::test]
async fn redirects_are_failures_and_lead_nowhere() {
    let site = Site::new().await;
    for status in [301, 302, 303, 307, 308] {
        let to = site.receiver.url("/elsewhere");
        let path = format!("/{status}");
        site.receiver.script(&path, &[], Reply::with(status, "Location", &to));
        let (hook, _) = site.hook(&path, &["batch.completed"]).await;
        site.happen(1).await;
        let shown = site.delivery(&hook, |d| d["attempts"] == 1 && d["state"] == "pending").await;
        assert_eq!(shown["last_status"], status);
        assert!(shown["last_error"].as_str().expect("a reason").contains("not followed"), "{shown}");
        site.http.delete(&format!("/api/v1/webhooks/{hook}")).await;
    }
    assert!(site.receiver.messages("/elsewhere").is_empty());
}

#[tokio::test]
async fn one_that_is_gone_is_disabled_at_once_and_others_are_told() {
    let site = Site::new().await;
    site.receiver.script("/gone", &[], Reply::status(410));
    let (gone, _) = site.hook("/gone", &["batch.completed"]).await;
    site.hook("/watch", &["webhook.disabled"]).await;
    site.happen(1).await;
    let told = site.messages("/watch", 1).await.remove(0).json();
    assert_eq!((&told["type"], &told["data"]["webhook"]["id"]), (&json!("webhook.disabled"), &json!(gone)));
    assert_eq!(told["data"]["webhook"]["reason"], "gone");
    let shown = site.show(&gone).await;
    assert_eq!((&shown["enabled"], &shown["disabled_reason"]), (&json!(false), &json!("gone")));
    let delivery = site.delivery(&gone, |d| d["state"] == "failed").await;
    site.happen(2).await;
    a_moment().await;
    assert_eq!(site.receiver.messages("/gone").len(), 1, "nothing is sent any more");
    let path = format!("/api/v1/webhooks/{gone}");
    let again = format!("{path}/deliveries/{}/redeliver", delivery["id"].as_str().expect("an id"));
    site.http.post(&again, &json!({})).await.problem(409, "webhook_disabled");
    site.receiver.script("/gone", &[], Reply::status(200));
    assert_eq!(site.http.patch(&path, &json!({"enabled": true})).await.status, 200);
    assert_eq!(site.http.post(&again, &json!({})).await.status, 202);
    site.delivery(&gone, |d| d["state"] == "succeeded").await;
}

#[tokio::test]
async fn days_of_failure_disable_and_the_last_try_is_the_last() {
    let site = Site::new().await;
    site.receiver.script("/dead", &[], Reply::status(503));
    let (dead, _) = site.hook("/dead", &["batch.completed"]).await;
    site.hook("/watch", &["webhook.disabled"]).await;
    site.happen(1).await;
    site.delivery(&dead, |d| d["attempts"] == 1 && d["state"] == "pending").await;
    let db = &site.installation.db;
    sqlx::query("update delivery set tries = 9").execute(db).await.expect("tries pass");
    site.now().await;
    let shown = site.delivery(&dead, |d| d["state"] == "failed").await;
    assert!(shown["ended_at"].is_string() && shown["next_at"].is_null());
    assert_eq!(site.show(&dead).await["enabled"], true, "one failed delivery disables nothing");
    let sql =
        "update webhook set failing_since = failing_since - interval '4 days 23 hours', failures = 20 where id = $1";
    sqlx::query(sql).bind(id(&dead)).execute(db).await.expect("days pass");
    site.happen(1).await;
    site.delivery(&dead, |d| d["attempts"] == 1 && d["state"] == "pending").await;
    assert_eq!(site.show(&dead).await["enabled"], true, "not a day too early");
    let sql = "update webhook set failing_since = failing_since - interval '2 hours' where id = $1";
    sqlx::query(sql).bind(id(&dead)).execute(db).await.expect("hours pass");
    site.now().await;
    let told = site.messages("/watch", 1).await.remove(0).json();
    assert_eq!(told["data"]["webhook"]["reason"], "failing");
    assert_eq!(site.show(&dead).await["disabled_reason"], "failing");
    site.delivery(&dead, |d| d["state"] == "canceled").await;
}

#[tokio::test]
async fn silence_ends_after_fifteen_seconds() {
    let site = Site::new().await;
    site.receiver.script("/hangs", &[], Reply::Silence);
    let (hangs, _) = site.hook("/hangs", &["batch.completed"]).await;
    site.happen(1).await;
    site.messages("/hangs", 1).await;
    let begun = Instant::now();
    let shown = site.delivery(&hangs, |d| d["attempts"] == 1 && d["state"] == "pending").await;
    assert!(begun.elapsed() < Duration::from_secs(25));
    assert_eq!(shown["last_error"], "no answer within 15 s");
    assert!((14_500..20_000).contains(&shown["last_latency_ms"].as_i64().expect("a latency")), "{shown}");
}

#[tokio::test]
async fn answers_without_end_cost_nothing() {
    let site = Site::new().await;
    let before = site.worker.peak_bytes();
    for (path, reply, state) in [
        ("/good", Reply::Flood(200, 1 << 30), "succeeded"),
        ("/bad", Reply::Flood(500, 1 << 30), "pending"),
        ("/drip", Reply::Drip, "succeeded"),
    ] {
        site.receiver.script(path, &[], reply);
        let (hook, _) = site.hook(path, &["batch.completed"]).await;
        site.happen(1).await;
        let shown = site.delivery(&hook, |d| d["attempts"] == 1 && d["state"] != "sending").await;
        assert_eq!(shown["state"], state, "{shown}");
        let kept = shown["history"][0]["response"].as_str().expect("a response").len();
        assert!(kept == 4_096 || path == "/drip" && kept < 100, "{path}: {kept} bytes");
        site.http.delete(&format!("/api/v1/webhooks/{hook}")).await;
    }
    let grown = site.worker.peak_bytes().saturating_sub(before);
    println!("{} bytes of 2 GiB were taken; the deliverer grew by {grown} bytes", site.receiver.flooded());
    assert!(site.receiver.flooded() < 64 << 20 && grown < 64 << 20);
}

#[tokio::test]
async fn a_target_that_fails_is_left_alone_and_then_tried_one_at_a_time() {
    let site = Site::new().await;
    site.receiver.script("/hook", &[], Reply::status(500));
    let (hook, _) = site.hook("/hook", &["batch.completed"]).await;
    site.happen(60).await;
    until("the circuit opens", async || {
        let sql = "select open_until > clock_timestamp() from webhook where id = $1 and open_until is not null";
        let open: Option<bool> =
            sqlx::query_scalar(sql).bind(id(&hook)).fetch_optional(&site.installation.db).await.expect("looks");
        open.filter(|open| *open)
    })
    .await;
    // what was on its way then has come
    a_moment().await;
    let tried = site.receiver.messages("/hook").len();
    assert!((5..=8).contains(&tried), "{tried} of 60");
    a_moment().await;
    assert_eq!(site.receiver.messages("/hook").len(), tried, "nothing comes while it is open");
    // the pause is over: one probe, and then it is closed again for longer
    let sql = "update webhook set open_until = clock_timestamp() where id = $1";
    sqlx::query(sql).bind(id(&hook)).execute(&site.installation.db).await.expect("time passes");
    site.messages("/hook", tried + 1).await;
    a_moment().await;
    assert_eq!(site.receiver.messages("/hook").len(), tried + 1);
    // it recovers, and all of it comes
    site.receiver.script("/hook", &[], Reply::status(200));
    site.now().await;
    until("all have come", async || {
        let sql = "select count(*) = 60 from delivery where state = 'succeeded'";
        let all: bool = sqlx::query_scalar(sql).fetch_one(&site.installation.db).await.expect("counts");
        all.then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_dead_deliverer_held_is_sent_by_another() {
    let mut site = Site::new().await;
    site.receiver.script("/hook", &[Reply::Silence], Reply::status(200));
    let (hook, _) = site.hook("/hook", &["batch.completed"]).await;
    site.happen(1).await;
    let first = site.messages("/hook", 1).await.remove(0);
    let open = super::opened(&site.receiver);
    let egress = open.each_ref().map(|(name, value)| (*name, value.as_str()));
    let next = site.installation.worker(&egress);
    std::mem::replace(&mut site.worker, next).kill();
    a_moment().await;
    assert_eq!(site.receiver.messages("/hook").len(), 1, "not before the hold has run out");
    let sql = "update delivery set lease_until = clock_timestamp() where state = 'sending'";
    sqlx::query(sql).execute(&site.installation.db).await.expect("time passes");
    let shown = site.delivery(&hook, |d| d["state"] == "succeeded").await;
    let second = site.messages("/hook", 2).await.remove(1);
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert!(shown["history"][0]["error"].as_str().expect("a reason").contains("fell silent"), "{shown}");
}
