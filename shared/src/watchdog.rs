//! A process that is stuck ends itself. A plain thread asks again and again for an answer, which takes the thread of the
//! main work and the runtime's others; when none comes for half a minute, it logs so and ends the process. `main` of the API
//! and of the worker do their work under it. Container engines and init systems start again what has ended, but leave alone
//! what only hangs; a worker's jobs are rescued either way.
//!
//! It judges threads and nothing else: a database that is away or a job that takes long must never end a process.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Between an answer and the next question, and how long one look for an answer takes.
const PACE: Duration = Duration::from_secs(1);
/// Looks in a row that find no answer. They are counted, and time is not measured: a process that was frozen (SIGSTOP, a
/// paused virtual machine) wakes up with a clock that has gone on, and only one look has failed.
const PATIENCE: u32 = 30;
/// How long the last words may take: standard output may be the very thing that is stuck.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where the answer goes.
type Question = SyncSender<()>;

/// How a watch ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// There was no answer for so long that there never will be.
    Stuck,
    /// The work has ended, and with it whoever would answer.
    Gone,
}

/// Does the main work of the process, and ends the process if it gets stuck. An error means that no thread could be started.
pub async fn over<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let (ask, questions) = channel(1);
    let watch = move || match watch(&ask, PACE) {
        End::Stuck => end(),
        End::Gone => {}
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
    tokio::select! {
        outcome = work => Ok(outcome),
        never = answer(questions) => match never {},
    }
}

/// Answers from where the main work is done, by way of the runtime's other threads: so both must be alive.
async fn answer(mut questions: Receiver<Question>) -> Infallible {
    while let Some(question) = questions.recv().await {
        tokio::spawn(async move { question.try_send(()) });
    }
    pending().await
}

/// Asks until no answer comes. One question is open at a time, so nothing piles up behind what is stuck.
fn watch(ask: &Sender<Question>, pace: Duration) -> End {
    loop {
        let (question, answered) = mpsc::sync_channel(1);
        if let Err(TrySendError::Closed(_)) = ask.try_send(question) {
            return End::Gone;
        }
        let mut looks = 0;
        loop {
            match answered.recv_timeout(pace) {
                Ok(()) => break,
                Err(RecvTimeoutError::Disconnected) => return End::Gone,
                Err(RecvTimeoutError::Timeout) => looks += 1,
            }
            if looks >= PATIENCE {
                return End::Stuck;
            }
        }
        thread::sleep(pace);
    }
}

/// Ends the process without a look back: no destructor and no exit handler can hold it up.
fn end() -> ! {
    let (said, heard) = mpsc::channel();
    thread::spawn(move || {
        tracing::error!(
            seconds = PATIENCE,
            "the process is stuck: its runtime answers no more. It ends, so that a fresh one can take over"
        );
        said.send(())
    });
    // whether it was heard or not
    let _ = heard.recv_timeout(LAST_WORDS);
    process::abort()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::time::Instant;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// So that half a minute passes in a moment.
    const QUICK: Duration = Duration::from_millis(20);

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// How the watch over this work ends.
    fn watched(runtime: &Runtime, work: impl Future<Output = ()>) -> End {
        let (ask, questions) = channel(1);
        let watch = thread::spawn(move || watch(&ask, QUICK));
        runtime.block_on(async {
            tokio::select! {
                () = work => {}
                never = answer(questions) => match never {},
            }
        });
        watch.join().unwrap()
    }

    #[test]
    fn blocked_threads_of_the_runtime_are_noticed() {
        let runtime = runtime();
        let blocked = runtime.spawn(async { thread::sleep(QUICK * PATIENCE * 3) });
        assert_eq!(watched(&runtime, async { blocked.await.unwrap() }), End::Stuck);
    }

    #[test]
    fn a_blocked_main_work_is_noticed() {
        assert_eq!(watched(&runtime(), async { thread::sleep(QUICK * PATIENCE * 3) }), End::Stuck);
    }

    #[test]
    fn slow_work_is_not_stuck() {
        let runtime = runtime();
        // each step takes many looks, and fewer than it takes to be stuck
        let slow = || async {
            for _ in 0..10 {
                thread::sleep(QUICK * PATIENCE / 6);
                tokio::task::yield_now().await;
            }
        };
        runtime.spawn(slow());
        assert_eq!(watched(&runtime, slow()), End::Gone);
    }

    #[test]
    #[ignore = "ends its process; the next test runs it in one of its own"]
    fn end_this_process() {
        end();
    }

    #[test]
    fn the_end_is_quick_and_certain() {
        let began = Instant::now();
        let mut command = process::Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "watchdog::tests::end_this_process"]);
        let output = command.output().unwrap();
        assert_eq!(output.status.signal(), Some(6), "{output:?}");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
