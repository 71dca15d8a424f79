//! That the tests of hostile input are real: for each protection an attack that works where it alone is missing, and
//! fails where it stands. The launcher of the worker is started as the worker starts it, with orders and arguments of our
//! own; the deadline and the cap on output are the worker's own work, so for those the attack alone is shown here and its
//! defeat in `hostile`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::exploits::{self, Aim, Plain, Scene};
use tests::listener::Listener;
use tests::{binaries, bombs};

/// Every wall that can be raised here.
const WALLS: &str = "best_effort";
/// No wall but the limits.
const NO_WALLS: &str = "off";
/// More memory than any bomb is given here; less than the machine has.
const PLENTY: u64 = 3 << 30;
/// The memory of a job.
const MEMORY: u64 = 1 << 30;
const MB: u64 = 1 << 20;
/// Longest time of one run.
const PATIENCE: Duration = Duration::from_secs(30);

/// One run of ffprobe through the launcher.
struct Attack<'a> {
    walls: &'static str,
    /// Walls that are left out.
    without: &'a [&'a str],
    memory_bytes: u64,
    cpu_seconds: u64,
    patience: Duration,
    options: &'a [&'a str],
    /// What is read; standard input unless a name is given.
    input: &'a Path,
    name: &'a str,
    /// Folders that may be read besides the libraries.
    read: &'a [&'a Path],
}

/// What came of it.
struct Outcome {
    text: String,
    bytes: usize,
    complaints: usize,
    peak_bytes: u64,
    took: Duration,
    /// The signal that ended it.
    signal: Option<i32>,
}

impl<'a> Attack<'a> {
    /// A run with the worker's limits and walls, the worker's own name for the input, and no option of ffprobe.
    fn on(input: &'a Path) -> Self {
        Self {
            walls: WALLS,
            without: &[],
            memory_bytes: MEMORY,
            cpu_seconds: 10,
            patience: PATIENCE,
            options: &[],
            input,
            name: "file:/dev/fd/0",
            read: &[],
        }
    }

    fn run(&self) -> Outcome {
        let mut child = self.start();
        let begun = Instant::now();
        let (mut stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let text = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).map(|_| bytes)
        });
        let complaints = std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let mut peak_bytes = 0;
        let status = loop {
            peak_bytes = peak_of(child.id()).unwrap_or_default().max(peak_bytes);
            if let Some(status) = child.try_wait().expect("can be asked") {
                break status;
            }
            if begun.elapsed() > self.patience {
                child.kill().expect("it is ours");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = begun.elapsed();
        let bytes = text.join().expect("no panic").expect("a pipe can be read");
        let complaints = complaints.join().expect("no panic").expect("a pipe can be read");
        Outcome {
            bytes: bytes.len(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
            complaints: usize::try_from(complaints).expect("some megabytes"),
            peak_bytes,
            took,
            signal: std::os::unix::process::ExitStatusExt::signal(&status),
        }
    }

    fn start(&self) -> Child {
        let read: Vec<&Path> = [Path::new("/lib"), Path::new("/usr/lib")].iter().chain(self.read).copied().collect();
        let order = json!({
            "parent": std::process::id(),
            "sandbox": self.walls,
            "limits": {
                "memory_bytes": self.memory_bytes, "cpu_seconds": self.cpu_seconds, "open_files": 64,
                "wall_ms": 60_000, "stdout_bytes": 16 << 20, "stderr_bytes": 64 << 10,
            },
            "execute": [program(), Path::new("/lib64/ld-linux-x86-64.so.2"), Path::new("/lib/ld-linux-aarch64.so.1")],
            "read": read,
            "reach": "file",
            "without": self.without,
        });
        Command::new(binaries::path("ffprobe-worker"))
            .arg("jail")
            .arg(order.to_string())
            .arg(program())
            .args(["-v", "warning", "-of", "json", "-show_format", "-show_streams", "-show_programs"])
            .args(self.options)
            .args(["-i", self.name])
            .env_clear()
            .stdin(File::open(self.input).expect("just written"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the launcher starts")
    }
}

fn peak_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: u64 =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH is set");
    std::env::split_paths(&path).map(|p| p.join("ffprobe")).find(|p| p.exists()).expect("ffprobe is installed")
}

/// A scene in a folder of its own, with its listener.
fn scene() -> (tempfile::TempDir, Scene, Listener) {
    let (folder, ear) = (tempfile::tempdir().expect("a folder"), Listener::start());
    let scene = Scene::new(folder.path(), ear.port());
    (folder, scene, ear)
}

/// A bomb in a folder of its own.
fn bomb(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = bombs::named(name).write(folder.path());
    (folder, path)
}

#[test]
fn exploits_do_with_plain_ffprobe_what_is_said_of_them() {
    let (_folder, scene, ear) = scene();
    let mut wrong = Vec::new();
    for exploit in exploits::all() {
        let path = exploit.write(&scene);
        let (options, obeys) = match exploit.plain {
            Plain::Obeys => (&[][..], true),
            Plain::ObeysWith(options) => (options, true),
            Plain::Refuses => (&[][..], false),
        };
        let name = format!("file:{}", path.display());
        let before = ear.heard();
        let outcome = Attack { walls: NO_WALLS, name: &name, options, ..Attack::on(&path) }.run();
        let obeyed = match exploit.aim {
            Aim::File => Scene::leaks(&outcome.text),
            Aim::Connection => ear.heard() > before,
        };
        if obeyed != obeys {
            wrong.push(format!("{} obeyed: {obeyed}", exploit.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_of_formats_stops_playlists() {
    let (_folder, scene, _ear) = scene();
    for name in ["hls_url.mp4", "hls_after_id3.mp3", "dash_file.mp4", "hls_master.mp4"] {
        let path = exploits::named(name).write(&scene);
        let without = Attack { walls: NO_WALLS, ..Attack::on(&path) };
        assert!(Scene::leaks(&without.run().text), "{name} works without it");
        let with = Attack { options: &["-format_whitelist", "mov,mp4,m4a,3gp,3g2,mj2,mpegts,mp3"], ..without };
        assert!(!Scene::leaks(&with.run().text), "{name}");
    }
}

#[test]
fn landlock_stops_every_file_but_the_one() {
    let (folder, scene, _ear) = scene();
    for name in ["hls_url.mp4", "dash_file.mp4", "samples_elsewhere.mov"] {
        let exploit = exploits::named(name);
        let path = exploit.write(&scene);
        let options = match exploit.plain {
            Plain::ObeysWith(options) => options,
            _ => &[],
        };
        let with = Attack { options, ..Attack::on(&path) };
        assert!(!Scene::leaks(&with.run().text), "{name}");
        // all walls stand; one rule of this one lets the folder be read
        let without = Attack { options, read: &[folder.path()], ..Attack::on(&path) };
        assert!(Scene::leaks(&without.run().text), "{name} works without it");
    }
}

#[test]
fn the_walls_stop_connections() {
    let (_folder, scene, ear) = scene();
    for name in ["hls_http.mp4", "hls_key.mp4", "concat_http.mp4", "dash_http.mp4"] {
        let exploit = exploits::named(name);
        let path = exploit.write(&scene);
        let Plain::ObeysWith(options) = exploit.plain else { panic!("{name} needs options") };
        let before = ear.heard();
        Attack { options, read: &[&scene.folder], ..Attack::on(&path) }.run();
        assert_eq!(ear.heard(), before, "{name}");
        Attack { options, walls: NO_WALLS, ..Attack::on(&path) }.run();
        assert!(ear.heard() > before, "{name} works without them");
    }
    each_wall_stops_connections(&scene, &ear);
    // an address for the input itself
    let path = scene.folder.join("secret.ts");
    for scheme in ["http", "tcp", "udp"] {
        let (name, before) = (scene.address(scheme, "a.ts"), ear.heard());
        let short = Duration::from_secs(2);
        Attack { name: &name, patience: short, ..Attack::on(&path) }.run();
        assert_eq!(ear.heard(), before, "{scheme}");
        if scheme != "udp" {
            // a receiver says nothing first: the worker's own tests send a datagram
            Attack { name: &name, patience: short, walls: NO_WALLS, ..Attack::on(&path) }.run();
            assert!(ear.heard() > before, "{scheme} works without them");
        }
    }
}

/// Three walls stop a connection: each is enough, and without all three nothing else stops it.
fn each_wall_stops_connections(scene: &Scene, ear: &Listener) {
    const THREE: [&str; 3] = ["network_namespace", "landlock_tcp", "seccomp"];
    let exploit = exploits::named("hls_http.mp4");
    let path = exploit.write(scene);
    let Plain::ObeysWith(options) = exploit.plain else { panic!("it needs options") };
    let connects = |without: &[&str]| {
        let before = ear.heard();
        Attack { options, without, read: &[&scene.folder], ..Attack::on(&path) }.run();
        ear.heard() > before
    };
    assert!(connects(&THREE), "it works without all three");
    let offered =
        Command::new(binaries::path("ffprobe-worker")).arg("canary").output().expect("the canary runs").stdout;
    let offered: serde_json::Value = serde_json::from_slice(&offered).expect("JSON");
    for wall in THREE {
        let others: Vec<&str> = THREE.into_iter().filter(|other| *other != wall).collect();
        if offered[wall]["status"] == "active" {
            assert!(!connects(&others), "{wall} alone does not stop it");
        } else {
            println!("{wall} is not tried: {}", offered[wall]);
        }
    }
}

#[test]
fn the_list_of_protocols_stops_connections_too() {
    let (_folder, scene, ear) = scene();
    let path = exploits::named("hls_http.mp4").write(&scene);
    let run = |list| Attack { options: &["-protocol_whitelist", list], walls: NO_WALLS, ..Attack::on(&path) }.run();
    run("file");
    assert_eq!(ear.heard(), 0);
    run("file,http,tcp");
    assert!(ear.heard() > 0, "it works without it");
}

#[test]
fn our_name_for_the_input_stops_names() {
    let (_folder, scene, _ear) = scene();
    let path = scene.folder.join("img1.png");
    let secret = scene.secret("secret.ts");
    for name in [format!("subfile,,start,0,end,0,,:{secret}"), format!("concat:{secret}")] {
        let attack = Attack { walls: NO_WALLS, name: &name, options: &["-f", "mpegts"], ..Attack::on(&path) };
        assert!(Scene::leaks(&attack.run().text), "{name} works without it");
        let prefixed = format!("file:{name}");
        assert!(!Scene::leaks(&Attack { name: &prefixed, ..attack }.run().text), "{name}");
    }
}

#[test]
fn a_name_without_extension_stops_zeros() {
    for name in ["zeros.mp3", "zeros.h264"] {
        let (_folder, path) = bomb(name);
        let as_named = format!("file:{}", path.display());
        let without = Attack { walls: NO_WALLS, name: &as_named, cpu_seconds: 2, ..Attack::on(&path) }.run();
        assert_eq!(without.signal, Some(24), "{name} uses up any time without it");
        let with = Attack { cpu_seconds: 2, ..Attack::on(&path) }.run();
        assert_eq!(with.signal, None, "{name}");
        assert!(with.peak_bytes < 100 * MB, "{name}: {}", with.peak_bytes);
    }
}

#[test]
fn max_streams_bounds_streams() {
    // each decoder takes address space for its threads, and little of it becomes memory
    const ROOM: u64 = 16 << 30;
    let (_folder, path) = bomb("pids_1000.ts");
    let without = Attack { memory_bytes: ROOM, ..Attack::on(&path) }.run();
    let with = Attack { memory_bytes: ROOM, options: &["-max_streams", "256"], ..Attack::on(&path) }.run();
    assert!(without.peak_bytes > 300 * MB && with.peak_bytes < 200 * MB, "{} {}", without.peak_bytes, with.peak_bytes);
    assert!(without.text.matches("codec_type").count() >= 1000);
}

#[test]
fn max_alloc_bounds_one_allocation() {
    for (name, harm) in [("stsz_30m.mp4", 600), ("picture_256m.mp3", 250), ("pixels_16k.mov", 600)] {
        let (_folder, path) = bomb(name);
        let without = Attack { memory_bytes: PLENTY, ..Attack::on(&path) }.run().peak_bytes;
        let options = &["-max_alloc", "268435456"];
        let with = Attack { memory_bytes: PLENTY, options, ..Attack::on(&path) }.run().peak_bytes;
        assert!(without > harm * MB && with < 100 * MB, "{name}: {without} without, {with} with");
    }
}

#[test]
fn the_limit_of_memory_bounds_them_all() {
    for name in ["stsz_10m_x8.mp4", "ctts_9m_x8.mp4"] {
        let (_folder, path) = bomb(name);
        let options = &["-max_alloc", "268435456"];
        let without = Attack { memory_bytes: PLENTY, options, ..Attack::on(&path) }.run().peak_bytes;
        let with = Attack { options, ..Attack::on(&path) }.run().peak_bytes;
        assert!(without > MEMORY && with < MEMORY, "{name}: {without} without, {with} with");
    }
}

#[test]
fn the_limit_of_processor_time_ends_what_never_ends() {
    const AT_LEAST: Duration = Duration::from_secs(4);
    for name in ["attachments_12x200m.mkv", "start_codes.h264", "tags_300k_names.mkv"] {
        let (_folder, path) = bomb(name);
        let options = &["-max_alloc", "268435456"];
        let with = Attack { options, cpu_seconds: 1, ..Attack::on(&path) }.run();
        assert_eq!(with.signal, Some(24), "{name} was ended by its limit");
        // nothing but our own patience ends it: what a deadline is for
        let without = Attack { options, cpu_seconds: 60, patience: AT_LEAST, ..Attack::on(&path) }.run();
        assert_eq!(without.signal, Some(9), "{name} would go on");
        assert!(without.took >= AT_LEAST, "{name} took {:?}", without.took);
    }
}

#[test]
fn output_and_complaints_have_no_end_of_their_own() {
    const CAP: usize = 16 << 20;
    for name in ["title_15m.mkv", "programs_10k.ts"] {
        let (_folder, path) = bomb(name);
        let options = &["-of", "json=c=1"];
        let bytes = Attack { options, ..Attack::on(&path) }.run().bytes;
        assert!(bytes > CAP, "{name} wrote {bytes} bytes, so a cap is needed");
    }
    let (_folder, path) = bomb("stsz_10m_x8.mp4");
    let complaints = Attack::on(&path).run().complaints;
    assert!(complaints > 64 << 10, "{complaints} bytes of complaints, so a cap is needed");
}
