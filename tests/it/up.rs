//! `probectl up`: the whole service from one command, and what is left when any part of it is killed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::json;
use tests::{Http, Program, binaries, servers};

/// One state directory and the user that `up` runs as.
struct House {
    state: PathBuf,
    as_nobody: bool,
}

/// The processes of a house by name, found by the state directory in their environment, arguments or working folder.
fn processes(state: &Path) -> Vec<(u32, String)> {
    let needle = state.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let read = |file: &str| {
            std::fs::read(entry.path().join(file)).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
        };
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let ours = read("environ").contains(&needle) || read("cmdline").contains(&needle) || cwd.starts_with(state);
        let is_zombie = read("stat").contains(") Z ");
        if ours && !is_zombie {
            found.push((pid, read("comm").trim().to_owned()));
        }
    }
    found
}

fn find(state: &Path, name: &str) -> Option<u32> {
    // PostgreSQL's helpers have the same name; the first of them is the postmaster
    processes(state).into_iter().filter(|(_, n)| n == name).map(|(pid, _)| pid).min()
}

impl House {
    fn new(as_nobody: bool) -> Self {
        use std::os::unix::fs::chown;
        let base = std::env::temp_dir().join(format!("up-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&base).expect("a folder");
        if as_nobody {
            chown(&base, Some(65534), Some(65534)).expect("root may");
        }
        Self { state: base.join("state"), as_nobody }
    }

    /// Starts `up` and waits until it is open; returns requests to it with the admin key.
    fn up(&self) -> (Program, Http) {
        let mut up = self.start();
        let url = up.wait_for(
            |line| line.split_whitespace().find(|w| w.starts_with("http://127.0.0.1:")).map(str::to_owned),
            "the URL",
        );
        up.wait_for(|line| line.contains("curl ").then_some(()), "the curl line");
        let key = std::fs::read_to_string(self.state.join("admin-api-key")).expect("a key");
        let url = url.trim_end_matches(['.', ',', ')', '/']).to_owned();
        (up, Http::new(url, Some(key.trim().to_owned())))
    }

    fn start(&self) -> Program {
        let environment = [("FFPROBE_API_STATE_DIR".to_owned(), self.state.display().to_string())];
        let probectl = binaries::path("probectl").display().to_string();
        let arguments = ["up", "--port", "0"];
        if self.as_nobody {
            let mut all = vec!["--reuid=65534", "--regid=65534", "--clear-groups", &probectl];
            all.extend(arguments);
            return Program::start("up", Path::new("/usr/bin/setpriv"), &all, &environment);
        }
        Program::start("up", Path::new(&probectl), &arguments, &environment)
    }

    /// What the doctor says who is given an address and nothing else.
    fn doctor(&self, url: &str) -> (bool, String) {
        let environment = [
            ("FFPROBE_API_STATE_DIR".to_owned(), self.state.display().to_string()),
            ("FFPROBE_API_URL".to_owned(), url.to_owned()),
        ];
        let mut doctor = Program::start("doctor", &binaries::path("probectl"), &["doctor"], &environment);
        let well = doctor.wait().success();
        doctor.wait_for(|line| line.contains(" not made").then_some(()), "the sum");
        (well, doctor.log())
    }

    fn expect_nothing_left(&self) {
        let begun = Instant::now();
        loop {
            let left = processes(&self.state);
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "still there: {left:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.state.parent().expect("has one"));
    }
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), Signal::KILL).expect("kills");
}

async fn probe_sample(http: &Http) -> String {
    let answer = http.post("/api/v1/probe/file", &json!({"file_path": "/test/sample.mp4"})).await;
    assert_eq!((answer.status.as_u16(), &answer.json["state"]), (200, &json!("succeeded")), "{}", answer.text);
    answer.json["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn one_command_and_again() {
    let _ = servers::servers();
    let house = House::new(false);
    let (mut up, http) = house.up();
    assert!(up.log().contains("Self-check"), "{}", up.log());
    let pasted = up.wait_for(|line| line.find("curl ").map(|at| line[at..].to_owned()), "the curl line");
    let output = std::process::Command::new("sh").args(["-c", &pasted]).output().expect("runs");
    let job: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the pasted line returns JSON");
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(job["result"]["media"]["video"][0]["codec"], "h264", "{job}");

    let (well, text) = house.doctor(http.url());
    assert!(well && text.contains("looking at the `probectl up`") && text.contains(" 0 failed, 1 not made"), "{text}");

    let mut second = house.start();
    assert!(!second.wait().success());
    std::thread::sleep(Duration::from_millis(100));
    assert!(second.log().contains("already running"), "{}", second.log());

    let mode = |file: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(house.state.join(file)).expect("there").permissions().mode() & 0o777
    };
    assert_eq!(
        (mode(""), mode("admin-api-key"), mode("secrets"), mode("pg"), mode("uploads")),
        (0o711, 0o600, 0o700, 0o700, 0o700)
    );

    let begun = Instant::now();
    up.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    house.expect_nothing_left();
    let (well, text) = house.doctor(http.url());
    assert!(!well && !text.contains("looking at") && text.contains("DATABASE_URL"), "nothing runs: {text}");
    let (up, http_again) = house.up();
    let kept = http_again.get(&format!("/api/v1/jobs/{}", job["id"].as_str().expect("an id"))).await;
    assert_eq!(kept.json["state"], "succeeded", "the earlier job is there: {}", kept.text);
    drop(http);
    up.stop();
}

async fn kill_each_in_turn(as_nobody: bool) {
    let house = House::new(as_nobody);
    let (mut up, mut http) = house.up();
    let mut job = probe_sample(&http).await;
    for name in ["postgres", "redis-server", "ffprobe-api", "ffprobe-worker"] {
        let pid = find(&house.state, name).unwrap_or_else(|| panic!("{name} runs: {:?}", processes(&house.state)));
        kill(pid);
        let begun = Instant::now();
        loop {
            let back = find(&house.state, name).is_some_and(|new| new != pid);
            if back && reqwest::get(format!("{}/health", http.url())).await.is_ok_and(|a| a.status() == 200) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{name} did not come back:\n{}", up.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let kept = http.get(&format!("/api/v1/jobs/{job}")).await;
        assert_eq!(kept.json["state"], "succeeded", "after killing {name}: {}", kept.text);
        job = probe_sample(&http).await;
        println!(
            "as {}: {name} killed, a probe succeeded {:.1} s later",
            if as_nobody { "nobody" } else { "root" },
            begun.elapsed().as_secs_f64()
        );
    }
    up.signal(Signal::KILL);
    up.wait();
    house.expect_nothing_left();
    (up, http) = house.up();
    let kept = http.get(&format!("/api/v1/jobs/{job}")).await;
    assert_eq!(kept.json["state"], "succeeded", "after killing probectl: {}", kept.text);
    up.stop();
    house.expect_nothing_left();
}

#[tokio::test]
async fn each_process_may_be_killed() {
    let _ = servers::servers();
    kill_each_in_turn(false).await;
}

#[tokio::test]
async fn each_process_may_be_killed_as_an_unprivileged_user() {
    if !geteuid().is_root() {
        println!("this run is unprivileged already; the test beside this one covers it");
        return;
    }
    let _ = servers::servers();
    kill_each_in_turn(true).await;
}
