//! What a job tells: to the webhooks of its tenant, and to the one that it brought along.

use serde_json::{Value, json};
use shared::access::Role;
use tests::receiver::Reply;

use super::{Site, a_moment, wav};

#[tokio::test]
async fn the_end_of_a_job_arrives_with_what_was_found() {
    let site = Site::with(&[("BASE_URL", "https://probe.example/")]).await;
    site.hook("/ends", &["job.succeeded", "job.failed"]).await;
    site.hook("/begins", &["job.queued", "job.started"]).await;
    let file = wav(&site.installation);
    let body = json!({"source": {"type": "path", "path": file}, "external_id": "mine", "metadata": {"a": 1}});
    let job = site.http.post("/api/v1/jobs", &body).await;
    let id = job.json["id"].as_str().expect("an id");
    let message = site.messages("/ends", 1).await.remove(0);
    let sent = message.json();
    assert_eq!((&sent["type"], &sent["data"]["job"]["id"]), (&json!("job.succeeded"), &json!(id)));
    assert_eq!(
        (&sent["data"]["job"]["state"], &sent["data"]["job"]["metadata"]),
        (&json!("succeeded"), &json!({"a": 1}))
    );
    let result = site.http.get(&format!("/api/v1/jobs/{id}/result")).await.json;
    assert_eq!(sent["data"]["media"], result["media"]);
    assert_eq!(sent["data"]["result_url"], format!("https://probe.example/api/v1/jobs/{id}/result"));
    assert!(sent["data"].get("metadata").is_none() && sent["sequence"].is_i64() && sent["timestamp"].is_string());
    assert_eq!((message.method.as_str(), message.header("content-type")), ("POST", "application/json"));
    assert!(message.header("user-agent").starts_with("FFprobe-API/"));
    let begun: Vec<Value> = site.messages("/begins", 2).await.iter().map(|m| m.json()["type"].clone()).collect();
    assert!(begun.contains(&json!("job.queued")) && begun.contains(&json!("job.started")), "{begun:?}");

    let job = site.http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": "/none.wav"}})).await;
    let sent = site.messages("/ends", 2).await.remove(1).json();
    assert_eq!((&sent["type"], &sent["data"]["job"]["id"]), (&json!("job.failed"), &job.json["id"]));
    assert_eq!(sent["data"]["job"]["failure"]["code"], "input_not_found");
    assert_eq!((&sent["data"]["media"], &sent["data"]["result_url"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_job_brings_its_own_webhook() {
    let site = Site::new().await;
    let file = wav(&site.installation);
    let url = site.receiver.url("/own?token=secret");
    let webhook = json!({"url": url, "metadata": {"asset": 17}});
    let body = json!({"source": {"type": "path", "path": file}, "webhook": webhook});
    let refused = site.http.post("/api/v1/jobs", &body).await;
    let detail = refused.problem(409, "no_webhook_secret");
    assert!(detail.contains("/api/v1/webhooks/default-secret"), "{detail}");
    let secret = site.http.post("/api/v1/webhooks/default-secret", &json!({})).await;
    assert!(secret.json["secret"].as_str().expect("a secret").starts_with("whsec_"), "{}", secret.text);
    let job = site.http.post("/api/v1/jobs", &body).await;
    assert_eq!(job.status, 202, "{}", job.text);
    let message = site.messages("/own?token=secret", 1).await.remove(0);
    let sent = message.json();
    assert_eq!((&sent["type"], &sent["data"]["job"]["id"]), (&json!("job.succeeded"), &job.json["id"]));
    assert_eq!(sent["data"]["metadata"], json!({"asset": 17}));

    // its origin is listed for those who look for what became of it, and shows no secret
    let list = site.http.get("/api/v1/webhooks?kind=job").await;
    assert_eq!(list.json["data"].as_array().map(Vec::len), Some(1), "{}", list.text);
    assert_eq!(list.json["data"][0]["url"], format!("http://127.0.0.1:{}", site.receiver.port()));
    assert!(!list.text.contains("secret=") && !list.text.contains("token"));
    let origin = list.json["data"][0]["id"].as_str().expect("an id").to_owned();
    let delivery = site.delivery(&origin, |d| d["state"] == "succeeded").await;
    assert_eq!(delivery["event"]["job_id"], job.json["id"]);
    let path = format!("/api/v1/webhooks/{origin}/deliveries/{}/redeliver", delivery["id"].as_str().expect("an id"));
    assert_eq!(site.http.post(&path, &json!({})).await.status, 202);
    site.messages("/own?token=secret", 2).await;
    site.http.patch(&format!("/api/v1/webhooks/{origin}"), &json!({"enabled": false})).await.problem(404, "not_found");

    // the canceled one is told of, too, and the next job shares the target
    let later = json!({"source": {"type": "path", "path": "/a.wav"}, "webhook": {"url": site.receiver.url("/later")}});
    site.http.post("/api/v1/queues/fast/pause", &json!({})).await;
    let job = site.http.post("/api/v1/jobs", &later).await;
    site.http.post(&format!("/api/v1/jobs/{}/cancel", job.json["id"].as_str().expect("an id")), &json!({})).await;
    let sent = site.messages("/later", 1).await.remove(0).json();
    assert_eq!(sent["type"], "job.canceled");
    assert_eq!(site.http.get("/api/v1/webhooks?kind=job").await.json["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn the_path_of_a_jobs_own_webhook_is_shown_to_nobody() {
    let site = Site::new().await;
    site.http.post("/api/v1/webhooks/default-secret", &json!({})).await;
    site.receiver.script("/T0/SECRET", &[], Reply::Reset);
    let webhook = json!({"url": site.receiver.url("/T0/SECRET")});
    let body = json!({"source": {"type": "path", "path": "/none.wav"}, "webhook": webhook});
    assert_eq!(site.http.post("/api/v1/jobs", &body).await.status, 202);
    site.messages("/T0/SECRET", 1).await;
    let list = site.http.get("/api/v1/webhooks?kind=job").await;
    let origin = list.json["data"][0]["id"].as_str().expect("an id");
    let shown = site.delivery(origin, |d| d["attempts"] == 1 && d["state"] == "pending").await;
    assert!(shown["last_error"].as_str().is_some_and(|e| e.contains("http://127.0.0.1:")), "{shown}");
    assert!(!shown.to_string().contains("SECRET"), "{shown}");
    assert!(!site.worker.log().contains("SECRET") && !site.api.log().contains("SECRET"));
}

#[tokio::test]
async fn what_a_job_must_not_bring_is_refused() {
    let site = Site::new().await;
    site.http.post("/api/v1/webhooks/default-secret", &json!({})).await;
    for (webhook, code) in [
        (json!({"url": "https://169.254.169.254/"}), "url_not_allowed"),
        (json!({"url": "https://example.com/", "metadata": {"a": "x".repeat(5_000)}}), "invalid_value"),
        (json!({"url": "https://example.com/", "metadata": {"a": "\u{0}"}}), "invalid_value"),
        (json!({"url": "https://example.com/", "events": []}), "invalid_json"),
        (json!([]), "invalid_json"),
    ] {
        let body = json!({"source": {"type": "path", "path": "/a.wav"}, "webhook": webhook});
        site.http.post("/api/v1/jobs", &body).await.problem(400, code);
    }
    let jobs: i64 =
        sqlx::query_scalar("select count(*) from job").fetch_one(&site.installation.db).await.expect("counts");
    assert_eq!(jobs, 0);
}

#[tokio::test]
async fn nobody_is_told_of_other_tenants() {
    let site = Site::new().await;
    site.hook("/ours", &["job.queued"]).await;
    let key = site.installation.another_key("other", Role::Admin, &["*"]).await;
    let other = site.http.with_key(Some(&key));
    let job = other.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": "/a.wav"}})).await;
    assert_eq!(job.status, 202, "{}", job.text);
    a_moment().await;
    assert!(site.receiver.messages("/ours").is_empty());
}

#[tokio::test]
async fn the_end_of_a_batch_is_told_once_and_those_of_its_jobs_where_they_say() {
    let site = Site::new().await;
    let file = wav(&site.installation);
    let source = json!({"type": "path", "path": file});
    let own = json!({"url": site.receiver.url("/job"), "metadata": {"n": 2}});
    let batch = json!({
        "jobs": [{"source": source}, {"source": source, "webhook": own}],
        "webhook": {"url": site.receiver.url("/batch?token=secret"), "metadata": {"night": 1}},
    });
    site.http.post("/api/v1/batches", &batch).await.problem(409, "no_webhook_secret");
    site.http.post("/api/v1/webhooks/default-secret", &json!({})).await;
    site.hook("/all", &["batch.completed"]).await;
    let made = site.http.post("/api/v1/batches", &batch).await;
    assert_eq!(made.status, 202, "{}", made.text);
    let sent = site.messages("/batch?token=secret", 1).await.remove(0).json();
    assert_eq!((&sent["type"], &sent["data"]["batch"]["id"]), (&json!("batch.completed"), &made.json["id"]));
    assert_eq!(sent["data"]["batch"]["counts"]["succeeded"], 2);
    assert_eq!(sent["data"]["metadata"], json!({"night": 1}));
    let job = site.messages("/job", 1).await.remove(0).json();
    assert_eq!((&job["type"], &job["data"]["metadata"]), (&json!("job.succeeded"), &json!({"n": 2})));
    assert_eq!(job["data"]["job"]["batch_id"], made.json["id"]);
    let all = site.messages("/all", 1).await.remove(0).json();
    assert_eq!((&all["data"]["batch"], &all["sequence"]), (&sent["data"]["batch"], &sent["sequence"]));
    a_moment().await;
    assert_eq!(site.messages("/batch?token=secret", 1).await.len(), 1, "once");
}
