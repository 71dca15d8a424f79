//! TLS with real servers: a PostgreSQL and a Redis that have no other door, and nginx in front of the API, with certificates made
//! for the test. What is proved: everything works over it, and nothing goes on without it.

mod proxy;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tests::authority::{Authority, Certificate};
use tests::remote_servers::{Postgres, Redis, Speech, owner};
use tests::servers::servers;
use tests::{Installation, Program, binaries, samples};

/// Longest wait for the API to notice how Redis is.
const NOTICED: Duration = Duration::from_secs(15);

/// Servers with TLS, and an installation on them.
struct Site {
    folder: PathBuf,
    authority: Authority,
    certificate: Certificate,
    postgres: Postgres,
    redis: Redis,
    installation: Installation,
}

impl Site {
    async fn new() -> Self {
        let folder = servers().folder().join(uuid::Uuid::new_v4().simple().to_string());
        let authority = Authority::new(&folder.join("ca"));
        // "localhost" and not 127.0.0.1: who connects by the address comes to another host than it is signed for
        let certificate = authority.sign("localhost", "DNS:localhost", owner());
        let speech = Speech::Tls(&certificate);
        let postgres = Postgres::start(&folder, speech);
        let redis = Redis::start(&folder, &authority.certificate(), speech, &[]);
        let installation = Installation::on(&postgres.servers("redis://unused".into()).await).await;
        Self { folder, authority, certificate, postgres, redis, installation }
    }

    /// The settings that lead to both servers, by this host and with this authority trusted.
    fn settings(&self, host: &str, authority: &Authority) -> [(&'static str, String); 3] {
        let ca = authority.certificate().display().to_string();
        let database = self.installation.database_url().split(['/', '?']).nth(3).expect("a name");
        [
            (
                "DATABASE_URL",
                format!(
                    "postgres://ffprobe_api@{host}:{}/{database}?sslmode=verify-full&sslrootcert={ca}",
                    self.postgres.port
                ),
            ),
            ("REDIS_URL", format!("rediss://{host}:{}", self.redis.port)),
            ("REDIS_CA_FILE", ca),
        ]
    }

    fn good(&self) -> [(&'static str, String); 3] {
        self.settings("localhost", &self.authority)
    }
}

fn with<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

async fn ready_says(http: &tests::Http, part: &str, health: &str) {
    let begun = std::time::Instant::now();
    loop {
        let answer = http.get("/health/ready").await;
        if answer.json[part] == health {
            return;
        }
        assert!(begun.elapsed() < NOTICED, "{part} never became {health}: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_job_runs_over_tls_to_both_servers() {
    let site = Site::new().await;
    let (settings, installation) = (site.good(), &site.installation);
    let (api, http) = installation.api(&with(&settings));
    let worker = installation.worker(&with(&settings));
    ready_says(&http, "redis", "healthy").await;
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    for _ in 0..3 {
        let job = http.probe(json!({"type": "path", "path": file})).await;
        assert_eq!(job["state"], "succeeded", "{job}");
    }
    // a ticket brought each, by the doorbell and apalis, and not the look for overdue rows
    assert!(!worker.log().contains("taken without a ticket"), "{}", worker.log());
    for program in [&api, &worker] {
        assert!(!program.log().contains("cannot listen to Redis"), "{}", program.log());
    }
    let sql = "select count(*) filter (where s.ssl), count(*) filter (where not s.ssl)
        from pg_stat_activity a join pg_stat_ssl s using (pid) where a.usename = 'ffprobe_api'";
    let (by_tls, in_clear): (i64, i64) = sqlx::query_as(sql).fetch_one(&installation.db).await.expect("counts");
    assert!(by_tls >= 2 && in_clear == 0, "{by_tls} by TLS, {in_clear} in clear");
    let plain = std::net::TcpStream::connect(("127.0.0.1", site.redis.port)).map(|mut stream| {
        use std::io::{Read, Write};
        let mut answer = Vec::new();
        let _ = stream.write_all(b"PING\r\n").and_then(|()| stream.read_to_end(&mut answer));
        answer
    });
    assert!(!plain.expect("connects").starts_with(b"+PONG"), "Redis has no door without TLS");
}

/// Starts both programs with these settings and insists on an end that says this.
fn neither_starts(installation: &Installation, settings: &[(&'static str, String)], wanted: &str) {
    for binary in ["ffprobe-api", "ffprobe-worker"] {
        let mut environment = installation.environment();
        environment.retain(|(name, _)| !settings.iter().any(|(changed, _)| changed == name));
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut program = Program::start(binary, &binaries::path(binary), &[], &environment);
        assert!(!program.wait_at_most(Duration::from_secs(20)).success(), "{binary} started");
        std::thread::sleep(Duration::from_millis(50));
        let log = program.log();
        assert!(log.contains(wanted) && log.contains("Fix: ") && log.contains("sslrootcert"), "{binary}: {log}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_prove_its_name_is_not_connected_to() {
    let mut site = Site::new().await;
    let stranger = Authority::new(&site.folder.join("stranger"));
    neither_starts(&site.installation, &site.settings("localhost", &stranger), "UnknownIssuer");
    neither_starts(&site.installation, &site.settings("127.0.0.1", &site.authority), "not valid for name");
    let log = site.postgres.log();
    assert!(!log.contains("connection authorized") && !log.contains("no pg_hba.conf entry"), "{log}");
    site.postgres.start_again(Speech::Clear);
    neither_starts(&site.installation, &site.good(), "server does not support TLS");
}

#[tokio::test]
async fn a_redis_that_cannot_prove_its_name_is_not_connected_to() {
    let mut site = Site::new().await;
    let stranger = Authority::new(&site.folder.join("stranger"));
    let clear = Redis::start(&site.folder, &site.authority.certificate(), Speech::Clear, &[]);
    let [database, ..] = site.good();
    let cases = [
        (site.settings("localhost", &stranger), "UnknownIssuer"),
        (site.settings("127.0.0.1", &site.authority), "not valid for name"),
    ];
    let plain = {
        let [database, _, ca] = site.good();
        [database, ("REDIS_URL", format!("rediss://localhost:{}", clear.port)), ca]
    };
    for (settings, wanted) in cases.into_iter().chain([(plain, "does it listen with TLS")]) {
        // the database is in order: this is about Redis
        let [_, url, ca] = settings;
        let settings = [database.clone(), url, ca];
        let (api, http) = site.installation.api(&with(&settings));
        let mut worker = site.installation.worker(&with(&settings));
        worker.wait_for(|line| (line.contains("to Redis") && line.contains(wanted)).then_some(()), wanted);
        ready_says(&http, "status", "degraded").await;
        assert_eq!(http.get("/health/ready").await.json["redis"], "unhealthy");
        api.stop();
        worker.stop();
    }
    // both doors saw nothing that they would have taken for a client of theirs
    let mut trusted = redis::Client::open(format!("redis://127.0.0.1:{}", clear.port)).expect("a client");
    let info: String = redis::cmd("INFO").arg("stats").query(&mut trusted).expect("answers");
    let commands: u32 =
        info.lines().find_map(|l| l.strip_prefix("total_commands_processed:")?.parse().ok()).expect("told");
    assert!(commands <= 3, "somebody else spoke to it in clear: {commands} commands");
    site.redis = Redis::start(&site.folder, &site.authority.certificate(), Speech::Tls(&site.certificate), &[]);
    let settings = site.good();
    let (_api, http) = site.installation.api(&with(&settings));
    ready_says(&http, "status", "healthy").await;
}
