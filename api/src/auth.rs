//! Who is asking. A layer looks at the credentials of every request once; a handler that may be called only with a right
//! names it in its signature: [`May`]. A handler without one is public by sight.

pub mod bearer;
pub mod remembered;
pub mod roll;
pub mod used;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use shared::access::{ApiKey, Need, Principal, Right, Rights, Standing};
use shared::{Code, Error, store};

use self::remembered::Known;
use crate::App;
use crate::client::ClientAddress;
use crate::problem::Problem;

/// The header the production checklist names; `Authorization: Bearer` is taken too.
const API_KEY: &str = "x-api-key";

/// What came out of a request's credentials; set for every request.
#[derive(Debug, Clone)]
pub enum Identity {
    /// It has none.
    Anonymous,
    /// They are good.
    Known(Arc<Principal>),
    /// They are not.
    Refused(Refusal),
}

/// Why credentials open nothing.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The code of the answer.
    pub code: Code,
    /// What to do.
    pub detail: String,
}

impl Refusal {
    fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Looks at the credentials. It refuses nothing by itself: a public call is answered whatever was sent with it.
pub async fn identify(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let identity = match presented(request.headers()) {
        // browsers ask without credentials, and probes of orchestrators must not wait for the database
        _ if request.method() == Method::OPTIONS || request.uri().path().starts_with("/health/") => Identity::Anonymous,
        None => Identity::Anonymous,
        Some(credentials) => match in_time(&credentials, request.extensions().get().copied(), &app).await {
            Ok(principal) => {
                if let Some(ClientAddress(address)) = request.extensions().get() {
                    app.used.note(principal.key, *address, Instant::now());
                }
                tracing::Span::current().record("tenant", tracing::field::display(principal.tenant));
                Identity::Known(principal)
            }
            Err(refusal) => Identity::Refused(refusal),
        },
    };
    request.extensions_mut().insert(identity);
    next.run(request).await
}

/// The time limit of requests lies further in: what is cut off there has its line in the audit trail.
async fn in_time(sent: &Credentials, from: Option<ClientAddress>, app: &App) -> Result<Arc<Principal>, Refusal> {
    store::in_time(async { Ok(authenticate(sent, from, app).await) }).await.unwrap_or_else(|late| Err(away(late)))
}

async fn authenticate(sent: &Credentials, from: Option<ClientAddress>, app: &App) -> Result<Arc<Principal>, Refusal> {
    let principal = match sent {
        Credentials::Two => {
            let detail = "The request names different credentials, in X-API-Key and Authorization or in one of them twice. Send those that are meant, once.";
            return Err(Refusal::new(Code::ConflictingCredentials, detail));
        }
        Credentials::Bearer(text) if bearer::is_meant(text) => bearer::authenticate(text, app).await?,
        // the checksum in the key refuses typing errors without a question to the database
        Credentials::Header(text) | Credentials::Bearer(text) => {
            by_key(&ApiKey::parse(text).ok_or_else(unknown)?, from, app).await?
        }
    };
    if let Some(ClientAddress(address)) = from
        && !principal.may_come_from(address)
    {
        let detail = format!("This key may not be used from {address}. Use it from its networks, or change them.");
        return Err(Refusal::new(Code::AddressNotAllowed, detail));
    }
    Ok(principal)
}

async fn by_key(key: &ApiKey, from: Option<ClientAddress>, app: &App) -> Result<Arc<Principal>, Refusal> {
    let now = Instant::now();
    if let Some(known) = app.remembered.get(key.public_id(), now) {
        return if key.matches(&known.digest, &app.pepper) { known.opens } else { Err(unknown()) };
    }
    let is_spent = from.is_some_and(|ClientAddress(address)| app.limiter.spent(address).is_some());
    if is_spent && app.roll.rules_out(key, &app.pepper, &app.db).await.map_err(away)? {
        // answered by the layer of limits, which knows for how long
        return Err(Refusal::new(Code::RateLimited, "Credentials from this address were refused too often."));
    }
    let stored = store::access::find_key(&app.db, key.public_id()).await.map_err(away)?;
    let Some(stored) = stored else {
        if is_spent {
            app.roll.strike(key).await;
        }
        // the same work as for a known id, so that the answer's time does not tell them apart
        key.matches(&[0; 32], &app.pepper);
        return Err(unknown());
    };
    if !key.matches(&stored.digest, &app.pepper) {
        return Err(unknown());
    }
    // only who has the whole key learns what became of it
    let opens = match check_standing(stored.standing) {
        Ok(()) => Ok(Arc::new(stored.principal().map_err(away)?)),
        Err(refusal) => Err(refusal),
    };
    let known = Known { digest: key.digest(&app.pepper), tenant: stored.tenant(), opens: opens.clone() };
    app.remembered.put(key.public_id(), known, now);
    opens
}

/// Refuses a key, or a token made with it, that may not be used now.
pub fn check_standing(standing: Standing) -> Result<(), Refusal> {
    let (code, detail) = match standing {
        Standing::Good => return Ok(()),
        Standing::Revoked => (Code::Unauthorized, "The API key was revoked. Use another one."),
        Standing::Expired => (Code::Unauthorized, "The API key has expired. Ask an admin of the tenant for a new one."),
        Standing::Suspended => {
            let detail = "The tenant is suspended; nothing of it was lost. Ask the operator to resume it.";
            (Code::TenantSuspended, detail)
        }
    };
    Err(Refusal::new(code, detail))
}

fn unknown() -> Refusal {
    let detail = "The API key is not known. Check that it was copied whole.";
    Refusal::new(Code::Unauthorized, detail)
}

/// Nothing can be said about credentials now; the cause goes to the log here, since a refusal carries none.
fn away(error: Error) -> Refusal {
    tracing::warn!(%error, "credentials cannot be checked");
    Refusal::new(error.code(), error.detail())
}

/// Credentials as sent, by where they stood.
#[derive(Debug, PartialEq, Eq)]
enum Credentials {
    /// `X-API-Key`: keys only.
    Header(String),
    /// `Authorization`: keys and access tokens.
    Bearer(String),
    /// Different ones: whichever was taken, the client may have meant the other.
    Two,
}

/// The credentials as sent. A query string is never looked at: it would end up in logs.
fn presented(headers: &HeaderMap) -> Option<Credentials> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let key = once(headers.get_all(API_KEY).iter().map(text));
    let other = once(headers.get_all(AUTHORIZATION).iter().map(|value| bearer_of(value).unwrap_or_default()));
    match (key, other) {
        (None, None) => None,
        (Some(Some(key)), None) => Some(Credentials::Header(key)),
        (None, Some(Some(bearer))) => Some(Credentials::Bearer(bearer)),
        // words of another scheme are not for us, but for a proxy in front
        (Some(Some(key)), Some(Some(bearer))) if bearer.is_empty() || bearer == key => Some(Credentials::Header(key)),
        _ => Some(Credentials::Two),
    }
}

/// What all values say; some `None` if they differ, none without any.
fn once(mut values: impl Iterator<Item = String>) -> Option<Option<String>> {
    let first = values.next()?;
    Some(values.all(|next| next == first).then_some(first))
}

fn bearer_of(value: &HeaderValue) -> Option<String> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// Public id of the key that was sent, if it has the form of one.
pub(crate) fn presented_key(headers: &HeaderMap) -> Option<String> {
    let (Credentials::Header(text) | Credentials::Bearer(text)) = presented(headers)? else { return None };
    ApiKey::parse(&text).map(|key| key.public_id().to_owned())
}

/// Whoever asks has the right `R`.
pub struct May<R>(pub Arc<Principal>, pub PhantomData<R>);

/// A right as a type, for [`May`].
pub trait Wanted: Send + Sync {
    /// The right.
    const RIGHT: Right;
}

macro_rules! wanted {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("[`Right::", stringify!($name), "`]")]
            pub struct $name;

            impl Wanted for $name {
                const RIGHT: Right = Right::$name;
            }
        )*
    };
}

wanted! {
    JobsRead JobsWrite UploadsRead UploadsWrite QueuesRead KeysRead KeysWrite WebhooksRead WebhooksWrite AuditRead
    QueuesWrite TenantsRead TenantsWrite
}

impl<R: Wanted> FromRequestParts<Arc<App>> for May<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        Ok(Self(require(parts, R::RIGHT)?, PhantomData))
    }
}

impl<R: Wanted> OptionalFromRequestParts<Arc<App>> for May<R> {
    type Rejection = Problem;

    /// `None` without credentials; wrong ones are still refused.
    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Option<Self>, Problem> {
        match parts.extensions.get::<Identity>() {
            Some(Identity::Anonymous) => Ok(None),
            _ => Ok(Some(Self(require(parts, R::RIGHT)?, PhantomData))),
        }
    }
}

/// Whoever asks has good credentials, whatever they may do.
pub struct Anyone(pub Arc<Principal>);

impl FromRequestParts<Arc<App>> for Anyone {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        Ok(Self(Identity::of(parts)?.principal()?))
    }
}

/// For a call that looks at credentials only sometimes.
impl FromRequestParts<Arc<App>> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        Ok(Self::of(parts)?.clone())
    }
}

impl Identity {
    fn of(parts: &Parts) -> Result<&Self, Error> {
        let outside = || Error::internal("a call with rights outside of the layer that looks at credentials");
        parts.extensions.get::<Self>().ok_or_else(outside)
    }

    /// Who asks, if that is known.
    pub fn principal(&self) -> Result<Arc<Principal>, Error> {
        match self {
            Self::Known(principal) => Ok(Arc::clone(principal)),
            Self::Refused(refusal) => Err(Error::new(refusal.code, refusal.detail.clone())),
            Self::Anonymous => {
                let detail = "This call needs credentials. Send an API key in the header X-API-Key, or a key or an access token as Authorization: Bearer.";
                Err(Error::new(Code::Unauthorized, detail))
            }
        }
    }
}

fn require(parts: &Parts, right: Right) -> Result<Arc<Principal>, Error> {
    let principal = Identity::of(parts)?.principal()?;
    if !principal.rights.has(right) {
        return Err(Error::new(Code::Forbidden, lacking(&principal, right)));
    }
    Ok(principal)
}

/// What is missing, and what to do about it.
fn lacking(principal: &Principal, right: Right) -> String {
    let word = right.as_str();
    if Rights::of_role(principal.role, principal.platform).has(right) {
        return format!(
            "This call needs the right {word}, which the scopes of the key or token leave out. Use one with it."
        );
    }
    match right.need() {
        Need::Role(least) => format!(
            "This key has the role {}; this call ({word}) needs {}. Use a key with that role.",
            principal.role.as_str(),
            least.as_str()
        ),
        Need::Platform => {
            format!("This call ({word}) is for those who run the platform. Use an admin key with platform reach.")
        }
    }
}

/// Somebody who may read, for tests of what stands around.
#[cfg(test)]
pub(crate) fn somebody() -> Principal {
    Principal {
        tenant: shared::id::TenantId::new(),
        key: shared::id::ApiKeyId::new(),
        key_public_id: String::new(),
        session: None,
        expires_at: None,
        role: shared::access::Role::Viewer,
        platform: false,
        rights: Rights::of_role(shared::access::Role::Viewer, false),
        networks: Vec::new(),
        media_roots: Vec::new(),
        s3_profiles: Vec::new(),
        rate_per_minute: None,
        limits: shared::access::TenantLimits::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_from_where_they_are_unless_they_differ() {
        let of = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            presented(&headers)
        };
        let (header, bearer) =
            (|t: &str| Some(Credentials::Header(t.into())), |t: &str| Some(Credentials::Bearer(t.into())));
        let (key, other) = ("x-api-key", "authorization");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(key, "a")]), header("a"));
        assert_eq!(of(&[(other, "bearer  a ")]), bearer("a"));
        assert_eq!(of(&[(other, "Basic a")]), bearer(""), "which opens nothing");
        assert_eq!(of(&[(key, "a"), (other, "Bearer a"), (key, "a")]), header("a"));
        assert_eq!(of(&[(key, "a"), (other, "Basic b")]), header("a"), "the other is for a proxy");
        for two in
            [[(key, "a"), (other, "Bearer b")], [(key, "a"), (key, "b")], [(other, "Bearer a"), (other, "Basic a")]]
        {
            assert_eq!(of(&two), Some(Credentials::Two), "{two:?}");
        }
    }
}
