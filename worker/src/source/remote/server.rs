//! The range server: hands one remote object to the jailed ffprobe under one address with a random token, on loopback.
//! Made by `Remote`. Knows nothing of other objects; reads from the origin only as fast as its client takes the bytes,
//! and stops when the client is gone.

use std::convert::Infallible;
use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt, try_unfold};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_socket_send_buffer_size;
use shared::job::FailureCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::fault::Fault;
use super::fetch::Fetch;
use super::range::{Wanted, wanted};

/// Connections at once. ffprobe opens a new one for each seek and drops the old one just before or after.
const CONNECTIONS: usize = 4;
/// Longest time for a request's head to arrive.
const HEAD: Duration = Duration::from_secs(5);
/// Largest request head; ffprobe's has about 200 bytes.
const HEAD_BYTES: usize = 8 * 1024;
/// Bytes the kernel keeps for a client: enough for a scan to stream, little to throw away when ffprobe seeks.
const SEND_BUFFER: usize = 128 * 1024;
/// Wait after a connection could not be accepted, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Answer = Response<StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>>;

/// A running range server. It ends, with its connections, when this is dropped.
#[derive(Debug)]
pub struct Served {
    /// The path of the object's address, the same on every listener. Only ffprobe learns it.
    pub path: Arc<str>,
    /// Its port, the only one ffprobe needs.
    pub port: u16,
    task: AbortHandle,
}

#[cfg(test)]
impl Served {
    /// The whole address.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.path)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on a free port of this machine's loopback.
pub(super) fn listen() -> io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

/// Serves on a listener, which must be on loopback, perhaps that of another network namespace.
pub(super) fn serve(fetch: Arc<Fetch>, listener: std::net::TcpListener) -> io::Result<Served> {
    let addr = listener.local_addr()?;
    if !addr.ip().is_loopback() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the range server listens on loopback only"));
    }
    // accepted connections inherit it
    set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let path = Arc::clone(&fetch.path);
    let task = tokio::spawn(accept(fetch, listener, Arc::clone(&path))).abort_handle();
    Ok(Served { path, port: addr.port(), task })
}

async fn accept(fetch: Arc<Fetch>, listener: TcpListener, path: Arc<str>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // the connections end with this task
    let mut open = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = open.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (fetch, path) = (Arc::clone(&fetch), Arc::clone(&path));
                open.spawn(async move {
                    let _place = place;
                    converse(fetch, stream, peer, path).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the range server could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(fetch: Arc<Fetch>, stream: TcpStream, peer: SocketAddr, path: Arc<str>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "small answers may be late on this connection");
    }
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&fetch, &request, &path);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        // the usual end: ffprobe has what it wanted
        tracing::trace!(%error, %peer, "a connection of ffprobe ended early");
    }
}

fn answer(fetch: &Arc<Fetch>, request: &Request<Incoming>, path: &str) -> Answer {
    if !same(request.uri().path(), path) || request.uri().query().is_some() {
        return empty(StatusCode::NOT_FOUND);
    }
    let is_head = request.method() == Method::HEAD;
    if !is_head && request.method() != Method::GET {
        let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
        answer.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    if fetch.fault().is_some() {
        return empty(StatusCode::SERVICE_UNAVAILABLE);
    }
    let size = fetch.object.size_bytes;
    let ranges: Vec<_> = request.headers().get_all(RANGE).iter().collect();
    let range = match ranges[..] {
        // a range means something to GET only
        [] => Wanted::Whole,
        _ if is_head => Wanted::Whole,
        [range] => range.to_str().map_or(Wanted::Unsatisfiable, |range| wanted(Some(range), size)),
        _ => Wanted::Unsatisfiable,
    };
    let (status, from, until) = match range {
        Wanted::Whole => (StatusCode::OK, 0, size),
        Wanted::Part(from, until) => (StatusCode::PARTIAL_CONTENT, from, until),
        Wanted::Unsatisfiable => return headed(StatusCode::RANGE_NOT_SATISFIABLE, 0, Some(format!("*/{size}")), None),
    };
    let told = (status == StatusCode::PARTIAL_CONTENT).then(|| format!("{from}-{}/{size}", until - 1));
    let body = (!is_head).then(|| bytes(Arc::clone(fetch), from, until));
    headed(status, until - from, told, body)
}

/// Whether two texts are the same, in a time that does not tell where they differ: the token is all that keeps other
/// processes of this machine out.
fn same(one: &str, other: &str) -> bool {
    let pairs = one.bytes().zip(other.bytes());
    let difference = pairs.fold(0, |seen, (a, b)| black_box(seen | (a ^ b)));
    one.len() == other.len() && difference == 0
}

fn bytes(fetch: Arc<Fetch>, from: u64, until: u64) -> BoxStream<'static, io::Result<Frame<Bytes>>> {
    try_unfold((fetch, from), move |(fetch, at)| async move {
        if at >= until {
            return Ok(None);
        }
        let mut bytes = match fetch.at(at).await {
            Ok(bytes) => bytes,
            Err(fault) => return Err(give_up(&fetch, fault).await),
        };
        bytes.truncate(usize::try_from(until - at).unwrap_or(usize::MAX));
        let at = at + bytes.len() as u64;
        Ok(Some((Frame::data(bytes), (fetch, at))))
    })
    .boxed()
}

/// Breaks an answer off. A budget that is spent on bytes sent ahead, which ffprobe never reads, is nobody's failure: it
/// counts once ffprobe has had the time to finish and is still there.
async fn give_up(fetch: &Fetch, fault: Fault) -> io::Error {
    if fault.code == FailureCode::BudgetExceeded {
        tokio::time::sleep(fetch.bounds.spent_grace).await;
    }
    let error = io::Error::other(fault.message.clone());
    fetch.blame(fault);
    error
}

fn empty(status: StatusCode) -> Answer {
    headed(status, 0, None, None)
}

fn headed(
    status: StatusCode,
    length: u64,
    range: Option<String>,
    body: Option<BoxStream<'static, io::Result<Frame<Bytes>>>>,
) -> Answer {
    let body = StreamBody::new(body.unwrap_or_else(|| futures::stream::empty().boxed()));
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(ACCEPT_RANGES, hyper::header::HeaderValue::from_static("bytes"));
    // says nothing about the format: only the bytes do
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/octet-stream"));
    if let Some(Ok(range)) = range.map(|r| format!("bytes {r}").try_into()) {
        headers.insert(CONTENT_RANGE, range);
    }
    answer
}
