//! How a fetch can end without an answer, and what that means for a job. An answer of any status is not an error here.
//! Messages show URLs without query and password, and never the address a name led to: that is for the log.

use std::error::Error as Cause;
use std::io;

use crate::job::{Failure, FailureCode};

/// Deepest chain of causes that is looked through.
const CAUSES_MAX: usize = 16;
/// Longest text of a cause that is shown: some carry what the host sent, such as all names of its certificate.
const CAUSE_MAX_CHARS: usize = 300;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $code:ident,)*) => {
        /// Why there is no answer, each with the sentence for whoever asked.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        pub enum Error { $($(#[$doc])* #[error("{0}")] $name(String),)* }

        impl Error {
            /// The reason it gives a job.
            pub fn code(&self) -> FailureCode {
                match self { $(Self::$name(_) => FailureCode::$code,)* }
            }
        }
    };
}

errors! {
    /// The service does not connect to this address.
    NotAllowed = UrlNotAllowed,
    /// There is no host of this name.
    HostNotFound = HostNotFound,
    /// The name could not be looked up.
    Dns = DnsError,
    /// The name was not looked up: too many look-ups of the service hang.
    Busy = DnsError,
    /// No connection came about.
    Connect = ConnectFailed,
    /// The host did not prove its name, or does not speak TLS.
    Tls = TlsError,
    /// Too many redirects.
    TooManyRedirects = TooManyRedirects,
    /// The answer is not HTTP, or leads nowhere.
    Rejected = RemoteRejected,
    /// Connected, and then no answer for too long.
    TooSlow = RemoteTooSlow,
    /// The connection broke off.
    Lost = ConnectionLost,
}

impl Error {
    /// The failure of a job whose input could not be fetched.
    pub fn failure(&self) -> Failure {
        Failure::new(self.code(), self.to_string())
    }

    /// What went wrong between the connection and the first byte of the answer.
    pub(super) fn request(shown: &str, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let chain = causes(&error);
        let deepest = deepest(&chain);
        let about = |what: &str| format!("{shown}: {what}: {deepest}");
        if error.is_connect() {
            // the handshake reports what it cannot accept so, and TCP never does
            let refused = |e: &io::Error| e.kind() == io::ErrorKind::InvalidData;
            return if chain.iter().filter_map(|e| e.downcast_ref::<io::Error>()).any(refused) {
                Self::Tls(about("the host cannot be trusted"))
            } else if error.is_timeout() {
                Self::Connect(about("no connection in time"))
            } else {
                Self::Connect(about("no connection"))
            };
        }
        // hyper does not let its kinds be asked for through reqwest; these are its words for an answer it cannot read
        let unreadable = ["invalid HTTP", "message head is too large", "invalid content-length"];
        if error.is_builder() || chain.iter().any(|e| unreadable.iter().any(|u| e.to_string().contains(u))) {
            return Self::Rejected(about("the answer cannot be read"));
        }
        Self::Lost(about("the connection broke off before an answer"))
    }

    /// What went wrong while the body came in.
    pub(super) fn body(shown: &str, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let deepest = deepest(&causes(&error));
        Self::Lost(format!("{shown}: the connection broke off: {deepest}"))
    }
}

/// The causes of an error below itself, deepest last, and also those that an `io::Error` wraps instead of naming.
fn causes<'a>(error: &'a (dyn Cause + 'static)) -> Vec<&'a (dyn Cause + 'static)> {
    let mut chain = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next.filter(|_| chain.len() < CAUSES_MAX) {
        chain.push(cause);
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map_or_else(|| cause.source(), |inner| Some(inner));
    }
    chain
}

fn deepest(chain: &[&(dyn Cause + 'static)]) -> String {
    let text = chain.last().map(ToString::to_string).unwrap_or_default();
    match text.char_indices().nth(CAUSE_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
