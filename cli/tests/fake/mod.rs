//! A small service that takes uploads by tus and is told to misbehave: connections cut in the middle, refusals that ask for
//! patience, uploads forgotten. Holds everything in memory. Used by `uploads.rs`; the real service is tested in `tests/`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a PATCH instead of success.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes, which are kept.
    Cut(usize),
    /// Nothing is taken after so many bytes, which are kept.
    Hang(usize),
    /// This status, with `Retry-After: 1`.
    Status(u16),
}

/// An upload.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upload {
    pub(crate) bytes: Vec<u8>,
    pub(crate) length: usize,
    pub(crate) concat: String,
    pub(crate) metadata: String,
}

/// What the service has and has seen.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) uploads: HashMap<String, Upload>,
    pub(crate) faults: VecDeque<Fault>,
    /// Bytes of files received, the repeated ones too.
    pub(crate) received: usize,
    /// `METHOD status` of every answer.
    pub(crate) calls: Vec<String>,
    /// Idempotency keys of submitted jobs.
    pub(crate) jobs: Vec<String>,
}

/// The running service.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    id: String,
    headers: HashMap<String, String>,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> usize {
        self.header(name).parse().unwrap_or(0)
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let fake = Self { url, state: Arc::default() };
        let serving = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = serving.clone();
                tokio::spawn(async move { fake.serve(BufReader::new(stream)).await });
            }
        });
        fake
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().expect("no panic"))
    }

    async fn serve(&self, mut stream: BufReader<TcpStream>) {
        while let Some(request) = read_head(&mut stream).await {
            let Some((status, headers, body)) = self.answer(&request, &mut stream).await else { return };
            self.with(|s| s.calls.push(format!("{} {status}", request.method)));
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nTus-Resumable: 1.0.0\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
            );
            let answer = if status == 204 { answer.replace("Content-Length: 0\r\n", "") } else { answer };
            if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, request: &Request, stream: &mut BufReader<TcpStream>) -> Option<(u16, String, String)> {
        let none = String::new;
        Some(match request.method.as_str() {
            "OPTIONS" => (200, "Tus-Version: 1.0.0\r\nTus-Extension: creation,concatenation\r\n".into(), none()),
            "POST" if request.id == "jobs" => {
                let mut body = vec![0; request.number("content-length")];
                stream.read_exact(&mut body).await.ok()?;
                self.with(|s| s.jobs.push(request.header("idempotency-key").to_owned()));
                (202, none(), r#"{"id": "j1", "state": "queued", "source": {}}"#.into())
            }
            "POST" => {
                let id = self.create(request);
                // of another host: nothing may be sent there
                (201, format!("Location: https://elsewhere.invalid/api/v1/uploads/{id}\r\n"), none())
            }
            _ if !self.with(|s| s.uploads.contains_key(&request.id)) => (404, none(), none()),
            "HEAD" => {
                let (at, of) = self.with(|s| (s.uploads[&request.id].bytes.len(), s.uploads[&request.id].length));
                (200, format!("Upload-Offset: {at}\r\nUpload-Length: {of}\r\n"), none())
            }
            "DELETE" => (204, none(), self.with(|s| s.uploads.remove(&request.id).map(|_| none()))?),
            _ => self.patch(request, stream).await?,
        })
    }

    fn create(&self, request: &Request) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        let concat = request.header("upload-concat").to_owned();
        let length = request.number("upload-length");
        let mut upload =
            Upload { length, concat, metadata: request.header("upload-metadata").into(), ..Upload::default() };
        self.with(|s| {
            if let Some(parts) = upload.concat.strip_prefix("final;") {
                for part in parts.split(' ') {
                    upload.bytes.extend(&s.uploads[part.rsplit('/').next().expect("an id")].bytes);
                }
                upload.length = upload.bytes.len();
            }
            s.uploads.insert(id.clone(), upload);
        });
        id
    }

    async fn patch(&self, request: &Request, stream: &mut BufReader<TcpStream>) -> Option<(u16, String, String)> {
        let fault = self.with(|s| s.faults.pop_front());
        let (mut left, mut allowed) = (request.number("content-length"), usize::MAX);
        match fault {
            Some(Fault::Status(status)) => {
                // as real servers do: the answer comes before the body was read, and the connection ends
                let head =
                    format!("HTTP/1.1 {status} X\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                stream.get_mut().write_all(head.as_bytes()).await.ok()?;
                tokio::io::copy(stream, &mut tokio::io::sink()).await.ok();
                return None;
            }
            Some(Fault::Cut(bytes) | Fault::Hang(bytes)) => allowed = bytes,
            None => {}
        }
        if request.number("upload-offset") != self.with(|s| s.uploads[&request.id].bytes.len()) {
            return Some((409, String::new(), String::new()));
        }
        let mut piece = vec![0; 64 * 1024];
        while left > 0 {
            if allowed == 0 && matches!(fault, Some(Fault::Hang(_))) {
                std::future::pending::<()>().await;
            }
            let want = left.min(piece.len()).min(allowed);
            let count = if want == 0 { 0 } else { stream.read(&mut piece[..want]).await.ok()? };
            if count == 0 {
                return None;
            }
            (left, allowed) = (left - count, allowed - count);
            self.with(|s| {
                s.received += count;
                s.uploads.get_mut(&request.id).expect("is there").bytes.extend(&piece[..count]);
            });
        }
        let at = self.with(|s| s.uploads[&request.id].bytes.len());
        Some((204, format!("Upload-Offset: {at}\r\n"), String::new()))
    }
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|count| *count > 0)?;
    let (method, rest) = line.split_once(' ')?;
    let id = rest.split([' ', '?']).next()?.rsplit('/').next()?.to_owned();
    let mut request = Request { method: method.to_owned(), id, headers: HashMap::new() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Some(request) };
        request.headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
}
