//! Files of certificates to be trusted, read and looked at before anything is connected to: a file that cannot be used stops
//! the start instead of every connection. Used by the settings of PostgreSQL, Redis and egress.

use std::path::Path;

use redis::{Client, TlsCertificates};

use super::ConfigError;

/// Largest file of certificates that is read. A whole system's roots have 200 kB.
const MAX_BYTES: u64 = 1024 * 1024;
/// How a certificate begins in PEM form (RFC 7468 section 5).
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// The certificates (PEM) in `file`, at least one.
pub(super) fn read(variable: &'static str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    let wrong =
        |problem: String| ConfigError::new(variable, problem, "name a readable file of certificates in PEM form");
    let unreadable = |e| wrong(format!("'{}' cannot be read: {e}", file.display()));
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_BYTES {
        return Err(wrong(format!("'{}' has {size} bytes, at most {MAX_BYTES} are read", file.display())));
    }
    let pem = std::fs::read(file).map_err(unreadable)?;
    if !String::from_utf8_lossy(&pem).contains(BEGIN) {
        return Err(wrong(format!("'{}' holds no certificate", file.display())));
    }
    // the address is not used: this is the parser at hand that looks at every certificate
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) };
    match Client::build_with_tls("rediss://localhost", certificates) {
        Ok(_) => Ok(pem),
        Err(_) => Err(wrong(format!("'{}' holds a certificate that cannot be read", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let refusal = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read("X", &file).unwrap_err().to_string()
        };
        assert!(refusal("").contains("holds no certificate"));
        assert!(refusal("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").contains("no certificate"));
        let broken = format!("{BEGIN}\nAAAA\n-----END CERTIFICATE-----\n");
        assert!(refusal(&broken).contains("cannot be read"));
        assert!(refusal(&"a".repeat(1024 * 1024 + 1)).contains("at most"));
        std::fs::remove_file(&file).unwrap();
        assert!(read("X", &file).unwrap_err().to_string().starts_with("X: "));
        let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls/ca.pem");
        assert_eq!(read("X", &good).unwrap(), std::fs::read(good).unwrap());
    }
}
