//! Event streams: what a job's and a tenant's stream show, how a client resumes, and who is let in and for how long.

mod crowd;
mod silence;
mod trouble;
mod watch;

use std::time::Duration;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use shared::access::{Reach, Role};
use shared::event::EventType;
use shared::id::{JobId, TenantId};
use shared::store::event::Of;
use shared::{lifecycle, store};
use tests::sse::{Sse, Told};
use tests::{Answer, Http, Installation, samples};

use crate::recovery::until;

const EVENTS: &str = "/api/v1/events";

pub(crate) fn of_job(id: &str) -> String {
    format!("/api/v1/jobs/{id}/events")
}

/// Submits a job for a path, which need not exist.
pub(crate) async fn submit(http: &Http, path: &str) -> String {
    let job = http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": path}})).await;
    assert_eq!(job.status, 202, "{}", job.text);
    job.json["id"].as_str().expect("an id").to_owned()
}

/// The tenant that a key belongs to.
pub(crate) async fn tenant_of(http: &Http) -> TenantId {
    let me = http.get("/api/v1/auth/me").await;
    me.json["tenant_id"].as_str().unwrap_or_else(|| panic!("{}", me.text)).parse().expect("an id")
}

/// Writes pings that are not about any job, and publishes them.
pub(crate) async fn pings(installation: &Installation, tenant: TenantId, numbers: std::ops::Range<i64>) {
    for n in numbers {
        let data = json!({"ping": {"number": n}});
        store::event::insert(&installation.db, tenant, EventType::Ping, &data).await.expect("inserts");
    }
    while lifecycle::publish(&installation.db).await.expect("publishes").more {}
}

fn kinds(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.kind.as_str()).collect()
}

#[tokio::test]
async fn a_jobs_stream_tells_its_life_and_ends() {
    let (installation, http, _programs) = Installation::running().await;
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let id = submit(&http, &file).await;
    let stream = Sse::open(&http, &of_job(&id), None).await;
    for (name, value) in [("cache-control", "no-store"), ("x-accel-buffering", "no")] {
        assert_eq!(stream.headers()[name], value);
    }
    let told = stream.rest().await;
    assert_eq!(kinds(&told), ["job.queued", "job.started", "job.succeeded", "end"]);
    assert_eq!(told[3].data, json!({"job_id": id}));
    assert_eq!(told[2].data["data"]["job"]["state"], "succeeded");
    assert!(told[..3].iter().all(|told| told.data["sequence"] == told.id), "{told:?}");
    // once more from the beginning, from the middle, and from the end
    assert_eq!(Sse::open(&http, &of_job(&id), None).await.rest().await, told);
    assert_eq!(Sse::open(&http, &of_job(&id), Some(told[0].id)).await.rest().await, told[1..]);
    let path = format!("{}?last_event_id={}", of_job(&id), told[1].id);
    assert_eq!(Sse::open(&http, &path, None).await.rest().await, told[2..]);
    let done = Answer::of(http.request(Method::GET, &of_job(&id)).header("last-event-id", told[3].id)).await;
    assert_eq!((done.status.as_u16(), done.text.as_str()), (204, ""));
    // a job that is run again is followed again, from where its client was and from the beginning
    let id = submit(&http, "/nowhere.wav").await;
    let first = Sse::open(&http, &of_job(&id), None).await.rest().await;
    assert_eq!(kinds(&first), ["job.queued", "job.started", "job.failed", "end"]);
    assert_eq!(http.post(&format!("/api/v1/jobs/{id}/retry"), &json!({})).await.status, 202);
    let whole = Sse::open(&http, &of_job(&id), None).await;
    let told = Sse::open(&http, &of_job(&id), Some(first[3].id)).await.rest().await;
    assert_eq!(kinds(&told), kinds(&first), "another life");
    assert_eq!(whole.rest().await, [&first[..3], &told[..]].concat());
}

#[tokio::test]
async fn a_stream_is_told_apart_by_what_was_asked_for() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let _worker = installation.worker(&[]);
    let foreign = http.with_key(Some(&installation.another_key("foreign", Role::Admin, &["*"]).await));
    let mut all = Sse::open(&http, EVENTS, None).await;
    let mut ends = Sse::open(&http, &format!("{EVENTS}?types=job.failed,job.succeeded"), None).await;
    let mut mine = Sse::open(&http, &format!("{EVENTS}?external_id=mine"), None).await;
    let mut quick = Sse::open(&http, &format!("{EVENTS}?profile=quick"), None).await;
    let mut others = Sse::open(&foreign, EVENTS, None).await;
    let body = json!({"source": {"type": "path", "path": "/x.wav"}, "external_id": "mine"});
    let job = http.post("/api/v1/jobs", &body).await.json["id"].as_str().expect("an id").to_owned();
    http.wait(&job).await;
    pings(&installation, tenant_of(&foreign).await, 0..1).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(all.next().await.expect("an event"));
    }
    assert_eq!(kinds(&told), ["job.queued", "job.started", "job.failed"]);
    assert_eq!(ends.next().await.as_ref(), told.last());
    for event in &told {
        assert_eq!(mine.next().await.as_ref(), Some(event));
    }
    assert_eq!(others.next().await.expect("its own").kind, "ping");
    pings(&installation, tenant_of(&http).await, 0..1).await;
    assert_eq!(all.next().await.expect("an event").kind, "ping");
    assert_eq!(quick.next_within(Duration::from_millis(300)).await, None, "nothing was quick");
    assert_eq!(mine.next_within(Duration::from_millis(100)).await, None, "a ping has no external id");
    for (path, status) in [(of_job(&job), 404), (of_job(&JobId::new().to_string()), 404), (of_job("nonsense"), 404)] {
        foreign.get(&path).await.problem(status, "not_found");
    }
    for query in ["types=job.lost", "last_event_id=-1", "last_event_id=", "last_event_id=x", "profile=deep", "moon=1"] {
        http.get(&format!("{EVENTS}?{query}")).await.problem(400, "bad_request");
    }
    let odd = Answer::of(http.request(Method::GET, &of_job(&job)).header("last-event-id", "+1")).await;
    odd.problem(400, "bad_request");
    http.post(EVENTS, &json!({})).await.problem(405, "method_not_allowed");
    let head = Answer::of(http.request(Method::HEAD, EVENTS)).await;
    assert_eq!((head.status.as_u16(), head.header("content-type")), (200, "text/event-stream"));
    let small = Answer::of(http.request(Method::GET, EVENTS).header("accept-encoding", "gzip, br")).await;
    assert_eq!(small.header("content-encoding"), "");
}

#[tokio::test]
async fn who_was_away_for_too_long_is_told_so() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let tenant = tenant_of(&http).await;
    let id = submit(&http, "/x.wav").await;
    pings(&installation, tenant, 0..9).await;
    sqlx::query("delete from event where sequence <= 5").execute(&installation.db).await.expect("forgets");
    // a client that saw the fifth has missed nothing
    for (after, first) in [(4, "reset"), (5, "ping"), (11, "reset"), (10, "ping")] {
        let mut stream = Sse::open(&http, EVENTS, Some(after)).await;
        if after == 10 {
            pings(&installation, tenant, 9..10).await;
        }
        let told = stream.next().await.expect("an event");
        assert_eq!(told.kind, first, "after {after}");
        let (known, next) = (stream.last.expect("an id"), if after == 11 { None } else { Some(told.id + 1) });
        match first {
            "reset" => assert_eq!((told.data, known), (json!({"sequence": known}), if after == 4 { 5 } else { 10 })),
            _ => assert_eq!(told.id, after + 1),
        }
        if let Some(next) = next.filter(|next| *next <= 10) {
            assert_eq!(stream.next().await.expect("an event").id, next);
        }
    }
    // of the job nothing is known any more, but what comes
    let mut stream = Sse::open(&http, &of_job(&id), None).await;
    assert_eq!(stream.next().await.expect("an event").kind, "reset");
    http.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(kinds(&stream.rest().await), ["job.canceled", "end"]);
    sqlx::query("delete from event where sequence is not null").execute(&installation.db).await.expect("forgets");
    assert_eq!(kinds(&Sse::open(&http, &of_job(&id), None).await.rest().await), ["reset", "end"]);
    let seen = Answer::of(http.request(Method::GET, &of_job(&id)).header("last-event-id", 12)).await;
    assert_eq!(seen.status, 204, "{}", seen.text);
}

#[tokio::test]
async fn a_stream_ends_with_the_right_to_it() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("ACCESS_TOKEN_TTL", "3")]);
    let tenant = tenant_of(&http).await;
    let mut kept = Sse::open(&http, EVENTS, None).await;
    let whys = [
        "update api_key set revoked_at = clock_timestamp() where id = $1",
        "update api_key set expires_at = clock_timestamp() where id = $1",
        "update api_key set scopes = '{uploads:read}' where id = $1",
        "update api_key set networks = '{192.0.2.0/24}' where id = $1",
        "delete from session where api_key_id = $1",
    ];
    for why in whys {
        let (id, key) = installation.key_of(tenant, Role::Viewer, Reach::Tenant, None).await;
        let mut who = http.with_key(Some(&key));
        if why.contains("session") {
            let token = who.post("/api/v1/auth/token", &json!({"grant_type": "api_key"})).await;
            who = http.with_token(token.json["access_token"].as_str().expect("a token"));
        }
        let mut stream = Sse::open(&who, EVENTS, None).await;
        pings(&installation, tenant, 0..1).await;
        assert_eq!(stream.next().await.expect("an event").kind, "ping");
        sqlx::query(sqlx::AssertSqlSafe(why)).bind(id).execute(&installation.db).await.expect("changes");
        let begun = std::time::Instant::now();
        assert_eq!(stream.next().await, None, "{why}");
        println!("{:4} ms  {why}", begun.elapsed().as_millis());
        assert!(begun.elapsed() < Duration::from_secs(3), "{why}: {:?}", begun.elapsed());
    }
    let token = http.post("/api/v1/auth/token", &json!({"grant_type": "api_key"})).await;
    let bearer = http.with_token(token.json["access_token"].as_str().expect("a token"));
    let mut stream = Sse::open(&bearer, EVENTS, None).await;
    assert_eq!(stream.next().await, None, "with its token");
    pings(&installation, tenant, 0..1).await;
    while let Some(told) = kept.next_within(Duration::from_secs(2)).await {
        assert_eq!(told.kind, "ping");
    }
    pings(&installation, tenant, 0..1).await;
    assert!(kept.next().await.is_some(), "all others go on");
}

#[tokio::test]
async fn an_event_that_cannot_be_read_holds_up_nobody() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let tenant = tenant_of(&http).await;
    let (id, key) = installation.key_of(tenant, Role::Viewer, Reach::Tenant, None).await;
    let (job, other) = (submit(&http, "/x.wav").await, submit(&http, "/y.wav").await);
    while lifecycle::publish(&installation.db).await.expect("publishes").more {}
    let mut stream = Sse::open(&http, EVENTS, None).await;
    let mut revoked = Sse::open(&http.with_key(Some(&key)), EVENTS, None).await;
    let waits = tokio::spawn({
        let (http, path) = (http.clone(), format!("/api/v1/jobs/{other}?wait=20"));
        async move { http.get(&path).await }
    });
    let strange = tokio::spawn({
        let (http, path) = (http.clone(), format!("/api/v1/jobs/{job}?wait=20"));
        async move { http.get(&path).await }
    });
    // both are known to those who wait
    tokio::time::sleep(Duration::from_secs(1)).await;
    // as a newer worker would end the first, while this API was not updated yet
    let sql = "update job set state = case id when $1::uuid then 'failed' else 'canceled' end,
        finished_at = clock_timestamp(), failure = case id when $1::uuid then '{\"code\": \"of_tomorrow\"}'::jsonb end";
    sqlx::query(sql).bind(&job).execute(&installation.db).await.expect("ends");
    let begun = std::time::Instant::now();
    assert_eq!(waits.await.expect("an answer").json["state"], "canceled");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    pings(&installation, tenant, 0..1).await;
    let told = [stream.next().await.expect("an event"), stream.next().await.expect("another")];
    let mut told = kinds(&told);
    told.sort_unstable();
    assert_eq!(told, ["job.canceled", "ping"]);
    let sql = "update api_key set revoked_at = clock_timestamp() where id = $1";
    sqlx::query(sql).bind(id).execute(&installation.db).await.expect("revokes");
    while revoked.next().await.is_some() {}
    strange.await.expect("an answer").problem(500, "internal");
}

#[tokio::test]
async fn streams_are_counted() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("MAX_EVENT_STREAMS", "3"), ("MAX_EVENT_STREAMS_PER_TENANT", "2")]);
    let foreign = http.with_key(Some(&installation.another_key("foreign", Role::Viewer, &["*"]).await));
    let one = Sse::open(&http, EVENTS, None).await;
    let _two = Sse::open(&http, EVENTS, None).await;
    let refused = http.get(EVENTS).await;
    refused.problem(429, "too_many_event_streams");
    assert_eq!(refused.header("retry-after"), "5");
    let _three = Sse::open(&foreign, EVENTS, None).await;
    foreign.get(EVENTS).await.problem(503, "event_streams_full");
    drop(one);
    until("the place is free again", async || foreign.get(EVENTS).await.status == 200).await;
}

#[tokio::test]
async fn a_process_that_stops_ends_its_streams_at_once() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[("SHUTDOWN_GRACE", "30")]);
    let id = submit(&http, "/x.wav").await;
    let (mut all, mut one) = (Sse::open(&http, EVENTS, None).await, Sse::open(&http, &of_job(&id), None).await);
    assert_eq!(one.next().await.expect("an event").kind, "job.queued");
    let begun = std::time::Instant::now();
    api.signal(Signal::TERM);
    // it may have been told of the job before
    while let Some(told) = all.next().await {
        assert_eq!(told.kind, "job.queued");
    }
    assert_eq!(one.next().await, None);
    assert!(api.wait().success());
    println!("stopped in {} ms", begun.elapsed().as_millis());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_stream_of_an_erased_job_ends() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let id = submit(&http, "/x.wav").await;
    let mut stream = Sse::open(&http, &of_job(&id), None).await;
    assert_eq!(stream.next().await.expect("an event").kind, "job.queued");
    assert_eq!(http.delete(&format!("/api/v1/jobs/{id}")).await.status, 204);
    assert_eq!(stream.next().await, None);
    http.get(&of_job(&id)).await.problem(404, "not_found");
}

/// Events as the database has them.
pub(crate) async fn stored(installation: &Installation, tenant: TenantId, after: i64) -> Vec<(i64, Value)> {
    let mut db = installation.db.acquire().await.expect("a connection");
    let page = store::event::list_after(&mut db, Of::Tenant(tenant), &[], after, 100_000).await.expect("lists");
    page.events.iter().map(|event| (event.sequence, serde_json::to_value(event).expect("JSON"))).collect()
}
