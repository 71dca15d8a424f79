//! The walls themselves: each does what its name says, and each test fails without its wall.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr};
use worker::jail::{Cgroup, Limits, Optional, Protections, Sandbox, Status, User};

use crate::{LAUNCHER, Stage, ffprobe, probe, samples};

/// Every wall by its name in an order.
pub(crate) const WALLS: [&str; 9] = [
    "cgroup",
    "network_namespace",
    "no_new_privs",
    "rlimits",
    "dedicated_user",
    "capabilities",
    "landlock_fs",
    "landlock_tcp",
    "seccomp",
];

/// An order as the worker gives it, for a program of our choice.
pub(crate) fn order(sandbox: Sandbox, parent: u32, program: &str) -> serde_json::Value {
    serde_json::json!({
        "parent": parent,
        "sandbox": sandbox,
        "limits": Limits::of(shared::job::Profile::Standard),
        "execute": [program, "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"],
        "read": ["/lib", "/usr/lib"],
        "reach": "file",
    })
}

/// Starts the launcher the way the worker does, but with a program and arguments of our choice.
fn jailed(sandbox: Sandbox, parent: u32, input: &Path, program: &[&str]) -> Command {
    let order = order(sandbox, parent, program[0]);
    let mut command = Command::new(LAUNCHER);
    command.arg("jail").arg(order.to_string()).args(program).env_clear();
    command.stdin(File::open(input).unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(sandbox: Sandbox, input: &Path, program: &[&str]) -> Output {
    jailed(sandbox, std::process::id(), input, program).output().unwrap()
}

/// The protections that this kernel offers, found out without the worker's code: each must then really hold.
pub(crate) fn offered_here() -> Vec<&'static str> {
    let strict = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let files = strict().handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok();
    let tcp = strict().handle_access(AccessNet::from_all(ABI::V4)).and_then(Ruleset::create).is_ok();
    let seccomp = std::fs::read_to_string("/proc/self/status").unwrap().contains("Seccomp_filters:");
    let unshares = |how: &str| Command::new("unshare").args([how, "true"]).output().unwrap().status.success();
    let network = unshares("-n") || (!rustix::process::geteuid().is_root() && unshares("-Un"));
    let all = [
        ("capabilities", true),
        ("landlock_fs", files),
        ("landlock_tcp", tcp),
        ("network_namespace", network),
        ("no_new_privs", true),
        ("remote_input", tcp || network),
        ("remote_namespace", network),
        ("rlimits", true),
        ("seccomp", seccomp),
    ];
    all.into_iter().filter_map(|(name, offered)| offered.then_some(name)).collect()
}

pub(crate) fn active(protections: &Protections) -> Vec<&str> {
    protections.0.iter().filter(|(_, status)| **status == Status::Active).map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn the_canary_tells_what_holds_here() {
    let stage = Stage::enter().await;
    let protections = ffprobe(None, Sandbox::BestEffort).await.canary().await.unwrap();
    assert_eq!(protections.0.len(), 11, "{protections:?}");
    assert_eq!(active(&protections), offered_here(), "{protections:?}");
    let required = ffprobe(None, Sandbox::Required).await.canary().await;
    assert_eq!(required.is_ok(), protections.missing(&Optional::default()).is_empty(), "{protections:?}");

    // what nobody asked for is no defect of this machine
    let off = |there: &Protections, word: &str| {
        let how = |(name, status): (&String, &Status)| match status {
            Status::Off { how } if how.contains(word) => Some(name.clone()),
            _ => None,
        };
        there.0.iter().filter_map(how).collect::<Vec<_>>()
    };
    assert_eq!(
        (off(&protections, "JAIL_CGROUP"), off(&protections, "JAIL_UID")),
        (vec!["cgroup".into()], vec!["dedicated_user".into()])
    );
    let all_off = ffprobe(None, Sandbox::Off).await.canary().await.unwrap();
    assert_eq!(active(&all_off), ["rlimits"], "what is switched off is not called active");
    assert_eq!(off(&all_off, "SANDBOX").len(), 10, "{all_off:?}");
    stage.leave().await;
}

#[tokio::test]
async fn a_wrapper_script_is_refused_with_advice() {
    let stage = Stage::enter().await;
    let wrapper = stage.file("wrapper", "#!/bin/sh\nexec ffprobe \"$@\"\n");
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let wrapped = ffprobe(Some(&wrapper), Sandbox::BestEffort).await;
    match wrapped.canary().await {
        Err(error) => assert!(format!("{error:#}").contains("wrapper script"), "{error:#}"),
        Ok(_) => assert!(!offered_here().contains(&"landlock_fs"), "the shell was let in"),
    }
    assert!(ffprobe(Some(&wrapper), Sandbox::Off).await.run(probe(&samples::mp4())).await.outcome.is_ok());
    stage.leave().await;
}

#[tokio::test]
async fn a_playlist_does_not_reach_another_file_even_without_the_allow_list() {
    let stage = Stage::enter().await;
    let secret = stage.file("secret.ts", std::fs::read(samples::hdr10_ts()).unwrap());
    let list = format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{}\n#EXT-X-ENDLIST\n", secret.display());
    let list = stage.file("list", list);
    let program = Command::new("sh").args(["-c", "command -v ffprobe"]).output().unwrap();
    let program = String::from_utf8(program.stdout).unwrap();
    let plain = [program.trim(), "-v", "error", "-of", "json", "-show_streams", "-i", "file:/dev/fd/0"];
    let reads_secret = |sandbox| String::from_utf8_lossy(&output(sandbox, &list, &plain).stdout).contains("hevc");
    assert!(reads_secret(Sandbox::Off), "without walls the attack works, so this test means something");
    if offered_here().contains(&"landlock_fs") {
        assert!(!reads_secret(Sandbox::Required));
    }
    stage.leave().await;
}

#[tokio::test]
async fn the_launcher_says_why_it_cannot_go_on() {
    let stage = Stage::enter().await;
    let input = samples::mp4();
    for (sandbox, program, code, words) in [
        (Sandbox::Off, "/nowhere/ffprobe", 126, "/nowhere/ffprobe"),
        (Sandbox::Off, "/etc/passwd", 126, "ermission denied"),
    ] {
        let output = output(sandbox, &input, &[program]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(
            said.starts_with("ffprobe-worker jail: ") && said.contains(words) && said.lines().count() == 1,
            "{said}"
        );
    }
    let orphan = jailed(Sandbox::Off, 1, &input, &["/bin/true"]).output().unwrap();
    assert_eq!(orphan.status.code(), Some(125), "another parent than the worker that gave the order");
    let garbled = Command::new(LAUNCHER).args(["jail", "{}", "/bin/true"]).output().unwrap();
    assert_eq!(garbled.status.code(), Some(125));
    stage.leave().await;
}

#[tokio::test]
async fn a_child_dies_with_the_thread_that_started_it() {
    let stage = Stage::enter().await;
    let input = samples::mp4();
    let users = if rustix::process::geteuid().is_root() { vec![None, Some(54_321)] } else { vec![None] };
    for user in users {
        let mut order = order(Sandbox::BestEffort, std::process::id(), "/bin/sleep");
        order["user"] = user.map(|id| serde_json::json!({ "uid": id, "gid": id })).into();
        let mut command = Command::new(LAUNCHER);
        command.arg("jail").arg(order.to_string()).args(["/bin/sleep", "5"]).stdin(File::open(&input).unwrap());
        let mut child = std::thread::spawn(move || {
            let child = command.spawn().unwrap();
            // the launcher must get as far as asking for its death
            std::thread::sleep(std::time::Duration::from_millis(500));
            child
        })
        .join()
        .unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it would sleep for 5 seconds as {user:?}");
    }
    stage.leave().await;
}

#[tokio::test]
async fn a_file_of_another_user_that_the_worker_opened_is_readable_in_the_jail() {
    let stage = Stage::enter().await;
    let file = stage.file("theirs.mp4", std::fs::read(samples::mp4()).unwrap());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(12_345), Some(12_345)).unwrap();
    }
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    let done = ffprobe(None, Sandbox::BestEffort).await.run(probe(&file)).await;
    assert!(done.outcome.is_ok(), "{:?}", done.outcome);
    stage.leave().await;
}

#[tokio::test]
async fn a_dedicated_user_reads_only_what_the_worker_opened() {
    let stage = Stage::enter().await;
    if !rustix::process::geteuid().is_root() {
        return stage.leave().await;
    }
    let user = Some(User { uid: 54_321, gid: 54_322 });
    let behind = async |sandbox| ffprobe(None, sandbox).await.behind(Optional { user, cgroup: None });
    let jailed = behind(Sandbox::Required).await;
    // a file that neither that user nor its group may open by itself
    let file = stage.file("theirs.mp4", std::fs::read(samples::mp4()).unwrap());
    std::os::unix::fs::chown(&file, Some(12_345), Some(12_345)).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let done = jailed.run(probe(&file)).await;
    assert!(done.outcome.is_ok(), "{:?} {}", done.outcome, done.stderr_tail);
    assert!(done.usage.bytes_read.is_some() && done.usage.cpu_ms.is_some(), "{:?}", done.usage);
    // it can still be ended: a budget of nothing, a deadline
    let mut short = probe(&samples::mp4());
    short.limits.wall_ms = 20;
    let code = jailed.run(short).await.outcome.unwrap_err().code;
    assert_eq!(code, shared::job::FailureCode::DeadlineExceeded);
    stage.leave().await;
}

#[tokio::test]
async fn a_control_group_that_was_asked_for_and_is_not_there_is_missed() {
    let stage = Stage::enter().await;
    let cgroup = Some(Cgroup::open(stage.dir.path().to_owned()));
    let behind = async |sandbox| ffprobe(None, sandbox).await.behind(Optional { user: None, cgroup: cgroup.clone() });
    let refused = format!("{:#}", behind(Sandbox::Required).await.canary().await.unwrap_err());
    assert!(refused.contains("cgroup (JAIL_CGROUP="), "{refused}");
    let there = behind(Sandbox::BestEffort).await.canary().await.unwrap();
    assert!(matches!(&there.0["cgroup"], Status::Unavailable { reason } if reason.contains("version 2")), "{there:?}");
    // and no run goes on without it where it is required
    let run = behind(Sandbox::Required).await.run(probe(&samples::mp4())).await;
    assert_eq!(run.outcome.unwrap_err().code, shared::job::FailureCode::WorkerMisconfigured);
    stage.leave().await;
}
