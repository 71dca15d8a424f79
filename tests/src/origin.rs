//! A hostile origin: an HTTP/1.1 server on loopback that serves files by ranges and, path by path, does whatever servers
//! do wrong. It writes its answers by hand over TCP, and remembers every connection and request.
//!
//! Used by the tests of remote input. It runs on a thread of its own, so that a test that blocks does not stop it, and
//! ends when it is dropped. Everything it does without end it does for at most [`PATIENCE`].

mod act;
mod request;
mod serve;

use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use act::{Act, Change, RangeLie};

/// Longest time that a connection is kept, whatever it is used for.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Requests that are remembered; what comes later is served and forgotten.
const MOST_REMEMBERED: usize = 100_000;

/// What is served at a path.
#[derive(Debug, Clone)]
pub enum Content {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// A file, opened anew for each request; it may be huge and sparse.
    File(PathBuf),
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<PathBuf> for Content {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(path) => std::fs::metadata(path).map_or(0, |m| m.len()),
        }
    }

    /// At most so many bytes from there on; fewer only at the end.
    fn read(&self, at: u64, most: usize) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
                bytes[from..bytes.len().min(from.saturating_add(most))].to_vec()
            }
            Self::File(path) => {
                let mut chunk = vec![0; most];
                let read = File::open(path).and_then(|f| f.read_at(&mut chunk, at)).unwrap_or_default();
                chunk.truncate(read);
                chunk
            }
        }
    }
}

/// One request and what became of it.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// Which connection it came by, counted from 0.
    pub connection: usize,
    /// The request line as it was sent.
    pub line: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes of the answer's body that the kernel took.
    pub body_bytes: u64,
}

impl Exchange {
    /// The method.
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The target: path and query, or a whole URL if that was sent.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// A header's value, if it was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What a path does: to the first requests one thing each, to all others the same.
#[derive(Debug, Clone)]
struct Script {
    content: Content,
    first: Vec<Act>,
    then: Act,
    met: usize,
}

#[derive(Debug, Default)]
struct Stage {
    scripts: Mutex<HashMap<String, Script>>,
    exchanges: Mutex<Vec<Exchange>>,
    connections: Mutex<Vec<SocketAddr>>,
}

/// The server.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    stage: Arc<Stage>,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Origin {
    /// Starts on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts at this address, for tests of several origins.
    pub fn start_at(address: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("the address is free");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let stage = Arc::new(Stage::default());
        let (stop, stopped) = oneshot::channel();
        let on = Arc::clone(&stage);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a socket");
                tokio::select! {
                    _ = stopped => {}
                    () = serve::accept(listener, on) => {}
                }
            });
        });
        Self { address, stage, _stop: stop }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves this content at a path, well.
    pub fn serve(&self, path: &str, content: impl Into<Content>) -> String {
        self.script(path, content, &[], Act::Serve)
    }

    /// Serves a path so: `first` one by one, then `then` for ever. A query in a request changes nothing. Returns the URL.
    pub fn script(&self, path: &str, content: impl Into<Content>, first: &[Act], then: Act) -> String {
        let script = Script { content: content.into(), first: first.to_vec(), then, met: 0 };
        self.stage.scripts.lock().expect("no panic").insert(path.to_owned(), script);
        self.url(path)
    }

    /// Every request until now, in the order they came.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.stage.exchanges.lock().expect("no panic").clone()
    }

    /// The requests for one path.
    pub fn exchanges_of(&self, path: &str) -> Vec<Exchange> {
        let is_it = |e: &Exchange| e.target().split('?').next() == Some(path);
        self.exchanges().into_iter().filter(is_it).collect()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.stage.connections.lock().expect("no panic").len()
    }

    /// Bytes of bodies that were sent.
    pub fn body_bytes(&self) -> u64 {
        self.stage.exchanges.lock().expect("no panic").iter().map(|e| e.body_bytes).sum()
    }
}

impl Stage {
    /// The content and the next act of a path; none if nothing is served there. Also how often it was asked before.
    fn next(&self, path: &str) -> Option<(Content, Act, usize)> {
        let mut scripts = self.scripts.lock().expect("no panic");
        let script = scripts.get_mut(path)?;
        let act = script.first.get(script.met).unwrap_or(&script.then).clone();
        script.met += 1;
        Some((script.content.clone(), act, script.met - 1))
    }

    /// Remembers a request; returns its place.
    fn remember(&self, exchange: Exchange) -> usize {
        let mut exchanges = self.exchanges.lock().expect("no panic");
        if exchanges.len() < MOST_REMEMBERED {
            exchanges.push(exchange);
        }
        exchanges.len() - 1
    }

    fn count(&self, exchange: usize, bytes: u64) {
        self.exchanges.lock().expect("no panic")[exchange].body_bytes += bytes;
    }
}
