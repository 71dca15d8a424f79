//! Who is asking. A layer looks at the credentials of every request once; a handler that may be called only with a right
//! names it in its signature: [`May`]. A handler without one is public by sight.

pub mod bearer;
pub mod remembered;
pub mod used;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
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
        Some(credentials) => match authenticate(&credentials, request.extensions().get().copied(), &app).await {
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

async fn authenticate(sent: &Credentials, from: Option<ClientAddress>, app: &App) -> Result<Arc<Principal>, Refusal> {
    let principal = match sent {
        Credentials::Bearer(text) if bearer::is_meant(text) => bearer::authenticate(text, app).await?,
        // the checksum in the key refuses typing errors without a question to the database
        Credentials::Header(text) | Credentials::Bearer(text) => {
            by_key(&ApiKey::parse(text).ok_or_else(unknown)?, app).await?
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

async fn by_key(key: &ApiKey, app: &App) -> Result<Arc<Principal>, Refusal> {
    let now = Instant::now();
    if let Some(known) = app.remembered.get(key.public_id(), now) {
        return if key.matches(&known.digest, &app.pepper) { Ok(known.principal) } else { Err(unknown()) };
    }
    let stored = store::access::find_key(&app.db, key.public_id()).await.map_err(away)?;
    let Some(stored) = stored else {
        // the same work as for a known id, so that the answer's time does not tell them apart
        key.matches(&[0; 32], &app.pepper);
        return Err(unknown());
    };
    if !key.matches(&stored.digest, &app.pepper) {
        return Err(unknown());
    }
    // only who has the whole key learns what became of it
    check_standing(stored.standing)?;
    let principal = Arc::new(stored.principal().map_err(away)?);
    let known = Known { digest: key.digest(&app.pepper), principal: Arc::clone(&principal) };
    app.remembered.put(key.public_id(), known, now);
    Ok(principal)
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
enum Credentials {
    /// `X-API-Key`: keys only.
    Header(String),
    /// `Authorization`: keys and access tokens.
    Bearer(String),
}

/// The credentials as sent. A query string is never looked at: it would end up in logs.
fn presented(headers: &HeaderMap) -> Option<Credentials> {
    if let Some(key) = headers.get(API_KEY) {
        return Some(Credentials::Header(key.to_str().unwrap_or_default().to_owned()));
    }
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
    Some(Credentials::Bearer(if scheme.eq_ignore_ascii_case("bearer") {
        token.trim().to_owned()
    } else {
        String::new()
    }))
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
    JobsRead JobsWrite UploadsRead UploadsWrite QueuesRead KeysRead KeysWrite AuditRead QueuesWrite TenantsRead
    TenantsWrite
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
