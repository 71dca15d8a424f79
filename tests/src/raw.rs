//! Many connections at once, each with one request: what a crowd of clients looks like, for tests in which a real client
//! would cost more than what is measured. Raises the limit of open files as far as it may.

use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Http;

/// Connections opened at the same time: more would not fit into the queue of a listening socket.
const AT_ONCE: usize = 50;

/// Opens a connection for each path and asks for it.
pub async fn ask(http: &Http, key: &str, paths: &[String]) -> Vec<TcpStream> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("raises the limit");
    let address = http.url().strip_prefix("http://").expect("http");
    let mut all = Vec::with_capacity(paths.len());
    for some in paths.chunks(AT_ONCE) {
        let asked = some.iter().map(async |path| {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {key}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("asks");
            stream
        });
        all.extend(futures::future::join_all(asked).await);
    }
    all
}

/// Reads until `end` has come, and says what came and when; what comes later is left unread as far as possible.
pub async fn read_to(stream: &mut TcpStream, end: &str) -> (String, Instant) {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await.expect("reads");
        assert!(count > 0, "the connection was closed after {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..count]);
        let read = String::from_utf8_lossy(&text);
        if read.contains(end) {
            return (read.into_owned(), Instant::now());
        }
    }
}
