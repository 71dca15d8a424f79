//! The bytes of a claimed job, wherever they are, in one shape: a file of this machine, or a remote object that the worker
//! reads itself and serves to ffprobe on loopback. Called by [`super::examine`]; decodes nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::id::UploadId;
use shared::job::source::UrlTarget;
use shared::job::{Claim, Failure, FailureCode, Profile, Source};
use shared::storage::Place;
use shared::{completeness, egress};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::Worker;
use crate::jail::{self, Loopback};
use crate::source::remote::{Account, Bounds, Origin, Reader, Remote, S3Origin, Served, UrlOrigin};
use crate::source::{self, OpenInput};

/// Opening a file takes this long only on a mount that is dead.
const OPEN_PATIENCE: Duration = Duration::from_secs(15);
/// Most bytes that a look at the headers takes of a remote object: 50 GB files were described with under 20 MB.
const LOOK_BYTES: u64 = 1 << 30;
/// Most bytes that a look at some frames takes of a remote object.
const FRAMES_BYTES: u64 = 16 << 30;

/// An open input.
pub(super) struct Input {
    /// What tells these bytes from all others of the tenant; none for remote objects, which may change unseen.
    pub(super) identity: Option<String>,
    /// The client's name for it, without directories.
    pub(super) name: String,
    /// Bytes it has.
    pub(super) size: u64,
    bytes: Whereabouts,
}

enum Whereabouts {
    Local(File),
    Remote { remote: Remote, served: Served, inside: Arc<Mutex<Vec<Served>>> },
}

impl Input {
    /// Opens the job's bytes. `cancel` ends every read of a remote object.
    pub(super) async fn open(worker: &Worker, claim: &Claim, cancel: &CancellationToken) -> Result<Self, Failure> {
        let origin: Arc<dyn Origin> = match &claim.job.source {
            Source::Upload { id } => match worker.storage.place(*id) {
                Place::File(_) => return Ok(Self::local(open_file(worker, claim).await?, upload(claim, *id))),
                Place::Object { profile, bucket, key } => Arc::new(S3Origin::new(profile, bucket, &key)?),
            },
            Source::Path { .. } => {
                let file = open_file(worker, claim).await?;
                let identity = identity(&file.file).await.unwrap_or_default();
                return Ok(Self::local(file, identity));
            }
            Source::Url { .. } => Arc::new(url_origin(worker, claim)?),
            Source::S3 { profile, bucket, key } => {
                let known = worker.remotes.s3.iter().find(|p| p.name == *profile);
                let known = known.ok_or_else(|| {
                    Failure::new(
                        FailureCode::WorkerMisconfigured,
                        format!("This worker has no S3 profile '{profile}'."),
                    )
                })?;
                Arc::new(S3Origin::new(known, bucket, key)?)
            }
        };
        let remote = match Remote::open(origin, bounds(worker, claim), cancel.clone()).await {
            Ok(remote) => remote,
            Err(failure) => return Err(of_upload(worker, claim, failure).await),
        };
        let served = remote.serve().map_err(|error| {
            tracing::error!(%error, "no range server on loopback");
            Failure::new(FailureCode::WorkerMisconfigured, "The worker could not listen on its loopback.")
        })?;
        let (name, size) = (remote.object().name.clone(), remote.object().size_bytes);
        // an upload never changes, wherever it lies
        let (identity, name) = match &claim.job.source {
            Source::Upload { id } => (Some(upload(claim, *id)), claim.upload_name.clone().unwrap_or(name)),
            _ => (None, name),
        };
        Ok(Self { identity, name, size, bytes: Whereabouts::Remote { remote, served, inside: Arc::default() } })
    }

    fn local(input: OpenInput, identity: String) -> Self {
        let identity = Some(identity).filter(|i| !i.is_empty());
        Self { identity, name: input.name, size: input.size, bytes: Whereabouts::Local(input.file) }
    }

    /// Whether the file is another one by now than when it was opened.
    pub(super) async fn has_changed(&self) -> bool {
        match (&self.bytes, &self.identity) {
            (Whereabouts::Local(file), Some(before)) if before.starts_with(FILE) => {
                identity(file).await.as_ref() != Some(before)
            }
            _ => false,
        }
    }

    /// The input as one run of ffprobe gets it.
    pub(super) fn for_jail(&self) -> Result<jail::Input, Failure> {
        match &self.bytes {
            Whereabouts::Local(file) => file.try_clone().map(jail::Input::File).map_err(|error| {
                tracing::error!(%error, "the input cannot be handed on");
                Failure::new(FailureCode::WorkerMisconfigured, "The worker has no descriptor left.")
            }),
            Whereabouts::Remote { remote, served, inside } => {
                let (remote, inside) = (remote.clone(), Arc::clone(inside));
                let serve_on = move |listener| {
                    let served = remote.serve_on(listener)?;
                    inside.lock().unwrap_or_else(PoisonError::into_inner).push(served);
                    Ok(())
                };
                let (port, path) = (served.port, served.path.to_string());
                Ok(jail::Input::Loopback(Loopback { port, path, serve_on: Arc::new(serve_on) }))
            }
        }
    }

    /// The remote object, if it is one.
    pub(super) fn remote(&self) -> Option<&Remote> {
        match &self.bytes {
            Whereabouts::Local(_) => None,
            Whereabouts::Remote { remote, .. } => Some(remote),
        }
    }

    /// What reading a remote object cost, for the result.
    pub(super) fn account(&self) -> Option<Account> {
        self.remote().map(Remote::account)
    }

    /// Whether the file is all there. Where that cannot be read, or not before the job's time is over at `until`, nothing is
    /// said about it: the probe's own outcome stands.
    pub(super) async fn completeness(&self, until: Option<Instant>) -> Option<completeness::Completeness> {
        let mut bytes: Box<dyn completeness::Bytes + Send> = match &self.bytes {
            Whereabouts::Local(file) => Box::new(LocalBytes { file: file.try_clone().ok()?, size: self.size }),
            Whereabouts::Remote { remote, .. } => Box::new(RemoteBytes(remote.reader())),
        };
        let judging = tokio::task::spawn_blocking(move || completeness::judge(bytes.as_mut()));
        let patience = Instant::now() + OPEN_PATIENCE;
        match timeout_at(until.map_or(patience, |until| until.min(patience)), judging).await {
            Ok(Ok(Ok(verdict))) => Some(verdict),
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "the headers could not be read again; completeness is not known");
                None
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "judging completeness broke off");
                None
            }
            Err(_) => {
                tracing::warn!("reading the headers again took too long; completeness is not known");
                None
            }
        }
    }
}

/// What tells the bytes of an upload from all others: their SHA-256 where it is known, else that it is this upload.
fn upload(claim: &Claim, id: UploadId) -> String {
    match &claim.upload_sha256 {
        Some(sha256) => format!("sha256 {}", sha256.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        None => format!("upload {id}"),
    }
}

/// How the identity of a file in a media root begins.
const FILE: &str = "file ";

/// What tells a file and its content from all others, short of reading it. None if the file system does not say.
async fn identity(file: &File) -> Option<String> {
    let file = file.try_clone().ok()?;
    let looking = tokio::task::spawn_blocking(move || {
        let m = file.metadata().ok()?;
        let changed = (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        Some(format!("{FILE}{} {} {} {changed:?}", m.dev(), m.ino(), m.len()))
    });
    timeout(OPEN_PATIENCE, looking).await.ok()?.ok()?
}

struct LocalBytes {
    file: File,
    size: u64,
}

impl completeness::Bytes for LocalBytes {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(into, offset)
    }
}

struct RemoteBytes(Reader);

impl completeness::Bytes for RemoteBytes {
    fn len(&self) -> u64 {
        self.0.size_bytes()
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, into)
    }
}

/// How much of a remote object one attempt may take: what the operator allows, the profile needs, and the job's budget says.
fn bounds(worker: &Worker, claim: &Claim) -> Bounds {
    let usual = match claim.job.profile {
        Profile::Quick | Profile::Standard => LOOK_BYTES,
        Profile::Frames => FRAMES_BYTES,
        Profile::Packets => u64::MAX,
    };
    let budget = claim.job.options.budget.max_read_bytes.unwrap_or(u64::MAX);
    Bounds::new(usual.min(budget).min(worker.remotes.most_bytes), worker.remotes.spool_dir.clone())
}

fn url_origin(worker: &Worker, claim: &Claim) -> Result<UrlOrigin, Failure> {
    let internal = |message: &str| Failure::new(FailureCode::Internal, message);
    let sealed = claim.sealed.as_deref().ok_or_else(|| internal("The job names a URL, but holds none."))?;
    let plain = worker.keys.open(claim.job.tenant, sealed).map_err(|error| {
        tracing::error!(%error, "the URL of a job does not open");
        let code = FailureCode::WorkerMisconfigured;
        Failure::new(code, "The worker cannot decrypt the job's URL: its ENCRYPTION_KEYS are not those of the API.")
    })?;
    let target: UrlTarget = serde_json::from_slice(&plain).map_err(|_| internal("The job's URL is not readable."))?;
    // what passed at submission may be forbidden by now
    let refused = |e: egress::Refused| Failure::new(FailureCode::UrlNotAllowed, e.to_string());
    let url = egress::parse(&target.url).map_err(refused)?;
    let pairs = target.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers = egress::headers::check(pairs).map_err(refused)?;
    Ok(UrlOrigin::new(Arc::clone(&worker.remotes.egress), url, headers))
}

/// What a failure to open means if it is an upload that was to be opened: the storage that went away since the claim is not
/// the upload's end.
async fn of_upload(worker: &Worker, claim: &Claim, failure: Failure) -> Failure {
    let is_gone = matches!(failure.code, FailureCode::UploadGone | FailureCode::RemoteNotFound);
    if !is_gone || !matches!(claim.job.source, Source::Upload { .. }) {
        return failure;
    }
    if !worker.sees_uploads().await {
        let message =
            "The upload storage is not there on this worker; perhaps a volume is not mounted, or a bucket is gone.";
        return Failure::new(FailureCode::StorageError, message);
    }
    let name = claim.upload_name.as_deref().unwrap_or_default();
    Failure::new(FailureCode::UploadGone, format!("The bytes of '{name}' are not stored any more."))
}

/// Opens a file of this machine. Off the runtime's threads: a dead network mount blocks.
async fn open_file(worker: &Worker, claim: &Claim) -> Result<OpenInput, Failure> {
    let job = &claim.job;
    let opening: Box<dyn FnOnce() -> Result<OpenInput, Failure> + Send> = match (&job.source, &job.located) {
        (Source::Upload { id }, _) => {
            let Place::File(path) = worker.storage.place(*id) else {
                return Err(Failure::new(FailureCode::Internal, "The upload is no file."));
            };
            let name = claim.upload_name.clone().unwrap_or_default();
            Box::new(move || source::upload::open(&path, &name))
        }
        (_, Some(located)) => {
            let (roots, located) = (worker.roots.clone(), located.clone());
            Box::new(move || source::path::open_beneath(&roots, &located))
        }
        (_, None) => {
            return Err(Failure::new(FailureCode::Internal, "The job names a path, but no place to look for it."));
        }
    };
    match timeout(OPEN_PATIENCE, tokio::task::spawn_blocking(opening)).await {
        Ok(Ok(Err(failure))) => Err(of_upload(worker, claim, failure).await),
        Ok(Ok(opened)) => opened,
        Ok(Err(_)) => Err(Failure::new(FailureCode::Internal, "Opening the input broke off.")),
        Err(_) => {
            Err(Failure::new(FailureCode::StorageError, "Opening the input took too long; its mount may be dead."))
        }
    }
}
