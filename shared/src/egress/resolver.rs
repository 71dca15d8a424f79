//! Turns the name of a host into addresses: the system's way (`/etc/hosts`, the configured name servers), in bounded time
//! and with a bounded number of look-ups at once. Judges nothing; `egress` holds the answers against its rules.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

/// Most look-ups at once, for each that asks by a resolver of its own. One that hangs keeps its thread until the system gives up,
/// long after the job has.
const LOOKUPS_MAX: usize = 64;

/// How a look-up can fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LookupError {
    /// There is no such name, or it has no address.
    NotFound,
    /// No answer, for this reason.
    Failed(String),
    /// Nobody was asked: too many look-ups hang.
    Busy,
}

/// Who is asked for addresses.
#[derive(Clone)]
pub(super) enum Resolver {
    /// The system, this often at once.
    System(Arc<Semaphore>),
    /// A test's script.
    #[cfg(test)]
    Scripted(Script),
}

/// Answers in a test: from the name to what is answered after a while.
#[cfg(test)]
pub(super) type Script = Arc<dyn Fn(&str) -> (Duration, Result<Vec<std::net::IpAddr>, LookupError>) + Send + Sync>;

impl Resolver {
    /// Asks the system.
    pub(super) fn system() -> Self {
        Self::System(Arc::new(Semaphore::new(LOOKUPS_MAX)))
    }

    /// All addresses of `host`, with `port`; at least one.
    pub(super) async fn lookup(&self, host: &str, port: u16, bound: Duration) -> Result<Vec<SocketAddr>, LookupError> {
        let deadline = Instant::now() + bound;
        let turn = timeout_at(deadline, self.turn()).await.map_err(|_| LookupError::Busy)?;
        let answer = timeout_at(deadline, self.ask(turn, host, port)).await;
        let addresses =
            answer.unwrap_or_else(|_| Err(LookupError::Failed(format!("no answer within {} s", bound.as_secs()))))?;
        if addresses.is_empty() { Err(LookupError::NotFound) } else { Ok(addresses) }
    }

    /// A turn of those that are given out. None if they are not counted.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        match self {
            Self::System(turns) => turns.clone().acquire_owned().await.ok(),
            #[cfg(test)]
            Self::Scripted(_) => None,
        }
    }

    async fn ask(
        &self,
        turn: Option<OwnedSemaphorePermit>,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, LookupError> {
        match self {
            Self::System(_) => {
                let failed = |e: &dyn std::error::Error| LookupError::Failed(e.to_string());
                let host = host.to_owned();
                let lookup = spawn_blocking(move || {
                    // given back by the thread, not by whoever stopped waiting for it
                    let _turn = turn;
                    (host.as_str(), port).to_socket_addrs().map(Iterator::collect)
                });
                lookup.await.map_err(|e| failed(&e))?.map_err(|e| sort(&e))
            }
            #[cfg(test)]
            Self::Scripted(script) => {
                let (delay, answer) = script(host);
                tokio::time::sleep(delay).await;
                Ok(answer?.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
            }
        }
    }
}

/// Tells "there is no such name" from "nobody answered". Rust hands the code of `getaddrinfo` on as its text only; these
/// are the texts of `EAI_NONAME` and `EAI_NODATA` in glibc and musl, untranslated because the process sets no locale.
fn sort(error: &io::Error) -> LookupError {
    let text = error.to_string();
    let none = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ];
    // a name that cannot be asked for, such as one with a NUL
    let unspeakable = error.kind() == io::ErrorKind::InvalidInput;
    if unspeakable || none.iter().any(|n| text.ends_with(n)) {
        LookupError::NotFound
    } else {
        LookupError::Failed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn the_system_knows_this_machine() {
        let found = Resolver::system().lookup("localhost", 80, BOUND).await.unwrap();
        assert!(found.iter().all(|a| a.ip().is_loopback() && a.port() == 80), "{found:?}");
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_is_not_found() {
        // longer than a label may be, so that no server is asked
        for name in [format!("{}.example", "a".repeat(64)), "a\0b".to_owned()] {
            assert_eq!(Resolver::system().lookup(&name, 80, BOUND).await, Err(LookupError::NotFound), "{name:?}");
        }
    }

    #[test]
    fn no_such_name_is_told_from_no_answer() {
        let sorted = |text: &str| sort(&io::Error::other(format!("failed to lookup address information: {text}")));
        assert_eq!(sorted("Name or service not known"), LookupError::NotFound);
        assert_eq!(sorted("No address associated with hostname"), LookupError::NotFound);
        assert_eq!(sorted("Name does not resolve"), LookupError::NotFound);
        for text in ["Temporary failure in name resolution", "Try again", "Non-recoverable failure in name resolution"]
        {
            assert!(matches!(sorted(text), LookupError::Failed(t) if t.ends_with(text)));
        }
    }

    #[tokio::test]
    async fn turns_are_bounded_and_so_is_the_wait_for_one() {
        let turns = Arc::new(Semaphore::new(1));
        let _taken = turns.clone().acquire_owned().await.unwrap();
        let answer = Resolver::System(turns).lookup("localhost", 80, Duration::from_millis(50)).await;
        assert_eq!(answer, Err(LookupError::Busy));
    }
}
