//! One endpoint that hangs among fifty: what it costs the others. Both are measured in the same run, round by round.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;
use shared::event::EventType;
use shared::store;
use tests::receiver::Reply;

use super::Site;
use crate::remote::until;

/// Endpoints, the one that may hang included.
const ENDPOINTS: usize = 50;
/// Events of one measurement, and how far apart they happen.
const EVENTS: usize = 40;
const APART: Duration = Duration::from_millis(250);
/// Pairs of measurements that are made before it is said that there is a difference.
const ROUNDS: usize = 5;
/// What the 99th percentile may grow by.
const TOLERANCE: f64 = 1.2;

/// The 99th percentile of the time from an event to its arrival at the endpoints that do not hang.
async fn p99(site: &Site) -> Duration {
    let mut happened = HashMap::new();
    for number in 0..EVENTS {
        let data = json!({"batch": {"number": number}});
        let begun = Instant::now();
        let db = &site.installation.db;
        let id = store::event::insert(db, site.tenant, EventType::BatchCompleted, &data).await.expect("inserts");
        happened.insert(id.to_string(), begun);
        // as whoever changes something does
        tokio::time::sleep(APART).await;
    }
    let mut times: Vec<Duration> = until("all have come", async || {
        let log = site.receiver.log();
        let came = log.iter().filter(|(path, ..)| path != "/one");
        let times: Vec<Duration> = came.filter_map(|(_, id, at)| Some(*at - *happened.get(id)?)).collect();
        (times.len() >= EVENTS * (ENDPOINTS - 1)).then_some(times)
    })
    .await;
    times.sort();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_costs_the_others_nothing() {
    let site = Site::with(&[("WORKER_ROLES", "deliver"), ("LOG_LEVEL", "info")]).await;
    let paths = (1..ENDPOINTS).map(|number| format!("/{number}")).chain(["/one".to_owned()]);
    for path in paths {
        site.hook(&path, &["batch.completed"]).await;
    }
    p99(&site).await;
    let mut measured = Vec::new();
    for _ in 0..ROUNDS {
        site.receiver.script("/one", &[], Reply::status(200));
        // what hung has ended, and nothing of it is left
        let sql = "update webhook set failures = 0, open_until = null, failing_since = null";
        sqlx::query(sql).execute(&site.installation.db).await.expect("forgets");
        sqlx::query("delete from delivery where state = 'pending'")
            .execute(&site.installation.db)
            .await
            .expect("forgets");
        let alone = p99(&site).await;
        site.receiver.script("/one", &[], Reply::Silence);
        let beside = p99(&site).await;
        measured.push((alone, beside));
        println!("p99 of {} deliveries: {alone:?}, with one that hangs {beside:?}", EVENTS * (ENDPOINTS - 1));
        if beside.as_secs_f64() < TOLERANCE * alone.as_secs_f64() {
            return;
        }
    }
    panic!("the others are slower each time: {measured:?}");
}

/// What a receiver that hangs holds is bounded: a few at a time, and after some failures nothing for a while.
#[tokio::test]
async fn many_that_hang_hold_half_of_the_slots_at_most() {
    let site = Site::with(&[("DELIVER_SLOTS", "16")]).await;
    for number in 0..30 {
        let path = format!("/hangs{number}");
        site.receiver.script(&path, &[], Reply::Silence);
        site.hook(&path, &["batch.completed"]).await;
    }
    site.happen(4).await;
    until("the slots are taken", async || (site.receiver.count() >= 8).then_some(())).await;
    // another tenant's endpoint, after all of these
    let key = site.installation.another_key("other", shared::access::Role::Admin, &["*"]).await;
    let http = site.http.with_key(Some(&key));
    let (hook, _) = super::hook(&http, &site.receiver.url("/other"), &["job.failed"]).await;
    let begun = Instant::now();
    http.post(&format!("/api/v1/webhooks/{hook}/test"), &json!({})).await;
    site.messages("/other", 1).await;
    println!("beside 30 endpoints that hang, a ping of another tenant took {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5));
}
