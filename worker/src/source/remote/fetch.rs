//! Reading a remote object at any place, for the range server and for header readers: cache first, then a run that is
//! there already, then a new request. One request to the origin is waited for at a time, so its bounds hold for the
//! object as a whole. The first fault that cannot be mended ends all reading and is what `finish` reports.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use hyper::body::Bytes;
use shared::job::FailureCode;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::bounds::{BLOCK_BYTES, Bounds, CACHE_BLOCKS, OPEN_BYTES, RUNS, SKIP_BYTES};
use super::cache::Cache;
use super::fault::Fault;
use super::meter::{EndCheck, Meter};
use super::origin::{Object, OpenBody, Origin};
use super::patience::{self, Patience};
use super::run::{Means, Run};
use super::spool;

/// An open object and everything known of it.
pub(super) struct Fetch {
    /// Where ffprobe finds the object on the range server, whatever the listener: a word that nobody guesses.
    pub(super) path: Arc<str>,
    origin: Arc<dyn Origin>,
    pub(super) object: Object,
    pub(super) bounds: Bounds,
    pub(super) meter: Meter,
    cancel: CancellationToken,
    opened: Instant,
    cache: Mutex<Cache>,
    runs: tokio::sync::Mutex<Runs>,
    /// The whole object, if the origin serves no parts.
    spool: Option<Arc<File>>,
    fault: OnceLock<Fault>,
}

struct Runs {
    open: Vec<Run>,
    uses: u64,
    patience: Patience,
}

impl Fetch {
    /// Opens the object, again after a fault that may pass.
    pub(super) async fn open(
        origin: Arc<dyn Origin>,
        bounds: Bounds,
        cancel: CancellationToken,
    ) -> Result<Self, Fault> {
        let (opened, meter, mut patience) = (Instant::now(), Meter::default(), Patience::default());
        let opening = async {
            loop {
                match open_once(&*origin, &meter, &bounds, &mut patience).await {
                    Ok(answer) => return Ok(answer),
                    Err(fault) => patience.pause(fault, &meter, &bounds).await?,
                }
            }
        };
        let (object, first, spool) = tokio::select! {
            () = cancel.cancelled() => return Err(canceled()),
            answer = opening => answer?,
        };
        // the next wait is another one
        meter.moved();
        let runs = tokio::sync::Mutex::new(Runs { open: first.into_iter().collect(), uses: 0, patience });
        let cache = Mutex::new(Cache::new(CACHE_BLOCKS));
        let path = format!("/{:032x}", rand::random::<u128>()).into();
        Ok(Self { path, origin, object, bounds, meter, cancel, opened, cache, runs, spool, fault: OnceLock::new() })
    }

    /// Some bytes from `offset` on, at least one; none only after the end of the object. A fault is not yet the job's:
    /// see [`Self::blame`].
    pub(super) async fn at(&self, offset: u64) -> Result<Bytes, Fault> {
        if offset >= self.object.size_bytes {
            return Ok(Bytes::new());
        }
        if let Some(fault) = self.fault.get() {
            return Err(fault.clone());
        }
        let bytes = match self.cached(offset) {
            Some(bytes) => bytes,
            None => tokio::select! {
                () = self.cancel.cancelled() => return Err(canceled()),
                bytes = self.fetch(offset) => bytes?,
            },
        };
        self.meter.add(|account| account.served_bytes += bytes.len() as u64);
        Ok(bytes)
    }

    /// Makes a fault the outcome of the whole read.
    pub(super) fn blame(&self, fault: Fault) {
        if fault.code != FailureCode::Canceled {
            // the first one stays: those that follow come from it
            let _ = self.fault.set(fault);
        }
    }

    /// What ended the read, if anything did.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// Asks whether the object is still the one that was opened. Every request carried the validator, so a single quick
    /// answer needs no check: it is one version. A long one may hold bytes of two, if the server reads a file that is
    /// being written, and after several nothing says that the last did not come too late.
    pub(super) async fn check_end(&self) -> Option<Fault> {
        let quick = self.meter.account().requests <= 1 && self.opened.elapsed() <= self.bounds.end_check_after;
        if quick || self.spool.is_some() || self.cancel.is_cancelled() {
            return None;
        }
        let question = patience::answer(self.origin.read(&self.object, 0, 1), &self.meter, &self.bounds);
        let answer = tokio::select! {
            () = self.cancel.cancelled() => return None,
            answer = timeout(self.bounds.end_check, question) => answer,
        };
        let (outcome, fault) = match answer {
            Ok(Ok(_)) => (EndCheck::Same, None),
            Ok(Err(fault)) if fault.code == FailureCode::SourceChanged => (EndCheck::Changed, Some(fault)),
            // a signed URL that ran out meanwhile says nothing against the bytes that came before
            Ok(Err(fault)) => {
                tracing::debug!(code = fault.code.as_str(), message = fault.message, "the end check has no answer");
                (EndCheck::Unknown, None)
            }
            Err(_) => (EndCheck::Unknown, None),
        };
        self.meter.moved();
        self.meter.add(|account| account.end_check = outcome);
        fault
    }

    fn cached(&self, offset: u64) -> Option<Bytes> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).at(offset)
    }

    async fn fetch(&self, offset: u64) -> Result<Bytes, Fault> {
        if let Some(file) = &self.spool {
            return read_spool(Arc::clone(file), offset).await;
        }
        let mut runs = self.runs.lock().await;
        if let Some(bytes) = self.cached(offset).or_else(|| runs.held(offset)) {
            return Ok(bytes);
        }
        let means = Means {
            origin: &*self.origin,
            object: &self.object,
            bounds: &self.bounds,
            meter: &self.meter,
            cache: &self.cache,
        };
        let Runs { open, uses, patience } = &mut *runs;
        let run = choose(open, offset);
        *uses += 1;
        run.used = *uses;
        loop {
            match run.reach(offset, &means, patience).await {
                Ok(bytes) => return Ok(bytes),
                Err(fault) => {
                    if let Err(last) = patience.pause(fault, &self.meter, &self.bounds).await {
                        self.meter.moved();
                        return Err(last);
                    }
                }
            }
            // a run that broke off may have come past the place meanwhile
            if let Some(bytes) = self.cached(offset).or_else(|| run.held(offset)) {
                return Ok(bytes);
            }
        }
    }
}

impl Runs {
    fn held(&self, offset: u64) -> Option<Bytes> {
        self.open.iter().find_map(|run| run.held(offset))
    }
}

/// The run that comes to `offset` soonest, or a new one in place of the one that was used longest ago.
fn choose(open: &mut Vec<Run>, offset: u64) -> &mut Run {
    let near = open
        .iter()
        .enumerate()
        .filter_map(|(i, run)| Some((i, run.distance(offset)?)))
        .filter(|(_, distance)| *distance <= SKIP_BYTES)
        .min_by_key(|(_, distance)| *distance);
    let oldest = open.iter().enumerate().min_by_key(|(_, run)| run.used).map(|(i, _)| i);
    let index = match (near, oldest) {
        (Some((index, _)), _) => index,
        (None, Some(index)) if open.len() >= RUNS => {
            open[index] = Run::begin(offset);
            index
        }
        (None, _) => {
            open.push(Run::begin(offset));
            open.len() - 1
        }
    };
    &mut open[index]
}

async fn open_once(
    origin: &dyn Origin,
    meter: &Meter,
    bounds: &Bounds,
    patience: &mut Patience,
) -> Result<(Object, Option<Run>, Option<Arc<File>>), Fault> {
    let left = bounds.max_bytes.saturating_sub(meter.account().bytes);
    if left == 0 {
        return Err(Fault::last(FailureCode::BudgetExceeded, "The budget allows no bytes to be read."));
    }
    let opened = patience::answer(origin.open(OPEN_BYTES.min(left)), meter, bounds).await?;
    let object = opened.object;
    match opened.body {
        OpenBody::First { until, body } => Ok((object, Some(Run::opened(body, until)), None)),
        OpenBody::Whole(body) => {
            let most = bounds.spool_bytes.min(left);
            if object.size_bytes > most {
                let size = object.size_bytes;
                return Err(Fault::last(
                    FailureCode::RangeNotSupported,
                    format!("The server sends only the whole object of {size} bytes; at most {most} are read so."),
                ));
            }
            let file = spool::fill(body, object.size_bytes, meter, bounds, patience).await?;
            Ok((object, None, Some(Arc::new(file))))
        }
    }
}

async fn read_spool(file: Arc<File>, offset: u64) -> Result<Bytes, Fault> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or_default()];
        let got = file.read_at(&mut bytes, offset)?;
        bytes.truncate(got);
        std::io::Result::Ok(bytes)
    });
    match reading.await {
        Ok(Ok(bytes)) if !bytes.is_empty() => Ok(bytes.into()),
        Ok(Ok(_)) => Err(spool::broken("it is shorter than it was")),
        Ok(Err(error)) => Err(spool::broken(&error)),
        Err(_) => Err(Fault::last(FailureCode::Internal, "Reading a temporary file broke off.")),
    }
}

fn canceled() -> Fault {
    Fault::last(FailureCode::Canceled, "The job was canceled.")
}
