//! `/health`, `/health/live`, `/health/ready`, `/api/v1/probe/health`, `/metrics`, and the subcommand `healthcheck`.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::remote_servers::free_port;
use tests::{Http, Installation, Program, binaries};

use crate::recovery::until;

#[tokio::test]
async fn the_checklists_health_calls_answer() {
    let (_installation, http, _programs) = Installation::running().await;
    let anonymous = http.with_key(None);
    let live = anonymous.get("/health/live").await;
    assert_eq!((live.status.as_u16(), live.text.as_str()), (200, "alive\n"));
    for path in ["/health", "/health/ready"] {
        let answer = anonymous.get(path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        for (part, health) in
            [("status", "healthy"), ("database", "healthy"), ("redis", "healthy"), ("storage", "healthy")]
        {
            assert_eq!(answer.json[part], health, "{path} {part}");
        }
    }
}

#[tokio::test]
async fn probe_health_tells_strangers_only_the_status() {
    let (installation, http, _programs) = Installation::running().await;
    let answer = http.with_key(None).get("/api/v1/probe/health").await;
    assert_eq!((answer.status.as_u16(), answer.json), (200, serde_json::json!({"status": "healthy"})));

    let answer = http.get("/api/v1/probe/health").await;
    let worker = &answer.json["workers"][0];
    assert_eq!(worker["slots"], 2, "{}", answer.text);
    assert_eq!(worker["media_roots"], serde_json::json!(["media"]));
    assert_eq!(worker["has_uploads"], true);
    assert!(
        answer.json["ffprobe_versions"][0].as_str().is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit())),
        "{}",
        answer.text
    );
    assert_eq!((&answer.json["queued"], &answer.json["running"]), (&0.into(), &0.into()));
    http.with_key(Some("ffp_wrong")).get("/api/v1/probe/health").await.problem(401, "unauthorized");
    drop(installation);
}

#[tokio::test]
async fn without_a_worker_probing_is_unhealthy() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    assert_eq!(http.get("/api/v1/probe/health").await.json["status"], "unhealthy");
    let worker = installation.worker(&[]);
    assert_eq!(http.get("/api/v1/probe/health").await.json["status"], "healthy");
    worker.stop();
    assert_eq!(http.get("/api/v1/probe/health").await.json["status"], "unhealthy", "a worker that stops signs off");
}

#[tokio::test]
async fn a_draining_process_is_not_ready_and_finishes_what_is_open() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[]);
    installation.put("a.mp4", b"not media, and nobody runs it");
    let job = http.post("/api/v1/jobs", &serde_json::json!({"source": {"type": "path", "path": "/a.mp4"}})).await;
    assert_eq!(job.status, 202);
    let waiting = tokio::spawn({
        let (http, id) = (http.clone(), job.json["id"].as_str().expect("an id").to_owned());
        async move { http.get(&format!("/api/v1/jobs/{id}?wait=30")).await }
    });
    api.wait_for(|line| line.contains("job accepted").then_some(()), "job accepted");
    tokio::time::sleep(Duration::from_millis(300)).await;
    api.signal(Signal::TERM);
    let answer = waiting.await.expect("answers");
    assert_eq!(
        (answer.status.as_u16(), &answer.json["state"]),
        (200, &"queued".into()),
        "a waiter is answered when the process stops"
    );
    assert!(api.wait().success());
}

#[tokio::test]
async fn metrics_have_a_port_of_their_own() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[]);
    let mut worker = installation.worker(&[]);
    http.get("/health").await;
    http.with_key(None).get("/metrics").await.problem(404, "not_found");
    for (program, wanted) in [
        (
            &mut api,
            ["ffprobe_api_build_info", "ffprobe_api_http_requests_total", "ffprobe_api_http_requests_in_flight"],
        ),
        (
            &mut worker,
            ["ffprobe_api_slots 2", "ffprobe_api_jobs_claimed_total", "ffprobe_api_sandbox_protection_active"],
        ),
    ] {
        let addr = program.wait_for_line("metrics")["addr"].as_str().expect("an address").to_owned();
        let text = reqwest::get(format!("http://{addr}/metrics")).await.expect("answers").text().await.expect("text");
        for metric in wanted {
            assert!(text.contains(metric), "{metric} is missing:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}

#[tokio::test]
async fn a_process_is_asked_by_its_own_binary() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let mut worker = installation.worker(&[]);
    let port = http.url().rsplit_once(':').expect("a port").1.to_owned();
    let metrics = worker.wait_for_line("metrics")["addr"].as_str().expect("an address").to_owned();
    let ask = |binary: &str, name: &str, value: &str| {
        let mut environment = installation.environment();
        environment.push((name.to_owned(), value.to_owned()));
        let mut asker = Program::start("healthcheck", &binaries::path(binary), &["healthcheck"], &environment);
        (asker.wait().success(), asker.log())
    };
    for (binary, name, value) in
        [("ffprobe-api", "API_PORT", port.as_str()), ("ffprobe-worker", "METRICS_ADDR", metrics.as_str())]
    {
        let (well, log) = ask(binary, name, value);
        assert!(well, "{binary}: {log}");
    }
    let (well, log) = ask("ffprobe-worker", "METRICS_ADDR", "");
    assert!(!well && log.contains("METRICS_ADDR is empty"), "{log}");

    // what is stuck takes connections and says nothing
    worker.signal(Signal::STOP);
    api.signal(Signal::STOP);
    assert!(!ask("ffprobe-worker", "METRICS_ADDR", &metrics).0);
    assert!(!ask("ffprobe-api", "API_PORT", &port).0);
    worker.signal(Signal::CONT);
    api.signal(Signal::CONT);
    assert!(ask("ffprobe-worker", "METRICS_ADDR", &metrics).0);
    worker.stop();
    api.stop();
    assert!(!ask("ffprobe-worker", "METRICS_ADDR", &metrics).0, "nobody is there");
}

/// Nobody takes what it logs, and the pipe is full: so whoever wants to say something waits for ever.
#[tokio::test]
async fn a_process_that_is_stuck_ends_itself() {
    /// Half a minute of silence and the last words, on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(90);
    /// What a pipe holds (pipe(7)).
    const FULL: usize = 64 * 1024;
    let installation = Installation::new().await;
    let mut pipes = Vec::new();
    let mut children = ["ffprobe-api", "ffprobe-worker"].map(|binary| {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(&[b'\n'; FULL]).expect("fills");
        pipes.push(reader);
        let mut command = Command::new(binaries::path(binary));
        command.env_clear().env("PATH", std::env::var("PATH").expect("PATH is set")).envs(installation.environment());
        command.stdout(writer).stderr(Stdio::null()).spawn().expect("starts")
    });
    let begun = Instant::now();
    for child in &mut children {
        let status = loop {
            match child.try_wait().expect("waits") {
                Some(status) => break status,
                None if begun.elapsed() > PATIENCE => break child.kill().and_then(|()| child.wait()).expect("killed"),
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        assert_eq!(status.signal(), Some(6), "{status}");
    }
    assert!(begun.elapsed() > Duration::from_secs(30), "too soon: a pause is not the end");
}

#[tokio::test]
async fn the_service_outlives_the_reader_of_its_log() {
    let installation = Installation::new().await;
    let mut environment = installation.environment();
    let port = free_port();
    environment.retain(|(name, _)| name != "API_PORT");
    environment.push(("API_PORT".to_owned(), port.to_string()));
    // as in `ffprobe-api 2>&1 | logger`
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut api = Command::new(binaries::path("ffprobe-api"))
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().expect("another end"))
        .stderr(writer)
        .spawn()
        .expect("starts");
    let http = Http::new(format!("http://127.0.0.1:{port}"), Some(installation.key.clone()));
    until("it answers", async || http.request(reqwest::Method::GET, "/health/live").send().await.is_ok()).await;
    drop(reader);
    let mut answers = Vec::new();
    for _ in 0..3 {
        // the line about a request is written before its answer
        answers.push(
            http.request(reqwest::Method::GET, "/api/v1/jobs").send().await.map(|answer| answer.status().as_u16()),
        );
    }
    api.kill().expect("runs");
    api.wait().expect("ends");
    assert!(answers.iter().all(|answer| matches!(answer, Ok(200))), "{answers:?}");
}
