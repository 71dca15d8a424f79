//! Streams while processes die and servers are away: nobody misses an event or sees one twice, and the order holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::sse::{Sse, Told};
use tests::{Http, Installation, samples, servers};

use super::{EVENTS, pings, stored, submit, tenant_of};
use crate::recovery::until;

/// How often something is staged that needs its moment.
const TRIES: usize = 20;

/// Everything that a client sees up to an event, from one API or another, whatever happens to its connections.
async fn follow(apis: Arc<Vec<Http>>, mut after: i64, move_on: Duration, until: impl Fn(&Told) -> bool) -> Vec<Told> {
    let mut seen: Vec<Told> = Vec::new();
    for turn in 0.. {
        let http = &apis[turn % apis.len()];
        let Some(mut stream) = open(http, after).await else { continue };
        let begun = Instant::now();
        while begun.elapsed() < move_on {
            let Some(told) = stream.next_within(move_on).await else { break };
            after = told.id;
            let is_last = until(&told);
            seen.push(told);
            if is_last {
                return seen;
            }
        }
        after = after.max(stream.last.unwrap_or_default());
    }
    seen
}

async fn open(http: &Http, after: i64) -> Option<Sse> {
    let request = http.request(reqwest::Method::GET, EVENTS).header("last-event-id", after);
    match request.send().await {
        Ok(answer) if answer.status() == 200 => Some(Sse::of(answer, after)),
        _ => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

fn compare(seen: &[Told], stored: &[(i64, Value)]) {
    let ids: Vec<i64> = seen.iter().map(|told| told.id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "strictly rising: {ids:?}");
    assert_eq!(ids, stored.iter().map(|(id, _)| *id).collect::<Vec<_>>(), "no gap");
    for (told, (_, event)) in seen.iter().zip(stored) {
        assert_eq!((&told.data, &Value::from(told.kind.as_str())), (event, &event["type"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_moves_between_processes_sees_each_event_once() {
    let installation = Installation::new().await;
    let (one, first) = installation.api(&[]);
    let (_two, second) = installation.api(&[]);
    let _worker = installation.worker(&[]);
    let tenant = tenant_of(&first).await;
    let apis = Arc::new(vec![first.clone(), second.clone()]);
    let is_last = |told: &Told| told.data["data"]["job"]["external_id"] == "last" && told.kind == "job.failed";
    let clients: Vec<_> = [40, 150, 700, 5_000]
        .map(|ms| tokio::spawn(follow(Arc::clone(&apis), 0, Duration::from_millis(ms), is_last)))
        .into();
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    for n in 0..60 {
        submit(&second, if n % 3 == 0 { "/nowhere.wav" } else { &file }).await;
    }
    one.kill();
    for _ in 0..20 {
        submit(&second, &file).await;
    }
    until("all have ended", async || second.get("/api/v1/jobs?state=queued,running").await.json["data"] == json!([]))
        .await;
    let last = json!({"source": {"type": "path", "path": "/nowhere.wav"}, "external_id": "last"});
    assert_eq!(second.post("/api/v1/jobs", &last).await.status, 202);
    for client in clients {
        let seen = client.await.expect("sees the last");
        compare(&seen, &stored(&installation, tenant, 0).await);
        println!("{} events", seen.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_or_doubled_where_a_stream_joins() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let tenant = tenant_of(&http).await;
    pings(&installation, tenant, 0..120).await;
    let over = Arc::new(AtomicBool::new(false));
    // clients join all the time while events are published one by one
    let clients: Vec<_> = (0..12)
        .map(|n| {
            let (http, over) = (http.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut joined = 0;
                while !over.load(Ordering::Relaxed) {
                    let mut stream = Sse::open(&http, EVENTS, Some(n * 10)).await;
                    for wanted in n * 10 + 1..n * 10 + 160 {
                        let told = stream.next().await.expect("an event");
                        assert_eq!(told.id, wanted);
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    joined += 1;
                }
                joined
            })
        })
        .collect();
    let begun = Instant::now();
    let mut number = 120;
    while begun.elapsed() < Duration::from_secs(6) {
        pings(&installation, tenant, number..number + 1).await;
        number += 1;
    }
    over.store(true, Ordering::Relaxed);
    pings(&installation, tenant, number..number + 1).await;
    let mut joined = 0;
    for client in clients {
        joined += client.await.expect("each in order");
    }
    println!("{joined} times joined while {} events came", number - 120);
    assert!(joined > 24, "{joined}");
}

/// Whether somebody waits for a lock, such as a page that stands still.
async fn stands_still(installation: &Installation) -> bool {
    let sql = "select exists (select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock')";
    sqlx::query_scalar(sql).fetch_one(&installation.db).await.expect("looks")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_while_a_stream_catches_up_is_read_before_it_joins() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let mut other = Sse::open(&http, EVENTS, None).await;
    let tenant = tenant_of(&http).await;
    submit(&http, "/nowhere.wav").await;
    assert_eq!(other.next().await.expect("an event").id, 1);
    let (ping, data, mut last) = (shared::event::EventType::Ping, json!({"ping": {}}), 1);
    for _ in 0..TRIES {
        let write = async || {
            shared::store::event::insert(&installation.db, tenant, ping, &data).await.expect("inserts");
        };
        // the API has just published it; the next will be published in a second
        write().await;
        assert_eq!(other.next().await.expect("an event").id, last + 1);
        write().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        // a page with an event of a job stands still between its two queries
        let mut lock = installation.db.begin().await.expect("begins");
        sqlx::query("lock table job in access exclusive mode").execute(&mut *lock).await.expect("locks");
        let mut late = Sse::open(&http, EVENTS, Some(0)).await;
        until("its page is read", async || stands_still(&installation).await).await;
        let before = stored_count(&installation).await == last + 1;
        assert_eq!(other.next().await.expect("an event").id, last + 2, "the reader is farther than that page");
        let staged = before && stands_still(&installation).await;
        lock.rollback().await.expect("lets go");
        last += 2;
        if staged {
            for id in 1..=last {
                assert_eq!(late.next().await.expect("an event").id, id);
            }
            return;
        }
    }
    panic!("never came to it");
}

/// How many events were published.
async fn stored_count(installation: &Installation) -> i64 {
    shared::store::event::last_sequence(&installation.db).await.expect("looks")
}

#[tokio::test]
async fn without_redis_events_come_within_seconds() {
    let (private, own) = servers::own().await;
    let installation = Installation::on(&own).await;
    let (_api, http) = installation.api(&[]);
    let tenant = tenant_of(&http).await;
    let mut stream = Sse::open(&http, EVENTS, None).await;
    let redis = Pid::from_raw(private.pids().redis.expect("runs").cast_signed()).expect("a pid");
    kill_process(redis, Signal::KILL).expect("kills");
    until("health notices", async || http.get("/health").await.json["redis"] == "unhealthy").await;
    // written, and published by nobody: there is no worker
    let data = json!({"ping": {}});
    let ping = shared::event::EventType::Ping;
    let begun = Instant::now();
    shared::store::event::insert(&installation.db, tenant, ping, &data).await.expect("inserts");
    assert_eq!(stream.next().await.expect("an event").kind, "ping");
    println!("without Redis and workers an event took {} ms", begun.elapsed().as_millis());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_restarting_costs_no_event() {
    let (mut private, own) = servers::own().await;
    let installation = Installation::on(&own).await;
    let (_api, http) = installation.api(&[]);
    let tenant = tenant_of(&http).await;
    let apis = Arc::new(vec![http.clone()]);
    let client =
        tokio::spawn(follow(apis, 0, Duration::from_secs(3600), |told| told.data["data"]["ping"]["number"] == 199));
    pings(&installation, tenant, 0..100).await;
    let postgres = Pid::from_raw(private.pids().postgres.expect("runs").cast_signed()).expect("a pid");
    kill_process(postgres, Signal::QUIT).expect("ends at once");
    let supervised = tokio::spawn(async move { private.supervise().await });
    until("PostgreSQL is away", async || http.get("/health").await.status == 503).await;
    until("PostgreSQL is back", async || http.get("/health").await.status == 200).await;
    pings(&installation, tenant, 100..200).await;
    let seen = client.await.expect("sees the last");
    compare(&seen, &stored(&installation, tenant, 0).await);
    assert_eq!(seen.len(), 200);
    supervised.abort();
}
