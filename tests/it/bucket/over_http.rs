//! Uploads by tus into a bucket, with real processes: one API is killed in the middle, another goes on, and a worker that
//! sees no upload volume probes the object.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tests::http::rest_of;
use tests::s3::S3Api;
use tests::{Answer, Http, Installation};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::trouble::Gate;
use super::{MIB, part, sha256};
use crate::remote::{until, wav};

/// An installation whose uploads lie in a bucket.
pub(super) struct Site {
    pub(super) installation: Installation,
    pub(super) store: S3Api,
    settings: Vec<(&'static str, String)>,
}

impl Site {
    async fn new() -> Self {
        Self::on(S3Api::start()).await
    }

    pub(super) async fn on(store: S3Api) -> Self {
        store.make("uploads").await;
        let installation = Installation::new().await;
        let settings = settings(&installation, store.endpoint());
        Self { installation, store, settings }
    }

    pub(super) fn settings(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Bytes that the row counts.
    pub(super) async fn counted(&self, id: &str) -> u64 {
        let sql = "select received_bytes from upload where id = $1";
        let id = Uuid::parse_str(id).expect("an id");
        let bytes: i64 = sqlx::query_scalar(sql).bind(id).fetch_one(&self.installation.db).await.expect("a row");
        u64::try_from(bytes).expect("not negative")
    }

    /// The only object that is an upload's.
    pub(super) async fn object(&self) -> (String, Vec<u8>) {
        let (keys, unfinished) = self.store.list("uploads").await;
        let keys: Vec<_> = keys.into_iter().filter(|key| key != "a/installation").collect();
        assert_eq!((keys.len(), unfinished), (1, 0), "{keys:?}");
        (keys[0].clone(), self.store.get("uploads", &keys[0]).await)
    }
}

fn settings(installation: &Installation, endpoint: &str) -> Vec<(&'static str, String)> {
    let text = json!({"store": {
        "endpoint": endpoint, "allow_http": true, "path_style": true, "access_key_id": "AKIDTEST",
        "secret_access_key": "hush-hush-7", "buckets": ["uploads"],
    }});
    let file = installation.folder().join("s3-profiles.json");
    std::fs::write(&file, text.to_string()).expect("writes");
    vec![("S3_PROFILES_FILE", file.display().to_string()), ("STORAGE_URL", "s3://store/uploads/a".to_owned())]
}

pub(super) fn tus(http: &Http, method: Method, path: &str) -> reqwest::RequestBuilder {
    http.request(method, path).header("Tus-Resumable", "1.0.0")
}

/// Begins an upload and returns its id.
pub(super) async fn begin(http: &Http, length: u64, metadata: &str) -> String {
    let request = tus(http, Method::POST, "/api/v1/uploads").header("Upload-Length", length);
    let begun = Answer::of(request.header("Upload-Metadata", metadata)).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    begun.header("location").rsplit('/').next().expect("an id").to_owned()
}

pub(super) fn patch(http: &Http, id: &str, at: u64, body: Body) -> reqwest::RequestBuilder {
    tus(http, Method::PATCH, &format!("/api/v1/uploads/{id}"))
        .header("Upload-Offset", at)
        .header("Content-Type", "application/offset+octet-stream")
        .body(body)
}

/// A body that brings these bytes and then hangs.
pub(super) fn hanging(bytes: &[u8]) -> Body {
    let chunks: Vec<_> = bytes.chunks(64 << 10).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect();
    Body::wrap_stream(futures::stream::iter(chunks).chain(futures::stream::pending()))
}

pub(super) async fn offset(http: &Http, id: &str) -> u64 {
    let head = Answer::of(tus(http, Method::HEAD, &format!("/api/v1/uploads/{id}"))).await;
    assert_eq!(head.status, 200);
    head.header("upload-offset").parse().expect("a number")
}

pub(super) async fn show(http: &Http, id: &str) -> Value {
    http.get(&format!("/api/v1/uploads/{id}")).await.json
}

#[tokio::test]
async fn an_api_is_killed_another_goes_on_and_a_worker_probes_it() {
    let site = Site::new().await;
    let (first, to_first) = site.installation.api(&site.settings());
    let (second, to_second) = site.installation.api(&site.settings());
    let worker = site.installation.worker(&site.settings());
    let length = 45 * MIB;
    let bytes = wav(usize::try_from(length).expect("small"));
    // filename tone.wav, probe standard, checksum sha256 as reported
    let id = begin(&to_first, length, "filename dG9uZS53YXY=,probe c3RhbmRhcmQ=,checksum c2hhMjU2").await;
    let sending = tokio::spawn(patch(&to_first, &id, 0, hanging(part(&bytes, 0, 25 * MIB))).send());
    until("most of it counts", async || (site.counted(&id).await >= 20 * MIB).then_some(())).await;
    first.kill();
    assert!(sending.await.expect("no panic").is_err());

    let at = offset(&to_second, &id).await;
    assert!(at == site.counted(&id).await && (20 * MIB..=25 * MIB).contains(&at), "{at}");
    let rest = part(&bytes, at, length).to_vec();
    let done = Answer::of(patch(&to_second, &id, at, rest.into())).await;
    assert_eq!(
        (done.status.as_u16(), done.header("upload-offset")),
        (204, length.to_string().as_str()),
        "{}",
        done.text
    );
    let upload = show(&to_second, &id).await;
    assert_eq!(upload["state"], "complete", "{upload}");
    let (key, stored) = site.object().await;
    assert!(stored == bytes && key == format!("a/{id}/data"), "{key}");

    let job = to_second.wait(upload["job_id"].as_str().unwrap_or_else(|| panic!("a job: {upload}"))).await;
    assert_eq!((&job["state"], &job["result"]["media"]["name"]), (&json!("succeeded"), &json!("tone.wav")), "{job}");
    assert_eq!(job["result"]["media"]["container"]["size_bytes"], length, "{job}");

    // the same bytes are known again by their SHA-256, wherever they lie
    let reusing = json!({"source": {"type": "upload", "id": id}, "reuse": "result"});
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let job = to_second.post("/api/v1/jobs", &reusing).await;
        jobs.push(to_second.wait(job.json["id"].as_str().unwrap_or_else(|| panic!("{}", job.text))).await);
    }
    assert_eq!(jobs[1]["result"]["reused_from"], jobs[0]["id"], "{}", jobs[1]);

    // nobody reads uploads by naming the bucket, whatever was granted
    let source = json!({"source": {"type": "s3", "profile": "store", "bucket": "uploads", "key": key}});
    to_second.post("/api/v1/jobs", &source).await.problem(400, "object_not_allowed");
    assert_eq!(to_second.get("/health/ready").await.status, 200);
    // bytes that somebody erased by hand are gone, and the job says so
    site.store.erase("uploads", &key).await;
    let job = to_second.probe(json!({"type": "upload", "id": id})).await;
    assert_eq!((&job["state"], &job["failure"]["code"]), (&json!("failed"), &json!("upload_gone")), "{job}");
    worker.stop();
    second.stop();
}

#[tokio::test]
async fn parts_are_put_together_and_a_digest_may_come_last() {
    let site = Site::new().await;
    let (api, http) = site.installation.api(&site.settings());
    let bytes = wav(21 << 20);
    let mut parts = Vec::new();
    for range in [0..17 * MIB, 17 * MIB..21 * MIB] {
        let request = tus(&http, Method::POST, "/api/v1/uploads").header("Upload-Concat", "partial");
        let begun = Answer::of(request.header("Upload-Length", range.end - range.start)).await;
        let url = begun.header("location").to_owned();
        let id = url.rsplit('/').next().expect("an id").to_owned();
        let body = part(&bytes, range.start, range.end).to_vec();
        assert_eq!(Answer::of(patch(&http, &id, 0, body.into())).await.status, 204);
        parts.push((url, id));
    }
    let concat = format!("final;{} {}", parts[0].0, parts[1].0);
    let whole = Answer::of(tus(&http, Method::POST, "/api/v1/uploads").header("Upload-Concat", concat)).await;
    assert_eq!(whole.status, 201, "{}", whole.text);
    let id = whole.header("location").rsplit('/').next().expect("an id").to_owned();
    let done = until("it is put together", async || {
        let shown = show(&http, &id).await;
        (shown["state"] == "complete").then_some(shown)
    });
    assert_eq!(done.await["size_bytes"], 21 * MIB);
    for (_, part) in &parts {
        let gone = Answer::of(tus(&http, Method::DELETE, &format!("/api/v1/uploads/{part}"))).await;
        assert_eq!(gone.status, 204, "{}", gone.text);
    }
    assert_eq!(site.object().await.1, bytes);
    assert_eq!(Answer::of(tus(&http, Method::DELETE, &format!("/api/v1/uploads/{id}"))).await.status, 204);
    assert_eq!(site.store.list("uploads").await, (vec!["a/installation".to_owned()], 0));

    // hello world, with its SHA-1 as a trailer: wrong first, then right
    let id = begin(&http, 20, "filename YQ==").await;
    let right = "Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
    for (digest, status, at) in [("AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "460", 0), (right, "204", 11)] {
        let mut stream = TcpStream::connect(http.url().trim_start_matches("http://")).await.expect("the API");
        let key = &site.installation.key;
        let head = format!(
            "PATCH /api/v1/uploads/{id} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nTus-Resumable: 1.0.0\r\n\
             Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nTransfer-Encoding: chunked\r\n\
             Trailer: Upload-Checksum\r\nConnection: close\r\n\r\n\
             b\r\nhello world\r\n0\r\nUpload-Checksum: sha1 {digest}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let answer = rest_of(&mut stream).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
        assert_eq!(offset(&http, &id).await, at);
    }
    api.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn last_bytes_and_a_count_that_wait_for_a_slow_store_both_get_on() {
    let mut site = Site::new().await;
    let gate = Gate::to(site.store.endpoint()).await;
    site.settings = settings(&site.installation, &gate.endpoint);
    let (api, http) = site.installation.api(&site.settings());
    let (little, length) = (64 << 10, 5 * MIB + (64 << 10));
    let bytes = wav(usize::try_from(length).expect("small"));
    let id = begin(&http, length, "filename YQ==").await;
    let (more, chunks) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
    let sending = tokio::spawn(patch(&http, &id, 0, Body::wrap_stream(chunks)).send());
    more.unbounded_send(Ok(part(&bytes, 0, MIB).to_vec())).expect("taken");
    until("it counts", async || (site.counted(&id).await == MIB).then_some(())).await;
    gate.block();
    // a count begins, and has the storage
    more.unbounded_send(Ok(part(&bytes, MIB, MIB + little).to_vec())).expect("taken");
    until("it is being made durable", async || (gate.waiting() > 0).then_some(())).await;
    // the very last bytes fill a piece, so that their request must have the storage, too
    more.unbounded_send(Ok(part(&bytes, MIB + little, length).to_vec())).expect("taken");
    drop(more);
    let held = async || {
        let sql = "select lock_until > clock_timestamp() + interval '2 seconds' from upload where id = $1";
        let id = Uuid::parse_str(&id).expect("an id");
        sqlx::query_scalar::<_, Option<bool>>(sql).bind(id).fetch_one(&site.installation.db).await.expect("a row")
    };
    // longer than a hold lasts by itself
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(held().await, Some(true), "the hold is renewed while the store is slow");
    }
    gate.open();
    let answer = tokio::time::timeout(Duration::from_secs(30), sending).await.expect("the request ends");
    assert_eq!(answer.expect("no panic").expect("an answer").status(), 204);
    assert!(site.object().await.1 == bytes);
    api.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_ends_the_request_with_a_true_offset() {
    let mut site = Site::new().await;
    let gate = Gate::to(site.store.endpoint()).await;
    site.settings = settings(&site.installation, &gate.endpoint);
    let (api, http) = site.installation.api(&site.settings());
    let bytes = wav(30 << 20);
    let id = begin(&http, 30 * MIB, "filename YQ==").await;
    let (more, chunks) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
    let sending = tokio::spawn(patch(&http, &id, 0, Body::wrap_stream(chunks)).send());
    more.unbounded_send(Ok(part(&bytes, 0, 6 * MIB).to_vec())).expect("taken");
    until("it counts", async || (site.counted(&id).await == 6 * MIB).then_some(())).await;
    gate.close();
    more.unbounded_send(Ok(part(&bytes, 6 * MIB, 30 * MIB).to_vec())).expect("taken");
    let begun = std::time::Instant::now();
    let answer = sending.await.expect("no panic");
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    if let Ok(answer) = answer {
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["upload-offset"]),
            (503, &"6291456".parse().expect("plain"))
        );
    }
    assert_eq!(http.get("/health/ready").await.status, 503, "uploads cannot be taken now");
    gate.open();
    let at = offset(&http, &id).await;
    assert_eq!((at, site.counted(&id).await), (6 * MIB, 6 * MIB));
    let rest = part(&bytes, at, 30 * MIB).to_vec();
    assert_eq!(Answer::of(patch(&http, &id, at, rest.into())).await.status, 204);
    assert_eq!(sha256(&site.object().await.1), sha256(&bytes));
    api.stop();
}
