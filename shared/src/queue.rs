//! Redis: a short list of disposable tickets for apalis workers, a doorbell, and the buckets of rate limits. Losing all of
//! it delays work and loses none. The backlog itself stays in PostgreSQL: apalis-redis 1.0.0 wedges at 8,000 due tasks and has no order but
//! arrival, so the relay keeps the list at a few hundred tickets at most.
//!
//! Tickets are put straight into apalis' active list by a script of our own (its push goes through a set with
//! one-second resolution). That ties us to the key layout of apalis-redis 1.0.0, whose version is therefore exact.

mod bell;
pub mod inspection;
mod limit;
mod line;
mod sentinel;
mod ticker;

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use apalis_redis::{Config, RedisStorage};
use redis::{RedisError, Script};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use bell::{Bell, listen};
pub use line::Tether;
pub use ticker::Ticker;

use self::line::Line;
use crate::config::RedisEndpoint;
use crate::error::Error;
use crate::id::{InstallationId, JobId};
use crate::job::Lane;

/// Never more tickets than this in Redis, whatever the number of workers.
pub const WINDOW_MAX: usize = 500;

/// How long a call of ours may take. Redis is a help, not a must: better to go on without it.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// apalis ends a worker at the first slow answer, so its own connection is patient.
const APALIS_TIMEOUT: Duration = Duration::from_secs(10);
const APALIS_HEARTBEAT: Duration = Duration::from_secs(2);
/// apalis counts a worker dead after this many missed heartbeats: never within a day. It compares the clocks of different
/// machines, and one that is wrong by more than this would strike off all others again and again. [`SWEEP`] does it by
/// Redis' own clock.
const APALIS_MISSED: usize = 43_200;
/// A worker whose heartbeat has not moved for this many seconds is gone.
const SILENT_SECONDS: usize = 60;
/// Finished tickets erased in one call.
const SWEEP_BATCH: usize = 500;

/// What travels through Redis: "look at this job". Nothing else, so a lost or doubled one is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The job to look at.
    pub job: JobId,
}

/// What became of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// A worker will see it.
    Sent,
    /// There are enough tickets; the relay sends this one when there is room.
    WindowFull,
}

/// The queue of one installation.
#[derive(Clone)]
pub struct Queue {
    line: Line,
    fast: Config,
    scan: Config,
    channel: String,
    /// What the names of all buckets begin with.
    buckets: String,
}

static SEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"if redis.call('llen', KEYS[3]) >= tonumber(ARGV[3]) then return 0 end
        redis.call('hset', KEYS[1], ARGV[1], ARGV[2])
        redis.call('hset', KEYS[2] .. ':' .. ARGV[1], 'attempts', 0, 'max_attempts', 1, 'status', 'Pending')
        redis.call('rpush', KEYS[3], ARGV[1])
        return 1",
    )
});

static PENDING: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local ids = redis.call('lrange', KEYS[1], 0, tonumber(ARGV[1]) - 1)
        if #ids == 0 then return {} end
        return redis.call('hmget', KEYS[2], unpack(ids))",
    )
});

/// Erases finished tickets, and workers that are gone with the tickets they held: apalis keeps them for ever.
static SWEEP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local erased = 0
        for i = 4, 6 do
            local ids = redis.call('spop', KEYS[i], tonumber(ARGV[1]))
            for _, id in ipairs(ids) do
                redis.call('hdel', KEYS[1], id)
                redis.call('del', KEYS[2] .. ':' .. id)
                erased = erased + 1
            end
        end
        local now = tonumber(redis.call('time')[1])
        for _, worker in ipairs(redis.call('zrange', KEYS[3], 0, 999)) do
            local notes, held = KEYS[3] .. ':metadata:' .. worker, KEYS[7] .. ':' .. worker
            local beat = redis.call('zscore', KEYS[3], worker)
            local seen = redis.call('hmget', notes, 'beat', 'beat_seen')
            if seen[1] ~= beat then
                redis.call('hset', notes, 'beat', beat, 'beat_seen', now)
            elseif now - tonumber(seen[2]) > tonumber(ARGV[2]) then
                for _, id in ipairs(redis.call('smembers', held)) do
                    redis.call('hdel', KEYS[1], id)
                    redis.call('del', KEYS[2] .. ':' .. id)
                end
                redis.call('del', notes, held)
                redis.call('zrem', KEYS[3], worker)
            end
        end
        return erased",
    )
});

impl Queue {
    /// The queue of `installation`. Connects when first used, so that a process starts while Redis is away. With
    /// sentinels it begins to ask them, so call it on a runtime.
    pub fn new(endpoint: RedisEndpoint, installation: InstallationId) -> Result<Self, Error> {
        let line = Line::new(endpoint).map_err(away)?;
        let config = |lane: Lane| {
            Config::default()
                .queue(format!("ffprobe_api:{installation}:{}", lane.as_str()))
                .batch_size(1)
                .heartbeat_interval(APALIS_HEARTBEAT)
                .missed_heartbeats(APALIS_MISSED)
                .persist_results(true)
                .emit_events(false)
        };
        let channel = format!("ffprobe_api:{installation}:bell");
        let buckets = format!("ffprobe_api:{installation}:rate");
        Ok(Self { line, fast: config(Lane::Fast), scan: config(Lane::Scan), channel, buckets })
    }

    fn config(&self, lane: Lane) -> &Config {
        match lane {
            Lane::Fast => &self.fast,
            Lane::Scan => &self.scan,
        }
    }

    /// Puts a ticket for `job` behind the others of its lane, unless there are `window` of them already.
    pub async fn send(&self, lane: Lane, job: JobId, window: usize) -> Result<Sent, Error> {
        // a fresh id for every ticket: a ticket is disposable, the job's id is not
        let ticket = Uuid::now_v7().to_string();
        let payload = serde_json::to_vec(&Ticket { job }).map_err(Error::internal)?;
        let config = self.config(lane);
        let sent: bool = SEND
            .key(config.job_data_hash())
            .key(config.job_meta_hash())
            .key(config.active_jobs_list())
            .arg(ticket)
            .arg(payload)
            .arg(window.min(WINDOW_MAX))
            .invoke_async(&mut self.line.clone())
            .await
            .map_err(away)?;
        Ok(if sent { Sent::Sent } else { Sent::WindowFull })
    }

    /// How many tickets of a lane wait for a worker.
    pub async fn depth(&self, lane: Lane) -> Result<usize, Error> {
        redis::cmd("LLEN")
            .arg(self.config(lane).active_jobs_list())
            .query_async(&mut self.line.clone())
            .await
            .map_err(away)
    }

    /// The jobs of a lane whose tickets wait for a worker.
    pub async fn pending(&self, lane: Lane) -> Result<HashSet<JobId>, Error> {
        let payloads: Vec<Option<Vec<u8>>> = PENDING
            .key(self.config(lane).active_jobs_list())
            .key(self.config(lane).job_data_hash())
            .arg(2 * WINDOW_MAX)
            .invoke_async(&mut self.line.clone())
            .await
            .map_err(away)?;
        let tickets = payloads.into_iter().flatten().filter_map(|p| serde_json::from_slice::<Ticket>(&p).ok());
        Ok(tickets.map(|t| t.job).collect())
    }

    /// One round of erasing finished tickets of a lane. Returns how many; call again while it returns a full batch.
    pub async fn sweep(&self, lane: Lane) -> Result<usize, Error> {
        SWEEP
            .key(self.config(lane).job_data_hash())
            .key(self.config(lane).job_meta_hash())
            .key(self.config(lane).workers_set())
            .key(self.config(lane).done_jobs_set())
            .key(self.config(lane).failed_jobs_set())
            .key(self.config(lane).dead_jobs_set())
            .key(self.config(lane).inflight_jobs_set())
            .arg(SWEEP_BATCH)
            .arg(SILENT_SECONDS)
            .invoke_async(&mut self.line.clone())
            .await
            .map_err(away)
    }

    /// Asks Redis for a sign of life.
    pub async fn ping(&self) -> Result<(), Error> {
        redis::cmd("PING").query_async::<String>(&mut self.line.clone()).await.map(drop).map_err(away)
    }

    /// A fresh apalis backend of a lane, on a connection of its own to the present primary; an apalis worker is never
    /// built twice on the same one. Waits a few seconds for Redis if it is away.
    pub async fn backend(&self, lane: Lane) -> Result<RedisStorage<Ticket, Tether>, Error> {
        let tether = self.line.tether().await.map_err(away)?;
        Ok(RedisStorage::new(tether).with_config(self.config(lane).clone()))
    }

    /// Rings; whoever listens looks at PostgreSQL. Failing to ring costs a second, so the caller only logs it.
    pub async fn ring(&self, bell: Bell) -> Result<(), Error> {
        redis::cmd("PUBLISH")
            .arg(&self.channel)
            .arg(bell.to_string())
            .query_async::<i64>(&mut self.line.clone())
            .await
            .map(drop)
            .map_err(away)
    }
}

fn away(error: RedisError) -> Error {
    Error::unavailable("Redis", error)
}
