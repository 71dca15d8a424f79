//! A Redis failover by Sentinel, with real servers: a primary, a replica and three sentinels of the test's own. The
//! primary is killed or stands still; API, worker, relay and doorbell move to the new one by themselves, and what the
//! old one says when it comes back changes nothing.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redis::{Client, Connection, Role};
use rustix::process::Signal;
use serde_json::json;
use tests::{Http, Installation, Program, samples};

const PASSWORD: &str = "of-the-servers";
const SENTINEL_PASSWORD: &str = "of-the-sentinels";
/// Between two jobs of the steady stream.
const BEAT: Duration = Duration::from_millis(300);
/// Longest time from the promotion of a server to the first job that came by a ticket through it, on a busy machine.
const RESUMED: f64 = 4.0;
/// A job whose ticket does not come is taken without one when it is so old.
const OVERDUE: f64 = 5.0;

/// A free port below those the kernel gives to clients, so that none of them takes it before the server does.
fn free_port() -> u16 {
    (0..1000)
        .map(|_| 10_000 + u16::from_be_bytes(uuid::Uuid::new_v4().as_bytes()[..2].try_into().expect("two")) % 20_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// A Redis server that others replicate, or that replicates another.
struct Server {
    port: u16,
    config: PathBuf,
    program: Program,
}

impl Server {
    fn start(folder: &Path, primary: Option<u16>) -> Self {
        let port = free_port();
        let own = folder.join(format!("redis-{port}"));
        std::fs::create_dir_all(&own).expect("a folder");
        let config = own.join("redis.conf");
        let of = primary.map_or(String::new(), |p| format!("replicaof 127.0.0.1 {p}\n"));
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsave \"\"\nrequirepass {PASSWORD}\nmasterauth {PASSWORD}\n\
             repl-diskless-sync-delay 0\n{of}",
            own.display()
        );
        std::fs::write(&config, text).expect("writes");
        Self { port, program: run(&config), config }
    }

    /// Starts it again, with the data and the role it had.
    fn start_again(&mut self) {
        self.program = run(&self.config);
    }

    fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> Option<T> {
        let mut connection = connect(self.port, PASSWORD)?;
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection).ok()
    }

    fn is_primary(&self) -> bool {
        matches!(self.ask(&["ROLE"]), Some(Role::Primary { .. }))
    }

    fn is_replica(&self) -> bool {
        matches!(self.ask(&["ROLE"]), Some(Role::Replica { replication_state, .. }) if replication_state == "connected")
    }

    /// How many of our processes hear its doorbell.
    fn ears(&self) -> usize {
        let channels: Vec<String> = self.ask(&["PUBSUB", "CHANNELS", "ffprobe_api:*:bell"]).unwrap_or_default();
        let heard = channels.iter().map(|c| self.ask::<(String, usize)>(&["PUBSUB", "NUMSUB", c]));
        heard.map(|n| n.map_or(0, |(_, n)| n)).sum()
    }
}

fn run(config: &Path) -> Program {
    let mut server = Program::start("redis", Path::new("redis-server"), &[config.to_str().expect("UTF-8")], &[]);
    server.wait_for(|line| line.contains("Ready to accept connections").then_some(()), "it answers");
    server
}

fn connect(port: u16, password: &str) -> Option<Connection> {
    let client = Client::open(format!("redis://:{password}@127.0.0.1:{port}")).expect("a URL");
    let connection = client.get_connection_with_timeout(Duration::from_millis(500)).ok()?;
    connection.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    Some(connection)
}

/// Two servers and three sentinels.
struct Trio {
    first: Server,
    second: Server,
    ports: Vec<u16>,
    sentinels: Vec<Program>,
}

impl Trio {
    async fn start(folder: &Path) -> Self {
        let first = Server::start(folder, None);
        let second = Server::start(folder, Some(first.port));
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let sentinels = ports.iter().map(|port| sentinel(folder, *port, first.port)).collect();
        let trio = Self { first, second, ports, sentinels };
        until("the replica follows", || trio.second.is_replica()).await;
        until("the sentinels know each other", || trio.ports.iter().all(|port| knows_all(*port))).await;
        trio
    }

    fn list(&self) -> String {
        self.ports.iter().map(|p| format!("127.0.0.1:{p}")).collect::<Vec<_>>().join(",")
    }
}

fn sentinel(folder: &Path, port: u16, primary: u16) -> Program {
    let config = folder.join(format!("sentinel-{port}.conf"));
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nrequirepass {SENTINEL_PASSWORD}\n\
         sentinel monitor film 127.0.0.1 {primary} 2\nsentinel auth-pass film {PASSWORD}\n\
         sentinel down-after-milliseconds film 500\nsentinel failover-timeout film 2000\n",
        folder.display()
    );
    std::fs::write(&config, text).expect("writes");
    let arguments = [config.to_str().expect("UTF-8"), "--sentinel"];
    let mut program = Program::start("sentinel", Path::new("redis-server"), &arguments, &[]);
    program.wait_for(|line| line.contains("+monitor master film").then_some(()), "it watches");
    let mut connection = connect(port, SENTINEL_PASSWORD).expect("answers");
    // gossip sooner: what takes ten seconds by default is not what is tested here
    let faster = ["info-period", "500", "publish-period", "250"];
    redis::cmd("SENTINEL").arg("DEBUG").arg(&faster).exec(&mut connection).expect("is told");
    program
}

/// Whether a sentinel has found the two others and the replica.
fn knows_all(port: u16) -> bool {
    let state = connect(port, SENTINEL_PASSWORD).and_then(|mut connection| {
        let asked = redis::cmd("SENTINEL").arg("MASTER").arg("film").query(&mut connection);
        asked.ok() as Option<std::collections::HashMap<String, String>>
    });
    state.is_some_and(|s| s["num-other-sentinels"] == "2" && s["num-slaves"] == "1")
}

async fn until(what: &str, holds: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    begun.elapsed()
}

/// What became of a job.
#[derive(Debug)]
struct Job {
    /// When it was submitted, in seconds of the scene.
    at: f64,
    /// How long it waited to be started.
    waited: f64,
    by_ticket: bool,
}

impl Job {
    fn started(&self) -> f64 {
        self.at + self.waited
    }
}

/// One API and one worker on a trio, and a steady stream of jobs.
struct Scene {
    trio: Trio,
    installation: Installation,
    api: Program,
    worker: Program,
    http: Http,
    file: String,
    begun: Instant,
    submitted: Vec<(f64, uuid::Uuid)>,
}

impl Scene {
    async fn set() -> Self {
        let installation = Installation::new().await;
        let trio = Trio::start(installation.folder()).await;
        let list = trio.list();
        let secret = installation.folder().join("sentinel-password");
        std::fs::write(&secret, SENTINEL_PASSWORD).expect("writes");
        let settings = [
            ("REDIS_URL", ""),
            ("REDIS_SENTINELS", list.as_str()),
            ("REDIS_SENTINEL_MASTER", "film"),
            ("REDIS_SENTINEL_PASSWORD_FILE", secret.to_str().expect("UTF-8")),
            ("REDIS_PASSWORD", PASSWORD),
            ("REDIS_DB", "2"),
            // cheap probes: two tests stream jobs at a time, and a busy machine would look like a late ticket
            ("SANDBOX", "off"),
        ];
        let (api, http) = installation.api(&settings);
        let worker = installation.worker(&settings);
        until("both hear the doorbell of the primary", || trio.first.ears() == 2).await;
        let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
        Self { trio, installation, api, worker, http, file, begun: Instant::now(), submitted: Vec::new() }
    }

    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    async fn submit(&mut self) {
        let at = self.now();
        let job = self.http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": self.file}})).await;
        assert_eq!(job.status, 202, "{}", job.text);
        self.submitted.push((at, job.json["id"].as_str().expect("an id").parse().expect("a UUID")));
    }

    /// Submits jobs for so long.
    async fn stream(&mut self, seconds: f64) {
        let end = self.now() + seconds;
        while self.now() < end {
            self.submit().await;
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Submits jobs until something is so.
    async fn stream_until(&mut self, what: &str, holds: impl Fn(&Trio) -> bool) -> f64 {
        let begun = self.now();
        while !holds(&self.trio) {
            assert!(self.now() - begun < 30.0, "never came true: {what}");
            self.submit().await;
            tokio::time::sleep(BEAT).await;
        }
        self.now()
    }

    /// Waits for every job, and insists on one attempt and one result each.
    async fn settle(&self) -> Vec<Job> {
        let mut seen = Vec::new();
        for (at, job) in &self.submitted {
            assert_eq!(self.http.wait(&job.to_string()).await["state"], "succeeded");
            let sql = "select extract(epoch from a.started_at - j.created_at)::float8 from attempt a, job j \
                       where a.job_id = j.id and j.id = $1";
            let waits: Vec<f64> =
                sqlx::query_scalar(sql).bind(job).fetch_all(&self.installation.db).await.expect("asks");
            assert_eq!(waits.len(), 1, "one attempt of job {job}");
            let (log, id) = (self.worker.log(), job.to_string());
            let by_ticket = !log.lines().any(|l| l.contains("taken without a ticket") && l.contains(&id));
            seen.push(Job { at: *at, waited: waits[0], by_ticket });
        }
        let sql = "select count(*) from result";
        let results: i64 = sqlx::query_scalar(sql).fetch_one(&self.installation.db).await.expect("counts");
        assert_eq!(usize::try_from(results), Ok(self.submitted.len()), "one result for each job");
        for program in [&self.api, &self.worker] {
            let log = program.log();
            // apalis calls every broken connection an error
            let error = log.lines().find(|l| l.contains("\"level\":\"ERROR\"") && !l.contains("apalis_core"));
            assert_eq!(error, None);
            let moves = log.matches("the Redis primary is here now").count();
            assert_eq!(moves, 2, "to the first, to the second, and never back: {log}");
        }
        seen
    }
}

/// Insists that tickets flowed again soon after the promotion, and to the end.
fn judge(what: &str, trouble: f64, promoted: f64, jobs: &[Job]) {
    let resumed =
        jobs.iter().filter(|j| j.by_ticket && j.started() > promoted).map(Job::started).fold(f64::INFINITY, f64::min);
    let after: Vec<&Job> = jobs.iter().filter(|j| j.at > resumed).collect();
    let longest = |jobs: &mut dyn Iterator<Item = &Job>| jobs.map(|j| j.waited).fold(0.0, f64::max);
    println!(
        "primary {what}: the other was primary {:.1} s later, tickets flowed {:.1} s after that; of {} jobs the longest \
         waited {:.1} s, of the {} after that {:.1} s; {} came without a ticket",
        promoted - trouble,
        resumed - promoted,
        jobs.len(),
        longest(&mut jobs.iter()),
        after.len(),
        longest(&mut after.iter().copied()),
        jobs.iter().filter(|j| !j.by_ticket).count(),
    );
    assert!(resumed < promoted + RESUMED, "{jobs:?}");
    assert!(after.len() > 10, "{jobs:?}");
    assert!(after.iter().all(|j| j.by_ticket && j.waited < OVERDUE), "{jobs:?}");
}

/// The primary is taken away and given back; what must be so in between and afterwards does not depend on how.
async fn fail_over(what: &str, take: impl Fn(&mut Trio), give_back: impl Fn(&mut Trio)) {
    let mut scene = Scene::set().await;
    scene.stream(1.0).await;
    let trouble = scene.now();
    take(&mut scene.trio);
    let promoted = scene.stream_until("the replica is promoted", |trio| trio.second.is_primary()).await;
    scene.stream_until("both hear the new doorbell", |trio| trio.second.ears() == 2).await;
    scene.stream(1.0).await;
    // the old one comes back, and may believe for a while that it is the primary
    give_back(&mut scene.trio);
    scene.stream_until("the old primary is a replica", |trio| trio.first.is_replica()).await;
    scene.stream(1.0).await;
    assert_eq!((scene.trio.first.ears(), scene.trio.second.ears()), (0, 2));
    assert_eq!(scene.http.get("/health").await.json["redis"], "healthy");
    judge(what, trouble, promoted, &scene.settle().await);
}

#[tokio::test]
async fn a_killed_primary_is_left_for_the_new_one() {
    let kill = |trio: &mut Trio| {
        trio.first.program.signal(Signal::KILL);
        trio.first.program.wait();
    };
    fail_over("killed", kill, |trio| trio.first.start_again()).await;
}

#[tokio::test]
async fn a_primary_that_stands_still_is_left_for_the_new_one() {
    // as in a split network: connections stay open, and nobody answers; the sentinel on the same side still believes in
    // the old primary when both come back
    let both = |trio: &mut Trio, signal| {
        trio.first.program.signal(signal);
        trio.sentinels[0].signal(signal);
    };
    fail_over("stopped", |trio| both(trio, Signal::STOP), |trio| both(trio, Signal::CONT)).await;
}
