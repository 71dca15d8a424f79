//! Uploads by tus 1.0.0: every row of the protocol's table, and what no table covers: broken connections, hanging requests,
//! two replicas, full disks, restarts. Raw sockets where an HTTP client would be too polite.

mod breaks;
mod limits;
mod table;
mod torture;
mod wire;

use std::time::Duration;

use reqwest::Method;
use tests::{Answer, Http};

/// Some bytes that are never the same twice in a row, made from their place.
fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn request(http: &Http, method: Method, path: &str, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let request = http.request(method, path).header("tus-resumable", "1.0.0");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

/// Creates an upload and returns its path.
async fn create(http: &Http, headers: &[(&str, &str)]) -> String {
    let answer = Answer::of(request(http, Method::POST, "/api/v1/uploads", headers)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    path_of(http, &answer)
}

fn path_of(http: &Http, answer: &Answer) -> String {
    let location = answer.header("location");
    location.strip_prefix(http.url()).unwrap_or_else(|| panic!("{location} is not absolute")).to_owned()
}

async fn patch(http: &Http, path: &str, offset: usize, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let offset = offset.to_string();
    let fixed = [("content-type", "application/offset+octet-stream"), ("upload-offset", offset.as_str())];
    Answer::of(request(http, Method::PATCH, path, &[&fixed, headers].concat()).body(body)).await
}

async fn head(http: &Http, path: &str) -> Answer {
    Answer::of(request(http, Method::HEAD, path, &[])).await
}

async fn offset(http: &Http, path: &str) -> usize {
    let answer = head(http, path).await;
    assert_eq!(answer.status, 200, "{:?}", answer.headers);
    answer.header("upload-offset").parse().expect("an offset")
}

async fn eventually(holds: impl AsyncFn() -> bool, what: &str) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never came true: {what}");
}
