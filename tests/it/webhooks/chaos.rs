//! Nothing is lost, whatever goes wrong: deliverers are killed and PostgreSQL is ended as if the power had failed while thousands
//! of events go to good and bad receivers. Each event comes to each good one; what comes twice has the same id and is counted.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tests::receiver::{Receiver, Reply};
use tests::{Installation, Program, servers};

use super::{hook, opened, tenant};
use crate::chaos::keeper::Keeper;

const EVENTS: i64 = 5_000;
/// Events written at once.
const PART: i64 = 500;
const DELIVERERS: usize = 3;
/// Deliveries of one deliverer that are on their way at once.
const SLOTS: usize = 24;
/// Good endpoints.
const GOOD: usize = 3;
/// Longest time until everything has come, a hold that runs out included.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_comes_to_every_good_endpoint() {
    let (private, own) = servers::own().await;
    let keeper = Keeper::new(private);
    let installation = Installation::on(&own).await;
    let receiver = Receiver::start();
    let open = opened(&receiver);
    let slots = SLOTS.to_string();
    let egress = open.each_ref().map(|(name, value)| (*name, value.as_str()));
    let settings =
        [&egress[..], &[("WORKER_ROLES", "deliver"), ("DELIVER_SLOTS", &slots), ("LOG_LEVEL", "info")]].concat();
    let (api, http) = installation.api(&egress);
    let tenant = tenant(&installation, &http).await;
    let good: Vec<String> = (0..GOOD).map(|number| format!("/good{number}")).collect();
    let bad = [
        Reply::Silence,
        Reply::Reset,
        Reply::status(500),
        Reply::with(301, "Location", &receiver.url("/elsewhere")),
        Reply::status(410),
        Reply::with(429, "Retry-After", "1"),
        Reply::Flood(500, 1 << 30),
    ];
    for (number, reply) in bad.iter().enumerate() {
        receiver.script(&format!("/bad{number}"), &[], reply.clone());
    }
    let bad = (0..bad.len()).map(|number| format!("/bad{number}"));
    for path in good.iter().cloned().chain(bad) {
        hook(&http, &receiver.url(&path), &["batch.completed"]).await;
    }
    let mut crew: Vec<Program> = (0..DELIVERERS).map(|_| installation.worker(&settings)).collect();
    let (begun, mut kills, mut restarts) = (Instant::now(), 0, 0);
    for part in 0..EVENTS / PART {
        let sql = "insert into event (tenant_id, type, data)
            select $1, 'batch.completed', jsonb_build_object('batch', n) from generate_series(1, $2) n";
        while sqlx::query(sql).bind(tenant).bind(PART).execute(&installation.db).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        if part == 4 {
            keeper.restart().await;
            keeper.back(&installation.db).await;
            restarts += 1;
        } else {
            crew.remove(0).kill();
            crew.push(installation.worker(&settings));
            kills += 1;
        }
    }
    let written: Vec<String> = sqlx::query_scalar("select id::text from event where type = 'batch.completed'")
        .fetch_all(&installation.db)
        .await
        .expect("reads");
    let written: HashSet<String> = written.into_iter().collect();
    assert!(written.len() >= usize::try_from(EVENTS).expect("fits"));
    let doubled = all_come(&receiver, &good, &written, begun).await;
    let bound = (kills + restarts * DELIVERERS) * SLOTS;
    println!(
        "{} events, {GOOD} good endpoints of 10, {kills} deliverers killed, {restarts} restart of PostgreSQL: all there after \
         {:?}, {doubled} came twice ({bound} may)",
        written.len(),
        begun.elapsed()
    );
    assert!(doubled <= bound, "{doubled} came twice");
    assert!(receiver.messages("/elsewhere").is_empty());
    drop((api, crew));
    keeper.stop().await;
}

/// Waits until every event has come to every good endpoint. How many came more than once.
async fn all_come(receiver: &Receiver, good: &[String], written: &HashSet<String>, begun: Instant) -> usize {
    loop {
        let log = receiver.log();
        let (mut missing, mut doubled) = (0, 0);
        for path in good {
            let came: Vec<&String> = log.iter().filter(|(at, ..)| at == path).map(|(_, id, _)| id).collect();
            let ids: HashSet<&String> = came.iter().copied().collect();
            assert!(ids.iter().all(|id| written.contains(*id)), "an id that no event has");
            doubled += came.len() - ids.len();
            missing += written.len().saturating_sub(ids.len());
        }
        if missing == 0 {
            return doubled;
        }
        assert!(begun.elapsed() < PATIENCE, "{missing} are missing after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
