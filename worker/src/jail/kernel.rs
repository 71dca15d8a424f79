//! The calls to the kernel that no safe crate offers, each wrapped once. This is the only file of the worker with unsafe
//! code; it allocates nothing and knows nothing of the jail.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// I/O class "idle" in the upper bits of a priority (`IOPRIO_PRIO_VALUE`, linux/ioprio.h).
const IDLE: libc::c_int = 3 << 13;
/// "One process" as the kind of target (`IOPRIO_WHO_PROCESS`).
const ONE_PROCESS: libc::c_int = 1;

/// Marks every descriptor from `first` on to be closed at exec.
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "close_range is in no safe crate; it takes three integers and touches no memory")]
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    succeeded(done)
}

/// Lets every other process read from disk first.
pub(super) fn io_priority_idle() -> io::Result<()> {
    #[expect(unsafe_code, reason = "ioprio_set is in no safe crate; it takes three integers and touches no memory")]
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, ONE_PROCESS, 0, IDLE) };
    succeeded(done)
}

/// Puts this process into new namespaces. Only for those: anything else that `unshare` knows is left out.
pub(super) fn enter_new(namespaces: UnshareFlags) -> io::Result<()> {
    let namespaces = namespaces & (UnshareFlags::NEWNET | UnshareFlags::NEWUSER);
    #[expect(unsafe_code, reason = "unsafe only for CLONE_FILES, which the line above takes out")]
    let done = unsafe { rustix::thread::unshare_unsafe(namespaces) };
    done.map_err(io::Error::from)
}

/// Makes a pipe hold this many bytes. An error leaves it as it is.
pub(super) fn set_pipe_size(pipe: impl AsFd, bytes: libc::c_int) -> io::Result<()> {
    let descriptor = pipe.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "rustix has it behind a feature; it takes two integers and touches no memory")]
    let done = unsafe { libc::fcntl(descriptor, libc::F_SETPIPE_SZ, bytes) };
    succeeded(done.into())
}

/// What a process used up to its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    /// User and system time.
    pub(super) cpu: Duration,
    /// Largest resident size in bytes of all programs this process has been, the one that spawned it included.
    pub(super) peak_memory_bytes: u64,
}

/// What a child used, if it has ended; leaves it a zombie, so that its `/proc` entry stays and its id is not reused.
pub(super) fn peek_exit(child: Pid) -> io::Result<Option<Spent>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let (pid, options) = (child.as_raw_nonzero().get(), libc::WEXITED | libc::WNOWAIT | libc::WNOHANG);
    // the C library's waitid has no fifth argument; the kernel fills it in even under WNOWAIT
    #[expect(
        unsafe_code,
        reason = "waitid with a rusage is in no safe crate; both pointers are ours, valid and zeroed, and all-zero is a valid value of both structs"
    )]
    let (done, info, usage) = unsafe {
        let done = libc::syscall(libc::SYS_waitid, libc::P_PID, pid, info.as_mut_ptr(), options, usage.as_mut_ptr());
        (done, info.assume_init(), usage.assume_init())
    };
    succeeded(done)?;
    if info.si_signo == 0 {
        return Ok(None);
    }
    let time =
        |t: libc::timeval| Duration::new(t.tv_sec.unsigned_abs(), 0) + Duration::from_micros(t.tv_usec.unsigned_abs());
    Ok(Some(Spent {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_memory_bytes: usage.ru_maxrss.unsigned_abs().saturating_mul(1024),
    }))
}

fn succeeded(done: libc::c_long) -> io::Result<()> {
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
