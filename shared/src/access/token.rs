//! Access tokens: JWTs of a quarter of an hour (RFC 9068 in form, HMAC instead of key pairs: whoever makes them also checks
//! them). Pure: the caller brings the time. A token names its session and what it is narrowed to; what it opens is looked up.
//!
//! Key and algorithm are chosen from our own table by the `kid`; a token's `alg` is only ever compared. That closes `none`,
//! and the mix-up of a public key with a secret (RFC 8725 §3.1).

use std::fmt;

use chrono::{DateTime, Duration, Utc};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use super::Rights;
use crate::id::{InstallationId, SessionId};

/// The one algorithm there is.
const ALGORITHM: Algorithm = Algorithm::HS256;
/// Media type of an access token (RFC 9068 §2.1).
const TYPE: &str = "at+jwt";
/// Who makes them.
const ISSUER: &str = "ffprobe-api";
/// How far the clocks of two API processes may lie apart, in seconds.
const LEEWAY: i64 = 10;
/// Longest token that is looked at, in characters; ours have less than 1,000.
const MAX_CHARS: usize = 4_096;
/// Bytes of a key's id.
const KID_BYTES: usize = 8;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// Public id of the API key.
    sub: String,
    sid: SessionId,
    jti: Uuid,
    iat: i64,
    nbf: i64,
    exp: i64,
    /// Rights that it is narrowed to, joined by spaces; absent: all that its session has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// An access token in words of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Names this token alone.
    pub id: Uuid,
    /// The session it belongs to.
    pub session: SessionId,
    /// Public id of the key that the session was begun with.
    pub key_public_id: String,
    /// Rights that it is narrowed to; none: all that its session has.
    pub scope: Option<Rights>,
    /// When its time is over, to the second.
    pub expires_at: DateTime<Utc>,
}

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// It is no access token of this installation, or was changed.
    Wrong,
    /// It is good, but its time is over.
    Expired,
    /// It is good, but its time has not come: the clocks of two API processes lie apart.
    NotYet,
}

struct Accepted {
    kid: String,
    key: DecodingKey,
}

/// The secrets that sign and check access tokens.
pub struct TokenKeys {
    signing: EncodingKey,
    /// The first one is that of `signing`.
    accepted: Vec<Accepted>,
    audience: String,
    rules: Validation,
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.accepted.iter().map(|a| &a.kid)).finish()
    }
}

impl TokenKeys {
    /// Keys from secrets whose strength was checked by the configuration. `current` signs; `previous` is accepted, too. The
    /// tokens are for this installation alone, even if another one has the same secrets.
    pub fn new(current: &SecretString, previous: Option<&SecretString>, installation: InstallationId) -> Self {
        let accepted = [Some(current), previous].into_iter().flatten().map(|secret| {
            let secret = secret.expose_secret().as_bytes();
            Accepted { kid: kid(secret), key: DecodingKey::from_secret(secret) }
        });
        let audience = format!("urn:uuid:{installation}");
        Self {
            signing: EncodingKey::from_secret(current.expose_secret().as_bytes()),
            accepted: accepted.collect(),
            rules: rules(&audience),
            audience,
        }
    }

    /// The token as it goes to the client. `None` only if the cryptographic library fails.
    pub fn sign(&self, token: &AccessToken, now: DateTime<Utc>) -> Option<String> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: self.audience.clone(),
            sub: token.key_public_id.clone(),
            sid: token.session,
            jti: token.id,
            iat: now.timestamp(),
            nbf: now.timestamp(),
            exp: token.expires_at.timestamp(),
            scope: token.scope.map(words),
        };
        let mut header = Header::new(ALGORITHM);
        header.typ = Some(TYPE.to_owned());
        header.kid = self.accepted.first().map(|a| a.kid.clone());
        encode(&header, &claims, &self.signing).ok()
    }

    /// Reads a token as a client sent it.
    pub fn check(&self, text: &str, now: DateTime<Utc>) -> Result<AccessToken, NotTaken> {
        if text.len() > MAX_CHARS {
            return Err(NotTaken::Wrong);
        }
        let header = decode_header(text).map_err(|_| NotTaken::Wrong)?;
        let is_access = header.typ.as_deref().is_some_and(|t| t.eq_ignore_ascii_case(TYPE));
        // `crit` names what must be understood, and nothing but the plain form is (RFC 7515 §4.1.11)
        if !is_access || header.alg != ALGORITHM || header.crit.is_some() {
            return Err(NotTaken::Wrong);
        }
        let kid = header.kid.ok_or(NotTaken::Wrong)?;
        let accepted = self.accepted.iter().find(|a| a.kid == kid).ok_or(NotTaken::Wrong)?;
        let claims = decode::<Claims>(text, &accepted.key, &self.rules).map_err(|_| NotTaken::Wrong)?;
        read(claims.claims, now.timestamp())
    }
}

/// The library judges signature, issuer and audience; the time is judged here, since it would ask its own clock.
fn rules(audience: &str) -> Validation {
    let mut rules = Validation::new(ALGORITHM);
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.set_audience(&[audience]);
    rules.set_issuer(&[ISSUER]);
    rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    rules
}

fn read(claims: Claims, now: i64) -> Result<AccessToken, NotTaken> {
    if claims.exp.saturating_add(LEEWAY) <= now {
        return Err(NotTaken::Expired);
    }
    let latest = now.saturating_add(LEEWAY);
    if claims.nbf > latest || claims.iat > latest {
        return Err(NotTaken::NotYet);
    }
    Ok(AccessToken {
        id: claims.jti,
        session: claims.sid,
        key_public_id: claims.sub,
        scope: claims.scope.as_deref().map(|s| Rights::of_scopes(s.split(' '))),
        expires_at: DateTime::from_timestamp(claims.exp, 0).ok_or(NotTaken::Wrong)?,
    })
}

/// Rights as RFC 6749 writes them: joined by spaces.
pub fn words(rights: Rights) -> String {
    rights.iter().map(super::Right::as_str).collect::<Vec<_>>().join(" ")
}

/// When a token that is made now ends: after `ttl`, or with its session.
pub fn end(now: DateTime<Utc>, ttl: Duration, session_ends: DateTime<Utc>) -> DateTime<Utc> {
    now.checked_add_signed(ttl).map_or(session_ends, |end| end.min(session_ends))
}

/// Tells the secrets apart and nothing of them: an HMAC under the secret itself.
fn kid(secret: &[u8]) -> String {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length (RFC 2104)"));
    mac.update(b"kid");
    mac.finalize().into_bytes().iter().take(KID_BYTES).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
