//! One origin with the addresses that were checked for it: every request goes to these and to no other, however long the
//! job takes and whatever the name server says by then. Made by [`super::Egress`] only. Follows no redirect, uses no
//! proxy, unpacks nothing.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures::TryStreamExt;
use futures::future::ready;
use futures::stream::BoxStream;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, StatusCode, retry};
use tokio::time::timeout;
use url::Url;

use super::error::Error;

/// How long a connection may take, TCP and TLS together (five seconds each).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first byte of an answer may take, from the start of the request.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an unused connection is kept; a job's requests follow each other faster.
const IDLE: Duration = Duration::from_secs(30);
/// Unused connections kept for one origin.
const IDLE_MAX: usize = 4;
/// Who asks.
const USER_AGENT: &str = concat!("FFprobe-API/", env!("CARGO_PKG_VERSION"));

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// A look-up.
    pub(super) lookup: Duration,
    /// A connection.
    pub(super) connect: Duration,
    /// The first byte.
    pub(super) first_byte: Duration,
}

/// The bytes of an answer as they come in. How long that may take is the reader's to decide.
pub type Body = BoxStream<'static, Result<Bytes, Error>>;

/// An answer of any status.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its bytes, exactly as sent.
    pub body: Body,
    /// Who answered; further requests for the same object go there.
    pub pinned: Pinned,
}

/// A URL whose host was resolved and checked. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Pinned {
    client: Client,
    url: Url,
    shown: String,
    headers: HeaderMap,
    first_byte: Duration,
}

/// The checked addresses, as the only ones there are.
struct Fixed {
    host: String,
    addresses: Vec<SocketAddr>,
}

impl Resolve for Fixed {
    fn resolve(&self, name: Name) -> Resolving {
        // the client is used for one origin only; should it ever ask for another, it gets nothing
        let known = name.as_str().eq_ignore_ascii_case(&self.host);
        let addresses = if known { self.addresses.clone() } else { Vec::new() };
        Box::pin(ready(Ok(Box::new(addresses.into_iter()) as Addrs)))
    }
}

impl Pinned {
    /// Pins `url`, which errors show as `shown`, to addresses that were checked. `headers` are the client's. Reads the system's
    /// certificates for https, some milliseconds of file and processor: call it where blocking is fine.
    pub(super) fn new(
        url: Url,
        shown: String,
        headers: HeaderMap,
        addresses: Vec<SocketAddr>,
        ca: &[Certificate],
        bounds: Bounds,
    ) -> Result<Self, Error> {
        let fixed = Fixed { host: url.host_str().unwrap_or_default().to_owned(), addresses };
        let client = client(url.scheme(), fixed, ca, bounds.connect).map_err(|e| {
            Error::Tls(format!("{shown}: this machine cannot make encrypted connections: {}", e.without_url()))
        })?;
        Ok(Self { client, url, shown, headers, first_byte: bounds.first_byte })
    }

    /// The URL that is asked, after all redirects. A secret: show it through [`crate::job::address::redact`].
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The same way to another URL of the origin, over the same connections; `None` if it is of another one. For messages, whose
    /// errors show no more than the origin.
    pub fn to(&self, url: &Url) -> Option<Self> {
        (url.origin() == self.url.origin()).then(|| Self { url: url.clone(), ..self.clone() })
    }

    /// Asks for the object, or for some of its bytes (first and last), on a connection that is open already if there is
    /// one. `headers` are the caller's own, such as a condition; the client's go along.
    pub async fn get(&self, range: Option<RangeInclusive<u64>>, headers: HeaderMap) -> Result<Answer, Error> {
        self.send(Method::GET, with_range(headers, range), Bytes::new()).await
    }

    /// Sends one request. A redirect is an answer like any other. `headers` win over the client's.
    pub async fn send(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Answer, Error> {
        // takes user and password out of the URL; an Authorization of the client's own wins over them
        let mut request = self.client.request(method, self.url.clone()).headers(self.headers.clone()).headers(headers);
        if !body.is_empty() {
            request = request.body(body);
        }
        let request = request.build().map_err(|e| Error::request(&self.shown, e))?;
        if !request.url().username().is_empty() || request.url().password().is_some() {
            let message = format!("{}: the user or password of the URL is not UTF-8", self.shown);
            return Err(Error::NotAllowed(message));
        }
        let answer = timeout(self.first_byte, self.client.execute(request)).await;
        let answer = answer
            .map_err(|_| Error::TooSlow(format!("{}: no answer within {} s", self.shown, self.first_byte.as_secs())))?
            .map_err(|e| Error::request(&self.shown, e))?;
        let shown = self.shown.clone();
        Ok(Answer {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: Box::pin(answer.bytes_stream().map_err(move |e| Error::body(&shown, e))),
            pinned: self.clone(),
        })
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pinned").field(&self.shown).finish()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("pinned", &self.pinned).finish_non_exhaustive()
    }
}

/// Adds the range of bytes (RFC 9110 section 14.2).
pub(super) fn with_range(mut headers: HeaderMap, range: Option<RangeInclusive<u64>>) -> HeaderMap {
    if let Some(value) = range.and_then(|r| HeaderValue::from_str(&format!("bytes={}-{}", r.start(), r.end())).ok()) {
        headers.insert(RANGE, value);
    }
    headers
}

/// A client for one origin.
pub(super) fn client(
    scheme: &str,
    resolver: impl Resolve + 'static,
    ca: &[Certificate],
    connect: Duration,
) -> Result<Client, reqwest::Error> {
    let mut own = HeaderMap::new();
    own.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let builder = Client::builder()
        .dns_resolver(Arc::new(resolver))
        .no_proxy()
        .redirect(Policy::none())
        .referer(false)
        .retry(retry::never())
        .http1_only()
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .user_agent(USER_AGENT)
        .default_headers(own)
        .connect_timeout(connect)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_MAX);
    let builder = if scheme == "https" {
        builder.https_only(true).tls_certs_merge(ca.iter().cloned())
    } else {
        // spares reading the system's certificates, which a plain connection does not need
        builder.tls_certs_only([])
    };
    builder.build()
}
