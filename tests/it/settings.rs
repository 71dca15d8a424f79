//! Wrong settings stop the start with a message that names the variable and the fix.

use tests::{Installation, Program, binaries};

const GOOD: &str = "5f1d7c0be2a94e6fb0c3d9182a7e64f55f1d7c0be2a94e6f";

/// Settings changed at a time.
type Changes<'a> = &'a [(&'a str, &'a str)];

fn refusal(binary: &str, environment: &[(String, String)]) -> String {
    let mut program = Program::start(binary, &binaries::path(binary), &[], environment);
    let status = program.wait();
    assert!(!status.success(), "{environment:?} was accepted");
    std::thread::sleep(std::time::Duration::from_millis(50));
    program.log()
}

fn with(environment: &[(String, String)], name: &str, value: Option<&str>) -> Vec<(String, String)> {
    let mut changed: Vec<_> = environment.iter().filter(|(k, _)| k != name).cloned().collect();
    changed.extend(value.map(|v| (name.to_owned(), v.to_owned())));
    changed
}

#[tokio::test]
async fn the_api_refuses_wrong_settings() {
    let installation = Installation::new().await;
    let good = installation.environment();
    let empty = installation.folder().join("empty");
    std::fs::write(&empty, "\n").expect("writes");
    let empty = empty.display().to_string();
    let pepper =
        good.iter().find(|(name, _)| name == "API_KEY_PEPPER").map(|(_, value)| value.as_str()).expect("a pepper");
    let rows: &[(&str, Option<&str>, &str)] = &[
        ("API_KEY_PEPPER", None, "API_KEY_PEPPER: it is not set"),
        ("API_KEY_PEPPER", Some(""), "API_KEY_PEPPER: it is not set"),
        ("API_KEY_PEPPER", Some("short"), "shorter than 32"),
        ("API_KEY_PEPPER", Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), "repeats"),
        ("API_KEY_PEPPER", Some("changeme-changeme-0123456789-abcdefgh"), "placeholder"),
        ("API_KEY_PEPPER_FILE", Some("/nowhere"), "both API_KEY_PEPPER and API_KEY_PEPPER_FILE"),
        ("JWT_SECRET", None, "JWT_SECRET: it is not set"),
        ("JWT_SECRET", Some("short"), "JWT_SECRET: it is shorter than 32"),
        ("JWT_SECRET", Some("default-default-0123456789-abcdefghij"), "JWT_SECRET: it contains 'default'"),
        ("JWT_SECRET", Some(pepper), "JWT_SECRET: it is the same as API_KEY_PEPPER"),
        ("JWT_SECRET_FILE", Some(&empty), "both JWT_SECRET and JWT_SECRET_FILE"),
        ("JWT_SECRET_PREVIOUS", Some("short"), "JWT_SECRET_PREVIOUS: it is shorter than 32"),
        ("JWT_SECRET_PREVIOUS", Some(tests::JWT_SECRET), "JWT_SECRET_PREVIOUS: it is the same as JWT_SECRET"),
        ("JWT_SECRET_PREVIOUS_FILE", Some(&empty), "JWT_SECRET_PREVIOUS: the file"),
        ("ACCESS_TOKEN_TTL", Some("0"), "ACCESS_TOKEN_TTL"),
        ("ACCESS_TOKEN_TTL", Some("604800"), "ACCESS_TOKEN_TTL: an access token is short-lived"),
        ("REFRESH_TOKEN_TTL", Some("900"), "REFRESH_TOKEN_TTL: it is not longer than ACCESS_TOKEN_TTL"),
        ("SESSION_TTL", Some("3600"), "SESSION_TTL: it is shorter than REFRESH_TOKEN_TTL"),
        ("DATABASE_URL", Some("mysql://x"), "DATABASE_URL: it is not a PostgreSQL URL"),
        ("REDIS_URL", Some("http://x"), "REDIS_URL: it is not a Redis URL"),
        ("MEDIA_ROOTS", Some("media"), "MEDIA_ROOTS: 'media' has no '='"),
        ("MEDIA_ROOTS", Some("a=relative"), "MEDIA_ROOTS: 'relative' is not an absolute directory"),
        ("STORAGE_URL", Some("/data"), "STORAGE_URL: '/data' is neither a local directory nor"),
        ("BASE_URL", Some("probe.example.com"), "BASE_URL"),
        ("METRICS_ADDR", Some("9464"), "METRICS_ADDR"),
        ("LOG_LEVEL", Some("=nonsense="), "LOG_LEVEL"),
        ("API_PORT", Some("70000"), "API_PORT"),
        ("MAX_UPLOAD_BYTES", Some("50GB"), "MAX_UPLOAD_BYTES"),
        ("RATE_LIMIT_PER_KEY", Some("often"), "RATE_LIMIT_PER_KEY: 'often': a rate is PER_MINUTE"),
        ("RATE_LIMIT_PER_TENANT", Some("6000:0"), "RATE_LIMIT_PER_TENANT"),
        ("RATE_LIMIT_PER_ADDRESS", Some(""), "RATE_LIMIT_PER_ADDRESS"),
        ("RATE_LIMIT_FAILED_AUTH", Some("2000000"), "RATE_LIMIT_FAILED_AUTH"),
        ("MAX_QUEUED_JOBS", Some("0"), "MAX_QUEUED_JOBS"),
        ("BOOTSTRAP_ADMIN_API_KEY_FILE", Some(&empty), "BOOTSTRAP_ADMIN_API_KEY"),
        ("ENCRYPTION_KEYS", None, "ENCRYPTION_KEYS: it is not set"),
        (
            "BASE_URL",
            Some("http://probe.example.com"),
            "BASE_URL: it leads to 'probe.example.com' without verified TLS",
        ),
        ("BASE_URL", Some("https://user@probe.example.com"), "BASE_URL: it has more than"),
        ("TRUSTED_PROXIES", Some("10.0.0.1,0.0.0.0/0"), "TRUSTED_PROXIES: it believes everybody"),
        ("CORS_ORIGINS", Some("*,https://app.example.com"), "CORS_ORIGINS: '*' stands for all"),
    ];
    for (name, value, wanted) in rows {
        let message = refusal("ffprobe-api", &with(&good, name, *value));
        let named = message.contains(wanted) || message.to_uppercase().replace('-', "_").contains(wanted);
        assert!(named, "{name}={value:?}: {message}");
        assert!(
            !message.contains(GOOD) && !message.contains("f3a1c05d") && !message.contains(tests::JWT_SECRET),
            "a secret stands in the message: {message}"
        );
    }
}

/// What the ways to servers and addresses need, the same for both programs.
#[tokio::test]
async fn contradictions_and_ways_without_tls_are_refused() {
    let installation = Installation::new().await;
    let good = installation.environment();
    let ca = binaries::workspace().join("shared/testdata/tls/ca.pem").display().to_string();
    let inside = format!("file://{}/uploads", installation.media().display());
    let (far, own) = ("postgres://u@db.example.com/d", "postgres://u@localhost/d");
    let with_ca = format!("{own}?sslmode=require&sslrootcert={ca}");
    let rows: &[(Changes<'_>, &str)] = &[
        (&[("DATABASE_URL", far)], "DATABASE_URL: it leads to 'db.example.com' without verified TLS"),
        (&[("DATABASE_URL", "postgres://u@10.0.0.1/d?sslmode=verify-ca")], "DATABASE_URL: it leads to '10.0.0.1'"),
        (&[("DATABASE_URL", far), ("PLAINTEXT_HOSTS", "redis,10.0.0.0/8")], "add the host to PLAINTEXT_HOSTS"),
        (&[("DATABASE_URL", ""), ("POSTGRES_HOST", "db")], "POSTGRES_HOST: it leads to 'db'"),
        (&[("POSTGRES_SSL_MODE", "verify-full")], "POSTGRES_SSL_MODE: DATABASE_URL is set"),
        (&[("POSTGRES_SSL_ROOT_CERT", &ca)], "POSTGRES_SSL_ROOT_CERT: DATABASE_URL is set"),
        (&[("DATABASE_URL", ""), ("POSTGRES_SSL_ROOT_CERT", &ca)], "POSTGRES_SSL_ROOT_CERT: it names a CA, and"),
        (&[("DATABASE_URL", &with_ca)], "DATABASE_URL: it names a CA, and the mode of TLS checks no"),
        (&[("DATABASE_URL", "postgres://u@h/d?sslmode=verify-full&sslrootcert=/nowhere")], "DATABASE_URL: '/nowhere'"),
        (&[("REDIS_URL", "redis://cache.example.com")], "REDIS_URL: it leads to 'cache.example.com' without verified"),
        (&[("REDIS_URL", "rediss://cache.example.com/#insecure")], "REDIS_URL: it ends in #insecure"),
        (&[("REDIS_TLS", "on")], "REDIS_TLS: REDIS_URL is set"),
        (&[("REDIS_CA_FILE", &ca)], "REDIS_CA_FILE: it is set, and Redis is not spoken to by TLS"),
        (&[("REDIS_URL", "rediss://localhost"), ("REDIS_CA_FILE", "/nowhere")], "REDIS_CA_FILE: '/nowhere'"),
        (&[("REDIS_URL", ""), ("REDIS_SENTINELS", "a:26379")], "REDIS_SENTINELS: it leads to 'a'"),
        (&[("REDIS_SENTINELS", "127.0.0.1:26379")], "REDIS_SENTINELS: REDIS_URL is set, too"),
        (&[("REDIS_SENTINEL_PASSWORD", "x")], "REDIS_SENTINEL_PASSWORD: it is set, and REDIS_SENTINELS is not"),
        (&[("PLAINTEXT_HOSTS", "0.0.0.0/0")], "PLAINTEXT_HOSTS: it holds all addresses"),
        (&[("PLAINTEXT_HOSTS", "redis:6379")], "PLAINTEXT_HOSTS: 'redis:6379'"),
        (&[("STORAGE_URL", &inside)], "STORAGE_URL: '"),
        (&[("STORAGE_URL", "s3://archive/bucket")], "STORAGE_URL: there is no S3 profile 'archive'"),
        (&[("EGRESS_ALLOW_HOSTS", "a.example"), ("EGRESS_DENY_HOSTS", "a.example")], "EGRESS_ALLOW_HOSTS: it allows"),
        (
            &[("EGRESS_ALLOW_CIDRS", "10.1.0.0/16"), ("EGRESS_DENY_HOSTS", "10.0.0.0/8")],
            "EGRESS_ALLOW_CIDRS: it allows",
        ),
    ];
    for (settings, wanted) in rows {
        let environment =
            settings.iter().fold(good.clone(), |environment, (name, value)| with(&environment, name, Some(value)));
        for binary in ["ffprobe-api", "ffprobe-worker"] {
            let message = refusal(binary, &environment);
            assert!(message.contains(wanted) && message.contains("Fix: "), "{binary} {settings:?}: {message}");
        }
    }
}

#[tokio::test]
async fn settings_of_one_program_that_cannot_both_hold_are_refused() {
    let installation = Installation::new().await;
    let good = installation.environment();
    let rows: &[(&str, Changes<'_>, &str)] = &[
        ("ffprobe-api", &[("IP_ALLOW", "10.1.0.0/16"), ("IP_DENY", "10.0.0.0/8")], "IP_ALLOW: it allows 10.1.0.0/16"),
        (
            "ffprobe-api",
            &[("API_PORT", "18080"), ("METRICS_ADDR", "127.0.0.1:18080")],
            "METRICS_ADDR: it is the port of",
        ),
        ("ffprobe-worker", &[("WORKER_SLOTS", "1")], "WORKER_SLOTS: the last slot is kept for quick looks"),
        ("ffprobe-worker", &[("SANDBOX", "off"), ("JAIL_UID", "54321")], "JAIL_UID: it asks for a protection"),
        ("ffprobe-worker", &[("SANDBOX", "off"), ("JAIL_CGROUP", "/x")], "JAIL_CGROUP: it asks for a protection"),
        ("ffprobe-worker", &[("JAIL_GID", "54321")], "--jail-uid"),
    ];
    for (binary, settings, wanted) in rows {
        let environment =
            settings.iter().fold(good.clone(), |environment, (name, value)| with(&environment, name, Some(value)));
        let message = refusal(binary, &environment);
        assert!(message.contains(wanted), "{settings:?}: {message}");
    }
}

/// The one line that a stack on a private network needs; the names lead nowhere here, and that is another refusal.
#[tokio::test]
async fn a_trusted_network_is_told_in_one_line() {
    let installation = Installation::new().await;
    let settings = [("PLAINTEXT_HOSTS", "postgres,redis"), ("REDIS_URL", "redis://redis:6379")];
    let (_api, http) = installation.api(&settings);
    assert_eq!(http.get("/health/ready").await.json["status"], "degraded", "redis is not there, and not refused");
}

#[tokio::test]
async fn the_worker_refuses_wrong_settings() {
    let installation = Installation::new().await;
    let good = installation.environment();
    for (name, value, wanted) in [
        ("FFPROBE_PATH", "/nowhere/ffprobe", "FFPROBE_PATH"),
        ("FFPROBE_PATH", "/bin/true", "/bin/true"),
        ("WORKER_ROLES", "dance", "dance"),
        ("WORKER_SLOTS", "0", "0 is not in"),
        ("LEASE_SECONDS", "1", "1 is not in"),
        ("SANDBOX", "maybe", "maybe"),
        ("SHUTDOWN_GRACE", "soon", "soon"),
    ] {
        let message = refusal("ffprobe-worker", &with(&good, name, Some(value)));
        assert!(message.contains(wanted), "{name}={value}: {message}");
    }
}

#[tokio::test]
async fn a_database_without_schema_is_named() {
    let installation = Installation::new().await;
    sqlx::query("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .execute(&installation.db)
        .await
        .expect("forgets");
    for binary in ["ffprobe-api", "ffprobe-worker"] {
        let message = refusal(binary, &installation.environment());
        assert!(message.contains("probectl migrate"), "{binary}: {message}");
    }
}

#[tokio::test]
async fn the_first_admin_key_may_come_from_a_file() {
    let installation = Installation::new().await;
    let key = shared::bootstrap::mint();
    let file = installation.folder().join("first-key");
    std::fs::write(&file, format!("{}\n", key.expose())).expect("writes");
    let file = file.display().to_string();
    // there is an admin key already, so this one is not used
    let (api, http) = installation.api(&[("BOOTSTRAP_ADMIN_API_KEY_FILE", &file)]);
    http.with_key(Some(key.expose())).get("/api/v1/jobs").await.problem(401, "unauthorized");
    api.stop();
    sqlx::query("delete from api_key").execute(&installation.db).await.expect("forgets");
    let (_api, http) = installation.api(&[("BOOTSTRAP_ADMIN_API_KEY_FILE", &file)]);
    assert_eq!(http.with_key(Some(key.expose())).get("/api/v1/jobs").await.status, 200);
    http.get("/api/v1/jobs").await.problem(401, "unauthorized");
}
