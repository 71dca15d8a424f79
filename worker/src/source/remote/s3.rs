//! An object in an S3 bucket, through `object_store`, with the keys of a profile. Made by the worker's probe, which has
//! checked that the profile allows bucket and key. `object_store` signs and parses; it does not retry here, and follows
//! no redirect, because its own bounds know nothing of a job's.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, GetOptions, GetRange, GetResult, ObjectStore, RetryConfig};
use shared::config::{S3Profile, S3Style};
use shared::job::{Failure, FailureCode};

use super::answer;
use super::fault::Fault;
use super::name;
use super::origin::{Body, Object, OpenBody, Opened, Origin, Part, Validator};

/// How long a connection may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// Deepest chain of causes that is looked through.
const CAUSES_MAX: usize = 16;

/// An object in a bucket.
pub struct S3Origin {
    store: AmazonS3,
    key: Path,
    seen: Seen,
}

/// How the last request ended, which `object_store`'s errors tell only in words.
type Seen = Arc<Mutex<Option<Ending>>>;

enum Ending {
    Answered(StatusCode, HeaderMap),
    Broke(Fault),
}

impl S3Origin {
    /// The object `key` in `bucket`. Connects to nothing yet.
    pub fn new(profile: &S3Profile, bucket: &str, key: &str) -> Result<Self, Failure> {
        let misconfigured = |error: &dyn std::fmt::Display| {
            tracing::error!(profile = profile.name, %error, "an S3 profile cannot be used");
            let message = format!("The worker cannot use the S3 profile '{}'.", profile.name);
            Failure::new(FailureCode::WorkerMisconfigured, message)
        };
        let key = Path::parse(key).map_err(|_| {
            Failure::new(
                FailureCode::RemoteNotFound,
                "The key has empty or relative parts, so no object is read by it.",
            )
        })?;
        let seen = Seen::default();
        let allow_http = profile.endpoint.as_ref().is_some_and(|e| e.scheme() == "http");
        let client = reqwest::Client::builder()
            .https_only(!allow_http)
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .build()
            .map_err(|e| misconfigured(&e))?;
        let witness = Witness { client, seen: Arc::clone(&seen) };
        // the origin is asked again by `fetch`, which knows the job's bounds
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::ZERO };
        let mut builder = AmazonS3Builder::new()
            .with_region(&profile.region)
            .with_bucket_name(bucket)
            .with_access_key_id(&profile.access_key_id)
            .with_secret_access_key(profile.expose_secret())
            .with_virtual_hosted_style_request(profile.style == S3Style::VirtualHost)
            .with_client_options(ClientOptions::new().with_allow_http(allow_http))
            .with_retry(retry)
            .with_http_connector(witness);
        if let Some(endpoint) = profile.endpoint_of(bucket) {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|e| misconfigured(&e))?;
        Ok(Self { store, key, seen })
    }

    async fn get(&self, from: u64, until: u64, tag: Option<&str>) -> Result<GetResult, Ending> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(from..until)),
            if_match: tag.map(str::to_owned),
            ..GetOptions::default()
        };
        self.store.get_opts(&self.key, options).await.map_err(|error| {
            tracing::debug!(%error, "a request to an S3 store failed");
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
            seen.unwrap_or_else(|| Ending::Broke(answer::rejected("The request for the object could not be made.")))
        })
    }
}

impl Origin for S3Origin {
    fn open(&self, length: u64) -> BoxFuture<'_, Result<Opened, Fault>> {
        async move {
            let got = self.get(0, length, None).await.map_err(|ending| match ending {
                Ending::Answered(StatusCode::RANGE_NOT_SATISFIABLE, _) => answer::empty(),
                ending => ending.fault(),
            })?;
            let object =
                Object { size_bytes: got.meta.size, validator: validator(&got), name: name::of_key(self.key.as_ref()) };
            let (until, body) = (got.range.end, body(got));
            Ok(Opened { object, body: OpenBody::First { until, body } })
        }
        .boxed()
    }

    fn read<'a>(&'a self, object: &'a Object, from: u64, until: u64) -> BoxFuture<'a, Result<Part, Fault>> {
        async move {
            let tag = match &object.validator {
                Validator::Tag(tag) => Some(tag.as_str()),
                Validator::Modified(_) | Validator::None => None,
            };
            let got = self.get(from, until, tag).await.map_err(|ending| match ending {
                Ending::Answered(status, headers) if !status.is_success() => {
                    // the same words as for URLs: a refused condition, a shorter or removed object is a change
                    let judged = answer::part(status, &headers, object, from, until, SystemTime::now());
                    judged.err().unwrap_or_else(|| answer::rejected("The store's answer contradicts itself."))
                }
                ending => ending.fault(),
            })?;
            if validator(&got) != object.validator || got.meta.size != object.size_bytes {
                return Err(Fault::changed("The object is another one than at the start."));
            }
            Ok(Part { until: got.range.end, body: body(got) })
        }
        .boxed()
    }
}

fn validator(got: &GetResult) -> Validator {
    match &got.meta.e_tag {
        Some(tag) if tag.starts_with('"') => Validator::Tag(tag.clone()),
        // a store that does not say gives the year 1970
        _ if got.meta.last_modified.timestamp() > 0 => Validator::Modified(got.meta.last_modified.to_rfc2822()),
        _ => Validator::None,
    }
}

fn body(got: GetResult) -> Body {
    let broken = |error: object_store::Error| {
        tracing::debug!(%error, "the answer of an S3 store broke off");
        Fault::lost("The store's answer broke off.")
    };
    got.into_stream().map(move |bytes| bytes.map_err(broken)).boxed()
}

impl Ending {
    fn fault(self) -> Fault {
        match self {
            Self::Answered(StatusCode::OK, _) => answer::no_ranges("The store sends only the whole object."),
            Self::Answered(status, _) if status.is_success() => {
                answer::rejected("The store sent another part of the object than it was asked for.")
            }
            Self::Answered(status, headers) => answer::refusal(status, &headers, SystemTime::now()),
            Self::Broke(fault) => fault,
        }
    }
}

/// A client that notes how each request ended.
#[derive(Debug, Clone)]
struct Witness {
    client: reqwest::Client,
    seen: Seen,
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered(status, _) => write!(f, "answered {status}"),
            Self::Broke(fault) => write!(f, "{fault:?}"),
        }
    }
}

impl HttpConnector for Witness {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Witness {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let answer = self.client.call(request).await;
            let ending = match &answer {
                Ok(answer) => Ending::Answered(answer.status(), answer.headers().clone()),
                Err(error) => Ending::Broke(broke(error)),
            };
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
            answer
        })
    }
}

/// Why there is no answer. What is deepest in the chain of causes is about the connection and names no key.
fn broke(error: &HttpError) -> Fault {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let io = causes.take(CAUSES_MAX).filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let untrusted = io.map(std::io::Error::kind).any(|kind| kind == std::io::ErrorKind::InvalidData);
    match error.kind() {
        HttpErrorKind::Connect if untrusted => {
            Fault::last(FailureCode::TlsError, "The store's certificate is not valid, or not trusted.")
        }
        HttpErrorKind::Connect => Fault::passing(FailureCode::ConnectFailed, "The store did not take a connection."),
        _ => Fault::lost("The connection to the store broke off before an answer."),
    }
}
