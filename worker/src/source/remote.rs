//! Remote objects: how a worker reads what lies on a web server or in an S3 bucket. The worker makes the requests; the
//! jailed ffprobe sees a range server on loopback and never the client's URL. Called by the worker's probe.
//!
//! `origin` says what a place to read from is, with `url` and `s3`; `fetch` reads from one, within `bounds`; `server` and
//! `reader` hand the bytes out.

mod answer;
mod bounds;
mod cache;
mod fault;
mod fetch;
mod meter;
mod name;
mod origin;
mod patience;
mod range;
mod reader;
mod run;
mod s3;
mod server;
mod spool;
mod url;

#[cfg(test)]
mod tests;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use shared::config::S3Profile;
use shared::egress::Egress;
use shared::job::Failure;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use bounds::{BLOCK_BYTES, Bounds, CACHE_BLOCKS, SPOOL_BYTES};
pub use fault::{Again, Fault};
pub use meter::{Account, EndCheck, Progress, Stalled};
pub use origin::{Body, Object, OpenBody, Opened, Origin, Part, Validator};
pub use reader::Reader;
pub use s3::S3Origin;
pub use server::Served;
pub use url::UrlOrigin;

use fetch::Fetch;

/// How this worker reads what lies elsewhere.
pub struct Remotes {
    /// The way out to addresses that clients name.
    pub egress: Arc<Egress>,
    /// S3 profiles it was given.
    pub s3: Vec<S3Profile>,
    /// Most bytes taken of an object in one attempt.
    pub most_bytes: u64,
    /// Where objects of servers without range requests lie meanwhile.
    pub spool_dir: PathBuf,
}

/// One remote object, open for one attempt of one job. Clones are the same one.
#[derive(Clone)]
pub struct Remote(Arc<Fetch>);

impl Remote {
    /// Opens the object with one request, more only after faults that may pass. Once `cancel` is canceled, every read
    /// ends.
    pub async fn open(origin: Arc<dyn Origin>, bounds: Bounds, cancel: CancellationToken) -> Result<Self, Failure> {
        Ok(Self(Arc::new(Fetch::open(origin, bounds, cancel).await?)))
    }

    /// Size, version and name.
    pub fn object(&self) -> &Object {
        &self.0.object
    }

    /// Starts a range server on a free port of loopback. It ends when the answer is dropped. Needs the runtime.
    pub fn serve(&self) -> io::Result<Served> {
        self.serve_on(server::listen()?)
    }

    /// Starts a range server on a listener that was made elsewhere, for example in ffprobe's own network namespace; it
    /// must be on loopback.
    pub fn serve_on(&self, listener: TcpListener) -> io::Result<Served> {
        server::serve(Arc::clone(&self.0), listener)
    }

    /// How far reading is, at this moment.
    pub fn progress(&self) -> Progress {
        Progress {
            bytes: self.0.meter.account().bytes,
            total_bytes: self.0.object.size_bytes,
            stalled: self.0.meter.stalled(self.0.bounds.stall),
        }
    }

    /// What reading cost so far; whole after [`Self::finish`].
    pub fn account(&self) -> Account {
        self.0.meter.account()
    }

    /// A reader for blocking threads. Needs the runtime.
    pub fn reader(&self) -> Reader {
        Reader { fetch: Arc::clone(&self.0), runtime: Handle::current() }
    }

    /// What went wrong while reading, which counts more than what ffprobe said about it: to ffprobe a connection that
    /// broke is invalid data. Call it once ffprobe has ended; where it is worth it, asks whether the object changed.
    pub async fn finish(&self) -> Option<Failure> {
        if let Some(fault) = self.0.fault() {
            return Some(fault.clone().into());
        }
        self.0.check_end().await.map(Failure::from)
    }
}
