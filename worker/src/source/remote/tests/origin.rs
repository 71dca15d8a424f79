//! A web server that does what a test tells it: each request gets a list of steps. Raw TCP, because most of what is
//! tested no proper server does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What the origin does with a request, step by step; the connection is closed at the end.
pub(super) enum Step {
    Send(Vec<u8>),
    /// Bytes of the object, from the first to before the second offset.
    Data(u64, u64),
    /// Zeros, so many times a mebibyte.
    Zeros(u64),
    Wait(Duration),
    /// The same bytes again and again until the other side is gone.
    Forever(Vec<u8>, Duration),
    Reset,
}

/// A request as far as it matters: the how many-th it is, and what it asks for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) number: usize,
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) head: String,
}

pub(super) struct Server {
    pub(super) addr: SocketAddr,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(plan: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (plan, log) = (Arc::new(plan), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(stream, Arc::clone(&plan), Arc::clone(&log)));
            }
        });
        Self { addr, asked, task: task.abort_handle() }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/films/a.mp4?sig=secret", self.addr)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn converse<P: Fn(&Asked) -> Vec<Step>>(mut stream: TcpStream, plan: Arc<P>, log: Arc<Mutex<Vec<Asked>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let range = head.lines().find_map(|l| l.strip_prefix("range: bytes="));
    let range = range.and_then(|r| r.split_once('-')).map(|(f, l)| (f.parse().unwrap(), l.parse::<u64>().unwrap() + 1));
    let (from, until) = range.unwrap_or_default();
    let steps = {
        let mut log = log.lock().unwrap();
        let asked = Asked { number: log.len(), from, until, head };
        log.push(asked.clone());
        plan(&asked)
    };
    for step in steps {
        let done = match step {
            Step::Send(bytes) => stream.write_all(&bytes).await,
            Step::Data(from, until) => send_data(&mut stream, from, until).await,
            Step::Zeros(times) => send_zeros(&mut stream, times).await,
            Step::Wait(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Step::Forever(bytes, pause) => loop {
                if let Err(error) = stream.write_all(&bytes).await {
                    break Err(error);
                }
                tokio::time::sleep(pause).await;
            },
            Step::Reset => {
                // what was sent should arrive before the reset does
                tokio::time::sleep(Duration::from_millis(30)).await;
                set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                return;
            }
        };
        if done.is_err() {
            return;
        }
    }
}

async fn send_data(stream: &mut TcpStream, from: u64, until: u64) -> std::io::Result<()> {
    let mut at = from;
    while at < until {
        let end = until.min(at + 64 * 1024);
        stream.write_all(&data(at, end)).await?;
        at = end;
    }
    Ok(())
}

async fn send_zeros(stream: &mut TcpStream, times: u64) -> std::io::Result<()> {
    let zeros = vec![0; 1 << 20];
    for _ in 0..times {
        stream.write_all(&zeros).await?;
    }
    Ok(())
}

/// The bytes of every object in these tests; no two stretches of it are the same for long.
pub(super) fn data(from: u64, until: u64) -> Vec<u8> {
    (from..until).map(|at| (at ^ (at >> 8) ^ (at >> 16).wrapping_mul(7)).to_le_bytes()[0]).collect()
}

/// The head of an answer.
pub(super) fn head(status: u16, headers: &[(&str, String)]) -> Step {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    Step::Send(format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}\r\n").into_bytes())
}

/// The head of a good answer with a part of an object of `size` bytes, and the offset after the part.
pub(super) fn part_head(asked: &Asked, size: u64, tag: &str) -> (Step, u64) {
    let until = asked.until.min(size);
    let range = ("Content-Range", format!("bytes {}-{}/{size}", asked.from, until - 1));
    let length = ("Content-Length", (until - asked.from).to_string());
    (head(206, &[range, length, ("ETag", format!("\"{tag}\""))]), until)
}

/// A good answer.
pub(super) fn part(asked: &Asked, size: u64, tag: &str) -> Vec<Step> {
    let (head, until) = part_head(asked, size, tag);
    vec![head, Step::Data(asked.from, until)]
}
