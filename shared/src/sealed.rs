//! Secrets at rest: AES-256-GCM under keys that the operator names and rotates (`ENCRYPTION_KEYS`). The first key seals,
//! all of them open. Called by the API (which seals) and by workers (which open); neither logs what is inside.
//! Pure: the caller brings the random nonce.
//!
//! Form: one byte for the version, one for the length of the key's id, the id, 12 bytes of nonce, the ciphertext with its tag
//! (NIST SP 800-38D). The tenant's id is bound in as additional data, so a row copied to another tenant does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::id::TenantId;

/// The only form there is.
const VERSION: u8 = 1;
/// Longest id of a key.
const MAX_ID_BYTES: usize = 32;
/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Why a list of keys cannot be used. Says nothing of the keys themselves.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadKeys {
    /// There is none.
    #[error("it holds no key")]
    Empty,
    /// A part is not `id:base64`.
    #[error("entry {0} is not ID:BASE64, with an id of 1 to 32 letters, digits, '-' or '_'")]
    Form(usize),
    /// A key has another length.
    #[error("entry {0} is not base64 of 32 bytes")]
    Length(usize),
    /// A key is no random one.
    #[error("entry {0} repeats a few bytes, so it is no random key")]
    Weak(usize),
    /// Two keys have the same id.
    #[error("entry {0} has an id that was used before")]
    Twice(usize),
}

/// Why something sealed did not open.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotOpened {
    /// It was sealed under a key that is not in the list any more.
    #[error("it was sealed under the key '{0}', which is not among ENCRYPTION_KEYS")]
    UnknownKey(String),
    /// It was changed, cut, or belongs to another tenant.
    #[error("what is stored was changed or belongs to another tenant")]
    Damaged,
}

/// The keys, first the one that seals.
pub struct KeyRing(Vec<(String, LessSafeKey)>);

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

impl KeyRing {
    /// Reads `ID:BASE64,ID:BASE64`.
    pub fn parse(text: &str) -> Result<Self, BadKeys> {
        let mut keys: Vec<(String, LessSafeKey)> = Vec::new();
        for (at, part) in text.split(',').map(str::trim).filter(|p| !p.is_empty()).enumerate() {
            let at = at + 1;
            let (id, key) = part.split_once(':').ok_or(BadKeys::Form(at))?;
            let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !(1..=MAX_ID_BYTES).contains(&id.len()) || !id.bytes().all(good) {
                return Err(BadKeys::Form(at));
            }
            let bytes = BASE64_STANDARD.decode(key.trim()).map_err(|_| BadKeys::Length(at))?;
            if bytes.len() != KEY_BYTES {
                return Err(BadKeys::Length(at));
            }
            // 32 random bytes have fewer than 16 different ones less than once in 10^12 times
            if bytes.iter().collect::<std::collections::HashSet<_>>().len() < 16 {
                return Err(BadKeys::Weak(at));
            }
            if keys.iter().any(|(known, _)| known == id) {
                return Err(BadKeys::Twice(at));
            }
            let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| BadKeys::Length(at))?;
            keys.push((id.to_owned(), LessSafeKey::new(key)));
        }
        if keys.is_empty() { Err(BadKeys::Empty) } else { Ok(Self(keys)) }
    }

    /// Seals `plain` for a tenant. `nonce` must be random: under one key no two may be the same, and 2^32 random ones of 96
    /// bits are safe. `None` only for a text that no machine can hold.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], tenant: TenantId, plain: &[u8]) -> Option<Vec<u8>> {
        let (_, key) = self.0.first()?;
        let mut out = self.head()?;
        out.extend_from_slice(&nonce);
        let mut body = plain.to_vec();
        let aad = Aad::from(tenant.0.into_bytes());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body).ok()?;
        out.extend_from_slice(&body);
        Some(out)
    }

    /// What everything begins with that is sealed now: what begins otherwise was sealed under a key that is to go.
    pub fn head(&self) -> Option<Vec<u8>> {
        let (id, _) = self.0.first()?;
        let mut head = vec![VERSION, u8::try_from(id.len()).ok()?];
        head.extend_from_slice(id.as_bytes());
        Some(head)
    }

    /// Opens what was sealed for a tenant.
    pub fn open(&self, tenant: TenantId, sealed: &[u8]) -> Result<Vec<u8>, NotOpened> {
        let [VERSION, length, rest @ ..] = sealed else { return Err(NotOpened::Damaged) };
        let (id, rest) = rest.split_at_checked(usize::from(*length)).ok_or(NotOpened::Damaged)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened::Damaged)?;
        let id = std::str::from_utf8(id).map_err(|_| NotOpened::Damaged)?;
        let (_, key) =
            self.0.iter().find(|(known, _)| known == id).ok_or_else(|| NotOpened::UnknownKey(id.to_owned()))?;
        let mut body = body.to_vec();
        let aad = Aad::from(tenant.0.into_bytes());
        let opened = key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut body);
        opened.map(|plain| plain.to_vec()).map_err(|_| NotOpened::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "old:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NEW: &str = "new:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    #[test]
    fn what_is_sealed_opens_for_its_tenant_only_and_whole_only() {
        let ring = KeyRing::parse(OLD).unwrap();
        let (ours, other) = (TenantId::new(), TenantId::new());
        let sealed = ring.seal([7; 12], ours, b"secret").unwrap();
        assert_eq!(ring.open(ours, &sealed).unwrap(), b"secret");
        assert_eq!(ring.open(other, &sealed), Err(NotOpened::Damaged));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(ring.open(ours, &changed).is_err(), "byte {at}");
            assert!(ring.open(ours, &sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (old, both, new) = (
            KeyRing::parse(OLD).unwrap(),
            KeyRing::parse(&format!("{NEW}, {OLD}")).unwrap(),
            KeyRing::parse(NEW).unwrap(),
        );
        let tenant = TenantId::new();
        let before = old.seal([1; 12], tenant, b"x").unwrap();
        let after = both.seal([2; 12], tenant, b"y").unwrap();
        assert!(before.starts_with(&old.head().unwrap()) && !before.starts_with(&both.head().unwrap()));
        assert_eq!(both.open(tenant, &before).unwrap(), b"x");
        assert_eq!(new.open(tenant, &after).unwrap(), b"y");
        assert_eq!(new.open(tenant, &before), Err(NotOpened::UnknownKey("old".into())));
    }

    #[test]
    fn lists_that_cannot_be_used_say_where() {
        let zeros = format!("a:{}=", "A".repeat(43));
        for (text, wrong) in [
            ("", BadKeys::Empty),
            ("nocolon", BadKeys::Form(1)),
            ("a b:AAAA", BadKeys::Form(1)),
            (&format!("{OLD},b:AAAA"), BadKeys::Length(2)),
            ("a:***", BadKeys::Length(1)),
            (&zeros, BadKeys::Weak(1)),
            (&format!("{OLD},{OLD}"), BadKeys::Twice(2)),
        ] {
            assert_eq!(KeyRing::parse(text).unwrap_err(), wrong, "{text}");
        }
        assert_eq!(format!("{:?}", KeyRing::parse(OLD).unwrap()), r#"["old"]"#);
    }
}
