//! The processes of a storm: workers, relays, APIs; who is killed, replaced, stopped or left standing still. Used by the
//! storm. Every log ends in a file, so that a failure can be read about afterwards.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::{Http, Installation, Program};

use super::faults::Dice;

/// Jobs a worker runs at once.
pub(super) const SLOTS: usize = 8;
/// Workers.
pub(super) const WORKERS: usize = 3;
const RELAYS: usize = 2;
const APIS: usize = 2;
/// Seconds a process gets for what it runs when it is asked to stop; jobs may take longer and go back then.
const GRACE: &str = "3";
/// Longest time until a process that was asked to stop has ended: the grace, the time to hand back, and a busy machine.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Runs probes.
    Worker,
    /// Sends tickets and keeps house.
    Relay,
    /// Serves HTTP, as number so and so.
    Api(usize),
}

struct Actor {
    kind: Kind,
    name: String,
    program: Program,
    frozen_until: Option<Instant>,
}

/// Where clients find the APIs now.
pub(super) type Doors = Arc<RwLock<Vec<Http>>>;

/// Everybody on the stage.
pub(super) struct Cast<'a> {
    installation: &'a Installation,
    redis: Vec<(&'static str, String)>,
    ffprobe: String,
    lease: String,
    actors: Vec<Actor>,
    doors: Doors,
    logs: PathBuf,
    started: usize,
}

impl<'a> Cast<'a> {
    /// Starts everybody, with these settings for Redis.
    pub(super) fn start(
        installation: &'a Installation,
        redis: Vec<(&'static str, String)>,
        ffprobe: String,
        lease: Duration,
        logs: PathBuf,
    ) -> Self {
        let lease = lease.as_secs().to_string();
        let (actors, doors) = (Vec::new(), Doors::default());
        let mut cast = Self { installation, redis, ffprobe, lease, actors, doors, logs, started: 0 };
        for kind in (0..APIS).map(Kind::Api).chain([Kind::Relay; RELAYS]).chain([Kind::Worker; WORKERS]) {
            cast.enter(kind);
        }
        cast
    }

    /// Where clients find the APIs.
    pub(super) fn doors(&self) -> Doors {
        Arc::clone(&self.doors)
    }

    /// One more process. Returns its name.
    fn enter(&mut self, kind: Kind) -> String {
        let all = [("LOG_LEVEL", "info"), ("SHUTDOWN_GRACE", GRACE), ("LEASE_SECONDS", &self.lease)];
        let slots = SLOTS.to_string();
        let own: &[(&str, &str)] = match kind {
            // the database takes a hundred connections, and two generations of workers may live at once
            Kind::Api(_) => &[("DATABASE_MAX_CONNECTIONS", "6")],
            Kind::Relay => {
                &[("WORKER_ROLES", "relay,upkeep"), ("WORKER_SLOTS", "1"), ("DATABASE_MAX_CONNECTIONS", "6")]
            }
            Kind::Worker => &[
                ("WORKER_ROLES", "probe"),
                ("WORKER_SLOTS", &slots),
                ("FFPROBE_PATH", &self.ffprobe),
                ("SANDBOX", "off"),
            ],
        };
        let redis: Vec<_> = self.redis.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let changes = [&all[..], own, &redis].concat();
        let program = match kind {
            Kind::Api(number) => {
                let (program, http) = self.installation.api(&changes);
                let mut doors = self.doors.write().unwrap_or_else(PoisonError::into_inner);
                match doors.get_mut(number) {
                    Some(door) => *door = http,
                    None => doors.push(http),
                }
                program
            }
            Kind::Relay | Kind::Worker => self.installation.worker(&changes),
        };
        let name = match kind {
            Kind::Worker => format!("worker {}", program.pid()),
            Kind::Relay => format!("relay {}", program.pid()),
            Kind::Api(number) => format!("api-{number} {}", program.pid()),
        };
        self.started += 1;
        self.actors.push(Actor { kind, name: name.clone(), program, frozen_until: None });
        name
    }

    /// Somebody of this kind who can be acted upon.
    fn choose(&self, dice: &mut Dice, is_kind: impl Fn(Kind) -> bool) -> Option<usize> {
        let able = |actor: &Actor| is_kind(actor.kind) && actor.frozen_until.is_none();
        let able: Vec<usize> = (0..self.actors.len()).filter(|i| able(&self.actors[*i])).collect();
        (!able.is_empty()).then(|| able[dice.below(able.len())])
    }

    /// Kills one and replaces it. Returns its process id and what happened.
    pub(super) fn kill(&mut self, dice: &mut Dice, is_kind: impl Fn(Kind) -> bool) -> Option<(u32, String)> {
        let mut actor = self.actors.remove(self.choose(dice, is_kind)?);
        actor.program.signal(Signal::KILL);
        actor.program.wait();
        self.keep_log(&actor);
        let (pid, kind, name) = (actor.program.pid(), actor.kind, actor.name.clone());
        drop(actor);
        let next = self.enter(kind);
        Some((pid, format!("{name} killed, replaced by {next}")))
    }

    /// Asks one to stop, replaces it, and insists on a good end.
    pub(super) fn stop_one(&mut self, dice: &mut Dice, is_kind: impl Fn(Kind) -> bool) -> Option<String> {
        let mut actor = self.actors.remove(self.choose(dice, is_kind)?);
        actor.program.signal(Signal::TERM);
        let begun = Instant::now();
        let next = self.enter(actor.kind);
        self.see_off(&mut actor);
        let took = begun.elapsed().as_secs_f64();
        Some(format!("{} stopped within {took:.1} s, replaced by {next}", actor.name))
    }

    /// Lets one stand still for `time`; [`Cast::thaw`] lets it go on.
    pub(super) fn freeze(
        &mut self,
        dice: &mut Dice,
        time: Duration,
        is_kind: impl Fn(Kind) -> bool,
    ) -> Option<(u32, String)> {
        let chosen = self.choose(dice, is_kind)?;
        let actor = &mut self.actors[chosen];
        actor.program.signal(Signal::STOP);
        actor.frozen_until = Some(Instant::now() + time);
        Some((actor.program.pid(), format!("{} stands still for {:.0} s", actor.name, time.as_secs_f64())))
    }

    /// Lets those go on that stood still until `now`. Says who.
    pub(super) fn thaw(&mut self, now: Instant) -> Vec<String> {
        let due = self.actors.iter_mut().filter(|a| a.frozen_until.is_some_and(|at| at <= now));
        let thawed = due.map(|actor| {
            actor.program.signal(Signal::CONT);
            actor.frozen_until = None;
            format!("{} goes on", actor.name)
        });
        thawed.collect()
    }

    /// How many stand still.
    pub(super) fn frozen(&self) -> usize {
        self.actors.iter().filter(|a| a.frozen_until.is_some()).count()
    }

    /// How many processes there are.
    pub(super) fn present(&self) -> usize {
        self.actors.len()
    }

    /// How many processes were started in all.
    pub(super) fn started(&self) -> usize {
        self.started
    }

    /// Asks everybody to stop at once and insists on good ends.
    pub(super) fn stop(mut self) {
        for actor in &self.actors {
            actor.program.signal(Signal::TERM);
        }
        for mut actor in std::mem::take(&mut self.actors) {
            self.see_off(&mut actor);
        }
    }

    /// Waits for the end of one who was asked to stop.
    fn see_off(&self, actor: &mut Actor) {
        let begun = Instant::now();
        let status = actor.program.wait();
        self.keep_log(actor);
        assert!(status.success(), "{} ended with {status}", actor.name);
        let took = begun.elapsed();
        assert!(took < STOP_PATIENCE, "{} took {took:?} to stop", actor.name);
    }

    fn keep_log(&self, actor: &Actor) {
        let path = self.logs.join(format!("{}.log", actor.name.replace(' ', "-")));
        std::fs::write(path, actor.program.log()).expect("writes the log");
    }
}

impl Drop for Cast<'_> {
    fn drop(&mut self) {
        for actor in std::mem::take(&mut self.actors) {
            self.keep_log(&actor);
            if std::thread::panicking() {
                // dropped, it would print thousands of lines that are in a file already
                actor.program.signal(Signal::KILL);
                std::mem::forget(actor.program);
            }
        }
    }
}
