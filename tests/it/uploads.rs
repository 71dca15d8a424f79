//! `/api/v1/uploads` with a raw body: what is stored, what is refused, what a broken upload leaves behind, and what a
//! large one costs.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tests::http::rest_of;
use tests::{Answer, Http, Installation};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A body of `pieces` pieces of `size` zero bytes, made piece by piece so that the test itself stays small.
fn stream_of(pieces: usize, size: usize) -> reqwest::Body {
    let piece = vec![0_u8; size];
    reqwest::Body::wrap_stream(futures::stream::iter((0..pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone()))))
}

fn upload(http: &Http, query: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    http.request(reqwest::Method::POST, &format!("/api/v1/uploads{query}")).body(body)
}

#[tokio::test]
async fn an_upload_is_stored_under_a_random_id() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let answer =
        Answer::of(upload(&http, "?filename=holiday%20%C3%A9.mp4", "hello").header("content-type", "video/mp4")).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let id = answer.json["id"].as_str().expect("an id");
    assert_eq!(answer.header("location"), format!("{}/api/v1/uploads/{id}", http.url()));
    for (member, value) in [
        ("state", json!("complete")),
        ("filename", json!("holiday é.mp4")),
        ("content_type", json!("video/mp4")),
        ("size_bytes", json!(5)),
    ] {
        assert_eq!(answer.json[member], value, "{member}");
    }
    assert_eq!(http.get(&format!("/api/v1/uploads/{id}")).await.json, answer.json);
    assert_eq!(std::fs::read(installation.uploads().join(id).join("data")).expect("stored"), b"hello");
    http.get(&format!("/api/v1/uploads/{}", shared::id::UploadId::new())).await.problem(404, "not_found");
}

#[tokio::test]
async fn what_is_too_large_or_oddly_named_is_refused() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("MAX_UPLOAD_BYTES", "1000")]);
    Answer::of(upload(&http, "", "x".repeat(1001))).await.problem(413, "payload_too_large");
    // chunked: nobody said how long it will be
    let answer = Answer::of(upload(&http, "", stream_of(11, 100))).await;
    assert!(answer.problem(413, "payload_too_large").contains("MAX_UPLOAD_BYTES"));
    assert_eq!(Answer::of(upload(&http, "", stream_of(10, 100))).await.status, 201);
    for bad in ["?filename=", "?filename=a%0Ab", "?name=x", &format!("?filename={}", "x".repeat(1025))] {
        Answer::of(upload(&http, bad, "x")).await.problem(400, "bad_request");
    }
    eventually(async || left_over(&installation).await == (1, 1), "only the good upload is left").await;
}

/// Rows and folders of uploads.
async fn left_over(installation: &Installation) -> (usize, usize) {
    let unfinished = "select count(*) from upload where state = 'receiving'";
    let unfinished: i64 = sqlx::query_scalar(unfinished).fetch_one(&installation.db).await.expect("counts");
    let folders =
        std::fs::read_dir(installation.uploads()).expect("there").flatten().filter(|e| e.path().is_dir()).count();
    (usize::try_from(unfinished).expect("few") + folders, folders)
}

async fn eventually(holds: impl AsyncFn() -> bool, what: &str) {
    for _ in 0..200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never came true: {what}");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let address = http.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("connects");
    let head = format!(
        "POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Length: 1000000\r\n\r\n",
        installation.key
    );
    stream.write_all(head.as_bytes()).await.expect("sends");
    stream.write_all(&[0; 300_000]).await.expect("sends");
    eventually(async || left_over(&installation).await == (2, 1), "the bytes arrive").await;
    drop(stream);
    eventually(async || left_over(&installation).await == (0, 0), "the bytes are erased").await;
    assert_eq!(http.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_client_that_asks_first_sends_nothing_in_vain() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("MAX_UPLOAD_BYTES", "1000")]);
    let mut stream = TcpStream::connect(http.url().trim_start_matches("http://")).await.expect("connects");
    let head = format!(
        "POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Length: 60000000000\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        installation.key
    );
    stream.write_all(head.as_bytes()).await.expect("sends");
    let answer = rest_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_killed_api_leaves_an_upload_that_is_swept() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let mut stream = TcpStream::connect(http.url().trim_start_matches("http://")).await.expect("connects");
    let head = format!(
        "POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Length: 1000000\r\n\r\n",
        installation.key
    );
    stream.write_all(head.as_bytes()).await.expect("sends");
    stream.write_all(&[0; 300_000]).await.expect("sends");
    eventually(async || left_over(&installation).await == (2, 1), "the bytes arrive").await;
    api.signal(Signal::KILL);
    drop(stream);
    assert_eq!(left_over(&installation).await, (2, 1));
    // 48 hours pass
    sqlx::query("update upload set expires_at = expires_at - interval '49 hours', lock_until = lock_until - interval '49 hours'")
        .execute(&installation.db)
        .await
        .expect("shifts");
    let _upkeep = installation.worker(&[("WORKER_ROLES", "upkeep")]);
    eventually(async || left_over(&installation).await == (0, 0), "upkeep erases it").await;
}

#[tokio::test]
async fn memory_stays_flat_while_a_gibibyte_arrives() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    assert_eq!(Answer::of(upload(&http, "", stream_of(16, 1 << 20))).await.status, 201);
    let before = api.peak_bytes();
    let answer = Answer::of(upload(&http, "", stream_of(1024, 1 << 20))).await;
    assert_eq!((answer.status.as_u16(), &answer.json["size_bytes"]), (201, &json!(1_u64 << 30)), "{}", answer.text);
    let grown = api.peak_bytes().saturating_sub(before);
    println!("1 GiB upload: peak resident memory of the API grew by {} KiB", grown / 1024);
    assert!(grown < 32 << 20, "grew by {grown} bytes");
}

#[tokio::test]
async fn bytes_without_a_row_are_swept() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let kept = http.upload("kept", "abc").await;
    let stray = installation.uploads().join(shared::id::UploadId::new().to_string());
    std::fs::create_dir(&stray).expect("a folder");
    std::fs::write(stray.join("data"), "left behind by a crash").expect("writes");
    let two_hours_ago = std::time::SystemTime::now() - Duration::from_secs(7200);
    for folder in [stray.clone(), installation.uploads().join(&kept)] {
        std::fs::File::open(folder).expect("opens").set_modified(two_hours_ago).expect("is old");
    }
    let _upkeep = installation.worker(&[("WORKER_ROLES", "upkeep")]);
    eventually(async || !stray.exists(), "the stray is erased").await;
    assert!(installation.uploads().join(kept).exists());
}
