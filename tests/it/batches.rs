//! `/api/v1/batches`: all or nothing, in bounded memory, one end, and exports that say what the jobs themselves say.

mod races;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use shared::id::BatchId;
use shared::store;
use shared::store::event::Of;
use tests::http::Answer;
use tests::{Http, Installation, exports, samples};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::recovery::until;

const LINES: &str = "application/x-ndjson";

async fn send(http: &Http, kind: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = http.request(Method::POST, "/api/v1/batches").header("content-type", kind);
    Answer::of(request.body(body)).await
}

fn line(path: &str, more: &Value) -> String {
    let mut job = json!({"source": {"type": "path", "path": path}});
    job.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    job.to_string() + "\n"
}

fn lines(count: usize) -> String {
    (0..count).map(|i| line(&format!("/{i}.wav"), &json!({"external_id": format!("e{i}")}))).collect()
}

async fn jobs_in(installation: &Installation) -> i64 {
    sqlx::query_scalar("select count(*) from job").fetch_one(&installation.db).await.expect("counts")
}

async fn completed(http: &Http, batch: &str) -> Value {
    let path = format!("/api/v1/batches/{batch}");
    until("the batch is completed", async || http.get(&path).await.json["state"] == "completed").await;
    http.get(&path).await.json
}

/// The `batch.completed` events so far.
async fn ends(installation: &Installation) -> Vec<Value> {
    let mut connection = installation.db.acquire().await.expect("a connection");
    let events = store::event::list_after(&mut connection, Of::All, &[], 0, 50_000).await.expect("lists").events;
    let all = events.iter().map(|event| serde_json::to_value(event).expect("JSON"));
    all.filter(|event| event["type"] == "batch.completed").collect()
}

fn samples_in(installation: &Installation) -> Vec<String> {
    ["wav", "mp3", "flac"]
        .iter()
        .map(|name| {
            let bytes = std::fs::read(samples::path(name)).expect("a sample");
            installation.put(&format!("a.{name}"), &bytes)
        })
        .collect()
}

#[tokio::test]
async fn what_a_batch_says_is_what_its_jobs_say() {
    let (installation, http, _programs) = Installation::running().await;
    let mut body: String = samples_in(&installation)
        .iter()
        .map(|path| line(path, &json!({"external_id": format!("=name of {path}"), "metadata": {"path": path}})))
        .collect();
    body += &line("/missing.wav", &json!({"profile": "quick"}));
    let path = "/api/v1/batches?external_id=mine";
    let request = http.request(Method::POST, path).header("content-type", LINES).body(body);
    let batch = Answer::of(request).await;
    assert_eq!(batch.status, 202, "{}", batch.text);
    assert_eq!((&batch.json["total"], &batch.json["counts"]["queued"]), (&json!(4), &json!(4)));
    let id = batch.json["id"].as_str().expect("an id");
    assert!(batch.header("location").ends_with(&format!("/api/v1/batches/{id}")));
    let end = completed(&http, id).await;
    assert_eq!(end["counts"], json!({"queued": 0, "running": 0, "succeeded": 3, "failed": 1, "canceled": 0}));
    assert_eq!((&end["percent"], &end["external_id"]), (&json!(100.0), &json!("mine")));
    assert_eq!(http.get("/api/v1/batches").await.json["data"], json!([end]));

    let results = format!("/api/v1/batches/{id}/results");
    let ndjson = http.get(&results).await;
    assert_eq!(ndjson.header("content-type"), LINES);
    let exported: Vec<Value> = ndjson.text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(exported.len(), 4);
    for (place, job) in exported.iter().enumerate() {
        let single = http.get(&format!("/api/v1/jobs/{}?include=result", job["id"].as_str().expect("an id"))).await;
        assert_eq!(&single.json, job, "line {place}");
        assert_eq!(job["batch_id"], json!(id));
    }
    let listed = http.get(&format!("/api/v1/jobs?batch_id={id}&state=succeeded")).await;
    assert_eq!(listed.json["data"].as_array().map(Vec::len), Some(3));

    let csv = Answer::of(http.request(Method::GET, &results).header("accept", "text/csv")).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8; header=present");
    let rows: Vec<&str> = csv.text.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 5, "{}", csv.text);
    let first = &exported[0]["result"]["media"];
    let start = format!("1,{},\"'=name of /a.wav\",/a.wav,succeeded,,,", exported[0]["id"].as_str().expect("an id"));
    assert!(rows[1].starts_with(&start), "{}", rows[1]);
    assert!(rows[1].contains(&format!(",{},", first["container"]["duration_seconds"])), "{}", rows[1]);
    assert!(rows[4].contains(",/missing.wav,failed,input_not_found,"), "{}", rows[4]);
    let ends = ends(&installation).await;
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0]["data"]["batch"]["counts"], end["counts"]);
}

#[tokio::test]
async fn a_batch_with_a_bad_job_is_refused_whole() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let taken =
        http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": "/a"}, "external_id": "e7"})).await;
    assert_eq!(taken.status, 202);
    let good = line("/a.wav", &json!({}));
    let upload = format!("{{\"source\": {{\"type\": \"upload\", \"id\": \"{}\"}}}}\n", uuid::Uuid::new_v4());
    let twice = line("/a.wav", &json!({"external_id": "x"})).repeat(2);
    let many = good.clone() + &line("/../a", &json!({})).repeat(30);
    let odd = json!({"jobs": [{"source": {"type": "path", "path": "/a"}}, {"source": {"type": "path", "path": "/a"}, "odd": 1}]});
    let cases: [(&str, String, u16, &str, &str); 13] = [
        (LINES, good.clone() + "{\"source\": 1}\n" + &good, 400, "invalid_json", "/jobs/1"),
        (LINES, good.clone() + "\n\n" + &line("/../a", &json!({})), 400, "path_not_allowed", "/jobs/1/source/path"),
        (LINES, many, 400, "path_not_allowed", "/jobs/1/source/path"),
        (
            LINES,
            good.clone() + &line("/a", &json!({"metadata": {"a": "x".repeat(20_000)}})),
            400,
            "invalid_value",
            "/jobs/1/metadata",
        ),
        (LINES, good.clone() + &upload, 404, "not_found", "/jobs/1/source/id"),
        (LINES, twice, 409, "external_id_taken", "/jobs/1/external_id"),
        (LINES, lines(10), 409, "external_id_taken", "/jobs/7/external_id"),
        (LINES, String::new(), 400, "invalid_value", "/jobs"),
        (LINES, lines(10_001).replace("\"e7\"", "\"f7\""), 413, "payload_too_large", "/jobs"),
        ("application/json", json!({"jobs": []}).to_string(), 400, "invalid_value", "/jobs"),
        ("application/json", json!({"jobs": [["path"]]}).to_string(), 400, "invalid_json", "/jobs/0"),
        ("application/json", odd.to_string(), 400, "invalid_json", "/jobs/1"),
        ("text/csv", good.clone(), 415, "unsupported_media_type", ""),
    ];
    for (kind, body, status, code, pointer) in cases {
        let answer = send(&http, kind, body).await;
        let detail = answer.problem(status, code).to_owned();
        let seen = answer.json["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert!(seen.trim_start_matches('#').starts_with(pointer), "{detail} at {seen}, not {pointer}");
    }
    let answer = send(&http, LINES, good.clone() + &line("/../a", &json!({})).repeat(30)).await;
    let detail = answer.problem(400, "path_not_allowed");
    assert!(detail.contains("30 jobs are not as they must be: 2, 3, 4,") && detail.contains("…"), "{detail}");
    let long = line("/a", &json!({"metadata": {"a": "x".repeat(70_000)}}));
    let answer = send(&http, LINES, good.clone() + "\n" + &long).await;
    let detail = answer.problem(413, "payload_too_large");
    assert!(detail.starts_with("Line 3 has more than"), "{detail}");
    send(&http, "application/json", "[".repeat(5 << 20)).await.problem(413, "payload_too_large");
    assert_eq!(jobs_in(&installation).await, 1, "nothing of them is there");
    let batches: i64 =
        sqlx::query_scalar("select count(*) from batch").fetch_one(&installation.db).await.expect("counts");
    assert_eq!(batches, 0);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let installation = Installation::new().await;
    let (mut api, http) = installation.api(&[]);
    let mut stream = TcpStream::connect(http.url().trim_start_matches("http://")).await.expect("connects");
    let body = lines(100);
    let head = format!(
        "POST /api/v1/batches HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-type: {LINES}\r\ncontent-length: {}\r\n\r\n",
        installation.key,
        body.len() * 2
    );
    stream.write_all(head.as_bytes()).await.expect("sends");
    stream.write_all(body.as_bytes()).await.expect("sends");
    stream.shutdown().await.expect("ends");
    drop(stream);
    let seen = |line: &str| (line.contains("/api/v1/batches") && line.contains("handled")).then_some(());
    api.wait_for(seen, "the request is over");
    assert_eq!(jobs_in(&installation).await, 0);
}

#[tokio::test]
async fn an_api_that_is_killed_leaves_a_whole_batch_or_none() {
    let installation = Installation::new().await;
    let (first, http) = installation.api(&[]);
    // the batch is being stored, and cannot be: another has one of its names and has not decided yet
    let (_other, others) = installation.api(&[]);
    let sql =
        "insert into job (id, tenant_id, profile, lane, priority, path, roots, path_inside, external_id, max_attempts)
        select gen_random_uuid(), id, 'quick', 'fast', 1, '/x', '{media}', 'x', 'e1500', 1 from tenant limit 1";
    let mut blocker = installation.db.begin().await.expect("begins");
    sqlx::query(sql).execute(&mut *blocker).await.expect("inserts");
    let sending = tokio::spawn({
        let http = http.clone();
        async move {
            let request = http.request(Method::POST, "/api/v1/batches").header("content-type", LINES);
            request.header("idempotency-key", "k").body(lines(2_000)).send().await.is_err()
        }
    });
    let waiting =
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into job%'
        and datname = current_database()";
    until("it is in the middle", async || {
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&installation.db).await.expect("looks") == 1
    })
    .await;
    first.kill();
    assert!(sending.await.expect("ends"), "the client was told nothing");
    blocker.rollback().await.expect("rolls back");
    assert_eq!(jobs_in(&installation).await, 0, "none of it is there");
    let request = others.request(Method::POST, "/api/v1/batches").header("content-type", LINES);
    let again = Answer::of(request.header("idempotency-key", "k").body(lines(2_000))).await;
    assert_eq!(again.status, 202, "{}", again.text);
    assert_eq!(jobs_in(&installation).await, 2_000);
}

#[tokio::test]
async fn a_repeated_request_makes_one_batch() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let ask = async |body: String| {
        let request = http.request(Method::POST, "/api/v1/batches").header("content-type", LINES);
        Answer::of(request.header("idempotency-key", "k").body(body)).await
    };
    let (first, second) = (ask(lines(3)).await, ask(lines(3)).await);
    assert_eq!((first.status.as_u16(), &first.text), (202, &second.text));
    assert_eq!(second.header("idempotent-replayed"), "true");
    assert_eq!(second.header("location"), first.header("location"));
    ask(lines(4)).await.problem(422, "idempotency_mismatch");
    let named = http.request(Method::POST, "/api/v1/batches?external_id=x").header("content-type", LINES);
    let named = Answer::of(named.header("idempotency-key", "k").body(lines(3))).await;
    named.problem(422, "idempotency_mismatch");
    assert_eq!(jobs_in(&installation).await, 3);
    let both = tokio::join!(ask_anew(&http), ask_anew(&http));
    assert_eq!(both.0.json["id"], both.1.json["id"], "also at the same time");
}

async fn ask_anew(http: &Http) -> Answer {
    let request = http.request(Method::POST, "/api/v1/batches").header("content-type", LINES);
    Answer::of(request.header("idempotency-key", "other").body(line("/z.wav", &json!({})))).await
}

#[tokio::test]
async fn a_batch_is_canceled_and_run_again_as_one() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let mine = json!({"jobs": (0..1_200).map(|i| json!({"source": {"type": "path", "path": format!("/{i}")}})).collect::<Vec<_>>()});
    let batch = http.post("/api/v1/batches", &mine).await;
    let id = batch.json["id"].as_str().expect("an id").to_owned();
    let other = http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": "/other"}})).await;
    let path = format!("/api/v1/batches/{id}");
    let canceled = http.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!(canceled.json, json!({"canceled": 1_200, "requested": 0}));
    let other = http.get(&format!("/api/v1/jobs/{}", other.json["id"].as_str().expect("an id"))).await;
    assert_eq!(other.json["state"], "queued", "another's job goes on");
    let _deliver = installation.worker(&[("WORKER_ROLES", "deliver")]);
    let end = completed(&http, &id).await;
    assert_eq!(end["counts"]["canceled"], 1_200);
    assert_eq!(http.post(&format!("{path}/retry"), &json!({})).await.json, json!({"count": 0}), "none has failed");
    // as if they had failed
    let failed = "update job set state = 'failed', failure = '{\"class\": \"transient\", \"code\": \"storage_error\", \
        \"message\": \"x\", \"hint\": \"x\", \"retryable\": true}' where batch_number <= 1100";
    sqlx::query(failed).execute(&installation.db).await.expect("shifts");
    let none = http.post(&format!("{path}/retry"), &json!({"failure_code": "expired"})).await;
    assert_eq!(none.json, json!({"count": 0}));
    sqlx::query("update batch set failed = 1100, canceled = 100").execute(&installation.db).await.expect("shifts");
    let again = http.post(&format!("{path}/retry"), &json!({"failure_code": "storage_error"})).await;
    assert_eq!(again.json, json!({"count": 1_100}), "in more than one step");
    let now = http.get(&path).await.json;
    assert_eq!((&now["state"], &now["counts"]["queued"]), (&json!("running"), &json!(1_100)));
    http.post(&format!("{path}/cancel"), &json!({})).await;
    completed(&http, &id).await;
    until("its end is told once more", async || ends(&installation).await.len() == 2).await;
}

#[tokio::test]
async fn a_batch_whose_last_job_is_erased_is_completed_by_upkeep() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let batch = send(&http, LINES, line("/a.wav", &json!({}))).await;
    let id = batch.json["id"].as_str().expect("an id");
    let jobs = http.get(&format!("/api/v1/jobs?batch_id={id}")).await;
    let job = jobs.json["data"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(http.delete(&format!("/api/v1/jobs/{job}")).await.status, 204);
    let _upkeep = installation.worker(&[("WORKER_ROLES", "upkeep")]);
    let end = completed(&http, id).await;
    assert_eq!((&end["total"], &end["counts"]["succeeded"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn ten_thousand_small_files_go_through_in_little_memory() {
    const FILES: usize = 10_000;
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let paths = samples_in(&installation);
    // three contents are looked at; the others take their results, so that the test takes a minute and not ten
    // (`make batch` looks at each)
    let body: String = (0..FILES)
        .map(|i| {
            let path = format!("/many-{i}.{}", &paths[i % paths.len()][3..]);
            let there = |path: &str| installation.media().join(&path[1..]);
            std::fs::hard_link(there(&paths[i % paths.len()]), there(&path)).expect("a name");
            line(&path, &json!({"reuse": "result", "profile": "quick", "external_id": format!("e{i}")}))
        })
        .collect();
    http.get("/api/v1/batches").await;
    let before = api.peak_bytes();
    let begun = Instant::now();
    let batch = send(&http, LINES, body.clone()).await;
    assert_eq!(batch.status, 202, "{}", batch.text);
    let took = begun.elapsed();
    let grown = api.peak_bytes() - before;
    println!("{FILES} jobs, {} bytes: accepted in {took:.2?}, the API grew by {} KiB", body.len(), grown >> 10);
    assert!(grown < 24 << 20, "memory does not follow the batch: {grown} bytes");
    let id = batch.json["id"].as_str().expect("an id").to_owned();
    let _workers = [installation.worker(&[]), installation.worker(&[])];
    let begun = Instant::now();
    let path = format!("/api/v1/batches/{id}");
    while http.get(&path).await.json["state"] != "completed" {
        assert!(begun.elapsed() < Duration::from_secs(400), "{}", http.get(&path).await.text);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("all of them were run in {:.1?}", begun.elapsed());
    let before = api.peak_bytes();
    let (ndjson, csv) = exports::compare(&http, &id, FILES, 997).await;
    let grown = api.peak_bytes() - before;
    println!("exports of {ndjson} and {csv} bytes: the API grew by {} KiB", grown >> 10);
    assert!(grown < 24 << 20, "memory does not follow the export: {grown} bytes");
    assert_eq!(ends(&installation).await.len(), 1);
}

#[tokio::test]
async fn results_that_are_large_come_one_by_one() {
    const JOBS: usize = 30;
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let batch = send(&http, LINES, lines(JOBS)).await.json["id"].as_str().expect("an id").to_owned();
    // every second one has 8 MiB
    let ends = "with ended as (update job set state = 'succeeded', finished_at = clock_timestamp() returning id, batch_number)
        insert into result (job_id, media, ffprobe, provenance) select id, '{\"container\": {\"format\": \"x\"}}',
            '{\"a\": \"' || repeat('x', case batch_number % 2 when 0 then 8 << 20 else 1 end) || '\"}', '{}' from ended";
    sqlx::query(ends).execute(&installation.db).await.expect("shifts");
    http.get("/api/v1/batches").await;
    let before = api.peak_bytes();
    for (format, most) in [("ndjson", JOBS), ("csv", JOBS + 1)] {
        let request = http.request(Method::GET, &format!("/api/v1/batches/{batch}/results?format={format}"));
        let mut answer = request.send().await.expect("an answer");
        let (mut count, mut bytes) = (0, 0);
        while let Some(piece) = answer.chunk().await.expect("whole") {
            count += piece.iter().filter(|byte| **byte == b'\n').count();
            bytes += piece.len();
        }
        assert_eq!(count, most, "{format}");
        assert!(format == "csv" || bytes > 8 << 20 << 3);
    }
    let (mut path, mut seen) = (format!("/api/v1/jobs?batch_id={batch}&include=result&limit=20"), Vec::new());
    loop {
        let page = http.get(&path).await.json;
        let jobs = page["data"].as_array().expect("jobs");
        assert!(jobs.iter().all(|job| job["result"].is_object()), "each with its result");
        seen.extend(jobs.iter().map(|job| job["external_id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/jobs?batch_id={batch}&include=result&limit=20&cursor={cursor}");
    }
    seen.sort_by_key(|name| name.as_str().map(|name| name[1..].parse::<usize>().expect("a number")));
    assert_eq!(seen, (0..JOBS).map(|i| json!(format!("e{i}"))).collect::<Vec<_>>());
    let grown = api.peak_bytes() - before;
    println!("the API grew by {} KiB", grown >> 10);
    // the row, the JSON in it, its line, what is on its way
    assert!(grown < 160 << 20, "memory follows one result, not a page of them: {grown} bytes");
}

#[tokio::test]
async fn an_old_batch_is_listed_however_many_jobs_came_after_it() {
    const JOBS: i64 = 1_000;
    let installation = Installation::new().await;
    let tenant = installation.tenant("t").await;
    let fill = "insert into job (id, tenant_id, profile, lane, priority, path, roots, path_inside, max_attempts, state, finished_at,
            created_at, batch_id, batch_number)
        select gen_random_uuid(), $1, 'quick', 'fast', 1, '/a', '{media}', 'a', 1, 'canceled', now(), now() + n * interval '1 s',
            ('00000000-0000-0000-0000-' || lpad((n / $2)::text, 12, '0'))::uuid, n % $2 + 1
        from generate_series(0, 100 * $2 - 1) n";
    installation.fill(sqlx::query(fill).bind(tenant).bind(JOBS)).await;
    let mut db = installation.db.acquire().await.expect("a connection");
    sqlx::query("analyze job").execute(&mut *db).await.expect("looks");
    let read = async |db: &mut sqlx::PgConnection| -> i64 {
        sqlx::query("select pg_stat_force_next_flush()").execute(&mut *db).await.expect("tells");
        let sql = "select sum(idx_tup_read)::bigint + pg_stat_get_tuples_returned('job'::regclass)
            from pg_stat_user_indexes where relname = 'job'";
        sqlx::query_scalar(sql).fetch_one(db).await.expect("looks")
    };
    let before = read(&mut db).await;
    let filter = store::job::Filter { batch: Some(BatchId(uuid::Uuid::nil())), ..Default::default() };
    let page = store::job::list(&mut *db, tenant, &filter, None, 51).await.expect("lists");
    assert_eq!(page.len(), 51);
    let rows = read(&mut db).await - before;
    println!("{rows} rows were read");
    assert!((51..=2 * JOBS).contains(&rows), "{rows} rows were read for a batch of {JOBS}");
}

#[tokio::test]
async fn probectl_submits_a_list_and_saves_its_results() {
    let (installation, http, _programs) = Installation::running().await;
    let mut list = samples_in(&installation).join("\n") + "\n# a remark\n\n";
    let place = |name: &str| installation.folder().join(name).display().to_string();
    let (file, results) = (place("list.txt"), place("results.csv"));
    std::fs::write(&file, &list).expect("a list");
    let mut probectl = installation.probectl(&http, &["batch", &file, "--profile", "quick", "--results", &results]);
    assert_eq!(probectl.wait().code(), Some(0), "{}", probectl.log());
    probectl.wait_for(|line| line.contains("completed  3 succeeded").then_some(()), "the summary");
    let csv = std::fs::read_to_string(&results).expect("results");
    assert_eq!(csv.lines().count(), 4, "{csv}");
    list += "{\"source\": {\"type\": \"path\", \"path\": \"/missing\"}, \"profile\": \"quick\"}\n";
    std::fs::write(&file, &list).expect("a list");
    let mut probectl = installation.probectl(&http, &["batch", &file, "--wait", "--external-id", "mine"]);
    assert_eq!(probectl.wait().code(), Some(3), "{}", probectl.log());
    probectl.wait_for(|line| line.contains("3 succeeded, 1 failed").then_some(()), "the summary");
    let mine = http.get("/api/v1/batches").await.json["data"][0]["id"].as_str().expect("an id").to_owned();
    std::fs::write(&results, "last night's").expect("older results");
    let unknown = uuid::Uuid::new_v4().to_string();
    let mut probectl = installation.probectl(&http, &["batch", "--id", &unknown, "--results", &results]);
    assert_eq!(probectl.wait().code(), Some(1), "there is no such batch");
    assert_eq!(std::fs::read_to_string(&results).expect("results"), "last night's");
    let mut probectl = installation.probectl(&http, &["batch", "--id", &mine, "--results", &results]);
    assert_eq!(probectl.wait().code(), Some(3), "{}", probectl.log());
    assert_eq!(std::fs::read_to_string(&results).expect("results").lines().count(), 5);
    let mut probectl = installation.probectl(&http, &["batch", &file, "--results", "/nonexistent/results.csv"]);
    assert_eq!(probectl.wait().code(), Some(1), "before anything is submitted");
    assert_eq!(http.get("/api/v1/batches").await.json["data"].as_array().map(Vec::len), Some(2));
    let mut probectl = installation.probectl(&http, &["batch", &file, "--external-id", "mine"]);
    assert_eq!(probectl.wait().code(), Some(1), "the name is taken");
    probectl.wait_for(|line| line.contains("external_id_taken").then_some(()), "why");
}
