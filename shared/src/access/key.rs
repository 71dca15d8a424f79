//! API keys. Pure: randomness comes in as bytes.
//!
//! A key reads `ffp_PUBLIC_SECRETCHECK`: a fixed prefix that secret scanners can find, a public id that finds the row
//! and may stand in logs, 256 random bits, and a CRC-32 so that a typing error is refused without asking the database.
//! Stored is only an HMAC of the whole key under a pepper. A slow password hash would add nothing: there is no
//! dictionary for 256 random bits.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

const PREFIX: &str = "ffp";
const PUBLIC_CHARS: usize = 12;
pub(super) const SECRET_CHARS: usize = 43;
pub(super) const CHECK_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A secret only the service knows, mixed into every stored digest.
#[derive(Clone)]
pub struct Pepper(SecretString);

impl Pepper {
    /// Wraps the configured secret; its strength was checked by the configuration.
    pub fn new(secret: SecretString) -> Self {
        Self(secret)
    }

    /// A signature over `parts` that only this service can make. `purpose` keeps the signatures of different uses apart, and
    /// those from the digests of keys, which hold no NUL.
    pub fn sign(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.mac();
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        for part in parts {
            // the length first, so that no byte can move from one part to the next
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn mac(&self) -> Hmac<Sha256> {
        <Hmac<Sha256> as KeyInit>::new_from_slice(self.0.expose_secret().as_bytes())
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length (RFC 2104)"))
    }
}

/// A whole API key. Shown once, never stored, never logged.
#[derive(Clone)]
pub struct ApiKey {
    text: SecretString,
    public_id: String,
}

impl ApiKey {
    /// A new key from 8 and 32 random bytes.
    pub fn from_random(public: [u8; 8], secret: [u8; 32]) -> Self {
        let public_id = base62(&public, PUBLIC_CHARS);
        let body = format!("{PREFIX}_{public_id}_{}", base62(&secret, SECRET_CHARS));
        let text = format!("{body}{}", check(&body)).into();
        Self { text, public_id }
    }

    /// Reads a key as a client sent it; `None` if it was never one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?.strip_prefix('_')?;
        let (public_id, secret) = rest.split_once('_')?;
        let well_formed = public_id.len() == PUBLIC_CHARS
            && secret.len() == SECRET_CHARS + CHECK_CHARS
            && rest.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
        if !well_formed {
            return None;
        }
        let (body, sum) = text.split_at(text.len() - CHECK_CHARS);
        (check(body) == sum).then(|| Self { text: text.to_owned().into(), public_id: public_id.to_owned() })
    }

    /// The part that may be shown and logged.
    pub fn public_id(&self) -> &str {
        &self.public_id
    }

    /// The whole key, for showing it once.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// What is stored of it.
    pub fn digest(&self, pepper: &Pepper) -> [u8; 32] {
        let mut mac = pepper.mac();
        mac.update(self.text.expose_secret().as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Whether it is the key whose digest was stored. Takes the same time wherever they differ.
    pub fn matches(&self, stored: &[u8], pepper: &Pepper) -> bool {
        self.digest(pepper).ct_eq(stored).into()
    }
}

/// `bytes` as a big-endian number in base 62, padded to `width`.
pub(super) fn base62(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            *byte = u8::try_from(value / 62)
                .unwrap_or_else(|_| unreachable!("remainder < 62 keeps the quotient in a byte"));
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
    digits.into_iter().map(char::from).collect()
}

pub(super) fn check(body: &str) -> String {
    base62(&crc32fast::hash(body.as_bytes()).to_be_bytes(), CHECK_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ApiKey {
        ApiKey::from_random([7; 8], [9; 32])
    }

    #[test]
    fn a_key_survives_the_trip() {
        let key = key();
        let back = ApiKey::parse(key.expose()).unwrap();
        assert_eq!(back.public_id(), key.public_id());
        let pepper = Pepper::new("pepper".to_owned().into());
        assert!(back.matches(&key.digest(&pepper), &pepper));
        assert!(!back.matches(&key.digest(&Pepper::new("other".to_owned().into())), &pepper));
        assert!(!back.matches(&[], &pepper));
    }

    #[test]
    fn a_signature_belongs_to_its_purpose_and_parts() {
        let pepper = Pepper::new("pepper".to_owned().into());
        let signed = pepper.sign("a", &[b"bc", b"d"]);
        assert_eq!(signed, pepper.sign("a", &[b"bc", b"d"]));
        for (purpose, parts) in
            [("a", [&b"b"[..], b"cd"]), ("b", [b"bc", b"d"]), ("ab", [b"c", b"d"]), ("a", [b"bcd", b""])]
        {
            assert_ne!(signed, pepper.sign(purpose, &parts), "{purpose} {parts:?}");
        }
        assert_ne!(signed, Pepper::new("other".to_owned().into()).sign("a", &[b"bc", b"d"]));
    }

    #[test]
    fn extremes_fill_the_width() {
        assert_eq!(base62(&[0; 32], SECRET_CHARS), "0".repeat(43));
        assert_eq!(base62(&[255], 2), "47"); // 255 = 4 * 62 + 7
        assert_ne!(base62(&[255; 32], SECRET_CHARS), base62(&[254; 32], SECRET_CHARS));
    }

    #[test]
    fn every_single_typing_error_is_caught() {
        let good = key().expose().to_owned();
        for i in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[i] = if bad[i] == b'x' { b'y' } else { b'x' };
            assert!(ApiKey::parse(std::str::from_utf8(&bad).unwrap()).is_none(), "position {i}");
        }
        for bad in ["", "ffp", "ffp__", "Bearer", &good[1..], &good[..good.len() - 1], &format!("{good}a")] {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }
}
