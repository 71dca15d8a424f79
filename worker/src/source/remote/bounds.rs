//! The bounds of reading one remote object: bytes, waits, retries, sizes. Made by the worker's probe from settings and
//! the job's budgets; everything else in `remote` obeys them. Holds numbers only.

use std::path::PathBuf;
use std::time::Duration;

/// Bytes that are cached, fetched and copied together.
pub const BLOCK_BYTES: u64 = 128 * 1024;
/// Blocks kept for reading again: 16 MiB. ffprobe looks at the head and the index of a file several times.
pub const CACHE_BLOCKS: usize = 128;
/// The default for the largest object that is read as a whole because its server cannot send parts.
pub const SPOOL_BYTES: u64 = 256 * 1024 * 1024;

/// Asked for when an object is opened: what ffprobe reads of most small files.
pub(super) const OPEN_BYTES: u64 = 2 * BLOCK_BYTES;
/// Asked for where reading begins anew; each request that continues it asks for [`GROWTH`] times more. A look at an
/// index costs one request and wastes little, a scan of 50 GB costs about sixty requests.
pub(super) const FIRST_REQUEST_BYTES: u64 = 1024 * 1024;
/// See [`FIRST_REQUEST_BYTES`].
pub(super) const GROWTH: u64 = 4;
/// Most asked for at once: servers end connections that last for hours.
pub(super) const REQUEST_BYTES: u64 = 1024 * 1024 * 1024;
/// Requests kept open for being continued. Two places of a file are read in turn where sound and picture lie apart;
/// a third is the header reader's.
pub(super) const RUNS: usize = 3;
/// Bytes read on and kept rather than asking anew, where the wanted place lies shortly ahead.
pub(super) const SKIP_BYTES: u64 = 2 * BLOCK_BYTES;
/// Bytes whose coming allows one retry more: a scan of 50 GB may outlive more broken connections than a look at a head.
pub(super) const BYTES_PER_RETRY: u64 = 256 * 1024 * 1024;

/// Bounds of one job's read.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Most bytes taken from the origin in all.
    pub max_bytes: u64,
    /// Largest object that is read as a whole if its server cannot send parts; never more than `max_bytes` counts.
    pub spool_bytes: u64,
    /// Where such an object lies meanwhile, as a file without a name.
    pub spool_dir: PathBuf,
    /// Longest wait for the head of an answer, redirects included.
    pub first_byte: Duration,
    /// Time of waiting over which the speed is judged; so also the longest silence within a body.
    pub pace_over: Duration,
    /// Fewest bytes that must come during `pace_over`.
    pub pace_bytes: u64,
    /// Most retries in a row without a byte in between.
    pub retries_in_a_row: u32,
    /// Most retries in all, and one more for each 256 MiB that came.
    pub retries: u32,
    /// Most requests in all. A server that sends a byte at a time, or a file that is nothing but seeks, ends there.
    pub requests: u32,
    /// First wait before a retry; it doubles with each in a row.
    pub backoff: Duration,
    /// Longest wait for a server that names one (`Retry-After`); beyond it the attempt ends.
    pub retry_after: Duration,
    /// Time after which a read that waits for the origin is said to stall.
    pub stall: Duration,
    /// How long ffprobe may leave a spent budget alone before it counts: what it did not need does not fail the job.
    pub spent_grace: Duration,
    /// Longest check at the end.
    pub end_check: Duration,
    /// A read in one request that took less needs no check at the end.
    pub end_check_after: Duration,
}

impl Bounds {
    /// The usual bounds, with the job's budget of bytes and a folder for files without names.
    pub fn new(max_bytes: u64, spool_dir: PathBuf) -> Self {
        Self {
            max_bytes,
            spool_bytes: SPOOL_BYTES,
            spool_dir,
            first_byte: Duration::from_secs(15),
            pace_over: Duration::from_secs(10),
            pace_bytes: 10 * 1024,
            retries_in_a_row: 4,
            retries: 20,
            requests: 20_000,
            backoff: Duration::from_millis(250),
            retry_after: Duration::from_secs(5),
            stall: Duration::from_secs(2),
            spent_grace: Duration::from_millis(500),
            end_check: Duration::from_secs(5),
            end_check_after: Duration::from_secs(1),
        }
    }
}
