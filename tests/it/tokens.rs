//! Tokens and sessions, over two API processes of one installation: what is taken where, what a forger gets, refresh tokens
//! that are used once, and how fast a revocation is seen.

mod forged;
mod refresh;
mod sessions;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use shared::access::Role;
use tests::{Answer, Http, Installation, JWT_SECRET, Program};

/// Longest time until every API process refuses what was revoked, and some for the request itself.
const SEEN: Duration = Duration::from_millis(1_200);

/// An installation with two APIs. The requests carry no credentials by themselves.
struct House {
    installation: Installation,
    first: Http,
    second: Http,
    programs: Vec<Program>,
}

impl House {
    async fn new() -> Self {
        Self::of(Installation::new().await)
    }

    fn of(installation: Installation) -> Self {
        let ((a, first), (b, second)) = (installation.api(&[]), installation.api(&[]));
        Self { first: first.with_key(None), second: second.with_key(None), installation, programs: vec![a, b] }
    }

    async fn log_in(&self) -> Tokens {
        log_in(&self.first, &self.installation.key, json!({})).await
    }

    async fn sql(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.installation.db).await.expect("runs");
    }
}

/// What a client keeps.
#[derive(Debug, Clone, PartialEq)]
struct Tokens {
    access: String,
    refresh: String,
}

impl Tokens {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.json["token_type"], "Bearer");
        let text = |name: &str| answer.json[name].as_str().expect("a token").to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

async fn log_in(http: &Http, key: &str, extra: Value) -> Tokens {
    let mut body = json!({"grant_type": "api_key"});
    body.as_object_mut().expect("members").extend(extra.as_object().expect("members").clone());
    Tokens::of(&http.with_key(Some(key)).post("/api/v1/auth/token", &body).await)
}

async fn refresh(http: &Http, token: &str) -> Answer {
    http.post("/api/v1/auth/token", &json!({"grant_type": "refresh_token", "refresh_token": token})).await
}

async fn get(http: &Http, path: &str, token: &str) -> Answer {
    Answer::of(http.request(Method::GET, path).bearer_auth(token)).await
}

async fn me(http: &Http, token: &str) -> Answer {
    get(http, "/api/v1/auth/me", token).await
}

/// Asks until the token opens nothing any more; returns that answer. It must not take longer than a second.
async fn refused(http: &Http, token: &str) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = me(http, token).await;
        if answer.status != 200 {
            return answer;
        }
        assert!(begun.elapsed() < SEEN, "still open after {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_key_is_exchanged_for_tokens_that_every_api_takes() {
    let house = House::new().await;
    let tokens = house.log_in().await;
    for http in [&house.first, &house.second] {
        let me = me(http, &tokens.access).await;
        assert_eq!((me.status.as_u16(), &me.json["role"]), (200, &"admin".into()), "{}", me.text);
        assert_eq!(me.json["platform"], true);
        assert!(me.json["session_id"].is_string() && me.json["expires_at"].is_string());
        assert!(me.json["rights"].as_array().expect("rights").contains(&"jobs:write".into()));
        assert_eq!(get(http, "/api/v1/jobs", &tokens.access).await.status, 200);
    }
    let by_key = house.first.with_key(Some(&house.installation.key)).get("/api/v1/auth/me").await;
    assert!(by_key.json["session_id"].is_null() && by_key.json["expires_at"].is_null(), "{}", by_key.text);
    let answer = refresh(&house.second, &tokens.refresh).await;
    assert_eq!(answer.json["expires_in"], 900);
    assert_eq!(answer.json["refresh_expires_in"], 604_800);
    let next = Tokens::of(&answer);
    assert!(next.access != tokens.access && next.refresh != tokens.refresh);
    assert_eq!(me(&house.first, &next.access).await.status, 200);
    assert_eq!(me(&house.first, &tokens.access).await.status, 200, "the access token before lasts as long as it says");
    let stored: Vec<(Vec<u8>,)> =
        sqlx::query_as("select digest from refresh_token").fetch_all(&house.installation.db).await.expect("rows");
    assert!(stored.iter().all(|(d,)| d.len() == 32 && !next.refresh.as_bytes().windows(8).any(|w| d.starts_with(w))));
    for program in &house.programs {
        for secret in [&tokens.access, &tokens.refresh, &next.access, &next.refresh, JWT_SECRET] {
            assert!(!program.log().contains(secret), "a secret stands in the log");
        }
    }
}

#[tokio::test]
async fn each_credential_is_for_its_own_use() {
    let house = House::new().await;
    let tokens = house.log_in().await;
    let key = &house.installation.key;
    let detail = me(&house.first, &tokens.refresh).await;
    assert!(detail.problem(401, "invalid_token").contains("refresh token"));
    for in_the_wrong_header in [&tokens.access, &tokens.refresh] {
        let answer = house.first.with_key(Some(in_the_wrong_header)).get("/api/v1/auth/me").await;
        answer.problem(401, "unauthorized");
    }
    for no_refresh_token in [tokens.access.as_str(), key, "", "ffr_", "ffr_short", &tokens.refresh[1..], "a\u{0}b"] {
        refresh(&house.first, no_refresh_token).await.problem(400, "invalid_grant");
    }
    let again = house.first.request(Method::POST, "/api/v1/auth/token").bearer_auth(&tokens.access);
    let again = Answer::of(again.json(&json!({"grant_type": "api_key"}))).await;
    again.problem(403, "forbidden");
    let by_bearer = house.first.request(Method::POST, "/api/v1/auth/token").bearer_auth(key);
    Tokens::of(&Answer::of(by_bearer.json(&json!({"grant_type": "api_key"}))).await);
    house.first.post("/api/v1/auth/token", &json!({"grant_type": "api_key"})).await.problem(401, "unauthorized");
    for (body, code) in [
        (json!({}), "invalid_json"),
        (json!({"grant_type": "password"}), "invalid_json"),
        (json!({"grant_type": "refresh_token"}), "invalid_json"),
        (json!({"grant_type": "api_key", "refresh_token": tokens.refresh}), "invalid_json"),
        (json!({"grant_type": "api_key", "scope": "moon:read"}), "invalid_value"),
        (json!({"grant_type": "api_key", "scope": " "}), "invalid_value"),
        (json!({"grant_type": "api_key", "scope": "jobs:read ".repeat(101)}), "invalid_value"),
    ] {
        house.first.with_key(Some(key)).post("/api/v1/auth/token", &body).await.problem(400, code);
    }
    // an HTTP client may send the token it has with everything, an expired one too
    let late = house.first.request(Method::POST, "/api/v1/auth/token").bearer_auth("a.b.c");
    let body = json!({"grant_type": "refresh_token", "refresh_token": tokens.refresh});
    Tokens::of(&Answer::of(late.json(&body)).await);
}

#[tokio::test]
async fn a_scope_narrows_session_and_token_and_never_widens() {
    let house = House::new().await;
    let key = house.installation.another_key("default", Role::Submitter, &[]).await;
    let narrow = log_in(&house.first, &key, json!({"scope": "jobs:read uploads:read"})).await;
    let rights = |answer: Answer| answer.json["rights"].clone();
    assert_eq!(rights(me(&house.second, &narrow.access).await), json!(["jobs:read", "uploads:read"]));
    let post = house.second.request(Method::POST, "/api/v1/jobs").bearer_auth(&narrow.access);
    let answer = Answer::of(post.json(&json!({"source": {"type": "path", "path": "/a.mp4"}}))).await;
    assert!(answer.problem(403, "forbidden").contains("jobs:write"));
    let body =
        |token: &str, scope: &str| json!({"grant_type": "refresh_token", "refresh_token": token, "scope": scope});
    let too_much = house.first.post("/api/v1/auth/token", &body(&narrow.refresh, "jobs:write")).await;
    assert!(too_much.problem(400, "invalid_value").contains("jobs:write"));
    assert_eq!(too_much.json["errors"][0]["pointer"], "#/scope");
    let answer = house.first.post("/api/v1/auth/token", &body(&narrow.refresh, "jobs:read")).await;
    assert_eq!(answer.json["scope"], "jobs:read", "what was refused did not spend the token");
    let narrower = Tokens::of(&answer);
    assert_eq!(rights(me(&house.second, &narrower.access).await), json!(["jobs:read"]));
    let answer = refresh(&house.first, &narrower.refresh).await;
    assert_eq!(answer.json["scope"], "jobs:read uploads:read", "the session keeps what it has");
    house
        .first
        .with_key(Some(&key))
        .post("/api/v1/auth/token", &json!({"grant_type": "api_key", "scope": "keys:read"}))
        .await
        .problem(400, "invalid_value");
}

#[tokio::test]
async fn a_token_opens_what_its_key_may_do_now() {
    let house = House::new().await;
    let key = house.installation.another_key("default", Role::Admin, &[]).await;
    let tokens = log_in(&house.first, &key, json!({})).await;
    assert!(me(&house.second, &tokens.access).await.text.contains("keys:write"));
    let public = shared::access::ApiKey::parse(&key).expect("a key").public_id().to_owned();
    let change = async |set: &str| {
        let sql = sqlx::AssertSqlSafe(format!("update api_key set {set} where public_id = '{public}'"));
        sqlx::query(sql).execute(&house.installation.db).await.expect("changes");
        tokio::time::sleep(Duration::from_millis(1_010)).await;
    };
    change("role = 'viewer'").await;
    assert!(!me(&house.second, &tokens.access).await.text.contains("jobs:write"));
    change("scopes = array['uploads:read']").await;
    assert_eq!(me(&house.second, &tokens.access).await.json["rights"], json!(["uploads:read"]));
    change("networks = array['192.0.2.0/24']").await;
    me(&house.second, &tokens.access).await.problem(403, "address_not_allowed");
    refresh(&house.second, &tokens.refresh).await.problem(403, "address_not_allowed");
    change("networks = '{}'").await;
    assert_eq!(me(&house.second, &tokens.access).await.status, 200);
    house.sql("update tenant set suspended_at = now()").await;
    refused(&house.second, &tokens.access).await.problem(403, "tenant_suspended");
    refresh(&house.second, &tokens.refresh).await.problem(403, "tenant_suspended");
    house.sql("update tenant set suspended_at = null").await;
    let next = Tokens::of(&refresh(&house.second, &tokens.refresh).await);
    change("revoked_at = now()").await;
    assert!(me(&house.second, &next.access).await.problem(401, "unauthorized").contains("revoked"));
    assert!(refresh(&house.second, &next.refresh).await.problem(400, "invalid_grant").contains("revoked"));
}

#[tokio::test]
async fn the_secret_is_rotated_with_an_overlap() {
    const NEW: &str = "0c9e8f7a6b5d4c3e2f1a0b9c8d7e6f5a4b3c2d1e";
    let house = House::new().await;
    let before = house.log_in().await;
    let overlap = [("JWT_SECRET", NEW), ("JWT_SECRET_PREVIOUS", JWT_SECRET)];
    let (api, http) = house.installation.api(&overlap);
    let http = http.with_key(None);
    assert_eq!(me(&http, &before.access).await.status, 200, "made with the previous secret");
    let after = Tokens::of(&refresh(&http, &before.refresh).await);
    assert_eq!(me(&http, &after.access).await.status, 200);
    me(&house.first, &after.access).await.problem(401, "invalid_token");
    api.stop();
    let (_api, http) = house.installation.api(&[("JWT_SECRET", NEW)]);
    let http = http.with_key(None);
    me(&http, &before.access).await.problem(401, "invalid_token");
    assert_eq!(me(&http, &after.access).await.status, 200);
}
