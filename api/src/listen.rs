//! Connections: how many there may be, and how long one may be silent. axum's own server bounds neither, so a client
//! that opens connections and says nothing could keep everybody else out.
//!
//! HTTP/1.1 only: TLS and HTTP/2 belong to the proxy in front.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::util::MapRequest;

use crate::client::Peer;

/// Wait after a connection could not be accepted, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Most bytes of a connection that are read ahead, and the longest request head.
const READ_BUFFER: usize = 64 * 1024;

/// Closes the connection of a request at once when it is canceled; set for every request of it.
#[derive(Debug, Clone)]
pub struct Hangup(pub CancellationToken);

/// Bounds of connections.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most connections at once; more wait to be accepted.
    pub connections: usize,
    /// Longest time for a request's head to arrive, from the connection's opening or the answer before it.
    pub head: Duration,
}

/// Serves until `draining` is canceled, then lets open requests finish.
pub async fn serve(listener: TcpListener, router: Router, draining: CancellationToken, bounds: Bounds) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let open = GracefulShutdown::new();
    loop {
        let accepted = async {
            // the place comes first: a connection that was accepted and has none would hang without a word
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = draining.cancelled() => break,
            accepted = accepted => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "small answers may be late on this connection");
        }
        let hangup = Hangup(CancellationToken::new());
        let hung_up = hangup.0.clone();
        let service = MapRequest::new(router.clone(), move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(hangup.clone());
            request
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head)
            .max_buf_size(READ_BUFFER)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = open.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                },
                () = hung_up.cancelled() => tracing::debug!("a connection was hung up"),
            }
        });
    }
    drop(listener);
    open.shutdown().await;
}

/// Lets the process open as many files and connections as it is allowed to: shells hand down a lower limit for the sake
/// of old programs.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    async fn start(connections: usize) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, draining) = (listener.local_addr().unwrap(), CancellationToken::new());
        let bounds = Bounds { connections, head: Duration::from_millis(200) };
        tokio::spawn(serve(listener, Router::new().route("/", get(|| async { "hi" })), draining.clone(), bounds));
        (addr, draining)
    }

    async fn ended(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        timeout(SOON, stream.read_to_end(&mut text)).await.expect("it is closed").unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn silent_connections_are_closed() {
        let (addr, _draining) = start(10).await;
        for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            let text = ended(&mut stream).await;
            assert_eq!(text.ends_with("hi"), begun.ends_with("\r\n\r\n"), "{begun:?}: {text}");
        }
    }

    #[tokio::test]
    async fn those_who_wait_get_their_turn() {
        let (addr, draining) = start(1).await;
        let mut silent = TcpStream::connect(addr).await.unwrap();
        let mut next = TcpStream::connect(addr).await.unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(ended(&mut next).await.ends_with("hi"), "once the silent one was closed");
        assert_eq!(ended(&mut silent).await, "");
        draining.cancel();
        timeout(SOON, async { while TcpStream::connect(addr).await.is_ok() {} })
            .await
            .expect("nobody is accepted any more");
    }
}
