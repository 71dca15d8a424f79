//! Reading a request: its line and headers as they were sent, and the range that it asks for. Called by [`super::serve`].

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::Exchange;

/// Longest head that is read.
const MOST_HEAD: usize = 64 << 10;

/// The next request of a connection; none at its end, or if it is no request. What follows the head stays in `rest`.
pub(super) async fn read(stream: &mut TcpStream, rest: &mut Vec<u8>, connection: usize) -> Option<Exchange> {
    let end = loop {
        if let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        rest.extend_from_slice(&chunk[..read]);
        if rest.len() > MOST_HEAD {
            return None;
        }
    };
    let head: Vec<u8> = rest.drain(..end).collect();
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.split("\r\n").filter(|l| !l.is_empty());
    let line = lines.next()?.to_owned();
    let header = |l: &str| l.split_once(':').map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned()));
    Some(Exchange { connection, line, headers: lines.filter_map(header).collect(), body_bytes: 0 })
}

/// The range a request asks for of a file of this size, first and last byte; none if it asks for none that is understood.
pub(super) fn range(request: &Exchange, size: u64) -> Option<Range> {
    let (first, last) = request.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
    let end = size.saturating_sub(1);
    let (first, last) = match (first, last) {
        ("", suffix) => (size.saturating_sub(suffix.parse().ok()?), end),
        (first, "") => (first.parse().ok()?, end),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.min(end)),
    };
    Some(if first < size && first <= last { Range::Part { first, last } } else { Range::Outside })
}

/// What a range comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// These bytes, both ends included.
    Part { first: u64, last: u64 },
    /// Nothing of the file: 416.
    Outside,
}
