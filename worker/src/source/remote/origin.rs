//! What the range server reads from: an object somewhere else. Two real ones implement [`Origin`], `url` and `s3`; both
//! are called by `fetch` only. An origin makes single requests: it never retries, caches or counts.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use hyper::body::Bytes;

use super::fault::Fault;

/// Bytes of an object as they arrive, until the end of what was asked or a fault.
pub type Body = BoxStream<'static, Result<Bytes, Fault>>;

/// What tells one version of an object from another, beside its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validator {
    /// A strong `ETag`, with its quotes.
    Tag(String),
    /// `Last-Modified`, as it was written. It cannot tell versions of the same second apart.
    Modified(String),
    /// The origin gives none; only a change of the size is noticed.
    None,
}

/// An object as it was when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Bytes it has; never 0.
    pub size_bytes: u64,
    /// Its version.
    pub validator: Validator,
    /// Its name for the client, without directories.
    pub name: String,
}

/// An open object and the bytes that came with the answer.
pub struct Opened {
    /// The object.
    pub object: Object,
    /// What the answer holds.
    pub body: OpenBody,
}

/// What the answer to the first request holds.
pub enum OpenBody {
    /// The first bytes up to `until`: the origin serves parts.
    First {
        /// The offset after the last byte that comes.
        until: u64,
        /// The bytes.
        body: Body,
    },
    /// All bytes: the origin does not serve parts.
    Whole(Body),
}

/// A part of an object on its way.
pub struct Part {
    /// The offset after the last byte that comes; never after what was asked for, and often before.
    pub until: u64,
    /// The bytes.
    pub body: Body,
}

/// Somewhere an object can be read from.
pub trait Origin: Send + Sync + 'static {
    /// Asks for the first `length` bytes, and learns size and version from the answer. One request.
    fn open(&self, length: u64) -> BoxFuture<'_, Result<Opened, Fault>>;

    /// Asks for the bytes `from..until` of the version that was opened; another one is `source_changed`. One request.
    fn read<'a>(&'a self, object: &'a Object, from: u64, until: u64) -> BoxFuture<'a, Result<Part, Fault>>;
}
