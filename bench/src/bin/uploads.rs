//! What a large upload costs: by tus in one PATCH, and as a raw body, beside nginx's DAV PUT to the same disk in the same
//! run, turn by turn, from the same client. Run with `make uploads`.
//!
//! Prints medians, CPU seconds of the server per GiB, and ratios to nginx; the promise is at least 0.9 of its throughput.
//! nginx answers when the bytes are in the page cache; the service when they are on the disk. So nginx is shown with
//! `fdatasync` too.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use clap::Parser;
use reqwest::{Body, Client, RequestBuilder};
use tempfile::TempDir;
use tests::{Http, Installation, Program};

/// Least throughput, compared with nginx.
const PROMISE: f64 = 0.9;
/// Bytes handed to the client at once.
const PIECE: usize = 1 << 20;
/// Clock ticks in a second of /proc/PID/stat; Linux shows 100 whatever the kernel counts in.
const TICKS: f64 = 100.0;
const GIB: u64 = 1 << 30;

/// Measures what large uploads cost.
#[derive(Debug, Parser)]
struct Args {
    /// Size of each upload in GiB
    #[arg(long, default_value_t = 2)]
    gib: u64,
    /// Measurements of each way
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only one upload by tus, without nginx: how long it takes and how much memory the API takes for it
    #[arg(long)]
    once: bool,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu_seconds: f64,
}

/// When an upload to nginx counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// When nginx says so: the bytes are in the page cache.
    InCache,
    /// When they are on the disk.
    OnDisk,
}

/// nginx with DAV PUT into a folder.
struct Nginx {
    program: Program,
    folder: PathBuf,
    url: String,
}

impl Nginx {
    fn start(place: &Path) -> Self {
        let folder = place.join("nginx");
        fs::create_dir_all(folder.join("files")).expect("a folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let at = folder.display();
        let text = format!(
            "daemon off; user root; worker_processes 1; pid {at}/pid; error_log stderr;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_max_body_size 0; client_body_temp_path {at}/temp;\n\
             fastcgi_temp_path {at}/f; proxy_temp_path {at}/p; scgi_temp_path {at}/s; uwsgi_temp_path {at}/u;\n\
             server {{ listen 127.0.0.1:{port}; root {at}/files; location / {{ dav_methods PUT DELETE; }} }} }}\n"
        );
        let settings = folder.join("nginx.conf");
        fs::write(&settings, text).expect("writes");
        let arguments = ["-c", &settings.display().to_string(), "-p", &folder.display().to_string()];
        let program = Program::start("nginx", Path::new("nginx"), &arguments, &[]);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { program, folder, url: format!("http://127.0.0.1:{port}/data") }
    }

    /// Its master and its workers.
    fn pids(&self) -> Vec<u32> {
        let master = self.program.pid();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).expect("is there");
        let children = children.split_whitespace().map(|pid| pid.parse().expect("a pid"));
        std::iter::once(master).chain(children).collect()
    }
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let bytes = args.gib * GIB;
    let place = TempDir::new().expect("a folder");
    let installation = Installation::new().await;
    let (api, http) = api(&installation, place.path());
    if args.once {
        return once(&api, &http, args.gib).await;
    }
    let nginx = Nginx::start(place.path());
    let mut costs: [Vec<Cost>; 4] = Default::default();
    for round in 0..=args.rounds {
        let mut measured = Vec::new();
        measured.push(put(&nginx, bytes, Durability::InCache).await);
        measured.push(put(&nginx, bytes, Durability::OnDisk).await);
        measured.push(tus(&http, &api, bytes).await);
        measured.push(raw(&http, &api, bytes).await);
        // the first round only warms up
        if round > 0 {
            costs.iter_mut().zip(measured).for_each(|(costs, cost)| costs.push(cost));
        }
    }
    // killed, it would leave its workers behind
    nginx.program.stop();
    report(&costs, args.gib);
}

/// One upload of so many GiB, in one request.
async fn once(api: &Program, http: &Http, gib: u64) {
    // what serving anything takes is not the upload's
    tus(http, api, GIB / 64).await;
    let before = api.peak_bytes();
    let cost = tus(http, api, gib * GIB).await;
    let (wall, grown) = (cost.wall.as_secs_f64(), api.peak_bytes() - before);
    println!(
        "{gib} GiB by tus in {wall:.0} s: {:.0} MiB/s, {:.2} CPU s per GiB, the API's own memory grew by {:.1} MiB",
        gib as f64 * 1024.0 / wall,
        cost.cpu_seconds / gib as f64,
        grown as f64 / 1_048_576.0
    );
}

/// The API as it is released, with its uploads on the disk that is measured.
fn api(installation: &Installation, place: &Path) -> (Program, Http) {
    let own = std::env::current_exe().expect("a program has a path");
    let mut environment = installation.environment();
    environment.retain(|(name, _)| name != "STORAGE_URL" && name != "LOG_LEVEL");
    environment.push(("STORAGE_URL".into(), format!("file://{}/uploads", place.display())));
    environment.push(("LOG_LEVEL".into(), "info".into()));
    let mut api = Program::start("api", &own.with_file_name("ffprobe-api"), &[], &environment);
    let line = api.wait_for_line("listening");
    let url = format!("http://{}", line["addr"].as_str().expect("an address"));
    (api, Http::new(url, Some(installation.key.clone())))
}

/// A body of noise, made without reading a disk.
fn body(bytes: u64) -> Body {
    static NOISE: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..PIECE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect());
    let pieces = (0..bytes / PIECE as u64).map(|_| Ok::<_, std::io::Error>(NOISE.as_slice()));
    Body::wrap_stream(futures::stream::iter(pieces))
}

/// Sends a request and measures it, until it is answered and `then` is done.
async fn measure(request: RequestBuilder, pids: &[u32], then: impl FnOnce()) -> (Cost, reqwest::Response) {
    let (begun, before) = (Instant::now(), cpu_seconds(pids));
    let response = request.send().await.expect("an answer");
    then();
    let cost = Cost { wall: begun.elapsed(), cpu_seconds: cpu_seconds(pids) - before };
    assert!(response.status().is_success(), "{}", response.status());
    (cost, response)
}

/// Processor seconds that the processes have used.
fn cpu_seconds(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("is there");
        // the name, in brackets, may hold spaces
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| fields[n].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / TICKS
    };
    pids.iter().map(of).sum()
}

/// What is still on its way to the disk belongs to nobody's measurement.
fn settle() {
    assert!(std::process::Command::new("sync").status().expect("sync runs").success());
}

async fn put(nginx: &Nginx, bytes: u64, durability: Durability) -> Cost {
    settle();
    let client = Client::builder().no_proxy().build().expect("a client");
    let request = client.put(&nginx.url).header("content-length", bytes).body(body(bytes));
    let file = nginx.folder.join("files/data");
    let (cost, _) = measure(request, &nginx.pids(), || {
        if durability == Durability::OnDisk {
            File::open(&file).and_then(|file| file.sync_data()).expect("syncs");
        }
    })
    .await;
    fs::remove_file(&file).expect("is there");
    cost
}

async fn tus(http: &Http, api: &Program, bytes: u64) -> Cost {
    settle();
    let create = http.request(reqwest::Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0");
    let made = create.header("upload-length", bytes).send().await.expect("an answer");
    let location = made.headers()["location"].to_str().expect("text");
    let id = location.rsplit('/').next().expect("an id").to_owned();
    let request = http
        .request(reqwest::Method::PATCH, &format!("/api/v1/uploads/{id}"))
        .header("tus-resumable", "1.0.0")
        .header("upload-offset", 0)
        .header("content-type", "application/offset+octet-stream")
        .header("content-length", bytes)
        .body(body(bytes));
    let (cost, _) = measure(request, &[api.pid()], || ()).await;
    remove(http, &id).await;
    cost
}

async fn raw(http: &Http, api: &Program, bytes: u64) -> Cost {
    settle();
    let request = http
        .request(reqwest::Method::POST, "/api/v1/uploads?filename=movie.mov")
        .header("content-length", bytes)
        .body(body(bytes));
    let (cost, response) = measure(request, &[api.pid()], || ()).await;
    let upload: serde_json::Value = response.json().await.expect("JSON");
    remove(http, upload["id"].as_str().expect("an id")).await;
    cost
}

async fn remove(http: &Http, id: &str) {
    let request = http.request(reqwest::Method::DELETE, &format!("/api/v1/uploads/{id}"));
    let removed = request.header("tus-resumable", "1.0.0").send().await.expect("an answer");
    assert!(removed.status().is_success(), "{}", removed.status());
}

fn report(costs: &[Vec<Cost>; 4], gib: u64) {
    let median = |of: &dyn Fn(&Cost) -> f64, costs: &[Cost]| {
        let mut all: Vec<f64> = costs.iter().map(of).collect();
        all.sort_unstable_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let gib = gib as f64;
    let rates = costs.each_ref().map(|costs| median(&|cost| gib * 1024.0 / cost.wall.as_secs_f64(), costs));
    let names = ["nginx, DAV PUT", "nginx, then fdatasync", "tus, one PATCH", "raw POST"];
    println!("{gib} GiB each, medians of {}:", costs[0].len());
    println!("{:24}{:>10}{:>16}{:>12}{:>16}", "", "MiB/s", "CPU s per GiB", "to nginx", "to nginx + sync");
    for ((name, rate), costs) in names.iter().zip(rates).zip(costs) {
        let cpu = median(&|cost| cost.cpu_seconds / gib, costs);
        println!("{name:24}{rate:>10.0}{cpu:>16.2}{:>11.2}x{:>15.2}x", rate / rates[0], rate / rates[1]);
    }
    let worst = (rates[2] / rates[0]).min(rates[3] / rates[0]);
    println!(
        "promise: at least {PROMISE:.1}x of nginx, and it is {worst:.2}x: {}",
        if worst < PROMISE { "BROKEN" } else { "kept" }
    );
}
