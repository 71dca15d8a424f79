//! `/api/v1/auth`: exchange a key for tokens, refresh them, end that, and ask who one is. The store decides a refresh in one
//! statement; what is here translates, judges the key as it is now, and signs. Tokens are shown once and never logged.

pub mod request;
pub mod sessions;
pub mod view;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderName};
use chrono::{TimeDelta, Utc};
use shared::access::{AccessToken, Principal, RefreshToken, Rights, token};
use shared::id::SessionId;
use shared::store::session::{self, NewSession, StoredSession, Tellers, Term, Turn, Whose};
use shared::{Code, Error};
use uuid::Uuid;

use self::request::{Grant, RevokeToken, scope};
use self::view::{Me, TokenAnswer};
use crate::App;
use crate::audit;
use crate::auth::{Anyone, Identity, check_standing};
use crate::client::ClientAddress;
use crate::extract::{From, Json};
use crate::openapi::{ReadProblems, WriteProblems};
use crate::problem::Result;

const TOKEN: &str = "session.token";
const REVOKE: &str = "session.revoke";

/// An answer that no cache keeps (RFC 6749 §5.1).
type Secret<T> = ([(HeaderName, &'static str); 1], axum::Json<T>);

/// Get tokens
///
/// Exchanges an API key, sent in its header, for an access token and a refresh token (`grant_type: api_key`); or a refresh
/// token for the next two (`grant_type: refresh_token`, no other credentials needed). A refresh token is good for one use: if
/// it is used again, the session ends, because it is in two hands. For some seconds the same request gives the same refresh
/// token again, so that a lost answer does no harm.
#[utoipa::path(
    post, path = "/api/v1/auth/token", tag = "auth", operation_id = "create_token",
    request_body(content = Grant, examples(
        ("exchange a key" = (value = json!({"grant_type": "api_key"}))),
        ("only for reading jobs" = (value = json!({"grant_type": "api_key", "scope": "jobs:read"}))),
        ("refresh" = (value = json!({"grant_type": "refresh_token", "refresh_token": "ffr_2kX…"}))),
    )),
    responses(
        (status = 200, description = "The tokens. They are shown only now.", body = TokenAnswer, headers(("Cache-Control" = String, description = "`no-store`"))),
        WriteProblems,
    ),
    security((), ("api_key" = []), ("bearer" = []))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    identity: Identity,
    From(from): From,
    Json { value, .. }: Json<Grant>,
) -> Result<Secret<TokenAnswer>> {
    let answer = match value {
        Grant::ApiKey { scope } => {
            let who = identity.principal()?;
            begin(&app, &who, from, scope.as_deref()).await?
        }
        Grant::RefreshToken { refresh_token, scope } => refresh(&app, &refresh_token, from, scope.as_deref()).await?,
    };
    Ok(([(CACHE_CONTROL, "no-store")], axum::Json(answer)))
}

async fn begin(app: &App, who: &Principal, from: ClientAddress, wanted: Option<&str>) -> Result<TokenAnswer> {
    if who.session.is_some() {
        let detail = "Tokens are made from the API key itself, not from an access token. Send the key, or refresh.";
        return Err(Error::new(Code::Forbidden, detail).into());
    }
    let narrowed = wanted.map(|w| scope(w, who)).transpose()?;
    let refresh = RefreshToken::from_random(rand::random());
    let id = SessionId::new();
    let new = NewSession {
        id,
        tenant: who.tenant,
        key: who.key,
        scopes: narrowed.map(|n| n.iter().map(shared::access::Right::as_str).collect()),
        digest: refresh.digest(&app.pepper),
        from: from.0,
        lifetimes: app.tokens.lifetimes,
    };
    audit::target("session", id);
    let term = session::insert(&app.db, &new, &audit::change(TOKEN, StatusCode::OK, who.tenant)).await?;
    audit::kept(TOKEN);
    let bearer = Principal { session: Some(id), ..who.clone() };
    // the session keeps what it is narrowed to, so that its tokens need not repeat it
    answer(app, &bearer.narrowed(narrowed.unwrap_or(who.rights)), None, &refresh, &term)
}

async fn refresh(app: &App, text: &str, from: ClientAddress, wanted: Option<&str>) -> Result<TokenAnswer> {
    let refused = |detail: &str| Error::new(Code::InvalidGrant, detail);
    let unknown =
        || refused("The refresh token is not known, or its session has ended. Log in again with the API key.");
    let spent = RefreshToken::parse(text).ok_or_else(|| {
        refused(
            "This is no refresh token. Send the one that came with the access token; check that it was copied whole.",
        )
    })?;
    let digest = spent.digest(&app.pepper);
    let stored = session::find_by_refresh(&app.db, &digest).await?.ok_or_else(unknown)?;
    let bearer = judge(&stored, from)?;
    audit::session(bearer.tenant, stored.id());
    let narrowed = wanted.map(|w| scope(w, &bearer)).transpose()?;
    let successor = spent.successor(&app.pepper);
    let next = successor.digest(&app.pepper);
    let turned = audit::change(TOKEN, StatusCode::OK, bearer.tenant);
    // whoever holds a stolen token: the session is what it was done to
    let reused = audit::alarm("token.reused", bearer.tenant);
    let events = Tellers { turned: &turned, reused: &reused };
    let rotation = session::rotate(&app.db, &digest, &next, from.0, app.tokens.lifetimes, events).await?;
    let rotation = rotation.ok_or_else(unknown)?;
    match rotation.turn {
        Turn::Turned => audit::kept(TOKEN),
        Turn::Repeated => {}
        Turn::Expired => return Err(refused("The refresh token or its session has expired. Log in again.").into()),
        Turn::Reused => {
            audit::raised(&reused);
            app.forget_access(bearer.tenant).await;
            let detail = "The refresh token was used before, so it may be in wrong hands and its session was ended. Log in again with the API key.";
            return Err(refused(detail).into());
        }
    }
    answer(app, &bearer, narrowed, &successor, &rotation.term)
}

/// Who refreshes, if the key that the session was begun with may be used now, and from there.
fn judge(stored: &StoredSession, from: ClientAddress) -> Result<Principal> {
    check_standing(stored.key.standing).map_err(|refusal| match refusal.code {
        Code::Unauthorized => Error::new(Code::InvalidGrant, refusal.detail),
        code => Error::new(code, refusal.detail),
    })?;
    let bearer = stored.principal()?;
    if !bearer.may_come_from(from.0) {
        let detail = format!("The key of this session may not be used from {}. Use it from its networks.", from.0);
        return Err(Error::new(Code::AddressNotAllowed, detail).into());
    }
    Ok(bearer)
}

/// Signs an access token. `scope` is what this token alone is narrowed to, beyond its session.
fn answer(
    app: &App,
    bearer: &Principal,
    scope: Option<Rights>,
    refresh: &RefreshToken,
    term: &Term,
) -> Result<TokenAnswer> {
    let session = bearer.session.ok_or_else(|| Error::internal("a token without a session"))?;
    let now = Utc::now();
    let ttl = TimeDelta::from_std(app.tokens.access).map_err(Error::internal)?;
    let token = AccessToken {
        id: Uuid::new_v4(),
        session,
        key_public_id: bearer.key_public_id.clone(),
        scope,
        expires_at: token::end(now, ttl, term.session_ends),
    };
    let signed = app.tokens.keys.sign(&token, now);
    Ok(TokenAnswer {
        access_token: signed.ok_or_else(|| Error::internal("an access token could not be signed"))?,
        token_type: "Bearer",
        expires_in: (token.expires_at - now).num_seconds().max(0),
        refresh_token: refresh.expose().to_owned(),
        refresh_expires_in: (term.refresh_ends - term.now).num_seconds().max(0),
        scope: token::words(scope.map_or(bearer.rights, |s| bearer.rights.and(s))),
    })
}

/// Revoke a token
///
/// Ends the session of a refresh token, or of an access token, and with it all tokens of the session. The answer is the same
/// whatever the token is (RFC 7009).
#[utoipa::path(
    post, path = "/api/v1/auth/revoke", tag = "auth", operation_id = "revoke_token",
    request_body(content = RevokeToken, example = json!({"token": "ffr_2kX…"})),
    responses((status = 200, description = "The token opens nothing any more, if it ever did."), WriteProblems),
    security(())
)]
pub async fn revoke(State(app): State<Arc<App>>, Json { value: body, .. }: Json<RevokeToken>) -> Result<StatusCode> {
    let found = if let Some(refresh) = RefreshToken::parse(&body.token) {
        session::find_by_refresh(&app.db, &refresh.digest(&app.pepper)).await?
    } else if let Ok(access) = app.tokens.keys.check(&body.token, Utc::now()) {
        let found = session::find(&app.db, access.session).await?;
        found.filter(|session| session.key.public_id() == access.key_public_id)
    } else {
        None
    };
    if let Some(stored) = found {
        let tenant = stored.key.tenant();
        audit::session(tenant, stored.id());
        let event = audit::change(REVOKE, StatusCode::OK, tenant);
        // false if somebody was quicker, who wrote that down
        if session::delete(&app.db, tenant, Whose::Tenant, stored.id(), &event).await? {
            audit::kept(REVOKE);
            app.forget_access(tenant).await;
        }
    }
    Ok(StatusCode::OK)
}

/// Show who you are
///
/// What the credentials of this request are and what they may do. Any valid ones will do.
#[utoipa::path(
    get, path = "/api/v1/auth/me", tag = "auth", operation_id = "show_me",
    responses((status = 200, description = "Who you are.", body = Me), ReadProblems),
    security(("api_key" = []), ("bearer" = []))
)]
pub async fn me(Anyone(who): Anyone) -> axum::Json<Me> {
    axum::Json(Me::from(&*who))
}
