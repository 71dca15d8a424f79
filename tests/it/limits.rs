//! Rate limits as clients meet them: the same limit through two API processes, the fields and the 429 of an answer, refused
//! credentials, addresses, rows that win over settings, Redis away; and the bound of jobs that wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use shared::access::{Reach, Role};
use shared::bootstrap::mint;
use tests::{Answer, Http, Installation, servers};

use super::recovery::until;

const ASK: &str = "/api/v1/jobs?limit=1";

/// What came of asking for a while.
#[derive(Default)]
struct Run {
    accepted: usize,
    refused: usize,
    /// When the last answer came.
    end: Duration,
    /// When the first answer came, and when the last question was sent that was refused: all that was allowed between the
    /// two had been taken by then.
    first_answer: Option<Duration>,
    last_refused: Duration,
}

/// Asks from several sides at once, as often as it gets answers, for so long.
async fn hammer(sides: &[Http], time: Duration) -> Run {
    let begun = Instant::now();
    let ask = |http: Http| async move {
        let mut run = Run::default();
        while begun.elapsed() < time {
            let sent = begun.elapsed();
            let answer = http.get(ASK).await;
            run.first_answer.get_or_insert(begun.elapsed());
            match answer.status.as_u16() {
                200 => run.accepted += 1,
                429 => (run.refused, run.last_refused) = (run.refused + 1, sent),
                _ => panic!("{}", answer.text),
            }
        }
        run.end = begun.elapsed();
        run
    };
    let tasks: Vec<_> = sides.iter().cycle().take(6).map(|http| tokio::spawn(ask(http.clone()))).collect();
    let mut all = Run::default();
    for task in tasks {
        let run = task.await.expect("no panic");
        all.accepted += run.accepted;
        all.refused += run.refused;
        all.end = all.end.max(run.end);
        all.first_answer = all.first_answer.into_iter().chain(run.first_answer).min();
        all.last_refused = all.last_refused.max(run.last_refused);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_one_limit() {
    let installation = Installation::new().await;
    let settings = [("RATE_LIMIT_PER_KEY", "3000:150"), ("LOG_LEVEL", "info")];
    let ((one, first), (two, second)) = (installation.api(&settings), installation.api(&settings));
    let run = hammer(&[first, second], Duration::from_secs(6)).await;
    let allowed = |time: Duration| 150.0 + 50.0 * time.as_secs_f64();
    let least = allowed(run.last_refused.saturating_sub(run.first_answer.expect("answers")));
    let (most, accepted) = (allowed(run.end), run.accepted as f64);
    println!("{accepted} accepted of {least:.0} to {most:.0} allowed, {} refused", run.refused);
    assert!(run.refused > 50, "the test asks too seldom");
    assert!(accepted >= 0.98 * least && accepted <= 1.02 * most, "{accepted} of {least} to {most}");
    for api in [one, two] {
        assert!(!api.log().contains("limits by itself"), "{}", api.log());
    }
}

/// A 429 by these policies.
fn refused(answer: &Answer, policies: &[&str]) -> u64 {
    let detail = answer.problem(429, "rate_limited");
    assert_eq!(answer.json["violated-policies"], json!(policies));
    let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!(seconds >= 1 && detail.contains(&format!("{seconds} s")), "{detail}");
    for policy in policies {
        assert!(answer.header("ratelimit").contains(&format!("\"{policy}\";r=0;t=")), "{}", answer.header("ratelimit"));
    }
    seconds
}

#[tokio::test]
async fn answers_tell_what_is_left() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("RATE_LIMIT_PER_KEY", "60:3")]);
    for left in [2, 1, 0] {
        let answer = http.get(ASK).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("ratelimit-policy"), "\"key\";q=3;w=3");
        let reset = 3 - left;
        assert_eq!(answer.header("ratelimit"), format!("\"key\";r={left};t={reset}"));
    }
    let answer = http.get(ASK).await;
    assert_eq!(refused(&answer, &["key"]), 1);
    assert_eq!(answer.header("ratelimit"), "\"key\";r=0;t=1");
    assert!(answer.json["detail"].as_str().is_some_and(|d| d.contains("60 a minute")), "{}", answer.text);

    let id = Answer::of(http.request(Method::OPTIONS, "/api/v1/uploads")).await;
    assert_eq!((id.status.as_u16(), id.header("ratelimit")), (200, ""), "OPTIONS is not counted");
    for health in ["/health", "/health/live", "/health/ready"] {
        let answer = http.get(health).await;
        assert_eq!((answer.status.as_u16(), answer.header("ratelimit")), (200, ""), "{health} is not counted");
    }
    assert_eq!(http.with_key(None).get("/nowhere").await.status, 404, "nobody's key");

    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(http.get(ASK).await.status, 200, "after Retry-After");
    refused(&http.get("/nowhere").await, &["key"]);
}

#[tokio::test]
async fn buckets_are_forgotten_and_never_believed_too_long() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("RATE_LIMIT_PER_KEY", "600:20"), ("RATE_LIMIT_PER_ADDRESS", "60:9")]);
    assert_eq!(http.get(ASK).await.status, 200);
    let id: uuid::Uuid =
        sqlx::query_scalar("select id from installation").fetch_one(&installation.db).await.expect("an id");
    let client = redis::Client::open(servers::servers().redis_url()).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connects");
    let pattern = format!("ffprobe_api:{id}:rate:*");
    let mut keys: Vec<String> = redis::cmd("KEYS").arg(&pattern).query_async(&mut connection).await.expect("lists");
    keys.sort();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for (key, most) in keys.iter().zip([1_000, 100]) {
        let left: i64 = redis::cmd("PTTL").arg(key).query_async(&mut connection).await.expect("tells");
        assert!(left == -2 || (0..=most).contains(&left), "{key}: {left} ms");
    }
    // as a server writes it whose clock was an hour ahead
    let ahead = (chrono::Utc::now().timestamp_micros() + 3_600_000_000).to_string();
    let () = redis::cmd("SET").arg(&keys[1]).arg(ahead).query_async(&mut connection).await.expect("writes");
    assert_eq!(refused(&http.get(ASK).await, &["key"]), 1, "no longer than the policy's own window");
}

#[tokio::test]
async fn a_tenant_has_one_limit_for_all_keys_and_its_row_wins() {
    let installation = Installation::new().await;
    let one = installation.another_key("studio", Role::Viewer, &[]).await;
    let two = installation.another_key("studio", Role::Viewer, &[]).await;
    let other = installation.another_key("cinema", Role::Viewer, &[]).await;
    let (_api, http) = installation.api(&[("RATE_LIMIT_PER_TENANT", "60:2")]);
    let (one, two, other) = (http.with_key(Some(&one)), http.with_key(Some(&two)), http.with_key(Some(&other)));
    assert_eq!((one.get(ASK).await.status.as_u16(), two.get(ASK).await.status.as_u16()), (200, 200));
    refused(&two.get(ASK).await, &["tenant"]);
    assert_eq!(other.get(ASK).await.status, 200);
    sqlx::query("update tenant set rate_per_minute = 600, rate_burst = 50 where name = 'studio'")
        .execute(&installation.db)
        .await
        .expect("changes");
    // keys are remembered for a second
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let answer = one.get(ASK).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("ratelimit-policy"), "\"tenant\";q=50;w=5");
    assert_eq!(other.get(ASK).await.header("ratelimit-policy"), "\"tenant\";q=2;w=2");
}

#[tokio::test]
async fn refused_credentials_are_counted_and_good_ones_still_let_in() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("RATE_LIMIT_FAILED_AUTH", "2:2")]);
    let (wrong, mistyped, none) = (mint(), http.with_key(Some("ffp_typo")), http.with_key(None));
    let wrong = http.with_key(Some(wrong.expose()));
    for _ in 0..4 {
        none.get(ASK).await.problem(401, "unauthorized");
    }
    wrong.get(ASK).await.problem(401, "unauthorized");
    mistyped.get(ASK).await.problem(401, "unauthorized");
    let seconds = refused(&wrong.get(ASK).await, &["authentication"]);
    assert!((25..=30).contains(&seconds), "{seconds}");
    refused(&mistyped.get(ASK).await, &["authentication"]);
    none.get(ASK).await.problem(401, "unauthorized");
    assert_eq!(http.get(ASK).await.status, 200, "a good key is no guess");
}

/// How often the processes that have ended looked at the keys, as PostgreSQL counted.
async fn look_ups(installation: &Installation) -> i64 {
    let gone = "select not exists (select from pg_stat_activity where usename = 'ffprobe_api' and datname = current_database())";
    until("their connections are gone", async || {
        sqlx::query_scalar(gone).fetch_one(&installation.db).await.expect("an answer")
    })
    .await;
    let sql = "select idx_scan + seq_scan from pg_stat_user_tables where relname = 'api_key'";
    sqlx::query_scalar(sql).fetch_one(&installation.db).await.expect("a count")
}

#[tokio::test]
async fn bad_keys_cost_no_look_ups_once_too_many_were_refused() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[("RATE_LIMIT_FAILED_AUTH", "2:2")]);
    let tenant = installation.tenant("default").await;
    let (_, good) = installation.key_of(tenant, Role::Viewer, Reach::Tenant, None).await;
    let (revoked, dead) = installation.key_of(tenant, Role::Viewer, Reach::Tenant, None).await;
    let (other, forged) = (installation.key_of(tenant, Role::Viewer, Reach::Tenant, None).await.0, mint());
    let spoil = "update api_key set revoked_at = case when id = $1 then now() end,
        public_id = case when id = $2 then $3 else public_id end where id in ($1, $2)";
    let spoil = sqlx::query(spoil).bind(revoked).bind(other).bind(forged.public_id());
    spoil.execute(&installation.db).await.expect("revokes one, and gives one the id of a forged key");
    let ask = async |key: &str| http.with_key(Some(key)).get(ASK).await;
    for _ in 0..2 {
        ask(mint().expose()).await.problem(401, "unauthorized");
    }
    let begun = Instant::now();
    for _ in 0..200 {
        assert!(refused(&ask(mint().expose()).await, &["authentication"]) <= 30);
        refused(&ask(forged.expose()).await, &["authentication"]);
        refused(&ask(&dead).await, &["authentication"]);
    }
    // one for what was added to the roll and one for the key that was revoked, in each second
    let most = 2 * begun.elapsed().as_secs() as i64 + 20;
    assert_eq!(ask(&good).await.status, 200, "a good key is let in that was never seen");
    let (_, new) = installation.key_of(tenant, Role::Viewer, Reach::Tenant, None).await;
    until("a new key is let in", async || ask(&new).await.status == 200).await;
    api.signal(Signal::TERM);
    assert!(api.wait().success());
    let counted = look_ups(&installation).await;
    println!("{counted} look-ups for 600 bad keys");
    assert!((4..=most).contains(&counted), "{counted} look-ups, at most {most} are wanted");
}

#[tokio::test]
async fn addresses_are_told_apart_and_a_64_is_one() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("RATE_LIMIT_PER_ADDRESS", "60:2"), ("TRUSTED_PROXIES", "127.0.0.1")]);
    let from =
        async |address: &str| Answer::of(http.request(Method::GET, ASK).header("x-forwarded-for", address)).await;
    assert_eq!(from("2001:db8::1").await.status, 200);
    assert_eq!(from("2001:db8::2").await.status, 200);
    refused(&from("2001:db8::ffff:1").await, &["address"]);
    assert_eq!(from("2001:db8:0:1::1").await.status, 200);
    assert_eq!(from("192.0.2.1").await.status, 200);
    assert_eq!(from("192.0.2.1").await.status, 200);
    refused(&from("192.0.2.1").await, &["address"]);
    assert_eq!(from("192.0.2.2").await.status, 200);
}

#[tokio::test]
async fn an_upload_in_many_pieces_does_not_starve() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("RATE_LIMIT_PER_KEY", "1:2")]);
    let tus = |method: Method, path: &str| http.request(method, path).header("tus-resumable", "1.0.0");
    let made = Answer::of(tus(Method::POST, "/api/v1/uploads").header("upload-length", 15)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = format!("/api/v1/uploads/{}", made.header("location").rsplit('/').next().expect("an id"));
    assert_eq!(http.get(&path).await.status, 200);
    refused(&http.get(&path).await, &["key"]);
    for at in 0..15 {
        let piece = tus(Method::PATCH, &path)
            .header("upload-offset", at)
            .header("content-type", "application/offset+octet-stream")
            .body("x");
        let answer = Answer::of(piece).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
        assert_eq!(answer.header("ratelimit-policy"), "\"key-appends\";q=20;w=120");
    }
    for _ in 0..5 {
        assert_eq!(Answer::of(tus(Method::HEAD, &path)).await.status, 200);
    }
    let last = Answer::of(tus(Method::PATCH, &path).header("upload-offset", 15).body("y".repeat(100_000))).await;
    refused(&last, &["key-appends"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_process_limits() {
    let (mut private, own) = servers::own().await;
    let installation = Installation::on(&own).await;
    let (mut api, http) = installation.api(&[("RATE_LIMIT_PER_KEY", "3000:50"), ("LOG_LEVEL", "info")]);
    assert_eq!(http.get(ASK).await.header("ratelimit"), "\"key\";r=49;t=1");
    let redis = Pid::from_raw(private.pids().redis.expect("runs").cast_signed()).expect("a pid");
    // it stands still first: calls hang instead of failing
    kill_process(redis, Signal::STOP).expect("stops");
    let run = hammer(std::slice::from_ref(&http), Duration::from_secs(3)).await;
    let allowed = 50.0 + 50.0 * run.end.as_secs_f64();
    println!("{} accepted of {allowed:.0} allowed, {} refused", run.accepted, run.refused);
    assert!(run.accepted as f64 <= allowed * 1.02 && run.accepted > 50, "{} of {allowed}", run.accepted);
    assert!(run.refused > 50, "requests wait for a Redis that is away");
    kill_process(redis, Signal::KILL).expect("kills");
    let run = hammer(std::slice::from_ref(&http), Duration::from_secs(1)).await;
    assert!(run.accepted as f64 <= 10.0 + 50.0 * run.end.as_secs_f64(), "{}", run.accepted);
    assert_eq!(api.log().matches("limits by itself").count(), 1, "it says so once");
    let supervised = tokio::spawn(async move { private.supervise().await });
    api.wait_for_line("Redis counts requests again");
    assert_eq!(http.get(ASK).await.header("ratelimit"), "\"key\";r=49;t=1", "all count together again");
    supervised.abort();
}

async fn submit(http: &Http) -> Answer {
    http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": "/a.mp4"}})).await
}

async fn queued(installation: &Installation) -> i64 {
    sqlx::query_scalar("select count(*) from job where state = 'queued'")
        .fetch_one(&installation.db)
        .await
        .expect("counts")
}

#[tokio::test]
async fn jobs_that_wait_are_bounded() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("MAX_QUEUED_JOBS", "3")]);
    let again = |body: &Value| http.request(Method::POST, "/api/v1/jobs").header("idempotency-key", "k").json(body);
    let body = json!({"source": {"type": "path", "path": "/a.mp4"}});
    let first = Answer::of(again(&body)).await;
    assert_eq!(first.status, 202, "{}", first.text);
    for _ in 0..2 {
        assert_eq!(submit(&http).await.status, 202);
    }
    let full = submit(&http).await;
    full.problem(429, "too_many_queued");
    assert_eq!(full.header("retry-after"), "5");
    assert_eq!(Answer::of(again(&body)).await.text, first.text, "what was accepted stays so");
    let wish = http
        .request(Method::POST, "/api/v1/uploads")
        .header("tus-resumable", "1.0.0")
        .header("upload-length", 1)
        .header("upload-metadata", "probe c3RhbmRhcmQ=");
    Answer::of(wish).await.problem(429, "too_many_queued");
    let id = first.json["id"].as_str().expect("an id");
    assert_eq!(http.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).await.status, 200);
    until("there is room again", async || submit(&http).await.status == 202).await;
    let retried = http.post(&format!("/api/v1/jobs/{id}/retry"), &json!({})).await;
    retried.problem(429, "too_many_queued");
    http.post("/api/v1/jobs/retry", &json!({"limit": 4})).await.problem(429, "too_many_queued");
    assert_eq!(queued(&installation).await, 3);
    sqlx::query("update tenant set max_queued = 4").execute(&installation.db).await.expect("changes");
    until("its row wins", async || submit(&http).await.status == 202).await;
    assert_eq!(queued(&installation).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_of_jobs_holds_under_concurrency() {
    let installation = Installation::new().await;
    let settings = [("MAX_QUEUED_JOBS", "20")];
    let sides = Arc::new([installation.api(&settings), installation.api(&settings)]);
    let tasks: Vec<_> = (0..80)
        .map(|n: usize| {
            let sides = Arc::clone(&sides);
            tokio::spawn(async move { submit(&sides[n % 2].1).await.status.as_u16() })
        })
        .collect();
    let mut accepted = 0;
    for task in tasks {
        let status = task.await.expect("no panic");
        assert!(status == 202 || status == 429, "{status}");
        accepted += usize::from(status == 202);
    }
    println!("{accepted} of 20 accepted at once");
    // a look is a little careful with jobs that are just being stored
    until("it is full", async || submit(&sides[0].1).await.status == 429 && queued(&installation).await >= 20).await;
    let all = queued(&installation).await;
    assert!((20..=30).contains(&all), "{all}");
}
