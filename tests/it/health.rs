//! `/health`, `/health/live`, `/health/ready`, `/api/v1/probe/health`, `/metrics`.

use rustix::process::Signal;
use tests::Installation;

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
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
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
