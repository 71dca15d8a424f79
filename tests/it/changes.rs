//! What a client may do to a job that exists (cancel, retry, erase), what it may ask of a new one (idempotency, expiry),
//! and what an operator may do to a queue.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::access::Role;
use tests::slow::{SlowFfprobe, is_gone};
use tests::{Answer, Http, Installation, samples};

fn path(path: &str) -> Value {
    json!({"source": {"type": "path", "path": path}})
}

async fn submit(installation: &Installation, http: &Http) -> String {
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let job = http.post("/api/v1/jobs", &path(&file)).await;
    assert_eq!(job.status, 202, "{}", job.text);
    job.json["id"].as_str().expect("an id").to_owned()
}

async fn act(http: &Http, job: &str, verb: &str) -> Answer {
    Answer::of(http.request(reqwest::Method::POST, &format!("/api/v1/jobs/{job}/{verb}"))).await
}

async fn delete(http: &Http, job: &str) -> Answer {
    Answer::of(http.request(reqwest::Method::DELETE, &format!("/api/v1/jobs/{job}"))).await
}

#[tokio::test]
async fn a_queued_job_is_canceled_at_once() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let job = submit(&installation, &http).await;
    let waiting = tokio::spawn({
        let (http, job) = (http.clone(), job.clone());
        async move { http.get(&format!("/api/v1/jobs/{job}?wait=30")).await }
    });
    let answer = act(&http, &job, "cancel").await;
    assert_eq!((answer.status.as_u16(), &answer.json["state"]), (200, &json!("canceled")), "{}", answer.text);
    assert_eq!(answer.json["failure"]["code"], "canceled");
    assert_eq!(waiting.await.expect("answers").json["state"], "canceled", "whoever waits is told");
    assert_eq!(act(&http, &job, "cancel").await.status, 200, "twice is no mistake");
    let result = http.get(&format!("/api/v1/jobs/{job}/result")).await;
    result.problem(409, "no_result");
    act(&http, &shared::id::JobId::new().to_string(), "cancel").await.problem(404, "not_found");
    let other = http.with_key(Some(&installation.another_key("other", Role::Admin, &[]).await));
    for verb in ["cancel", "retry"] {
        act(&other, &job, verb).await.problem(404, "not_found");
    }
    delete(&other, &job).await.problem(404, "not_found");
    other.get(&format!("/api/v1/jobs/{job}/attempts")).await.problem(404, "not_found");
    // nobody runs it any more
    let _worker = installation.worker(&[]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(http.get(&format!("/api/v1/jobs/{job}")).await.json["state"], "canceled");
}

#[tokio::test]
async fn a_running_job_is_dead_within_two_seconds_of_its_cancel() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let slow = SlowFfprobe::new(installation.folder());
    let _worker = installation.worker(&slow.settings());
    slow.hold();
    let job = submit(&installation, &http).await;
    let child = slow.wait_for_one().await;
    delete(&http, &job).await.problem(409, "job_running");
    act(&http, &job, "retry").await.problem(409, "not_retryable");
    let begun = Instant::now();
    let answer = act(&http, &job, "cancel").await;
    assert_eq!((answer.status.as_u16(), &answer.json["state"]), (202, &json!("running")), "{}", answer.text);
    while !is_gone(child) {
        assert!(begun.elapsed() < Duration::from_secs(2), "ffprobe lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("ffprobe was dead {} ms after the cancel", begun.elapsed().as_millis());
    let ended = http.wait(&job).await;
    assert_eq!((&ended["state"], &ended["failure"]["code"]), (&json!("canceled"), &json!("canceled")));
    let attempts = http.get(&format!("/api/v1/jobs/{job}/attempts")).await;
    assert_eq!(attempts.json["data"][0]["outcome"], "canceled", "{}", attempts.text);
    act(&http, &job, "retry").await;
    slow.let_go();
    let ended = http.wait(&job).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(2)), "{ended}");
    act(&http, &job, "cancel").await.problem(409, "job_ended");
}

#[tokio::test]
async fn failed_jobs_are_run_again_one_by_one_and_in_bulk() {
    let (installation, http, _programs) = Installation::running().await;
    let mut failed = Vec::new();
    for n in 0..3 {
        let name = format!("later-{n}.wav");
        let job = http.probe(json!({"type": "path", "path": name})).await;
        assert_eq!(job["failure"]["code"], "input_not_found");
        failed.push(job["id"].as_str().expect("an id").to_owned());
        installation.put(&name, &std::fs::read(samples::path("wav")).expect("a sample"));
    }
    let attempts = http.get(&format!("/api/v1/jobs/{}/attempts", failed[0])).await;
    let first = &attempts.json["data"][0];
    assert_eq!(
        (&first["number"], &first["outcome"], &first["failure"]["code"]),
        (&json!(1), &json!("failed"), &json!("input_not_found"))
    );
    assert!(first["worker"].is_string() && first["started_at"].is_string() && first["ended_at"].is_string());

    assert_eq!(act(&http, &failed[0], "retry").await.status, 202);
    assert_eq!(http.wait(&failed[0]).await["state"], "succeeded");
    act(&http, &failed[0], "retry").await.problem(409, "not_retryable");

    let bulk = async |body: Value| http.post("/api/v1/jobs/retry", &body).await;
    assert_eq!(bulk(json!({"failure_code": "storage_error"})).await.json["count"], 0);
    assert_eq!(bulk(json!({"created_before": "2000-01-01T00:00:00Z"})).await.json["count"], 0);
    let one = bulk(json!({"failure_code": "input_not_found", "limit": 1})).await;
    assert_eq!(one.json, json!({"count": 1, "jobs": [failed[1]]}), "the oldest first");
    let rest = bulk(json!({})).await;
    assert_eq!(rest.json["count"], 1, "{}", rest.text);
    for job in &failed {
        assert_eq!(http.wait(job).await["state"], "succeeded");
    }
    bulk(json!({"limit": 0})).await.problem(400, "invalid_value");
    bulk(json!({"limit": 1001})).await.problem(400, "invalid_value");
    bulk(json!({"state": "failed"})).await.problem(400, "invalid_json");
}

#[tokio::test]
async fn erasing_a_job_erases_its_upload_with_its_last_job() {
    let (installation, http, _programs) = Installation::running().await;
    let upload = http.upload("a.wav", std::fs::read(samples::path("wav")).expect("a sample")).await;
    let source = json!({"type": "upload", "id": upload});
    let first = http.probe(source.clone()).await["id"].as_str().expect("an id").to_owned();
    let second = http.probe(source).await["id"].as_str().expect("an id").to_owned();
    let bytes = installation.uploads().join(&upload).join("data");
    assert_eq!(delete(&http, &first).await.status, 204);
    for gone in [
        format!("/api/v1/jobs/{first}"),
        format!("/api/v1/jobs/{first}/result"),
        format!("/api/v1/jobs/{first}/attempts"),
    ] {
        http.get(&gone).await.problem(404, "not_found");
    }
    assert!(bytes.exists(), "another job uses the upload");
    assert_eq!(http.get(&format!("/api/v1/jobs/{second}/result")).await.status, 200);
    assert_eq!(delete(&http, &second).await.status, 204);
    assert!(!bytes.exists());
    http.get(&format!("/api/v1/uploads/{upload}")).await.problem(404, "not_found");
    delete(&http, &second).await.problem(404, "not_found");
    let left: i64 = sqlx::query_scalar("select (select count(*) from result) + (select count(*) from attempt)")
        .fetch_one(&installation.db)
        .await
        .expect("counts");
    assert_eq!(left, 0);
}

fn repeatable(http: &Http, route: &str, key: &str, body: &Value) -> reqwest::RequestBuilder {
    http.request(reqwest::Method::POST, route).header("idempotency-key", key).json(body)
}

#[tokio::test]
async fn fifty_identical_requests_make_one_job() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let (_other_api, other) = installation.api(&[]);
    let body = json!({"source": {"type": "path", "path": "a.wav"}, "metadata": {"n": 1}});
    let requests: Vec<_> = (0..50)
        .map(|n| {
            let http = if n % 2 == 0 { http.clone() } else { other.clone() };
            let body = body.clone();
            tokio::spawn(async move {
                loop {
                    let answer = Answer::of(repeatable(&http, "/api/v1/jobs", "order-7", &body)).await;
                    // the first one is being handled: a client repeats
                    if answer.status != 409 {
                        return answer;
                    }
                    answer.problem(409, "idempotency_in_progress");
                }
            })
        })
        .collect();
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await.expect("no panic"));
    }
    let first = answers.iter().find(|a| a.header("idempotent-replayed").is_empty()).expect("one was the first");
    let replayed = answers.iter().filter(|a| a.header("idempotent-replayed") == "true").count();
    assert_eq!(replayed, 49);
    for answer in &answers {
        assert_eq!(
            (answer.status.as_u16(), &answer.json, answer.header("location")),
            (202, &first.json, first.header("location"))
        );
    }
    assert_eq!(http.get("/api/v1/jobs").await.json["data"].as_array().expect("data").len(), 1);

    let mismatch = Answer::of(repeatable(&http, "/api/v1/jobs", "order-7", &path("b.wav"))).await;
    mismatch.problem(422, "idempotency_mismatch");
    let elsewhere =
        Answer::of(repeatable(&http, "/api/v1/probe/file", "order-7", &json!({"file_path": "a.wav"}))).await;
    elsewhere.problem(422, "idempotency_mismatch");
    Answer::of(repeatable(&http, "/api/v1/jobs", "", &body)).await.problem(400, "bad_request");
    Answer::of(repeatable(&http, "/api/v1/jobs", &"x".repeat(256), &body)).await.problem(400, "bad_request");
    let stranger = http.with_key(Some(&installation.another_key("other", Role::Submitter, &["*"]).await));
    assert_eq!(
        Answer::of(repeatable(&stranger, "/api/v1/jobs", "order-7", &path("b.wav"))).await.status,
        202,
        "keys are a tenant's own"
    );
    // a request that was refused keeps nothing: mended, it may use the same key
    Answer::of(repeatable(&http, "/api/v1/jobs", "order-8", &path("../x"))).await.problem(400, "path_not_allowed");
    assert_eq!(Answer::of(repeatable(&http, "/api/v1/jobs", "order-8", &path("x"))).await.status, 202);
    // a day later the key is free again
    sqlx::query("update idempotency set created_at = created_at - interval '25 hours'")
        .execute(&installation.db)
        .await
        .expect("shifts");
    let _upkeep = installation.worker(&[("WORKER_ROLES", "upkeep")]);
    for _ in 0..100 {
        let kept: i64 =
            sqlx::query_scalar("select count(*) from idempotency").fetch_one(&installation.db).await.expect("counts");
        if kept == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("keys are not forgotten");
}

#[tokio::test]
async fn a_repeated_probe_waits_for_the_same_job() {
    let (installation, http, _programs) = Installation::running().await;
    installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let body = json!({"file_path": "/a.wav"});
    let first = Answer::of(repeatable(&http, "/api/v1/probe/file", "p1", &body)).await;
    let second = Answer::of(repeatable(&http, "/api/v1/probe/file", "\"p1\"", &body)).await;
    assert_eq!((first.status.as_u16(), &first.json["state"]), (200, &json!("succeeded")), "{}", first.text);
    assert_eq!(first.json, second.json);
    assert_eq!((first.header("idempotent-replayed"), second.header("idempotent-replayed")), ("", "true"));
}

#[tokio::test]
async fn a_job_nobody_wants_late_is_not_started_late() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let soon = chrono::Utc::now() + Duration::from_millis(500);
    let body = json!({"source": {"type": "path", "path": "a.wav"}, "expires_at": soon});
    let job = http.post("/api/v1/jobs", &body).await;
    assert_eq!(job.status, 202, "{}", job.text);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let _worker = installation.worker(&[]);
    let ended = http.wait(job.json["id"].as_str().expect("an id")).await;
    assert_eq!(
        (&ended["state"], &ended["failure"]["code"], &ended["attempt"]),
        (&json!("canceled"), &json!("expired"), &json!(0)),
        "{ended}"
    );
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_and_says_why() {
    let (installation, http, _programs) = Installation::running().await;
    let queue = async |verb: &str, body: Value| http.post(&format!("/api/v1/queues/fast/{verb}"), &body).await;
    let paused = queue("pause", json!({"reason": "the storage is moved"})).await;
    assert_eq!(
        paused.json,
        json!({"name": "fast", "paused": true, "reason": "the storage is moved", "until": null}),
        "{}",
        paused.text
    );
    let job = submit(&installation, &http).await;
    let held = http.get(&format!("/api/v1/jobs/{job}?wait=2")).await;
    assert_eq!(
        (&held.json["state"], &held.json["queue"]),
        (&json!("queued"), &json!({"position": 1, "waiting_for": "paused"}))
    );
    assert_eq!(queue("resume", json!({})).await.json["paused"], false);
    assert_eq!(http.wait(&job).await["state"], "succeeded");

    let until = chrono::Utc::now() + Duration::from_secs(2);
    queue("pause", json!({"until": until})).await;
    let job = submit(&installation, &http).await;
    let ended = http.wait(&job).await;
    let started: chrono::DateTime<chrono::Utc> = ended["started_at"].as_str().expect("a time").parse().expect("a time");
    assert!(started >= until, "{started} is before {until}");
    assert_eq!(
        http.get("/api/v1/queues").await.json["data"][0],
        json!({"name": "fast", "paused": false, "reason": null, "until": null})
    );

    queue("pause", json!({"until": "2000-01-01T00:00:00Z"})).await.problem(400, "invalid_value");
    http.post("/api/v1/queues/slow/pause", &json!({})).await.problem(404, "not_found");
    let admin = http.with_key(Some(&installation.another_key("default", Role::Admin, &["*"]).await));
    admin.post("/api/v1/queues/fast/pause", &json!({})).await.problem(403, "forbidden");
    assert_eq!(admin.get("/api/v1/queues").await.status, 200);
}

#[tokio::test]
async fn a_queued_job_says_what_it_waits_for() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let first = submit(&installation, &http).await;
    let second = submit(&installation, &http).await;
    let place = async |job: &str| http.get(&format!("/api/v1/jobs/{job}")).await.json["queue"].clone();
    assert_eq!(place(&second).await, json!({"position": 2, "waiting_for": "no_worker"}));
    let elsewhere = installation.folder().join("elsewhere");
    let roots = format!("media={}", elsewhere.display());
    let worker = installation.worker(&[("MEDIA_ROOTS", &roots)]);
    assert_eq!(place(&first).await["waiting_for"], "no_mount");
    // a worker that cannot reach the bytes puts the job aside instead of failing it
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(place(&first).await["waiting_for"], "no_mount");
    worker.stop();
    sqlx::query("update job set run_at = clock_timestamp()").execute(&installation.db).await.expect("time passes");
    sqlx::query("update tenant set max_running = 1").execute(&installation.db).await.expect("limits");
    let slow = SlowFfprobe::new(installation.folder());
    let _worker = installation.worker(&slow.settings());
    slow.hold();
    slow.wait_for_one().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let states =
        [http.get(&format!("/api/v1/jobs/{first}")).await.json, http.get(&format!("/api/v1/jobs/{second}")).await.json];
    let queued = states.iter().find(|j| j["state"] == "queued").expect("one waits");
    assert_eq!(queued["queue"]["waiting_for"], "tenant_limit", "{queued}");
    sqlx::query("update tenant set max_running = null").execute(&installation.db).await.expect("frees");
    slow.let_go();
    for job in [first, second] {
        assert_eq!(http.wait(&job).await["state"], "succeeded");
    }
}

#[tokio::test]
async fn instants_beyond_the_calendar_are_refused() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    for bad in ["-9999-01-01T00:00:00Z", "+99999-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"] {
        let body = json!({"source": {"type": "path", "path": "a"}, "expires_at": bad});
        http.post("/api/v1/jobs", &body).await.problem(400, "invalid_value");
        http.post("/api/v1/jobs/retry", &json!({"created_from": bad})).await.problem(400, "invalid_value");
        http.post("/api/v1/queues/fast/pause", &json!({"until": bad})).await.problem(400, "invalid_value");
        let query = http.request(reqwest::Method::GET, "/api/v1/jobs").query(&[("created_from", bad)]);
        Answer::of(query).await.problem(400, "invalid_value");
    }
    http.get("/api/v1/jobs?external_id=%00").await.problem(400, "invalid_value");
    let bare = Answer::of(http.request(reqwest::Method::POST, "/api/v1/queues/scan/pause")).await;
    assert_eq!(
        (bare.status.as_u16(), &bare.json["paused"]),
        (200, &json!(true)),
        "nothing must be said: {}",
        bare.text
    );
    Answer::of(http.request(reqwest::Method::POST, "/api/v1/jobs")).await.problem(400, "invalid_json");
}
