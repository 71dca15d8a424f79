//! Redis behind Sentinel, with real servers: a primary, a replica and three sentinels that promote the replica when the
//! primary is gone. Used by the tests of a failover and by storms. Judges nothing about our own processes.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redis::{Client, Connection, FromRedisValue, Role};
use tests::Program;

const PASSWORD: &str = "of-the-servers";
const SENTINEL_PASSWORD: &str = "of-the-sentinels";
/// The database our processes use; not the first, so that it matters that they choose it.
const DB: u8 = 2;

/// A free port below those the kernel gives to clients, so that none of them takes it before the server does.
fn free_port() -> u16 {
    (0..1000)
        .map(|_| 10_000 + u16::from_be_bytes(uuid::Uuid::new_v4().as_bytes()[..2].try_into().expect("two")) % 20_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// A Redis server that others replicate, or that replicates another.
pub(crate) struct Server {
    port: u16,
    config: PathBuf,
    /// The process, to be killed or stopped.
    pub(crate) program: Program,
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
    pub(crate) fn start_again(&mut self) {
        self.program = run(&self.config);
    }

    /// What it answers to a command in the database our processes use; `None` if it does not answer.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &[&str]) -> Option<T> {
        let mut connection = connect(self.port, PASSWORD, DB)?;
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection).ok()
    }

    /// Whether it takes itself for the primary.
    pub(crate) fn is_primary(&self) -> bool {
        matches!(self.ask(&["ROLE"]), Some(Role::Primary { .. }))
    }

    /// Whether it follows a primary.
    pub(crate) fn is_replica(&self) -> bool {
        matches!(self.ask(&["ROLE"]), Some(Role::Replica { replication_state, .. }) if replication_state == "connected")
    }

    /// How many of our processes hear its doorbell.
    pub(crate) fn ears(&self) -> usize {
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

fn connect(port: u16, password: &str, db: u8) -> Option<Connection> {
    let client = Client::open(format!("redis://:{password}@127.0.0.1:{port}/{db}")).expect("a URL");
    let connection = client.get_connection_with_timeout(Duration::from_millis(500)).ok()?;
    connection.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    Some(connection)
}

/// Two servers and three sentinels.
pub(crate) struct Trio {
    /// The server that is the primary at the beginning.
    pub(crate) first: Server,
    /// The server that is the replica at the beginning.
    pub(crate) second: Server,
    /// The sentinels, to be stopped.
    pub(crate) sentinels: Vec<Program>,
    ports: Vec<u16>,
    secret: PathBuf,
}

impl Trio {
    /// Starts all of them, with their files in this folder.
    pub(crate) async fn start(folder: &Path) -> Self {
        let secret = folder.join("sentinel-password");
        std::fs::write(&secret, SENTINEL_PASSWORD).expect("writes");
        let first = Server::start(folder, None);
        let second = Server::start(folder, Some(first.port));
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let sentinels = ports.iter().map(|port| sentinel(folder, *port, first.port)).collect();
        let trio = Self { first, second, sentinels, ports, secret };
        until("the servers have found their roles, and the sentinels know", || trio.is_whole()).await;
        trio
    }

    /// What our processes are told about it.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let sentinels: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        vec![
            ("REDIS_URL", String::new()),
            ("REDIS_SENTINELS", sentinels.join(",")),
            ("REDIS_SENTINEL_MASTER", "film".to_owned()),
            ("REDIS_SENTINEL_PASSWORD_FILE", self.secret.display().to_string()),
            ("REDIS_PASSWORD", PASSWORD.to_owned()),
            ("REDIS_DB", DB.to_string()),
        ]
    }

    /// The present primary and the other one; the second one leads if both believe they do, so ask when it is whole.
    pub(crate) fn by_role(&mut self) -> (&mut Server, &mut Server) {
        match self.second.is_primary() {
            true => (&mut self.second, &mut self.first),
            false => (&mut self.first, &mut self.second),
        }
    }

    /// Whether one is the primary, the other follows, and every sentinel knows all others: the next failover can begin.
    pub(crate) fn is_whole(&self) -> bool {
        let port = match (self.first.is_primary(), self.second.is_primary()) {
            (true, false) if self.second.is_replica() => self.first.port,
            (false, true) if self.first.is_replica() => self.second.port,
            _ => return false,
        };
        self.ports.iter().all(|sentinel| knows_all(*sentinel, port))
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
    let mut connection = connect(port, SENTINEL_PASSWORD, 0).expect("answers");
    // gossip sooner: what takes ten seconds by default is not what is tested here
    let faster = ["info-period", "500", "publish-period", "250"];
    redis::cmd("SENTINEL").arg("DEBUG").arg(&faster).exec(&mut connection).expect("is told");
    program
}

/// Whether a sentinel believes in this primary, and has found the two other sentinels and the replica.
fn knows_all(port: u16, primary: u16) -> bool {
    let known = || -> Option<bool> {
        let mut connection = connect(port, SENTINEL_PASSWORD, 0)?;
        let asked = |what: &str| redis::cmd("SENTINEL").arg(what).arg("film").to_owned();
        let leader: HashMap<String, String> = asked("MASTER").query(&mut connection).ok()?;
        let replicas: Vec<HashMap<String, String>> = asked("REPLICAS").query(&mut connection).ok()?;
        let leads = leader["port"] == primary.to_string() && leader["flags"] == "master";
        let follows = replicas.len() == 1 && replicas[0]["flags"] == "slave";
        Some(leads && follows && leader["num-other-sentinels"] == "2")
    };
    known().unwrap_or(false)
}

/// Waits until something is so. Returns how long that took.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    begun.elapsed()
}
