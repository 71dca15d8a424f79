//! The one guarded way out: every connection whose address a client can influence is made here (sources that are URLs;
//! webhooks). The API asks [`Egress::check`] about the words of a URL; the worker fetches through [`Egress::follow`]
//! and posts through [`Egress::pin_for_message`].
//!
//! At every hop the name is resolved, all answers are checked, and the connection goes to those answers and nowhere else,
//! so a name that changes its mind between check and connection gains nothing. Never hand a client's URL to anything else
//! that connects.

mod error;
pub mod headers;
mod pinned;
mod public;
mod redirect;
mod resolver;
mod rules;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Certificate, Method};
use tokio::task::spawn_blocking;
use url::{Host, Url};

pub use error::Error;
pub use pinned::{Answer, Body, CONNECT_TIMEOUT, FIRST_BYTE_TIMEOUT, Pinned};
pub use rules::{Refused, URL_MAX_BYTES, parse};

use crate::config::{ConfigError, EgressSettings, Scheme};
use crate::job::address::redact;
use pinned::Bounds;
use redirect::Hop;
use resolver::{LookupError, Resolver};
use rules::Rules;

/// Most redirects that are followed.
pub const REDIRECTS_MAX: usize = 5;
/// How long the look-up of a name may take.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection for a message may take, TCP and TLS together.
pub const MESSAGE_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;

/// The way out, with the operator's rules. Made once in `main`.
pub struct Egress {
    rules: Rules,
    resolver: Resolver,
    /// For messages: sources whose names hang take no look-ups away from them, nor they from sources.
    message_resolver: Resolver,
    ca: Arc<[Certificate]>,
    bounds: Bounds,
}

/// How an object is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Its bytes.
    Get,
    /// What it is, without its bytes. Presigned URLs often refuse it.
    Head,
}

/// A fetch that follows redirects.
pub struct Get {
    /// The object.
    pub url: Url,
    /// How it is asked for.
    pub verb: Verb,
    /// The client's headers, from [`headers::check`]. They stay behind when a redirect leaves the origin.
    pub headers: HeaderMap,
    /// First and last byte that are asked for; all if none.
    pub range: Option<RangeInclusive<u64>>,
}

impl Egress {
    /// The way out. Reads the system's certificates once, to warn at the start if there are none.
    pub fn new(settings: EgressSettings) -> Result<Self, ConfigError> {
        let rules = Rules::new(settings);
        let wrong = |problem: String| {
            ConfigError::new("EGRESS_CA_FILE", problem, "name a file of certificates in PEM form, one after the other")
        };
        let ca = Certificate::from_pem_bundle(rules.ca().unwrap_or_default());
        let ca = ca.map_err(|e| wrong(format!("it is not a file of certificates: {e}")))?;
        if rules.ca().is_some() && ca.is_empty() {
            return Err(wrong("it holds no certificate".to_owned()));
        }
        let bounds = Bounds { lookup: LOOKUP_TIMEOUT, connect: CONNECT_TIMEOUT, first_byte: FIRST_BYTE_TIMEOUT };
        let (resolver, message_resolver) = (Resolver::system(), Resolver::system());
        let egress = Self { rules, resolver, message_resolver, ca: ca.into(), bounds };
        if egress.rules.allows(Scheme::Https) {
            egress.try_certificates().map_err(wrong)?;
        }
        Ok(egress)
    }

    /// Judges the words of a URL, without looking its host up. What passes may still lead to an address that is refused.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        self.rules.check(url)
    }

    /// Fetches an object, and follows its redirects.
    pub async fn follow(&self, get: Get) -> Result<Answer, Error> {
        let method = match get.verb {
            Verb::Get => Method::GET,
            Verb::Head => Method::HEAD,
        };
        let asked = redact(&get.url);
        let own = pinned::with_range(HeaderMap::new(), get.range);
        let mut hop = Hop { url: get.url, headers: get.headers };
        for _ in 0..=REDIRECTS_MAX {
            let pinned = self.pin(&hop.url, hop.headers.clone()).await?;
            let answer = pinned.send(method.clone(), own.clone(), Bytes::new()).await?;
            match hop.next(answer.status, &answer.headers)? {
                None => return Ok(answer),
                Some(next) => hop = next,
            }
        }
        Err(Error::TooManyRedirects(format!(
            "{asked} redirects more than {REDIRECTS_MAX} times, at last to {}",
            redact(&hop.url)
        )))
    }

    /// Resolves and checks the host of a URL. What it gives sends single requests there, and follows nothing.
    pub async fn pin(&self, url: &Url, headers: HeaderMap) -> Result<Pinned, Error> {
        self.pin_as(redact(url), url, headers, &self.resolver, self.bounds).await
    }

    /// The same for messages, which must not take as long to connect as an object may. The path of such a URL is often a
    /// secret, so errors show its origin.
    pub async fn pin_for_message(&self, url: &Url) -> Result<Pinned, Error> {
        let bounds = Bounds { connect: self.bounds.connect.min(MESSAGE_CONNECT_TIMEOUT), ..self.bounds };
        let shown = url.origin().ascii_serialization();
        self.pin_as(shown, url, HeaderMap::new(), &self.message_resolver, bounds).await
    }

    async fn pin_as(
        &self,
        shown: String,
        url: &Url,
        headers: HeaderMap,
        resolver: &Resolver,
        bounds: Bounds,
    ) -> Result<Pinned, Error> {
        self.check(url).map_err(|e| Error::NotAllowed(format!("{shown}: {e}")))?;
        let addresses = self.addresses(&shown, url, resolver).await?;
        let (url, ca, shown_then) = (url.clone(), self.ca.clone(), shown.clone());
        let pinning = spawn_blocking(move || Pinned::new(url, shown_then, headers, addresses, &ca, bounds));
        pinning.await.map_err(|e| Error::Connect(format!("{shown}: no connection could be prepared: {e}")))?
    }

    /// The addresses of a URL whose words were checked. One that is forbidden among them refuses them all: an honest host
    /// has none, and which of them a connection would have taken must not depend on their order.
    async fn addresses(&self, shown: &str, url: &Url, resolver: &Resolver) -> Result<Vec<SocketAddr>, Error> {
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses = match url.host() {
            None => return Err(Error::NotAllowed(format!("{shown}: the URL names no host"))),
            Some(Host::Ipv4(ip)) => vec![SocketAddr::new(IpAddr::V4(ip), port)],
            Some(Host::Ipv6(ip)) => vec![SocketAddr::new(IpAddr::V6(ip), port)],
            Some(Host::Domain(name)) => match resolver.lookup(name, port, self.bounds.lookup).await {
                Ok(addresses) => addresses,
                Err(LookupError::NotFound) => {
                    return Err(Error::HostNotFound(format!("{shown}: there is no host of this name")));
                }
                Err(LookupError::Busy) => {
                    return Err(Error::Busy(format!("{shown}: the host was not looked up: too many look-ups hang")));
                }
                Err(LookupError::Failed(reason)) => {
                    return Err(Error::Dns(format!("{shown}: the host could not be looked up: {reason}")));
                }
            },
        };
        for address in &addresses {
            if let Some(reason) = self.rules.forbidden(address.ip(), address.port()) {
                tracing::warn!(url = shown, %address, reason, "connection refused: the host has an address that is not allowed");
                return Err(Error::NotAllowed(format!(
                    "{shown}: the host has an address that the service does not connect to"
                )));
            }
        }
        Ok(addresses.into_iter().take(ADDRESSES_MAX).collect())
    }

    /// A system without certificates can still fetch by http and from hosts that EGRESS_CA_FILE vouches for, so it only
    /// warns; certificates of the operator that cannot be used stop the start.
    fn try_certificates(&self) -> Result<(), String> {
        match pinned::client("https", Nobody, &self.ca, self.bounds.connect) {
            Err(e) if !self.ca.is_empty() => Err(format!("its certificates cannot be used: {e}")),
            Err(error) => {
                tracing::warn!(%error, "https sources will fail: no certificates to trust; install ca-certificates");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

/// Knows no host.
struct Nobody;

impl reqwest::dns::Resolve for Nobody {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let none: reqwest::dns::Addrs = Box::new(std::iter::empty());
        Box::pin(std::future::ready(Ok(none)))
    }
}

#[cfg(test)]
mod tests;
