//! Secrets of a URL (user, password, query, request headers) reach its origin and are never shown again: not in any answer,
//! not in a log, not in clear in the database. A worker that cannot decrypt them says so.

use serde_json::{Value, json};
use tests::origin::Act;
use tests::{Answer, samples};

use super::{Site, opened, submit, until};

/// What must never be seen, each a word that stands nowhere else.
const SECRETS: [&str; 6] = ["Sesame4711", "hunter2hunter2", "sig8badf00d", "hdr9c0ffee", "cookie5eed", "moved6fee1"];

/// Everything that is stored, as text.
async fn database(site: &Site) -> String {
    let tables: Vec<String> =
        sqlx::query_scalar("select table_name::text from information_schema.tables where table_schema = 'public'")
            .fetch_all(&site.installation.db)
            .await
            .expect("lists");
    assert!(tables.iter().any(|t| t == "job"), "{tables:?}");
    let mut text = String::new();
    for table in tables {
        let sql = format!("select coalesce(string_agg(t::text, ' '), '') from \"{table}\" t");
        let rows: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&site.installation.db).await.expect("reads");
        text.push_str(&rows);
    }
    text
}

fn expect_silence(what: &str, text: &str) {
    let lower = text.to_lowercase();
    for secret in SECRETS {
        // bytes are shown as hexadecimal digits
        let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        let at = lower.find(&secret.to_lowercase()).or_else(|| lower.find(&hex));
        if let Some(at) = at {
            let around = &lower[lower.floor_char_boundary(at.saturating_sub(300))..lower.ceil_char_boundary(at + 60)];
            panic!("{what} shows {secret}: {around}");
        }
    }
}

/// Sources with secrets, of objects that end in different ways.
fn sources(site: &Site) -> Vec<(&'static str, Value)> {
    let mp4 = || std::fs::read(samples::path("mp4")).expect("a sample");
    let origin = &site.origin;
    let port = origin.address().port();
    let with_user =
        |path: &str| format!("http://Sesame4711:hunter2hunter2@127.0.0.1:{port}{path}?X-Signature=sig8badf00d#f");
    let with_headers = |path: &str| {
        json!({"type": "url", "url": origin.url(&format!("{path}?s=sig8badf00d")),
        "headers": {"Authorization": "Bearer hdr9c0ffee", "Cookie": "a=cookie5eed"}})
    };
    origin.serve("/good.mp4", mp4());
    origin.serve("/headers.mp4", mp4());
    origin.script("/forbidden.mp4", mp4(), &[], Act::status(403));
    origin.script("/text.mp4", b"no media at all, only words".to_vec(), &[], Act::Serve);
    origin.script("/lost.mp4", mp4(), &[], Act::Refuse);
    origin.script("/moved.mp4", mp4(), &[], Act::Redirect(302, "/good.mp4?t=moved6fee1".to_owned()));
    origin.script(
        "/away.mp4",
        mp4(),
        &[],
        Act::Redirect(302, "http://moved6fee1:x@127.0.0.1:1/?t=moved6fee1".to_owned()),
    );
    vec![
        ("/good.mp4", json!({"type": "url", "url": with_user("/good.mp4")})),
        ("/headers.mp4", with_headers("/headers.mp4")),
        ("/forbidden.mp4", with_headers("/forbidden.mp4")),
        ("/text.mp4", json!({"type": "url", "url": with_user("/text.mp4")})),
        ("/lost.mp4", with_headers("/lost.mp4")),
        ("/moved.mp4", with_headers("/moved.mp4")),
        ("/away.mp4", with_headers("/away.mp4")),
        ("/none.mp4", json!({"type": "url", "url": with_user("/none.mp4")})),
    ]
}

#[tokio::test]
async fn secrets_reach_the_origin_and_nobody_else() {
    let site = Site::new().await;
    let mut jobs = Vec::new();
    for (path, source) in sources(&site) {
        let body = json!({"source": source, "external_id": path});
        let send = async || {
            let request = site.http.request(reqwest::Method::POST, "/api/v1/jobs").header("idempotency-key", path);
            Answer::of(request.json(&body)).await
        };
        let (first, again) = (send().await, send().await);
        assert_eq!((first.status.as_u16(), again.header("idempotent-replayed")), (202, "true"), "{}", first.text);
        assert_eq!(first.json["id"], again.json["id"]);
        expect_silence("the answer to a submission", &format!("{} {:?}", first.text, first.headers));
        expect_silence("a repeated answer", &format!("{} {:?}", again.text, again.headers));
        jobs.push((path, first.json["id"].as_str().expect("an id").to_owned()));
    }
    let url = site.origin.url("/headers.mp4?s=sig8badf00d");
    let short = json!({"url": url, "headers": {"Authorization": "Bearer hdr9c0ffee"}});
    let short = site.http.post("/api/v1/probe/url", &short).await;
    assert_eq!(short.json["state"], "succeeded", "{}", short.text);
    assert_eq!(short.json["source"]["url"], site.origin.url("/headers.mp4?…"));
    expect_silence("the short form", &short.text);

    for (path, job) in &jobs {
        let ended = site.first_attempt(job).await;
        let good = ["/good.mp4", "/headers.mp4", "/moved.mp4"].contains(path);
        assert_eq!(ended["state"] == "succeeded", good, "{path}: {ended}");
        for view in ["", "?include=result", "/attempts", "/result"] {
            expect_silence(view, &site.http.get(&format!("/api/v1/jobs/{job}{view}")).await.text);
        }
    }
    for list in ["/api/v1/jobs", "/api/v1/jobs?include=result&limit=20", "/api/v1/probe/file", "/api/v1/probe/health"] {
        expect_silence(list, &site.http.get(list).await.text);
    }
    // refused ones too: what is wrong is told, and not what it was
    for (url, headers) in [
        ("http://Sesame4711:hunter2hunter2@10.0.0.1/a?sig8badf00d", json!({})),
        ("gopher://Sesame4711:hunter2hunter2@10.0.0.1/a?sig8badf00d", json!({})),
        ("http://Sesame4711:hunter2hunter2@[sig8badf00d/", json!({})),
        (&url, json!({"Authorization": "hdr9c0ffee\r\nX: y"})),
        (&url, json!({"Host": "hdr9c0ffee"})),
    ] {
        let body = json!({"source": {"type": "url", "url": url, "headers": headers}});
        let refused = site.http.post("/api/v1/jobs", &body).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        expect_silence("a refusal", &refused.text);
    }
    expect_silence("the database", &database(&site).await);
    expect_silence("the API's log", &site.api.log());
    expect_silence("the worker's log", &site.worker.log());
    assert!(site.worker.log().contains("\"level\":\"DEBUG\"") || site.worker.log().contains("DEBUG"), "it logs much");

    let basic = "Basic U2VzYW1lNDcxMTpodW50ZXIyaHVudGVyMg=="; // Sesame4711:hunter2hunter2
    let asked = site.origin.exchanges_of("/good.mp4");
    assert!(asked.iter().any(|e| e.header("authorization") == Some(basic)), "{asked:?}");
    assert!(asked.iter().any(|e| e.target() == "/good.mp4?X-Signature=sig8badf00d"), "{asked:?}");
    let asked = site.origin.exchanges_of("/headers.mp4");
    let whole = |e: &tests::origin::Exchange| {
        (e.header("authorization"), e.header("cookie")) == (Some("Bearer hdr9c0ffee"), Some("a=cookie5eed"))
    };
    assert!(asked.iter().any(whole), "{asked:?}");
}

#[tokio::test]
async fn a_worker_with_other_keys_says_so_and_the_right_one_goes_on() {
    let site = Site::with(&[("ENCRYPTION_KEYS", "other:ISEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=")]).await;
    let url = site.origin.serve("/a.mp4", std::fs::read(samples::path("mp4")).expect("a sample"));
    let job = submit(&site.http, &json!({"source": {"type": "url", "url": format!("{url}?s=sig8badf00d")}})).await;
    let waiting = site.first_attempt(&job).await;
    let failure = &waiting["failure"];
    assert_eq!((&waiting["state"], &failure["code"]), (&json!("queued"), &json!("worker_misconfigured")), "{waiting}");
    assert!(failure["message"].as_str().is_some_and(|m| m.contains("ENCRYPTION_KEYS")), "{waiting}");
    assert_eq!(site.origin.connections(), 0);
    expect_silence("the worker's log", &site.worker.log());
    let open = opened(&[&site.origin]);
    let Site { worker, installation, http, .. } = &site;
    worker.signal(rustix::process::Signal::TERM);
    let _right = installation.worker(&[("EGRESS_SCHEMES", "https,http"), ("EGRESS_ALLOW_CIDRS", &open)]);
    site.now(&job).await;
    let ended = until("the right worker runs it", async || {
        let shown = http.get(&format!("/api/v1/jobs/{job}")).await.json;
        (shown["state"] == "succeeded").then_some(shown)
    })
    .await;
    assert_eq!(ended["attempt"], 2, "{ended}");
}
