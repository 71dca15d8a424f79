//! The connection to a bucket, and what its failures mean. Made once per process. `object_store` signs, parses and asks again
//! a few times; every wait here has an end, so that a request whose store is away ends with a true offset.

use std::io;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::{BackoffConfig, ClientOptions, Error as StoreError, RetryConfig};

use crate::config::{S3Profile, S3Style};
use crate::error::Error;
use crate::storage::full;

/// How long a connection may take, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one request may take: a part over a line of 2 Mbit/s.
const REQUEST: Duration = Duration::from_secs(70);
/// How often, and for how long, a request is made again that met a store in trouble.
const RETRIES: usize = 3;
const RETRY: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Opens nothing yet; fails if the profile cannot be used at all. Both talk over the same connections.
pub(super) fn connect(profile: &S3Profile, bucket: &str) -> io::Result<(AmazonS3, reqwest::Client)> {
    let allow_http = profile.endpoint.as_ref().is_some_and(|e| e.scheme() == "http");
    let client = reqwest::Client::builder()
        .https_only(!allow_http)
        .connect_timeout(CONNECT)
        .timeout(REQUEST)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .build()
        .map_err(io::Error::other)?;
    let backoff = BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LONGEST_PAUSE, base: 2.0 };
    let mut builder = AmazonS3Builder::new()
        .with_region(&profile.region)
        .with_bucket_name(bucket)
        .with_access_key_id(&profile.access_key_id)
        .with_secret_access_key(profile.expose_secret())
        .with_virtual_hosted_style_request(profile.style == S3Style::VirtualHost)
        .with_client_options(ClientOptions::new().with_allow_http(allow_http))
        .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY })
        .with_http_connector(Connector(client.clone()));
    if let Some(endpoint) = profile.endpoint_of(bucket) {
        builder = builder.with_endpoint(endpoint);
    }
    builder.build().map(|store| (store, client)).map_err(io::Error::other)
}

#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// What a failure of the store means for a request.
pub(super) fn wrong(error: StoreError) -> Error {
    let said = error.to_string();
    // what MinIO, Ceph and others answer when there is no room; S3 itself has no end
    if ["StorageFull", "QuotaExceeded", "InsufficientStorage"].iter().any(|word| said.contains(word)) {
        return full();
    }
    match error {
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            tracing::error!(
                error = said,
                "the store of uploads refuses the keys of the profile that STORAGE_URL names"
            );
        }
        StoreError::NotFound { .. } if said.contains("NoSuchBucket") => {
            tracing::error!(error = said, "the bucket that STORAGE_URL names is gone");
        }
        _ => {}
    }
    Error::unavailable("The upload storage", error)
}

/// What a failure at the start means for the operator.
pub(super) fn at_start(error: StoreError) -> io::Error {
    let problem = match &error {
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            "the store refuses the profile's keys, or what they may do. They need to read, write, list and delete there"
        }
        StoreError::NotFound { .. } => "there is no such bucket; make it first",
        _ => "the store does not answer as an S3 API does",
    };
    io::Error::other(format!("{problem} ({error})"))
}

/// Whether the store says that it knows no conditions on writes.
pub(super) fn knows_no_conditions(error: &StoreError) -> bool {
    match error {
        StoreError::NotImplemented { .. } => true,
        StoreError::Generic { source, .. } => {
            let said = source.to_string();
            said.contains("NotImplemented") || said.contains("501")
        }
        _ => false,
    }
}
