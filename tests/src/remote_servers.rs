//! A PostgreSQL and a Redis that listen on TCP, with TLS or without, as on another machine: for the tests of the way to them.
//! With TLS they have no door without: PostgreSQL takes nobody over TCP in clear, and Redis has no plain port. They run as
//! the unprivileged user of the private servers, and die with the test.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

use crate::authority::Certificate;
use crate::process::Program;
use crate::servers::{Servers, servers};

/// What the servers speak.
#[derive(Debug, Clone, Copy)]
pub enum Speech<'a> {
    /// TLS, and nothing else over TCP.
    Tls(&'a Certificate),
    /// No TLS at all.
    Clear,
}

/// A PostgreSQL of the test's own.
pub struct Postgres {
    folder: PathBuf,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    server: Option<Program>,
}

/// A Redis of the test's own.
pub struct Redis {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// The process.
    pub server: Program,
}

/// The user that the servers run as; our own, unless we are root.
pub fn owner() -> u32 {
    std::fs::metadata(servers().folder().join("servers/run")).expect("the servers run").uid()
}

/// A free port below those the kernel gives to clients, so that none of them takes it before the server does.
pub fn free_port() -> u16 {
    (0..1000)
        .map(|_| 10_000 + u16::from_be_bytes(uuid::Uuid::new_v4().as_bytes()[..2].try_into().expect("two")) % 20_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// Arguments of `setpriv` that run a program as the owner of the servers.
fn as_owner(program: &Path, arguments: &[&str]) -> (PathBuf, Vec<String>) {
    let arguments = arguments.iter().map(|a| (*a).to_owned());
    if !geteuid().is_root() {
        return (program.to_owned(), arguments.collect());
    }
    let user = owner();
    let mut all = vec![format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()];
    all.push(program.display().to_string());
    all.extend(arguments);
    ("/usr/bin/setpriv".into(), all)
}

fn start(name: &str, program: &Path, arguments: &[&str]) -> Program {
    let (program, arguments) = as_owner(program, arguments);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Program::start(name, &program, &arguments, &[])
}

/// A folder of the servers' owner.
fn make_folder(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    chown(folder, Some(owner()), None).expect("gives the folder away");
}

/// A program of the PostgreSQL server, which Debian keeps out of PATH.
fn postgres_program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|v| v.path().join("bin").join(name)).filter(|p| p.exists()).max();
    newest.unwrap_or_else(|| name.into())
}

impl Postgres {
    /// Makes the data and starts.
    pub fn start(folder: &Path, speech: Speech<'_>) -> Self {
        let folder = folder.join("pg");
        make_folder(&folder);
        let data = folder.join("data").display().to_string();
        let initdb = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        let (program, arguments) = as_owner(&postgres_program("initdb"), &initdb);
        let made = Command::new(program).args(arguments).current_dir(&folder).output().expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // who comes by TCP comes by TLS
        let access = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
        std::fs::write(folder.join("data/pg_hba.conf"), access).expect("writes");
        let mut this = Self { folder, port: free_port(), server: None };
        this.start_again(speech);
        this
    }

    /// Stops it and starts it with the same data and another speech.
    pub fn start_again(&mut self, speech: Speech<'_>) {
        if let Some(server) = self.server.take() {
            server.signal(rustix::process::Signal::INT);
            let mut server = server;
            server.wait();
        }
        let (data, port) = (self.folder.join("data").display().to_string(), self.port.to_string());
        let folder = self.folder.display().to_string();
        let mut settings =
            vec!["listen_addresses=127.0.0.1".to_owned(), "fsync=off".into(), "logging_collector=off".into()];
        if let Speech::Tls(certificate) = speech {
            settings.push("ssl=on".into());
            settings.push(format!("ssl_cert_file={}", certificate.chain.display()));
            settings.push(format!("ssl_key_file={}", certificate.key.display()));
        }
        let mut arguments = vec!["-D", &data, "-p", &port, "-k", &folder];
        arguments.extend(settings.iter().flat_map(|setting| ["-c", setting.as_str()]));
        let mut server = start("postgres", &postgres_program("postgres"), &arguments);
        server.wait_for(|line| line.contains("ready to accept connections").then_some(()), "it answers");
        self.server = Some(server);
    }

    /// Servers for an installation: this PostgreSQL, by its socket, and a Redis.
    pub async fn servers(&self, redis_url: String) -> Servers {
        let url = format!("postgres:///postgres?host={}&port={}&user=postgres", self.folder.display(), self.port);
        Servers::prepare(url, redis_url, self.folder.clone()).await
    }

    /// What its log says.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Program::log).unwrap_or_default()
    }
}

impl Redis {
    /// Starts it with further arguments.
    pub fn start(folder: &Path, ca: &Path, speech: Speech<'_>, more: &[&str]) -> Self {
        let port = free_port();
        let folder = folder.join(format!("redis-{port}"));
        make_folder(&folder);
        let (folder, number, ca) = (folder.display().to_string(), port.to_string(), ca.display().to_string());
        let paths = match speech {
            Speech::Tls(certificate) => {
                [certificate.chain.display().to_string(), certificate.key.display().to_string()]
            }
            Speech::Clear => Default::default(),
        };
        let mut arguments = vec!["--bind", "127.0.0.1", "--dir", &folder, "--save", ""];
        match speech {
            Speech::Tls(_) => arguments.extend([
                "--port",
                "0",
                "--tls-port",
                &number,
                "--tls-auth-clients",
                "no",
                "--tls-ca-cert-file",
                &ca,
                "--tls-cert-file",
                &paths[0],
                "--tls-key-file",
                &paths[1],
            ]),
            Speech::Clear => arguments.extend(["--port", &number]),
        }
        arguments.extend(more);
        let mut server = start("redis", Path::new("redis-server"), &arguments);
        server.wait_for(|line| line.contains("Ready to accept connections").then_some(()), "it answers");
        Self { port, server }
    }
}
