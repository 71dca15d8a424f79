//! The private PostgreSQL and Redis of a test run, and databases cloned from a migrated template.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cli::private::{APPLICATION, Durability, OWNER, Options, PrivateServers, SUPERUSER};
use shared::store::role;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

/// Name of the migrated template.
const TEMPLATE: &str = "template_migrated";
/// Folders of runs, one per process.
const PREFIX: &str = "ffprobe-api-it-";

/// The servers of this run.
#[derive(Debug)]
pub struct Servers {
    folder: PathBuf,
    admin_url: String,
    redis_url: String,
}

/// The servers, started by whoever asks first. They live on a thread of their own that lasts as long as the process:
/// a child dies with the thread that started it.
pub fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("servers".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    sweep();
                    let folder = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
                    let (_keep, servers) = start(folder, Durability::Throwaway).await;
                    send.send(servers).expect("somebody asked");
                    std::future::pending::<()>().await;
                });
            })
            .expect("a thread");
        receive.recv().expect("the servers start; the message is above")
    })
}

/// Servers for one test alone, which may do to them what it likes: they keep their commits. They die with the test's thread.
pub async fn own() -> (PrivateServers, Servers) {
    start(servers().folder().join(Uuid::new_v4().simple().to_string()), Durability::Durable).await
}

async fn start(folder: PathBuf, durability: Durability) -> (PrivateServers, Servers) {
    let private =
        PrivateServers::start(&folder.join("servers"), Options { durability }).await.expect("private servers start");
    let servers = Servers::prepare(private.database_url("postgres", SUPERUSER), private.redis_url(), folder).await;
    (private, servers)
}

/// Removes what runs left behind that were killed.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name.strip_prefix(PREFIX)
            && !Path::new("/proc").join(pid).exists()
        {
            // somebody else's run may be sweeping, too
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Servers {
    /// Servers at these addresses, with a template to clone databases from.
    pub async fn prepare(admin_url: String, redis_url: String, folder: PathBuf) -> Self {
        let mut admin = PgConnection::connect(&admin_url).await.expect("connects");
        sqlx::query(AssertSqlSafe(format!("create database {TEMPLATE}")))
            .execute(&mut admin)
            .await
            .expect("creates the template");
        let url = admin_url.replacen("/postgres?", &format!("/{TEMPLATE}?"), 1);
        let template = |role| as_role(&url, role).parse().expect("a URL");
        role::found(template(SUPERUSER), OWNER, APPLICATION).await.expect("makes the roles");
        shared::store::migrate(template(OWNER)).await.expect("migrates");
        role::grant(template(OWNER), APPLICATION).await.expect("grants");
        Self { folder, admin_url, redis_url }
    }

    /// The folder of this run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where Redis is.
    pub fn redis_url(&self) -> &str {
        &self.redis_url
    }

    /// A fresh database with the current schema, as an installation of its own. Returns its URL for the superuser; see
    /// [`as_role`].
    pub async fn database(&self) -> String {
        let name = format!("t_{}", Uuid::new_v4().simple());
        let mut admin = PgConnection::connect(&self.admin_url).await.expect("connects");
        // file_copy takes half the time of the default; two at once would find the template in use
        sqlx::query("select pg_advisory_lock(1)").execute(&mut admin).await.expect("takes turns");
        sqlx::query(AssertSqlSafe(format!(
            "create database {name} owner {OWNER} template {TEMPLATE} strategy file_copy"
        )))
        .execute(&mut admin)
        .await
        .expect("clones");
        admin.close().await.expect("closes");
        let url = self.admin_url.replacen("/postgres?", &format!("/{name}?"), 1);
        let mut own = PgConnection::connect(&url).await.expect("connects");
        sqlx::query("update installation set id = gen_random_uuid()")
            .execute(&mut own)
            .await
            .expect("is an installation of its own");
        // what is granted on a database does not come along with a copy
        let owner = as_role(&url, OWNER).parse().expect("a URL");
        role::grant(owner, APPLICATION).await.expect("grants");
        url
    }
}

/// The URL of a database for another of its roles.
pub fn as_role(url: &str, role: &str) -> String {
    url.replacen(&format!("user={SUPERUSER}"), &format!("user={role}"), 1)
}
