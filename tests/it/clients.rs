//! Clients that other people wrote, and ours, upload by tus and get the result of a probe: tus-js-client, tuspy, curl as the
//! API guide shows it, `probectl`. The API is killed beneath them and started again. What they need, scripts/clients.sh
//! installs; the scripts they run lie in tests/clients.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tests::{Http, Installation, Program, binaries, samples};

/// Bytes of the file that is uploaded: large enough to be cut in the middle.
const SIZE: usize = 24 << 20;
/// Bytes of a file that `probectl` sends in parts.
const LARGE: usize = 96 << 20;
/// Acknowledged bytes at which the API is killed.
const MIDDLE: u64 = 6 << 20;
/// What a kill may cost an upload.
const LOSS: u64 = 8 << 20;

/// An installation whose API can be killed and come back at the same address.
struct House {
    installation: Installation,
    http: Http,
    api: Option<Program>,
    _worker: Program,
    file: PathBuf,
}

impl House {
    async fn with_file(size: usize) -> Self {
        let installation = Installation::new().await;
        let (api, http) = installation.api(&[]);
        let worker = installation.worker(&[]);
        let file = installation.folder().join("movie.mov");
        std::fs::write(&file, media(size)).expect("a file");
        Self { installation, http, api: Some(api), _worker: worker, file }
    }

    fn kill_and_restart(&mut self) {
        self.api.take().expect("it runs").kill();
        let port = self.http.url().rsplit(':').next().expect("a port");
        self.api = Some(self.installation.api(&[("API_PORT", port)]).0);
    }

    /// Starts a client with the address and the file as its first arguments.
    fn client(&self, program: &Path, script: &str, mode: &[&str], environment: &[(&str, String)]) -> Program {
        let script = binaries::workspace().join("tests/clients").join(script).display().to_string();
        let endpoint = format!("{}/api/v1/uploads", self.http.url());
        let file = self.file.display().to_string();
        let mut arguments = vec![script.as_str(), &endpoint, &file];
        arguments.extend(mode);
        let mut variables = vec![("API_KEY".to_owned(), self.installation.key.clone())];
        variables.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Program::start(script.rsplit('/').next().expect("a name"), program, &arguments, &variables)
    }

    fn tus_js(&self, mode: &str, environment: &[(&str, String)]) -> Program {
        let mut variables = vec![("CLIENTS", clients("node"))];
        variables.extend_from_slice(environment);
        self.client(Path::new("node"), "upload.mjs", &[mode], &variables)
    }

    /// Insists that the upload holds the file, and probes it.
    async fn check(&self, id: &str) {
        let stored = std::fs::read(self.installation.uploads().join(id).join("data")).expect("stored");
        assert!(stored == std::fs::read(&self.file).expect("the file"), "{} bytes, and they differ", stored.len());
        let job = self.http.probe(serde_json::json!({"type": "upload", "id": id})).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        assert_eq!(job["result"]["media"]["name"], "movie.mov");
        assert_eq!(job["result"]["media"]["video"][0]["codec"], "h264");
    }

    async fn check_answer(&self, client: &mut Program) {
        let url = client.wait_for(|line| Some(json(line)?["url"].as_str()?.to_owned()), "url");
        assert!(client.wait().success());
        self.check(url.rsplit('/').next().expect("an id")).await;
    }
}

/// A movie with a long `free` box of noise behind it.
fn media(size: usize) -> Vec<u8> {
    let mut bytes = std::fs::read(samples::path("mp4")).expect("a sample");
    let rest = size - bytes.len();
    bytes.extend(u32::try_from(rest).expect("fits").to_be_bytes());
    bytes.extend(b"free");
    bytes.extend((0..u32::try_from(rest - 8).expect("fits")).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    bytes
}

/// What scripts/clients.sh installed.
pub(crate) fn clients(name: &str) -> String {
    let debug = binaries::path("probectl");
    let folder = debug.ancestors().nth(2).expect("target").join("clients").join(name);
    assert!(folder.join("installed").exists(), "{} is not there: run scripts/setup.sh test", folder.display());
    folder.display().to_string()
}

fn json(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

fn acknowledged(line: &str) -> Option<u64> {
    json(line)?["acknowledged"].as_u64()
}

fn wait_for_middle(client: &mut Program) -> u64 {
    client.wait_for(|line| acknowledged(line).filter(|bytes| *bytes >= MIDDLE), "the middle")
}

#[tokio::test]
async fn tus_js_client_goes_on_when_the_api_was_killed() {
    let mut house = House::with_file(SIZE).await;
    let mut client = house.tus_js("chunked", &[("PAUSE_MS", "30".into())]);
    wait_for_middle(&mut client);
    house.kill_and_restart();
    house.check_answer(&mut client).await;
}

#[tokio::test]
async fn tus_js_client_sends_parts_side_by_side() {
    let house = House::with_file(SIZE).await;
    let mut client = house.tus_js("parallel", &[]);
    house.check_answer(&mut client).await;
}

#[tokio::test]
async fn another_run_of_tus_js_client_resumes() {
    let mut house = House::with_file(SIZE).await;
    let memory = house.installation.folder().join("memory.json").display().to_string();
    let mut client = house.tus_js("remembered", &[("PAUSE_MS", "30".into()), ("MEMORY", memory.clone())]);
    let before = wait_for_middle(&mut client);
    client.kill();
    house.kill_and_restart();
    let mut client = house.tus_js("remembered", &[("MEMORY", memory)]);
    client.wait_for(|line| json(line)?["resumed"].as_str().map(str::to_owned), "resumed");
    let first = client.wait_for(acknowledged, "acknowledged");
    assert!(first > before.saturating_sub(LOSS), "{before} bytes were acknowledged, it went on below {first}");
    house.check_answer(&mut client).await;
}

#[tokio::test]
async fn tuspy_sends_checksums_and_goes_on_when_the_api_was_killed() {
    let mut house = House::with_file(SIZE).await;
    let python = PathBuf::from(clients("venv")).join("bin/python");
    let mut client = house.client(&python, "upload.py", &[], &[]);
    wait_for_middle(&mut client);
    house.kill_and_restart();
    house.check_answer(&mut client).await;
}

#[tokio::test]
async fn curl_as_the_guide_shows_it() {
    let house = House::with_file(SIZE).await;
    let guide = std::fs::read_to_string(binaries::workspace().join("docs/api.md")).expect("the guide");
    let (_, section) = guide.split_once("\n### With curl\n").expect("a section");
    let (_, rest) = section.split_once("```sh\n").expect("a block");
    let (commands, _) = rest.split_once("```").expect("its end");
    let script = format!("set -eu -o pipefail\ncd {}\n{commands}", house.installation.folder().display());
    let variables = [("URL", house.http.url()), ("KEY", house.installation.key.as_str())];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut shell = Program::start("curl", Path::new("bash"), &["-c", &script], &variables);
    let job = shell.wait_for(|line| json(line).filter(|job| job["state"].is_string()), "a job");
    assert!(shell.wait().success(), "{}", shell.log());
    let job = house.http.wait(job["id"].as_str().expect("an id")).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    house.check(job["source"]["id"].as_str().expect("an upload")).await;
}

#[tokio::test]
async fn probectl_goes_on_when_the_api_was_killed() {
    let mut house = House::with_file(LARGE).await;
    let file = house.file.display().to_string();
    let mut probectl = house.installation.probectl(&house.http, &["submit", &file, "--wait", "--json"]);
    let uploads = house.installation.uploads();
    while bytes_in(&uploads) < 2 * MIDDLE {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    house.kill_and_restart();
    let job = probectl.wait_for(|line| json(line).filter(|job| job["state"].is_string()), "a job");
    assert!(probectl.wait().success(), "{}", probectl.log());
    assert_eq!(job["state"], "succeeded", "{job}");
    house.check(job["source"]["id"].as_str().expect("an upload")).await;
}

#[tokio::test]
async fn another_run_of_probectl_resumes() {
    let house = House::with_file(LARGE).await;
    let file = house.file.display().to_string();
    let uploads = house.installation.uploads();
    let mut first = house.installation.probectl(&house.http, &["submit", &file, "--wait", "--json"]);
    while bytes_in(&uploads) < 2 * MIDDLE {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    first.signal(Signal::INT);
    assert_eq!(first.wait().code(), Some(130), "{}", first.log());
    let kept = bytes_in(&uploads);
    let mut second = house.installation.probectl(&house.http, &["submit", &file, "--wait", "--json"]);
    let job = second.wait_for(|line| json(line).filter(|job| job["state"].is_string()), "a job");
    assert!(second.wait().success() && kept >= MIDDLE, "{}", second.log());
    house.check(job["source"]["id"].as_str().expect("an upload")).await;
}

/// Bytes of all files below a folder.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_in(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}
