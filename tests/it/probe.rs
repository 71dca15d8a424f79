//! `/api/v1/probe/file`: the production checklist's own calls, to the letter.

use std::process::Command;

use serde_json::json;
use tests::{Installation, samples};

#[tokio::test]
async fn the_checklists_curl_works_as_written() {
    let (installation, http, _programs) = Installation::running().await;
    installation.put("test/sample.mp4", &std::fs::read(samples::path("mp4")).expect("a sample"));
    let url = format!("{}/api/v1/probe/file", http.url());
    let curl = |arguments: Vec<String>| async move {
        let run = tokio::task::spawn_blocking(move || {
            Command::new("curl").args(["-s", "-w", "\n%{http_code}"]).args(arguments).output()
        });
        let output = String::from_utf8(run.await.expect("no panic").expect("curl runs").stdout).expect("text");
        let (body, status) = output.rsplit_once('\n').expect("a status");
        (status.to_owned(), serde_json::from_str::<serde_json::Value>(body).unwrap_or_default())
    };
    let key = format!("X-API-Key: {}", installation.key);
    let (status, job) =
        curl(vec!["-H".into(), key.clone(), "-d".into(), r#"{"file_path": "/test/sample.mp4"}"#.into(), url.clone()])
            .await;
    assert_eq!((status.as_str(), &job["state"]), ("200", &"succeeded".into()), "{job}");
    assert_eq!(job["result"]["media"]["container"]["format"], "mp4", "{job}");

    let (status, problem) = curl(vec![url.clone()]).await;
    assert_eq!((status.as_str(), &problem["code"]), ("401", &"unauthorized".into()));
    let (status, page) = curl(vec!["-H".into(), key, url]).await;
    assert_eq!((status.as_str(), &page["data"][0]["id"]), ("200", &job["id"]), "recent file probes");
}

#[tokio::test]
async fn a_failed_job_is_an_answer_like_any_other() {
    let (installation, http, _programs) = Installation::running().await;
    installation.put("notes.txt", b"These are notes, not media.\n");
    let answer = http.post("/api/v1/probe/file", &json!({"file_path": "/notes.txt"})).await;
    assert_eq!((answer.status.as_u16(), &answer.json["state"]), (200, &"failed".into()), "{}", answer.text);
    assert_eq!(answer.json["failure"]["class"], "permanent");
    assert_eq!(answer.json["failure"]["retryable"], false);
    assert!(answer.json["failure"]["hint"].as_str().is_some_and(|h| h.len() > 20));
}

#[tokio::test]
async fn only_file_probes_are_listed() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let upload = http.upload("a.bin", "abc").await;
    assert_eq!(http.post("/api/v1/jobs", &json!({"source": {"type": "upload", "id": upload}})).await.status, 202);
    assert_eq!(http.get("/api/v1/probe/file").await.json["data"], json!([]));
    http.post("/api/v1/probe/file", &json!({"file_path": ""})).await.problem(400, "path_not_allowed");
    let wrong = http.post("/api/v1/probe/file", &json!({"file_path": "/a/../b"})).await;
    wrong.problem(400, "path_not_allowed");
    assert_eq!(wrong.json["errors"][0]["pointer"], "#/file_path");
    http.post("/api/v1/probe/file", &json!({"path": "/a"})).await.problem(400, "invalid_json");
}
