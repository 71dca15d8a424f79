//! The question that container engines ask a process about itself, through a subcommand of its own binary: so images need
//! neither curl nor a shell. Called by `ffprobe-api healthcheck` and `ffprobe-worker healthcheck`. It reads no setting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most that is read of the answer, in bytes; the status stands in its first line.
const MOST: u64 = 64 * 1024;

/// Asks the server that listens at `listens`, from this machine. An error if it does not answer 200.
pub async fn ask(listens: SocketAddr, path: &str) -> anyhow::Result<()> {
    let ask = async {
        let mut stream = TcpStream::connect(reached_at(listens)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MOST).read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let seconds = PATIENCE.as_secs();
    let answer =
        tokio::time::timeout(PATIENCE, ask).await.with_context(|| format!("no answer within {seconds} s"))??;
    match String::from_utf8_lossy(&answer).split(' ').nth(1) {
        Some("200") => Ok(()),
        other => bail!("not well: HTTP {}", other.unwrap_or("without a status")),
    }
}

/// A server that listens everywhere is reached by loopback.
fn reached_at(mut listens: SocketAddr) -> SocketAddr {
    match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listens.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listens.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listens
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn asked(answer: &'static [u8]) -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let n = stream.read(&mut request).await.unwrap();
            assert!(request[..n].starts_with(b"GET /health/live HTTP/1.1\r\n"));
            stream.write_all(answer).await.unwrap();
        };
        tokio::join!(ask(address, "/health/live"), serve).0
    }

    #[tokio::test]
    async fn only_200_is_well() {
        assert!(asked(b"HTTP/1.1 200 OK\r\n\r\nalive\n").await.is_ok());
        for bad in [&b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..], b"", b"\xff\xfe 20", b"HTTP/1.1"] {
            assert!(asked(bad).await.is_err());
        }
    }

    #[test]
    fn a_server_that_listens_everywhere_is_reached_by_loopback() {
        for (listens, reached) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.7:80", "10.0.0.7:80")]
        {
            assert_eq!(reached_at(listens.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
