//! Connections and answers: each request meets the next act of its path. Called by [`super::Origin`]'s thread.

use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::request::{self, Range};
use super::{Act, Change, Content, Exchange, PATIENCE, RangeLie, Stage};

/// Bytes written at once.
const CHUNK: usize = 64 << 10;
/// The size a body without end claims inside.
const WITHOUT_END: u64 = u64::MAX;

/// Takes connections until it is dropped.
pub(super) async fn accept(listener: TcpListener, stage: Arc<Stage>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let number = {
            let mut connections = stage.connections.lock().expect("no panic");
            connections.push(peer);
            connections.len() - 1
        };
        let stage = Arc::clone(&stage);
        tokio::spawn(async move {
            // a client that goes away is no news: the test knows why
            let _ = timeout(PATIENCE, converse(stream, &stage, number)).await;
        });
    }
}

/// Whether a connection goes on after an answer.
#[derive(PartialEq, Eq)]
enum Next {
    Request,
    End,
}

async fn converse(mut stream: TcpStream, stage: &Stage, number: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut rest = Vec::new();
    while let Some(request) = request::read(&mut stream, &mut rest, number).await {
        let path = request.target().split('?').next().unwrap_or_default().to_owned();
        let exchange = stage.remember(request.clone());
        let mut answer = Answer { stream: &mut stream, stage, exchange, request };
        let next = match stage.next(&path) {
            Some((content, act, met)) => answer.play(&content, &act, met).await?,
            None => answer.status(404, &[]).await?,
        };
        if next == Next::End {
            break;
        }
    }
    stream.shutdown().await
}

struct Answer<'a> {
    stream: &'a mut TcpStream,
    stage: &'a Stage,
    exchange: usize,
    request: Exchange,
}

/// How a body goes out.
#[derive(Clone, Copy)]
struct Pace {
    bytes: usize,
    pause: Duration,
}

const AT_ONCE: Pace = Pace { bytes: CHUNK, pause: Duration::ZERO };

impl Answer<'_> {
    async fn play(&mut self, content: &Content, act: &Act, met: usize) -> io::Result<Next> {
        let size = match act {
            Act::Changing(Change::Size) => content.len().saturating_sub(met as u64),
            _ => content.len(),
        };
        match act {
            Act::Silent => {
                sleep(PATIENCE).await;
                Ok(Next::End)
            }
            Act::Refuse => self.reset(),
            Act::Raw(bytes) => {
                self.stream.write_all(bytes).await?;
                Ok(Next::End)
            }
            Act::Status(status, headers) => self.status(*status, headers).await,
            Act::Redirect(status, location) => self.status(*status, &[("Location".to_owned(), location.clone())]).await,
            Act::Endless { length } => self.endless(*length).await,
            Act::NoRanges => self.whole(content, size, &format!("Content-Length: {size}\r\n")).await,
            Act::NoLength => {
                self.whole(content, size, "Connection: close\r\n").await?;
                Ok(Next::End)
            }
            Act::Chunked => self.chunked(content, size).await,
            Act::Multipart => self.multipart(content, size).await,
            _ => self.ranged(content, size, act, met).await,
        }
    }

    /// The whole or a part, with what the act changes in head, body or end.
    async fn ranged(&mut self, content: &Content, size: u64, act: &Act, met: usize) -> io::Result<Next> {
        let (mut head, first, length) = match request::range(&self.request, size) {
            Some(Range::Outside) => {
                return self.status(416, &[("Content-Range".to_owned(), format!("bytes */{size}"))]).await;
            }
            Some(Range::Part { first, last }) => {
                let range = content_range(first, last, size, act);
                (format!("HTTP/1.1 206 Partial Content\r\n{range}"), first, last - first + 1)
            }
            None => ("HTTP/1.1 200 OK\r\n".to_owned(), 0, size),
        };
        let _ = write!(head, "{}Content-Length: {length}\r\nAccept-Ranges: bytes\r\n", validators(act, met));
        match act {
            Act::Encoded(coding) => _ = write!(head, "Content-Encoding: {coding}\r\n"),
            Act::HeaderFlood { count, bytes } => {
                (0..*count).for_each(|n| _ = write!(head, "X-Flood-{n}: {}\r\n", "x".repeat(*bytes)));
            }
            _ => {}
        }
        head.push_str("\r\n");
        match act {
            Act::SlowHead { pause } => self.drops(head.as_bytes(), Pace { bytes: 1, pause: *pause }).await?,
            _ => self.stream.write_all(head.as_bytes()).await?,
        }
        if self.request.method() == "HEAD" {
            return Ok(Next::Request);
        }
        let from = if *act == Act::WrongRange(RangeLie::OtherBytes) { (first + 1) % size.max(1) } else { first };
        match act {
            Act::Drip { bytes, pause } => {
                self.body(content, from, length, Pace { bytes: (*bytes).max(1), pause: *pause }).await?;
            }
            Act::Reset { after } => {
                self.body(content, from, length.min(*after), AT_ONCE).await?;
                sleep(Duration::from_millis(50)).await; // what was sent shall arrive before the reset does
                return self.reset();
            }
            Act::Truncate { after } => {
                self.body(content, from, length.min(*after), AT_ONCE).await?;
                return Ok(Next::End);
            }
            _ => self.body(content, from, length, AT_ONCE).await?,
        }
        Ok(if *act == Act::CloseAfter { Next::End } else { Next::Request })
    }

    async fn whole(&mut self, content: &Content, size: u64, headers: &str) -> io::Result<Next> {
        self.stream.write_all(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes()).await?;
        self.body(content, 0, size, AT_ONCE).await?;
        Ok(Next::Request)
    }

    async fn chunked(&mut self, content: &Content, size: u64) -> io::Result<Next> {
        self.stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        let mut at = 0;
        while at < size {
            let chunk = content.read(at, CHUNK);
            if chunk.is_empty() {
                break;
            }
            self.stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
            self.send(&chunk).await?;
            self.stream.write_all(b"\r\n").await?;
            at += chunk.len() as u64;
        }
        self.stream.write_all(b"0\r\n\r\n").await?;
        Ok(Next::Request)
    }

    async fn multipart(&mut self, content: &Content, size: u64) -> io::Result<Next> {
        let (first, last) = match request::range(&self.request, size) {
            Some(Range::Part { first, last }) => (first, last),
            _ => (0, size.saturating_sub(1)),
        };
        let before = format!("--part\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n");
        let length = before.len() as u64 + (last - first + 1) + 12;
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=part\r\nContent-Length: {length}\r\n\r\n{before}"
        );
        self.stream.write_all(head.as_bytes()).await?;
        self.body(content, first, last - first + 1, AT_ONCE).await?;
        self.stream.write_all(b"\r\n--part--\r\n").await?;
        Ok(Next::Request)
    }

    async fn endless(&mut self, length: Option<u64>) -> io::Result<Next> {
        let size = length.map_or("Connection: close\r\n".to_owned(), |n| format!("Content-Length: {n}\r\n"));
        self.stream.write_all(format!("HTTP/1.1 200 OK\r\n{size}\r\n").as_bytes()).await?;
        let (mut left, chunk) = (length.unwrap_or(WITHOUT_END), vec![0; CHUNK]);
        while left > 0 {
            let now = left.min(CHUNK as u64);
            self.send(&chunk[..now as usize]).await?;
            left -= now;
        }
        Ok(if length.is_some() { Next::Request } else { Next::End })
    }

    async fn status(&mut self, status: u16, headers: &[(String, String)]) -> io::Result<Next> {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let body = if self.request.method() == "HEAD" || status == 304 { "" } else { "no" };
        let head = format!("HTTP/1.1 {status} Because\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        self.stream.write_all(head.as_bytes()).await?;
        Ok(Next::Request)
    }

    async fn body(&mut self, content: &Content, first: u64, length: u64, pace: Pace) -> io::Result<()> {
        let mut sent = 0;
        while sent < length {
            let most = usize::try_from(length - sent).map_or(pace.bytes, |left| left.min(pace.bytes));
            let chunk = content.read(first + sent, most);
            if chunk.is_empty() {
                break;
            }
            if !pace.pause.is_zero() {
                sleep(pace.pause).await;
            }
            self.send(&chunk).await?;
            sent += chunk.len() as u64;
        }
        Ok(())
    }

    async fn drops(&mut self, bytes: &[u8], pace: Pace) -> io::Result<()> {
        for drop in bytes.chunks(pace.bytes) {
            sleep(pace.pause).await;
            self.stream.write_all(drop).await?;
        }
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stage.count(self.exchange, bytes.len() as u64);
        Ok(())
    }

    /// Makes the connection's end a reset: what lies in the buffers is thrown away.
    fn reset(&mut self) -> io::Result<Next> {
        self.stream.set_zero_linger()?;
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

/// `ETag` and `Last-Modified`, as the act wants them.
fn validators(act: &Act, met: usize) -> String {
    let modified = |second| format!("Last-Modified: Tue, 01 Oct 2024 10:00:{second:02} GMT\r\n");
    match act {
        Act::Changing(Change::ETag) => format!("ETag: \"v{met}\"\r\n{}", modified(0)),
        Act::Changing(Change::LastModified) => modified(met % 60),
        _ => format!("ETag: \"v\"\r\n{}", modified(0)),
    }
}

fn content_range(first: u64, last: u64, size: u64, act: &Act) -> String {
    match act {
        Act::WrongRange(RangeLie::OtherStart) => format!("Content-Range: bytes {}-{}/{size}\r\n", first + 1, last + 1),
        Act::WrongRange(RangeLie::OtherTotal) => format!("Content-Range: bytes {first}-{last}/{}\r\n", size + 1),
        Act::WrongRange(RangeLie::Garbage) => "Content-Range: bites x-y/z\r\n".to_owned(),
        Act::WrongRange(RangeLie::Missing) => String::new(),
        _ => format!("Content-Range: bytes {first}-{last}/{size}\r\n"),
    }
}
