//! `/api/v1/jobs`: submit, show, wait, list, result; whose they are; what a client may not send.

use serde_json::{Value, json};
use shared::access::Role;
use tests::{Answer, Http, Installation, samples};

fn path(path: &str) -> Value {
    json!({"source": {"type": "path", "path": path}})
}

#[tokio::test]
async fn a_job_has_the_promised_members() {
    let (installation, http, _programs) = Installation::running().await;
    let file = installation.put("a.mp4", &std::fs::read(samples::path("mp4")).expect("a sample"));
    let body = json!({"source": {"type": "path", "path": file}, "profile": "standard", "priority": "high",
        "external_id": "order-1", "metadata": {"b": 1, "a": [true, null]}});
    let answer = http.post("/api/v1/jobs", &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let id = answer.json["id"].as_str().expect("an id").to_owned();
    assert_eq!(answer.header("location"), format!("/api/v1/jobs/{id}"));
    let members = [
        "id",
        "state",
        "profile",
        "source",
        "priority",
        "attempt",
        "max_attempts",
        "external_id",
        "metadata",
        "created_at",
        "started_at",
        "finished_at",
        "failure",
        "progress",
    ];
    for member in members {
        assert!(answer.json.get(member).is_some(), "{member} is missing: {}", answer.text);
    }
    assert_eq!(answer.json["source"], body["source"]);
    assert_eq!(answer.json["metadata"], body["metadata"]);
    assert_eq!((&answer.json["priority"], &answer.json["external_id"]), (&body["priority"], &body["external_id"]));

    let job = http.wait(&id).await;
    assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}");
    assert!(job["started_at"].is_string() && job["finished_at"].is_string() && job["failure"].is_null());

    let result = http.get(&format!("/api/v1/jobs/{id}/result")).await;
    assert_eq!(result.status, 200);
    assert_eq!(result.json["media"]["name"], "a.mp4");
    assert_eq!(result.json["ffprobe"]["format"]["filename"], "a.mp4");
    for member in ["ffprobe_version", "arguments", "bytes_read", "wall_ms", "cpu_ms", "peak_memory_bytes", "worker"] {
        assert!(!result.json["provenance"][member].is_null(), "{member} is missing: {}", result.text);
    }
    assert!(result.json["provenance"]["bytes_read"].as_u64().is_some_and(|n| n > 1000));
    assert_eq!(job["result"], result.json, "include=result is the result");
    let plain = http.get(&format!("/api/v1/jobs/{id}")).await;
    assert!(plain.json.get("result").is_none());
}

#[tokio::test]
async fn waiting_ends_with_the_job_or_with_patience() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let job = http.post("/api/v1/jobs", &path(&file)).await;
    let id = job.json["id"].as_str().expect("an id").to_owned();
    let begun = std::time::Instant::now();
    let answer = http.get(&format!("/api/v1/jobs/{id}?wait=1")).await;
    assert_eq!(answer.json["state"], "queued");
    assert!(begun.elapsed().as_secs_f64() >= 1.0, "it waits");
    assert_eq!(answer.header("retry-after"), "1");
    let result = http.get(&format!("/api/v1/jobs/{id}/result")).await;
    assert!(result.problem(409, "result_not_ready").contains("queued"));

    let waiting = tokio::spawn({
        let (http, id) = (http.clone(), id.clone());
        async move { http.get(&format!("/api/v1/jobs/{id}?wait=30")).await }
    });
    let _worker = installation.worker(&[]);
    assert_eq!(waiting.await.expect("answers").json["state"], "succeeded");
    assert!(begun.elapsed().as_secs() < 25, "the end is told, not waited out");
    http.get(&format!("/api/v1/jobs/{id}?wait=31")).await.problem(400, "bad_request");
    http.get(&format!("/api/v1/jobs/{id}?wait=x")).await.problem(400, "bad_request");
}

#[tokio::test]
async fn lists_are_newest_first_and_paged() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let mut ids = Vec::new();
    for n in 0..5 {
        let job = http
            .post("/api/v1/jobs", &json!({"source": {"type": "path", "path": "a.mp4"}, "external_id": format!("x{n}")}))
            .await;
        ids.insert(0, job.json["id"].clone());
    }
    let mut seen = Vec::new();
    let mut url = "/api/v1/jobs?limit=2&state=queued".to_owned();
    loop {
        let page = http.get(&url).await;
        assert_eq!(page.status, 200, "{}", page.text);
        seen.extend(page.json["data"].as_array().expect("data").iter().map(|j| j["id"].clone()));
        let Some(cursor) = page.json["next_cursor"].as_str() else {
            assert_eq!((page.json["has_more"].as_bool(), page.header("link")), (Some(false), ""));
            break;
        };
        let next = format!("</api/v1/jobs?limit=2&state=queued&cursor={cursor}>; rel=\"next\"");
        assert_eq!(page.header("link"), next);
        url = next[1..next.len() - ">; rel=\"next\"".len()].to_owned();
    }
    assert_eq!(seen, ids);

    let count = async |query: &str| {
        http.get(&format!("/api/v1/jobs?{query}")).await.json["data"].as_array().expect("data").len()
    };
    assert_eq!(count("external_id=x3").await, 1);
    assert_eq!(count("state=running,failed").await, 0);
    assert_eq!(count("state=running,queued&profile=standard").await, 5);
    assert_eq!(count("created_from=2000-01-01T00:00:00Z").await, 5);
    assert_eq!(count("created_before=2000-01-01T00:00:00Z").await, 0);
    for bad in ["state=done", "limit=0", "limit=201", "limit=x", "color=red", "include=all", "created_from=yesterday"] {
        http.get(&format!("/api/v1/jobs?{bad}")).await.problem(400, "bad_request");
    }
    for bad in ["cursor=abc", "cursor="] {
        http.get(&format!("/api/v1/jobs?{bad}")).await.problem(400, "invalid_cursor");
    }
    let cursor = http.get("/api/v1/jobs?limit=2").await.json["next_cursor"].as_str().expect("a cursor").to_owned();
    http.get(&format!("/api/v1/jobs?state=failed&cursor={cursor}")).await.problem(400, "invalid_cursor");
}

#[tokio::test]
async fn an_external_id_is_taken_once_per_tenant() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let body = json!({"source": {"type": "path", "path": "a.mp4"}, "external_id": "same"});
    assert_eq!(http.post("/api/v1/jobs", &body).await.status, 202);
    let again = http.post("/api/v1/jobs", &body).await;
    assert!(again.problem(409, "external_id_taken").contains("same"));
    assert_eq!(again.json["errors"][0]["pointer"], "#/external_id");
    let other = http.with_key(Some(&installation.another_key("other", Role::Submitter, &["*"]).await));
    assert_eq!(other.post("/api/v1/jobs", &body).await.status, 202, "another tenant's ids are its own");
}

#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let (installation, http, _programs) = Installation::running().await;
    let upload = http.upload("a.wav", std::fs::read(samples::path("wav")).expect("a sample")).await;
    let job = http.probe(json!({"type": "upload", "id": upload})).await;
    let id = job["id"].as_str().expect("an id");
    let other = http.with_key(Some(&installation.another_key("other", Role::Admin, &[]).await));
    other.get(&format!("/api/v1/jobs/{id}")).await.problem(404, "not_found");
    other.get(&format!("/api/v1/jobs/{id}?wait=5")).await.problem(404, "not_found");
    other.get(&format!("/api/v1/jobs/{id}/result")).await.problem(404, "not_found");
    other.get(&format!("/api/v1/uploads/{upload}")).await.problem(404, "not_found");
    let stolen = other.post("/api/v1/jobs", &json!({"source": {"type": "upload", "id": upload}})).await;
    stolen.problem(404, "not_found");
    assert_eq!(other.get("/api/v1/jobs").await.json["data"], json!([]));
    // a tenant without granted roots cannot name paths at all
    assert!(other.post("/api/v1/jobs", &path("/a.mp4")).await.problem(400, "no_media_root").contains("MEDIA_ROOTS"));
}

#[tokio::test]
async fn roles_and_credentials_are_checked_on_every_route() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let viewer = http.with_key(Some(&installation.another_key("default", Role::Viewer, &["*"]).await));
    assert_eq!(viewer.get("/api/v1/jobs").await.status, 200);
    viewer.post("/api/v1/jobs", &path("/a.mp4")).await.problem(403, "forbidden");
    viewer.post("/api/v1/probe/file", &json!({"file_path": "/a.mp4"})).await.problem(403, "forbidden");
    viewer.post("/api/v1/uploads", &json!({})).await.problem(403, "forbidden");

    let id = shared::id::JobId::new();
    let key = &installation.key;
    let flipped = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
    let unknown = shared::bootstrap::mint();
    for bad in [None, Some(""), Some("x"), Some(flipped.as_str()), Some(unknown.expose())] {
        let http = http.with_key(bad);
        for path in [
            "/api/v1/jobs",
            &format!("/api/v1/jobs/{id}"),
            &format!("/api/v1/jobs/{id}/result"),
            "/api/v1/probe/file",
            &format!("/api/v1/uploads/{id}"),
        ] {
            let answer = http.get(path).await;
            answer.problem(401, "unauthorized");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
        for path in ["/api/v1/jobs", "/api/v1/uploads", "/api/v1/probe/file"] {
            http.post(path, &json!({})).await.problem(401, "unauthorized");
        }
    }
    let bearer = http.with_key(None).request(reqwest::Method::GET, "/api/v1/jobs").bearer_auth(key);
    assert_eq!(Answer::of(bearer).await.status, 200);
    // a key in the query would end up in logs, so it is never looked at
    let query = http.with_key(None).get(&format!("/api/v1/jobs?api_key={key}")).await;
    query.problem(401, "unauthorized");
}

#[tokio::test]
async fn wrong_requests_say_what_is_wrong() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let source = json!({"type": "path", "path": "/a.mp4"});
    let send = async |body: Value| http.post("/api/v1/jobs", &body).await;
    for bad in [
        json!({}),
        json!([]),
        json!({"source": {}}),
        json!({"source": {"type": "ftp", "path": "x"}}),
        json!({"source": {"type": "path"}}),
        json!({"source": {"type": "path", "path": "a", "extra": 1}}),
        json!({"source": {"type": "upload", "id": "not-an-id"}}),
        json!({"source": source, "profile": "deepest"}),
        json!({"source": source, "priority": 1}),
        json!({"source": source, "metadata": []}),
        json!({"source": source, "unknown": 1}),
    ] {
        send(bad).await.problem(400, "invalid_json");
    }
    for (member, bad) in [
        ("/external_id", json!({"source": source, "external_id": ""})),
        ("/external_id", json!({"source": source, "external_id": "x".repeat(201)})),
        ("/external_id", json!({"source": source, "external_id": "a\u{0}b"})),
        ("/metadata", json!({"source": source, "metadata": {"k": "a\u{0}b"}})),
        ("/metadata", json!({"source": source, "metadata": {"k": [{"a\u{0}": 1}]}})),
        ("/metadata", json!({"source": source, "metadata": {"k": "x".repeat(17_000)}})),
    ] {
        let answer = send(bad).await;
        answer.problem(400, "invalid_value");
        assert_eq!(answer.json["errors"][0]["pointer"], format!("#{member}"));
    }
    // a backslash before u0000 is text, not a NUL
    assert_eq!(send(json!({"source": source, "metadata": {"k": "a\\u0000b"}})).await.status, 202);
    for bad in ["/../etc/passwd", "a/../../b", "", "a\u{0}b", "/"] {
        let answer = send(path(bad)).await;
        answer.problem(400, "path_not_allowed");
        assert_eq!(answer.json["errors"][0]["pointer"], "#/source/path");
    }
    send(json!({"source": {"type": "upload", "id": shared::id::UploadId::new()}})).await.problem(404, "not_found");
    let raw = |body: &'static str, kind: &'static str| {
        Answer::of(http.request(reqwest::Method::POST, "/api/v1/jobs").header("content-type", kind).body(body))
    };
    raw("{", "application/json").await.problem(400, "invalid_json");
    raw("", "application/json").await.problem(400, "invalid_json");
    raw("{}", "text/plain").await.problem(415, "unsupported_media_type");
    let large = http
        .request(reqwest::Method::POST, "/api/v1/jobs")
        .header("content-type", "application/json")
        .body("x".repeat(70_000));
    Answer::of(large).await.problem(413, "payload_too_large");
}

#[tokio::test]
async fn every_stray_request_gets_a_problem() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    http.get("/").await.problem(404, "not_found");
    http.get("/api/v1/nothing").await.problem(404, "not_found");
    http.get("/api/v1/jobs/not-an-id").await.problem(404, "not_found");
    let wrong_method = Answer::of(http.request(reqwest::Method::DELETE, "/api/v1/jobs")).await;
    wrong_method.problem(405, "method_not_allowed");
    assert!(wrong_method.header("allow").contains("POST"), "{:?}", wrong_method.headers);
    let request = http.request(reqwest::Method::GET, "/health").header("x-request-id", "trace-me.1");
    assert_eq!(Answer::of(request).await.header("x-request-id"), "trace-me.1");
    let request = http.request(reqwest::Method::GET, "/health").header("x-request-id", "not decent\"");
    assert_ne!(Answer::of(request).await.header("x-request-id"), "not decent\"");
    assert_eq!(http.get("/health").await.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn many_clients_at_once_all_get_their_own_answer() {
    let (installation, http, _programs) = Installation::running().await;
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let one = |http: Http, n: usize, file: String| async move {
        let body = json!({"source": {"type": "path", "path": file}, "metadata": {"n": n}});
        let job = http.post("/api/v1/jobs", &body).await;
        assert_eq!(job.status, 202, "{}", job.text);
        let ended = http.wait(job.json["id"].as_str().expect("an id")).await;
        (ended["state"].clone(), ended["metadata"]["n"].clone())
    };
    let all: Vec<_> = (0..40).map(|n| tokio::spawn(one(http.clone(), n, file.clone()))).collect();
    for (n, task) in all.into_iter().enumerate() {
        assert_eq!(task.await.expect("no panic"), ("succeeded".into(), n.into()));
    }
}
