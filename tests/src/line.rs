//! A way to PostgreSQL that can fall silent, as the network does when a host is gone without a word: connections stay open and
//! carry nothing any more, while new ones lead to where they should.

use std::path::{Path, PathBuf};

use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// The socket of a PostgreSQL in its folder.
const SOCKET: &str = ".s.PGSQL.5432";

/// A way that connections go; it ends with it.
pub struct Line {
    /// The database at this end.
    pub url: String,
    silences: watch::Sender<u64>,
    accepts: tokio::task::JoinHandle<()>,
}

impl Line {
    /// A way to the database with this URL, through a socket in `folder`.
    pub fn to(url: &str, folder: &Path) -> Self {
        let host = url.split_once("host=").and_then(|(_, rest)| rest.split('&').next()).expect("a folder");
        let server = PathBuf::from(host).join(SOCKET);
        let listener = UnixListener::bind(folder.join(SOCKET)).expect("a socket");
        let (silences, silenced) = watch::channel(0);
        let accepts = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.expect("accepts");
                let (server, mut silenced) = (server.clone(), silenced.clone());
                silenced.mark_unchanged();
                tokio::spawn(async move {
                    let mut server = UnixStream::connect(server).await.expect("connects");
                    tokio::select! {
                        // either end may break off
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        Ok(()) = silenced.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { url: url.replace(host, &folder.display().to_string()), silences, accepts }
    }

    /// From now on, no connection that is open carries anything.
    pub fn fall_silent(&self) {
        self.silences.send_modify(|times| *times += 1);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}
