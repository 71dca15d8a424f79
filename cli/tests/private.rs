//! The private servers with real processes: first and second start, a second instance, `kill -9` of each process, and
//! directories that must be refused. Run by cargo.
//!
//! A process that must be killed is this test binary again, running only the ignored test `holder`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cli::private::{DATABASE, Durability, Options, PrivateServers, SUPERUSER};
use cli::process::{Signal, signal_pid};
use redis::Commands;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

const DURABLE: Options = Options { durability: Durability::Durable };
const THROWAWAY: Options = Options { durability: Durability::Throwaway };
const HOLD: &str = "HOLD_STATE_DIR";
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn directory() -> TempDir {
    // Short, because socket paths are; reachable, because the servers run as another user when we are root.
    tempfile::Builder::new().prefix("fp").tempdir_in("/tmp").expect("directory")
}

async fn execute(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.expect("connect");
    sqlx::raw_sql(sql).execute(&mut connection).await.expect(sql);
}

async fn count(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.expect("connect");
    sqlx::query_scalar("select count(*) from kept").fetch_one(&mut connection).await.expect("count")
}

fn redis_at(url: &str) -> redis::Connection {
    redis::Client::open(url).expect("url").get_connection().expect("connect")
}

/// A live process, zombies not counted.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn gone_within(pids: &[u32], patience: Duration) -> bool {
    let begun = Instant::now();
    while pids.iter().any(|pid| lives(*pid)) {
        if begun.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// All processes whose command line names the directory, such as every postgres backend's parent and redis.
fn users_of(state: &Path) -> Vec<u32> {
    let wanted = state.to_str().expect("UTF-8").as_bytes();
    let pids = fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let names = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(wanted.len()).any(|part| part == wanted)
    };
    pids.filter(names).collect()
}

#[tokio::test]
async fn the_second_start_finds_the_data_and_the_modes_are_tight() {
    let state = directory();
    let servers = PrivateServers::start(state.path(), DURABLE).await.expect("cold start");
    let (database, redis) = (servers.database_url(DATABASE, SUPERUSER), servers.redis_url());
    execute(&database, "create table kept (n int); insert into kept values (1)").await;
    redis_at(&redis).set::<_, _, ()>("kept", "yes").expect("set");
    for (path, mode) in [("", 0o711), ("pg", 0o700), ("redis", 0o700), ("run", 0o700), ("postgres.log", 0o600)] {
        let metadata = fs::metadata(state.path().join(path)).expect(path);
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{path}");
        let theirs = matches!(path, "pg" | "redis" | "run");
        assert_eq!(metadata.uid() == 0, is_root() && !theirs, "{path} belongs to {}", metadata.uid());
    }
    let fsync: String = {
        let mut connection = PgConnection::connect(&database).await.expect("connect");
        sqlx::query_scalar("show fsync").fetch_one(&mut connection).await.expect("show")
    };
    assert_eq!(fsync, "on");
    let pids = servers.pids();
    servers.stop().await;
    assert!(!lives(pids.postgres.expect("pid")) && !lives(pids.redis.expect("pid")));

    let begun = Instant::now();
    let servers = PrivateServers::start(state.path(), DURABLE).await.expect("warm start");
    assert!(begun.elapsed() < Duration::from_secs(5), "a warm start took {:?}", begun.elapsed());
    assert_eq!(servers.database_url(DATABASE, SUPERUSER), database);
    assert_eq!(count(&database).await, 1);
    assert_eq!(redis_at(&redis).get::<_, String>("kept").expect("get"), "yes");
    servers.stop().await;
}

#[tokio::test]
async fn a_second_instance_is_refused_and_the_first_goes_on() {
    let state = directory();
    let first = PrivateServers::start(state.path(), THROWAWAY).await.expect("start");
    let error = PrivateServers::start(state.path(), THROWAWAY).await.expect_err("refused").to_string();
    assert!(error.contains("already running on") && error.contains("FFPROBE_API_STATE_DIR"), "{error}");
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    execute(&first.database_url(DATABASE, SUPERUSER), "create table kept (n int)").await;
    first.stop().await;
    PrivateServers::start(state.path(), THROWAWAY).await.expect("after the first ended").stop().await;
}

#[tokio::test]
async fn a_killed_server_is_started_again_with_its_data() {
    let state = directory();
    let mut servers = PrivateServers::start(state.path(), DURABLE).await.expect("start");
    let (database, redis) = (servers.database_url(DATABASE, SUPERUSER), servers.redis_url());
    execute(&database, "create table kept (n int); insert into kept values (1)").await;
    redis_at(&redis).set::<_, _, ()>("kept", "yes").expect("set");
    // Redis writes to its file once a second; wait until the key is there.
    let written = Instant::now();
    while !holds(&state.path().join("redis/appendonlydir"), b"kept") {
        assert!(written.elapsed() < Duration::from_secs(5), "Redis did not write");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A client that stays connected: its backend must not hinder the next postmaster.
    let _idle = PgConnection::connect(&database).await.expect("connect");
    let before = servers.pids();
    for pid in [before.postgres, before.redis] {
        signal_pid(pid.expect("pid"), Signal::KILL).expect("kill");
    }
    let recovered = async {
        loop {
            let postgres = PgConnection::connect(&database).await.is_ok();
            let answer = redis::Client::open(redis.as_str()).expect("url").get_connection();
            if postgres && answer.and_then(|mut c| c.get::<_, Option<String>>("kept")).is_ok_and(|v| v.is_some()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        error = servers.supervise() => panic!("gave up: {error:#}"),
        result = tokio::time::timeout(Duration::from_secs(20), recovered) => result.expect("recovery within 20 s"),
    }
    assert_eq!(count(&database).await, 1);
    let after = servers.pids();
    assert!(after.postgres.is_some() && after.postgres != before.postgres && after.redis != before.redis, "{after:?}");
    servers.stop().await;
}

fn holds(directory: &Path, wanted: &[u8]) -> bool {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .map(|file| fs::read(file.path()).unwrap_or_default())
        .any(|bytes| bytes.windows(wanted.len()).any(|w| w == wanted))
}

#[tokio::test]
async fn the_end_of_a_server_is_noticed_and_named() {
    let state = directory();
    let mut servers = PrivateServers::start(state.path(), THROWAWAY).await.expect("start");
    assert!(tokio::time::timeout(Duration::from_millis(200), servers.exited()).await.is_err(), "nothing ended yet");
    signal_pid(servers.pids().redis.expect("pid"), Signal::KILL).expect("kill");
    let message = tokio::time::timeout(Duration::from_secs(5), servers.exited()).await.expect("noticed");
    assert!(message.contains("Redis ended") && message.contains('9'), "{message}");
    servers.stop().await;
}

/// Not a test of its own: a process that holds servers until it is killed.
#[tokio::test]
#[ignore = "started by other tests, in a process of its own"]
#[expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a process of its own, told and asked by its parent"
)]
async fn holder() {
    let state = std::env::var_os(HOLD).expect(HOLD);
    let servers = PrivateServers::start(Path::new(&state), DURABLE).await.expect("start");
    let pids = servers.pids();
    println!("\nHOLDING {} {}", pids.postgres.expect("pid"), pids.redis.expect("pid"));
    std::future::pending::<()>().await;
}

fn hold(program: &Path, state: &Path, uid: Option<u32>) -> (Child, Vec<u32>) {
    let mut command = Command::new(program);
    command.args(["--exact", "holder", "--ignored", "--nocapture"]).env(HOLD, state).stdout(Stdio::piped());
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let mut holder = command.spawn().expect("holder");
    let mut lines = BufReader::new(holder.stdout.take().expect("stdout")).lines();
    let line = lines.find_map(|line| line.expect("line").strip_prefix("HOLDING ").map(str::to_owned)).expect("held");
    (holder, line.split(' ').map(|pid| pid.parse().expect("pid")).collect())
}

async fn nothing_survives_kill_9(program: PathBuf, state: &Path, uid: Option<u32>) {
    let (mut holder, pids) = hold(&program, state, uid);
    assert!(pids.iter().all(|pid| lives(*pid)));
    let owner = fs::metadata(format!("/proc/{}", pids[0])).expect("process").uid();
    assert_ne!(owner, 0, "PostgreSQL runs as root");
    assert!(uid.is_none_or(|uid| uid == owner), "PostgreSQL runs as {owner}");
    let run = state.join("run");
    let url = format!("postgres:///{DATABASE}?host={}&user=postgres", run.display());
    execute(&url, "create table kept (n int); insert into kept values (1)").await;
    holder.kill().expect("kill -9");
    holder.wait().expect("wait");
    assert!(gone_within(&pids, Duration::from_secs(5)), "still there: {:?}", users_of(state));

    // And again at once, while the servers may still be ending.
    let (mut holder, pids) = hold(&program, state, uid);
    assert_eq!(count(&url).await, 1);
    holder.kill().expect("kill -9");
    holder.wait().expect("wait");
    let (mut holder, again) = hold(&program, state, uid);
    assert!(pids.iter().all(|pid| !lives(*pid)), "two servers on one directory");
    assert_eq!(count(&url).await, 1);
    holder.kill().expect("kill -9");
    holder.wait().expect("wait");
    assert!(gone_within(&again, Duration::from_secs(5)), "still there: {:?}", users_of(state));
}

#[tokio::test]
async fn kill_9_of_the_parent_leaves_nothing_and_loses_nothing() {
    let state = directory();
    nothing_survives_kill_9(std::env::current_exe().expect("this program"), state.path(), None).await;
}

#[tokio::test]
async fn kill_9_of_the_parent_leaves_nothing_as_an_ordinary_user_too() {
    if !is_root() {
        return; // The test above has just done it.
    }
    let (state, programs) = (directory(), directory());
    chown(state.path(), Some(NOBODY), Some(NOBODY)).expect("chown");
    // A copy, because the build directory may be closed to others.
    let program = programs.path().join("holder");
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("copy");
    fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    nothing_survives_kill_9(program, state.path(), Some(NOBODY)).await;
}

#[tokio::test]
async fn a_half_made_database_and_a_stale_pid_file_heal() {
    let state = directory();
    fs::write(state.path().join("lock"), "").expect("lock");
    fs::create_dir(state.path().join("pg.new")).expect("leftover");
    fs::write(state.path().join("pg.new/PG_VERSION"), "15\n").expect("leftover");
    let servers = PrivateServers::start(state.path(), THROWAWAY).await.expect("start after a half initdb");
    let database = servers.database_url(DATABASE, SUPERUSER);
    execute(&database, "create table kept (n int)").await;
    servers.stop().await;

    // The number of a process of the same user that is not PostgreSQL: what PostgreSQL itself refuses.
    let owner = fs::metadata(state.path().join("pg")).expect("pg").uid();
    let mut other = Command::new("sleep");
    other.arg("60");
    if is_root() {
        other.uid(owner);
    }
    let mut other = other.spawn().expect("sleep");
    for file in ["pg/postmaster.pid", "run/.s.PGSQL.5432.lock"] {
        fs::write(state.path().join(file), format!("{}\n{}\n", other.id(), state.path().join("pg").display()))
            .expect(file);
    }
    let servers = PrivateServers::start(state.path(), THROWAWAY).await.expect("start despite a stale pid file");
    assert_eq!(count(&database).await, 0);
    assert!(other.try_wait().expect("wait").is_none(), "the other process was hit");
    other.kill().expect("kill");
    other.wait().expect("wait");
    servers.stop().await;
}

#[tokio::test]
async fn a_server_that_does_not_start_shows_its_log_and_takes_the_other_with_it() {
    let state = directory();
    PrivateServers::start(state.path(), THROWAWAY).await.expect("start").stop().await;
    let settings = state.path().join("pg/postgresql.conf");
    let text = fs::read_to_string(&settings).expect("read");
    fs::write(&settings, format!("{text}\nshared_buffers = 'much'\n")).expect("write");
    let error = format!("{:#}", PrivateServers::start(state.path(), THROWAWAY).await.expect_err("refused"));
    assert!(error.contains("PostgreSQL did not start") && error.contains("shared_buffers"), "{error}");
    assert!(gone_within(&users_of(state.path()), Duration::from_secs(2)), "Redis goes on");
    fs::write(&settings, text).expect("write");
    fs::write(state.path().join("pg/PG_VERSION"), "9\n").expect("write");
    let error = PrivateServers::start(state.path(), THROWAWAY).await.expect_err("refused").to_string();
    assert!(error.contains("PostgreSQL 9") && error.contains("postgresql-9"), "{error}");
}

async fn refusal(state: &Path) -> String {
    let error = PrivateServers::start(state, THROWAWAY).await.expect_err("refused");
    let error = format!("{error:#}");
    assert!(error.contains("FFPROBE_API_STATE_DIR"), "{error}");
    error
}

#[tokio::test]
async fn a_directory_that_is_not_ours_or_does_not_fit_is_refused_untouched() {
    let outer = directory();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    fs::write(outer.path().join("precious"), "data").expect("write");
    assert!(refusal(outer.path()).await.contains("neither empty nor"));
    assert_eq!(fs::metadata(outer.path()).expect("outer").permissions().mode() & 0o777, 0o755);
    assert!(!outer.path().join("lock").exists());

    let long = outer.path().join("l".repeat(100));
    assert!(refusal(&long).await.contains("too long"));
    assert!(!long.exists());

    assert!(refusal(&outer.path().join("precious")).await.contains("could not make"));

    if is_root() {
        let theirs = outer.path().join("theirs");
        fs::create_dir(&theirs).expect("create");
        chown(&theirs, Some(NOBODY), Some(NOBODY)).expect("chown");
        assert!(refusal(&theirs).await.contains("belongs to user 65534"));

        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o700)).expect("mode");
        let error = refusal(&outer.path().join("state")).await;
        assert!(error.contains("may not enter") && error.contains(&outer.path().display().to_string()), "{error}");
        assert!(!outer.path().join("state").exists());
    }
}

#[tokio::test]
async fn a_path_with_odd_letters_works() {
    let outer = directory();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let state = outer.path().join("a b,c\"ü");
    let servers = PrivateServers::start(&state, THROWAWAY).await.expect("start");
    execute(&servers.database_url(DATABASE, SUPERUSER), "select 1").await;
    redis_at(&servers.redis_url()).set::<_, _, ()>("a", "b").expect("set");
    servers.stop().await;
}
