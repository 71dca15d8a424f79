//! What `up` is going to do, decided and checked before anything is started: places, ports, folders, programs.
//!
//! Called by `up`. Errors here leave nothing behind. It must never make or change a file.

use std::env;
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::geteuid;
use shared::config::FileArgs;
use shared::job::source::MediaRoot;

use super::{StateArgs, UpArgs, ports};
use crate::private;

/// The first admin key.
pub(super) const KEY_FILE: &str = "admin-api-key";
/// The upload volume.
pub(super) const UPLOADS: &str = "uploads";
/// The secret of the stored API keys.
pub(super) const PEPPER_FILE: &str = "secrets/api-key-pepper";
/// The secret that signs access tokens.
pub(super) const JWT_SECRET_FILE: &str = "secrets/jwt-secret";
/// The keys of what is encrypted at rest.
pub(super) const ENCRYPTION_KEYS_FILE: &str = "secrets/encryption-keys";
/// Where `submit` remembers its unfinished uploads.
pub(super) const RESUME: &str = "resume";
/// Where `login` keeps sessions.
pub(super) const SESSIONS: &str = "sessions";
/// Name of the root that is always there, and of the one used instead when the user takes that name.
const OWN_ROOT: &str = "media";
const OWN_ROOT_ELSE: &str = "state-media";

/// Everything that `up` needs to know.
#[derive(Debug)]
pub(super) struct Plan {
    /// The state directory.
    pub(super) state: PathBuf,
    /// Where the API listens.
    pub(super) address: SocketAddr,
    /// Where the API serves its metrics.
    pub(super) api_metrics: SocketAddr,
    /// Where the worker serves its metrics.
    pub(super) worker_metrics: SocketAddr,
    /// The folders the user named.
    roots: Vec<MediaRoot>,
    /// Where our other programs are.
    programs: PathBuf,
}

/// Decides and checks.
pub(super) async fn make(args: &UpArgs, state: &StateArgs) -> Result<Plan> {
    let state = state_dir(state, geteuid().is_root())?;
    let roots = named_roots(&args.media)?;
    let programs = programs()?;
    if let Err(busy) = ports::check_free(args.host, args.port).await {
        // A second `up` meets the first one's port; what to say then is that the first one runs.
        private::check_not_running(&state)?;
        return Err(busy);
    }
    let (address, [api_metrics, worker_metrics]) = ports::chosen(args.host, args.port)?;
    Ok(Plan { state, address, api_metrics, worker_metrics, roots, programs })
}

impl Plan {
    /// The address as a client on this machine writes it.
    pub(super) fn url(&self) -> String {
        let host = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(host, self.address.port()))
    }

    /// Whether clients of other machines may come.
    pub(super) fn is_public(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// The folder that is always a media root.
    pub(super) fn media(&self) -> PathBuf {
        self.state.join("media")
    }

    /// The sample that the first curl line probes.
    pub(super) fn sample(&self) -> PathBuf {
        self.state.join("media/test/sample.mp4")
    }

    /// The upload volume.
    pub(super) fn uploads(&self) -> PathBuf {
        self.state.join(UPLOADS)
    }

    /// Secrets nobody needs to see.
    pub(super) fn secrets(&self) -> PathBuf {
        self.state.join("secrets")
    }

    /// The secret of the stored API keys.
    pub(super) fn pepper_file(&self) -> PathBuf {
        self.state.join(PEPPER_FILE)
    }

    /// The secret that signs access tokens.
    pub(super) fn jwt_secret_file(&self) -> PathBuf {
        self.state.join(JWT_SECRET_FILE)
    }

    /// The keys of what is encrypted at rest.
    pub(super) fn encryption_keys_file(&self) -> PathBuf {
        self.state.join(ENCRYPTION_KEYS_FILE)
    }

    /// The first admin key.
    pub(super) fn key_file(&self) -> PathBuf {
        self.state.join(KEY_FILE)
    }

    /// All media roots, ours first, as `MEDIA_ROOTS` has them.
    pub(super) fn media_roots(&self) -> String {
        let taken = self.roots.iter().any(|root| root.name == OWN_ROOT);
        let own = if taken { OWN_ROOT_ELSE } else { OWN_ROOT };
        let mut text = format!("{own}={}", self.media().display());
        for root in &self.roots {
            text.push_str(&format!(",{}={}", root.name, root.dir));
        }
        text
    }

    /// One of our programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}

pub(super) fn state_dir(args: &StateArgs, is_root: bool) -> Result<PathBuf> {
    let absolute = |text: &OsStr| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
    let state = match &args.state_dir {
        Some(state) => state.clone(),
        None if is_root => PathBuf::from("/var/lib/ffprobe-api"),
        None => absolute(&args.xdg_state_home)
            .or_else(|| absolute(&args.home).map(|home| home.join(".local/state")))
            .context("neither HOME nor XDG_STATE_HOME is set; name a directory with FFPROBE_API_STATE_DIR")?
            .join("ffprobe-api"),
    };
    ensure!(
        !state.as_os_str().as_encoded_bytes().contains(&b','),
        "the state directory '{}' has a comma in its path, which MEDIA_ROOTS cannot express; choose another with \
         FFPROBE_API_STATE_DIR",
        state.display()
    );
    Ok(state)
}

fn named_roots(media: &str) -> Result<Vec<MediaRoot>> {
    let files = FileArgs { media_roots: media.to_owned(), storage_url: String::new() };
    let roots = files.roots()?;
    for root in &roots {
        ensure!(
            Path::new(&root.dir).is_dir(),
            "MEDIA_ROOTS: '{}' ({}) is not a directory; make it first, or correct the path",
            root.dir,
            root.name
        );
    }
    Ok(roots)
}

/// Our programs are built and installed side by side.
fn programs() -> Result<PathBuf> {
    let own = env::current_exe().context("could not find out where probectl is")?;
    let directory = own.parent().context("probectl has no directory")?.to_owned();
    for name in [super::program::API, super::program::WORKER] {
        ensure!(
            directory.join(name).is_file(),
            "{name} was not found beside probectl in {}; build all programs with `make build`",
            directory.display()
        );
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(state_dir: Option<&str>, xdg: &str, home: &str) -> StateArgs {
        StateArgs { state_dir: state_dir.map(PathBuf::from), xdg_state_home: xdg.into(), home: home.into() }
    }

    #[test]
    fn the_state_directory_follows_the_user() {
        let of = |args, root| state_dir(&args, root).map(|path| path.display().to_string());
        assert_eq!(of(args(Some("/x"), "/xdg", "/home/a"), true).expect("named"), "/x");
        assert_eq!(of(args(None, "/xdg", "/root"), true).expect("root"), "/var/lib/ffprobe-api");
        assert_eq!(of(args(None, "/xdg", "/home/a"), false).expect("xdg"), "/xdg/ffprobe-api");
        assert_eq!(of(args(None, "", "/home/a"), false).expect("home"), "/home/a/.local/state/ffprobe-api");
        assert_eq!(of(args(None, "relative", "/home/a"), false).expect("home"), "/home/a/.local/state/ffprobe-api");
        assert!(of(args(None, "", ""), false).expect_err("neither").to_string().contains("FFPROBE_API_STATE_DIR"));
        assert!(of(args(Some("/a,b"), "", ""), false).expect_err("comma").to_string().contains("comma"));
    }

    fn plan(address: &str, media: &str) -> Plan {
        let metrics = SocketAddr::from(([127, 0, 0, 1], 9464));
        Plan {
            state: "/state".into(),
            address: address.parse().expect("address"),
            api_metrics: metrics,
            worker_metrics: metrics,
            roots: named_roots(media).expect("roots"),
            programs: "/bin".into(),
        }
    }

    #[test]
    fn the_url_is_one_that_a_client_here_can_use() {
        assert_eq!(plan("127.0.0.1:8080", "").url(), "http://127.0.0.1:8080");
        assert_eq!(plan("0.0.0.0:81", "").url(), "http://127.0.0.1:81");
        assert_eq!(plan("[::]:81", "").url(), "http://[::1]:81");
        assert!(plan("0.0.0.0:81", "").is_public() && !plan("127.0.0.2:81", "").is_public());
    }

    #[test]
    fn our_root_comes_first_and_gives_way_to_a_namesake() {
        assert_eq!(plan("127.0.0.1:1", "").media_roots(), "media=/state/media");
        assert_eq!(plan("127.0.0.1:1", "a=/usr, b=/etc/").media_roots(), "media=/state/media,a=/usr,b=/etc");
        assert_eq!(plan("127.0.0.1:1", "media=/usr").media_roots(), "state-media=/state/media,media=/usr");
        let error = named_roots("a=/nonexistent").expect_err("no directory").to_string();
        assert!(error.contains("MEDIA_ROOTS") && error.contains("/nonexistent"), "{error}");
    }
}
