//! Webhooks through HTTP, with the real API, worker and deliverer: managing them, what arrives and how it is signed, what goes
//! wrong at the receiver and what becomes of it, whom nothing is sent to, and what a broken one costs the others.

mod calls;
mod chaos;
mod fairness;
mod faults;
mod job;
mod own;
mod replay;
mod signature;
mod targets;
mod turns;

use std::time::Duration;

use serde_json::{Value, json};
use shared::event::EventType;
use shared::id::{TenantId, WebhookId};
use shared::store;
use tests::receiver::{Message, Receiver};
use tests::{Http, Installation, Program, samples};

use crate::remote::until;

/// An installation whose API and worker may post to one receiver on this machine.
struct Site {
    receiver: Receiver,
    http: Http,
    installation: Installation,
    tenant: TenantId,
    api: Program,
    worker: Program,
}

/// What opens the way to a receiver, and to no more.
fn opened(receiver: &Receiver) -> [(&'static str, String); 2] {
    let open = format!("127.0.0.1/32:{}", receiver.port());
    [("EGRESS_SCHEMES", "https,http".to_owned()), ("EGRESS_ALLOW_CIDRS", open)]
}

impl Site {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With more settings for the worker.
    async fn with(settings: &[(&str, &str)]) -> Self {
        let (installation, receiver) = (Installation::new().await, Receiver::start());
        let open = opened(&receiver);
        let egress = open.each_ref().map(|(name, value)| (*name, value.as_str()));
        let (api, http) = installation.api(&egress);
        let worker = installation.worker(&[&egress[..], settings].concat());
        let tenant = tenant(&installation, &http).await;
        Self { receiver, http, installation, tenant, api, worker }
    }

    /// Makes a webhook of these events at a path of the receiver. Its id and secret.
    async fn hook(&self, path: &str, events: &[&str]) -> (String, String) {
        hook(&self.http, &self.receiver.url(path), events).await
    }

    /// Waits until so many messages have come to a path.
    async fn messages(&self, path: &str, count: usize) -> Vec<Message> {
        until(&format!("{count} messages at {path}"), async || {
            let messages = self.receiver.messages(path);
            (messages.len() >= count).then_some(messages)
        })
        .await
    }

    /// Writes events, as if something had happened to the tenant.
    async fn happen(&self, count: usize) {
        for number in 0..count {
            let data = json!({"batch": {"number": number}});
            let db = &self.installation.db;
            store::event::insert(db, self.tenant, EventType::BatchCompleted, &data).await.expect("inserts");
        }
    }

    /// The latest delivery of a webhook, once it is as wanted.
    async fn delivery(&self, hook: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until("the delivery is as wanted", async || {
            let list = self.http.get(&format!("/api/v1/webhooks/{hook}/deliveries")).await;
            let first = list.json["data"][0].clone();
            if first.is_null() {
                return None;
            }
            let id = first["id"].as_str().expect("an id");
            let shown = self.http.get(&format!("/api/v1/webhooks/{hook}/deliveries/{id}")).await;
            assert_eq!(shown.status, 200, "{}", shown.text);
            wanted(&shown.json).then_some(shown.json)
        })
        .await
    }

    /// Lets all waits be over.
    async fn now(&self) {
        let sql = "update delivery set next_at = clock_timestamp() where state = 'pending'";
        sqlx::query(sql).execute(&self.installation.db).await.expect("time passes");
        let sql = "update webhook set open_until = null, asked_until = null";
        sqlx::query(sql).execute(&self.installation.db).await.expect("time passes");
    }

    async fn show(&self, hook: &str) -> Value {
        self.http.get(&format!("/api/v1/webhooks/{hook}")).await.json
    }
}

async fn tenant(installation: &Installation, http: &Http) -> TenantId {
    let me = http.get("/api/v1/tenants/current").await;
    let id = me.json["id"].as_str().map(|id| id.parse().expect("an id"));
    match id {
        Some(id) => id,
        None => {
            sqlx::query_scalar("select tenant_id from api_key").fetch_one(&installation.db).await.expect("a tenant")
        }
    }
}

async fn hook(http: &Http, url: &str, events: &[&str]) -> (String, String) {
    let made = http.post("/api/v1/webhooks", &json!({"url": url, "events": events})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let text = |name: &str| made.json[name].as_str().expect("it is there").to_owned();
    (text("id"), text("secret"))
}

/// Runs a statement, most often one that lets time pass.
async fn shift(site: &Site, sql: &'static str) {
    sqlx::query(sql).execute(&site.installation.db).await.expect("the statement runs");
}

fn id(hook: &str) -> WebhookId {
    hook.parse().expect("an id")
}

/// A second, for what must not happen.
async fn a_moment() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// A file to be probed.
fn wav(installation: &Installation) -> String {
    installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"))
}
