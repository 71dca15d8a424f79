//! The private PostgreSQL and Redis of a storm: kept running by their supervisor, except when the storm wants one of
//! them dead or silent. Used by the storm.

use std::time::{Duration, Instant};

use cli::private::PrivateServers;
use redis::FromRedisValue;
use rustix::process::{Pid, Signal, kill_process};
use shared::store::Pool;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longest wait for a server to be back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
}

enum Order {
    /// Say the process id.
    Pid(Server, oneshot::Sender<Option<u32>>),
    /// Start nothing again for this long.
    LookAway(Duration, oneshot::Sender<()>),
}

/// The servers and whoever keeps them running.
pub(super) struct Keeper {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
    redis: redis::Client,
}

impl Keeper {
    /// Keeps these servers running from now on.
    pub(super) fn new(mut servers: PrivateServers) -> Self {
        let redis = redis::Client::open(servers.redis_url()).expect("a Redis URL");
        let (orders, mut inbox) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            loop {
                let order = tokio::select! {
                    error = servers.supervise() => panic!("the servers cannot be kept running: {error:#}"),
                    order = inbox.recv() => order,
                };
                // somebody who asked and went away needs no answer
                match order {
                    Some(Order::Pid(Server::Postgres, answer)) => drop(answer.send(servers.pids().postgres)),
                    Some(Order::Pid(Server::Redis, answer)) => drop(answer.send(servers.pids().redis)),
                    Some(Order::LookAway(time, answer)) => {
                        sleep(time).await;
                        let _ = answer.send(());
                    }
                    None => break,
                }
            }
            servers.stop().await;
        });
        Self { orders, task, redis }
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> T {
        let (sender, answer) = oneshot::channel();
        assert!(self.orders.send(order(sender)).await.is_ok(), "the servers are not kept any more");
        answer.await.expect("the servers are kept")
    }

    async fn pid(&self, server: Server) -> u32 {
        let begun = Instant::now();
        loop {
            if let Some(pid) = self.ask(|answer| Order::Pid(server, answer)).await {
                return pid;
            }
            assert!(begun.elapsed() < PATIENCE, "{server:?} is not running");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends a server without a word and lets nobody start it for `away`.
    pub(super) async fn kill(&self, server: Server, signal: Signal, away: Duration) {
        signal_one(self.pid(server).await, signal);
        self.ask(|answer| Order::LookAway(away, answer)).await;
    }

    /// Stops every process of a server for `time`.
    pub(super) async fn freeze(&self, server: Server, time: Duration) {
        // the first one before the others: it makes no more of them then
        let mut frozen = Frozen(vec![self.pid(server).await]);
        signal_one(frozen.0[0], Signal::STOP);
        frozen.0.extend(children(frozen.0[0]));
        frozen.0[1..].iter().for_each(|pid| signal_one(*pid, Signal::STOP));
        sleep(time).await;
    }

    /// Waits until both servers answer.
    pub(super) async fn back(&self, db: &Pool) {
        let begun = Instant::now();
        while shared::store::ping(db).await.is_err() || self.redis::<String>(&["PING"]).await.is_none() {
            assert!(begun.elapsed() < PATIENCE, "a server does not come back");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What Redis answers to a command; `None` if it does not answer.
    pub(super) async fn redis<T: FromRedisValue>(&self, command: &[&str]) -> Option<T> {
        let talk = async {
            let mut connection = self.redis.get_multiplexed_async_connection().await?;
            redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await
        };
        timeout(Duration::from_secs(2), talk).await.ok()?.ok()
    }

    /// Stops the servers.
    pub(super) async fn stop(self) {
        drop(self.orders);
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
