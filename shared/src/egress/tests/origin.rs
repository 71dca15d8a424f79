//! Servers of the tests: an origin that answers as a closure says and remembers every request, a listener that only
//! notices connections, and an origin with TLS (the OpenSSL command line, which Debian brings along with its certificates).

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// A listener that nobody may connect to.
pub(super) struct Forbidden {
    listener: TcpListener,
    pub(super) port: u16,
}

impl Forbidden {
    /// Listens on every address of this machine, IPv6 too where there is any.
    pub(super) fn everywhere() -> Self {
        Self::on(TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).expect("a listener"))
    }

    pub(super) fn at(address: SocketAddr) -> Self {
        Self::on(TcpListener::bind(address).expect("a listener"))
    }

    fn on(listener: TcpListener) -> Self {
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("bound").port();
        Self { listener, port }
    }

    /// Whether somebody has connected since the last question. The kernel completes connections by itself, so one that was
    /// made is there already.
    pub(super) fn was_met(&self) -> bool {
        match self.listener.accept() {
            Ok(_) => true,
            Err(e) if e.kind() == ErrorKind::WouldBlock => false,
            Err(e) => panic!("{e}"),
        }
    }
}

/// A plain HTTP origin.
pub(super) struct Origin {
    pub(super) port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    closed: CancellationToken,
}

impl Origin {
    /// Answers each request on 127.0.0.1 with what `answer` makes of its path, byte for byte. An answer that does not end
    /// with a blank line or a body of its stated length is the test's business; an empty one closes the connection.
    pub(super) async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let port = listener.local_addr().expect("bound").port();
        let origin =
            Self { port, heads: Arc::default(), connections: Arc::default(), closed: CancellationToken::new() };
        let (heads, connections, answer) = (origin.heads.clone(), origin.connections.clone(), Arc::new(answer));
        let closed = origin.closed.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (heads, answer, closed) = (heads.clone(), answer.clone(), closed.clone());
                tokio::spawn(async move { closed.run_until_cancelled(talk(stream, &heads, &*answer)).await });
            }
        });
        origin
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// A setting that opens it.
    pub(super) fn opened(&self) -> String {
        format!("127.0.0.1/32:{}", self.port)
    }

    /// The heads of all requests, in lower case.
    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("unpoisoned").clone()
    }

    /// Ends every connection where it stands.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn talk(mut stream: TcpStream, heads: &Mutex<Vec<String>>, answer: &(dyn Fn(&str) -> String + Send + Sync)) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&std::mem::take(&mut head)).into_owned();
        let answer = answer(text.split(' ').nth(1).unwrap_or_default());
        heads.lock().expect("unpoisoned").push(text.to_lowercase());
        if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// An answer with a body.
pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A redirect.
pub(super) fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

/// An origin with TLS on 127.0.0.1 that calls itself origin.test.
pub(super) struct TlsOrigin {
    pub(super) port: u16,
    server: Child,
    _files: tempfile::TempDir,
}

impl TlsOrigin {
    /// `certificate` is a file of `testdata/tls`; `answer` is what every request for `/answer` gets, byte for byte.
    pub(super) fn start(certificate: &str, answer: &str) -> Self {
        let files = tempfile::tempdir().expect("a folder");
        std::fs::write(files.path().join("answer"), answer).expect("writes");
        let server = Command::new("openssl")
            .args(["s_server", "-HTTP", "-accept", "127.0.0.1:0"])
            .arg("-cert")
            .arg(testdata(certificate))
            .arg("-key")
            .arg(testdata("origin.key"))
            .current_dir(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut server = server.expect("this test needs the openssl command: apt-get install openssl");
        let lines = BufReader::new(server.stdout.take().expect("piped")).lines();
        let port =
            lines.map_while(Result::ok).find_map(|line| line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok());
        Self { port: port.expect("openssl 3 says where it listens"), server, _files: files }
    }

    pub(super) fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/answer", self.port)
    }
}

impl Drop for TlsOrigin {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub(super) fn testdata(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls").join(name)
}

/// A port of 127.0.0.1 at another address of this machine.
pub(super) fn beside(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(ip), port)
}
