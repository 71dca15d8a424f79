//! Each wall alone against an attack: without any wall the attack works, with that one it does not, and with all of them
//! it does not either. The attacker is a shell that uses its own words only, because most of what it tries would need no
//! second program.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use worker::jail::Sandbox;

use crate::walls::{WALLS, offered_here, order};
use crate::{LAUNCHER, Stage, samples};

const SHELL: &str = "/bin/bash";
/// What a successful attack prints.
const SPOILS: &str = "spoils";

/// What a run is given besides its walls.
#[derive(Clone)]
enum Given {
    File(PathBuf),
    Port(u16),
}

/// Lets the attacker loose behind all walls but some, and says whether it got what it wanted.
fn succeeds(script: &str, given: &Given, without: &[&str], more: &Value) -> bool {
    let mut order = order(Sandbox::BestEffort, std::process::id(), SHELL);
    order["without"] = json!(without);
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (stdin, _ours) = match given {
        Given::File(path) => (Stdio::from(File::open(path).unwrap()), None),
        Given::Port(port) => {
            order["reach"] = json!({ "loopback": { "port": port } });
            let (ours, theirs) = UnixStream::pair().unwrap();
            (Stdio::from(std::os::fd::OwnedFd::from(theirs)), Some(ours))
        }
    };
    let mut command = Command::new(LAUNCHER);
    command.args(["jail", &order.to_string(), SHELL, "-c", script]).env_clear();
    let output = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains(SPOILS)
}

/// All walls but these.
fn all_but(kept: &[&str]) -> Vec<&'static str> {
    WALLS.into_iter().filter(|wall| !kept.contains(wall)).collect()
}

/// Checks that the attack works without walls, or only with `needs`, and that each of `walls` stops it.
fn stopped_by(script: &str, given: &Given, needs: &[&str], walls: &[&str], more: &Value) {
    assert!(succeeds(script, given, &all_but(needs), more), "the attack does not work at all: {script}");
    let offered = offered_here();
    for wall in walls.iter().filter(|wall| offered.contains(wall) || **wall == "dedicated_user") {
        let kept = [needs, &[*wall]].concat();
        assert!(!succeeds(script, given, &all_but(&kept), more), "{wall} does not stop {script}");
        assert!(!succeeds(script, given, &[], more), "all walls do not stop {script}");
    }
}

fn none() -> Value {
    json!({})
}

#[tokio::test]
async fn files_are_out_of_reach() {
    let stage = Stage::enter().await;
    let secret = stage.file("secret", format!("{SPOILS}\n"));
    let given = Given::File(samples::mp4());
    let (secret, new) = (secret.display(), stage.dir.path().join("new"));
    stopped_by(&format!("read -r x < {secret}; echo $x"), &given, &[], &["landlock_fs"], &none());
    let list = format!("for x in {}/*; do case $x in *secret) echo {SPOILS};; esac; done", stage.dir.path().display());
    stopped_by(&list, &given, &[], &["landlock_fs"], &none());
    let write = format!("echo x > {} && echo {SPOILS}", new.display());
    stopped_by(&write, &given, &[], &["landlock_fs", "rlimits"], &none());
    // a remote input has no file at all
    stopped_by(&format!("read -r x < {secret}; echo $x"), &Given::Port(9), &[], &["landlock_fs"], &none());
    stage.leave().await;
}

#[tokio::test]
async fn the_network_is_out_of_reach() {
    let stage = Stage::enter().await;
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let given = Given::File(samples::mp4());
    let tcp = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo {SPOILS}");
    stopped_by(&tcp, &given, &[], &["landlock_tcp", "network_namespace", "seccomp"], &none());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let udp = format!("echo x >/dev/udp/127.0.0.1/{} && echo {SPOILS}", socket.local_addr().unwrap().port());
    stopped_by(&udp, &given, &[], &["seccomp"], &none());
    let received = || std::iter::from_fn(|| socket.recv(&mut [0; 8]).ok()).count();
    assert_eq!(received(), 1, "the one datagram of the run without walls");

    // remote input: its own port and no other; the filter lets TCP through there, so only the other two hold
    let input = TcpListener::bind("127.0.0.1:0").unwrap();
    let given = Given::Port(input.local_addr().unwrap().port());
    let walls = ["landlock_tcp", "network_namespace"].map(|w| [w]);
    for wall in &walls {
        stopped_by(&tcp, &given, &["seccomp"], wall, &none());
    }
    stopped_by(&udp, &given, &[], &["seccomp"], &none());
    let own = tcp.replace(&port.to_string(), &input.local_addr().unwrap().port().to_string());
    for without in [&[][..], &["network_namespace"], &["landlock_tcp"], &["seccomp"]] {
        assert!(succeeds(&own, &given, without, &none()), "the input is not reached without {without:?}");
    }
    stage.leave().await;
}

#[tokio::test]
async fn a_second_process_is_out_of_reach() {
    let stage = Stage::enter().await;
    stopped_by(&format!("(echo {SPOILS})"), &Given::File(samples::mp4()), &[], &["seccomp"], &none());
    stopped_by(&format!("(echo {SPOILS})"), &Given::Port(9), &[], &["seccomp"], &none());
    stage.leave().await;
}

#[tokio::test]
async fn memory_is_bounded() {
    let stage = Stage::enter().await;
    let script = format!("printf -v x '%400000000s' ''; echo {SPOILS}");
    let mut limits = order(Sandbox::BestEffort, 0, SHELL)["limits"].clone();
    limits["memory_bytes"] = json!(200 << 20);
    stopped_by(&script, &Given::File(samples::mp4()), &[], &["rlimits"], &json!({ "limits": limits }));
    stage.leave().await;
}

#[tokio::test]
async fn the_powers_of_root_are_out_of_reach() {
    let stage = Stage::enter().await;
    if !rustix::process::geteuid().is_root() {
        return stage.leave().await;
    }
    let given = Given::File(samples::mp4());
    let theirs = stage.file("theirs", "");
    std::fs::set_permissions(&theirs, PermissionsExt::from_mode(0o400)).unwrap();
    let write = format!("exec 3>>{} && echo {SPOILS}", theirs.display());
    chown(&theirs, Some(12_345), Some(12_345)).unwrap();
    // without no_new_privs root takes its powers back when it becomes another program
    stopped_by(&write, &given, &["capabilities"], &["no_new_privs"], &none());
    stopped_by(&write, &given, &["no_new_privs"], &["capabilities"], &none());
    // root without powers still owns its own files; a dedicated user owns none
    chown(&theirs, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&theirs, PermissionsExt::from_mode(0o600)).unwrap();
    let user = json!({ "user": { "uid": 54_321, "gid": 54_321 } });
    stopped_by(&write, &given, &["no_new_privs", "capabilities"], &["dedicated_user"], &user);
    stage.leave().await;
}
