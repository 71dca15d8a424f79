//! The canary in several environments: as root, as an unprivileged user, and on kernels that lack a protection (made by a
//! system call filter around the worker, which answers as such a kernel does). It must call unavailable exactly what is.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use worker::jail::{Protections, Sandbox, Status};

use crate::walls::{active, offered_here};
use crate::{LAUNCHER, Stage};

/// A call that is missing: its number, the place and value of an argument if only that is, and the error.
pub(crate) type Missing = (i64, Option<(u8, i32)>, i32);

/// A kernel without Landlock.
const NO_LANDLOCK: &[Missing] = &[
    (libc::SYS_landlock_create_ruleset, None, libc::ENOSYS),
    (libc::SYS_landlock_add_rule, None, libc::ENOSYS),
    (libc::SYS_landlock_restrict_self, None, libc::ENOSYS),
];
/// A kernel without filters for system calls.
const NO_SECCOMP: &[Missing] =
    &[(libc::SYS_seccomp, None, libc::EINVAL), (libc::SYS_prctl, Some((0, libc::PR_SET_SECCOMP)), libc::EINVAL)];
/// A container that may make no namespaces.
const NO_NAMESPACES: &[Missing] = &[(libc::SYS_unshare, None, libc::EPERM)];
/// A container on a kernel whose Landlock knows no ports (`LANDLOCK_RULE_NET_PORT` is 2).
pub(crate) const NO_NETWORK_WALLS: &[Missing] =
    &[(libc::SYS_unshare, None, libc::EPERM), (libc::SYS_landlock_add_rule, Some((1, 2)), libc::EINVAL)];

/// Does something where these calls are missing: on a thread of its own, whose children inherit what it lacks.
pub(crate) fn without<T: Send>(missing: &[Missing], act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            // one filter for each error; the filter that forbids filters comes alone
            let errors: BTreeSet<i32> = missing.iter().map(|(_, _, error)| *error).collect();
            for error in errors {
                let calls = missing.iter().filter(|(_, _, e)| *e == error);
                let rules = calls.map(|(call, argument, _)| (*call, rule(*argument))).collect();
                let answer = SeccompAction::Errno(error.unsigned_abs());
                let arch = std::env::consts::ARCH.try_into().unwrap();
                let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch).unwrap();
                let program: BpfProgram = filter.try_into().unwrap();
                seccompiler::apply_filter(&program).unwrap();
            }
            act()
        });
        there.join().unwrap()
    })
}

/// The argument that a call is missing with, if not with all.
fn rule(argument: Option<(u8, i32)>) -> Vec<SeccompRule> {
    let Some((place, value)) = argument else { return Vec::new() };
    let value = u64::from(value.unsigned_abs());
    let is = SeccompCondition::new(place, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).unwrap();
    vec![SeccompRule::new(vec![is]).unwrap()]
}

/// The worker's own canary, as a process.
fn canary(worker: &Path, sandbox: Sandbox) -> Command {
    let word = match sandbox {
        Sandbox::Required => "required",
        Sandbox::BestEffort => "best_effort",
        Sandbox::Off => "off",
    };
    let mut command = Command::new(worker);
    command
        .args(["--sandbox", word, "canary"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir("/");
    command
}

fn protections(output: &Output) -> Protections {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Checks that where these calls are missing, exactly these protections are lost, each with a reason.
fn loses(missing: &[&[Missing]], lost: &[&str], required: &[&str]) {
    let run = |sandbox| without(&missing.concat(), || canary(Path::new(LAUNCHER), sandbox).output().unwrap());
    let there = protections(&run(Sandbox::BestEffort));
    let expected: Vec<_> = offered_here().into_iter().filter(|name| !lost.contains(name)).collect();
    assert_eq!(active(&there), expected, "{there:?}");
    for name in lost {
        assert!(matches!(&there.0[*name], Status::Unavailable { reason } if !reason.is_empty()), "{there:?}");
    }
    let refused = run(Sandbox::Required);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.success(), required.is_empty(), "{said}");
    for name in lost {
        assert_eq!(said.contains(&format!("{name} (")), required.contains(name), "{name}: {said}");
    }
}

#[tokio::test]
async fn what_a_kernel_lacks_is_called_unavailable() {
    let stage = Stage::enter().await;
    if rustix::process::geteuid().is_root() {
        loses(&[], &[], &[]);
        loses(&[NO_SECCOMP], &["seccomp"], &["seccomp"]);
        loses(&[NO_NAMESPACES], &["network_namespace", "remote_namespace"], &[]);
        loses(&[NO_LANDLOCK], &["landlock_fs", "landlock_tcp"], &["landlock_fs"]);
        let all = ["landlock_fs", "landlock_tcp", "network_namespace", "remote_namespace", "remote_input"];
        loses(&[NO_LANDLOCK, NO_NAMESPACES], &all, &["landlock_fs"]);
    }
    stage.leave().await;
}

#[tokio::test]
async fn an_unprivileged_user_has_the_same_walls() {
    use std::os::unix::process::CommandExt;
    let stage = Stage::enter().await;
    if rustix::process::geteuid().is_root() {
        // where that user can reach it
        let worker = stage.dir.path().join("ffprobe-worker");
        std::fs::copy(LAUNCHER, &worker).unwrap();
        std::fs::set_permissions(stage.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let as_nobody = |sandbox| canary(&worker, sandbox).uid(65_534).gid(65_534).output().unwrap();
        let here = protections(&as_nobody(Sandbox::Required));
        let namespaces = Command::new("unshare").args(["-Un", "true"]).uid(65_534).gid(65_534).output().unwrap();
        let expected: Vec<_> = offered_here()
            .into_iter()
            .filter(|name| namespaces.status.success() || !name.contains("namespace"))
            .collect();
        assert_eq!(active(&here), expected, "{here:?}");
        let asks = |name: &str, value: &str| {
            let mut command = canary(&worker, Sandbox::Required);
            let refused = command.uid(65_534).gid(65_534).env(name, value).output().unwrap();
            assert!(!refused.status.success());
            String::from_utf8_lossy(&refused.stderr).into_owned()
        };
        // what is asked for by name is required
        assert!(asks("JAIL_UID", "54321").contains("dedicated_user (the worker lacks CAP_SETUID)"));
        assert!(asks("JAIL_CGROUP", "/nowhere").contains("cgroup (JAIL_CGROUP=/nowhere: "));
    }
    stage.leave().await;
}

#[tokio::test]
async fn a_dedicated_user_is_active_where_it_is_asked_for() {
    let stage = Stage::enter().await;
    if rustix::process::geteuid().is_root() {
        let output = canary(Path::new(LAUNCHER), Sandbox::Required).env("JAIL_UID", "54321").output().unwrap();
        assert!(active(&protections(&output)).contains(&"dedicated_user"));
        for bad in ["0", "4294967295", "nobody"] {
            let refused = canary(Path::new(LAUNCHER), Sandbox::BestEffort).env("JAIL_UID", bad).output().unwrap();
            assert!(!refused.status.success(), "{bad}");
        }
    }
    stage.leave().await;
}
