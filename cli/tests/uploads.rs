//! What `probectl` does when an upload meets trouble: it goes on from what the service has, sends little twice, gives up in
//! time, and can be started again. The service here is a fake that is told how to misbehave.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cli::client::Client;
use cli::upload::{Checksum, Settings, Uploaded, send};
use fake::{Fake, Fault};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Sent in four parts.
const LARGE: usize = 80 << 20;
/// Sent at once.
const SMALL: usize = 5 << 20;
/// What may be sent twice for each cut connection: what was on its way.
const ON_ITS_WAY: usize = 8 << 20;

struct Place {
    folder: TempDir,
    file: PathBuf,
    bytes: Vec<u8>,
}

impl Place {
    fn with(size: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("holiday é.mov");
        let bytes: Vec<u8> = (0..size as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&file, &bytes).unwrap();
        Self { folder, file, bytes }
    }

    fn settings(&self) -> Settings {
        let memory = Some(self.folder.path().join("state/resume"));
        Settings { parts: 4, checksum: Checksum::Auto, patience: Duration::from_secs(20), memory }
    }

    fn remembered(&self) -> usize {
        let files = std::fs::read_dir(self.folder.path().join("state/resume")).unwrap().flatten();
        files.filter(|f| Path::new(&f.file_name()).extension().is_some_and(|e| e == "json")).count()
    }

    /// Insists that the fake has the file, whole, under this id.
    fn check(&self, fake: &Fake, id: &str) {
        let upload = fake.with(|s| s.uploads[id].clone());
        assert!(upload.bytes == self.bytes, "the bytes differ: {} of {}", upload.bytes.len(), self.bytes.len());
        let pairs: Vec<&str> = upload.metadata.split(',').collect();
        assert!(pairs[0] == "filename aG9saWRheSDDqS5tb3Y=" && pairs[1].starts_with("checksum c2hhMjU2O"), "{pairs:?}");
    }

    fn probectl(&self, fake: &Fake, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_probectl"));
        command.args(["--url", &fake.url, "--state-dir"]).arg(self.folder.path().join("state"));
        command.arg("submit").arg(&self.file).args(arguments);
        command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

async fn sent(fake: &Fake, place: &Place) -> anyhow::Result<Uploaded> {
    send(&Client::new(&fake.url, None)?, &place.file, &place.settings()).await
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never came true: {what}");
}

#[tokio::test]
async fn a_large_file_comes_whole_through_trouble() {
    let (fake, place) = (Fake::start().await, Place::with(LARGE));
    let faults = [Fault::Cut(5_000_000), Fault::Status(423), Fault::Status(503), Fault::Cut(0), Fault::Cut(999_999)];
    fake.with(|s| s.faults = faults.into());
    let uploaded = sent(&fake, &place).await.unwrap();
    place.check(&fake, &uploaded.id);
    fake.with(|s| {
        assert!(s.faults.is_empty() && s.received < LARGE + 3 * ON_ITS_WAY, "{} bytes were sent", s.received);
        assert!(s.uploads[&uploaded.id].concat.starts_with("final;") && s.uploads.len() == 1, "parts are erased");
    });
    assert_eq!(place.remembered(), 1, "until the job is accepted");
    uploaded.forget().unwrap();
    assert_eq!(place.remembered(), 0);
}

#[tokio::test]
async fn small_and_empty_files_are_sent_at_once() {
    for size in [0, 1, SMALL] {
        let (fake, place) = (Fake::start().await, Place::with(size));
        place.check(&fake, &sent(&fake, &place).await.unwrap().id);
        fake.with(|s| assert_eq!((s.received, s.uploads.len()), (size, 1)));
    }
}

#[tokio::test]
async fn a_new_start_goes_on() {
    let (fake, place) = (Fake::start().await, Place::with(LARGE));
    fake.with(|s| s.faults = [Fault::Hang(9 << 20); 4].into());
    let first = tokio::time::timeout(Duration::from_secs(20), async {
        let all_hang = until("all hang", || fake.with(|s| s.received == 36 << 20));
        tokio::select! { _ = sent(&fake, &place) => panic!("it hangs"), () = all_hang => {} }
    });
    first.await.unwrap();
    let uploaded = sent(&fake, &place).await.unwrap();
    place.check(&fake, &uploaded.id);
    fake.with(|s| assert_eq!(s.received, LARGE, "nothing was sent twice"));
    drop(uploaded);
    let again = sent(&fake, &place).await.unwrap();
    fake.with(|s| assert_eq!((s.received, s.uploads.contains_key(&again.id)), (LARGE, true), "it was there already"));
}

#[tokio::test]
async fn what_the_service_forgot_is_sent_anew() {
    let (fake, place) = (Fake::start().await, Place::with(SMALL));
    let kept = sent(&fake, &place).await.unwrap();
    fake.with(|s| s.uploads.clear());
    drop(kept);
    place.check(&fake, &sent(&fake, &place).await.unwrap().id);
    fake.with(|s| assert_eq!(s.received, 2 * SMALL));
}

#[tokio::test]
async fn another_state_of_the_file_is_another_upload() {
    let (fake, mut place) = (Fake::start().await, Place::with(SMALL));
    let first = sent(&fake, &place).await.unwrap().id;
    place.bytes[0] ^= 1;
    std::fs::write(&place.file, &place.bytes).unwrap();
    let second = sent(&fake, &place).await.unwrap().id;
    place.check(&fake, &second);
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_no_upload() {
    let (fake, place) = (Fake::start().await, Place::with(SMALL));
    fake.with(|s| s.faults = [Fault::Cut(1 << 20)].into());
    let change = async {
        until("it began", || fake.with(|s| s.received >= 1 << 20)).await;
        std::fs::write(&place.file, vec![0; SMALL]).unwrap();
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        sent = sent(&fake, &place) => sent.err().expect("it changed"),
        () = change => unreachable!("it is pending"),
    };
    assert!(error.to_string().contains("was changed"), "{error:#}");
    assert_eq!(place.remembered(), 0);
}

#[tokio::test]
async fn refusals_and_endless_trouble_end() {
    let (fake, place) = (Fake::start().await, Place::with(SMALL));
    fake.with(|s| s.faults = [Fault::Status(413)].into());
    let error = sent(&fake, &place).await.err().expect("refused");
    assert!(error.to_string().contains("413"), "{error:#}");
    fake.with(|s| s.faults = [Fault::Cut(0); 60].into());
    let impatient = Settings { patience: Duration::from_secs(2), ..place.settings() };
    let client = Client::new(&fake.url, None).unwrap();
    let trying = send(&client, &place.file, &impatient);
    assert!(tokio::time::timeout(Duration::from_secs(15), trying).await.unwrap().is_err());
    fake.with(|s| s.faults.clear());
    place.check(&fake, &sent(&fake, &place).await.unwrap().id);
    let error = send(&Client::new("http://127.0.0.1:1", None).unwrap(), &place.file, &place.settings()).await;
    assert!(error.err().expect("nobody").to_string().contains("FFPROBE_API_URL"));
}

#[tokio::test]
async fn an_interrupted_command_says_how_to_go_on() {
    let (fake, place) = (Fake::start().await, Place::with(SMALL));
    fake.with(|s| s.faults = [Fault::Hang(2 << 20)].into());
    let running = place.probectl(&fake, &["--probe", "quick"]);
    until("it hangs", || fake.with(|s| s.received == 2 << 20)).await;
    let other = tokio::task::spawn_blocking({
        let other = place.probectl(&fake, &[]);
        move || other.wait_with_output().unwrap()
    });
    let other = other.await.unwrap();
    assert!(String::from_utf8_lossy(&other.stderr).contains("another probectl"), "{other:?}");
    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ended = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("goes on from there") && said.contains("holiday"), "{said}");
    assert_eq!(place.remembered(), 1);

    let again = place.probectl(&fake, &["--probe", "quick"]);
    let ended = tokio::task::spawn_blocking(move || again.wait_with_output().unwrap()).await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    fake.with(|s| {
        assert_eq!((s.received, s.jobs.len()), (SMALL, 1), "nothing was sent twice");
        assert!(s.jobs[0].len() > 36, "the job carries an idempotency key");
    });
    assert_eq!(place.remembered(), 0, "the job is accepted");
}
