//! The private PostgreSQL of a storm: kept running by its supervisor, except when the storm wants it dead or silent. Used by
//! the storm and by tests of silences.

use std::path::Path;
use std::time::{Duration, Instant};

use cli::private::PrivateServers;
use rustix::process::{Pid, Signal, kill_process};
use shared::store::Pool;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Longest wait for a server to be back.
const PATIENCE: Duration = Duration::from_secs(60);

/// The servers and whoever keeps them running.
pub(crate) struct Keeper {
    /// For whoever asks for the process id.
    questions: mpsc::Sender<oneshot::Sender<Option<u32>>>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Keeps these servers running from now on.
    pub(crate) fn new(mut servers: PrivateServers) -> Self {
        let (questions, mut inbox) = mpsc::channel::<oneshot::Sender<Option<u32>>>(1);
        let task = tokio::spawn(async move {
            loop {
                let question = tokio::select! {
                    error = servers.supervise() => panic!("the servers cannot be kept running: {error:#}"),
                    question = inbox.recv() => question,
                };
                match question {
                    // somebody who asked and went away needs no answer
                    Some(answer) => drop(answer.send(servers.pids().postgres)),
                    None => break,
                }
            }
            servers.stop().await;
        });
        Self { questions, task }
    }

    async fn pid(&self) -> u32 {
        let begun = Instant::now();
        loop {
            let (sender, answer) = oneshot::channel();
            assert!(self.questions.send(sender).await.is_ok(), "the servers are not kept any more");
            if let Some(pid) = answer.await.expect("the servers are kept") {
                return pid;
            }
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL is not running");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it as if the power had failed; it is started again.
    pub(crate) async fn restart(&self) {
        let begun = Instant::now();
        let ended = self.pid().await;
        signal_one(ended, Signal::QUIT);
        // who asks for the process id again disturbs whoever starts the next one
        while Path::new("/proc").join(ended.to_string()).exists() {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not end");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops every process of it for `time`.
    pub(super) async fn freeze(&self, time: Duration) {
        // the first one before the others: it makes no more of them then
        let mut frozen = Frozen(vec![self.pid().await]);
        signal_one(frozen.0[0], Signal::STOP);
        frozen.0.extend(children(frozen.0[0]));
        frozen.0[1..].iter().for_each(|pid| signal_one(*pid, Signal::STOP));
        sleep(time).await;
    }

    /// Waits until it answers.
    pub(crate) async fn back(&self, db: &Pool) {
        let begun = Instant::now();
        while shared::store::ping(db).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not come back");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops the servers.
    pub(crate) async fn stop(self) {
        drop(self.questions);
        self.task.await.expect("the servers were kept to the end");
    }
}

/// Processes that stand still until this is dropped, also by a test that fails.
struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|pid| signal_one(*pid, Signal::CONT));
    }
}

/// Signals a process; one that is gone needs none.
pub(super) fn signal_one(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// The children of a process.
fn children(parent: u32) -> Vec<u32> {
    let pids =
        std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // the name in brackets may hold anything, so what follows its end is read: state, then the parent
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        after.split(' ').nth(1).and_then(|p| p.parse().ok()) == Some(parent)
    };
    pids.filter(is_child).collect()
}
