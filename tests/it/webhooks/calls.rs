//! Managing webhooks: make, list, change, delete, rotate, test, redeliver, replay; what is kept secret, and what is refused.

use serde_json::{Value, json};
use shared::access::Role;
use tests::{Answer, Installation};

use super::{Site, a_moment, hook, id};
use crate::remote::until;

#[tokio::test]
async fn a_webhook_is_made_shown_changed_and_deleted() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let url = "https://user:pass@example.com/hook?token=secret";
    let body = json!({"url": url, "description": "mine"});
    let request = || http.request(reqwest::Method::POST, "/api/v1/webhooks").header("idempotency-key", "a").json(&body);
    let made = Answer::of(request()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json["url"], "https://example.com/hook?…");
    assert_eq!(made.json["events"], json!(["job.succeeded", "job.failed", "job.canceled"]));
    assert!(made.json["secret"].as_str().expect("a secret").starts_with("whsec_"));
    assert!(!made.text.contains("pass") && !made.text.contains("token"));
    let path = format!("/api/v1/webhooks/{}", made.json["id"].as_str().expect("an id"));
    assert!(made.header("location").ends_with(&path));
    let again = Answer::of(request()).await;
    assert_eq!((again.status.as_u16(), &again.json["id"]), (201, &made.json["id"]));
    assert_eq!((again.header("idempotent-replayed"), &again.json["secret"]), ("true", &Value::Null));

    let shown = http.get(&path).await;
    assert_eq!(
        (shown.status.as_u16(), &shown.json["secret"], &shown.json["enabled"]),
        (200, &Value::Null, &json!(true))
    );
    let changed =
        http.patch(&path, &json!({"enabled": false, "events": ["upload.completed"], "description": null})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.json["disabled_reason"], "by_hand");
    assert_eq!((&changed.json["events"], &changed.json["description"]), (&json!(["upload.completed"]), &Value::Null));
    http.post(&format!("{path}/test"), &json!({})).await.problem(409, "webhook_disabled");
    let enabled = http.patch(&path, &json!({"enabled": true})).await;
    assert_eq!((&enabled.json["enabled"], &enabled.json["disabled_at"]), (&json!(true), &Value::Null));

    // nothing readable lies in the database
    let sql = "select sealed from webhook union all select sealed from webhook_secret";
    let sealed: Vec<Vec<u8>> = sqlx::query_scalar(sql).fetch_all(&installation.db).await.expect("reads");
    let secret = made.json["secret"].as_str().expect("a secret").as_bytes();
    assert_eq!(sealed.len(), 2);
    assert!(sealed.iter().all(|s| !s.windows(6).any(|w| w == b"secret" || w == &secret[..6])));

    let other = http.with_key(Some(&installation.another_key("other", Role::Admin, &[]).await));
    other.get(&path).await.problem(404, "not_found");
    other.delete(&path).await.problem(404, "not_found");
    assert_eq!(http.delete(&path).await.status, 204);
    http.get(&path).await.problem(404, "not_found");
    assert_eq!(http.get("/api/v1/webhooks").await.json["data"], json!([]));
}

#[tokio::test]
async fn what_makes_no_webhook_is_refused() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let url = "https://example.com/hook";
    for (body, code, pointer) in [
        (json!({"url": "http://example.com/"}), "url_not_allowed", "/url"),
        (json!({"url": "https://example.com:22/"}), "url_not_allowed", "/url"),
        (json!({"url": "nonsense"}), "url_not_allowed", "/url"),
        (json!({"url": url, "events": []}), "invalid_value", "/events"),
        (json!({"url": url, "events": ["ping"]}), "invalid_value", "/events"),
        (json!({"url": url, "events": ["job.lost"]}), "invalid_json", ""),
        (json!({"url": url, "description": "a\u{0}"}), "invalid_value", "/description"),
        (json!({"url": url, "secret": "whsec_mine"}), "invalid_json", ""),
    ] {
        let answer = http.post("/api/v1/webhooks", &body).await;
        answer.problem(400, code);
        assert_eq!(
            answer.json["errors"][0]["pointer"].as_str().unwrap_or_default().trim_start_matches('#'),
            pointer,
            "{body}"
        );
    }
    for _ in 0..50 {
        hook(&http, url, &["job.failed"]).await;
    }
    http.post("/api/v1/webhooks", &json!({"url": url})).await.problem(409, "too_many_webhooks");
    let first = http.get("/api/v1/webhooks?limit=30").await.json;
    let cursor = first["next_cursor"].as_str().expect("there are more");
    let second = http.get(&format!("/api/v1/webhooks?limit=30&cursor={cursor}")).await.json;
    let count = |page: &Value| page["data"].as_array().map_or(0, Vec::len);
    assert_eq!((count(&first), count(&second), &second["next_cursor"]), (30, 20, &Value::Null));
    http.get(&format!("/api/v1/webhooks?kind=job&cursor={cursor}")).await.problem(400, "invalid_cursor");
    let replay = json!({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"});
    let one = first["data"][0]["id"].as_str().expect("an id");
    for nothing in ["url", "events", "enabled"] {
        let answer = http.patch(&format!("/api/v1/webhooks/{one}"), &json!({nothing: null})).await;
        answer.problem(400, "invalid_json");
    }
    assert_eq!(http.patch(&format!("/api/v1/webhooks/{one}"), &json!({"description": null})).await.status, 200);
    http.post(&format!("/api/v1/webhooks/{one}/replay"), &replay).await.problem(400, "invalid_value");
}

#[tokio::test]
async fn a_ping_comes_to_its_webhook_and_to_no_other() {
    let site = Site::new().await;
    let (ping, _) = site.hook("/ping", &["job.failed"]).await;
    site.hook("/other", &["job.failed"]).await;
    let sent = site.http.post(&format!("/api/v1/webhooks/{ping}/test"), &json!({})).await;
    assert_eq!(sent.status, 202, "{}", sent.text);
    let message = site.messages("/ping", 1).await.remove(0);
    assert_eq!(message.header("webhook-id"), sent.json["event_id"]);
    assert_eq!(message.json()["type"], "ping");
    let delivery = site.delivery(&ping, |d| d["state"] == "succeeded").await;
    assert_eq!((&delivery["event"]["id"], &delivery["attempts"]), (&sent.json["event_id"], &json!(1)));
    assert_eq!(
        (&delivery["history"][0]["status"], &delivery["history"][0]["response"]),
        (&json!(200), &json!("answer 200"))
    );
    a_moment().await;
    assert!(site.receiver.messages("/other").is_empty());
}

#[tokio::test]
async fn what_was_sent_is_sent_again_for_the_asking() {
    let site = Site::new().await;
    let (one, _) = site.hook("/one", &["batch.completed"]).await;
    let since = chrono::Utc::now() - chrono::Duration::seconds(5);
    site.happen(3).await;
    let messages = site.messages("/one", 3).await;
    let delivery = site.delivery(&one, |d| d["state"] == "succeeded").await;
    let path = format!("/api/v1/webhooks/{one}/deliveries/{}/redeliver", delivery["id"].as_str().expect("an id"));
    let again = site.http.post(&path, &json!({})).await;
    assert_eq!((again.status.as_u16(), &again.json["state"]), (202, &json!("pending")), "{}", again.text);
    let last = site.messages("/one", 4).await.remove(3);
    assert_eq!(last.header("webhook-id"), delivery["event"]["id"]);
    assert_eq!(last.header("webhook-attempt"), "2");
    let whole = messages.iter().find(|m| m.header("webhook-id") == last.header("webhook-id")).expect("it came before");
    assert_eq!(whole.body, last.body);

    // one that was made later gets what it missed
    let (late, _) = site.hook("/late", &["batch.completed"]).await;
    let replay = json!({"since": since, "until": chrono::Utc::now()});
    let answer = site.http.post(&format!("/api/v1/webhooks/{late}/replay"), &replay).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json),
        (202, &json!({"events": 3, "more_since": null})),
        "{}",
        answer.text
    );
    let mut replayed: Vec<String> =
        site.messages("/late", 3).await.iter().map(|m| m.header("webhook-id").to_owned()).collect();
    let mut sent: Vec<String> = messages.iter().map(|m| m.header("webhook-id").to_owned()).collect();
    replayed.sort();
    sent.sort();
    assert_eq!(replayed, sent, "with the same ids");
    let nothing = json!({"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"});
    let answer = site.http.post(&format!("/api/v1/webhooks/{late}/replay"), &nothing).await;
    assert_eq!(answer.json["events"], 0);
}

#[tokio::test]
async fn deliveries_are_listed_by_pages_and_states() {
    let site = Site::new().await;
    site.receiver.script("/half", &[], tests::receiver::Reply::status(500));
    let (half, _) = site.hook("/half", &["batch.completed"]).await;
    site.happen(5).await;
    let path = format!("/api/v1/webhooks/{half}/deliveries");
    until("all were tried", async || {
        let list = site.http.get(&path).await.json;
        let tried = list["data"].as_array()?.iter().filter(|d| d["last_status"] == 500).count();
        (tried == 5).then_some(())
    })
    .await;
    let first = site.http.get(&format!("{path}?limit=3&state=pending")).await.json;
    assert_eq!(first["data"].as_array().map(Vec::len), Some(3));
    let cursor = first["next_cursor"].as_str().expect("there are more");
    let rest = site.http.get(&format!("{path}?limit=3&state=pending&cursor={cursor}")).await.json;
    assert_eq!((rest["data"].as_array().map(Vec::len), &rest["has_more"]), (Some(2), &json!(false)));
    site.http.get(&format!("{path}?limit=3&cursor={cursor}")).await.problem(400, "invalid_cursor");
    assert_eq!(site.http.get(&format!("{path}?state=succeeded")).await.json["data"], json!([]));
    assert!(first["data"][0]["next_at"].is_string());
    // disabled, what waits has ended
    site.http.patch(&format!("/api/v1/webhooks/{half}"), &json!({"enabled": false})).await;
    site.delivery(&half, |d| d["state"] == "canceled").await;
    // deleted, nothing of it is left
    site.http.delete(&format!("/api/v1/webhooks/{half}")).await;
    site.http.get(&path).await.problem(404, "not_found");
    shared::delivery::prune(&site.installation.db).await.expect("erases");
    let left: i64 = sqlx::query_scalar("select count(*) from webhook where id = $1")
        .bind(id(&half))
        .fetch_one(&site.installation.db)
        .await
        .expect("counts");
    assert_eq!(left, 0);
}
