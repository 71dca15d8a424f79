//! A bucket as the storage of uploads: `PREFIX/ID/data` once all bytes are there, until then pieces, a multipart upload and
//! a manifest beside them, from which any process goes on. An object `installation` marks whose storage it is.
//!
//! Two writers: the hold in PostgreSQL decides who moves the offset. Whoever takes the upload over writes the manifest anew;
//! each write of it names the version it replaces, so that one who comes late is refused by the store, and begins no part.

mod begun;
mod client;
mod manifest;
mod part;
mod side;
mod tail;

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};
use tokio::runtime::Handle;
use tokio::time::timeout;

use self::client::{at_start, wrong};
use crate::config::S3Place;
use crate::error::{Error, Result};
use crate::id::{InstallationId, UploadId};
use crate::upload::Hasher;

pub(super) use tail::Tail;

/// Largest upload that a bucket takes.
pub(super) const MOST_BYTES: u64 = manifest::PART_BYTES * manifest::PARTS_MAX;

const MARKER: &str = "installation";
const DATA: &str = "data";
/// Longest look at the marker.
const LOOK: Duration = Duration::from_secs(2);
/// Longest marker that is read.
const MARKER_BYTES: u64 = 256;

/// Bytes on their way from the store.
type Stream = BoxStream<'static, object_store::Result<Bytes>>;

/// A place in a bucket. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: AmazonS3,
    /// For what the library cannot ask.
    client: reqwest::Client,
    place: S3Place,
    memory: Arc<part::Memory>,
    /// The store said that it knows no conditions on writes.
    unconditional: AtomicBool,
}

impl Bucket {
    pub(super) fn new(place: S3Place) -> io::Result<Self> {
        let (store, client) = client::connect(&place.profile, &place.bucket)?;
        let memory = Arc::new(part::Memory::new());
        Ok(Self(Arc::new(Inner { store, client, place, memory, unconditional: AtomicBool::new(false) })))
    }

    pub(super) fn place(&self) -> &S3Place {
        &self.0.place
    }

    fn store(&self) -> &AmazonS3 {
        &self.0.store
    }

    fn client(&self) -> &reqwest::Client {
        &self.0.client
    }

    fn memory(&self) -> &Arc<part::Memory> {
        &self.0.memory
    }

    fn is_conditional(&self) -> bool {
        !self.0.unconditional.load(Ordering::Relaxed)
    }

    fn forget_conditions(&self) {
        tracing::warn!(
            "the store of uploads knows no conditions on writes; only the hold in PostgreSQL keeps writers apart"
        );
        self.0.unconditional.store(true, Ordering::Relaxed);
    }

    fn path(&self, rest: &str) -> Result<Path, StoreError> {
        Ok(Path::parse(self.0.place.key(rest))?)
    }

    fn data(&self, id: UploadId) -> Result<Path, StoreError> {
        self.path(&format!("{id}/{DATA}"))
    }

    /// The key of the bytes of a complete upload.
    pub(super) fn data_key(&self, id: UploadId) -> String {
        self.0.place.key(&format!("{id}/{DATA}"))
    }

    pub(super) async fn mark(&self, installation: InstallationId) -> io::Result<()> {
        let path = self.path(MARKER).map_err(at_start)?;
        let check = |text: &str| match text.trim() {
            id if id == installation.to_string() => Ok(()),
            id => {
                let problem = format!("{} belongs to another installation ({id})", self.0.place);
                Err(io::Error::new(ErrorKind::AlreadyExists, problem))
            }
        };
        match self.marker().await {
            Ok(text) => return check(&text),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(at_start(error)),
        }
        let put = |mode: PutMode| {
            let text = PutPayload::from(format!("{installation}\n"));
            self.store().put_opts(&path, text, mode.into())
        };
        let marked = match put(PutMode::Create).await {
            Err(error) if client::knows_no_conditions(&error) => {
                self.forget_conditions();
                put(PutMode::Overwrite).await
            }
            other => other,
        };
        match marked {
            Ok(_) => Ok(()),
            // another API began at the same time
            Err(StoreError::AlreadyExists { .. }) => check(&self.marker().await.map_err(at_start)?),
            Err(error) => Err(at_start(error)),
        }
    }

    /// Whether the marker can be read and is ours, within [`LOOK`]. Blocks, and needs the runtime.
    pub(super) fn belongs_to(&self, installation: InstallationId) -> bool {
        let look = async { timeout(LOOK, self.marker()).await };
        matches!(Handle::current().block_on(look), Ok(Ok(text)) if text.trim() == installation.to_string())
    }

    /// Whether the marker can be read, within [`LOOK`]. Blocks, and needs the runtime.
    pub(super) fn is_there(&self) -> bool {
        matches!(Handle::current().block_on(async { timeout(LOOK, self.marker()).await }), Ok(Ok(_)))
    }

    async fn marker(&self) -> Result<String, StoreError> {
        let got = self.read(&self.path(MARKER)?, 0, MARKER_BYTES).await?;
        Ok(String::from_utf8_lossy(&got).into_owned())
    }

    /// Bytes `at..at + most` of an object, or up to its end.
    async fn read(&self, path: &Path, at: u64, most: u64) -> Result<Bytes, StoreError> {
        let range = Some(GetRange::Bounded(at..at.saturating_add(most)));
        self.store().get_opts(path, GetOptions { range, ..GetOptions::default() }).await?.bytes().await
    }

    /// The complete upload, if it is.
    async fn sealed(&self, id: UploadId) -> Result<Option<ObjectMeta>> {
        match self.store().head(&self.data(id).map_err(wrong)?).await {
            Ok(meta) => Ok(Some(meta)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(wrong(error)),
        }
    }

    pub(super) async fn create(&self, id: UploadId) -> Result<Tail> {
        Tail::create(self.clone(), id).await
    }

    pub(super) async fn append(&self, id: UploadId, received: u64) -> Result<(Tail, u64)> {
        Tail::take(self.clone(), id, received).await
    }

    pub(super) async fn stored(&self, id: UploadId, received: u64) -> Result<u64> {
        let stored = match self.sealed(id).await? {
            Some(data) => data.size,
            None => self.manifest(id).await?.map_or(0, |kept| kept.manifest.end()),
        };
        Ok(stored.min(received))
    }

    pub(super) async fn exists(&self, id: UploadId) -> Result<bool> {
        Ok(self.sealed(id).await?.is_some() || self.manifest(id).await?.is_some())
    }

    /// Turns what was received into one object, exactly once: repeating it finds the object and is content.
    pub(super) async fn complete(&self, id: UploadId, size: u64) -> Result<()> {
        if !self.is_sealed_with(id, size).await? {
            let (tail, at) = self.append(id, size).await?;
            if at != size {
                return Err(Error::internal(format!("{at} bytes of upload {id} are stored, its row says {size}")));
            }
            if let Err(error) = tail.seal().await
                && !self.is_sealed_with(id, size).await?
            {
                return Err(error);
            }
        }
        if size >= manifest::PART_BYTES {
            self.give_up_begun(id).await;
        }
        if let Err(error) = self.remove_side(id).await {
            tracing::debug!(%error, upload.id = %id, "what lies beside a complete upload goes with it");
        }
        Ok(())
    }

    async fn is_sealed_with(&self, id: UploadId, size: u64) -> Result<bool> {
        match self.sealed(id).await? {
            Some(data) if data.size == size => Ok(true),
            Some(data) => {
                Err(Error::internal(format!("the object of upload {id} has {} bytes, its row says {size}", data.size)))
            }
            None => Ok(false),
        }
    }

    async fn seal_parts(&self, id: UploadId, multipart: &String, parts: Vec<PartId>) -> Result<()> {
        let path = self.data(id).map_err(wrong)?;
        match self.store().complete_multipart(&path, multipart, parts).await {
            Ok(_) => Ok(()),
            // a writer that had lost the upload was in the middle of a part that is not the one that counts
            Err(error) if error.to_string().contains("InvalidPart") => {
                Err(Error::internal(format!("a part of upload {id} was overwritten: {error}")))
            }
            Err(error) => Err(wrong(error)),
        }
    }

    pub(super) async fn head(&self, id: UploadId, most: usize) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        let mut bytes = self.stream(id, 0, most as u64).await?;
        while let Some(chunk) = bytes.try_next().await.map_err(wrong)? {
            head.extend_from_slice(&chunk);
        }
        Ok(head)
    }

    pub(super) async fn digest(&self, id: UploadId, at: u64, most: u64, mut hasher: Hasher) -> Result<(Hasher, u64)> {
        let (mut done, mut bytes) = (0, self.stream(id, at, most).await?);
        while let Some(chunk) = bytes.try_next().await.map_err(wrong)? {
            hasher.update(&chunk);
            done += chunk.len() as u64;
        }
        Ok((hasher, done))
    }

    /// Up to `most` bytes of an upload from `at` on; none beyond its end. Of an unfinished one those that pieces still hold.
    async fn stream(&self, id: UploadId, at: u64, most: u64) -> Result<Stream> {
        let end = at.saturating_add(most);
        let mut ranges = Vec::new();
        if let Some(data) = self.sealed(id).await? {
            ranges.push((data.location, at..end.min(data.size)));
        } else if let Some(kept) = self.manifest(id).await? {
            for piece in kept.manifest.pieces_of(at, end) {
                let range = at.saturating_sub(piece.at)..end.min(piece.end()) - piece.at;
                ranges.push((self.piece_path(id, piece.name).map_err(wrong)?, range));
            }
        }
        let this = self.clone();
        let read = move |(path, range): (Path, Range<u64>)| {
            let this = this.clone();
            async move {
                let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
                this.store().get_opts(&path, options).await.map(GetResult::into_stream)
            }
        };
        // an empty range cannot be asked for
        let ranges = ranges.into_iter().filter(|(_, range)| range.start < range.end);
        Ok(futures::stream::iter(ranges).then(read).try_flatten().boxed())
    }

    pub(super) async fn remove(&self, id: UploadId) -> Result<()> {
        if let Some(kept) = self.manifest(id).await? {
            if let Some(multipart) = &kept.manifest.multipart {
                self.give_up(id, multipart).await?;
            }
            self.give_up_begun(id).await;
        }
        self.remove_side(id).await?;
        match self.store().delete(&self.data(id).map_err(wrong)?).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(wrong(error)),
        }
    }

    async fn give_up(&self, id: UploadId, multipart: &String) -> Result<()> {
        match self.store().abort_multipart(&self.data(id).map_err(wrong)?, multipart).await {
            // it is complete, or given up already
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(wrong(error)),
        }
    }

    /// Every upload has an object from its beginning on, so no look at unfinished multipart uploads is needed.
    pub(super) async fn list(&self, age: Duration) -> Result<Vec<UploadId>> {
        let place = &self.0.place;
        let prefix = (!place.prefix.is_empty()).then(|| Path::parse(&place.prefix)).transpose();
        let prefix = prefix.map_err(|e| wrong(e.into()))?;
        let mut objects = self.store().list(prefix.as_ref());
        let mut found: Vec<UploadId> = Vec::new();
        while let Some(object) = objects.next().await {
            let object = object.map_err(wrong)?;
            let rest = object.location.as_ref().strip_prefix(place.prefix.as_str()).unwrap_or_default();
            let Some((id, _)) = rest.trim_start_matches('/').split_once('/') else { continue };
            let Ok(id) = id.parse() else { continue };
            let written = SystemTime::from(object.last_modified);
            // objects come in the order of their keys
            if found.last() != Some(&id) && written.elapsed().is_ok_and(|since| since > age) {
                found.push(id);
            }
        }
        Ok(found)
    }
}
