//! Who is asking. A layer looks at the credentials of every request once; a handler that may be called only with a right
//! names it in its signature: [`May`]. A handler without one is public by sight.

pub mod remembered;

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
    let identity = match presented(request.headers()).map(str::to_owned) {
        // browsers ask without credentials, and probes of orchestrators must not wait for the database
        _ if request.method() == Method::OPTIONS || request.uri().path().starts_with("/health/") => Identity::Anonymous,
        None => Identity::Anonymous,
        Some(text) => match authenticate(&text, request.extensions().get().copied(), &app).await {
            Ok(principal) => {
                tracing::Span::current().record("tenant", tracing::field::display(principal.tenant));
                Identity::Known(principal)
            }
            Err(refusal) => Identity::Refused(refusal),
        },
    };
    request.extensions_mut().insert(identity);
    next.run(request).await
}

async fn authenticate(text: &str, from: Option<ClientAddress>, app: &App) -> Result<Arc<Principal>, Refusal> {
    // the checksum in the key refuses typing errors without a question to the database
    let key = ApiKey::parse(text).ok_or_else(unknown)?;
    let principal = by_key(&key, app).await?;
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
    match stored.standing {
        Standing::Good => {}
        Standing::Revoked => return Err(Refusal::new(Code::Unauthorized, "The API key was revoked. Use another one.")),
        Standing::Expired => {
            let detail = "The API key has expired. Ask an admin of the tenant for a new one.";
            return Err(Refusal::new(Code::Unauthorized, detail));
        }
        Standing::Suspended => {
            let detail = "The tenant is suspended; nothing of it was lost. Ask the operator to resume it.";
            return Err(Refusal::new(Code::TenantSuspended, detail));
        }
    }
    let principal = Arc::new(stored.principal().map_err(away)?);
    let known = Known { digest: key.digest(&app.pepper), principal: Arc::clone(&principal) };
    app.remembered.put(key.public_id(), known, now);
    Ok(principal)
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

/// The credential as sent. A query string is never looked at: it would end up in logs.
pub(crate) fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get(API_KEY) {
        return Some(key.to_str().unwrap_or_default());
    }
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
    Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" })
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

fn require(parts: &Parts, right: Right) -> Result<Arc<Principal>, Error> {
    match parts.extensions.get::<Identity>() {
        Some(Identity::Known(principal)) if principal.rights.has(right) => Ok(Arc::clone(principal)),
        Some(Identity::Known(principal)) => Err(Error::new(Code::Forbidden, lacking(principal, right))),
        Some(Identity::Refused(refusal)) => Err(Error::new(refusal.code, refusal.detail.clone())),
        Some(Identity::Anonymous) => {
            let detail =
                "This call needs credentials. Send an API key in the header X-API-Key, or as Authorization: Bearer.";
            Err(Error::new(Code::Unauthorized, detail))
        }
        None => Err(Error::internal("a call with rights outside of the layer that looks at credentials")),
    }
}

/// What is missing, and what to do about it.
fn lacking(principal: &Principal, right: Right) -> String {
    let word = right.as_str();
    if Rights::of_role(principal.role, principal.platform).has(right) {
        return format!("This call needs the right {word}, which the scopes of the key leave out. Use a key with it.");
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
