//! One installation under test: a database, a Redis prefix, an upload volume, a media root, a key, and as many API and
//! worker processes as the test wants.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use cli::private::{APPLICATION, OWNER};
use shared::access::{Pepper, Reach, Role};
use shared::bootstrap::{first_admin, mint};
use shared::id::{ApiKeyId, TenantId};
use shared::store::access::{Grants, NewKey, ensure_tenant, insert_key};
use shared::store::{self, Pool};
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use tempfile::TempDir;

use crate::binaries;
use crate::http::Http;
use crate::process::Program;
use crate::servers::{Servers, as_role, servers};

/// A pepper like any other.
const PEPPER: &str = "f3a1c05d7e924b68a0d1e2f3948576b1c2d3e4f5";

/// What signs access tokens.
pub const JWT_SECRET: &str = "b7d20e5c4f1a8396d2e4c6a8b0f19375e1d3c5b7";

/// A key that nobody else has.
const ENCRYPTION_KEYS: &str = "test:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

/// One installation.
pub struct Installation {
    /// Its database, for looking behind the API.
    pub db: Pool,
    /// Its admin key.
    pub key: String,
    database_url: String,
    redis_url: String,
    folder: TempDir,
    count: AtomicU32,
}

impl Installation {
    /// An installation without processes.
    pub async fn new() -> Self {
        Self::on(servers()).await
    }

    /// An installation on servers of the test's own.
    pub async fn on(servers: &Servers) -> Self {
        let database_url = servers.database().await;
        let db = store::connect(database_url.parse().expect("a URL"), 4);
        let key = mint();
        first_admin(&db, &Pepper::new(PEPPER.to_owned().into()), &key).await.expect("a key");
        let folder = TempDir::new_in(servers.folder()).expect("a folder");
        std::fs::create_dir(folder.path().join("media")).expect("a media root");
        let redis_url = servers.redis_url().to_owned();
        Self { db, key: key.expose().to_owned(), database_url, redis_url, folder, count: AtomicU32::new(0) }
    }

    /// An installation with one API and one worker, and requests to it with its admin key.
    pub async fn running() -> (Self, Http, Vec<Program>) {
        let this = Self::new().await;
        let (api, http) = this.api(&[]);
        let worker = this.worker(&[]);
        (this, http, vec![api, worker])
    }

    /// The media root.
    pub fn media(&self) -> PathBuf {
        self.folder.path().join("media")
    }

    /// The upload volume.
    pub fn uploads(&self) -> PathBuf {
        self.folder.path().join("uploads")
    }

    /// A folder for whatever the test needs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its database is, for the superuser.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Where its database is, for the role that owns the schema.
    pub fn owner_url(&self) -> String {
        as_role(&self.database_url, OWNER)
    }

    /// Where its database is, for the role that API and worker connect as.
    pub fn application_url(&self) -> String {
        as_role(&self.database_url, APPLICATION)
    }

    /// What every process of it is told.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("DATABASE_URL", self.application_url()),
            ("REDIS_URL", self.redis_url.clone()),
            ("MEDIA_ROOTS", format!("media={}", self.media().display())),
            ("STORAGE_URL", format!("file://{}", self.uploads().display())),
            ("API_KEY_PEPPER", PEPPER.to_owned()),
            ("JWT_SECRET", JWT_SECRET.to_owned()),
            ("ENCRYPTION_KEYS", ENCRYPTION_KEYS.to_owned()),
            ("API_PORT", "0".to_owned()),
            ("METRICS_ADDR", "127.0.0.1:0".to_owned()),
            ("LOG_LEVEL", "debug".to_owned()),
            ("SHUTDOWN_GRACE", "5".to_owned()),
            ("WORKER_SLOTS", "2".to_owned()),
            ("DATABASE_MAX_CONNECTIONS", "8".to_owned()),
            // tests ask more often than people, and wait for nobody
            ("RATE_LIMIT_PER_KEY", "0".to_owned()),
            ("RATE_LIMIT_PER_TENANT", "0".to_owned()),
            ("RATE_LIMIT_PER_ADDRESS", "0".to_owned()),
            ("RATE_LIMIT_FAILED_AUTH", "0".to_owned()),
        ];
        pairs.map(|(k, v)| (k.to_owned(), v)).into()
    }

    fn with(&self, changes: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut environment = self.environment();
        for (name, value) in changes {
            environment.retain(|(k, _)| k != name);
            environment.push(((*name).to_owned(), (*value).to_owned()));
        }
        environment
    }

    /// Starts an API with some settings changed; returns requests to it with the admin key.
    pub fn api(&self, changes: &[(&str, &str)]) -> (Program, Http) {
        let name = format!("api-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let mut api = Program::start(&name, &binaries::path("ffprobe-api"), &[], &self.with(changes));
        let line = api.wait_for_line("listening");
        let url = format!("http://{}", line["addr"].as_str().expect("an address"));
        (api, Http::new(url, Some(self.key.clone())))
    }

    /// Starts a worker with some settings changed, and waits until it works.
    pub fn worker(&self, changes: &[(&str, &str)]) -> Program {
        let mut worker = self.start_worker(changes);
        worker.wait_for_line("working");
        worker
    }

    /// Starts a worker that may not get far.
    pub fn start_worker(&self, changes: &[(&str, &str)]) -> Program {
        let name = format!("worker-{}", self.count.fetch_add(1, Ordering::Relaxed));
        Program::start(&name, &binaries::path("ffprobe-worker"), &[], &self.with(changes))
    }

    /// Starts a worker as a user without rights, the one that the servers run as, and waits until it works. It sees neither
    /// media nor uploads. Only root can start it.
    pub fn unprivileged_worker(&self, changes: &[(&str, &str)]) -> Program {
        let name = format!("worker-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let binary = binaries::path("ffprobe-worker").display().to_string();
        let run = std::fs::metadata(servers().folder().join("servers/run")).expect("the servers run");
        let (user, group) = (format!("--reuid={}", run.uid()), format!("--regid={}", run.gid()));
        assert_ne!(run.uid(), 0, "the servers run without rights");
        let arguments = [&user, &group, "--clear-groups", binary.as_str()];
        let mut worker = Program::start(&name, Path::new("/usr/bin/setpriv"), &arguments, &self.with(changes));
        worker.wait_for_line("working");
        worker
    }

    /// Starts a worker that knows names from a file like `/etc/hosts`, which it looks into at every look-up, and waits until
    /// it works. It has a view of the file system of its own for that; `None` where the kernel gives none.
    pub fn worker_with_names(&self, names: &Path, changes: &[(&str, &str)]) -> Option<Program> {
        let name = format!("worker-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let (binary, names) = (binaries::path("ffprobe-worker"), names.display().to_string());
        let script = "mount --bind \"$1\" /etc/hosts && exec \"$2\"";
        let how = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
        if !Command::new("unshare").args([how, "true"]).status().is_ok_and(|status| status.success()) {
            return None;
        }
        let arguments = [how, "sh", "-c", script, "sh", &names, &binary.display().to_string()];
        let mut worker = Program::start(&name, Path::new("unshare"), &arguments, &self.with(changes));
        worker.wait_for_line("working");
        Some(worker)
    }

    /// Runs `probectl` against it, as its operator.
    pub fn probectl(&self, http: &Http, arguments: &[&str]) -> Program {
        self.probectl_as(http, arguments, Some(&self.key))
    }

    /// Runs `probectl` against it with another key, or none.
    pub fn probectl_as(&self, http: &Http, arguments: &[&str], key: Option<&str>) -> Program {
        let mut environment = self.environment();
        environment.push(("MIGRATE_DATABASE_URL".into(), self.owner_url()));
        environment.push(("FFPROBE_API_URL".into(), http.url().to_owned()));
        environment.extend(key.map(|key| ("FFPROBE_API_KEY".into(), key.to_owned())));
        environment.push(("FFPROBE_API_STATE_DIR".into(), self.folder.path().join("state").display().to_string()));
        Program::start("probectl", &binaries::path("probectl"), arguments, &environment)
    }

    /// A key of another tenant, or of this one with another role.
    pub async fn another_key(&self, tenant: &str, role: Role, roots: &[&str]) -> String {
        let media_roots: Vec<String> = roots.iter().map(|r| (*r).to_owned()).collect();
        let grants = Grants { media_roots, s3_profiles: Vec::new() };
        let tenant = ensure_tenant(&self.db, tenant, &grants).await.expect("a tenant");
        let key = mint();
        let digest = key.digest(&Pepper::new(PEPPER.to_owned().into()));
        let new = NewKey { tenant, public_id: key.public_id(), digest, name: "test", role, reach: Reach::Tenant };
        insert_key(&self.db, &new).await.expect("a key");
        key.expose().to_owned()
    }

    /// A key whatever the API would say to it: of a tenant that exists, with a role, a reach, and scopes if any are named.
    pub async fn key_of(
        &self,
        tenant: TenantId,
        role: Role,
        reach: Reach,
        scopes: Option<&[&str]>,
    ) -> (ApiKeyId, String) {
        let key = mint();
        let digest = key.digest(&Pepper::new(PEPPER.to_owned().into()));
        let new = NewKey { tenant, public_id: key.public_id(), digest, name: "test", role, reach };
        let id = insert_key(&self.db, &new).await.expect("a key");
        sqlx::query("update api_key set scopes = $2 where id = $1")
            .bind(id)
            .bind(scopes)
            .execute(&self.db)
            .await
            .expect("narrows");
        (id, key.expose().to_owned())
    }

    /// The tenant of this name, made if it is missing; it is granted nothing.
    pub async fn tenant(&self, name: &str) -> TenantId {
        ensure_tenant(&self.db, name, &Grants::default()).await.expect("a tenant")
    }

    /// Adds many rows at once, as a database that has run for long holds them: nothing is told of them, and references are
    /// not checked.
    pub async fn fill(&self, rows: Query<'_, Postgres, PgArguments>) {
        let mut tx = self.db.begin().await.expect("begins");
        sqlx::raw_sql("set local session_replication_role = replica; set local statement_timeout = '10min'")
            .execute(&mut *tx)
            .await
            .expect("quietly");
        rows.execute(&mut *tx).await.expect("fills");
        tx.commit().await.expect("commits");
    }

    /// Writes a file into the media root and returns the path a job names.
    pub fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.media().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
        format!("/{name}")
    }
}
