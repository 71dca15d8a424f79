//! The system call filter for a program that reads one input and writes to two pipes. A local file takes no socket at all;
//! a server on loopback takes TCP sockets that connect, and nothing else of a network. Called by [`super::walls`] in
//! the process to be confined. A refused call answers EPERM and the program goes on; what is not named is allowed, since
//! any ffprobe build must run.
//!
//! Two filters are stacked: one by call number, one for calls that must look as if this kernel did not have them.

use std::collections::BTreeMap;

use rustix::process::getpid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use super::Reach;

/// What talks over a connection. Refused as a whole to a reader of a file; to one of a server, all but [`talk`].
#[rustfmt::skip]
const TALK: &[i64] = &[libc::SYS_socket, libc::SYS_connect, libc::SYS_sendto, libc::SYS_setsockopt];

/// Calls that no reader of one input needs, on every architecture.
#[rustfmt::skip]
const REFUSED: &[i64] = &[
    // talk to anybody; sendmsg can open a connection that connect would be denied (TCP Fast Open), as sendto can
    libc::SYS_socketpair, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_sendmsg,
    libc::SYS_sendmmsg, libc::SYS_msgget, libc::SYS_semget, libc::SYS_shmget, libc::SYS_mq_open,
    // look into or steer other processes, or leave the group that is killed as a whole
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise, libc::SYS_kcmp,
    libc::SYS_pidfd_open, libc::SYS_pidfd_getfd, libc::SYS_pidfd_send_signal, libc::SYS_tkill, libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo, libc::SYS_setsid, libc::SYS_setpgid, libc::SYS_execveat, libc::SYS_memfd_create,
    libc::SYS_setpriority, libc::SYS_ioprio_set, libc::SYS_setrlimit,
    // become somebody else or enter another world
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid, libc::SYS_setresgid,
    libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_setgroups, libc::SYS_capset, libc::SYS_unshare, libc::SYS_setns,
    libc::SYS_chroot, libc::SYS_pivot_root, libc::SYS_personality,
    // change files; opening one for writing is Landlock's to refuse
    libc::SYS_unlinkat, libc::SYS_renameat2, libc::SYS_mkdirat, libc::SYS_mknodat, libc::SYS_symlinkat, libc::SYS_linkat,
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_truncate, libc::SYS_ftruncate,
    libc::SYS_fallocate, libc::SYS_utimensat, libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr,
    libc::SYS_removexattr, libc::SYS_lremovexattr, libc::SYS_fremovexattr, libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at, libc::SYS_inotify_init1, libc::SYS_fanotify_init,
    // rule the machine
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick,
    libc::SYS_move_mount, libc::SYS_open_tree, libc::SYS_mount_setattr, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_bpf,
    libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_init_module, libc::SYS_finit_module,
    libc::SYS_delete_module, libc::SYS_kexec_load, libc::SYS_kexec_file_load, libc::SYS_reboot, libc::SYS_acct,
    libc::SYS_quotactl, libc::SYS_syslog, libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_settimeofday,
    libc::SYS_clock_settime, libc::SYS_clock_adjtime, libc::SYS_adjtimex, libc::SYS_add_key, libc::SYS_request_key,
    libc::SYS_keyctl, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
];

/// Options of a socket that a client may set.
const SOCKET_OPTIONS: [libc::c_int; 3] = [libc::SO_RCVBUF, libc::SO_SNDBUF, libc::SO_KEEPALIVE];

/// Older forms of the above, which newer architectures never had.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_fork, libc::SYS_vfork, libc::SYS_unlink, libc::SYS_rmdir, libc::SYS_rename, libc::SYS_renameat, libc::SYS_mkdir,
    libc::SYS_mknod, libc::SYS_symlink, libc::SYS_link, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime,
    libc::SYS_utimes, libc::SYS_futimesat, libc::SYS_inotify_init, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt,
    libc::SYS_uselib, libc::SYS_ustat, libc::SYS_sysfs,
];
#[cfg(target_arch = "aarch64")]
const REFUSED_HERE: &[i64] = &[libc::SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REFUSED_HERE: &[i64] = &[];

/// Refuses, from now on, every call that reading this input does not need.
pub(super) fn restrict_calls(reach: Reach) -> Result<(), String> {
    seccompiler::apply_filter(&absent_calls()).map_err(|e| text(&e))?;
    let refused = refused_calls(reach).map_err(|e| e.to_string())?;
    seccompiler::apply_filter(&refused).map_err(|e| text(&e))
}

fn refused_calls(reach: Reach) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().chain(REFUSED_HERE).map(|call| (*call, vec![])).collect();
    match reach {
        Reach::File => rules.extend(TALK.iter().map(|call| (*call, vec![]))),
        Reach::Loopback { .. } => rules.extend(talk()?),
    }
    // threads are fine, processes are not
    let no_thread = when(0, Len::Qword, Op::MaskedEq(flag(libc::CLONE_THREAD)), 0)?;
    rules.insert(libc::SYS_clone, vec![no_thread]);
    // abort() signals its own process; nobody else is to be signalled. The process id stays the same across exec
    let me = u64::from(getpid().as_raw_nonzero().get().unsigned_abs());
    rules.insert(libc::SYS_kill, vec![when(0, Len::Dword, Op::Ne, me)?]);
    rules.insert(libc::SYS_tgkill, vec![when(0, Len::Dword, Op::Ne, me)?]);
    // limits may be read, not set
    rules.insert(libc::SYS_prlimit64, vec![when(2, Len::Qword, Op::Ne, 0)?]);
    // the kill at the worker's death stays ordered
    rules.insert(libc::SYS_prctl, vec![when(0, Len::Dword, Op::Eq, flag(libc::PR_SET_PDEATHSIG))?]);
    let refuse = SeccompAction::Errno(errno(libc::EPERM));
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// A rule with one condition.
fn when(argument: u8, len: Len, op: Op, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, len, op, value)?])
}

/// Refuses what a client of one TCP server does not need of these calls. Which server is Landlock's to say: a filter
/// cannot see an address.
fn talk() -> Result<Vec<(i64, Vec<SeccompRule>)>, seccompiler::BackendError> {
    let is = |argument, op, value| SeccompCondition::new(argument, Len::Dword, op, flag(value));
    // IPv4 or IPv6; a stream; plain TCP (multipath TCP and SCTP are streams too, and no business of Landlock's)
    let (other_family, other_protocol) = (
        vec![is(0, Op::Ne, libc::AF_INET)?, is(0, Op::Ne, libc::AF_INET6)?],
        vec![is(2, Op::Ne, 0)?, is(2, Op::Ne, libc::IPPROTO_TCP)?],
    );
    let mut socket = vec![SeccompRule::new(other_family)?, SeccompRule::new(other_protocol)?];
    // the kind stands in the lower four bits, and a stream is 1: refused if any bit is another
    for (bit, other) in [(1, 0), (2, 2), (4, 4), (8, 8)] {
        socket.push(when(1, Len::Dword, Op::MaskedEq(bit), other)?);
    }
    // options of a socket are the widest door into the kernel's network code; ffprobe 5.1 sets none
    let other_option = vec![is(1, Op::Ne, libc::SOL_SOCKET)?, is(1, Op::Ne, libc::IPPROTO_TCP)?];
    let mut setsockopt = vec![SeccompRule::new(other_option)?];
    for (level, allowed) in [(libc::SOL_SOCKET, &SOCKET_OPTIONS[..]), (libc::IPPROTO_TCP, &[libc::TCP_NODELAY][..])] {
        let mut other = vec![is(1, Op::Eq, level)?];
        for option in allowed {
            other.push(is(2, Op::Ne, *option)?);
        }
        setsockopt.push(SeccompRule::new(other)?);
    }
    // sending to an address of its own opens a connection that Landlock does not see (TCP Fast Open)
    let sendto = vec![when(4, Len::Qword, Op::Ne, 0)?];
    Ok(vec![(libc::SYS_socket, socket), (libc::SYS_setsockopt, setsockopt), (libc::SYS_sendto, sendto)])
}

/// Answers ENOSYS to `clone3`, whose flags a filter cannot see (the C library then uses `clone`), and on x86-64 to the
/// x32 calls, which repeat every call under another number.
fn absent_calls() -> BpfProgram {
    const X32_BIT: u32 = 0x4000_0000;
    let load_number = instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0);
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    let absent = libc::SECCOMP_RET_ERRNO | errno(libc::ENOSYS);
    let first_absent = if cfg!(target_arch = "x86_64") { X32_BIT } else { u32::MAX };
    vec![
        load_number,
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, clone3),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, first_absent),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, absent),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// One instruction: `on_true` and `on_false` are how many instructions a jump skips.
fn instruction(code: u32, on_true: u8, on_false: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: on_true, jf: on_false, k }
}

fn flag(flag: libc::c_int) -> u64 {
    u64::from(flag.unsigned_abs())
}

fn errno(errno: libc::c_int) -> u32 {
    errno.unsigned_abs()
}

fn text(error: &seccompiler::Error) -> String {
    match error {
        seccompiler::Error::Seccomp(e) | seccompiler::Error::Prctl(e) => format!("the kernel refused the filter: {e}"),
        other => other.to_string(),
    }
}
