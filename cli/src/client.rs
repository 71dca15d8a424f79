//! The HTTP client of `probectl`: speaks the public API and nothing else, and turns problem documents into errors that
//! say what to do.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::fs::File;
use tokio_util::io::ReaderStream;

/// Bytes read from a file at once while it is sent.
const CHUNK: usize = 256 * 1024;

/// An installation and the key to use with it.
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: Option<SecretString>,
}

/// A problem document (RFC 9457), as far as it is shown.
#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
    detail: String,
    request_id: String,
}

impl Client {
    /// A client of the installation at `url`.
    pub fn new(url: &str, key: Option<SecretString>) -> Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("probectl/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .build()
            .context("cannot set up HTTP")?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key })
    }

    /// GET, with a JSON answer.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    /// POST of JSON, with a JSON answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// GET whose status is part of the answer, as with health.
    pub async fn get_any_status(&self, path: &str) -> Result<(StatusCode, Value)> {
        let response = self.send(self.request(Method::GET, path)).await?;
        let status = response.status();
        Ok((status, response.json().await.context("the answer is not JSON; is this an FFprobe API?")?))
    }

    /// Uploads a file under `name`; `seen` is told how many bytes went out with each piece.
    pub async fn upload(
        &self,
        file: &Path,
        name: &str,
        mut seen: impl FnMut(u64) + Send + Sync + 'static,
    ) -> Result<Value> {
        use futures::StreamExt;
        let open = File::open(file).await.with_context(|| format!("cannot open {}", file.display()))?;
        let size = open.metadata().await.with_context(|| format!("cannot look at {}", file.display()))?.len();
        let pieces = ReaderStream::with_capacity(open, CHUNK).inspect(move |piece| {
            if let Ok(bytes) = piece {
                seen(bytes.len() as u64);
            }
        });
        let request = self
            .request(Method::POST, "/api/v1/uploads")
            .query(&[("filename", name)])
            .header("content-type", "application/octet-stream")
            .header("content-length", size)
            .body(Body::wrap_stream(pieces));
        self.json(request).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.header("x-api-key", key.expose_secret()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|e| {
            let away = e.is_connect();
            let error = anyhow!(e.without_url());
            if away {
                error.context(format!(
                    "nothing answers at {}. Start it with `make up`, or name another with --url or FFPROBE_API_URL",
                    self.url
                ))
            } else {
                error
            }
        })
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value> {
        let response = self.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return response.json().await.context("the answer is not JSON; is this an FFprobe API?");
        }
        let text = response.text().await.unwrap_or_default();
        Err(match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => anyhow!("{} ({}, request {})", problem.detail, problem.code, problem.request_id),
            Err(_) => anyhow!("HTTP {status} from {}; is this an FFprobe API?", self.url),
        })
    }
}
