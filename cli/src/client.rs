//! The HTTP client of `probectl`: speaks the public API and nothing else, and turns problem documents into errors that
//! say what to do.

use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::patience::{Patience, retry_after};
use crate::session::Session;
use crate::terminal;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// An installation and what to use with it.
pub struct Client {
    http: reqwest::Client,
    url: String,
    credentials: Credentials,
}

/// As whom to ask.
pub enum Credentials {
    /// Nobody.
    None,
    /// Whoever holds this key.
    Key(SecretString),
    /// Whoever logged in.
    Session(Session),
}

/// A problem document (RFC 9457), as far as it is shown.
#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
    detail: String,
    request_id: String,
}

/// An answer that is no success, with what it says.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
struct Refused {
    status: StatusCode,
    retry_after: Option<Duration>,
    said: String,
}

/// Whether what failed may go well if it is done again: no answer came, or one that asks for patience.
pub(crate) fn may_pass(error: &Error) -> bool {
    match error.downcast_ref::<Refused>() {
        Some(refused) => refused.status.is_server_error() || refused.status == StatusCode::TOO_MANY_REQUESTS,
        None => error.downcast_ref::<reqwest::Error>().is_some(),
    }
}

/// The pause that an answer asks for.
pub(crate) fn asked_pause(response: &Response) -> Option<Duration> {
    response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?))
}

/// Asks again while no answer comes or one that asks for patience, for `limit`; says so each time.
pub async fn persist<T>(limit: Duration, mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let mut patience = Patience::new(limit);
    loop {
        let error = match ask().await {
            Err(error) if may_pass(&error) => error,
            answer => return answer,
        };
        let asked = error.downcast_ref::<Refused>().and_then(|refused| refused.retry_after);
        let Some(wait) = patience.next(asked) else { return Err(error) };
        terminal::remark(&format!("probectl: {error:#}; trying again"));
        sleep(wait).await;
    }
}

impl Client {
    /// A client of the installation at `url`.
    pub fn new(url: &str, key: Option<SecretString>) -> Result<Self> {
        Self::with(url, key.map_or(Credentials::None, Credentials::Key))
    }

    /// A client of the installation at `url` with these credentials.
    pub fn with(url: &str, credentials: Credentials) -> Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("probectl/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .connect_timeout(CONNECT)
            .build()
            .context("cannot set up HTTP")?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), credentials })
    }

    /// GET, with a JSON answer.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    /// POST of JSON, with a JSON answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// POST of JSON, answered by nothing but its success.
    pub async fn tell(&self, path: &str, body: &Value) -> Result<()> {
        let response = self.send(self.request(Method::POST, path).json(body)).await?;
        if response.status().is_success() { Ok(()) } else { Err(self.refusal(response).await) }
    }

    /// PATCH of JSON, with a JSON answer.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(self.request(Method::PATCH, path).json(body)).await
    }

    /// DELETE, with an answer that says nothing.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let response = self.send(self.request(Method::DELETE, path)).await?;
        if response.status().is_success() { Ok(()) } else { Err(self.refusal(response).await) }
    }

    /// GET whose status is part of the answer, as with health.
    pub async fn get_any_status(&self, path: &str) -> Result<(StatusCode, Value)> {
        let response = self.send(self.request(Method::GET, path)).await?;
        let status = response.status();
        Ok((status, response.json().await.context("the answer is not JSON; is this an FFprobe API?")?))
    }

    /// POST of JSON that may be sent again: the service answers the same `key` with its first answer.
    pub async fn post_once(&self, path: &str, body: &Value, key: &str) -> Result<Value> {
        self.json(self.request(Method::POST, path).header("idempotency-key", key).json(body)).await
    }

    /// POST of lines of JSON that may be sent again, like [`Self::post_once`].
    pub async fn post_lines(
        &self,
        path: &str,
        query: &[(&str, String)],
        lines: impl Into<Body>,
        key: &str,
    ) -> Result<Value> {
        let request = self.request(Method::POST, path).query(query).header(CONTENT_TYPE, "application/x-ndjson");
        self.json(request.header("idempotency-key", key).body(lines)).await
    }

    /// GET of an export, piece by piece as it comes.
    pub async fn export(
        &self,
        path: &str,
        query: &[(&str, String)],
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut response = self.send(self.request(Method::GET, path).query(query)).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        while let Some(piece) = response.chunk().await.context("the export broke off; what came is not complete")? {
            take(&piece)?;
        }
        Ok(())
    }

    /// Where the installation is, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A request to be completed and sent with [`Self::send`].
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.credentials {
            Credentials::Key(key) => request.header("x-api-key", key.expose_secret()),
            // the access token is added when the request is sent: it may have to be refreshed first
            Credentials::Session(_) | Credentials::None => request,
        }
    }

    /// Sends it; an error means that no answer came.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let request = match &self.credentials {
            Credentials::Session(session) => request.bearer_auth(session.access(&self.http, &self.url).await?),
            Credentials::Key(_) | Credentials::None => request,
        };
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
        Err(self.refusal(response).await)
    }

    /// What an answer that is no success says.
    pub(crate) async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        let retry_after = asked_pause(&response);
        let text = response.text().await.unwrap_or_default();
        let said = match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => format!("{} ({}, request {})", problem.detail, problem.code, problem.request_id),
            Err(_) => format!("HTTP {status} from {}; is this an FFprobe API?", self.url),
        };
        Refused { status, retry_after, said }.into()
    }
}
