//! Signatures, as the libraries of Standard Webhooks for Python, JavaScript and Rust see them; rotation of the secret. What the
//! first two need, scripts/clients.sh installs.

use std::path::Path;
use std::process::Command;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use shared::delivery::{self, Resealed};
use shared::sealed::KeyRing;
use standardwebhooks::Webhook;
use tests::binaries;
use tests::receiver::Message;

use super::Site;

const SIGNED: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// What the Rust library says.
fn verifies(secret: &str, message: &Message) -> bool {
    let headers = SIGNED.map(|name| {
        let value = HeaderValue::from_str(message.header(name)).expect("a value");
        (HeaderName::from_static(name), value)
    });
    let webhook = Webhook::new(secret).expect("a secret");
    webhook.verify(message.body.as_bytes(), &HeaderMap::from_iter(headers)).is_ok()
}

/// A line for the other libraries.
fn line(secret: &str, message: &Message, good: bool) -> Value {
    let headers: Value = SIGNED.iter().map(|name| ((*name).to_owned(), json!(message.header(name)))).collect();
    json!({"secret": secret, "headers": headers, "body": message.body, "good": good})
}

/// Lets a library judge the lines, and returns what it counted.
fn judge(program: &Path, script: &str, lines: &[Value], folder: &Path) -> Value {
    let file = folder.join(format!("{script}.lines"));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, text).expect("writes");
    let script = binaries::workspace().join("tests/clients").join(script);
    let node = crate::clients::clients("node");
    let done = Command::new(program).arg(script).arg(file).env("CLIENTS", node).output().expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

#[tokio::test]
async fn the_official_libraries_take_what_is_sent_and_nothing_else() {
    let site = Site::new().await;
    let (hook, first) = site.hook("/hook", &["batch.completed"]).await;
    let (_, foreign) = site.hook("/foreign", &["job.failed"]).await;
    let rotate = async |body: Value| -> String {
        let answer = site.http.post(&format!("/api/v1/webhooks/{hook}/rotate-secret"), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json["secret"].as_str().expect("a secret").to_owned()
    };
    site.happen(1).await;
    let before = site.messages("/hook", 1).await.remove(0);
    let second = rotate(json!({})).await;
    site.happen(1).await;
    let both = site.messages("/hook", 2).await.remove(1);
    assert_eq!(both.header("webhook-signature").split(' ').count(), 2);
    // the overlap is over
    let sql = "update webhook_secret set until = clock_timestamp() where until is not null";
    sqlx::query(sql).execute(&site.installation.db).await.expect("time passes");
    site.happen(1).await;
    let after = site.messages("/hook", 3).await.remove(2);
    let third = rotate(json!({"overlap_seconds": 0})).await;
    site.happen(1).await;
    let last = site.messages("/hook", 4).await.remove(3);

    let changed = |change: fn(&mut Message)| {
        let mut message = after.clone();
        change(&mut message);
        message
    };
    let other_body = changed(|m| m.body = m.body.replace("batch", "botch"));
    let other_id = changed(|m| drop(m.headers.insert("webhook-id".into(), "another".into())));
    let old = changed(|m| drop(m.headers.insert("webhook-timestamp".into(), "1649367553".into())));
    let cases = [
        (&first, &before, true),
        (&first, &both, true),
        (&second, &both, true),
        (&second, &after, true),
        (&third, &last, true),
        (&second, &before, false),
        (&third, &both, false),
        (&first, &after, false),
        (&second, &last, false),
        (&foreign, &both, false),
        (&second, &other_body, false),
        (&second, &other_id, false),
        (&second, &old, false),
    ];
    for (at, (secret, message, good)) in cases.iter().enumerate() {
        assert_eq!(verifies(secret, message), *good, "case {at}: {message:?}");
    }
    let lines: Vec<Value> = cases.iter().map(|(secret, message, good)| line(secret, message, *good)).collect();
    let python = crate::clients::clients("venv") + "/bin/python";
    let counted = json!({"good": 5, "bad": 8});
    assert_eq!(judge(Path::new(&python), "verify.py", &lines, site.installation.folder()), counted);
    assert_eq!(judge(Path::new("node"), "verify.mjs", &lines, site.installation.folder()), counted);
}

#[tokio::test]
async fn a_secret_that_was_rotated_often_keeps_few_signatures() {
    let site = Site::new().await;
    let (hook, _) = site.hook("/hook", &["batch.completed"]).await;
    for _ in 0..8 {
        site.http.post(&format!("/api/v1/webhooks/{hook}/rotate-secret"), &json!({})).await;
    }
    site.happen(1).await;
    let message = site.messages("/hook", 1).await.remove(0);
    assert_eq!(message.header("webhook-signature").split(' ').count(), 5);
}

#[tokio::test]
async fn keys_of_the_operator_can_be_rotated_beneath_webhooks() {
    let mut site = Site::new().await;
    let (_, secret) = site.hook("/hook", &["batch.completed"]).await;
    let environment = site.installation.environment();
    let old = environment.iter().find(|(name, _)| name == "ENCRYPTION_KEYS").expect("there are keys").1.clone();
    let new = "new:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let both = format!("{new},{old}");
    let open = super::opened(&site.receiver);
    let egress = open.each_ref().map(|(name, value)| (*name, value.as_str()));
    let rotated = site.installation.worker(&[&egress[..], &[("ENCRYPTION_KEYS", &both)]].concat());
    std::mem::replace(&mut site.worker, rotated).stop();
    site.worker.wait_for(|line| line.contains("were sealed under the first").then_some(()), "the new seal");
    let only_new = site.installation.worker(&[&egress[..], &[("ENCRYPTION_KEYS", new)]].concat());
    std::mem::replace(&mut site.worker, only_new).stop();
    site.happen(1).await;
    let message = site.messages("/hook", 1).await.remove(0);
    assert!(verifies(&secret, &message));
}

#[tokio::test]
async fn what_no_key_opens_does_not_keep_the_rest_from_being_sealed_anew() {
    let site = Site::new().await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(site.hook("/hook", &["batch.completed"]).await.0);
    }
    let db = &site.installation.db;
    let sql = "insert into webhook (id, tenant_id, kind, url, sealed)
        select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, $1, 'endpoint', '', '\\x00'
            from generate_series(1, 2500) n";
    sqlx::query(sql).bind(site.tenant).execute(db).await.expect("inserts");
    let environment = site.installation.environment();
    let old = environment.iter().find(|(name, _)| name == "ENCRYPTION_KEYS").expect("there are keys").1.clone();
    let new = "new:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let keys = KeyRing::parse(&format!("{new},{old}")).expect("good keys");
    let resealed = delivery::reseal(db, &keys).await.expect("seals");
    assert_eq!(resealed, Resealed { done: 6, left: 2_500 }, "three URLs and their secrets");
    let resealed = delivery::reseal(db, &KeyRing::parse(new).expect("good keys")).await.expect("seals");
    assert_eq!(resealed, Resealed { done: 0, left: 2_500 }, "nothing is left under the old key");
}

#[tokio::test]
async fn probectl_posts_events_to_this_machine_as_a_webhook_would() {
    let mut site = Site::new().await;
    // a receiver that the service itself may not reach
    let laptop = tests::receiver::Receiver::start();
    let mut probectl = site.installation.probectl(&site.http, &["webhooks", "listen", &laptop.url("/mine")]);
    let secret = probectl.wait_for(
        |line| line.split_once("secret  ").map(|(_, secret)| secret.trim().trim_end_matches('"').to_owned()),
        "the secret",
    );
    let listens = |line: &str| (line.contains("handled") && line.contains("/api/v1/events")).then_some(());
    site.api.wait_for(listens, "it listens");
    let file = super::wav(&site.installation);
    let (hook, hooked) = site.hook("/hook", &["job.succeeded"]).await;
    assert!(!hook.is_empty() && !hooked.is_empty());
    let job = site.http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": file}})).await;
    let real = site.messages("/hook", 1).await.remove(0);
    crate::recovery::until("it arrives", async || laptop.messages("/mine").len() == 1).await;
    let message = laptop.messages("/mine").remove(0);
    assert!(verifies(&secret, &message), "{message:?}");
    let (mut sent, mut wanted) = (message.json(), real.json());
    assert_eq!(sent["data"]["job"]["id"], job.json["id"]);
    // the addresses differ: the worker was told of none
    for body in [&mut sent, &mut wanted] {
        assert!(body["data"]["result_url"].take().as_str().expect("a URL").ends_with("/result"));
    }
    assert_eq!(sent, wanted, "the same body");
    probectl.wait_for(|line| line.contains("job.succeeded").then_some(()), "the line");
}
