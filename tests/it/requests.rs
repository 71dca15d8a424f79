//! What a job may ask for beyond its source's name: headers, budgets, frames, kinds of input, extensions. What is out of its
//! range or form is refused at submission, with a pointer to it.

use serde_json::{Value, json};
use tests::s3::S3Api;
use tests::{Answer, Http, Installation};

/// Submits and insists on a refusal at this member.
async fn refused(http: &Http, body: &Value, code: &str, pointer: &str) {
    let answer = http.post("/api/v1/jobs", body).await;
    assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    answer.problem(400, code);
    if !pointer.is_empty() {
        assert_eq!(answer.json["errors"][0]["pointer"], format!("#{pointer}"), "{body}: {}", answer.text);
    }
}

fn url(headers: Value) -> Value {
    json!({"source": {"type": "url", "url": "https://media.example/a.mp4", "headers": headers}})
}

#[tokio::test]
async fn unknown_members_are_refused_wherever_they_stand() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let path = json!({"type": "path", "path": "a.mp4"});
    for body in [
        json!({"source": {"type": "url", "url": "https://h.example/a", "header": {}}}),
        json!({"source": {"type": "url"}}),
        json!({"source": {"type": "url", "url": 1}}),
        json!({"source": {"type": "url", "url": "https://h.example/a", "headers": []}}),
        json!({"source": {"type": "url", "url": "https://h.example/a", "headers": {"A": 1}}}),
        json!({"source": {"type": "s3", "profile": "a", "bucket": "b"}}),
        json!({"source": {"type": "s3", "profile": "a", "bucket": "b", "key": "c", "region": "d"}}),
        json!({"source": {"type": "s3", "profile": "a", "bucket": "b", "key": "c", "endpoint": "http://127.0.0.1"}}),
        json!({"source": {"type": "path", "path": "a", "url": "https://h.example/a"}}),
        json!({"source": path, "budget": {"max_bytes": 1}}),
        json!({"source": path, "budget": {"max_read_bytes": -1}}),
        json!({"source": path, "budget": {"max_read_bytes": 1.5}}),
        json!({"source": path, "budget": {"max_seconds": 5_000_000_000_u64}}),
        json!({"source": path, "profile": "frames", "frames": {"frist": 1}}),
        json!({"source": path, "profile": "frames", "frames": {"first": -1}}),
        json!({"source": path, "accept": ["playlist"]}),
        json!({"source": path, "accept": "image"}),
        json!({"source": path, "sealed": "x"}),
    ] {
        refused(&http, &body, "invalid_json", "").await;
    }
    let answer = http.post("/api/v1/probe/url", &json!({"url": "https://h.example/a", "accept": 1})).await;
    answer.problem(400, "invalid_json");
}

#[tokio::test]
async fn no_header_gets_in_that_is_not_the_clients_to_set() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    for (name, value) in [
        ("X-A", "b\r\nHost: other"),
        ("X-A", "b\nX: y"),
        ("X-A", "b\u{0}"),
        ("X-A", "é"),
        ("X-A\r\nHost", "other"),
        ("X A", "b"),
        ("X-A:", "b"),
        ("", "b"),
        ("Host", "other"),
        ("hOST", "other"),
        ("Range", "bytes=0-"),
        ("If-Match", "\"v\""),
        ("If-Range", "\"v\""),
        ("Accept-Encoding", "gzip"),
        ("Connection", "X-A"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("Expect", "100-continue"),
        ("Proxy-Authorization", "Basic x"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Metadata-Flavor", "Google"),
        ("X-aws-ec2-metadata-token", "t"),
        ("X-HTTP-Method-Override", "DELETE"),
    ] {
        refused(&http, &url(json!({name: value})), "invalid_value", "/source/headers").await;
    }
    refused(&http, &url(json!({"X-A": "1", "x-a": "2"})), "invalid_value", "/source/headers").await;
    let many: serde_json::Map<String, Value> = (0..17).map(|n| (format!("X-{n}"), json!("v"))).collect();
    refused(&http, &url(many.into()), "invalid_value", "/source/headers").await;
    refused(&http, &url(json!({"X-A": "v".repeat(4096)})), "invalid_value", "/source/headers").await;
    let good = url(json!({"Authorization": "Bearer t", "Cookie": "a=b", "Accept": "*/*", "X-A": "v".repeat(3000)}));
    assert_eq!(http.post("/api/v1/jobs", &good).await.status, 202);
}

#[tokio::test]
async fn long_urls_are_taken_up_to_a_limit() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let of = |bytes: usize| {
        let start = "https://media.example/a.mp4?s=";
        json!({"source": {"type": "url", "url": format!("{start}{}", "x".repeat(bytes - start.len()))}})
    };
    assert_eq!(http.post("/api/v1/jobs", &of(8192)).await.status, 202);
    for bytes in [8193, 60_000] {
        refused(&http, &of(bytes), "url_not_allowed", "/source/url").await;
    }
}

#[tokio::test]
async fn budgets_and_frames_are_in_range() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let with = |profile: &str, more: Value| {
        let mut body = json!({"source": {"type": "path", "path": "a.mp4"}, "profile": profile});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    for (profile, more, pointer) in [
        ("standard", json!({"budget": {"max_read_bytes": 0}}), "/budget/max_read_bytes"),
        ("standard", json!({"budget": {"max_seconds": 0}}), "/budget/max_seconds"),
        ("standard", json!({"budget": {"max_seconds": 86_401}}), "/budget/max_seconds"),
        ("standard", json!({"frames": {}}), "/frames"),
        ("packets", json!({"frames": {"first": 10}}), "/frames"),
        ("frames", json!({"frames": {"first": 2001}}), "/frames/first"),
        ("frames", json!({"frames": {"first": 0}}), "/frames/first"),
        ("frames", json!({"frames": {"windows": 21}}), "/frames/windows"),
        ("frames", json!({"frames": {"window_frames": 101}}), "/frames/window_frames"),
    ] {
        refused(&http, &with(profile, more), "invalid_value", pointer).await;
    }
    let most = json!({"budget": {"max_read_bytes": u64::MAX, "max_seconds": 86_400}, "frames": {"first": 2000}});
    let taken = http.post("/api/v1/jobs", &with("frames", most)).await;
    assert_eq!(taken.status, 202, "{}", taken.text);
    assert_eq!(taken.json["budget"], json!({"max_read_bytes": u64::MAX, "max_seconds": 86_400}));
}

#[tokio::test]
async fn extensions_count_for_every_kind_of_source() {
    let (installation, store) = (Installation::new().await, S3Api::start());
    let profiles = installation.folder().join("profiles.json");
    let text = json!({"archive": {"endpoint": store.endpoint(), "allow_http": true, "path_style": true,
        "access_key_id": "AK", "secret_access_key": "hush", "buckets": ["media"]}});
    std::fs::write(&profiles, text.to_string()).expect("writes");
    let profiles = profiles.display().to_string();
    let (_api, http) = installation.api(&[("ALLOWED_EXTENSIONS", "mp4,mov"), ("S3_PROFILES_FILE", &profiles)]);
    let sources = |name: &str| {
        [
            json!({"type": "path", "path": format!("/a.mp4/{name}")}),
            json!({"type": "url", "url": format!("https://media.example/a.mp4/{name}?n=a.mp4#a.mp4")}),
            json!({"type": "s3", "profile": "archive", "bucket": "media", "key": format!("a.mp4/{name}")}),
        ]
    };
    for name in ["a.mkv", "a.mp4.exe", "a", "mp4"] {
        for source in sources(name) {
            refused(&http, &json!({"source": source}), "extension_not_allowed", "/source").await;
        }
        let request = http.request(reqwest::Method::POST, "/api/v1/uploads").query(&[("filename", name)]).body("x");
        Answer::of(request).await.problem(400, "extension_not_allowed");
    }
    http.post("/api/v1/probe/url", &json!({"url": "https://media.example/a.mkv"}))
        .await
        .problem(400, "extension_not_allowed");
    http.post("/api/v1/probe/file", &json!({"file_path": "/a.mkv"})).await.problem(400, "extension_not_allowed");
    for name in ["a.mp4", "A.MOV"] {
        for source in sources(name) {
            let taken = http.post("/api/v1/jobs", &json!({"source": source})).await;
            assert_eq!(taken.status, 202, "{}", taken.text);
        }
        http.upload(name, "x").await;
    }
}

#[tokio::test]
async fn images_subtitles_and_text_are_taken_only_on_request() {
    let (installation, http, _programs) = Installation::running().await;
    let png = std::process::Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", "color=red:size=64x48", "-frames:v", "1"])
        .args(["-f", "image2pipe", "-c:v", "png", "-"])
        .output()
        .expect("ffmpeg runs");
    assert!(png.status.success());
    let srt = b"1\n00:00:00,000 --> 00:00:01,000\nHello\n\n2\n00:00:02,000 --> 00:00:03,000\nWorld\n".to_vec();
    let text = b"These are notes, not media. They go on for a while.\n".repeat(20);
    let mut wrong = Vec::new();
    for (name, bytes, kind) in [("a.png", png.stdout, "image"), ("a.srt", srt, "subtitle"), ("a.txt", text, "text")] {
        let path = installation.put(name, &bytes);
        let upload = http.upload(name, bytes).await;
        for source in [json!({"type": "path", "path": path}), json!({"type": "upload", "id": upload})] {
            for accept in
                [json!([]), json!(["image"]), json!(["subtitle"]), json!(["text"]), json!(["text", "image", "text"])]
            {
                let job = http.post("/api/v1/jobs", &json!({"source": source, "accept": accept})).await;
                assert_eq!(job.status, 202, "{}", job.text);
                let ended = http.wait(job.json["id"].as_str().expect("an id")).await;
                let taken = accept.as_array().expect("a list").contains(&json!(kind));
                // a subtitle is text too, and text that is no subtitle is none
                if !taken && accept.as_array().expect("a list").contains(&json!("text")) && kind == "subtitle" {
                    continue;
                }
                if (ended["state"] == "succeeded") != taken {
                    wrong.push(format!("{name} with {accept}: {} {}", ended["state"], ended["failure"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
