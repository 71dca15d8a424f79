//! What `probectl login` keeps between two runs: the tokens of one session per installation, in a file with mode 0600, and
//! never the key. Called by `client`, which asks for an access token before each request, and by the commands `login` and
//! `logout`. Several processes may use a session at once: whoever refreshes it holds a lock, and the others read what it wrote.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use chrono::Utc;
use reqwest::StatusCode;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// An access token that is nearer to its end is refreshed first: the request must get there.
const MARGIN_SECONDS: i64 = 10;
/// Longest wait for the service to answer a refresh.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait for another process that refreshes; it waits for the service no longer than that.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often it is looked whether that is done.
const LOOK: Duration = Duration::from_millis(50);
/// Largest file that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// The tokens of a session.
#[derive(Clone, Serialize, Deserialize)]
pub struct Tokens {
    access_token: String,
    /// When it ends, by this machine's clock, in seconds since 1970.
    access_until: i64,
    refresh_token: String,
}

impl Tokens {
    /// Reads what the service answered.
    pub fn of(answer: &Value) -> Result<Self> {
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        let read = || {
            let access_until = Utc::now().timestamp().checked_add(answer["expires_in"].as_i64()?)?;
            Some(Self { access_token: text("access_token")?, access_until, refresh_token: text("refresh_token")? })
        };
        read().context("the answer holds no tokens; is this an FFprobe API?")
    }

    /// For revoking it.
    pub fn refresh_token(&self) -> &str {
        &self.refresh_token
    }

    fn good(&self) -> bool {
        self.access_until - MARGIN_SECONDS > Utc::now().timestamp()
    }
}

/// The session is over; only a new login helps.
#[derive(Debug)]
pub struct Ended;

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session has ended; run `probectl login` again")
    }
}

impl std::error::Error for Ended {}

/// Where the session of an installation is kept.
#[derive(Debug, Clone)]
pub struct Place {
    file: PathBuf,
    lock: PathBuf,
}

impl Place {
    /// The place of the installation at `url` in a folder.
    pub fn new(folder: &Path, url: &str) -> Self {
        let sum = Sha256::digest(url.trim_end_matches('/').as_bytes());
        let name = sum.iter().take(16).fold(String::new(), |name, b| name + &format!("{b:02x}"));
        Self { file: folder.join(format!("{name}.json")), lock: folder.join(format!("{name}.lock")) }
    }

    /// The tokens kept there. A file that cannot be read is as good as none.
    pub fn read(&self) -> Option<Tokens> {
        let about = fs::metadata(&self.file).ok().filter(|about| about.len() <= MAX_BYTES)?;
        about.is_file().then(|| fs::read(&self.file).ok())?.and_then(|bytes| serde_json::from_slice(&bytes).ok())
    }

    /// Keeps tokens there, all at once and readable by their owner only.
    pub fn write(&self, tokens: &Tokens) -> Result<()> {
        let context = || format!("cannot keep the session in {}", self.file.display());
        let folder = self.folder().with_context(context)?;
        // a temporary file of this crate has mode 0600 from the beginning
        let mut file = NamedTempFile::new_in(folder).with_context(context)?;
        serde_json::to_writer(&mut file, tokens).with_context(context)?;
        file.flush().and_then(|()| file.as_file().sync_all()).with_context(context)?;
        file.persist(&self.file).with_context(context)?;
        Ok(())
    }

    /// Forgets what is kept there.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.file.display()))
            }
            _ => Ok(()),
        }
    }

    /// Waits until no other process changes what is kept there. The lock goes with the file that is returned.
    pub async fn hold(&self) -> Result<File> {
        let context = || format!("cannot lock {}", self.lock.display());
        self.folder().with_context(context)?;
        let mut options = OpenOptions::new();
        let held =
            options.write(true).create(true).truncate(false).mode(0o600).open(&self.lock).with_context(context)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match flock(&held, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(held),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(LOOK).await,
                Err(Errno::WOULDBLOCK) => bail!("another probectl does not let go of {}", self.lock.display()),
                Err(error) => return Err(error).with_context(context),
            }
        }
    }

    fn folder(&self) -> std::io::Result<&Path> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(folder)
    }
}

/// A session in use.
pub struct Session {
    place: Place,
    tokens: Mutex<Tokens>,
}

impl Session {
    /// The session that is kept at a place, if there is one.
    pub fn open(place: Place) -> Option<Self> {
        let tokens = Mutex::new(place.read()?);
        Some(Self { place, tokens })
    }

    /// An access token that lasts for the next request; refreshed, if need be.
    ///
    /// # Errors
    /// [`Ended`] when only a new login helps; others when the service does not answer or the file cannot be written.
    pub async fn access(&self, http: &reqwest::Client, url: &str) -> Result<String> {
        let mut tokens = self.tokens.lock().await;
        if !tokens.good() {
            let _held = self.place.hold().await?;
            // another process may have refreshed it meanwhile, or logged out
            let kept = self.place.read().ok_or(Ended)?;
            *tokens = if kept.good() { kept } else { self.refresh(http, url, &kept).await? };
        }
        Ok(tokens.access_token.clone())
    }

    async fn refresh(&self, http: &reqwest::Client, url: &str, spent: &Tokens) -> Result<Tokens> {
        let body = json!({"grant_type": "refresh_token", "refresh_token": spent.refresh_token});
        let request = http.post(format!("{url}/api/v1/auth/token")).timeout(ANSWER).json(&body);
        let response =
            request.send().await.map_err(|e| anyhow!(e.without_url())).context("the session was not refreshed")?;
        let status = response.status();
        let answer: Value = response.json().await.unwrap_or_default();
        if status.is_success() {
            let tokens = Tokens::of(&answer)?;
            // before it is used: a token that is lost now is given again for some seconds only
            self.place.write(&tokens)?;
            return Ok(tokens);
        }
        let detail = answer["detail"].as_str().unwrap_or("the service gave no reason").to_owned();
        if status == StatusCode::BAD_REQUEST && answer["code"] == "invalid_grant" {
            self.place.clear()?;
            return Err(Error::msg(detail).context(Ended));
        }
        Err(anyhow!("{detail} (HTTP {status})").context("the session was not refreshed"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tokens(seconds: i64) -> Tokens {
        let answer = json!({"access_token": "a", "expires_in": seconds, "refresh_token": "r"});
        Tokens::of(&answer).unwrap()
    }

    #[test]
    fn what_is_kept_is_private_and_belongs_to_its_installation() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("sessions");
        let place = Place::new(&inside, "http://a/");
        assert!(place.read().is_none());
        place.write(&tokens(900)).unwrap();
        assert_eq!(fs::metadata(&place.file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&inside).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(Place::new(&inside, "http://a").read().is_some_and(|t| t.good()));
        assert!(Place::new(&inside, "http://b").read().is_none());
        for torn in ["", "{", "{}", &" ".repeat(100_000)] {
            fs::write(&place.file, torn).unwrap();
            assert!(place.read().is_none());
        }
        place.clear().unwrap();
        place.clear().unwrap();
        assert!(place.read().is_none());
    }

    #[test]
    fn a_token_near_its_end_is_not_used() {
        assert!(tokens(60).good() && !tokens(MARGIN_SECONDS).good());
        assert!(Tokens::of(&json!({"access_token": "a", "expires_in": i64::MAX, "refresh_token": "r"})).is_err());
        assert!(Tokens::of(&json!({"detail": "no"})).is_err());
    }

    #[tokio::test]
    async fn a_session_without_a_file_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path(), "http://127.0.0.1:1");
        place.write(&tokens(0)).unwrap();
        let session = Session::open(place.clone()).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let away = session.access(&http, "http://127.0.0.1:1").await.unwrap_err();
        assert!(!away.is::<Ended>() && place.read().is_some(), "a service that is away ends nothing");
        place.clear().unwrap();
        assert!(session.access(&http, "http://127.0.0.1:1").await.unwrap_err().is::<Ended>());
        place.write(&tokens(900)).unwrap();
        assert_eq!(session.access(&http, "http://127.0.0.1:1").await.unwrap(), "a", "another process refreshed it");
    }
}
