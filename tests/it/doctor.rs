//! `probectl doctor`: a healthy installation gets away with remarks, and each broken one is named with its cause and the fix.

use serde_json::Value;
use tests::remote_servers::{Redis, Speech};
use tests::{Http, Installation, Program, binaries};

/// What came out: the exit code, and the checks.
struct Report {
    code: i32,
    json: Value,
}

impl Report {
    /// Runs it with the environment of the installation, with changes.
    fn of(installation: &Installation, url: &str, changes: &[(&str, &str)]) -> Self {
        let log = output(installation, url, changes, &["doctor", "--json"]);
        let json = serde_json::from_str(&log.1).unwrap_or_else(|e| panic!("{e}: {}", log.1));
        Self { code: log.0, json }
    }

    fn check(&self, area: &str, name: &str) -> &Value {
        let checks = self.json["checks"].as_array().expect("checks");
        let found = checks.iter().find(|c| c["area"] == area && c["name"] == name);
        found.unwrap_or_else(|| panic!("{area} {name}: {:#}", self.json))
    }

    /// Insists on this outcome of a check.
    fn says(&self, area: &str, name: &str, outcome: &str) -> String {
        let check = self.check(area, name);
        assert_eq!(check["outcome"], outcome, "{:#}", self.json);
        format!("{} → {}", check["found"].as_str().unwrap_or_default(), check["next"].as_str().unwrap_or_default())
    }

    /// Insists that this and nothing else fails, with these words.
    fn fails_only(&self, area: &str, name: &str, words: &[&str]) {
        let text = self.says(area, name, "fail");
        assert_eq!((self.code, &self.json["fail"]), (1, &1.into()), "{:#}", self.json);
        for word in words {
            assert!(text.contains(word), "{text} does not say {word}");
        }
    }
}

fn output(installation: &Installation, url: &str, changes: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
    let mut environment = installation.environment();
    environment.extend([
        ("FFPROBE_API_URL".into(), url.to_owned()),
        ("FFPROBE_API_KEY".into(), installation.key.clone()),
        ("FFPROBE_API_STATE_DIR".into(), installation.folder().join("state").display().to_string()),
    ]);
    environment.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let mut program = Program::start("probectl", &binaries::path("probectl"), arguments, &environment);
    let code = program.wait().code().expect("an exit code");
    std::thread::sleep(std::time::Duration::from_millis(100));
    (code, program.log())
}

fn no_secret_in(text: &str, installation: &Installation) {
    for (name, value) in installation.environment() {
        let secret = ["API_KEY_PEPPER", "JWT_SECRET", "ENCRYPTION_KEYS"].contains(&name.as_str());
        assert!(!secret || !text.contains(&value), "{name} stands in: {text}");
    }
    assert!(!text.contains(&installation.key), "{text}");
}

#[tokio::test]
async fn a_healthy_installation_gets_away_with_remarks() {
    let (installation, http, _programs) = Installation::running().await;
    let report = Report::of(&installation, http.url(), &[]);
    assert_eq!(
        (report.code, &report.json["fail"], &report.json["skip"]),
        (0, &0.into(), &1.into()),
        "{:#}",
        report.json
    );
    for (area, name) in [
        ("secrets", "key pepper"),
        ("secrets", "token signing"),
        ("secrets", "encryption keys"),
        ("postgres", "reachable"),
        ("postgres", "version"),
        ("postgres", "tls"),
        ("postgres", "clock"),
        ("postgres", "schema"),
        ("postgres", "role"),
        ("postgres", "lanes"),
        ("uploads", "volume"),
        ("redis", "reachable"),
        ("redis", "version"),
        ("redis", "tls"),
        ("redis", "eviction"),
        ("api", "reachable"),
        ("api", "ready"),
        ("api", "version"),
        ("api", "https"),
        ("api", "headers"),
        ("api", "database role"),
        ("workers", "probe"),
        ("workers", "relay"),
        ("workers", "upkeep"),
        ("workers", "deliver"),
        ("workers", "lanes"),
        ("workers", "ffprobe"),
        ("workers", "uploads"),
    ] {
        report.says(area, name, "ok");
    }
    assert!(report.says("redis", "appending", "warn").contains("appendonly"), "the servers of the tests keep nothing");
    assert_ne!(report.check("workers", "sandbox")["outcome"], "fail");
    no_secret_in(&report.json.to_string(), &installation);

    let (code, text) = output(&installation, http.url(), &[], &["doctor"]);
    assert!(code == 0 && text.contains("0 failed, 1 not made") && text.contains("→ set appendonly yes"), "{text}");
    let pause = http.post("/api/v1/queues/scan/pause", &serde_json::json!({})).await;
    assert_eq!(pause.status, 200, "{}", pause.text);
    let report = Report::of(&installation, http.url(), &[]);
    assert!(report.code == 0 && report.says("postgres", "lanes", "warn").contains("paused: scan"));
}

#[tokio::test]
async fn a_redis_that_evicts_fails() {
    let (installation, http, _programs) = Installation::running().await;
    let redis = Redis::start(installation.folder(), "".as_ref(), Speech::Clear, &["--maxmemory-policy", "allkeys-lru"]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let report = Report::of(&installation, http.url(), &[("REDIS_URL", &url)]);
    report.fails_only("redis", "eviction", &["allkeys-lru", "maxmemory-policy noeviction"]);
    let gone = format!("redis://127.0.0.1:{}", tests::remote_servers::free_port());
    let report = Report::of(&installation, http.url(), &[("REDIS_URL", &gone)]);
    report.fails_only("redis", "reachable", &["REDIS_"]);
}

#[tokio::test]
async fn services_that_run_as_the_owner_fail() {
    let installation = Installation::new().await;
    let owner = installation.owner_url();
    let (_api, http) = installation.api(&[("DATABASE_URL", &owner)]);
    let _worker = installation.worker(&[]);
    let report = Report::of(&installation, http.url(), &[]);
    report.fails_only("api", "database role", &["may change the audit trail", "two roles"]);
    let report = Report::of(&installation, http.url(), &[("DATABASE_URL", &owner)]);
    assert!(report.says("postgres", "role", "fail").contains("MIGRATE_DATABASE_URL"));
    let report = Report::of(&installation, http.url(), &[("DATABASE_URL", installation.database_url())]);
    assert!(report.says("postgres", "role", "fail").contains("superuser"));
}

#[tokio::test]
async fn an_installation_without_workers_fails() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let report = Report::of(&installation, http.url(), &[]);
    assert_eq!((report.code, &report.json["fail"]), (1, &4.into()), "{:#}", report.json);
    for role in ["probe", "relay", "upkeep", "deliver"] {
        assert!(report.says("workers", role, "fail").contains(&format!("the role {role}")));
    }
    let _partial =
        installation.worker(&[("WORKER_ROLES", "probe,relay"), ("WORKER_LANES", "fast"), ("SANDBOX", "off")]);
    let report = Report::of(&installation, http.url(), &[]);
    report.says("workers", "probe", "ok");
    report.says("workers", "upkeep", "fail");
    assert!(report.says("workers", "lanes", "fail").contains("nobody serves scan"));
    assert!(report.says("workers", "sandbox", "fail").contains("SANDBOX"));
}

#[tokio::test]
async fn an_old_schema_fails() {
    let (installation, http, _programs) = Installation::running().await;
    sqlx::query("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .execute(&installation.db)
        .await
        .expect("forgets");
    let report = Report::of(&installation, http.url(), &[]);
    report.fails_only("postgres", "schema", &["probectl migrate"]);
    report.says("workers", "probe", "skip");
}

#[tokio::test]
async fn an_address_where_no_api_is_fails() {
    let (installation, http, _programs) = Installation::running().await;
    let nowhere = format!("http://127.0.0.1:{}", tests::remote_servers::free_port());
    let report = Report::of(&installation, &nowhere, &[]);
    report.fails_only("api", "reachable", &["nothing answers", "FFPROBE_API_URL"]);
    // something answers there, and it is no FFprobe API
    let elsewhere = format!("{}/docs", http.url());
    let report = Report::of(&installation, &elsewhere, &[]);
    report.fails_only("api", "reachable", &["not as an FFprobe API answers", "FFPROBE_API_URL"]);
}

#[tokio::test]
async fn settings_that_would_stop_the_start_fail_with_the_same_words() {
    let (installation, http, _programs): (Installation, Http, Vec<Program>) = Installation::running().await;
    let report = |changes: &[(&str, &str)]| Report::of(&installation, http.url(), changes);
    report(&[("API_KEY_PEPPER", "short")]).fails_only(
        "secrets",
        "key pepper",
        &["API_KEY_PEPPER: it is shorter", "openssl"],
    );
    report(&[("JWT_SECRET", "short")]).fails_only("secrets", "token signing", &["JWT_SECRET: it is shorter than 32"]);
    report(&[("ENCRYPTION_KEYS", "a:b")]).fails_only("secrets", "encryption keys", &["ENCRYPTION_KEYS: "]);
    let far = [("REDIS_URL", "redis://:hunter2@cache.example.com")];
    let far = report(&far);
    far.fails_only("redis", "reachable", &["REDIS_URL: it leads to 'cache.example.com'", "PLAINTEXT_HOSTS"]);
    assert!(!far.json.to_string().contains("hunter2"));
    let away = report(&[("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d")]);
    away.fails_only("postgres", "reachable", &["refused", "DATABASE_URL"]);
    assert!(!away.json.to_string().contains("hunter2"));
    let other = Installation::new().await;
    let (_other_api, _) = other.api(&[]);
    let volume = format!("file://{}", other.uploads().display());
    report(&[("STORAGE_URL", &volume)]).fails_only(
        "uploads",
        "volume",
        &["the mark of this installation", "STORAGE_URL"],
    );
    let nowhere = report(&[("STORAGE_URL", "file:///nowhere"), ("API_KEY_PEPPER", "")]);
    assert!(nowhere.says("uploads", "volume", "skip").contains("not on this machine"));
}
