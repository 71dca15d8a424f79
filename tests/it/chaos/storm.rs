//! A storm: real processes and servers, clients that submit, and faults in the order of a seed, one after the other, while
//! whoever stands still goes on standing. Ends when everything runs again and every client is served. Called by the tests
//! of `chaos`; what must be true afterwards is `verdict`'s.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tests::{Installation, samples, servers};
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::cast::{Cast, Kind};
use super::clients::{Clients, Tally};
use super::faults::{Dice, Fault};
use super::keeper::Keeper;
use super::redis::Redis;

/// How bad, and how long.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Decides the order of faults and who is hit.
    pub(super) seed: u64,
    /// Jobs to be accepted.
    pub(super) jobs: usize,
    /// Faults go on for this long, and for one whole round at least.
    pub(super) length: Duration,
    /// The workers' lease.
    pub(super) lease: Duration,
    /// How long Redis, or one server of it, is away.
    pub(super) redis_away: Duration,
}

/// Whom a fault may make lose a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hit {
    /// Nobody.
    Nobody,
    /// The worker with this process id.
    Worker(u32),
    /// Every worker.
    Everybody,
}

/// A fault that happened.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// When it began, by the clock that PostgreSQL has too.
    pub(super) from: DateTime<Utc>,
    /// When it was over.
    pub(super) to: DateTime<Utc>,
    /// Whom it hit.
    pub(super) hit: Hit,
    /// What happened, in words.
    pub(super) what: String,
}

/// All that happened. Printed when a test fails.
pub(super) struct History {
    plan: Plan,
    begun: DateTime<Utc>,
    /// One line each.
    pub(super) events: Vec<Event>,
    /// Where the logs of all processes are.
    pub(super) logs: PathBuf,
}

/// A storm that is over, with everything still running.
pub(super) struct Storm<'a> {
    pub(super) installation: &'a Installation,
    pub(super) keeper: Keeper,
    pub(super) redis: Redis,
    pub(super) cast: Cast<'a>,
    pub(super) history: History,
    dice: Dice,
}

/// Sets up everything, lets the storm rage, calls `judge` on what is left.
pub(super) async fn rage(plan: Plan, judge: impl AsyncFnOnce(Storm<'_>, Tally)) {
    println!("chaos: CHAOS_SEED={} {plan:?}", plan.seed);
    let (private, own) = servers::own().await;
    let keeper = Keeper::new(private);
    let installation = Installation::on(&own).await;
    // beside the folder of the installation: who names that at the end is a process of ours that was left
    let redis = Redis::start(&own.folder().join("redis-by-sentinel")).await;
    let (ffprobe, sources) = block_in_place(|| (varied_ffprobe(&installation), sources(&installation, plan.seed)));
    let logs = fresh_folder();
    let history = History { plan: plan.clone(), begun: Utc::now(), events: Vec::new(), logs: logs.clone() };
    let cast = block_in_place(|| Cast::start(&installation, redis.settings(), ffprobe, plan.lease, logs));
    let clients = Clients::start(&cast.doors(), &sources, plan.jobs, plan.length);
    let mut storm = Storm { installation: &installation, keeper, redis, cast, history, dice: Dice::new(plan.seed) };
    storm.strike_for(plan.length, &clients).await;
    let tally = clients.done().await;
    judge(storm, tally).await;
}

impl Storm<'_> {
    /// One round of faults, and more until the time is over.
    async fn strike_for(&mut self, length: Duration, clients: &Clients) {
        let begun = Instant::now();
        for round in 0.. {
            for fault in self.dice.round() {
                if round > 0 && begun.elapsed() > length {
                    break;
                }
                self.strike(fault).await;
                let calm = 200 + self.dice.below(800);
                self.pass(Duration::from_millis(u64::try_from(calm).expect("fits"))).await;
                println!("chaos: {} accepted", clients.accepted());
            }
            if begun.elapsed() > length {
                break;
            }
        }
        while self.cast.frozen() > 0 {
            self.pass(Duration::from_millis(100)).await;
        }
    }

    /// Lets time pass, and those go on whose time to stand still is over.
    async fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            for what in self.cast.thaw(Instant::now()) {
                self.history.note(Utc::now(), Hit::Nobody, what);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left.min(Duration::from_millis(100))).await;
        }
    }

    async fn strike(&mut self, fault: Fault) {
        let from = Utc::now();
        let (lease, away) = (self.history.plan.lease, self.history.plan.redis_away);
        let (cast, dice) = (&mut self.cast, &mut self.dice);
        let is_worker = |kind| kind == Kind::Worker;
        let is_relay = |kind| kind == Kind::Relay;
        let spared = || (0, "nobody was left to be hit".to_owned());
        let (hit, what) = match fault {
            Fault::KillWorker => {
                let (pid, what) = block_in_place(|| cast.kill(dice, is_worker)).unwrap_or_else(spared);
                (Hit::Worker(pid), what)
            }
            Fault::KillRelay => (Hit::Nobody, block_in_place(|| cast.kill(dice, is_relay)).unwrap_or_else(spared).1),
            Fault::KillApi => {
                let killed = block_in_place(|| cast.kill(dice, |kind| matches!(kind, Kind::Api(_))));
                (Hit::Nobody, killed.unwrap_or_else(spared).1)
            }
            Fault::StopWorker => {
                let stopped = block_in_place(|| cast.stop_one(dice, is_worker));
                (Hit::Nobody, stopped.unwrap_or_else(|| spared().1))
            }
            Fault::FreezeWorker => {
                let (pid, what) = cast.freeze(dice, lease * 3 / 2, is_worker).unwrap_or_else(spared);
                let to = Utc::now() + lease * 3 / 2;
                return self.history.add(Event { from, to, hit: Hit::Worker(pid), what });
            }
            Fault::FreezeRelay => (Hit::Nobody, cast.freeze(dice, lease * 3 / 2, is_relay).unwrap_or_else(spared).1),
            Fault::FlushRedis => {
                self.redis.flush();
                (Hit::Nobody, "Redis forgot everything".to_owned())
            }
            Fault::KillRedis => {
                self.redis.kill(away).await;
                (Hit::Nobody, "Redis was killed and away".to_owned())
            }
            Fault::FreezeRedis => {
                self.redis.freeze(away).await;
                (Hit::Nobody, "Redis stood still".to_owned())
            }
            Fault::KillPrimary => (Hit::Nobody, self.redis.kill_primary(away).await),
            Fault::FreezePrimary => (Hit::Nobody, self.redis.freeze_primary(away).await),
            Fault::RestartPostgres => {
                self.keeper.restart().await;
                (Hit::Everybody, "PostgreSQL ended at once and started again".to_owned())
            }
            Fault::FreezePostgres => {
                self.keeper.freeze(lease * 5 / 4).await;
                (Hit::Everybody, "PostgreSQL stood still".to_owned())
            }
        };
        self.keeper.back(&self.installation.db).await;
        self.redis.back().await;
        self.history.note(from, hit, what);
    }
}

impl History {
    fn note(&mut self, from: DateTime<Utc>, hit: Hit, what: String) {
        self.add(Event { from, to: Utc::now(), hit, what });
    }

    fn add(&mut self, event: Event) {
        println!("chaos: {}", self.line(&event));
        self.events.push(event);
    }

    fn line(&self, event: &Event) -> String {
        let since = |at: DateTime<Utc>| (at - self.begun).num_milliseconds() as f64 / 1000.0;
        format!("{:7.1} s to {:7.1} s  {}", since(event.from), since(event.to), event.what)
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- this storm again: CHAOS_SEED={} ({:?}); it began at {}",
                self.plan.seed, self.plan, self.begun
            );
            for event in &self.events {
                eprintln!("{}", self.line(event));
            }
            eprintln!("--- logs of all processes: {}", self.logs.display());
        }
    }
}

/// An ffprobe that sleeps as long as the file says and then knows the answer, so that thousands of jobs of any length cost
/// little; other files are really probed. Its children carry the folder's name in their environment, to be found by.
fn varied_ffprobe(installation: &Installation) -> String {
    use std::os::unix::fs::PermissionsExt;
    const ANSWER: &str = r#"{"programs":[],"streams":[{"index":0,"codec_name":"pcm_s16le","codec_type":"audio","sample_rate":"8000","channels":1,"time_base":"1/8000"}],"chapters":[],"format":{"filename":"file:/dev/fd/0","nb_streams":1,"nb_programs":0,"format_name":"wav","duration":"1.000000","size":"16","probe_score":99}}"#;
    let script = installation.folder().join("varied-ffprobe");
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in -version) exec ffprobe -version;; esac\nexport CHAOS={}\n\
         IFS=' ' read -r word seconds < /dev/fd/0\n\
         if [ \"$word\" = chaos ]; then sleep \"$seconds\"; echo '{ANSWER}'; exit 0; fi\nexec ffprobe \"$@\"\n",
        installation.folder().display()
    );
    std::fs::write(&script, text).expect("writes");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("is executable");
    script.display().to_string()
}

/// What jobs name: mostly short, some longer than a grace or a short lease, some real.
fn sources(installation: &Installation, seed: u64) -> Vec<Value> {
    let mut dice = Dice::new(seed ^ 1);
    let mut lengths: Vec<usize> = (0..62).map(|_| dice.below(300)).collect();
    lengths.extend((0..15).map(|_| 300 + dice.below(400)));
    lengths.extend([2_500, 6_000]);
    let mut sources: Vec<Value> = Vec::new();
    for (number, length) in lengths.into_iter().enumerate() {
        let text = format!("chaos {:.3}\n", length as f64 / 1000.0);
        sources.push(json!({"type": "path", "path": installation.put(&format!("{number}.bin"), text.as_bytes())}));
    }
    let real = installation.put("real.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    sources.push(json!({"type": "path", "path": real}));
    for last in (1..sources.len()).rev() {
        let other = dice.below(last + 1);
        sources.swap(last, other);
    }
    sources
}

/// `target/tmp/chaos-PID`, empty; those of earlier runs go.
fn fresh_folder() -> PathBuf {
    let binary = tests::binaries::path("ffprobe-worker");
    let parent = binary.ancestors().nth(2).expect("target/debug/NAME").join("tmp");
    for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name.strip_prefix("chaos-")
            && !Path::new("/proc").join(pid).exists()
        {
            // somebody else's run may be doing the same
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let folder = parent.join(format!("chaos-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("target is writable");
    folder
}
