//! A receiver of webhooks: an HTTP/1.1 server on loopback that remembers every message, and at each path answers as its script
//! says, well or badly. Used by the tests of webhooks. It runs on a thread of its own and ends when it is dropped.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Longest time that a connection is kept, whatever it is used for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Largest message that is read, head and body.
const MOST_BYTES: usize = 1 << 20;
/// Bytes written at once to whoever gets more than is good for them.
const CHUNK: usize = 64 << 10;

/// One way to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// This status, with these headers.
    Status(u16, Vec<(String, String)>),
    /// 200 after a while.
    Late(Duration),
    /// The message is taken, and nothing is said.
    Silence,
    /// The connection is reset once the message is read.
    Reset,
    /// This status, and a body of so many bytes.
    Flood(u16, u64),
    /// 200, and a body that drips without end.
    Drip,
}

impl Reply {
    /// A status without more.
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }

    /// A status with one header.
    pub fn with(status: u16, name: &str, value: &str) -> Self {
        Self::Status(status, vec![(name.to_owned(), value.to_owned())])
    }
}

/// A message that came.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it came to.
    pub path: String,
    /// The method.
    pub method: String,
    /// The headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// The body as it was sent.
    pub body: String,
    /// When it was whole.
    pub at: Instant,
}

impl Message {
    /// A header; empty if it was not sent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a body is JSON")
    }
}

#[derive(Debug)]
struct Script {
    first: Vec<Reply>,
    then: Reply,
    met: usize,
}

#[derive(Debug, Default)]
struct Desk {
    scripts: Mutex<HashMap<String, Script>>,
    messages: Mutex<Vec<Message>>,
    flooded: Mutex<u64>,
}

/// The server.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    desk: Arc<Desk>,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Receiver {
    /// Starts on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let desk = Arc::new(Desk::default());
        let (stop, stopped) = oneshot::channel();
        let at = Arc::clone(&desk);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a socket");
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, at) => {}
                }
            });
        });
        Self { address, desk, _stop: stop }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of a path, which begins with a slash. A path without a script answers 200.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers at a path so: `first` one by one, then `then` for ever. Returns the URL.
    pub fn script(&self, path: &str, first: &[Reply], then: Reply) -> String {
        let script = Script { first: first.to_vec(), then, met: 0 };
        self.desk.scripts.lock().expect("no panic").insert(path.to_owned(), script);
        self.url(path)
    }

    /// The messages that came to a path, in their order.
    pub fn messages(&self, path: &str) -> Vec<Message> {
        let messages = self.desk.messages.lock().expect("no panic");
        messages.iter().filter(|message| message.path == path).cloned().collect()
    }

    /// How many came, to whatever path.
    pub fn count(&self) -> usize {
        self.desk.messages.lock().expect("no panic").len()
    }

    /// Every message: where it came to, its `webhook-id`, and when.
    pub fn log(&self) -> Vec<(String, String, Instant)> {
        let messages = self.desk.messages.lock().expect("no panic");
        messages.iter().map(|m| (m.path.clone(), m.header("webhook-id").to_owned(), m.at)).collect()
    }

    /// Bytes of floods that the other side took.
    pub fn flooded(&self) -> u64 {
        *self.desk.flooded.lock().expect("no panic")
    }
}

async fn accept(listener: TcpListener, desk: Arc<Desk>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            // a sender that goes away is no news: the test knows why
            let _ = timeout(PATIENCE, converse(stream, &desk)).await;
        });
    }
}

async fn converse(mut stream: TcpStream, desk: &Desk) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut rest = Vec::new();
    while let Some(message) = read(&mut stream, &mut rest).await? {
        let reply = {
            let mut scripts = desk.scripts.lock().expect("no panic");
            scripts.get_mut(&message.path).map_or(Reply::status(200), |script| {
                script.met += 1;
                script.first.get(script.met - 1).unwrap_or(&script.then).clone()
            })
        };
        desk.messages.lock().expect("no panic").push(message);
        if !answer(&mut stream, desk, reply).await? {
            break;
        }
    }
    Ok(())
}

/// The next message of a connection; none at its end.
async fn read(stream: &mut TcpStream, rest: &mut Vec<u8>) -> io::Result<Option<Message>> {
    let mut chunk = [0; 4 << 10];
    loop {
        if let Some(head) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&rest[..head]).into_owned();
            let mut lines = text.split("\r\n");
            let mut line = lines.next().unwrap_or_default().split(' ');
            let (method, path) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
            let header = |l: &str| l.split_once(':').map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned()));
            let headers: HashMap<String, String> = lines.filter_map(header).collect();
            let length: usize = headers.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            if rest.len() >= head + 4 + length {
                let whole: Vec<u8> = rest.drain(..head + 4 + length).collect();
                let body = String::from_utf8_lossy(&whole[head + 4..]).into_owned();
                let (path, method) = (path.to_owned(), method.to_owned());
                return Ok(Some(Message { path, method, headers, body, at: Instant::now() }));
            }
        }
        let read = stream.read(&mut chunk).await?;
        if read == 0 || rest.len() > MOST_BYTES {
            return Ok(None);
        }
        rest.extend_from_slice(&chunk[..read]);
    }
}

/// Whether the connection goes on afterwards.
async fn answer(stream: &mut TcpStream, desk: &Desk, reply: Reply) -> io::Result<bool> {
    match reply {
        Reply::Status(status, headers) => {
            let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let body = format!("answer {status}");
            let head = format!("HTTP/1.1 {status} Because\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).await?;
            Ok(true)
        }
        Reply::Late(pause) => {
            sleep(pause).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
            Ok(true)
        }
        Reply::Silence => {
            sleep(PATIENCE).await;
            Ok(false)
        }
        Reply::Reset => {
            stream.set_zero_linger()?;
            Ok(false)
        }
        Reply::Flood(status, bytes) => {
            let head = format!("HTTP/1.1 {status} Because\r\nContent-Length: {bytes}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let chunk = vec![b'x'; CHUNK];
            for _ in 0..bytes / CHUNK as u64 {
                stream.write_all(&chunk).await?;
                *desk.flooded.lock().expect("no panic") += CHUNK as u64;
            }
            Ok(false)
        }
        Reply::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(b"x").await?;
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}
