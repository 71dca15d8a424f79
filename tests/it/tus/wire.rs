//! A connection that does what no HTTP client would: stops in the middle, says nothing for long, sends too much.

use std::time::Duration;

use tests::{Http, Installation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for a byte of an answer.
const SILENCE: Duration = Duration::from_secs(120);

/// A raw connection to an API.
pub(super) struct Wire(TcpStream);

impl Wire {
    /// Begins a PATCH whose body will have `length` bytes; `None` if nobody takes it.
    pub(super) async fn patch_or_none(
        installation: &Installation,
        http: &Http,
        path: &str,
        at: usize,
        length: usize,
    ) -> Option<Self> {
        let rest = format!(
            "Content-Type: application/offset+octet-stream\r\nUpload-Offset: {at}\r\nContent-Length: {length}\r\n"
        );
        Self::try_head(installation, http, &format!("PATCH {path}"), &rest).await.ok()
    }

    /// Connects and sends the head of a tus request; `rest` are further header lines, each with its line end.
    pub(super) async fn send_head(installation: &Installation, http: &Http, line: &str, rest: &str) -> Self {
        Self::try_head(installation, http, line, rest).await.expect("sends")
    }

    async fn try_head(installation: &Installation, http: &Http, line: &str, rest: &str) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(http.url().trim_start_matches("http://")).await?;
        let head = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\nTus-Resumable: 1.0.0\r\n{rest}\r\n",
            installation.key
        );
        stream.write_all(head.as_bytes()).await?;
        Ok(Self(stream))
    }

    /// Begins a PATCH whose body will have `length` bytes.
    pub(super) async fn patch(installation: &Installation, http: &Http, path: &str, at: usize, length: usize) -> Self {
        let rest = format!(
            "Content-Type: application/offset+octet-stream\r\nUpload-Offset: {at}\r\nContent-Length: {length}\r\n"
        );
        Self::send_head(installation, http, &format!("PATCH {path}"), &rest).await
    }

    /// Sends bytes; what the other side does not take any more is lost.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// Reads the answer's head.
    pub(super) async fn answer(&mut self) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\n") {
            match timeout(SILENCE, self.0.read(&mut byte)).await.expect("the API answers, or closes the connection") {
                Ok(1) => text.push(byte[0]),
                _ => break,
            }
        }
        String::from_utf8(text).expect("text")
    }
}
