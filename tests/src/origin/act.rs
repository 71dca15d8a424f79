//! What an origin can do with one request. Played by [`super::serve`].

use std::time::Duration;

/// One way to answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Well: the whole or the range that was asked for, with `ETag`, `Last-Modified` and `Accept-Ranges`.
    Serve,
    /// The whole, whatever range was asked for.
    NoRanges,
    /// The whole without a length; its end is the connection's.
    NoLength,
    /// The whole in chunks.
    Chunked,
    /// Well, but the head comes byte by byte.
    SlowHead {
        /// Before each byte.
        pause: Duration,
    },
    /// Well, but the body drips.
    Drip {
        /// Bytes of a drop.
        bytes: usize,
        /// Before each drop.
        pause: Duration,
    },
    /// Takes the request and says nothing.
    Silent,
    /// A good head, so many bytes of the body, then a reset of the connection.
    Reset {
        /// Bytes of the body.
        after: u64,
    },
    /// A good head, so many bytes of the body, then the connection's end.
    Truncate {
        /// Bytes of the body.
        after: u64,
    },
    /// Another status with a short body, and headers: `("Retry-After", "1")`.
    Status(u16, Vec<(String, String)>),
    /// Bytes without end. With a length, that is what the head claims, and so many are sent.
    Endless {
        /// The claimed length.
        length: Option<u64>,
    },
    /// A redirect; the location stands as it is, and may be relative, malformed or empty.
    Redirect(u16, String),
    /// Well, but something is different each time.
    Changing(Change),
    /// A part, with a false word about which.
    WrongRange(RangeLie),
    /// The part that was asked for as `multipart/byteranges`.
    Multipart,
    /// Well, and said to be compressed with this coding.
    Encoded(&'static str),
    /// Well, and the connection ends after it although nothing said so.
    CloseAfter,
    /// Well, after so many headers of so many bytes each.
    HeaderFlood {
        /// How many.
        count: usize,
        /// Bytes of each value.
        bytes: usize,
    },
    /// These bytes and the connection's end: a status line of garbage, headers that are split, another protocol.
    Raw(Vec<u8>),
    /// The connection is reset as soon as the request is read.
    Refuse,
}

impl Act {
    /// A status without more.
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }

    /// A status with `Retry-After`: seconds or a date, or whatever else.
    pub fn retry_after(status: u16, value: &str) -> Self {
        Self::Status(status, vec![("Retry-After".to_owned(), value.to_owned())])
    }
}

/// What is different each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `ETag`.
    ETag,
    /// `Last-Modified`; no `ETag` is sent.
    LastModified,
    /// The size: a byte less each time.
    Size,
}

/// What a false `Content-Range` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeLie {
    /// It begins a byte later.
    OtherStart,
    /// The whole is a byte longer.
    OtherTotal,
    /// Nothing: the header is missing.
    Missing,
    /// No range at all.
    Garbage,
    /// It is right, but another part of the file is sent.
    OtherBytes,
}
