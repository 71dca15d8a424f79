//! The launcher: a process of the worker's own binary that limits itself and then becomes another program. Called by
//! [`super::dispatch`] first thing in `main`. It starts no thread, reads no environment and never returns when all goes
//! well; when not, it ends with a code of its own and one line on standard error that the worker understands.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getppid, nice, set_parent_process_death_signal, setsid};

use super::walls::Wall;
use super::{CANNOT_CONFINE, CANNOT_CONFINE_CONNECTIONS, CANNOT_EXEC, Order, Reach, Sandbox, kernel, oom};

/// How far an ordinary process may push ffprobe aside (0 is ordinary, 19 the most).
const NICENESS: i32 = 10;

/// Why the launcher gave up: its exit code and a line for the worker's log.
pub(super) struct Refusal(u8, String);

impl Refusal {
    /// Tells the worker and ends the process.
    pub(super) fn into_exit(self) -> ExitCode {
        let Self(code, message) = self;
        // a worker that is gone hears nothing, and then nobody needs to
        let _ = writeln!(std::io::stderr(), "ffprobe-worker jail: {message}");
        ExitCode::from(code)
    }
}

/// `ffprobe-worker jail ORDER PROGRAM ARGUMENT…`: raises the walls and becomes the program.
pub(super) fn launch(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match become_program(arguments) {
        Ok(never) => match never {},
        Err(refusal) => refusal.into_exit(),
    }
}

fn become_program(mut arguments: impl Iterator<Item = OsString>) -> Result<Infallible, Refusal> {
    let order = read_order(arguments.next())?;
    let program = arguments.next().ok_or_else(|| Refusal(CANNOT_EXEC, "no program was named".into()))?;
    detach(&order)?;
    let (asked, mut confined, mut doubts) = (order.asked(), false, Vec::new());
    for wall in Wall::ALL.into_iter().filter(|w| w.switch(&order).is_none()) {
        match wall.raise(&order) {
            Ok(()) => confined |= wall.confines_connections(),
            Err(reason) if wall.is_required(&asked) && order.sandbox == Sandbox::Required => {
                return Err(Refusal(CANNOT_CONFINE, format!("{}: {reason}", wall.name())));
            }
            Err(reason) => doubts.push(format!("{}: {reason}", wall.name())),
        }
    }
    if order.reach != Reach::File {
        if !confined && order.sandbox == Sandbox::Required {
            return Err(Refusal(CANNOT_CONFINE_CONNECTIONS, format!("no remote input: {}", doubts.join("; "))));
        }
        close_input().map_err(|e| Refusal(CANNOT_CONFINE, format!("/dev/null: {e}")))?;
    }
    let error = Command::new(&program).args(arguments).exec();
    Err(Refusal(CANNOT_EXEC, format!("{}: {error}", program.display())))
}

/// What the worker wants, from the first argument.
pub(super) fn read_order(argument: Option<OsString>) -> Result<Order, Refusal> {
    let text = argument.unwrap_or_default();
    serde_json::from_str(&text.to_string_lossy())
        .map_err(|e| Refusal(CANNOT_CONFINE, format!("its order is unreadable: {e}")))
}

/// Lets go of the socket to the worker, which was standard input so far. The program finds nothing to read there.
pub(super) fn close_input() -> std::io::Result<()> {
    rustix::stdio::dup2_stdin(File::open("/dev/null")?).map_err(Into::into)
}

/// Has the kernel kill this process when the worker's thread that started it ends.
pub(super) fn die_with_worker(order: &Order) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("PR_SET_PDEATHSIG: {e}"))?;
    // the worker may have died before the line above took effect
    if getppid().map(|p| p.as_raw_nonzero().get().unsigned_abs()) != Some(order.parent) {
        return Err("the worker that started it is gone".into());
    }
    Ok(())
}

/// Ties this process to the worker's life and takes it out of everybody's way.
pub(super) fn detach(order: &Order) -> Result<(), Refusal> {
    let failed = |what: &str, e: rustix::io::Errno| Refusal(CANNOT_CONFINE, format!("{what}: {e}"));
    die_with_worker(order).map_err(|reason| Refusal(CANNOT_CONFINE, reason))?;
    // a session of its own: no terminal, and a process group that can be killed as a whole
    setsid().map_err(|e| failed("setsid", e))?;
    // Courtesies. Where the kernel has none of them, ffprobe only runs with the worker's own priority; and the worker
    // opens nothing that is inherited, so the last one only makes sure of what a library may have forgotten.
    let _ = nice(NICENESS);
    let _ = oom::go_first();
    let _ = kernel::io_priority_idle();
    let _ = kernel::close_on_exec_from(3);
    Ok(())
}
