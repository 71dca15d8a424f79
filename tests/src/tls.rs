//! An origin with TLS on 127.0.0.1: the OpenSSL command line with a certificate made for the test, and answers that are files,
//! byte for byte. Used by the tests of remote input; it serves no ranges, and one connection at a time.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The server; killed when dropped.
pub struct TlsOrigin {
    port: u16,
    server: Child,
    files: tempfile::TempDir,
}

impl TlsOrigin {
    /// Starts on a free port.
    pub fn start() -> Self {
        let files = tempfile::tempdir().expect("a folder");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=an origin of the tests", "-addext", "subjectAltName=IP:127.0.0.1"])
            // one that may sign others is not taken for a server's
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "certificate.pem"])
            .current_dir(files.path())
            .output()
            .expect("this test needs the openssl command: scripts/setup.sh test");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = Command::new("openssl")
            .args(["s_server", "-HTTP", "-accept", "127.0.0.1:0", "-cert", "certificate.pem", "-key", "key.pem"])
            .current_dir(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts");
        let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok());
        // what it says later would fill the pipe
        std::thread::spawn(move || lines.for_each(drop));
        Self { port: port.expect("openssl 3 says where it listens"), server, files }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file of its certificate, to be trusted.
    pub fn certificate(&self) -> PathBuf {
        self.files.path().join("certificate.pem")
    }

    /// Gives this answer, head and body, to every request for a name without slashes. Returns the URL.
    pub fn answer(&self, name: &str, answer: &[u8]) -> String {
        std::fs::write(self.files.path().join(name), answer).expect("writes");
        format!("https://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for TlsOrigin {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
