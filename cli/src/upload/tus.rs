//! The calls of tus 1.0 that `upload` makes, each tried again while that can help.
//!
//! A call that got no answer, or one that asks for patience (423, 429, 5xx), is made again after a wait; before bytes are
//! sent again the service is asked how many it has. Addresses in answers are used for their last part, the id, only.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Error, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::record::Part;
use crate::client::{Client, asked_pause};
use crate::patience::Patience;
use crate::session::Ended;
use crate::terminal::Share;

const VERSION: &str = "1.0.0";
const UPLOADS: &str = "/api/v1/uploads";
/// Bytes read from the file at once while it is sent.
const CHUNK: usize = 256 * 1024;
/// Longest wait for the answer to a call without bytes.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest wait for parts to be put together, which may mean a copy of all bytes.
const CONCATENATION: Duration = Duration::from_secs(3600);
/// How often that is tried again in one run: a try whose answer was lost may have made a copy of the whole.
const CONCATENATION_TRIES: u32 = 3;
/// A connection that takes no byte for so long is given up.
const STALL: Duration = Duration::from_secs(60);
/// How often that is looked at, and how often an upload is asked whether it is complete.
const LOOK: Duration = Duration::from_secs(1);

/// Why a call did not do what it should.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No answer came.
    Lost(Error),
    /// The service asks for patience.
    Busy {
        /// How long it wants us to wait.
        wait: Option<Duration>,
        /// What it says.
        error: Error,
    },
    /// The service does not have the upload any more.
    Gone(Error),
    /// What the service has is not what the file holds.
    Spoiled(Error),
    /// The service says no.
    Refused(Error),
    /// It is this side's fault: the file, or the place that remembers.
    Here(Error),
}

/// What the service can do.
#[derive(Debug)]
pub(super) struct Service {
    /// Largest upload.
    pub(super) max_bytes: Option<u64>,
    /// Whether uploads can be put together from parts.
    pub(super) concatenates: bool,
}

/// What a new upload is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Creation {
    /// The file.
    Whole,
    /// A part of it.
    Part,
}

impl Trouble {
    /// What to tell the user.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Lost(error) | Self::Busy { error, .. } | Self::Gone(error) => error,
            Self::Spoiled(error) | Self::Refused(error) | Self::Here(error) => error,
        }
    }
}

/// Asks what the service can do. Not tried again: when nothing answers at the very first call, the address is wrong.
pub(super) async fn discover(client: &Client) -> anyhow::Result<Service> {
    let response = client.send(client.request(Method::OPTIONS, UPLOADS).timeout(ANSWER)).await?;
    let headers = response.headers();
    if !text(headers, "tus-version").split(',').any(|version| version.trim() == VERSION) {
        let status = response.status();
        return Err(anyhow!("{} takes no resumable uploads (HTTP {status}); is this an FFprobe API?", client.url()));
    }
    let concatenates = text(headers, "tus-extension").split(',').any(|e| e.trim() == "concatenation");
    Ok(Service { max_bytes: number(headers, "tus-max-size"), concatenates })
}

/// `Upload-Metadata` for a file of this name.
pub(super) fn metadata(name: &str, checksum: Option<&str>) -> String {
    let mut pairs = vec![format!("filename {}", BASE64_STANDARD.encode(name))];
    pairs.extend(checksum.map(|sum| format!("checksum {}", BASE64_STANDARD.encode(sum))));
    pairs.join(",")
}

/// Makes an upload of `length` bytes and returns its id.
pub(super) async fn create(
    client: &Client,
    creation: Creation,
    length: u64,
    metadata: &str,
    patience: Duration,
) -> Result<String, Trouble> {
    let request = || {
        let request = call(client, Method::POST, UPLOADS).header("upload-length", length);
        let request = request.header("upload-metadata", metadata).header("content-length", 0);
        match creation {
            Creation::Whole => request.timeout(ANSWER),
            Creation::Part => request.header("upload-concat", "partial").timeout(ANSWER),
        }
    };
    located(&patiently(client, request, Patience::new(patience)).await?)
}

/// Puts complete parts together and returns the id of the whole. When the answer is lost and the call made again, the
/// first whole stays behind unused, and the service erases it as it does all that nobody uses.
pub(super) async fn concatenate(
    client: &Client,
    parts: &[&str],
    metadata: &str,
    patience: Duration,
) -> Result<String, Trouble> {
    let list: Vec<String> = parts.iter().map(|id| format!("{UPLOADS}/{id}")).collect();
    let list = format!("final;{}", list.join(" "));
    let mut patience = Patience::new(patience);
    let mut tries = 0;
    loop {
        let request = call(client, Method::POST, UPLOADS).header("upload-concat", &list).header("content-length", 0);
        match once(client, request.header("upload-metadata", metadata).timeout(CONCATENATION)).await {
            Ok(response) => return located(&response),
            Err(trouble) if tries == CONCATENATION_TRIES => return Err(trouble),
            Err(trouble) => wait(trouble, &mut patience).await?,
        }
        tries += 1;
    }
}

/// Waits until the service has all of an upload, in which parts may still be put together.
pub(super) async fn await_complete(client: &Client, id: &str, patience: Duration) -> Result<(), Trouble> {
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < CONCATENATION {
        let response = patiently(client, || head(client, id), Patience::new(patience)).await?;
        let headers = response.headers();
        let (offset, length) = (number(headers, "upload-offset"), number(headers, "upload-length"));
        if offset.is_some() && offset == length {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Trouble::Lost(anyhow!("its parts were not put together within {} minutes", CONCATENATION.as_secs() / 60)))
}

/// Erases a part that is not needed any more; the service does it anyway some time later.
pub(super) async fn remove(client: &Client, id: &str) {
    let _ = client.send(call(client, Method::DELETE, &format!("{UPLOADS}/{id}")).timeout(ANSWER)).await;
}

/// Sends a part of the file, from where the service has it to its end.
pub(super) async fn fill(
    client: &Client,
    file: &Path,
    part: &Part,
    share: Share,
    patience: Duration,
) -> Result<(), Trouble> {
    let length = part.end - part.start;
    let mut patience = Patience::new(patience);
    let mut acknowledged = None;
    loop {
        let outcome = match offset(client, &part.id).await {
            Ok(offset) if offset > length => Err(Trouble::Refused(anyhow!(
                "the service has {offset} bytes of a part of {length}; is the URL right?"
            ))),
            Ok(offset) => {
                if acknowledged.is_none() {
                    share.resume(offset);
                }
                share.set(offset);
                if acknowledged.is_some_and(|before| offset > before) {
                    patience.renew();
                }
                acknowledged = Some(offset);
                if offset == length {
                    return Ok(());
                }
                patch(client, file, part, offset, &share).await
            }
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = outcome {
            wait(trouble, &mut patience).await?;
        }
    }
}

/// One PATCH with everything from `offset` on. What it achieved, the next HEAD tells.
async fn patch(client: &Client, path: &Path, part: &Part, offset: u64, share: &Share) -> Result<(), Trouble> {
    let rest = part.end - part.start - offset;
    let body = body(path, part, offset, share.clone()).await.map_err(Trouble::Here)?;
    let request = call(client, Method::PATCH, &format!("{UPLOADS}/{}", part.id))
        .header("content-type", "application/offset+octet-stream")
        .header("upload-offset", offset)
        .header("content-length", rest)
        .body(body);
    tokio::select! {
        answer = once(client, request) => answer.map(|_| ()),
        () = stalled(share) => Err(Trouble::Lost(anyhow!("the connection took no byte for {} s", STALL.as_secs()))),
    }
}

async fn body(path: &Path, part: &Part, offset: u64, share: Share) -> anyhow::Result<Body> {
    let context = || format!("cannot read {}", path.display());
    let mut file = File::open(path).await.with_context(context)?;
    let size = file.metadata().await.with_context(context)?.len();
    if size < part.end {
        return Err(anyhow!("{} became shorter while it was uploaded", path.display()));
    }
    let from = part.start + offset;
    file.seek(std::io::SeekFrom::Start(from)).await.with_context(context)?;
    let mut sent = offset;
    let pieces = ReaderStream::with_capacity(file.take(part.end - from), CHUNK).inspect(move |piece| {
        if let Ok(bytes) = piece {
            sent += bytes.len() as u64;
            share.set(sent);
        }
    });
    Ok(Body::wrap_stream(pieces))
}

/// Ends when no byte was taken for too long.
async fn stalled(share: &Share) {
    let (mut seen, mut since) = (share.get(), tokio::time::Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        if share.get() != seen {
            (seen, since) = (share.get(), tokio::time::Instant::now());
        } else if since.elapsed() > STALL {
            return;
        }
    }
}

/// How many bytes of an upload the service has.
async fn offset(client: &Client, id: &str) -> Result<u64, Trouble> {
    let response = once(client, head(client, id)).await?;
    number(response.headers(), "upload-offset")
        .ok_or_else(|| Trouble::Refused(anyhow!("{} tells no offset; is this an FFprobe API?", client.url())))
}

fn head(client: &Client, id: &str) -> RequestBuilder {
    call(client, Method::HEAD, &format!("{UPLOADS}/{id}")).timeout(ANSWER)
}

fn call(client: &Client, method: Method, path: &str) -> RequestBuilder {
    client.request(method, path).header("tus-resumable", VERSION)
}

/// A call without bytes, made until it is answered for good.
async fn patiently(
    client: &Client,
    request: impl Fn() -> RequestBuilder,
    mut patience: Patience,
) -> Result<Response, Trouble> {
    loop {
        match once(client, request()).await {
            Ok(response) => return Ok(response),
            Err(trouble) => wait(trouble, &mut patience).await?,
        }
    }
}

/// Waits if another try can help, gives the trouble back if not.
async fn wait(trouble: Trouble, patience: &mut Patience) -> Result<(), Trouble> {
    let asked = match &trouble {
        Trouble::Lost(_) => None,
        Trouble::Busy { wait, .. } => *wait,
        _ => return Err(trouble),
    };
    match patience.next(asked) {
        Some(pause) => tokio::time::sleep(pause).await,
        None => return Err(trouble),
    }
    Ok(())
}

async fn once(client: &Client, request: RequestBuilder) -> Result<Response, Trouble> {
    let response = client.send(request).await.map_err(|error| {
        // no patience brings a session back
        if error.is::<Ended>() { Trouble::Refused(error) } else { Trouble::Lost(error) }
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let wait = asked_pause(&response);
    let error = client.refusal(response).await;
    Err(match status.as_u16() {
        404 | 410 => Trouble::Gone(error),
        460 => Trouble::Spoiled(error),
        // the offset has moved, a writer was slow to let go, or the service has trouble of its own
        408 | 409 | 423 | 425 | 429 => Trouble::Busy { wait, error },
        // a full volume does not empty itself while we wait
        507 => Trouble::Refused(error),
        _ if status.is_server_error() => Trouble::Busy { wait, error },
        _ => Trouble::Refused(error),
    })
}

/// The id in a `Location`, whatever host it names.
fn located(response: &Response) -> Result<String, Trouble> {
    let location = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let last = location.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match (response.status(), Uuid::try_parse(last)) {
        (StatusCode::CREATED, Ok(id)) => Ok(id.to_string()),
        _ => Err(Trouble::Refused(anyhow!("the service did not say where the upload is; is this an FFprobe API?"))),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name).parse().ok()
}
