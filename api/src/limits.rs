//! How often one may ask: a layer inside of the one that looks at credentials. Each request is charged to the buckets of its
//! key, its tenant and its address, and to a stricter one if its credentials were refused; all of them in one round trip to
//! Redis. While Redis is away, each process counts by itself.
//!
//! Health checks and OPTIONS are not counted. How many jobs may wait is bounded in [`backlog`].

pub mod backlog;
mod counting;
mod fields;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use shared::Code;
use shared::access::Principal;
use shared::limit::{BUCKETS, Bucket, Policy, Rate, Verdict, network};
use shared::upload::PATH as UPLOADS;

use crate::App;
use crate::auth::Identity;
use crate::client::ClientAddress;
use crate::problem;
use crate::routes::uploads::{is_upload, protocol};

pub use counting::Limiter;

/// Where keys and refresh tokens are exchanged: a wrong token is found out by the handler, not by the layer of credentials.
const TOKENS: &str = "/api/v1/auth/token";
/// The policy of refused credentials.
const AUTHENTICATION: &str = "authentication";
/// How many times as often uploads may be continued or asked for as other calls may be made. They are counted apart from
/// those: a file in many small pieces must not starve, and must not starve other calls.
const APPENDS: u32 = 10;

/// How often, as the settings say; `None` for as often as one likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of each key that has no rate of its own.
    pub key: Option<Rate>,
    /// Of all keys together of each tenant that has no rate of its own.
    pub tenant: Option<Rate>,
    /// Of each address (IPv6: /64), whoever asks.
    pub address: Option<Rate>,
    /// Refused credentials, of each address.
    pub authentication: Option<Rate>,
}

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Any call.
    Call,
    /// A look at an upload's offset, or its next piece.
    Append,
}

impl Class {
    fn of(request: &Request) -> Self {
        let one = request.uri().path().strip_prefix(UPLOADS).is_some_and(|rest| rest.starts_with('/'));
        // POST is PATCH for clients that cannot send one
        let method = [Method::HEAD, Method::PATCH, Method::POST].contains(request.method());
        if one && method { Self::Append } else { Self::Call }
    }

    fn policy(self, names: [&'static str; 2], rate: Rate) -> Policy {
        match self {
            Self::Call => Policy { name: names[0], rate },
            Self::Append => Policy { name: names[1], rate: rate.times(APPENDS) },
        }
    }
}

impl Rates {
    /// The buckets a request is charged to.
    fn buckets(&self, request: &Request) -> Vec<Bucket> {
        let (class, extensions) = (Class::of(request), request.extensions());
        let mut buckets = Vec::with_capacity(BUCKETS);
        let mut add = |names, rate: Option<Rate>, of: &dyn Fn() -> String| {
            buckets.extend(rate.map(|rate| Bucket { policy: class.policy(names, rate), of: of() }));
        };
        let identity = extensions.get::<Identity>();
        if let Some(Identity::Known(who)) = identity {
            add(["key", "key-appends"], self.of_key(who), &|| who.key.to_string());
            add(["tenant", "tenant-appends"], self.of_tenant(who), &|| who.tenant.to_string());
        }
        if let Some(ClientAddress(address)) = extensions.get() {
            add(["address", "address-appends"], self.address, &|| network(*address));
            if matches!(identity, Some(Identity::Refused(refusal)) if is_guess(refusal.code)) {
                buckets.extend(self.refusals(ClientAddress(*address)));
            }
        }
        buckets
    }

    fn of_key(&self, who: &Principal) -> Option<Rate> {
        who.rate_per_minute.map(Rate::per_minute).or(self.key)
    }

    fn of_tenant(&self, who: &Principal) -> Option<Rate> {
        let own = who.limits.rate_per_minute.map(Rate::per_minute);
        own.or(self.tenant).map(|rate| rate.with_burst(who.limits.rate_burst))
    }

    /// Where refused credentials are counted.
    fn refusals(&self, ClientAddress(address): ClientAddress) -> Option<Bucket> {
        let policy = Policy { name: AUTHENTICATION, rate: self.authentication? };
        Some(Bucket { policy, of: network(address) })
    }
}

/// Counts a request and answers it, or refuses it with 429.
pub async fn limit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if is_exempt(&request) {
        return next.run(request).await;
    }
    let verdicts = match unasked(&app, &request) {
        Some(verdict) => vec![verdict],
        None => app.limiter.charge(&app, &app.limiter.rates.buckets(&request)).await,
    };
    if verdicts.iter().any(|v| !v.allowed) {
        let response = refuse(&app, &verdicts);
        if is_upload(&request) {
            let (parts, body) = request.into_parts();
            protocol::put_away(&parts.headers, body).await;
        }
        return response;
    }
    let token_from = if request.uri().path() == TOKENS { request.extensions().get().copied() } else { None };
    let counted = verdicts.iter().any(|v| v.policy.name == AUTHENTICATION);
    let mut response = next.run(request).await;
    let guessed =
        matches!(response.extensions().get(), Some(Code::Unauthorized | Code::InvalidToken | Code::InvalidGrant));
    if guessed && !counted {
        let bucket = token_from.and_then(|from| app.limiter.rates.refusals(from));
        let verdicts = app.limiter.charge(&app, bucket.as_slice()).await;
        if verdicts.iter().any(|v| !v.allowed) {
            return refuse(&app, &verdicts);
        }
    }
    fields::write(response.headers_mut(), &verdicts);
    response
}

/// What is said of credentials that were not looked up, since too many from that address were refused. Nobody counts them.
fn unasked(app: &App, request: &Request) -> Option<Verdict> {
    let Some(Identity::Refused(refusal)) = request.extensions().get() else { return None };
    let ClientAddress(address) = request.extensions().get()?;
    let rate = app.limiter.rates.authentication.filter(|_| refusal.code == Code::RateLimited)?;
    // over by now, perhaps: then the next try is looked at
    let wait = app.limiter.spent(*address).unwrap_or_default();
    let policy = Policy { name: AUTHENTICATION, rate };
    Some(Verdict { policy, allowed: false, remaining: 0, reset: wait, retry_after: wait })
}

/// Whether such a refusal may be that of somebody who tries what opens. What was good until it expired is none.
fn is_guess(code: Code) -> bool {
    matches!(code, Code::Unauthorized | Code::InvalidToken)
}

/// Probes must not depend on anything, and browsers ask without credentials what they may send.
fn is_exempt(request: &Request) -> bool {
    let path = request.uri().path();
    request.method() == Method::OPTIONS || path == "/health" || path.starts_with("/health/") || path == "/metrics"
}

/// 429, with the policies that are to blame.
fn refuse(app: &App, verdicts: &[Verdict]) -> Response {
    let violated: Vec<Verdict> = verdicts.iter().filter(|v| !v.allowed).copied().collect();
    for verdict in &violated {
        app.metrics.count_limited(verdict.policy.name);
    }
    let seconds = violated.iter().map(|v| fields::seconds(v.retry_after)).max().unwrap_or(1).max(1);
    let blamed = violated.first().map_or_else(String::new, |v| blame(v.policy));
    let detail = format!("{blamed} Wait {seconds} s and try again.");
    let names = violated.iter().map(|v| v.policy.name).collect();
    let mut response = problem::rate_limited(detail, names, seconds);
    // only these: whoever waits for Retry-After need not wait for the others
    fields::write(response.headers_mut(), &violated);
    response
}

/// What was too much, in a sentence.
fn blame(policy: Policy) -> String {
    let Rate { per_minute, burst } = policy.rate;
    let who = match policy.name {
        "key" => "This key makes too many requests",
        "tenant" => "The tenant's keys together make too many requests",
        "address" => "Too many requests come from this address",
        AUTHENTICATION => "Credentials from this address were refused too often",
        _ => "Uploads are continued or looked at too often",
    };
    format!("{who}: {per_minute} a minute are allowed, {burst} at once.")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use shared::access::TenantLimits;

    use super::*;
    use crate::auth::{Refusal, somebody};

    fn rates() -> Rates {
        Rates {
            key: "6000:500".parse().ok(),
            tenant: "30000:2500".parse().ok(),
            address: "600:50".parse().ok(),
            authentication: "10".parse().ok(),
        }
    }

    /// Policy, rate a minute and burst of each bucket.
    fn charged(rates: &Rates, method: Method, path: &str, identity: Identity) -> Vec<(&'static str, u32, u32)> {
        let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(identity);
        request.extensions_mut().insert(ClientAddress("192.0.2.1".parse().unwrap()));
        let buckets = rates.buckets(&request);
        assert!(buckets.len() <= BUCKETS);
        buckets.iter().map(|b| (b.policy.name, b.policy.rate.per_minute, b.policy.rate.burst)).collect()
    }

    #[test]
    fn who_is_charged() {
        let known = || Identity::Known(Arc::new(somebody()));
        let refused = |code| Identity::Refused(Refusal { code, detail: String::new() });
        let (address, get) = (("address", 600, 50), Method::GET);
        assert_eq!(
            charged(&rates(), get.clone(), "/api/v1/jobs", known()),
            [("key", 6_000, 500), ("tenant", 30_000, 2_500), address]
        );
        assert_eq!(charged(&rates(), get.clone(), "/nowhere", Identity::Anonymous), [address]);
        assert_eq!(
            charged(&rates(), get.clone(), "/", refused(Code::Unauthorized)),
            [address, ("authentication", 10, 10)]
        );
        for not_a_guess in [Code::Unavailable, Code::AddressNotAllowed, Code::TenantSuspended, Code::TokenExpired] {
            assert_eq!(charged(&rates(), get.clone(), "/", refused(not_a_guess)), [address]);
        }
        assert_eq!(charged(&Rates::default(), get, "/", refused(Code::Unauthorized)), []);
    }

    #[test]
    fn pieces_of_uploads_are_counted_apart() {
        let known = || Identity::Known(Arc::new(somebody()));
        let appends =
            [("key-appends", 60_000, 5_000), ("tenant-appends", 300_000, 25_000), ("address-appends", 6_000, 500)];
        for method in [Method::HEAD, Method::PATCH, Method::POST] {
            assert_eq!(charged(&rates(), method, "/api/v1/uploads/x", known()), appends);
        }
        for (method, path) in [
            (Method::POST, "/api/v1/uploads"),
            (Method::GET, "/api/v1/uploads/x"),
            (Method::DELETE, "/api/v1/uploads/x"),
            (Method::PATCH, "/api/v1/uploadsx"),
        ] {
            assert_eq!(charged(&rates(), method, path, known())[0].0, "key", "{path}");
        }
    }

    #[test]
    fn rows_win_over_settings() {
        let of = |limits: TenantLimits, key: Option<u32>, rates: &Rates| {
            let who = Principal { limits, rate_per_minute: key, ..somebody() };
            charged(rates, Method::GET, "/", Identity::Known(Arc::new(who)))
        };
        let own = TenantLimits { rate_per_minute: Some(120), ..TenantLimits::default() };
        assert_eq!(of(own, None, &rates())[1], ("tenant", 120, 10));
        assert_eq!(of(TenantLimits { rate_burst: Some(7), ..own }, None, &rates())[1], ("tenant", 120, 7));
        let burst = TenantLimits { rate_burst: Some(7), ..TenantLimits::default() };
        assert_eq!(of(burst, None, &rates())[1], ("tenant", 30_000, 7));
        assert_eq!(of(own, Some(60), &rates())[0], ("key", 60, 10));
        assert_eq!(of(own, Some(60), &Rates::default()), [("key", 60, 10), ("tenant", 120, 10)], "settings are off");
        assert_eq!(of(burst, None, &Rates::default()), []);
    }
}
