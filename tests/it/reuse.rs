//! Jobs that share a result: the same bytes looked at in the same way once, however many ask, and never across tenants.

use std::time::Duration;

use serde_json::{Value, json};
use shared::access::Role;
use tests::slow::SlowFfprobe;
use tests::{Http, Installation, samples};

async fn submit(http: &Http, source: Value, more: Value) -> String {
    let mut body = json!({"source": source, "reuse": "result"});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let answer = http.post("/api/v1/jobs", &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json["id"].as_str().expect("an id").to_owned()
}

/// The job's result and the job it comes from.
async fn ended(http: &Http, id: &str) -> (Value, Value) {
    let job = http.wait(id).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    (job["result"].clone(), job["result"]["reused_from"].clone())
}

fn path(path: &str) -> Value {
    json!({"type": "path", "path": path})
}

#[tokio::test]
async fn the_same_bytes_are_looked_at_once() {
    let (installation, http, _programs) = Installation::running().await;
    let bytes = std::fs::read(samples::path("mp4")).expect("a sample");
    let file = installation.put("a.mp4", &bytes);
    let first = submit(&http, path(&file), json!({})).await;
    let (original, from) = ended(&http, &first).await;
    assert_eq!(from, Value::Null);

    let again = submit(&http, path(&file), json!({})).await;
    let (copy, from) = ended(&http, &again).await;
    assert_eq!(from, first.as_str());
    for part in ["media", "ffprobe", "completeness", "warnings", "provenance"] {
        assert_eq!(copy[part], original[part], "{part}");
    }
    let third = submit(&http, path(&file), json!({})).await;
    assert_eq!(ended(&http, &third).await.1, first.as_str(), "a copy of a copy names the original");

    // another profile, another option, a job that does not ask, a file that changed: each looks for itself
    for more in [json!({"profile": "quick"}), json!({"accept": ["image"]})] {
        let job = submit(&http, path(&file), more.clone()).await;
        assert_eq!(ended(&http, &job).await.1, Value::Null, "{more}");
    }
    let unasked = http.probe(path(&file)).await;
    assert_eq!(unasked["result"]["reused_from"], Value::Null);
    installation.put("a.mp4", &bytes);
    let changed = submit(&http, path(&file), json!({})).await;
    assert_eq!(ended(&http, &changed).await.1, Value::Null, "written again");

    // results age
    sqlx::query("update result set created_at = created_at - interval '8 days'")
        .execute(&installation.db)
        .await
        .expect("ages");
    let late = submit(&http, path(&file), json!({})).await;
    assert_eq!(ended(&http, &late).await.1, Value::Null);
    // and are erased with their job
    assert_eq!(
        tests::Answer::of(http.request(reqwest::Method::DELETE, &format!("/api/v1/jobs/{late}"))).await.status,
        204
    );
    let after = submit(&http, path(&file), json!({})).await;
    assert_eq!(ended(&http, &after).await.1, Value::Null);
}

#[tokio::test]
async fn series_are_shared_too_and_tenants_share_nothing() {
    let (installation, http, _programs) = Installation::running().await;
    let file = installation.put("a.mp4", &std::fs::read(samples::path("mp4")).expect("a sample"));
    let packets = json!({"profile": "packets"});
    let first = submit(&http, path(&file), packets.clone()).await;
    ended(&http, &first).await;
    let again = submit(&http, path(&file), packets.clone()).await;
    assert_eq!(ended(&http, &again).await.1, first.as_str());
    let series = async |job: &str| http.get(&format!("/api/v1/jobs/{job}/series/0")).await.json;
    assert!(series(&first).await["points"].is_array());
    assert_eq!(series(&first).await, series(&again).await);

    let stranger = installation.another_key("stranger", Role::Submitter, &["media"]).await;
    let theirs = http.with_key(Some(&stranger));
    let job = submit(&theirs, path(&file), packets).await;
    assert_eq!(ended(&theirs, &job).await.1, Value::Null);
}

#[tokio::test]
async fn two_at_the_same_time_run_once() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let slow = SlowFfprobe::new(installation.folder());
    let worker = installation.worker(&slow.settings());
    let file = installation.put("a.mp4", &std::fs::read(samples::path("mp4")).expect("a sample"));
    slow.hold();
    let first = submit(&http, path(&file), json!({})).await;
    slow.wait_for_one().await;
    let second = submit(&http, path(&file), json!({})).await;
    // it was claimed, found the first at work, and went back to the queue uncharged
    let waits =
        "select count(*) from job where id = $1::uuid and state = 'queued' and attempt = 0 and waits_for = $2::uuid";
    for _ in 0.. {
        let found: i64 =
            sqlx::query_scalar(waits).bind(&second).bind(&first).fetch_one(&installation.db).await.expect("counts");
        if found == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(slow.started().len(), 1, "ffprobe was started once");
    let begun = std::time::Instant::now();
    slow.let_go();
    assert_eq!(ended(&http, &first).await.1, Value::Null);
    assert_eq!(ended(&http, &second).await.1, first.as_str());
    assert!(begun.elapsed() < Duration::from_secs(10), "woken by the end, not by the clock: {:?}", begun.elapsed());
    drop(worker);
}
