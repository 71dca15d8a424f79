//! Checksums: of one request (`Upload-Checksum`) and of a whole upload (`checksum` in its metadata). Called by the API
//! while bytes arrive. Holds no bytes, only the state of the digest.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::md5::Md5;
use crate::error::{Code, Error};

/// The algorithms that are taken, as announced.
pub const ALGORITHMS: &str = "sha1,sha256,md5,crc32";

/// A digest in the making.
#[derive(Clone)]
pub enum Hasher {
    /// SHA-1, which tus demands.
    Sha1(Context),
    /// SHA-256.
    Sha256(Context),
    /// MD5.
    Md5(Box<Md5State>),
    /// CRC-32 of gzip, big-endian.
    Crc32(crc32fast::Hasher),
}

/// The state of an MD5 digest.
#[derive(Debug, Clone)]
pub struct Md5State(Md5);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sha1(_) => "sha1",
            Self::Sha256(_) => "sha256",
            Self::Md5(_) => "md5",
            Self::Crc32(_) => "crc32",
        })
    }
}

impl Hasher {
    /// A SHA-256 of nothing yet.
    pub fn sha256() -> Self {
        Self::Sha256(Context::new(&SHA256))
    }

    /// The digest that goes by this word, with its length in bytes.
    fn named(word: &str) -> Option<(Self, usize)> {
        Some(match word {
            "sha1" => (Self::Sha1(Context::new(&SHA1_FOR_LEGACY_USE_ONLY)), 20),
            "sha256" => (Self::sha256(), 32),
            "md5" => (Self::Md5(Box::new(Md5State(Md5::new()))), 16),
            "crc32" => (Self::Crc32(crc32fast::Hasher::new()), 4),
            _ => return None,
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(context) | Self::Sha256(context) => context.update(bytes),
            Self::Md5(state) => state.0.update(bytes),
            Self::Crc32(hasher) => hasher.update(bytes),
        }
    }

    /// The digest.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha1(context) | Self::Sha256(context) => context.finish().as_ref().to_vec(),
            Self::Md5(state) => state.0.finish().to_vec(),
            Self::Crc32(hasher) => hasher.finalize().to_be_bytes().to_vec(),
        }
    }
}

/// What a request says its body's digest is.
#[derive(Debug, Clone)]
pub struct Checksum {
    /// Takes the bytes.
    pub hasher: Hasher,
    /// What must come out.
    pub expected: Vec<u8>,
}

impl Checksum {
    /// Reads the value of `Upload-Checksum`: a word for the algorithm, a space, the digest in base64.
    pub fn parse(value: &str) -> Result<Self, Error> {
        let bad = |detail: String| Error::new(Code::BadRequest, detail);
        let (word, digest) = value.split_once(' ').ok_or_else(|| {
            bad("An Upload-Checksum is an algorithm, a space and a digest in base64: sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=.".into())
        })?;
        let Some((hasher, length)) = Hasher::named(word) else {
            return Err(bad(format!(
                "The algorithm of Upload-Checksum is not known here. These are: {}.",
                ALGORITHMS.replace(',', ", ")
            )));
        };
        match STANDARD.decode(digest) {
            Ok(expected) if expected.len() == length => Ok(Self { hasher, expected }),
            _ => Err(bad(format!("A {word} digest in Upload-Checksum is {length} bytes in base64."))),
        }
    }

    /// Whether the bytes were those that were meant.
    pub fn verify(self) -> Result<(), Error> {
        if self.hasher.finish() == self.expected {
            return Ok(());
        }
        let detail = "The bytes do not have the digest in Upload-Checksum. None of them were kept; send them again.";
        Err(Error::new(Code::ChecksumMismatch, detail))
    }
}

/// Whether a digest of the whole upload is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Wanted {
    /// No.
    #[default]
    No,
    /// Yes, to be reported.
    Report,
    /// Yes, and it must be this.
    Verify([u8; 32]),
}

impl Wanted {
    /// Reads `checksum` of the metadata: `sha256`, or `sha256:` and the digest in hexadecimal or base64.
    pub fn parse(value: &str) -> Result<Self, Error> {
        let bad = || {
            let detail = "The metadata 'checksum' is sha256, or sha256: followed by the digest as 64 hexadecimal digits or in base64.";
            Error::new(Code::BadRequest, detail)
        };
        if value.eq_ignore_ascii_case("sha256") {
            return Ok(Self::Report);
        }
        let digest = value.strip_prefix("sha256:").ok_or_else(bad)?;
        let bytes = unhex(digest).or_else(|| STANDARD.decode(digest).ok()).ok_or_else(bad)?;
        bytes.try_into().map(Self::Verify).map_err(|_| bad())
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, bytes: &[u8]) -> Result<(), Code> {
        let mut checksum = Checksum::parse(value).map_err(|e| e.code())?;
        checksum.hasher.update(bytes);
        checksum.verify().map_err(|e| e.code())
    }

    #[test]
    fn every_algorithm_finds_a_wrong_byte() {
        for value in [
            "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
            "sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
            "md5 XrY7u+Ae7tCTyyK7j1rNww==",
            "crc32 DUoRhQ==",
        ] {
            assert_eq!(check(value, b"hello world"), Ok(()), "{value}");
            assert_eq!(check(value, b"hello worlD"), Err(Code::ChecksumMismatch), "{value}");
        }
    }

    #[test]
    fn what_is_no_checksum_is_refused() {
        for bad in ["", "sha1", "sha1 ", "sha1 ?", "sha1 AAAA", "sha512 AAAA", "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="] {
            assert_eq!(check(bad, b""), Err(Code::BadRequest), "{bad}");
        }
    }

    #[test]
    fn a_whole_upload_is_hashed_on_demand() {
        assert_eq!(Wanted::parse("sha256").unwrap(), Wanted::Report);
        let hex = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
        let wanted = Wanted::parse(&format!("sha256:{hex}")).unwrap();
        assert_eq!(wanted, Wanted::parse("sha256:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=").unwrap());
        assert!(matches!(wanted, Wanted::Verify(digest) if digest[0] == 0xb9));
        for bad in ["", "sha1", "sha256:", "sha256:abc", &format!("sha256:{}", "é".repeat(32)), &format!("sha1:{hex}")]
        {
            assert!(Wanted::parse(bad).is_err(), "{bad}");
        }
    }
}
