//! Tenants over HTTP and on the command line: made, granted, limited, suspended, and what a tenant sees of itself. Who may do
//! so is asked in `rights`.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use shared::access::{Reach, Role};
use tests::{Answer, Http, Installation, samples};

const TENANTS: &str = "/api/v1/tenants";
const CURRENT: &str = "/api/v1/tenants/current";
/// What a change takes at most until every process knows of it, and a request on a busy machine.
const SOON: Duration = Duration::from_millis(1_200);

/// Makes a tenant; returns its id.
async fn make(http: &Http, body: Value) -> String {
    let made = http.post(TENANTS, &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json["id"].as_str().expect("an id").to_owned()
}

/// A tenant's first key.
async fn first_key(http: &Http, tenant: &str) -> String {
    let made = http.post(&format!("{TENANTS}/{tenant}/api-keys"), &json!({"name": "first", "role": "admin"})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json["key"].as_str().expect("a key").to_owned()
}

async fn once(http: &Http, path: &str, body: &Value, word: &str) -> Answer {
    Answer::of(http.request(Method::POST, path).header("idempotency-key", word).json(body)).await
}

#[tokio::test]
async fn a_tenant_begins_with_its_first_key() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let made = http.post(TENANTS, &json!({"name": "acme", "limits": {"max_queued": 7}})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.json["id"].as_str().expect("an id").to_owned();
    assert_eq!(made.header("location"), format!("{TENANTS}/{id}"));
    assert_eq!((&made.json["media_roots"], &made.json["suspended"]), (&json!([]), &json!(false)));
    assert_eq!((&made.json["limits"]["max_queued"], &made.json["limits"]["max_running"]), (&json!(7), &Value::Null));
    assert_eq!(http.get(&format!("{TENANTS}/{id}")).await.json, made.json);
    let acme = http.with_key(Some(&first_key(&http, &id).await));
    let keys = acme.get("/api/v1/api-keys").await.json;
    assert_eq!(keys["data"].as_array().map(Vec::len), Some(1), "{keys}");
    let own = acme.post("/api/v1/api-keys", &json!({"name": "second", "role": "submitter"})).await;
    assert_eq!(own.status, 201, "its admin makes the others: {}", own.text);
    acme.get(TENANTS).await.problem(403, "forbidden");
    let key = format!("/api/v1/api-keys/{}", own.json["id"].as_str().expect("an id"));
    http.get(&key).await.problem(404, "not_found");
    http.post(TENANTS, &json!({"name": "acme"})).await.problem(409, "tenant_name_taken");
    http.patch(&format!("{TENANTS}/{id}"), &json!({"name": "default"})).await.problem(409, "tenant_name_taken");
    let nobody = format!("{TENANTS}/{}", shared::id::TenantId::new());
    http.get(&nobody).await.problem(404, "not_found");
    http.patch(&nobody, &json!({})).await.problem(404, "not_found");
    http.post(&format!("{nobody}/api-keys"), &json!({"name": "x", "role": "viewer"})).await.problem(404, "not_found");
}

#[tokio::test]
async fn nobody_gives_another_tenant_more_than_they_have() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let keys = format!("{TENANTS}/{}/api-keys", make(&http, json!({"name": "acme"})).await);
    let default = installation.tenant("default").await;
    let (_, narrow) =
        installation.key_of(default, Role::Admin, Reach::Platform, Some(&["tenants:write", "jobs:read"])).await;
    let narrow = http.with_key(Some(&narrow));
    narrow.post(&keys, &json!({"name": "x", "role": "admin"})).await.problem(403, "forbidden");
    narrow.post(&keys, &json!({"name": "x", "role": "submitter"})).await.problem(403, "forbidden");
    let made = narrow.post(&keys, &json!({"name": "x", "role": "viewer", "scopes": ["jobs:read"]})).await;
    assert_eq!(made.status, 201, "{}", made.text);
}

#[tokio::test]
async fn a_repeated_request_makes_one_tenant() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let first = once(&http, TENANTS, &json!({"name": "acme"}), "w1").await;
    let again = once(&http, TENANTS, &json!({"name": "acme"}), "w1").await;
    assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (201, "true"), "{}", again.text);
    assert_eq!((&again.json, again.header("location")), (&first.json, first.header("location")));
    let (acme, other) = (first.json["id"].as_str().expect("an id"), make(&http, json!({"name": "other"})).await);
    let body = json!({"name": "first", "role": "admin"});
    let key = once(&http, &format!("{TENANTS}/{acme}/api-keys"), &body, "w2").await;
    assert!(key.json["key"].is_string(), "{}", key.text);
    let again = once(&http, &format!("{TENANTS}/{acme}/api-keys"), &body, "w2").await;
    assert!(again.status == 201 && again.json.get("key").is_none(), "{}", again.text);
    // the same word and body, but another tenant: no key of the wrong one comes back
    once(&http, &format!("{TENANTS}/{other}/api-keys"), &body, "w2").await.problem(422, "idempotency_mismatch");
}

#[tokio::test]
async fn grants_count_at_once_and_must_be_set_up() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let id = make(&http, json!({"name": "acme"})).await;
    let acme = http.with_key(Some(&first_key(&http, &id).await));
    let path = format!("{TENANTS}/{id}");
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let job = json!({"source": {"type": "path", "path": file}});
    acme.post("/api/v1/jobs", &job).await.problem(400, "no_media_root");
    for (body, pointer) in [
        (json!({"media_roots": ["media", "moon"]}), "#/media_roots/1"),
        (json!({"s3_profiles": ["archive"]}), "#/s3_profiles/0"),
    ] {
        let answer = http.patch(&path, &body).await;
        let detail = answer.problem(400, "invalid_value");
        assert!(detail.contains("Set up are:"), "{detail}");
        assert_eq!(answer.json["errors"][0]["pointer"], pointer);
        let answer = http.post(TENANTS, &json!({"name": "x", "media_roots": ["moon"]})).await;
        answer.problem(400, "invalid_value");
    }
    let granted = http.patch(&path, &json!({"media_roots": ["media"], "s3_profiles": ["*"]})).await;
    assert_eq!((&granted.json["media_roots"], &granted.json["s3_profiles"]), (&json!(["media"]), &json!(["*"])));
    assert_eq!(acme.post("/api/v1/jobs", &job).await.status, 202);
    let taken = http.patch(&path, &json!({"media_roots": []})).await;
    assert_eq!((&taken.json["media_roots"], &taken.json["s3_profiles"]), (&json!([]), &json!(["*"])));
    acme.post("/api/v1/jobs", &job).await.problem(400, "no_media_root");
}

#[tokio::test]
async fn a_suspended_tenant_is_served_by_no_process() {
    let installation = Installation::new().await;
    let ((_a, http), (_b, other)) = (installation.api(&[]), installation.api(&[]));
    let id = make(&http, json!({"name": "acme"})).await;
    let key = first_key(&http, &id).await;
    let (here, there) = (http.with_key(Some(&key)), other.with_key(Some(&key)));
    let path = format!("{TENANTS}/{id}");
    assert_eq!(there.get(CURRENT).await.status, 200);
    let suspended = http.patch(&path, &json!({"suspended": true})).await;
    assert!(suspended.json["suspended"] == true && suspended.json["suspended_at"].is_string(), "{}", suspended.text);
    let begun = Instant::now();
    here.get(CURRENT).await.problem(403, "tenant_suspended");
    while there.get(CURRENT).await.status == 200 {
        assert!(begun.elapsed() < SOON, "the other process does not hear of it");
    }
    there.get(CURRENT).await.problem(403, "tenant_suspended");
    assert_eq!(http.get(CURRENT).await.status, 200, "others are served");
    let again = http.patch(&path, &json!({"suspended": true, "limits": {"max_running": 1}})).await;
    assert_eq!(again.json["suspended_at"], suspended.json["suspended_at"], "since when it was");
    let resumed = http.patch(&path, &json!({"suspended": false})).await;
    assert_eq!((&resumed.json["suspended_at"], &resumed.json["limits"]["max_running"]), (&Value::Null, &json!(1)));
    for http in [&here, &there] {
        assert_eq!(http.get(CURRENT).await.status, 200, "a refusal is not remembered");
    }
    // the platform must stay manageable
    let own = http.get(CURRENT).await.json["id"].as_str().expect("an id").to_owned();
    http.patch(&format!("{TENANTS}/{own}"), &json!({"suspended": true})).await.problem(409, "last_admin_key");
    let body = json!({"name": "x", "role": "admin", "platform": true});
    let made = http.post(&format!("{path}/api-keys"), &body).await;
    let second = http.with_key(made.json["key"].as_str());
    assert_eq!(second.patch(&format!("{TENANTS}/{own}"), &json!({"suspended": true})).await.status, 200);
    http.get(CURRENT).await.problem(403, "tenant_suspended");
    second.patch(&path, &json!({"suspended": true})).await.problem(409, "last_admin_key");
}

#[tokio::test]
async fn limits_are_set_kept_and_taken_away() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let path = format!("{TENANTS}/{}", make(&http, json!({"name": "acme"})).await);
    let all = json!({"rate_per_minute": 1, "rate_burst": 2, "max_queued": 3, "max_running": 4, "max_open_uploads": 5,
        "max_stored_bytes": 0});
    let set = http.patch(&path, &json!({"limits": all})).await;
    assert_eq!(set.json["limits"], all, "{}", set.text);
    let changed = http
        .patch(&path, &json!({"limits": {"max_queued": null, "max_stored_bytes": 9_007_199_254_740_991_i64}}))
        .await;
    assert_eq!(
        (&changed.json["limits"]["max_queued"], &changed.json["limits"]["rate_burst"]),
        (&Value::Null, &json!(2))
    );
    assert_eq!(changed.json["limits"]["max_stored_bytes"], 9_007_199_254_740_991_i64);
    for (member, value) in
        [("rate_per_minute", 0_i64), ("rate_burst", -1), ("max_queued", 100_000_001), ("max_stored_bytes", -1)]
    {
        let answer = http.patch(&path, &json!({"limits": {member: value}})).await;
        answer.problem(400, "invalid_value");
        assert_eq!(answer.json["errors"][0]["pointer"], format!("#/limits/{member}"));
    }
    for body in [
        json!({"limits": {"max_stored_bytes": 1e300}}),
        json!({"limits": {"moon": 1}}),
        json!({"suspended": null, "id": 1}),
    ] {
        http.patch(&path, &body).await.problem(400, "invalid_json");
    }
    http.patch(&path, &json!({"name": ""})).await.problem(400, "invalid_value");
    let before = http.get(&path).await.json;
    assert_eq!(http.patch(&path, &json!({})).await.json, before, "nothing changes");
}

#[tokio::test]
async fn a_tenant_sees_what_it_has() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let id = make(&http, json!({"name": "acme", "media_roots": ["*"], "limits": {"max_open_uploads": 9}})).await;
    let admin = http.with_key(Some(&first_key(&http, &id).await));
    let made = admin.post("/api/v1/api-keys", &json!({"name": "x", "role": "viewer"})).await;
    let viewer = admin.with_key(made.json["key"].as_str());
    let shown = viewer.get(CURRENT).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    assert_eq!((&shown.json["id"], &shown.json["name"]), (&json!(id), &json!("acme")));
    assert_eq!(shown.json["usage"], json!({"queued": 0, "running": 0, "open_uploads": 0, "stored_bytes": 0}));
    assert_eq!((&shown.json["media_roots"], &shown.json["limits"]["max_open_uploads"]), (&json!(["*"]), &json!(9)));
    for name in ["/a.wav", "/b.wav"] {
        let job = admin.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": name}})).await;
        assert_eq!(job.status, 202, "{}", job.text);
    }
    admin.upload("a.wav", "hello").await;
    let open =
        admin.request(Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0").header("upload-length", "7");
    assert_eq!(Answer::of(open).await.status, 201);
    http.upload("b.wav", "of another tenant").await;
    let usage = viewer.get(CURRENT).await.json["usage"].clone();
    assert_eq!(usage, json!({"queued": 2, "running": 0, "open_uploads": 1, "stored_bytes": 12}));
}

#[tokio::test]
async fn the_list_has_pages_and_tenants_are_bounded() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let sql = "insert into tenant (id, name) select gen_random_uuid(), 't' || n from generate_series(1, 9999) n";
    sqlx::query(sql).execute(&installation.db).await.expect("tenants");
    http.post(TENANTS, &json!({"name": "acme"})).await.problem(409, "too_many_tenants");
    let (mut seen, mut path) = (Vec::new(), format!("{TENANTS}?limit=200"));
    for page in 1..=50 {
        let answer = http.get(&path).await;
        seen.extend(answer.json["data"].as_array().expect("tenants").iter().map(|t| t["id"].to_string()));
        let link = answer.header("link");
        assert_eq!(link.is_empty(), page == 50, "{link}");
        path = link.strip_prefix('<').and_then(|l| l.split('>').next()).unwrap_or_default().to_owned();
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 10_000);
}

/// Runs `probectl` to its end; returns its exit code and what it wrote.
fn probectl(installation: &Installation, http: &Http, arguments: &[&str]) -> (i32, String) {
    let mut program = installation.probectl(http, arguments);
    let code = program.wait().code().expect("an exit code");
    std::thread::sleep(Duration::from_millis(100));
    (code, program.log())
}

#[tokio::test]
async fn tenants_and_keys_on_the_command_line() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let run = |arguments: &[&str]| probectl(&installation, &http, arguments);
    let (code, text) = run(&["tenants", "create", "acme", "--media-roots", "media", "--max-queued", "5", "--json"]);
    assert_eq!(code, 0, "{text}");
    let tenant: Value = serde_json::from_str(&text).expect("JSON");
    let id = tenant["id"].as_str().expect("an id");
    assert_eq!((&tenant["media_roots"], &tenant["limits"]["max_queued"]), (&json!(["media"]), &json!(5)));
    let (code, text) =
        run(&["tenants", "set", id, "--name", "acme 2", "--max-queued", "default", "--max-running", "3"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("acme 2") && text.contains("max_running=3") && !text.contains("max_queued"), "{text}");
    let (code, text) = run(&["tenants", "grant", id, "--media-roots", "", "--s3-profiles", "*"]);
    assert!(code == 0 && text.contains("-            *"), "{text}");
    let (code, text) = run(&["tenants", "grant", id, "--media-roots", "moon"]);
    assert!(code == 1 && text.contains("Set up are: media"), "{text}");
    assert_eq!(run(&["tenants", "grant", id]).0, 1);

    let (code, text) = run(&["keys", "create", "first", "--role", "admin", "--tenant", id, "--expires-in", "90d"]);
    assert_eq!(code, 0, "{text}");
    let key = text.lines().find(|l| l.starts_with("ffp_")).expect("a key").to_owned();
    assert_eq!(http.with_key(Some(&key)).get(CURRENT).await.json["name"], "acme 2");
    let (code, text) = run(&["tenants", "suspend", id]);
    assert!(code == 0 && text.contains("suspended"), "{text}");
    http.with_key(Some(&key)).get(CURRENT).await.problem(403, "tenant_suspended");
    assert_eq!(run(&["tenants", "resume", id]).0, 0);
    assert_eq!(http.with_key(Some(&key)).get(CURRENT).await.status, 200);
    let (code, text) = run(&["tenants", "list"]);
    assert!(code == 0 && text.lines().count() == 3 && text.starts_with("ID"), "{text}");

    let (code, text) =
        run(&["keys", "create", "ci", "--scopes", "jobs:read,jobs:write", "--networks", "127.0.0.0/8", "--json"]);
    let made: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &made["role"], &made["scopes"]), (0, &json!("submitter"), &json!(["jobs:read", "jobs:write"])));
    let id = made["id"].as_str().expect("an id");
    let (code, text) = run(&["keys", "rotate", id, "--overlap", "1h"]);
    let rotated = text.lines().find(|l| l.starts_with("ffp_")).expect("a key").to_owned();
    assert_eq!((code, http.with_key(Some(&rotated)).get(CURRENT).await.status.as_u16()), (0, 200), "{text}");
    let (code, text) = run(&["keys", "revoke", id]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = run(&["keys", "list"]);
    assert!(code == 0 && text.lines().count() == 4 && text.contains("admin (platform)"), "{text}");
    assert!(text.lines().any(|l| l.starts_with(id) && l.contains("revoked")), "{text}");
    assert_eq!(run(&["keys", "revoke", "nonsense"]).0, 1);
    assert_eq!(run(&["keys", "create", "x", "--role", "owner"]).0, 2);
    assert_eq!(run(&["keys", "create", "x", "--expires-in", "soon"]).0, 2);
}
