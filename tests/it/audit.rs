//! The audit trail: every audited request leaves one row with the right words, nobody can change it, nobody sees another
//! tenant's, and nothing is lost when a process stops.

mod changes;
mod export;
mod roles;

use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use shared::access::Role;
use sqlx::Row;
use tests::{Answer, Http, Installation};

/// How long a row may take that is written in a batch.
const SOON: Duration = Duration::from_secs(5);
/// A job that does not exist.
const NOWHERE: &str = "01970000-0000-7000-8000-000000000000";

/// A row, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    action: String,
    outcome: String,
    status: Option<i16>,
    code: Option<String>,
    target: Option<String>,
    actor: Option<String>,
    client: Option<String>,
    tenant: Option<uuid::Uuid>,
    detail: Value,
}

/// The rows of a request, once there are any.
async fn rows_of(installation: &Installation, request: &str) -> Vec<Event> {
    let begun = Instant::now();
    loop {
        let rows = sqlx::query(
            "select action, outcome, status, code, target_kind || ':' || coalesce(target_id, '') as target, actor_id,
                host(client) as client, tenant_id, detail from audit_event where request_id = $1 order by happened_at, id",
        )
        .bind(request)
        .fetch_all(&installation.db)
        .await
        .expect("rows");
        if !rows.is_empty() || begun.elapsed() > SOON {
            let event = |row: sqlx::postgres::PgRow| Event {
                action: row.get("action"),
                outcome: row.get("outcome"),
                status: row.get("status"),
                code: row.get("code"),
                target: row.get("target"),
                actor: row.get("actor_id"),
                client: row.get("client"),
                tenant: row.get("tenant_id"),
                detail: row.get("detail"),
            };
            return rows.into_iter().map(event).collect();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The rows that are there now, not counting that of the first key.
async fn count(installation: &Installation) -> i64 {
    sqlx::query_scalar("select count(*) from audit_event where action <> 'key.create'")
        .fetch_one(&installation.db)
        .await
        .expect("a count")
}

fn public_id(key: &str) -> String {
    key.split('_').nth(1).expect("a public id").to_owned()
}

/// The one row that an answer left, checked for who and from where.
async fn the_row(installation: &Installation, answer: &Answer, key: &str) -> Event {
    let rows = rows_of(installation, answer.header("x-request-id")).await;
    assert_eq!(rows.len(), 1, "one row for one request: {rows:?} {}", answer.text);
    let row = rows[0].clone();
    assert_eq!(row.client.as_deref(), Some("127.0.0.1"));
    assert_eq!(row.actor, Some(public_id(key)));
    assert!(row.tenant.is_some());
    assert_eq!(row.status, Some(answer.status.as_u16() as i16), "{row:?}");
    row
}

fn is(row: &Event, action: &str, outcome: &str, target: &str) {
    assert_eq!((row.action.as_str(), row.outcome.as_str(), row.target.as_deref()), (action, outcome, Some(target)));
}

#[tokio::test]
async fn every_action_on_jobs_leaves_one_row() {
    let (installation, http, _programs) = Installation::running().await;
    let key = &installation.key;
    installation.put("a.txt", b"this is no media");
    let job = json!({"source": {"type": "path", "path": "/a.txt"}, "metadata": {"ours": "s3cr3t"}});
    let made = http.post("/api/v1/jobs", &job).await;
    let id = made.json["id"].as_str().expect("an id").to_owned();
    let target = format!("job:{id}");
    let row = the_row(&installation, &made, key).await;
    is(&row, "job.create", "success", &target);
    assert_eq!(row.detail, json!({"profile": "standard", "source": "path"}));
    http.wait(&id).await;

    let result = http.get(&format!("/api/v1/jobs/{id}/result")).await;
    let row = the_row(&installation, &result, key).await;
    is(&row, "result.read", "failed", &target);
    assert_eq!(row.code.as_deref(), Some("no_result"));
    is(&asked(&installation, &http, &format!("/api/v1/jobs/{id}/attempts")).await, "attempt.list", "success", &target);
    is(&asked(&installation, &http, &format!("/api/v1/jobs/{id}/series/0")).await, "series.read", "failed", &target);
    let row = asked(&installation, &http, "/api/v1/jobs").await;
    assert_eq!((row.action.as_str(), row.target), ("job.list", None));
    is(
        &asked(&installation, &http, "/api/v1/jobs/https%3A%2F%2Fu%3Ap%40h%2F%3Fq/result").await,
        "result.read",
        "failed",
        "job:",
    );

    let retried = http.post(&format!("/api/v1/jobs/{id}/retry"), &json!({})).await;
    is(&the_row(&installation, &retried, key).await, "job.retry", "success", &target);
    http.wait(&id).await;
    let canceled = http.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).await;
    is(&the_row(&installation, &canceled, key).await, "job.cancel", "failed", &target);
    let bulk = http.post("/api/v1/jobs/retry", &json!({"limit": 7})).await;
    let row = the_row(&installation, &bulk, key).await;
    assert_eq!((row.action.as_str(), row.detail), ("job.retry", json!({"jobs": 1})));
    http.wait(&id).await;
    let removed = Answer::of(http.request(Method::DELETE, &format!("/api/v1/jobs/{id}"))).await;
    is(&the_row(&installation, &removed, key).await, "job.delete", "success", &target);
    let again = Answer::of(http.request(Method::DELETE, &format!("/api/v1/jobs/{NOWHERE}"))).await;
    is(&the_row(&installation, &again, key).await, "job.delete", "failed", &format!("job:{NOWHERE}"));
    let paused = http.post("/api/v1/queues/scan/pause", &json!({"reason": "s3cr3t"})).await;
    is(&the_row(&installation, &paused, key).await, "queue.pause", "success", "queue:scan");
    let all = sqlx::query_scalar::<_, String>("select audit_event::text from audit_event").fetch_all(&installation.db);
    let all = all.await.expect("rows").join("\n");
    assert!(!all.contains("s3cr3t") && !all.contains(key.rsplit('_').next().expect("a secret")), "{all}");
}

/// Asks and reads the row that it left.
async fn asked(installation: &Installation, http: &Http, path: &str) -> Event {
    the_row(installation, &http.get(path).await, &installation.key).await
}

#[tokio::test]
async fn a_job_and_its_row_are_there_together_before_the_answer() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    installation.put("a.mp4", b"x");
    let source = json!({"type": "path", "path": "/a.mp4"});
    for n in 0..20 {
        let made = http.post("/api/v1/jobs", &json!({"source": source, "external_id": format!("e{n}")})).await;
        let there: i64 = sqlx::query_scalar("select count(*) from audit_event where request_id = $1 and status = 202")
            .bind(made.header("x-request-id"))
            .fetch_one(&installation.db)
            .await
            .expect("a count");
        assert_eq!((made.status.as_u16(), there), (202, 1), "not a moment later");
    }
    // a job that is not made leaves a row that says so, and no other
    let taken = http.post("/api/v1/jobs", &json!({"source": source, "external_id": "e1"})).await;
    taken.problem(409, "external_id_taken");
    let row = the_row(&installation, &taken, &installation.key).await;
    assert_eq!((row.action.as_str(), row.outcome.as_str(), row.target), ("job.create", "failed", None));
    // a repeated request names the job that it made the first time
    let repeat = || {
        let request = http.request(Method::POST, "/api/v1/jobs").header("idempotency-key", "k1");
        Answer::of(request.json(&json!({"source": source})))
    };
    let (first, second) = (repeat().await, repeat().await);
    let target = format!("job:{}", first.json["id"].as_str().expect("an id"));
    is(&the_row(&installation, &first, &installation.key).await, "job.create", "success", &target);
    let row = the_row(&installation, &second, &installation.key).await;
    is(&row, "job.create", "success", &target);
    assert_eq!(row.detail["repeated"], true);
}

#[tokio::test]
async fn a_result_that_is_shown_is_a_read_and_a_state_is_none() {
    let (installation, http, _programs) = Installation::running().await;
    let sample = tests::samples::path("wav");
    let path = installation.put("a.wav", &std::fs::read(sample).expect("a sample"));
    let made = http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": path}})).await;
    let id = made.json["id"].as_str().expect("an id").to_owned();
    http.wait(&id).await;
    let with = http.get(&format!("/api/v1/jobs/{id}?include=result")).await;
    is(&the_row(&installation, &with, &installation.key).await, "result.read", "success", &format!("job:{id}"));
    let result = http.get(&format!("/api/v1/jobs/{id}/result")).await;
    is(&the_row(&installation, &result, &installation.key).await, "result.read", "success", &format!("job:{id}"));
    // batches are written in their order: once the later row is there, the earlier one would be
    let state = http.get(&format!("/api/v1/jobs/{id}")).await;
    let list = http.get("/api/v1/jobs").await;
    assert_eq!(rows_of(&installation, list.header("x-request-id")).await.len(), 1);
    let rows: i64 = sqlx::query_scalar("select count(*) from audit_event where request_id = $1")
        .bind(state.header("x-request-id"))
        .fetch_one(&installation.db)
        .await
        .expect("a count");
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn uploads_are_made_completed_and_erased_and_pieces_are_not_listed() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let tus = |method: &str, path: &str| {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        http.request(method, path)
            .header("tus-resumable", "1.0.0")
            .header("x-request-id", uuid::Uuid::new_v4().to_string())
    };
    let made = Answer::of(tus("POST", "/api/v1/uploads").header("upload-length", "6")).await;
    let id = made.header("location").rsplit('/').next().expect("an id").to_owned();
    let (path, target) = (format!("/api/v1/uploads/{id}"), format!("upload:{id}"));
    is(&the_row(&installation, &made, &installation.key).await, "upload.create", "success", &target);
    let piece = |at: &str, bytes: &'static str| {
        let request = tus("PATCH", &path).header("content-type", "application/offset+octet-stream");
        Answer::of(request.header("upload-offset", at.to_owned()).body(bytes))
    };
    let (first, before) = (piece("0", "abc").await, count(&installation).await);
    let last = piece("3", "def").await;
    assert_eq!((first.status.as_u16(), last.status.as_u16()), (204, 204));
    let rows = rows_of(&installation, last.header("x-request-id")).await;
    assert_eq!((rows.len(), before), (1, 1), "the first piece left none: {rows:?}");
    is(&rows[0], "upload.complete", "success", &target);
    assert_eq!(rows[0].actor, Some(public_id(&installation.key)));
    let erased = Answer::of(tus("POST", &path).header("x-http-method-override", "DELETE")).await;
    assert_eq!(erased.status, 204, "{}", erased.text);
    is(&the_row(&installation, &erased, &installation.key).await, "upload.delete", "success", &target);

    // an upload that asks for a job makes it with its last byte
    let wish =
        tus("POST", "/api/v1/uploads").header("upload-metadata", "probe c3RhbmRhcmQ=").header("upload-length", "3");
    let wish = wish.header("content-type", "application/offset+octet-stream").body("abc");
    let made = Answer::of(wish).await;
    let rows = rows_of(&installation, made.header("x-request-id")).await;
    let mut actions: Vec<&str> = rows.iter().map(|r| r.action.as_str()).collect();
    actions.sort_unstable();
    assert_eq!(actions, ["job.create", "upload.complete", "upload.create"]);
    let job: uuid::Uuid = sqlx::query_scalar("select id from job").fetch_one(&installation.db).await.expect("a job");
    let row = rows.iter().find(|r| r.action == "job.create").expect("its row");
    assert_eq!(
        (row.target.clone(), row.actor.clone()),
        (Some(format!("job:{job}")), Some(public_id(&installation.key)))
    );

    // a whole file in one request is made and completed by it
    let whole = Answer::of(http.request(Method::POST, "/api/v1/uploads?filename=s3cr3t.mp4").body("abc")).await;
    let rows = rows_of(&installation, whole.header("x-request-id")).await;
    let actions: Vec<&str> = rows.iter().map(|r| r.action.as_str()).collect();
    assert_eq!(actions, ["upload.create", "upload.complete"]);
    let all = sqlx::query_scalar::<_, String>("select audit_event::text from audit_event").fetch_all(&installation.db);
    assert!(!all.await.expect("rows").join("\n").contains("s3cr3t"));
}

#[tokio::test]
async fn refusals_are_rows_and_lines_of_the_log() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[]);
    let secret = "Zq3".repeat(15);
    let none = http.with_key(None).get(&format!("/api/v1/jobs?token={secret}")).await;
    none.problem(401, "unauthorized");
    let rows = rows_of(&installation, none.header("x-request-id")).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].action.as_str(), rows[0].outcome.as_str(), rows[0].tenant), ("auth.failed", "denied", None));
    assert_eq!(rows[0].detail, json!({"operation": "GET /api/v1/jobs"}));
    let line = api.wait_for_line("security event");
    assert_eq!(
        (&line["target"], &line["action"], &line["client"]),
        (&json!("audit"), &json!("auth.failed"), &json!("127.0.0.1"))
    );

    // a key that is ours in form and opens nothing is named by the part that may be shown
    let unknown = shared::bootstrap::mint();
    let wrong = http.with_key(Some(unknown.expose())).get("/api/v1/jobs").await;
    let rows = rows_of(&installation, wrong.header("x-request-id")).await;
    assert_eq!(rows[0].detail["key"], unknown.public_id());

    let viewer = installation.another_key("default", Role::Viewer, &[]).await;
    let forbidden = http.with_key(Some(&viewer)).post(&format!("/api/v1/jobs/{NOWHERE}/cancel"), &json!({})).await;
    forbidden.problem(403, "forbidden");
    let row = the_row(&installation, &forbidden, &viewer).await;
    is(&row, "auth.forbidden", "denied", &format!("job:{NOWHERE}"));
    assert_eq!(
        (row.code.as_deref(), &row.detail),
        (Some("forbidden"), &json!({"operation": "POST /api/v1/jobs/{id}/cancel"}))
    );
    let all = sqlx::query_scalar::<_, String>("select audit_event::text from audit_event").fetch_all(&installation.db);
    assert!(!all.await.expect("rows").join("\n").contains(&secret));
}

#[tokio::test]
async fn a_guesser_cannot_fill_the_trail() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let anonymous = http.with_key(None);
    let guesses = (0..200).map(|_| anonymous.get("/api/v1/jobs"));
    futures::future::join_all(guesses).await;
    let sum = "select coalesce(sum(coalesce((detail->>'count')::bigint, 1)), 0)::bigint from audit_event
        where action = 'auth.failed'";
    let begun = Instant::now();
    loop {
        let tries: i64 = sqlx::query_scalar(sum).fetch_one(&installation.db).await.expect("a sum");
        if tries == 200 {
            break;
        }
        assert!(tries < 200 && begun.elapsed() < SOON, "{tries} of 200");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(count(&installation).await <= 20, "few rows with counts");
}

#[tokio::test]
async fn what_waits_is_written_when_the_process_stops() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[]);
    let mut requests = Vec::new();
    for _ in 0..40 {
        requests.push(http.get("/api/v1/jobs").await.header("x-request-id").to_owned());
    }
    api.signal(Signal::TERM);
    assert!(api.wait().success());
    let there: i64 = sqlx::query_scalar("select count(*) from audit_event where request_id = any($1)")
        .bind(&requests)
        .fetch_one(&installation.db)
        .await
        .expect("a count");
    assert_eq!(there, 40);
}

#[tokio::test]
async fn the_first_key_is_in_the_trail() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let page = http.get("/api/v1/audit?action=key.create").await;
    let event = &page.json["data"][0];
    assert_eq!(event["actor"], json!({"kind": "system", "id": null}));
    assert_eq!(event["target"], json!({"kind": "key", "id": public_id(&installation.key)}));
    assert_eq!((event["request_id"].clone(), event["client_address"].clone()), (Value::Null, Value::Null));
}

#[tokio::test]
async fn another_tenant_sees_nothing_of_it() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let (ours, theirs) = (
        installation.another_key("ours", Role::Admin, &[]).await,
        installation.another_key("theirs", Role::Admin, &[]).await,
    );
    let asked = http.with_key(Some(&ours)).get("/api/v1/jobs").await;
    the_row(&installation, &asked, &ours).await;
    let actions = |answer: Answer| -> Vec<String> {
        let data = answer.json["data"].as_array().expect("events").clone();
        data.iter().map(|e| e["action"].as_str().expect("an action").to_owned()).collect()
    };
    let (our, their) = (http.with_key(Some(&ours)), http.with_key(Some(&theirs)));
    assert_eq!(actions(our.get("/api/v1/audit?action=job.").await), ["job.list"]);
    assert!(actions(their.get("/api/v1/audit?action=job.").await).is_empty());
    assert_eq!(their.get("/api/v1/audit?format=ndjson&action=job").await.text, "");
    let tenant: uuid::Uuid = sqlx::query_scalar("select id from tenant where name = 'ours'")
        .fetch_one(&installation.db)
        .await
        .expect("a tenant");
    their.get(&format!("/api/v1/audit?tenant={tenant}")).await.problem(404, "not_found");
    assert_eq!(actions(http.get(&format!("/api/v1/audit?tenant={tenant}&action=job.")).await), ["job.list"]);
    assert_eq!(actions(http.get("/api/v1/audit?action=job.").await), ["job.list"], "the platform sees all");
    let submitter = installation.another_key("ours", Role::Submitter, &[]).await;
    http.with_key(Some(&submitter)).get("/api/v1/audit").await.problem(403, "forbidden");
}

#[tokio::test]
async fn pages_and_filters() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    seed(&installation, 30).await;
    let ids = |answer: &Answer| -> Vec<String> {
        answer.problem_free().json["data"].as_array().expect("events").iter().map(|e| e["id"].to_string()).collect()
    };
    let mut seen = Vec::new();
    let mut path = "/api/v1/audit?limit=7&action=seed.".to_owned();
    loop {
        let page = http.get(&path).await;
        seen.extend(ids(&page));
        let link = page.header("link").to_owned();
        let Some(cursor) = page.json["next_cursor"].as_str() else {
            assert_eq!((page.json["has_more"].as_bool(), link.as_str()), (Some(false), ""));
            break;
        };
        assert!(link.contains(cursor) && link.ends_with("rel=\"next\""), "{link}");
        path = format!("/api/v1/audit?limit=7&action=seed.&cursor={cursor}");
    }
    let order: Vec<uuid::Uuid> =
        sqlx::query_scalar("select id from audit_event where action ^@ 'seed.' order by happened_at desc, id desc")
            .fetch_all(&installation.db)
            .await
            .expect("ids");
    assert_eq!(seen, order.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>());
    for (query, expected) in [
        ("action=seed.even", 15),
        ("action=see", 30),
        ("action=seed.od", 15),
        ("action=seed_", 0),
        ("action=seed&actor=k3", 1),
        ("action=seed&target=t4", 1),
        ("action=seed&outcome=denied", 10),
        ("action=seed&from=2026-01-01T00:00:10Z&to=2026-01-01T00:00:12Z", 2),
    ] {
        assert_eq!(ids(&http.get(&format!("/api/v1/audit?limit=1000&{query}")).await).len(), expected, "{query}");
    }
    for (query, code) in [
        ("action=seed%25", "bad_request"),
        ("action=", "bad_request"),
        ("target=a%00b", "bad_request"),
        ("outcome=x", "bad_request"),
        ("limit=0", "bad_request"),
        ("limit=1001", "bad_request"),
        ("from=%2B262142-01-01T00:00:00Z", "invalid_value"),
        ("format=ndjson&limit=5", "bad_request"),
        ("cursor=AAAA", "invalid_cursor"),
        ("colour=red", "bad_request"),
    ] {
        http.get(&format!("/api/v1/audit?{query}")).await.problem(400, code);
    }
}

/// Rows of some kinds, a second apart.
async fn seed(installation: &Installation, rows: i32) {
    // in parts: a statement has five seconds, also on a busy machine
    for first in (0..rows).step_by(5_000) {
        sqlx::query(
            "insert into audit_event (id, happened_at, tenant_id, actor_kind, actor_id, client, request_id, action,
                target_kind, target_id, outcome, status)
            select gen_random_uuid(), timestamptz '2026-01-01 00:00:00Z' + n * interval '1 second',
                (select min(id::text)::uuid from tenant), 'key', 'k' || n, '192.0.2.7', '=r' || n,
                case n % 2 when 0 then 'seed.even' else 'seed.odd' end, 'thing', 't' || n,
                case n % 3 when 0 then 'denied' else 'success' end, 200
            from generate_series($1, $2 - 1) as n",
        )
        .bind(first)
        .bind(rows.min(first + 5_000))
        .execute(&installation.db)
        .await
        .expect("rows");
    }
}

trait ProblemFree {
    fn problem_free(&self) -> &Self;
}

impl ProblemFree for Answer {
    fn problem_free(&self) -> &Self {
        assert!(self.status.is_success(), "{}", self.text);
        self
    }
}

#[tokio::test]
async fn probectl_shows_follows_and_exports() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    seed(&installation, 30).await;
    let mut shown = installation.probectl(&http, &["audit", "--action", "seed.", "--limit", "3"]);
    let line = shown.wait_for(|l| l.contains("seed.odd").then(|| l.to_owned()), "an event");
    assert!(line.contains("key:k29") && line.contains("192.0.2.7") && line.contains("thing:t29"), "{line}");
    assert!(shown.wait().success());
    let mut exported = installation.probectl(&http, &["audit", "--action", "seed.", "--export", "csv"]);
    assert!(exported.wait().success());
    assert_eq!(exported.log().lines().count(), 31);
    let mut follow = installation.probectl(&http, &["audit", "--follow", "--json", "--action", "job."]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked: Http = http.clone();
    let listed = asked.get("/api/v1/jobs").await;
    let request = listed.header("x-request-id").to_owned();
    follow.wait_for(|l| l.contains(&request).then_some(()), "the event that happens meanwhile");
}
