//! Access tokens at the door: the signature is checked here, and who its bearer is now comes from the session's row and its
//! key's, remembered for a second like keys are. So whatever is revoked, suspended or changed holds for tokens that were
//! made before.

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use shared::access::{AccessToken, NotTaken, Principal, RefreshToken};
use shared::{Code, store};

use super::{Refusal, away, check_standing};
use crate::App;

/// Whether a bearer token means to be an access token: three parts (RFC 7515 §3.1). A key has no dot.
pub fn is_meant(text: &str) -> bool {
    text.bytes().filter(|b| *b == b'.').count() == 2 || RefreshToken::is_meant(text)
}

/// Who bears this access token, with no right beyond what it is narrowed to.
pub async fn authenticate(text: &str, app: &App) -> Result<Arc<Principal>, Refusal> {
    if RefreshToken::is_meant(text) {
        let detail = "This is a refresh token, which opens nothing by itself. Exchange it at POST /api/v1/auth/token.";
        return Err(Refusal::new(Code::InvalidToken, detail));
    }
    let token = app.tokens.keys.check(text, Utc::now()).map_err(refusal)?;
    let bearer = by_session(&token, app).await?;
    if bearer.key_public_id != token.key_public_id {
        return Err(refusal(NotTaken::Wrong));
    }
    let whole = Principal { expires_at: Some(token.expires_at), ..(*bearer).clone() };
    Ok(Arc::new(match token.scope {
        Some(scope) => whole.narrowed(scope),
        None => whole,
    }))
}

async fn by_session(token: &AccessToken, app: &App) -> Result<Arc<Principal>, Refusal> {
    let (now, id) = (Instant::now(), token.session.to_string());
    if let Some(known) = app.sessions.get(&id, now) {
        return Ok(known);
    }
    let ended =
        || Refusal::new(Code::InvalidToken, "The session of this token has ended. Log in again with the API key.");
    let stored = store::session::find(&app.db, token.session).await.map_err(away)?.ok_or_else(ended)?;
    check_standing(stored.key.standing)?;
    if stored.session_expired {
        return Err(ended());
    }
    let bearer = Arc::new(stored.principal().map_err(away)?);
    app.sessions.put(&id, Arc::clone(&bearer), now);
    Ok(bearer)
}

fn refusal(why: NotTaken) -> Refusal {
    match why {
        NotTaken::Wrong => {
            let detail = "This is no access token of this service. Get one at POST /api/v1/auth/token.";
            Refusal::new(Code::InvalidToken, detail)
        }
        NotTaken::Expired => {
            let detail = "The access token has expired. Refresh it at POST /api/v1/auth/token.";
            Refusal::new(Code::TokenExpired, detail)
        }
        NotTaken::NotYet => {
            let detail = "The time of this access token has not come. The clocks of the servers that run the API differ; tell the operator.";
            Refusal::new(Code::InvalidToken, detail)
        }
    }
}
