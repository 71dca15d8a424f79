//! From evidence to verdict, in one place: exit status, signal, what ffprobe reports as `error` on standard output, and
//! its messages become a report or a [`Failure`]. Pure; every rule was seen with a real file. Called by [`super`].
//!
//! ffprobe ends with 1 for every failure and with 0 for some, so the status alone says little.

use serde::Deserialize;
use shared::job::{Failure, FailureCode};

use super::arguments::MAX_STREAMS;
use super::messages::{Message, cut, messages};
use crate::jail::{CANNOT_CONFINE, CANNOT_CONFINE_CONNECTIONS, CANNOT_EXEC, End, Ended};

/// What the loader of a dynamic program ends with when a library is missing or does not fit into the limits.
const LOADER_FAILED: i32 = 127;
/// Longest part of ffprobe's own words in a failure's message.
const MAX_QUOTE_BYTES: usize = 300;

// libavutil's error numbers: negative errno, or four letters
const INVALID_DATA: i64 = -1_094_995_529;
const END_OF_FILE: i64 = -541_478_725;
const OPTION_NOT_FOUND: i64 = -1_414_549_496;
const PROTOCOL_NOT_FOUND: i64 = -1_330_794_744;
const NO_SUCH_FILE: i64 = -(libc::ENOENT as i64);
const INPUT_OUTPUT: i64 = -(libc::EIO as i64);
const NO_MEMORY: i64 = -(libc::ENOMEM as i64);
const ACCESS_DENIED: i64 = -(libc::EACCES as i64);
const STALE_HANDLE: i64 = -(libc::ESTALE as i64);

/// Words of the messages that say a limit was met, whatever the exit status.
const LIMIT_WORDS: [&str; 6] = [
    "Cannot allocate memory",
    "get_buffer() failed",
    "Failed to reallocate",
    "Cannot add index entry",
    "Cannot add CTTS entry",
    TOO_MANY_STREAMS,
];
/// Words of the limit on streams. What ffprobe reports as its error then differs from format to format.
const TOO_MANY_STREAMS: &str = "Number of streams exceeds max_streams";
/// Words that say the file names other files or is of a kind that we do not read.
const BLOCKED_WORDS: [&str; 5] = [
    "not on whitelist",
    "Unsafe file name",
    "blocked for security",
    "not in allowed_segment_extensions",
    "Impossible to open",
];
/// Words that say the file ends before its index or its first packet.
const CUT_OFF_WORDS: [&str; 2] = ["moov atom not found", "File ended prematurely"];
/// ffprobe only guessed the format: what it says about the file's end is about another format.
const GUESS_WORDS: &str = "misdetection possible";

#[derive(Deserialize)]
struct Answer {
    error: Option<Reported>,
    #[serde(default)]
    streams: Vec<serde::de::IgnoredAny>,
    format: Option<serde::de::IgnoredAny>,
    frames: Option<Vec<serde::de::IgnoredAny>>,
}

/// ffprobe's `-show_error`.
#[derive(Deserialize)]
struct Reported {
    code: i64,
    string: String,
}

/// The main run's JSON, or why there is none.
pub(super) fn judge(ended: &Ended) -> Result<String, Failure> {
    let (text, answer) = answer(ended)?;
    if answer.format.is_none() {
        return Err(fail(FailureCode::UnreadableOutput, "ffprobe ended well, but its answer has no format."));
    }
    if answer.streams.is_empty() {
        return Err(fail(FailureCode::InvalidMedia, "ffprobe found no stream in the file."));
    }
    Ok(text)
}

/// The second run's JSON, or why there is none.
pub(super) fn judge_frames(ended: &Ended) -> Result<String, Failure> {
    let (text, answer) = answer(ended)?;
    if answer.frames.is_none_or(|frames| frames.is_empty()) {
        return Err(fail(FailureCode::InvalidMedia, "there is no key frame near the beginning."));
    }
    Ok(text)
}

/// Whether a limit bit, so that a good answer may lack something.
pub(super) fn is_degraded(stderr: &str) -> bool {
    LIMIT_WORDS.iter().any(|words| stderr.contains(words))
}

/// The launcher could not be started at all.
pub(super) fn not_run(error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::TimedOut => FailureCode::StorageError,
        _ => FailureCode::WorkerMisconfigured,
    };
    fail(code, format!("ffprobe could not be run on this worker: {error}."))
}

/// The verdict where ffprobe reports a read error, but the storage reads well.
pub(super) fn ends_too_early() -> Failure {
    fail(FailureCode::TruncatedMedia, "ffprobe met the end of the file where it expected more.")
}

/// Whether a scan came to its end. Its output went elsewhere, so only status and messages tell.
pub(super) fn judge_scan(ended: &Ended) -> Result<(), Failure> {
    match status(ended)? {
        0 => Ok(()),
        code => match messages(&ended.stderr).last() {
            Some(last) if !is_degraded(&ended.stderr) && !is_usage(&ended.stderr) => {
                Err(refused(&Reported { code: INVALID_DATA, string: last.text.to_owned() }, &ended.stderr))
            }
            _ => Err(unclear(code, &ended.stderr)),
        },
    }
}

fn answer(ended: &Ended) -> Result<(String, Answer), Failure> {
    let code = status(ended)?;
    // ffprobe replaces invalid UTF-8 in tags itself; this is for a build that does not
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let answer = serde_json::from_str::<Answer>(&text);
    match answer {
        Ok(Answer { error: Some(reported), .. }) => Err(refused(&reported, &ended.stderr)),
        Ok(answer) if code == 0 => Ok((text, answer)),
        _ => Err(unclear(code, &ended.stderr)),
    }
}

/// ffprobe's own exit status, or why it did not get that far.
fn status(ended: &Ended) -> Result<i32, Failure> {
    let code = match ended.end {
        End::Exited(code) => code,
        End::Killed(signal) => return Err(killed(signal, &ended.stderr)),
        End::Deadline => {
            return Err(fail(FailureCode::DeadlineExceeded, "ffprobe did not end before the deadline and was killed."));
        }
        End::TooMuchOutput => {
            return Err(fail(FailureCode::OutputLimit, "ffprobe wrote more than is stored and was killed."));
        }
        End::Refused => return Err(fail(FailureCode::OutputLimit, "ffprobe wrote more than is taken and was killed.")),
        End::ReadBudget => {
            return Err(fail(FailureCode::BudgetExceeded, "ffprobe read more bytes than the job's budget."));
        }
        End::OutOfMemory => {
            return Err(fail(
                FailureCode::MemoryLimit,
                "ffprobe needed more memory than the jail gives and was killed.",
            ));
        }
        End::Canceled => return Err(fail(FailureCode::Canceled, "The job was canceled while ffprobe ran.")),
    };
    if code == i32::from(CANNOT_CONFINE_CONNECTIONS) {
        tracing::error!(stderr = %ended.stderr, "remote input is refused");
        let message = "This worker cannot keep ffprobe from connecting to other places than the input.";
        return Err(fail(FailureCode::SandboxUnavailable, message));
    }
    if code == i32::from(CANNOT_CONFINE) || code == i32::from(CANNOT_EXEC) || code == LOADER_FAILED {
        tracing::error!(code, stderr = %ended.stderr, "ffprobe does not start in the jail");
        return Err(fail(
            FailureCode::WorkerMisconfigured,
            format!("ffprobe did not start on this worker (exit status {code})."),
        ));
    }
    Ok(code)
}

fn killed(signal: i32, stderr: &str) -> Failure {
    match signal {
        libc::SIGXCPU => fail(FailureCode::CpuLimit, "ffprobe used up its processor time."),
        // abort() is how libraries give up when an allocation fails
        libc::SIGABRT if is_degraded(stderr) || stderr.contains("bad_alloc") => met_limit(stderr),
        libc::SIGKILL => fail(
            FailureCode::FfprobeCrashed,
            "ffprobe was killed from outside, perhaps because the machine had no memory left.",
        ),
        signal => fail(FailureCode::FfprobeCrashed, format!("ffprobe was ended by signal {signal}.")),
    }
}

/// ffprobe says itself that it could not read the file.
fn refused(reported: &Reported, stderr: &str) -> Failure {
    let log = messages(stderr);
    let says = |words: &[&str]| log.iter().rfind(|m| words.iter().any(|w| m.text.contains(w)));
    if let Some(message) = says(&BLOCKED_WORDS) {
        return blocked(message);
    }
    if says(&[TOO_MANY_STREAMS]).is_some() {
        return met_limit(stderr);
    }
    let is_guess = says(&[GUESS_WORDS]).is_some();
    let code = match reported.code {
        NO_MEMORY => FailureCode::MemoryLimit,
        ACCESS_DENIED => FailureCode::PermissionDenied,
        // the input is always there: only /proc or an option can be missing
        NO_SUCH_FILE | OPTION_NOT_FOUND | PROTOCOL_NOT_FOUND => FailureCode::WorkerMisconfigured,
        STALE_HANDLE => FailureCode::StorageError,
        INPUT_OUTPUT if !is_guess => FailureCode::StorageError,
        END_OF_FILE if !is_guess => FailureCode::TruncatedMedia,
        INVALID_DATA if says(&CUT_OFF_WORDS).is_some() => FailureCode::TruncatedMedia,
        // demuxers return all kinds of errno for bytes they do not like, EPERM and EINVAL among them
        _ => FailureCode::InvalidMedia,
    };
    let detail = log.iter().rfind(|m| m.text != reported.string && !m.text.contains(GUESS_WORDS));
    let detail = detail.map_or(String::new(), |m| format!(" ({})", said(m)));
    fail(code, format!("ffprobe says: {}{detail}.", cut(reported.string.trim_end_matches('.'), MAX_QUOTE_BYTES)))
}

fn blocked(message: &Message<'_>) -> Failure {
    let text = match message.component {
        name if message.text.starts_with("Format not on whitelist") => {
            format!("ffprobe takes the file for '{name}', which is not probed.")
        }
        _ => format!("ffprobe refused what the file asks for ({}).", said(message)),
    };
    fail(FailureCode::BlockedFormat, text)
}

/// Whether it complains of its options.
fn is_usage(stderr: &str) -> bool {
    let words = ["Option not found", "Unrecognized option", "Failed to set value", "Error parsing options"];
    words.iter().any(|words| stderr.contains(words))
}

/// It ended without an error of its own and without a readable answer.
fn unclear(code: i32, stderr: &str) -> Failure {
    if is_usage(stderr) {
        tracing::error!(code, stderr, "this ffprobe does not know our options");
        return fail(
            FailureCode::WorkerMisconfigured,
            "The worker's ffprobe does not know an option that is needed: it is too old.",
        );
    }
    if code != 0 && is_degraded(stderr) {
        return met_limit(stderr);
    }
    fail(FailureCode::UnreadableOutput, format!("ffprobe ended with status {code} and wrote no JSON that can be read."))
}

/// It gave up at a limit, and says at which.
fn met_limit(stderr: &str) -> Failure {
    if stderr.contains(TOO_MANY_STREAMS) {
        let message =
            format!("The file has more than {MAX_STREAMS} streams, and no more are read of one (-max_streams).");
        return fail(FailureCode::TooManyStreams, message);
    }
    fail(FailureCode::MemoryLimit, "ffprobe ran out of its memory and gave up.")
}

fn said(message: &Message<'_>) -> String {
    let from = if message.component.is_empty() { String::new() } else { format!("{}: ", message.component) };
    cut(&format!("{from}{}", message.text.trim_end_matches('.')), MAX_QUOTE_BYTES)
}

fn fail(code: FailureCode, message: impl Into<String>) -> Failure {
    Failure::new(code, message)
}

#[cfg(test)]
mod page;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::Usage;

    const GOOD: &str = r#"{"streams":[{"index":0}],"format":{"filename":"file:/dev/fd/0"}}"#;

    fn ended(end: End, stdout: &str, stderr: &str) -> Ended {
        Ended { end, stdout: stdout.into(), stderr: stderr.into(), usage: Usage::default() }
    }

    fn error(code: i64) -> String {
        format!(r#"{{"error": {{ "code": {code}, "string": "Some words" }}}}"#)
    }

    #[test]
    fn every_kind_of_evidence_has_its_code() {
        use FailureCode as C;
        let exit = End::Exited;
        let (moov, hls) =
            ("[mov @ 0x1] [error] moov atom not found\n", "[hls @ 0x1] [error] Format not on whitelist 'mov'\n");
        let guess = "[mp3 @ 0x1] [warning] Format mp3 detected only with low score of 1, misdetection possible!\n";
        let memory = "[mov @ 0x1] [error] Cannot allocate memory\n";
        let streams =
            "[ogg @ 0x1] [error] Number of streams exceeds max_streams parameter (256), see the documentation\n";
        let table: &[(End, &str, &str, Option<C>)] = &[
            (exit(0), GOOD, "", None),
            (exit(0), GOOD, "[h264 @ 0x1] [error] error while decoding MB 1 2\n", None),
            (exit(0), "", "", Some(C::UnreadableOutput)),
            (exit(0), "{\n\n}", "", Some(C::UnreadableOutput)),
            (exit(0), "{\"streams\":[{", "", Some(C::UnreadableOutput)),
            (exit(0), r#"{"streams":[],"format":{}}"#, "", Some(C::InvalidMedia)),
            (exit(1), &error(INVALID_DATA), "[error] file:/dev/fd/0: Invalid data\n", Some(C::InvalidMedia)),
            (exit(1), &error(INVALID_DATA), moov, Some(C::TruncatedMedia)),
            (exit(1), &error(END_OF_FILE), "", Some(C::TruncatedMedia)),
            (exit(1), &error(END_OF_FILE), guess, Some(C::InvalidMedia)),
            (exit(1), &error(INPUT_OUTPUT), "", Some(C::StorageError)),
            (exit(1), &error(INPUT_OUTPUT), guess, Some(C::InvalidMedia)),
            (exit(1), &error(STALE_HANDLE), "", Some(C::StorageError)),
            (exit(1), &error(-22), hls, Some(C::BlockedFormat)),
            (exit(1), &error(-22), guess, Some(C::InvalidMedia)),
            (exit(1), &error(-1), "", Some(C::InvalidMedia)),
            (exit(1), &error(-1), "[concat @ 0x1] [error] Unsafe file name '/etc/passwd'\n", Some(C::BlockedFormat)),
            (exit(1), &error(-12), "", Some(C::MemoryLimit)),
            (exit(1), &error(-13), "", Some(C::PermissionDenied)),
            (exit(1), &error(-2), "", Some(C::WorkerMisconfigured)),
            (exit(1), &error(PROTOCOL_NOT_FOUND), "", Some(C::WorkerMisconfigured)),
            (exit(1), "", "Failed to set value 'x' for option 'y': Option not found\n", Some(C::WorkerMisconfigured)),
            (exit(1), "", memory, Some(C::MemoryLimit)),
            // the error that ffprobe reports when there are too many streams is another one in each format
            (exit(1), &error(NO_MEMORY), streams, Some(C::TooManyStreams)),
            (exit(1), &error(INVALID_DATA), streams, Some(C::TooManyStreams)),
            (exit(1), "", streams, Some(C::TooManyStreams)),
            (exit(1), "", "", Some(C::UnreadableOutput)),
            (exit(1), GOOD, "", Some(C::UnreadableOutput)),
            (exit(125), "", "ffprobe-worker jail: seccomp: no\n", Some(C::WorkerMisconfigured)),
            (exit(126), "", "ffprobe-worker jail: /x: no\n", Some(C::WorkerMisconfigured)),
            (exit(127), "", "error while loading shared libraries\n", Some(C::WorkerMisconfigured)),
            (End::Killed(libc::SIGXCPU), "", "", Some(C::CpuLimit)),
            (End::Killed(libc::SIGSEGV), "", "", Some(C::FfprobeCrashed)),
            (End::Killed(libc::SIGSYS), "", "", Some(C::FfprobeCrashed)),
            (End::Killed(libc::SIGKILL), "", "", Some(C::FfprobeCrashed)),
            (End::Killed(libc::SIGABRT), "", "", Some(C::FfprobeCrashed)),
            (End::Killed(libc::SIGABRT), "", memory, Some(C::MemoryLimit)),
            (End::Deadline, GOOD, "", Some(C::DeadlineExceeded)),
            (End::TooMuchOutput, GOOD, "", Some(C::OutputLimit)),
            (exit(124), "", "ffprobe-worker jail: no remote input: no\n", Some(C::SandboxUnavailable)),
            (End::Refused, GOOD, "", Some(C::OutputLimit)),
            (End::ReadBudget, GOOD, "", Some(C::BudgetExceeded)),
            (End::OutOfMemory, GOOD, "", Some(C::MemoryLimit)),
            (End::Canceled, GOOD, "", Some(C::Canceled)),
        ];
        for (end, stdout, stderr, code) in table {
            let verdict = judge(&ended(*end, stdout, stderr));
            assert_eq!(verdict.as_ref().err().map(|f| f.code), *code, "{end:?} {stdout} {stderr}");
        }
    }

    #[test]
    fn messages_quote_ffprobe_but_never_our_alias() {
        let stderr = "[mov,mp4 @ 0x1] [error] moov atom not found\n[error] file:/dev/fd/0: Some words\n";
        let failure = judge(&ended(End::Exited(1), &error(INVALID_DATA), stderr)).unwrap_err();
        assert_eq!(failure.message, "ffprobe says: Some words (mov: moov atom not found).");
        let stderr = "[dash @ 0x1] [error] Format not on whitelist 'mov,mp4'\n[error] file:/dev/fd/0: Some words\n";
        let failure = judge(&ended(End::Exited(1), &error(-22), stderr)).unwrap_err();
        assert_eq!(failure.message, "ffprobe takes the file for 'dash', which is not probed.");
    }

    #[test]
    fn a_limit_that_bit_is_seen_even_in_success() {
        assert!(is_degraded("[mov @ 0x1] [error] get_buffer() failed\n"));
        assert!(is_degraded("[mov,mp4 @ 0x1] [error] Cannot add index entry\n"));
        assert!(is_degraded("[mpegts @ 0x1] [error] Number of streams exceeds max_streams parameter (256)\n"));
        assert!(!is_degraded("[h264 @ 0x1] [error] concealing 10 DC errors\n"));
    }

    #[test]
    fn a_scan_is_judged_by_status_and_messages() {
        use FailureCode as C;
        let moov = "[mov @ 0x1] [error] moov atom not found\n[error] file:/dev/fd/0: Invalid data\n";
        let usage = "Failed to set value 'x' for option 'y': Option not found\n";
        for (end, stderr, code) in [
            (End::Exited(0), moov, None),
            (End::Exited(1), moov, Some(C::TruncatedMedia)),
            (End::Exited(1), "[error] file:/dev/fd/0: Invalid data\n", Some(C::InvalidMedia)),
            (End::Exited(1), "[hls @ 0x1] [error] Format not on whitelist 'mov'\n", Some(C::BlockedFormat)),
            (End::Exited(1), "[mov @ 0x1] [error] Cannot allocate memory\n", Some(C::MemoryLimit)),
            (End::Exited(1), usage, Some(C::WorkerMisconfigured)),
            (End::Exited(1), "", Some(C::UnreadableOutput)),
            (End::Exited(124), "", Some(C::SandboxUnavailable)),
            (End::ReadBudget, "", Some(C::BudgetExceeded)),
        ] {
            let verdict = judge_scan(&ended(end, "", stderr));
            assert_eq!(verdict.err().map(|f| f.code), code, "{end:?} {stderr}");
        }
    }

    #[test]
    fn a_second_run_without_frames_is_no_success() {
        for (stdout, good) in [(r#"{"frames":[{}]}"#, true), (r#"{"frames":[]}"#, false), ("{}", false), ("", false)] {
            assert_eq!(judge_frames(&ended(End::Exited(0), stdout, "")).is_ok(), good, "{stdout}");
        }
    }
}
