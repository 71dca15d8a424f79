//! Uploads a file by tus 1.0, in parts side by side when it is large, and remembers how far it came.
//!
//! Called by `commands::submit`. Whatever breaks, the bytes that the service has acknowledged are not sent again: not after
//! a lost connection, a restart of the service, or Ctrl-C and another start of `probectl`. It never holds more than some
//! pieces of the file in memory, and never sends the key to an address that an answer names.

mod digest;
mod parts;
mod record;
mod tus;

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use futures::future::try_join_all;
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::record::{Opened, Part, Record};
use self::tus::{Service, Trouble, metadata};
use crate::client::Client;
use crate::terminal::Progress;

/// Beyond this size a file's SHA-256 is made only when asked for: the service may have to read all of it once more.
const CHECKED_BYTES: u64 = 8 << 30;
/// How often an upload that the service no longer has is begun again from the first byte.
const FRESH_STARTS: u32 = 2;

/// Whether the service shall verify the whole file by its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checksum {
    /// For files of at most 8 GiB
    Auto,
    /// Whatever the size
    Always,
    /// Not at all
    Never,
}

/// How to upload.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Parts sent side by side; one for no parts.
    pub parts: u32,
    /// Whether to have the whole file verified.
    pub checksum: Checksum,
    /// Longest time without an acknowledged byte before giving up.
    pub patience: Duration,
    /// Where to remember uploads; `None` remembers nothing.
    pub memory: Option<PathBuf>,
}

/// An upload that the service has completely.
pub struct Uploaded {
    /// Its id at the service.
    pub id: String,
    record: Opened,
}

impl Uploaded {
    /// A word for the request that uses it, the same after a new start, so that repeating the same request is harmless.
    pub fn idempotency_key(&self, request: &Value) -> String {
        let sum = Sha256::digest(request.to_string());
        format!("{}-{:02x}{:02x}{:02x}{:02x}", self.record.word(), sum[0], sum[1], sum[2], sum[3])
    }

    /// Forgets it, once whatever it was uploaded for is done.
    pub fn forget(self) -> Result<()> {
        self.record.forget()
    }
}

/// A file as it was when its upload began.
struct Source {
    path: PathBuf,
    name: String,
    size: u64,
    modified_ns: i128,
}

/// Uploads `path`, or goes on with what an earlier run has begun.
///
/// # Errors
/// What the file or the service says against it. Unless the service refuses the file or no longer has the upload, another
/// call goes on where this one ended.
pub async fn send(client: &Client, path: &Path, settings: &Settings) -> Result<Uploaded> {
    let source = Source::look_at(path)?;
    let service = tus::discover(client).await?;
    if let Some(most) = service.max_bytes.filter(|most| source.size > *most) {
        return Err(anyhow!("it has {} bytes, and the service takes at most {most} (MAX_UPLOAD_BYTES)", source.size));
    }
    let mut record = Record::open(settings.memory.as_deref(), &source.key(client.url()))?;
    let mut fresh_starts = 0;
    loop {
        match attempt(client, &service, &source, settings, &mut record).await {
            Ok(id) => {
                source.check_unchanged().or_else(|changed| record.clear().and(Err(changed)))?;
                return Ok(Uploaded { id, record });
            }
            // expired, or erased by somebody: what was sent is lost
            Err(Trouble::Gone(_)) if fresh_starts < FRESH_STARTS => {
                fresh_starts += 1;
                record.clear()?;
            }
            Err(Trouble::Spoiled(error)) => {
                record.clear()?;
                return Err(error);
            }
            Err(other) => return Err(other.into_error()),
        }
    }
}

impl Source {
    fn look_at(path: &Path) -> Result<Self> {
        let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
        let name = name.to_string_lossy().into_owned();
        let about = File::open(&path)
            .and_then(|file| file.metadata())
            .with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(about.is_file(), "{} is not a regular file; name the file itself", path.display());
        Ok(Self { name, size: about.len(), modified_ns: modified_ns(&about), path })
    }

    /// What tells this upload from others: the file, its state, and where it goes.
    fn key(&self, url: &str) -> String {
        format!("{url}\n{}\n{}\n{}", self.path.display(), self.size, self.modified_ns)
    }

    fn check_unchanged(&self) -> Result<()> {
        let now = std::fs::metadata(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        ensure!(
            now.len() == self.size && modified_ns(&now) == self.modified_ns,
            "{} was changed while it was uploaded; upload it again when it is at rest",
            self.path.display()
        );
        Ok(())
    }
}

fn modified_ns(about: &Metadata) -> i128 {
    i128::from(about.mtime()) * 1_000_000_000 + i128::from(about.mtime_nsec())
}

/// One pass from whatever is there already to a complete upload.
async fn attempt(
    client: &Client,
    service: &Service,
    source: &Source,
    settings: &Settings,
    record: &mut Opened,
) -> Result<String, Trouble> {
    if let Some(id) = record.complete() {
        let id = id.to_owned();
        return tus::await_complete(client, &id, settings.patience).await.map(|()| id);
    }
    let parts = if service.concatenates { settings.parts } else { 1 };
    let wanted = match settings.checksum {
        Checksum::Auto => source.size <= CHECKED_BYTES,
        Checksum::Always => true,
        Checksum::Never => false,
    };
    if record.parts().is_empty() {
        let spans = parts::split(source.size, parts);
        let alone = spans.len() == 1;
        // the last call of several parts carries the checksum, so that it is made while they are sent
        let checksum = if alone && wanted { Some(checksum(source).await?) } else { None };
        let mut made = Vec::new();
        for span in spans {
            let metadata = metadata(&source.name, checksum.as_deref());
            let creation = if alone { tus::Creation::Whole } else { tus::Creation::Part };
            let id = tus::create(client, creation, span.end - span.start, &metadata, settings.patience).await?;
            made.push(Part { id, start: span.start, end: span.end });
        }
        record.begin(made).map_err(Trouble::Here)?;
    }
    let id = match record.parts() {
        [only] => {
            send_parts(client, source, record.parts(), settings).await?;
            only.id.clone()
        }
        several => {
            let sum = async { if wanted { checksum(source).await.map(Some) } else { Ok(None) } };
            let ((), sum) = futures::try_join!(send_parts(client, source, several, settings), sum)?;
            let metadata = metadata(&source.name, sum.as_deref());
            let ids: Vec<&str> = several.iter().map(|part| part.id.as_str()).collect();
            tus::concatenate(client, &ids, &metadata, settings.patience).await?
        }
    };
    tus::await_complete(client, &id, settings.patience).await?;
    let leftover: Vec<String> = record.parts().iter().map(|p| p.id.clone()).filter(|part| *part != id).collect();
    record.finish(&id).map_err(Trouble::Here)?;
    // the service erases them some time later anyway
    for part in leftover {
        tus::remove(client, &part).await;
    }
    Ok(id)
}

async fn checksum(source: &Source) -> Result<String, Trouble> {
    digest::sha256(&source.path).await.map_err(Trouble::Here)
}

/// Sends every part from where the service has it, side by side, while the progress is drawn.
async fn send_parts(client: &Client, source: &Source, parts: &[Part], settings: &Settings) -> Result<(), Trouble> {
    let progress = Arc::new(Progress::new(source.name.clone(), source.size, parts.len()));
    let sending = try_join_all(
        parts
            .iter()
            .enumerate()
            .map(|(number, part)| tus::fill(client, &source.path, part, progress.share(number), settings.patience)),
    );
    let mut sending = pin!(sending);
    let ended = tokio::select! {
        ended = &mut sending => ended.map(|_| ()),
        never = progress.draw() => match never {},
    };
    progress.end();
    ended
}
