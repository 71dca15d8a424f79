//! The objects beside an unfinished upload: its manifest and its pieces. Called by [`super::tail`] and by the bucket itself;
//! knows what they are called and how to write them, and not when.

use axum::body::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use uuid::Uuid;

use super::Bucket;
use super::client::{knows_no_conditions, wrong};
use super::manifest::{Manifest, Piece};
use crate::error::{Code, Error, Result};
use crate::id::UploadId;

const MANIFEST: &str = "manifest";
const PIECES: &str = "pieces";
/// Largest manifest that is read; one of 160 GB has half of this.
const MANIFEST_BYTES: u64 = 8 << 20;

/// A manifest as it lies in the bucket.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) manifest: Manifest,
    /// What the store calls this version of it.
    pub(super) tag: Option<String>,
}

impl Bucket {
    fn manifest_path(&self, id: UploadId) -> Result<Path> {
        self.path(&format!("{id}/{MANIFEST}")).map_err(wrong)
    }

    pub(super) fn piece_path(&self, id: UploadId, name: Uuid) -> Result<Path, StoreError> {
        self.path(&format!("{id}/{PIECES}/{name}"))
    }

    /// The manifest of an upload, if there is one.
    pub(super) async fn manifest(&self, id: UploadId) -> Result<Option<Kept>> {
        let got = match self.store().get(&self.manifest_path(id)?).await {
            Ok(got) if got.meta.size > MANIFEST_BYTES => {
                return Err(Error::internal(format!("the manifest of upload {id} has {} bytes", got.meta.size)));
            }
            Ok(got) => got,
            Err(StoreError::NotFound { path, source }) => {
                let error = StoreError::NotFound { path, source };
                return if error.to_string().contains("NoSuchBucket") { Err(wrong(error)) } else { Ok(None) };
            }
            Err(error) => return Err(wrong(error)),
        };
        let tag = got.meta.e_tag.clone();
        let text = got.bytes().await.map_err(wrong)?;
        let manifest = Manifest::parse(&text)
            .map_err(|problem| Error::internal(format!("the manifest of upload {id} is not readable: {problem}")))?;
        Ok(Some(Kept { manifest, tag }))
    }

    /// Writes the manifest in place of the version called `before`, or where there was none. Returns what this one is called.
    /// Refused if another one lies there by now.
    pub(super) async fn write_manifest(
        &self,
        id: UploadId,
        manifest: &Manifest,
        before: Option<&Kept>,
    ) -> Result<Option<String>> {
        let path = self.manifest_path(id)?;
        let text = Bytes::from(serde_json::to_vec(manifest).map_err(Error::internal)?);
        let put = |mode: PutMode| self.store().put_opts(&path, PutPayload::from(text.clone()), mode.into());
        if self.is_conditional() {
            let mode = match before.map(|kept| kept.tag.clone()) {
                None => Some(PutMode::Create),
                Some(Some(tag)) => Some(PutMode::Update(UpdateVersion { e_tag: Some(tag), version: None })),
                // a store that gives no tags has nothing to compare
                Some(None) => None,
            };
            if let Some(mode) = mode {
                match put(mode).await {
                    Ok(done) => return Ok(done.e_tag),
                    Err(StoreError::Precondition { .. } | StoreError::AlreadyExists { .. }) => {
                        return self.write_over_own(id, manifest, text.into()).await;
                    }
                    Err(error) if knows_no_conditions(&error) => self.forget_conditions(),
                    Err(error) => return Err(wrong(error)),
                }
            }
        }
        let there = self.manifest(id).await?;
        let same =
            |a: &Kept, b: &Kept| (a.manifest.writer, a.manifest.version) == (b.manifest.writer, b.manifest.version);
        match (&there, before) {
            (None, None) => {}
            (Some(there), Some(before)) if same(there, before) => {}
            _ => return Err(lost()),
        }
        put(PutMode::Overwrite).await.map(|done| done.e_tag).map_err(wrong)
    }

    /// A refused write may stand behind one of our own whose answer was lost: that one, or one before it.
    async fn write_over_own(&self, id: UploadId, manifest: &Manifest, text: PutPayload) -> Result<Option<String>> {
        match self.manifest(id).await? {
            Some(there) if there.manifest == *manifest => Ok(there.tag),
            Some(there) if there.manifest.writer == manifest.writer => {
                let mode = PutMode::Update(UpdateVersion { e_tag: there.tag, version: None });
                let done = self.store().put_opts(&self.manifest_path(id)?, text, mode.into()).await;
                done.map(|done| done.e_tag).map_err(|error| match error {
                    StoreError::Precondition { .. } | StoreError::AlreadyExists { .. } => lost(),
                    other => wrong(other),
                })
            }
            _ => Err(lost()),
        }
    }

    pub(super) async fn write_piece(&self, id: UploadId, name: Uuid, bytes: PutPayload) -> Result<()> {
        let path = self.piece_path(id, name).map_err(wrong)?;
        self.store().put(&path, bytes).await.map(drop).map_err(wrong)
    }

    /// The bytes of a piece that count.
    pub(super) async fn read_piece(&self, id: UploadId, piece: Piece) -> Result<Bytes> {
        let path = self.piece_path(id, piece.name).map_err(wrong)?;
        let bytes = self.read(&path, 0, piece.bytes).await.map_err(wrong)?;
        if bytes.len() as u64 == piece.bytes {
            return Ok(bytes);
        }
        Err(Error::internal(format!("a piece of upload {id} has {} bytes, not {}", bytes.len(), piece.bytes)))
    }

    /// Erases pieces that nothing names any more. What is not erased now goes with the upload.
    pub(super) async fn remove_pieces(&self, id: UploadId, names: Vec<Uuid>) {
        let this = self.clone();
        let paths = futures::stream::iter(names).map(move |name| this.piece_path(id, name)).boxed();
        if let Err(error) = self.store().delete_stream(paths).try_for_each(|_| async { Ok(()) }).await {
            tracing::debug!(%error, upload.id = %id, "some pieces go with their upload");
        }
    }

    /// Erases everything beside the bytes of a complete upload: pieces first, because the manifest tells of the rest.
    pub(super) async fn remove_side(&self, id: UploadId) -> Result<()> {
        for rest in [format!("{id}/{PIECES}"), format!("{id}/{MANIFEST}")] {
            let path = self.path(&rest).map_err(wrong)?;
            if rest.ends_with(MANIFEST) {
                match self.store().delete(&path).await {
                    Ok(()) | Err(StoreError::NotFound { .. }) => continue,
                    Err(error) => return Err(wrong(error)),
                }
            }
            let found = self.store().list(Some(&path)).map_ok(|object| object.location).boxed();
            self.store().delete_stream(found).try_for_each(|_| async { Ok(()) }).await.map_err(wrong)?;
        }
        Ok(())
    }
}

/// Another process has the upload.
pub(super) fn lost() -> Error {
    Error::new(Code::UploadLocked, "Another request has the upload. Try again in some seconds.")
}
