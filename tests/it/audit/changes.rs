//! Changes of keys, tenants and sessions are stored with the rows that tell of them, or not at all: each is asked for while the
//! database takes no such row, and once more when it does. Beside them, what becomes of changes whose rows come by themselves.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Http, Installation};

use super::{is, public_id, rows_of, the_row};

/// From now on no row is taken that tells of a success, or of a token that was used again.
const REFUSE: &str = "create function refuse() returns trigger language plpgsql as $$
    begin
        if new.outcome = 'success' or new.action = 'token.reused' then
            raise exception 'no such row';
        end if;
        return new;
    end $$;
    create trigger refuse before insert on audit_event for each row execute function refuse()";

/// Everything that the changes change; the last use of keys is noted at any time.
const STORED: &str = "select coalesce(string_agg(t, E'\\n' order by t), '') from (
        select (to_jsonb(k) - 'last_used_at' - 'last_used_from')::text as t from api_key k
        union all select t::text from tenant t
        union all select s::text from session s
        union all select r::text from refresh_token r
        union all select i::text from idempotency i
    ) rows";

async fn stored(installation: &Installation) -> String {
    sqlx::query_scalar(STORED).fetch_one(&installation.db).await.expect("all rows")
}

/// A change: what it is called, how it is asked for, and how it is answered.
struct Change {
    action: &'static str,
    method: Method,
    path: String,
    body: Value,
    /// For the key and the request's word; without it, the credentials are in the body.
    key: bool,
    done: u16,
}

impl Change {
    async fn ask(&self, http: &Http) -> Answer {
        let bare = http.with_key(None);
        let http = if self.key { http } else { &bare };
        let request = http.request(self.method.clone(), &self.path).header("idempotency-key", self.path.as_str());
        Answer::of(if self.body.is_null() { request } else { request.json(&self.body) }).await
    }
}

async fn tokens(http: &Http) -> (String, String) {
    let tokens = http.post("/api/v1/auth/token", &json!({"grant_type": "api_key"})).await;
    let text = |name: &str| tokens.json[name].as_str().expect("a token").to_owned();
    (text("access_token"), text("refresh_token"))
}

/// Each change of keys, tenants and sessions once.
async fn changes(http: &Http) -> Vec<Change> {
    let mut keys = Vec::new();
    for name in ["changed", "rotated", "revoked"] {
        let made = http.post("/api/v1/api-keys", &json!({"name": name, "role": "viewer"})).await;
        keys.push(format!("/api/v1/api-keys/{}", made.json["id"].as_str().expect("an id")));
    }
    let tenant = http.post("/api/v1/tenants", &json!({"name": "studio"})).await;
    let tenant = format!("/api/v1/tenants/{}", tenant.json["id"].as_str().expect("an id"));
    let ((_, refreshed), (revoked, _), (_, given_up)) = (tokens(http).await, tokens(http).await, tokens(http).await);
    tokens(http).await;
    let sessions = http.get("/api/v1/auth/sessions").await;
    let newest = format!("/api/v1/auth/sessions/{}", sessions.json["data"][0]["id"].as_str().expect("an id"));
    let change = |action, method, path: &str, body, done| Change {
        action,
        method,
        path: path.to_owned(),
        body,
        key: !path.ends_with("/revoke"),
        done,
    };
    let new = json!({"name": "new", "role": "viewer"});
    let refresh = json!({"grant_type": "refresh_token", "refresh_token": refreshed});
    let (post, token) = (Method::POST, "/api/v1/auth/token");
    vec![
        change("key.create", post.clone(), "/api/v1/api-keys", new.clone(), 201),
        change("key.change", Method::PATCH, &keys[0], json!({"name": "other"}), 200),
        change("key.rotate", post.clone(), &format!("{}/rotate", keys[1]), json!({}), 201),
        change("key.revoke", Method::DELETE, &keys[2], Value::Null, 204),
        change("tenant.create", post.clone(), "/api/v1/tenants", json!({"name": "cinema"}), 201),
        change("tenant.change", Method::PATCH, &tenant, json!({"suspended": true}), 200),
        change("key.create", post.clone(), &format!("{tenant}/api-keys"), new, 201),
        change("session.token", post.clone(), token, json!({"grant_type": "api_key"}), 200),
        Change { key: false, ..change("session.token", post.clone(), token, refresh, 200) },
        change("session.delete", Method::DELETE, &newest, Value::Null, 204),
        change("session.revoke", post.clone(), "/api/v1/auth/revoke", json!({"token": revoked}), 200),
        change("session.revoke", post, "/api/v1/auth/revoke", json!({"token": given_up}), 200),
    ]
}

#[tokio::test]
async fn nothing_changes_without_its_row() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[]);
    let changes = changes(&http).await;
    sqlx::raw_sql(REFUSE).execute(&installation.db).await.expect("refuses rows");
    let before = stored(&installation).await;
    for change in &changes {
        let answer = change.ask(&http).await;
        answer.problem(500, "internal");
        assert_eq!(stored(&installation).await, before, "{} {} left something", change.method, change.path);
        let rows = rows_of(&installation, answer.header("x-request-id")).await;
        let told: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.outcome.as_str())).collect();
        assert_eq!(told, [(change.action, "unknown")], "{}", change.path);
    }
    sqlx::raw_sql("drop trigger refuse on audit_event").execute(&installation.db).await.expect("takes rows");
    for change in &changes {
        let before = stored(&installation).await;
        let answer = change.ask(&http).await;
        assert_eq!(answer.status.as_u16(), change.done, "{} {}: {}", change.method, change.path, answer.text);
        assert_ne!(stored(&installation).await, before, "{} {} changed nothing", change.method, change.path);
        // one row, and at once: it came with the change
        let rows: Vec<String> =
            sqlx::query_scalar("select action from audit_event where request_id = $1 and outcome = 'success'")
                .bind(answer.header("x-request-id"))
                .fetch_all(&installation.db)
                .await
                .expect("rows");
        assert_eq!(rows, [change.action], "{}", change.path);
        let (request, event) = (answer.header("x-request-id"), "the change as a security event");
        let is_told = |line: &str| line.contains("security event") && line.contains(request);
        api.wait_for(|line| is_told(line).then_some(()), event);
    }
}

#[tokio::test]
async fn a_token_that_is_used_again_ends_its_session_with_an_alarm_or_not_at_all() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let (_, first) = tokens(&http).await;
    let refresh = async |token: &str| {
        let body = json!({"grant_type": "refresh_token", "refresh_token": token});
        http.with_key(None).post("/api/v1/auth/token", &body).await
    };
    let second = refresh(&first).await.json["refresh_token"].as_str().expect("a token").to_owned();
    assert_eq!(refresh(&second).await.status, 200);
    sqlx::raw_sql(REFUSE).execute(&installation.db).await.expect("refuses rows");
    let before = stored(&installation).await;
    refresh(&first).await.problem(500, "internal");
    assert_eq!(stored(&installation).await, before, "the session stays as long as nobody is told");
    sqlx::raw_sql("drop trigger refuse on audit_event").execute(&installation.db).await.expect("takes rows");
    let reused = refresh(&first).await;
    reused.problem(400, "invalid_grant");
    let sessions: i64 =
        sqlx::query_scalar("select count(*) from session").fetch_one(&installation.db).await.expect("a count");
    let alarms: i64 = sqlx::query_scalar(
        "select count(*) from audit_event where action = 'token.reused' and outcome = 'denied' and request_id = $1
            and actor_kind = 'session' and target_kind = 'session' and target_id = actor_id",
    )
    .bind(reused.header("x-request-id"))
    .fetch_one(&installation.db)
    .await
    .expect("a count");
    assert_eq!((sessions, alarms), (0, 1));
}

#[tokio::test]
async fn a_change_is_answered_and_its_row_comes_later_when_it_cannot_be_written_now() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[]);
    let mut block = installation.db.begin().await.expect("a transaction");
    sqlx::query("lock table audit_event in access exclusive mode").execute(&mut *block).await.expect("a lock");
    let paused = http.post("/api/v1/queues/scan/pause", &json!({})).await;
    assert_eq!(paused.status, 200, "{}", paused.text);
    api.wait_for_line("an event is written later than its answer");
    block.rollback().await.expect("lets go");
    is(&the_row(&installation, &paused, &installation.key).await, "queue.pause", "success", "queue:scan");
}

#[tokio::test]
async fn a_change_whose_client_went_away_may_have_happened() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let mut block = installation.db.begin().await.expect("a transaction");
    sqlx::query("select from lane for update").fetch_all(&mut *block).await.expect("a lock");
    let request = http.request(Method::POST, "/api/v1/queues/scan/pause").header("x-request-id", "gone");
    let answer = request.json(&json!({})).timeout(Duration::from_millis(300)).send().await;
    assert!(answer.is_err(), "the client does not wait");
    let rows = rows_of(&installation, "gone").await;
    block.rollback().await.expect("lets go");
    assert_eq!(rows.len(), 1);
    is(&rows[0], "queue.pause", "unknown", "queue:scan");
    assert_eq!((rows[0].status, rows[0].actor.clone()), (None, Some(public_id(&installation.key))));
}
