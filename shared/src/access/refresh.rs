//! Refresh tokens: opaque, good for one use, worth nothing as access. Pure: randomness comes in as bytes.
//!
//! One reads `ffr_SECRETCHECK`: a prefix that secret scanners can find, 256 bits, and a CRC-32. Stored is only an HMAC under
//! the pepper. What follows a token is derived from it under the pepper: a client that lost the answer asks again and gets the
//! same successor, though nobody keeps it, and fifty requests at once get one. A token without the pepper tells nothing of
//! its successor.

use secrecy::{ExposeSecret, SecretString};

use super::Pepper;
use super::key::{CHECK_CHARS, SECRET_CHARS, base62, check};

const PREFIX: &str = "ffr_";

/// A whole refresh token. Shown once, never stored, never logged.
#[derive(Clone)]
pub struct RefreshToken(SecretString);

impl RefreshToken {
    /// A token from 32 random bytes.
    pub fn from_random(secret: [u8; 32]) -> Self {
        let body = format!("{PREFIX}{}", base62(&secret, SECRET_CHARS));
        Self(format!("{body}{}", check(&body)).into())
    }

    /// Reads a token as a client sent it; `None` if it was never one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let secret = text.strip_prefix(PREFIX)?;
        if secret.len() != SECRET_CHARS + CHECK_CHARS || !secret.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let (body, sum) = text.split_at(text.len() - CHECK_CHARS);
        (check(body) == sum).then(|| Self(text.to_owned().into()))
    }

    /// Whether a text means to be one: whoever sent it in the wrong place is told so.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The whole token, for showing it once.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is stored of it.
    pub fn digest(&self, pepper: &Pepper) -> [u8; 32] {
        pepper.sign("refresh token", &[self.0.expose_secret().as_bytes()])
    }

    /// The token that follows it, always the same one.
    #[must_use]
    pub fn successor(&self, pepper: &Pepper) -> Self {
        Self::from_random(pepper.sign("refresh successor", &[self.0.expose_secret().as_bytes()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::ApiKey;

    fn pepper(text: &str) -> Pepper {
        Pepper::new(text.to_owned().into())
    }

    #[test]
    fn a_token_survives_the_trip_and_is_no_key() {
        let token = RefreshToken::from_random([9; 32]);
        let back = RefreshToken::parse(token.expose()).unwrap();
        assert_eq!(back.digest(&pepper("a")), token.digest(&pepper("a")));
        assert_ne!(back.digest(&pepper("a")), token.digest(&pepper("b")));
        assert!(RefreshToken::is_meant(token.expose()) && ApiKey::parse(token.expose()).is_none());
        let key = ApiKey::from_random([7; 8], [9; 32]);
        assert!(!RefreshToken::is_meant(key.expose()) && RefreshToken::parse(key.expose()).is_none());
    }

    #[test]
    fn every_single_typing_error_is_caught() {
        let good = RefreshToken::from_random([9; 32]).expose().to_owned();
        for i in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[i] = if bad[i] == b'x' { b'y' } else { b'x' };
            assert!(RefreshToken::parse(std::str::from_utf8(&bad).unwrap()).is_none(), "position {i}");
        }
        for bad in ["", "ffr_", &good[1..], &good[..good.len() - 1], &format!("{good}a"), "ffr_é"] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_successor_is_one_and_needs_the_pepper() {
        let token = RefreshToken::from_random([9; 32]);
        let next = token.successor(&pepper("a"));
        assert_eq!(next.expose(), token.successor(&pepper("a")).expose());
        let others = [token.successor(&pepper("b")), next.successor(&pepper("a")), token.clone()];
        assert!(others.iter().all(|other| other.expose() != next.expose()));
        assert!(RefreshToken::parse(next.expose()).is_some());
    }
}
