//! Many streams in one process: what each costs, and what becomes of those that do not read.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use shared::access::{Reach, Role};
use shared::event::EventType;
use shared::id::TenantId;
use shared::{lifecycle, store};
use tests::process::cpu_of;
use tests::sse::Sse;
use tests::{Installation, Program, raw};
use tokio::io::AsyncReadExt;

use super::{EVENTS, of_job, pings, submit, tenant_of};
use crate::recovery::until;
use crate::waiting::{gauge, metrics_of};

/// Streams open at once.
const CROWD: usize = 5_000;
/// Streams that open at the same time.
const AT_ONCE: usize = 100;
/// Memory of the process that each may cost.
const MOST_BYTES: u64 = 32 * 1024;

/// Events that a long absence leaves.
const BACKLOG: i64 = 500_000;

/// Pings of a tenant that were published with these places, each with so many bytes of text.
async fn backlog(installation: &Installation, tenant: TenantId, places: std::ops::RangeInclusive<i64>, bytes: i32) {
    let sql = "with counted as (update event_counter set last = $3)
        insert into event (tenant_id, type, data, sequence)
        select $1, 'ping', jsonb_build_object('ping', jsonb_build_object('filler', repeat('x', $4))), n
        from generate_series($2, $3) n";
    let rows = sqlx::query(sql).bind(tenant).bind(*places.start()).bind(*places.end()).bind(bytes);
    installation.fill(rows).await;
}

fn resident(api: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", api.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_streams_cost_little_each() {
    let installation = Installation::new().await;
    let settings = [("MAX_EVENT_STREAMS_PER_TENANT", "5000"), ("LOG_LEVEL", "warn,ffprobe_api=info")];
    let (api, http) = installation.api(&settings);
    let job = submit(&http, "/nowhere.wav").await;
    let tenant = tenant_of(&http).await;
    let half = |n: usize| if n.is_multiple_of(2) { EVENTS.to_owned() } else { of_job(&job) };
    let paths: Vec<String> = (0..CROWD).map(half).collect();
    // what the process takes for itself is taken before
    let mut warm = raw::ask(&http, &installation.key, &paths[..AT_ONCE]).await;
    for stream in &mut warm {
        raw::read_to(stream, "retry: 2000\n").await;
    }
    let before = resident(&api);
    let begun = Instant::now();
    let mut streams = warm;
    // what many requests that are being answered take is another matter
    for some in paths[AT_ONCE..].chunks(AT_ONCE) {
        let mut opened = raw::ask(&http, &installation.key, some).await;
        for stream in &mut opened {
            raw::read_to(stream, "retry: 2000\n").await;
        }
        streams.extend(opened);
    }
    println!("{CROWD} streams opened in {} ms", begun.elapsed().as_millis());
    pings(&installation, tenant, 0..1).await;
    for stream in streams.iter_mut().step_by(2) {
        raw::read_to(stream, "event: ping\n").await;
    }
    let each = resident(&api).saturating_sub(before) / (CROWD - AT_ONCE) as u64;
    println!("{} MiB in all, {:.1} KiB for each stream", resident(&api) >> 20, each as f64 / 1024.0);
    let cost = cpu_of(api.pid());
    tokio::time::sleep(Duration::from_secs(4)).await;
    println!("{} ms of processor time a second", (cpu_of(api.pid()) - cost).as_millis() / 4);
    let begun = Instant::now();
    http.post(&format!("/api/v1/jobs/{job}/cancel"), &json!({})).await;
    while lifecycle::publish(&installation.db).await.expect("publishes").more {}
    for stream in &mut streams {
        raw::read_to(stream, "event: job.canceled\n").await;
    }
    println!("all had an event after {} ms", begun.elapsed().as_millis());
    assert!(each <= MOST_BYTES, "{each} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_reads_through_what_is_not_for_it_says_how_far_it_is() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    backlog(&installation, tenant_of(&http).await, 1..=BACKLOG, 0).await;
    let mut stream = Sse::open(&http, &format!("{EVENTS}?types=job.failed"), Some(0)).await;
    assert_eq!(stream.next_within(Duration::from_secs(7)).await, None);
    println!("it is at {:?} of {BACKLOG}", stream.last);
    assert!(stream.last > Some(0), "{:?}", stream.last);
    // who comes back from there goes on, and is told of what is for it
    let mut rest = Sse::open(&http, &format!("{EVENTS}?types=ping"), Some(BACKLOG - 60)).await;
    for wanted in BACKLOG - 59..=BACKLOG {
        assert_eq!(rest.next().await.expect("an event").id, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_ends_no_stream_of_another_tenant() {
    const SLOW: usize = 60;
    const EVENTS_EACH: i64 = 500;
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let other = http.with_key(Some(&installation.another_key("other", Role::Viewer, &["*"]).await));
    // each of them has most of a megabyte in memory, once there is no more room between the two
    backlog(&installation, tenant_of(&http).await, 1..=EVENTS_EACH, 16_000).await;
    backlog(&installation, tenant_of(&other).await, EVENTS_EACH + 1..=2 * EVENTS_EACH, 16_000).await;
    let path = format!("{EVENTS}?last_event_id=0");
    let mut slow = raw::ask(&http, &installation.key, &vec![path.clone(); SLOW]).await;
    for stream in &mut slow {
        raw::read_to(stream, "retry: 2000\n").await;
    }
    // memory is full when some of them are ended; where it has no bound, that never comes
    let ended = until("some of them are ended", async || streams_open(&api).await < SLOW as f64);
    let _ = tokio::time::timeout(Duration::from_secs(8), ended).await;
    let mut good = Sse::open(&other, &path, None).await;
    for wanted in EVENTS_EACH + 1..=2 * EVENTS_EACH {
        assert_eq!(good.next().await.expect("an event, on one stream").id, wanted);
    }
    println!("{} streams of {SLOW} and one are left", streams_open(&api).await);
}

/// How many streams the process counts.
async fn streams_open(api: &Program) -> f64 {
    gauge(&metrics_of(&api.log()), "ffprobe_api_event_streams").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_delays_no_stop() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[("SHUTDOWN_GRACE", "40")]);
    let mut stuck = raw::ask(&http, &installation.key, &[EVENTS.to_owned()]).await.pop().expect("one");
    raw::read_to(&mut stuck, "retry: 2000\n").await;
    let mut good = Sse::open(&http, EVENTS, None).await;
    // more than lies between the two, and fewer than may wait
    backlog(&installation, tenant_of(&http).await, 1..=450, 40_000).await;
    while good.next().await.expect("an event").id < 450 {}
    let begun = Instant::now();
    api.signal(Signal::TERM);
    assert!(api.wait().success());
    println!("stopped after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(api.log().contains("a connection was hung up"), "{}", api.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_of_others_keeps_no_stream_from_its_end() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let (tenant, other) = (tenant_of(&http).await, installation.tenant("other").await);
    let (id, key) = installation.key_of(tenant, Role::Viewer, Reach::Tenant, None).await;
    let mut stream = Sse::open(&http.with_key(Some(&key)), EVENTS, None).await;
    let mut kept = Sse::open(&http, EVENTS, None).await;
    pings(&installation, tenant, 0..1).await;
    assert_eq!(kept.next().await.expect("an event").id, 1);
    backlog(&installation, other, 2..=BACKLOG, 0).await;
    // the reader is at it by now
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sql = "update api_key set revoked_at = clock_timestamp() where id = $1";
    sqlx::query(sql).bind(id).execute(&installation.db).await.expect("revokes");
    let begun = Instant::now();
    assert_eq!(stream.next().await.expect("an event").id, 1);
    assert_eq!(stream.next().await, None);
    println!("ended after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let begun = Instant::now();
    while kept.comments == 0 {
        assert_eq!(kept.next_within(Duration::from_millis(100)).await, None);
        assert!(begun.elapsed() < Duration::from_secs(15), "no sign of life");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_dropped_and_the_others_go_on() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[]);
    let tenant = tenant_of(&http).await;
    let mut good = Sse::open(&http, EVENTS, None).await;
    let mut slow = raw::ask(&http, &installation.key, &[EVENTS.to_owned()]).await.pop().expect("one");
    raw::read_to(&mut slow, "retry: 2000\n").await;
    let begun = Instant::now();
    let sees = tokio::spawn(async move {
        let mut last = 0;
        loop {
            let told = good.next().await.expect("goes on");
            assert_eq!(told.data["data"]["ping"]["number"], last, "each, in order");
            last += 1;
            if last == 3_000 {
                return good;
            }
        }
    });
    // more than all that lies between the two
    for n in 0..3_000 {
        let data = json!({"ping": {"number": n, "filler": "x".repeat(16 * 1024)}});
        store::event::insert(&installation.db, tenant, EventType::Ping, &data).await.expect("inserts");
        if n % 100 == 99 {
            lifecycle::publish(&installation.db).await.expect("publishes");
        }
    }
    let _good = sees.await.expect("the others see everything");
    println!(
        "48 MiB of events in {} ms; at most {} MiB in memory",
        begun.elapsed().as_millis(),
        api.peak_bytes() >> 20
    );
    api.wait_for(|line| line.contains("a connection was hung up").then_some(()), "the slow one is dropped");
    until("its place is free", async || {
        let streams = api.log().lines().filter(|line| line.contains("a connection was hung up")).count();
        streams == 1
    })
    .await;
    let mut rest = Vec::new();
    // reset by the server, or cut off
    let _ = tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut rest)).await.expect("it is closed");
    assert!(api.peak_bytes() < 160 << 20, "{}", api.peak_bytes());
    api.signal(Signal::TERM);
    assert!(api.wait().success());
}
