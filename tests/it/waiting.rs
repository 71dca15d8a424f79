//! Many requests that wait for the end of jobs: they are answered at once when it comes, and cost nothing before.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cli::private::APPLICATION;
use futures::StreamExt;
use futures::stream;
use serde_json::json;
use shared::queue::Bell;
use tests::process::cpu_of;
use tests::{Http, Installation, raw, servers};

use crate::recovery::until;
use crate::streams::submit;

/// Requests that wait.
const CROWD: usize = 2_000;
/// Connections that an API may have in these tests, as the harness says.
const POOL: i64 = 8;
/// Processor time of a second of waiting, at most. The test runs what a compiler did not optimise, beside others.
const IDLE: Duration = Duration::from_millis(150);
/// From the end of a job to the answer, for all but one in a hundred. An optimised API is held to the promise itself.
const SOON: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 100 });

/// The most connections that the API had while this ran.
struct Connections {
    most: Arc<AtomicI64>,
    over: Arc<AtomicBool>,
    watch: tokio::task::JoinHandle<()>,
}

impl Connections {
    fn watch(installation: &Installation) -> Self {
        let (most, over, db) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)), installation.db.clone());
        let watch = tokio::spawn({
            let (most, over) = (Arc::clone(&most), Arc::clone(&over));
            async move {
                let sql = "select count(*) from pg_stat_activity where datname = current_database() and usename = $1";
                while !over.load(Ordering::Relaxed) {
                    let now = sqlx::query_scalar(sql).bind(APPLICATION).fetch_one(&db).await.expect("counts");
                    most.fetch_max(now, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        Self { most, over, watch }
    }

    async fn most(self) -> i64 {
        self.over.store(true, Ordering::Relaxed);
        self.watch.await.expect("watches");
        self.most.load(Ordering::Relaxed)
    }
}

/// `count` queued jobs.
async fn jobs(installation: &Installation, http: &Http, count: usize) -> Vec<String> {
    let first = submit(http, "/nowhere.wav").await;
    let sql = "insert into job (id, tenant_id, profile, lane, priority, path, roots, path_inside, options, metadata,
            max_attempts, rank_at)
        select gen_random_uuid(), tenant_id, profile, lane, priority, path, roots, path_inside, options, metadata,
            max_attempts, rank_at from job, generate_series(2, $1) where id = $2::uuid";
    let copies = i32::try_from(count).expect("few");
    sqlx::query(sql).bind(copies).bind(first).execute(&installation.db).await.expect("copies");
    sqlx::query_scalar("select id::text from job").fetch_all(&installation.db).await.expect("lists")
}

/// Lets as many requests wait for these jobs, ends the jobs, and returns how long each answer took from there, in order.
async fn wait(installation: &Installation, jobs: &[String]) -> (Vec<Duration>, Duration) {
    // lines of the log are read by this process, on the processors that are measured
    let (api, http) = installation.api(&[("LOG_LEVEL", "warn,ffprobe_api=info")]);
    let paths: Vec<String> = (0..CROWD).map(|n| format!("/api/v1/jobs/{}?wait=30", jobs[n % jobs.len()])).collect();
    let connections = Connections::watch(installation);
    let waiting = raw::ask(&http, &installation.key, &paths).await;
    let metrics = metrics_of(&api.log());
    until("all of them wait", async || gauge(&metrics, "ffprobe_api_http_requests_in_flight").await == CROWD as f64)
        .await;
    // what is waited for is known by now
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = cpu_of(api.pid());
    tokio::time::sleep(Duration::from_secs(4)).await;
    let cost = (cpu_of(api.pid()) - before) / 4;
    println!("{CROWD} requests wait for {} jobs: {} ms of processor time a second", jobs.len(), cost.as_millis());
    let before = cpu_of(api.pid());
    let ends: Arc<Mutex<std::collections::HashMap<String, Instant>>> = Arc::default();
    let answers: Vec<_> = waiting
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                let (text, at) = raw::read_to(&mut stream, "\"state\":").await;
                // kept, as clients keep a connection for the next request: to close thousands costs as much as to answer
                (text, at, stream)
            })
        })
        .collect();
    stream::iter(jobs)
        .for_each_concurrent(4, async |job| {
            ends.lock().expect("no panic").insert(job.clone(), Instant::now());
            let canceled = http.post(&format!("/api/v1/jobs/{job}/cancel"), &json!({})).await;
            assert_eq!(canceled.status, 200, "{}", canceled.text);
        })
        .await;
    let (mut took, mut kept) = (Vec::new(), Vec::new());
    for (n, answer) in answers.into_iter().enumerate() {
        let (text, at, stream) = answer.await.expect("an answer");
        kept.push(stream);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let end = ends.lock().expect("no panic")[&jobs[n % jobs.len()]];
        took.push(at.duration_since(end));
    }
    println!("{} ms of processor time for the answers", (cpu_of(api.pid()) - before).as_millis());
    let most = connections.most().await;
    println!("at most {most} connections to PostgreSQL");
    assert!(most <= POOL, "{most}");
    took.sort_unstable();
    (took, cost)
}

pub(crate) fn metrics_of(log: &str) -> String {
    let line = log.lines().find(|line| line.contains("\"message\":\"metrics\"")).expect("says where");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    format!("http://{}/metrics", line["addr"].as_str().expect("an address"))
}

pub(crate) async fn gauge(url: &str, name: &str) -> f64 {
    let text = reqwest::get(url).await.expect("answers").text().await.expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("is shown").parse().expect("a number")
}

fn judge((took, cost): &(Vec<Duration>, Duration)) {
    let (half, p99, last) = (took[took.len() / 2], took[took.len() * 99 / 100], took[took.len() - 1]);
    println!("answered {half:?} (half), {p99:?} (99 %), {last:?} (all) after the end was asked for");
    assert!(p99 < SOON, "{p99:?}");
    assert!(*cost < IDLE, "{cost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_waits_for_one_job_is_answered_at_once() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let jobs = jobs(&installation, &http, 1).await;
    api.stop();
    judge(&wait(&installation, &jobs).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_waits_for_many_jobs_is_answered_at_once() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let jobs = jobs(&installation, &http, CROWD).await;
    assert_eq!(jobs.len(), CROWD);
    api.stop();
    judge(&wait(&installation, &jobs).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bells_that_ring_during_a_look_are_answered_by_the_next() {
    const BELLS: usize = 400;
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let jobs = jobs(&installation, &http, BELLS).await;
    api.stop();
    let (api, http) = installation.api(&[("LOG_LEVEL", "warn,ffprobe_api=info,sqlx::query=trace")]);
    // what a look is told by, in the log
    let looks = || api.log().lines().filter(|line| line.contains("from job where id = any($1)")).count();
    let paths: Vec<String> = jobs.iter().map(|job| format!("/api/v1/jobs/{job}?wait=30")).collect();
    let waiting = raw::ask(&http, &installation.key, &paths).await;
    let metrics = metrics_of(&api.log());
    until("all of them wait", async || gauge(&metrics, "ffprobe_api_http_requests_in_flight").await == BELLS as f64)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = looks();
    // nobody sees an end before all bells have rung: the first look waits, and then the others ring
    let mut lock = installation.db.begin().await.expect("begins");
    let sql = "update job set state = 'canceled', finished_at = clock_timestamp()";
    sqlx::query(sql).execute(&mut *lock).await.expect("ends");
    sqlx::query("lock table job in access exclusive mode").execute(&mut *lock).await.expect("locks");
    let id: uuid::Uuid =
        sqlx::query_scalar("select id from installation").fetch_one(&installation.db).await.expect("an id");
    let client = redis::Client::open(servers::servers().redis_url()).expect("a URL");
    let mut line = client.get_multiplexed_async_connection().await.expect("connects");
    for job in &jobs {
        let bell = Bell::Done(job.parse().expect("an id")).to_string();
        let channel = format!("ffprobe_api:{id}:bell");
        let heard: i64 = redis::cmd("PUBLISH").arg(channel).arg(bell).query_async(&mut line).await.expect("rings");
        assert_eq!(heard, 1, "the API hears it");
    }
    lock.commit().await.expect("ends them");
    for mut stream in waiting {
        raw::read_to(&mut stream, "\"canceled\"").await;
    }
    println!("{BELLS} bells were answered by {} looks", looks() - before);
    assert!(looks() - before <= 20, "{}", looks() - before);
}

#[tokio::test]
async fn a_job_is_shown_though_its_place_cannot_be_told() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[]);
    let job = submit(&http, "/nowhere.wav").await;
    let path = format!("/api/v1/jobs/{job}");
    assert_eq!(http.get(&path).await.json["queue"]["position"], 1);
    // only the place in the queue needs to know the lanes
    let mut lock = installation.db.begin().await.expect("begins");
    sqlx::query("lock table lane in access exclusive mode").execute(&mut *lock).await.expect("locks");
    let shown = http.get(&path).await;
    assert_eq!((shown.status.as_u16(), &shown.json["state"]), (200, &json!("queued")), "{}", shown.text);
    assert!(shown.json["queue"].is_null(), "{}", shown.text);
    // who waited when the process stops is answered without asking for it
    let waits = tokio::spawn({
        let (http, path) = (http.clone(), format!("{path}?wait=30"));
        async move { (http.get(&path).await, Instant::now()) }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    api.signal(rustix::process::Signal::TERM);
    let (shown, at) = waits.await.expect("an answer");
    assert_eq!((shown.status.as_u16(), &shown.json["state"]), (200, &json!("queued")), "{}", shown.text);
    assert!(at - begun < Duration::from_millis(900), "{:?}", at - begun);
    lock.rollback().await.expect("lets go");
    assert!(api.wait().success());
}

#[tokio::test]
async fn who_waits_sees_no_other_tenants_job_and_no_older_state() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let foreign = http.with_key(Some(&installation.another_key("foreign", shared::access::Role::Admin, &["*"]).await));
    let job = submit(&http, "/nowhere.wav").await;
    let path = format!("/api/v1/jobs/{job}?wait=30");
    let own = tokio::spawn({
        let (http, path) = (http.clone(), path.clone());
        async move { http.get(&path).await }
    });
    foreign.get(&path).await.problem(404, "not_found");
    let begun = Instant::now();
    assert_eq!(http.get(&format!("/api/v1/jobs/{job}?wait=1")).await.json["state"], "queued");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    http.post(&format!("/api/v1/jobs/{job}/cancel"), &json!({})).await;
    assert_eq!(own.await.expect("an answer").json["state"], "canceled");
    for _ in 0..20 {
        // somebody else waits all the time, so that the job's state is known here
        let other = tokio::spawn({
            let (http, path) = (http.clone(), path.clone());
            async move { http.get(&path).await }
        });
        assert_eq!(http.post(&format!("/api/v1/jobs/{job}/retry"), &json!({})).await.status, 202);
        let seen = http.get(&format!("/api/v1/jobs/{job}?wait=1")).await.json["state"].clone();
        assert_eq!(seen, "queued", "not what it was before");
        http.post(&format!("/api/v1/jobs/{job}/cancel"), &json!({})).await;
        other.await.expect("an answer");
    }
    let job = submit(&http, "/nowhere.wav").await;
    let (path, waits) = (format!("/api/v1/jobs/{job}"), format!("/api/v1/jobs/{job}?wait=30"));
    let (gone, erased) = futures::join!(http.get(&waits), http.delete(&path));
    assert_eq!(erased.status, 204);
    gone.problem(404, "not_found");
}
