//! `probectl` against a running installation: what it prints and how it ends.

use serde_json::Value;
use tests::{Http, Installation, Program, binaries, samples};

/// Runs a command to its end; returns its exit code and what it wrote.
fn run(installation: &Installation, http: &Http, arguments: &[&str]) -> (i32, String) {
    let mut program = installation.probectl(http, arguments);
    let code = program.wait().code().expect("an exit code");
    std::thread::sleep(std::time::Duration::from_millis(100));
    (code, program.log())
}

#[tokio::test]
async fn submit_wait_and_look() {
    let (installation, http, _programs) = Installation::running().await;
    let good = installation.folder().join("holiday.mp4");
    std::fs::copy(samples::path("mp4"), &good).expect("copies");
    let bad = installation.folder().join("notes.mp4");
    std::fs::write(&bad, "These are notes, not media.\n").expect("writes");
    let (good, bad) = (good.display().to_string(), bad.display().to_string());

    let (code, text) =
        run(&installation, &http, &["submit", &good, "--wait", "--external-id", "h1", "--metadata", "a=b"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("succeeded") && text.contains("holiday.mp4") && text.contains("h264"), "{text}");
    let id = text.split_whitespace().next().expect("an id").to_owned();

    let (code, text) = run(&installation, &http, &["submit", "--json", "--wait", &good, &bad]);
    assert_eq!(code, 3, "a job failed: {text}");
    let states: Vec<Value> =
        text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).map(|j| j["state"].clone()).collect();
    assert_eq!(states, ["succeeded", "failed"]);

    installation.put("there.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let (code, text) = run(&installation, &http, &["submit", "--remote", "there.wav", "--wait"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = run(&installation, &http, &["jobs", "--state", "succeeded"]);
    assert_eq!((code, text.lines().count()), (0, 3), "{text}");
    let (code, text) = run(&installation, &http, &["job", &id]);
    let job: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &job["external_id"], &job["metadata"]["a"]), (0, &"h1".into(), &"b".into()));
    let (code, text) = run(&installation, &http, &["result", &id, "--media"]);
    let media: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &media["name"]), (0, &"holiday.mp4".into()));
    let (code, text) = run(&installation, &http, &["health"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("healthy") && text.contains("worker"), "{text}");
}

#[tokio::test]
async fn failures_say_what_to_do() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let (code, text) = run(&installation, &http, &["job", &shared::id::JobId::new().to_string()]);
    assert_eq!(code, 1);
    assert!(text.contains("no such job") && text.contains("not_found"), "{text}");
    let (code, text) = run(&installation, &http, &["submit", "/nowhere/a.mp4"]);
    assert_eq!(code, 1);
    assert!(text.contains("/nowhere/a.mp4"), "{text}");
    assert_eq!(run(&installation, &http, &["dance"]).0, 2);
    assert_eq!(run(&installation, &http, &["health"]).0, 4, "nobody can probe");
    api.stop();
    let (code, text) = run(&installation, &http, &["jobs"]);
    assert_eq!(code, 1);
    assert!(text.contains("nothing answers") && text.contains("FFPROBE_API_URL"), "{text}");
}

#[tokio::test]
async fn the_first_key_is_made_once() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let (code, text) = run(&installation, &http, &["bootstrap"]);
    assert_eq!(code, 1);
    assert!(text.contains("there is an admin key already"), "{text}");
    sqlx::query("delete from api_key").execute(&installation.db).await.expect("forgets");
    let (code, text) = run(&installation, &http, &["bootstrap"]);
    assert_eq!(code, 0, "{text}");
    let key = text.lines().find(|l| l.starts_with("ffp_")).expect("a key");
    assert_eq!(http.with_key(Some(key)).get("/api/v1/jobs").await.status, 200);
    let (code, text) = run(&installation, &http, &["keygen"]);
    assert_eq!(code, 0);
    assert!(shared::access::ApiKey::parse(text.trim()).is_some(), "{text}");
    let (code, _) = run(&installation, &http, &["migrate"]);
    assert_eq!(code, 0, "migrating twice changes nothing");
}

#[test]
fn help_is_a_manual() {
    for (binary, wanted) in [
        ("probectl", vec!["Exit codes", "FFPROBE_API_URL", "up", "submit"]),
        ("ffprobe-api", vec!["API_PORT", "DATABASE_URL", "API_KEY_PEPPER_FILE", "HTTP front"]),
        ("ffprobe-worker", vec!["WORKER_ROLES", "SANDBOX", "FFPROBE_PATH", "A worker"]),
    ] {
        let mut program = Program::start(binary, &binaries::path(binary), &["--help"], &[]);
        assert!(program.wait().success());
        std::thread::sleep(std::time::Duration::from_millis(100));
        for word in wanted {
            assert!(program.log().contains(word), "{binary} --help does not mention {word}:\n{}", program.log());
        }
    }
    let mut program = Program::start("submit", &binaries::path("probectl"), &["submit", "--help"], &[]);
    assert!(program.wait().success());
    std::thread::sleep(std::time::Duration::from_millis(100));
    for word in ["s3://PROFILE/BUCKET/KEY", "Ctrl-C", "--parts", "--max-read-bytes", "packets", "Examples"] {
        assert!(program.log().contains(word), "submit --help does not mention {word}:\n{}", program.log());
    }
}
