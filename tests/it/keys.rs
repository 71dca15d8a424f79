//! API keys over HTTP: made, shown once, listed, changed, rotated, revoked; what they open, from where and until when; and
//! how soon every process knows.

use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use shared::access::{Reach, Role};
use tests::servers::own;
use tests::{Answer, Http, Installation};
use uuid::Uuid;

const KEYS: &str = "/api/v1/api-keys";
/// A call that any key may make.
const LOOK: &str = "/api/v1/tenants/current";
/// What a change takes at most until every process knows of it.
const SOON: Duration = Duration::from_secs(1);
/// What a request takes on a busy machine.
const SLACK: Duration = Duration::from_millis(200);

/// Makes a key; returns its id and the key.
async fn make(http: &Http, body: Value) -> (String, String) {
    let made = http.post(KEYS, &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    (text(&made, "id"), text(&made, "key"))
}

fn text(answer: &Answer, member: &str) -> String {
    answer.json[member].as_str().unwrap_or_else(|| panic!("{member} in {}", answer.text)).to_owned()
}

fn viewer() -> Value {
    json!({"name": "a viewer", "role": "viewer"})
}

async fn once(http: &Http, path: &str, body: &Value, word: &str) -> Answer {
    Answer::of(http.request(Method::POST, path).header("idempotency-key", word).json(body)).await
}

#[tokio::test]
async fn a_key_works_at_once_and_is_shown_once() {
    let installation = Installation::new().await;
    let ((_a, http), (_b, other)) = (installation.api(&[]), installation.api(&[]));
    let body = json!({"name": "ingest", "role": "submitter", "scopes": ["uploads:write", "jobs:read"],
        "networks": ["127.0.0.1", "10.0.0.0/8"], "expires_in": 3600, "rate_per_minute": 60});
    let made = http.post(KEYS, &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    assert_eq!(made.header("location"), format!("{KEYS}/{id}"));
    assert_eq!(other.with_key(Some(&key)).get(LOOK).await.status, 200, "another process knows it at once");
    let shown = http.get(&format!("{KEYS}/{id}")).await;
    assert_eq!(shown.status, 200);
    assert_eq!(shown.json["scopes"], json!(["jobs:read", "uploads:write"]));
    assert_eq!(shown.json["rights"], shown.json["scopes"]);
    assert_eq!(shown.json["networks"], json!(["127.0.0.1/32", "10.0.0.0/8"]));
    assert_eq!((&shown.json["rate_per_minute"], &shown.json["state"]), (&json!(60), &json!("active")));
    assert_eq!(shown.json["public_id"], key.split('_').nth(1).expect("a part"));
    let maker: Uuid =
        sqlx::query_scalar("select id from api_key where platform").fetch_one(&installation.db).await.unwrap();
    assert_eq!(shown.json["created_by"], json!(maker));
    let list = http.get(KEYS).await;
    let names: Vec<&Value> = list.json["data"].as_array().expect("keys").iter().map(|k| &k["name"]).collect();
    assert_eq!(names, ["ingest", "first admin key"]);
    let secret = key.split('_').nth(2).expect("a part");
    for answer in [&shown, &list] {
        assert!(answer.json["key"].is_null() && !answer.text.contains(secret), "{}", answer.text);
    }
    let rows: Vec<String> =
        sqlx::query_scalar("select row_to_json(k)::text from api_key k").fetch_all(&installation.db).await.unwrap();
    assert!(rows.iter().all(|row| !row.contains(secret)));
}

#[tokio::test]
async fn a_repeated_request_makes_one_key_and_shows_no_secret() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let first = once(&http, KEYS, &viewer(), "w1").await;
    let again = once(&http, KEYS, &viewer(), "w1").await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201), "{}", again.text);
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!((&again.json["id"], again.header("location")), (&first.json["id"], first.header("location")));
    assert!(first.json["key"].is_string() && again.json.get("key").is_none(), "{}", again.text);
    let kept: Vec<String> =
        sqlx::query_scalar("select answer from idempotency").fetch_all(&installation.db).await.unwrap();
    assert!(kept.iter().all(|answer| !answer.contains("ffp_")), "{kept:?}");
    once(&http, KEYS, &json!({"name": "x", "role": "viewer"}), "w1").await.problem(422, "idempotency_mismatch");
    // the same word and body for another key, and for the same one
    let (rotate, other) = (format!("{KEYS}/{}/rotate", text(&first, "id")), make(&http, viewer()).await.0);
    let rotated = once(&http, &rotate, &json!({}), "w2").await;
    assert_eq!(rotated.status, 201, "{}", rotated.text);
    once(&http, &format!("{KEYS}/{other}/rotate"), &json!({}), "w2").await.problem(422, "idempotency_mismatch");
    let again = once(&http, &rotate, &json!({}), "w2").await;
    assert_eq!((again.status.as_u16(), &again.json["id"]), (201, &rotated.json["id"]), "{}", again.text);
    assert!(again.json.get("key").is_none(), "{}", again.text);
    // many at once make one
    let many = futures::future::join_all((0..8).map(|_| async { once(&http, KEYS, &viewer(), "w3").await })).await;
    assert_eq!(many.iter().filter(|a| a.json["key"].is_string()).count(), 1);
    assert!(many.iter().all(|a| a.status == 201 && a.json["id"] == many[0].json["id"]));
}

/// Uses a key until it is refused; returns how long after `begun` the last request was sent that was not.
async fn until_refused(http: &Http, begun: Instant) -> Duration {
    let mut last = Duration::ZERO;
    loop {
        let sent = begun.elapsed();
        let answer = http.get(LOOK).await;
        if answer.status != 200 {
            assert!(answer.problem(401, "unauthorized").contains("was revoked"), "{}", answer.text);
            return last;
        }
        last = sent;
        assert!(last < 10 * SOON, "it is never refused");
    }
}

#[tokio::test]
async fn revocation_reaches_every_process_by_the_bell() {
    let installation = Installation::new().await;
    let ((_a, http), (_b, other)) = (installation.api(&[]), installation.api(&[]));
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let (id, key) = make(&http, viewer()).await;
        let other = other.with_key(Some(&key));
        // just looked up: without a bell it would be believed for a second
        assert_eq!(other.get(LOOK).await.status, 200);
        let begun = Instant::now();
        assert_eq!(http.delete(&format!("{KEYS}/{id}")).await.status, 204);
        http.with_key(Some(&key)).get(LOOK).await.problem(401, "unauthorized");
        slowest = slowest.max(until_refused(&other, begun).await);
        assert_eq!(http.delete(&format!("{KEYS}/{id}")).await.status, 204, "twice is no mistake");
        let shown = http.get(&format!("{KEYS}/{id}")).await;
        assert_eq!((&shown.json["state"], shown.json["revoked_at"].is_string()), (&json!("revoked"), true));
    }
    println!("another process took a revoked key for at most {slowest:?}");
    assert!(slowest < SOON / 2, "{slowest:?}");
}

#[tokio::test]
async fn revocation_reaches_every_process_without_redis() {
    let (private, servers) = own().await;
    let installation = Installation::on(&servers).await;
    let ((_a, http), (_b, other)) = (installation.api(&[]), installation.api(&[]));
    let redis = rustix::process::Pid::from_raw(private.pids().redis.expect("runs").cast_signed()).expect("a pid");
    for signal in [Signal::STOP, Signal::KILL] {
        let (id, key) = make(&http, viewer()).await;
        rustix::process::kill_process(redis, signal).expect("it runs");
        let other = other.with_key(Some(&key));
        assert_eq!(other.get(LOOK).await.status, 200);
        let begun = Instant::now();
        let path = format!("{KEYS}/{id}");
        let (gone, took) = tokio::join!(http.delete(&path), until_refused(&other, begun));
        assert_eq!(gone.status, 204, "{}", gone.text);
        println!("{signal:?}: another process took a revoked key for {took:?}");
        assert!(took < SOON + SLACK, "{signal:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_change_reaches_every_process() {
    let installation = Installation::new().await;
    let ((_a, http), (_b, other)) = (installation.api(&[]), installation.api(&[]));
    let (id, key) = make(&http, json!({"name": "x", "role": "viewer", "scopes": ["jobs:read"]})).await;
    let path = format!("{KEYS}/{id}");
    let (here, there) = (http.with_key(Some(&key)), other.with_key(Some(&key)));
    assert_eq!(there.get(LOOK).await.status, 200);
    let changed = http.patch(&path, &json!({"name": "y", "networks": ["192.0.2.0/24"]})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!((&changed.json["name"], &changed.json["scopes"]), (&json!("y"), &json!(["jobs:read"])));
    let begun = Instant::now();
    while there.get(LOOK).await.status == 200 {
        assert!(begun.elapsed() < SOON + SLACK, "the other process does not hear of it");
    }
    for http in [&here, &there] {
        assert!(http.get(LOOK).await.problem(403, "address_not_allowed").contains("127.0.0.1"));
    }
    assert_eq!(http.patch(&path, &json!({"networks": [], "scopes": null, "rate_per_minute": 5})).await.status, 200);
    assert_eq!(here.get(LOOK).await.status, 200);
    assert_eq!(here.get("/api/v1/queues").await.status, 200, "it has all rights of its role");
    let changed = http.patch(&path, &json!({"rate_per_minute": null, "expires_in": 1})).await;
    assert_eq!(changed.json["rate_per_minute"], Value::Null);
    assert_eq!(changed.json["scopes"], Value::Null);
    let begun = Instant::now();
    loop {
        let answer = there.get(LOOK).await;
        if answer.status != 200 {
            assert!(answer.problem(401, "unauthorized").contains("has expired"));
            break;
        }
        // a second to live, and a second for which a look-up is believed
        assert!(begun.elapsed() < 2 * SOON + SLACK);
    }
    assert_eq!(http.get(&path).await.json["state"], "expired");
    http.patch(&path, &json!({"expires_at": null})).await.problem(409, "key_not_in_force");
    http.post(&format!("{path}/rotate"), &json!({})).await.problem(409, "key_not_in_force");
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let default = installation.tenant("default").await;
    let (_, plain) = installation.key_of(default, Role::Admin, Reach::Tenant, None).await;
    let (narrow_id, narrow) =
        installation.key_of(default, Role::Admin, Reach::Tenant, Some(&["keys:write", "jobs:read"])).await;
    let (plain, narrow) = (http.with_key(Some(&plain)), http.with_key(Some(&narrow)));
    let key = |role: &str, platform: bool, scopes: Value| json!({"name": "x", "role": role, "platform": platform, "scopes": scopes});
    for (http, body) in [
        (&plain, key("admin", true, Value::Null)),
        (&plain, key("admin", true, json!(["jobs:read"]))),
        (&narrow, key("admin", false, Value::Null)),
        (&narrow, key("viewer", false, Value::Null)),
        (&narrow, key("submitter", false, json!(["jobs:read", "jobs:write"]))),
    ] {
        http.post(KEYS, &body).await.problem(403, "forbidden");
    }
    for (http, body) in [
        (&http, key("admin", true, Value::Null)),
        (&plain, key("admin", false, Value::Null)),
        (&narrow, key("viewer", false, json!(["jobs:read"]))),
        (&narrow, key("admin", false, json!(["keys:write"]))),
    ] {
        let made = http.post(KEYS, &body).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    // nor by changing or rotating what others have
    let first: Uuid = sqlx::query_scalar("select id from api_key where platform order by created_at limit 1")
        .fetch_one(&installation.db)
        .await
        .unwrap();
    let (strong, _) = make(&http, json!({"name": "strong", "role": "admin"})).await;
    for (http, id) in [(&plain, first.to_string()), (&narrow, first.to_string()), (&narrow, strong.clone())] {
        http.patch(&format!("{KEYS}/{id}"), &json!({"networks": []})).await.problem(403, "forbidden");
        http.post(&format!("{KEYS}/{id}/rotate"), &json!({})).await.problem(403, "forbidden");
    }
    for http in [&plain, &narrow] {
        http.delete(&format!("{KEYS}/{first}")).await.problem(403, "forbidden");
    }
    let own = format!("{KEYS}/{narrow_id}");
    narrow.patch(&own, &json!({"scopes": null})).await.problem(403, "forbidden");
    narrow.patch(&own, &json!({"scopes": ["keys:write", "keys:read"]})).await.problem(403, "forbidden");
    let shut_out = narrow.patch(&own, &json!({"networks": ["192.0.2.0/24"]})).await;
    assert!(shut_out.problem(400, "invalid_value").contains("127.0.0.1"));
    assert_eq!(narrow.patch(&own, &json!({"scopes": ["keys:write"]})).await.status, 200, "less is given away");
    assert_eq!(narrow.delete(&format!("{KEYS}/{strong}")).await.status, 204, "a leaked key can be taken away");
    assert_eq!(http.get(&format!("{KEYS}/{first}")).await.json["state"], "active");
}

#[tokio::test]
async fn both_keys_work_during_a_rotation() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let body = json!({"name": "x", "role": "submitter", "scopes": ["jobs:read", "jobs:write"], "networks": ["127.0.0.0/8"],
        "expires_in": 86_400, "rate_per_minute": 99_000});
    let (id, old) = make(&http, body).await;
    let rotated = http.post(&format!("{KEYS}/{id}/rotate"), &json!({"overlap_seconds": 2})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text);
    let (new_id, new) = (text(&rotated, "id"), text(&rotated, "key"));
    assert!(new_id != id && new != old);
    let shown = http.get(&format!("{KEYS}/{id}")).await.json;
    assert_eq!((&shown["replaced_by"], &shown["state"]), (&json!(new_id), &json!("active")));
    let successor = http.get(&format!("{KEYS}/{new_id}")).await.json;
    for member in ["name", "role", "scopes", "networks", "rate_per_minute", "platform"] {
        assert_eq!(successor[member], shown[member], "{member}");
    }
    assert!(successor["expires_at"].as_str() > shown["expires_at"].as_str(), "{successor}");
    let (old, new) = (http.with_key(Some(&old)), http.with_key(Some(&new)));
    assert_eq!((old.get(LOOK).await.status.as_u16(), new.get(LOOK).await.status.as_u16()), (200, 200));
    http.post(&format!("{KEYS}/{id}/rotate"), &json!({})).await.problem(409, "key_not_in_force");
    let begun = Instant::now();
    while old.get(LOOK).await.status == 200 {
        assert!(begun.elapsed() < 3 * SOON + SLACK, "the old key goes on");
    }
    assert!(old.get(LOOK).await.problem(401, "unauthorized").contains("has expired"));
    assert_eq!(new.get(LOOK).await.status, 200);
    // a leak: at once, and never longer than the key would have lasted
    let rotated = http.post(&format!("{KEYS}/{new_id}/rotate"), &json!({"overlap_seconds": 0})).await;
    new.get(LOOK).await.problem(401, "unauthorized");
    let (short, _) = make(&http, json!({"name": "x", "role": "viewer", "expires_in": 60})).await;
    let before = http.get(&format!("{KEYS}/{short}")).await.json["expires_at"].clone();
    http.post(&format!("{KEYS}/{short}/rotate"), &json!({"overlap_seconds": 3600})).await;
    assert_eq!(http.get(&format!("{KEYS}/{short}")).await.json["expires_at"], before);
    // one whose successor is lost can be rotated again
    let (lost, _) = make(&http, viewer()).await;
    let successor = text(&http.post(&format!("{KEYS}/{lost}/rotate"), &json!({})).await, "id");
    assert_eq!(http.delete(&format!("{KEYS}/{successor}")).await.status, 204);
    assert_eq!(http.post(&format!("{KEYS}/{lost}/rotate"), &json!({})).await.status, 201);
    assert_eq!(rotated.status, 201);
}

#[tokio::test]
async fn the_last_admin_key_of_the_platform_stays() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let first = text_of_first(&http).await;
    let path = format!("{KEYS}/{first}");
    let admin = |expires_in: Value, scopes: Value| json!({"name": "x", "role": "admin", "platform": true, "expires_in": expires_in, "scopes": scopes});
    // others do not count: without reach, too narrow, too short
    make(&http, json!({"name": "x", "role": "admin"})).await;
    make(&http, admin(Value::Null, json!(["keys:write", "jobs:read"]))).await;
    make(&http, admin(json!(3_600), Value::Null)).await;
    for refused in [
        http.delete(&path).await,
        http.patch(&path, &json!({"expires_in": 3_600})).await,
        http.patch(&path, &json!({"scopes": ["tenants:write"]})).await,
    ] {
        assert!(refused.problem(409, "last_admin_key").contains("First make another admin key"));
    }
    assert_eq!(http.get(&path).await.json["state"], "active");
    assert_eq!(http.patch(&path, &json!({"name": "y", "networks": ["127.0.0.1"]})).await.status, 200);
    assert_eq!(http.patch(&path, &json!({"expires_in": 864_000})).await.status, 200, "ten days are long enough");
    // rotation keeps somebody in charge
    let rotated = http.post(&format!("{path}/rotate"), &json!({"overlap_seconds": 0})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text);
    let http = http.with_key(Some(&text(&rotated, "key")));
    let path = format!("{KEYS}/{}", text(&rotated, "id"));
    http.delete(&path).await.problem(409, "last_admin_key");
    // two that go at the same time do not both go
    let (second, key) = make(&http, admin(json!(8_640_000), Value::Null)).await;
    let other = http.with_key(Some(&key));
    let second = format!("{KEYS}/{second}");
    let (a, b) = tokio::join!(http.delete(&second), other.delete(&path));
    let mut codes = [a.status.as_u16(), b.status.as_u16()];
    codes.sort_unstable();
    assert_eq!(codes[0], 204, "{} {}", a.text, b.text);
    assert!(codes[1] == 409 || codes[1] == 401, "{} {}", a.text, b.text);
}

async fn text_of_first(http: &Http) -> String {
    let list = http.get(KEYS).await;
    let first = list.json["data"].as_array().and_then(|k| k.last()).expect("a key").clone();
    first["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn keys_of_another_tenant_do_not_exist() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let (id, key) = make(&http, viewer()).await;
    let other = http.with_key(Some(&installation.another_key("other", Role::Admin, &[]).await));
    let path = format!("{KEYS}/{id}");
    other.get(&path).await.problem(404, "not_found");
    other.patch(&path, &json!({"name": "mine"})).await.problem(404, "not_found");
    other.delete(&path).await.problem(404, "not_found");
    other.post(&format!("{path}/rotate"), &json!({})).await.problem(404, "not_found");
    assert_eq!(other.get(KEYS).await.json["data"].as_array().map(Vec::len), Some(1), "its own");
    http.get(&format!("{KEYS}/nonsense")).await.problem(404, "not_found");
    assert_eq!(http.with_key(Some(&key)).get(LOOK).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let long = "x".repeat(101);
    let many = vec!["10.0.0.0/8"; 51];
    let rows = [
        (json!({"name": "", "role": "viewer"}), "#/name"),
        (json!({"name": long, "role": "viewer"}), "#/name"),
        (json!({"name": "a\u{0}b", "role": "viewer"}), "#/name"),
        (json!({"name": "x", "role": "viewer", "platform": true}), "#/platform"),
        (json!({"name": "x", "role": "viewer", "scopes": []}), "#/scopes"),
        (json!({"name": "x", "role": "viewer", "scopes": ["jobs:read", "jobs:write"]}), "#/scopes/1"),
        (json!({"name": "x", "role": "viewer", "scopes": vec!["jobs:read"; 51]}), "#/scopes"),
        (json!({"name": "x", "role": "admin", "scopes": ["tenants:read"]}), "#/scopes/0"),
        (json!({"name": "x", "role": "viewer", "networks": ["10.0.0.0/8", "10.0.0.1/8"]}), "#/networks/1"),
        (json!({"name": "x", "role": "viewer", "networks": ["everywhere"]}), "#/networks/0"),
        (json!({"name": "x", "role": "viewer", "networks": many}), "#/networks"),
        (json!({"name": "x", "role": "viewer", "expires_in": 0}), "#/expires_in"),
        (json!({"name": "x", "role": "viewer", "expires_in": 315_360_001}), "#/expires_in"),
        (json!({"name": "x", "role": "viewer", "expires_in": 5, "expires_at": "2100-01-01T00:00:00Z"}), "#/expires_in"),
        (json!({"name": "x", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}), "#/expires_at"),
        (json!({"name": "x", "role": "viewer", "expires_at": "9999-12-31T23:00:00-05:00"}), "#/expires_at"),
        (json!({"name": "x", "role": "viewer", "rate_per_minute": 0}), "#/rate_per_minute"),
        (json!({"name": "x", "role": "viewer", "rate_per_minute": 1_000_001}), "#/rate_per_minute"),
    ];
    for (body, pointer) in rows {
        let answer = http.post(KEYS, &body).await;
        answer.problem(400, "invalid_value");
        assert_eq!(answer.json["errors"][0]["pointer"], pointer, "{}", answer.text);
    }
    for body in [
        json!({"role": "viewer"}),
        json!({"name": "x"}),
        json!({"name": "x", "role": "owner"}),
        json!({"name": "x", "role": "viewer", "scopes": ["moon:read"]}),
        json!({"name": "x", "role": "viewer", "rate_per_minute": -1}),
        json!({"name": "x", "role": "viewer", "expires_in": 1e30}),
        json!({"name": "x", "role": "viewer", "tenant": "other"}),
    ] {
        http.post(KEYS, &body).await.problem(400, "invalid_json");
    }
    let (id, _) = make(&http, viewer()).await;
    let path = format!("{KEYS}/{id}");
    http.patch(&path, &json!({"role": "admin"})).await.problem(400, "invalid_json");
    http.patch(&path, &json!({"scopes": ["keys:write"]})).await.problem(400, "invalid_value");
    http.post(&format!("{path}/rotate"), &json!({"overlap_seconds": 2_592_001})).await.problem(400, "invalid_value");
    assert_eq!(http.patch(&path, &json!({})).await.status, 200, "nothing changes");
}

#[tokio::test]
async fn the_list_has_pages_and_their_number_is_bounded() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let sql = "insert into api_key (id, tenant_id, public_id, digest, name, role, created_at, revoked_at)
        select gen_random_uuid(), t.id, 'x' || n, decode(repeat('00', 32), 'hex'), 'x', 'viewer',
            clock_timestamp() - make_interval(secs => n), case when n > 499 then clock_timestamp() end
        from generate_series(1, 1100) n, tenant t where t.name = 'default'";
    sqlx::query(sql).execute(&installation.db).await.expect("keys");
    http.post(KEYS, &viewer()).await.problem(409, "too_many_keys");
    let (mut seen, mut path) = (Vec::new(), format!("{KEYS}?limit=200"));
    loop {
        let page = http.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        seen.extend(page.json["data"].as_array().expect("keys").iter().map(|k| k["id"].to_string()));
        let link = page.header("link");
        assert_eq!(page.json["has_more"], !link.is_empty());
        let Some(next) = link.strip_prefix('<').and_then(|l| l.split('>').next()) else { break };
        path = next.to_owned();
    }
    assert_eq!(seen.len(), 1101);
    seen.dedup();
    assert_eq!(seen.len(), 1101);
    let cursor = http.get(&format!("{KEYS}?limit=1")).await.json["next_cursor"].as_str().expect("more").to_owned();
    http.get(&format!("/api/v1/tenants?cursor={cursor}")).await.problem(400, "invalid_cursor");
    let other = http.with_key(Some(&installation.another_key("other", Role::Admin, &[]).await));
    other.get(&format!("{KEYS}?cursor={cursor}")).await.problem(400, "invalid_cursor");
    http.get(&format!("{KEYS}?limit=201")).await.problem(400, "bad_request");
    // one goes, one comes; of those that are gone the oldest are forgotten
    sqlx::query("update api_key set revoked_at = clock_timestamp() where public_id = 'x1'")
        .execute(&installation.db)
        .await
        .unwrap();
    make(&http, viewer()).await;
    let dead: i64 = sqlx::query_scalar("select count(*) from api_key where revoked_at is not null")
        .fetch_one(&installation.db)
        .await
        .unwrap();
    assert_eq!(dead, 500);
    http.post(KEYS, &viewer()).await.problem(409, "too_many_keys");
}

#[tokio::test]
async fn the_last_use_is_noted_soon_and_when_a_process_ends() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let (id, key) = make(&http, viewer()).await;
    let shown = async |http: &Http| http.get(&format!("{KEYS}/{id}")).await.json;
    assert_eq!(shown(&http).await["last_used_at"], Value::Null);
    for _ in 0..20 {
        assert_eq!(http.with_key(Some(&key)).get(LOOK).await.status, 200);
    }
    let begun = Instant::now();
    while shown(&http).await["last_used_at"].is_null() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is never noted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(shown(&http).await["last_used_from"], "127.0.0.1");
    let writes = async || -> (i64, Option<chrono::DateTime<chrono::Utc>>) {
        let sql = "select xmin::text::bigint, last_used_at from api_key where id = $1::uuid";
        sqlx::query_as(sql).bind(&id).fetch_one(&installation.db).await.expect("a key")
    };
    let before = writes().await;
    // busy for longer than a round: not written again within the minute
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        assert_eq!(http.with_key(Some(&key)).get(LOOK).await.status, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(writes().await, before);
    let (late, key) = make(&http, viewer()).await;
    assert_eq!(http.with_key(Some(&key)).get(LOOK).await.status, 200);
    api.stop();
    let used: Option<chrono::DateTime<chrono::Utc>> =
        sqlx::query_scalar("select last_used_at from api_key where id = $1::uuid")
            .bind(&late)
            .fetch_one(&installation.db)
            .await
            .unwrap();
    assert!(used.is_some(), "what was noted is written at the end");
}
