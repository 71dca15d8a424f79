//! The Redis of a storm: a primary, a replica and three sentinels, and what goes wrong with them. Used by the storm and its
//! verdict. Every fault ends with [`Redis::back`]: the next one can begin only when there is somebody to fail over to.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::trio::{Server, Trio, until};

/// The servers.
pub(super) struct Redis {
    trio: Trio,
}

impl Redis {
    /// Starts all of them, with their files in a new folder of this name.
    pub(super) async fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        Self { trio: Trio::start(folder).await }
    }

    /// What our processes are told about it.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        self.trio.settings()
    }

    /// The primary forgets everything, and so does the replica.
    pub(super) fn flush(&mut self) {
        let flushed: Option<String> = block_in_place(|| self.trio.by_role().0.ask(&["FLUSHALL"]));
        assert!(flushed.is_some(), "the primary is there");
    }

    /// All keys our processes have at the primary.
    pub(super) fn keys(&mut self) -> Vec<String> {
        block_in_place(|| self.trio.by_role().0.ask(&["KEYS", "*"])).expect("the primary answers")
    }

    /// How many of our processes hear the doorbell of the primary, and how many that of the replica.
    pub(super) fn ears(&mut self) -> (usize, usize) {
        block_in_place(|| {
            let (primary, replica) = self.trio.by_role();
            (primary.ears(), replica.ears())
        })
    }

    /// Both servers are killed and stay away: there is nobody to fail over to.
    pub(super) async fn kill(&mut self, away: Duration) {
        for server in self.both() {
            server.program.signal(Signal::KILL);
            server.program.wait();
        }
        sleep(away).await;
        block_in_place(|| self.both().into_iter().for_each(Server::start_again));
    }

    /// Both servers take connections and answer nothing.
    pub(super) async fn freeze(&mut self, time: Duration) {
        self.both().into_iter().for_each(|server| server.program.signal(Signal::STOP));
        sleep(time).await;
        self.both().into_iter().for_each(|server| server.program.signal(Signal::CONT));
    }

    /// The primary is killed; the other takes its place, and some time later the killed one comes back. Says how it went.
    pub(super) async fn kill_primary(&mut self, away: Duration) -> String {
        let (old, new) = self.trio.by_role();
        old.program.signal(Signal::KILL);
        old.program.wait();
        let took = until("the replica is promoted", || new.is_primary()).await;
        sleep(away.saturating_sub(took)).await;
        block_in_place(|| old.start_again());
        format!("the primary of Redis was killed, the other was it {:.1} s later", took.as_secs_f64())
    }

    /// The primary stands still; the other takes its place, and the old one goes on as if it still were it. Says how it went.
    pub(super) async fn freeze_primary(&mut self, time: Duration) -> String {
        let (old, new) = self.trio.by_role();
        old.program.signal(Signal::STOP);
        let took = until("the replica is promoted", || new.is_primary()).await;
        sleep(time.saturating_sub(took)).await;
        old.program.signal(Signal::CONT);
        format!("the primary of Redis stood still, the other was it {:.1} s later", took.as_secs_f64())
    }

    /// Waits until one server is the primary, the other follows, and the sentinels know.
    pub(super) async fn back(&self) {
        until("Redis is whole again", || block_in_place(|| self.trio.is_whole())).await;
    }

    fn both(&mut self) -> [&mut Server; 2] {
        [&mut self.trio.first, &mut self.trio.second]
    }
}
