//! A small HTTP client that shows what a client sees: status, headers and body.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time for a request and its answer: nothing may hang the suite for ever.
const LONGEST: Duration = Duration::from_secs(600);
/// Longest wait for the end of what a raw connection says.
const RAW_LONGEST: Duration = Duration::from_secs(120);

/// Requests to one API with one key.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    url: String,
    key: Option<String>,
    token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as sent.
    pub text: String,
    /// The body as JSON; null if it is none.
    pub json: Value,
}

impl Http {
    /// Requests to the API at `url`.
    pub fn new(url: String, key: Option<String>) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(LONGEST).build().expect("a client");
        Self { client, url, key, token: None }
    }

    /// The same API with other credentials.
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), token: None, ..self.clone() }
    }

    /// The same API with an access token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { key: None, token: Some(token.to_owned()), ..self.clone() }
    }

    /// Where the API is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A request to be completed.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match (&self.key, &self.token) {
            (Some(key), _) => request.header("x-api-key", key),
            (None, Some(token)) => request.bearer_auth(token),
            (None, None) => request,
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }

    /// PATCH of JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::PATCH, path).json(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    /// Uploads bytes and returns the upload's id.
    pub async fn upload(&self, name: &str, bytes: impl Into<reqwest::Body>) -> String {
        let request = self.request(Method::POST, "/api/v1/uploads").query(&[("filename", name)]).body(bytes);
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json["id"].as_str().expect("an id").to_owned()
    }

    /// Waits for the end of a job and returns it with its result.
    pub async fn wait(&self, job: &str) -> Value {
        for _ in 0..4 {
            let answer = self.get(&format!("/api/v1/jobs/{job}?wait=30&include=result")).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            if !matches!(answer.json["state"].as_str(), Some("queued" | "running")) {
                return answer.json;
            }
        }
        panic!("job {job} did not end in two minutes");
    }

    /// Submits a job and waits for its end.
    pub async fn probe(&self, source: Value) -> Value {
        let answer = self.post("/api/v1/jobs", &serde_json::json!({"source": source})).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        self.wait(answer.json["id"].as_str().expect("an id")).await
    }
}

impl Answer {
    /// What comes back for a request.
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        let endless = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let text = if endless { String::new() } else { response.text().await.expect("a body") };
        let json = serde_json::from_str(&text).unwrap_or_default();
        Self { status, headers, text, json }
    }

    /// A header, as text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().expect("text"))
    }

    /// Insists on a problem document with this status and code, and returns its detail.
    pub fn problem(&self, status: u16, code: &str) -> &str {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        assert_eq!(self.json["code"], code, "{}", self.text);
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["request_id"], self.header("x-request-id"));
        let detail = self.json["detail"].as_str().expect("a detail");
        assert!(detail.ends_with(['.', ')']) && detail.len() > 20, "a detail says what to do: {detail}");
        detail
    }
}

/// What a raw connection still says, up to its end.
pub async fn rest_of(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let read = timeout(RAW_LONGEST, stream.read_to_string(&mut text)).await;
    read.expect("the other side closes the connection").expect("text");
    text
}
