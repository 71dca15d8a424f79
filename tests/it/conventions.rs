//! The conventions that hold for every route: tags and 304, preferences, pages with links, compression, and the pages at
//! `/docs` that load nothing from elsewhere.

use std::io::Read;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Http, Installation, samples};

async fn get(http: &Http, path: &str, headers: &[(&'static str, &str)]) -> Answer {
    let request = headers.iter().fold(http.request(Method::GET, path), |r, (name, value)| r.header(*name, *value));
    Answer::of(request).await
}

async fn post(http: &Http, path: &str, body: &Value, headers: &[(&'static str, &str)]) -> Answer {
    let request = http.request(Method::POST, path).json(body);
    Answer::of(headers.iter().fold(request, |r, (name, value)| r.header(*name, *value))).await
}

fn sample(installation: &Installation) -> Value {
    let path = installation.put("a.mp4", &std::fs::read(samples::path("mp4")).expect("a sample"));
    json!({"source": {"type": "path", "path": path}})
}

#[tokio::test]
async fn every_answer_carries_what_browsers_need() {
    let installation = Installation::new().await;
    let (_api, direct) = installation.api(&[]);
    let (_other, proxied) = installation.api(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    for path in ["/api/v1/jobs", "/health", "/docs", "/nowhere", "/api/v1/uploads/x"] {
        for (http, hsts) in [(&direct, ""), (&proxied, "max-age=63072000")] {
            let answer = get(http, path, &[("x-forwarded-proto", "https")]).await;
            let shown = ["x-content-type-options", "x-frame-options", "referrer-policy", "strict-transport-security"]
                .map(|name| answer.header(name));
            assert_eq!(shown, ["nosniff", "DENY", "no-referrer", hsts], "{path}");
            assert!(!answer.header("content-security-policy").is_empty(), "{path}");
        }
        assert_eq!(proxied.get(path).await.header("strict-transport-security"), "", "it did not come by TLS");
    }
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let job = http.post("/api/v1/jobs", &sample(&installation)).await.json["id"].as_str().expect("an id").to_owned();
    let url = format!("/api/v1/jobs/{job}");
    let queued = http.get(&url).await;
    assert_eq!((queued.header("retry-after"), queued.header("cache-control")), ("1", "private, no-cache"));
    let tag = queued.header("etag").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    let same = get(&http, &url, &[("if-none-match", &format!("\"other\", {tag}"))]).await;
    assert_eq!((same.status.as_u16(), same.text.as_str(), same.header("etag")), (304, "", tag.as_str()));
    // a client that polls learns from a 304, too, when to ask again and what its request was called
    assert_eq!(same.header("retry-after"), "1");
    assert!(!same.header("x-request-id").is_empty() && same.header("content-type").is_empty());

    let _worker = installation.worker(&[]);
    http.wait(&job).await;
    let ended = get(&http, &url, &[("if-none-match", &tag)]).await;
    assert_eq!((ended.status.as_u16(), ended.header("retry-after")), (200, ""));
    assert_ne!(ended.header("etag"), tag);
    for read in [&url, &format!("{url}/result"), &format!("{url}/attempts"), "/api/v1/jobs", "/api/v1/queues"] {
        let first = http.get(read).await;
        let again = get(&http, read, &[("if-none-match", first.header("etag"))]).await;
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{read}");
        // nobody is told that something is unchanged who may not see it
        let stranger = get(&http.with_key(None), read, &[("if-none-match", first.header("etag"))]).await;
        stranger.problem(401, "unauthorized");
    }
    let refused = get(&http, &format!("{url}x"), &[("if-none-match", "*")]).await;
    refused.problem(404, "not_found");
    assert_eq!(refused.header("etag"), "");
}

#[tokio::test]
async fn answers_are_held_as_clients_prefer() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let body = sample(&installation);
    let begun = Instant::now();
    let path = json!({"file_path": body["source"]["path"]});
    let at_once = post(&http, "/api/v1/probe/file", &path, &[("prefer", "respond-async")]).await;
    assert_eq!((at_once.status.as_u16(), at_once.header("preference-applied")), (202, "respond-async"));
    assert!(!at_once.header("location").is_empty() && at_once.header("retry-after") == "1");
    let short = post(&http, "/api/v1/jobs", &body, &[("prefer", "respond-async, wait=1")]).await;
    assert_eq!((short.status.as_u16(), short.header("preference-applied")), (202, "respond-async, wait=1"));
    let job = format!("/api/v1/jobs/{}", short.json["id"].as_str().expect("an id"));
    let asked = get(&http, &job, &[("prefer", "wait=1")]).await;
    assert_eq!((asked.json["state"].as_str(), asked.header("preference-applied")), (Some("queued"), "wait=1"));
    // the query says more exactly what this request wants
    let query = get(&http, &format!("{job}?wait=0"), &[("prefer", "wait=30")]).await;
    assert_eq!(query.header("preference-applied"), "");
    let took = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(20)).contains(&took), "{took:?}");
    let plain = http.post("/api/v1/jobs", &body).await;
    assert_eq!((plain.status.as_u16(), plain.header("preference-applied")), (202, ""));

    let _worker = installation.worker(&[]);
    let headers = [("prefer", "wait=500"), ("idempotency-key", "one")];
    for replayed in ["", "true"] {
        let done = post(&http, "/api/v1/jobs", &body, &headers).await;
        assert_eq!((done.status.as_u16(), done.header("preference-applied")), (200, "wait=30"), "{}", done.text);
        assert_eq!(done.json["result"]["media"]["video"][0]["codec"], "h264");
        assert_eq!(done.header("idempotent-replayed"), replayed);
    }
    // asked for without waiting, it is the same request
    let again = post(&http, "/api/v1/jobs", &body, &headers[1..]).await;
    assert_eq!((again.status.as_u16(), again.header("retry-after")), (202, "1"));
    assert_eq!(again.headers.get_all("content-type").iter().count(), 1, "{:?}", again.headers);
    assert_eq!(again.header("content-type"), "application/json");
}

#[tokio::test]
async fn every_list_has_pages_and_links() {
    let (installation, http, _programs) = Installation::running().await;
    let path = sample(&installation)["source"]["path"].clone();
    for _ in 0..3 {
        assert_eq!(http.post("/api/v1/probe/file", &json!({"file_path": path})).await.status, 200);
    }
    let job = http.get("/api/v1/jobs").await.json["data"][0]["id"].as_str().expect("an id").to_owned();
    let copy = "insert into attempt (job_id, number, worker_id, worker_name, started_at, ended_at, outcome)
        select job_id, number + n, worker_id, worker_name, started_at, ended_at, 'failed'
        from attempt, generate_series(1, 2) n where job_id = $1";
    sqlx::query(copy).bind(job.parse::<uuid::Uuid>().expect("an id")).execute(&installation.db).await.expect("copies");
    let mut cursors = Vec::new();
    for list in ["/api/v1/jobs", "/api/v1/probe/file", &format!("/api/v1/jobs/{job}/attempts")] {
        let whole = http.get(list).await.json["data"].as_array().expect("data").clone();
        assert_eq!(whole.len(), 3, "{list}");
        let mut seen: Vec<Value> = Vec::new();
        let mut url = format!("{list}?limit=2");
        loop {
            let page = http.get(&url).await;
            seen.extend(page.json["data"].as_array().expect("data").iter().cloned());
            let Some(cursor) = page.json["next_cursor"].as_str() else {
                assert_eq!((page.json["has_more"].as_bool(), page.header("link")), (Some(false), ""), "{list}");
                break;
            };
            url = format!("{list}?limit=2&cursor={cursor}");
            assert_eq!(page.header("link"), format!("<{url}>; rel=\"next\""));
            cursors.push((list.to_owned(), cursor.to_owned()));
        }
        assert_eq!(seen, whole, "{list}");
    }
    // a cursor opens no other list, and no other tenant's
    let other = http.with_key(Some(&installation.another_key("other", shared::access::Role::Viewer, &["*"]).await));
    for (list, cursor) in &cursors {
        for (elsewhere, _) in cursors.iter().filter(|(other, _)| other != list) {
            http.get(&format!("{elsewhere}?cursor={cursor}")).await.problem(400, "invalid_cursor");
        }
        let answer = other.get(&format!("{list}?cursor={cursor}")).await;
        assert!(answer.status == 400 || answer.status == 404, "{}", answer.text);
    }
}

#[tokio::test]
async fn results_and_lists_are_compressed_and_secrets_are_not() {
    let (installation, http, _programs) = Installation::running().await;
    let job = http.probe(sample(&installation)["source"].clone()).await;
    let result = format!("/api/v1/jobs/{}/result", job["id"].as_str().expect("an id"));
    let plain = http.get(&result).await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
    for (accepted, coding) in [("gzip", "gzip"), ("br", "br"), ("gzip, br", "br"), ("gzip;q=0, identity", "")] {
        let request = http.request(Method::GET, &result).header("accept-encoding", accepted);
        let response = request.send().await.expect("an answer");
        let headers = response.headers().clone();
        let named = headers.get("content-encoding").map_or("", |v| v.to_str().expect("text"));
        assert_eq!(named, coding, "{accepted}");
        assert_eq!(headers["etag"], plain.header("etag"), "the same result");
        let bytes = response.bytes().await.expect("a body");
        assert_eq!(coding.is_empty(), bytes.len() == plain.text.len());
        assert!(coding.is_empty() || bytes.len() * 2 < plain.text.len(), "{accepted}: {} bytes", bytes.len());
        if coding == "gzip" {
            assert_eq!(gunzip(&bytes), plain.text);
        }
    }
    let small = get(&http, "/health/live", &[("accept-encoding", "gzip, br")]).await;
    assert_eq!(small.header("content-encoding"), "");
    let upload = http.upload("a.mp4", std::fs::read(samples::path("mp4")).expect("a sample")).await;
    let upload = get(&http, &format!("/api/v1/uploads/{upload}"), &[("accept-encoding", "gzip, br")]).await;
    assert_eq!((upload.status.as_u16(), upload.header("content-encoding")), (200, ""));
}

/// By a program that is not ours.
fn gunzip(bytes: &[u8]) -> String {
    use std::process::{Command, Stdio};
    let mut gzip =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip starts");
    let mut input = gzip.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, bytes).expect("it reads");
    drop(input);
    let mut text = String::new();
    gzip.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
    assert!(gzip.wait().expect("it ends").success());
    text
}

#[tokio::test]
async fn the_pages_load_nothing_from_elsewhere() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let http = http.with_key(None);
    let page = http.get("/docs").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    assert!(!page.text.contains("://"), "{}", page.text);
    // every script stands in a file of its own: the policy lets no other run
    assert!(!page.text.contains("<script>") && !page.text.contains(" on") && !page.text.contains("<style"));
    let named: Vec<&str> =
        page.text.split("=\"").skip(1).filter_map(|rest| rest.split('"').next()).filter(|v| v.contains('/')).collect();
    let files: Vec<&str> = named.into_iter().filter(|value| value.starts_with("docs/")).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let answer = http.get(&format!("/{file}")).await;
        assert_eq!(answer.status, 200, "{file}");
        let kind = answer.header("content-type").split(';').next().unwrap_or_default();
        assert!(["text/css", "text/javascript", "image/png"].contains(&kind), "{file}: {kind}");
    }
    let other = http.get("/health").await;
    assert_eq!(other.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    http.get("/docs/../Cargo.toml").await.problem(404, "not_found");
    http.get("/docs/oauth2-redirect.html").await.problem(404, "not_found");
    let served = http.get("/openapi.json").await;
    let committed =
        std::fs::read_to_string(tests::binaries::workspace().join("openapi.json")).expect("openapi.json is committed");
    assert_eq!(served.text, committed);
}
