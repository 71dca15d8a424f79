//! A certificate authority of the test's own, and the certificates it signs, made by the OpenSSL command line in a folder that
//! whoever runs a server may read. Used by the tests of TLS. Nothing outside of the test trusts it.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The authority.
pub struct Authority {
    folder: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key, readable to one user.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority that keeps its files in `folder`.
    pub fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let this = Self { folder: folder.to_owned() };
        // a name that no other has: two of one name are told apart by their signatures only
        this.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority-{} \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem",
            uuid::Uuid::new_v4()
        ));
        this
    }

    /// The file of its certificate, to be trusted.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for `names`, such as `DNS:localhost`; its key belongs to the user `owner`.
    pub fn sign(&self, label: &str, names: &str, owner: u32) -> Certificate {
        let extensions = format!("basicConstraints=CA:FALSE\nsubjectAltName={names}\n");
        std::fs::write(self.folder.join("extensions"), extensions).expect("writes");
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={label} -keyout {label}.key -out {label}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {label}.csr -CA ca.pem -CAkey ca.key -days 2 -extfile extensions -out {label}.pem"
        ));
        let key = self.folder.join(format!("{label}.key"));
        chown(&key, Some(owner), None).expect("gives the key away");
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("hides the key");
        Certificate { chain: self.folder.join(format!("{label}.pem")), key }
    }

    fn openssl(&self, arguments: &str) {
        let made = Command::new("openssl").args(arguments.split_whitespace()).current_dir(&self.folder).output();
        let made = made.expect("this test needs the openssl command: scripts/setup.sh test");
        assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }
}
