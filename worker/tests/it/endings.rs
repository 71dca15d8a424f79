//! However ffprobe ends, or does not: the right failure, in time, and nothing left running.

use std::time::{Duration, Instant};

use shared::job::FailureCode;
use worker::jail::Sandbox;

use crate::{Stage, ffprobe, probe, samples};

/// Never ends, and neither do its children, which keep its pipes open.
const SLEEPS: &str = "$SLEEP 60 & sh -c '$SLEEP 60; :' & trap '' TERM; while :; do $SLEEP 1; done";
/// An answer that would be taken.
const ANSWERS: &str = r#"echo '{"streams":[{"index":0}],"format":{}}'"#;

#[tokio::test]
async fn a_deadline_kills_the_whole_family() {
    let stage = Stage::enter().await;
    let pretender = stage.pretender(SLEEPS).await;
    let mut job = probe(&samples::mp4());
    job.limits.wall_ms = 400;
    let started = Instant::now();
    let done = pretender.run(job).await;
    assert_eq!(done.outcome.unwrap_err().code, FailureCode::DeadlineExceeded);
    assert!((400..3_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert!(done.usage.cpu_ms.is_some() && done.usage.bytes_read.is_some(), "{:?}", done.usage);
    stage.leave().await;
}

#[tokio::test]
async fn a_child_that_closes_its_pipes_still_meets_the_deadline() {
    let stage = Stage::enter().await;
    let pretender = stage.pretender("exec >&- 2>&-; while :; do $SLEEP 1; done").await;
    let mut job = probe(&samples::mp4());
    job.limits.wall_ms = 400;
    assert_eq!(pretender.run(job).await.outcome.unwrap_err().code, FailureCode::DeadlineExceeded);
    stage.leave().await;
}

#[tokio::test]
async fn canceling_takes_milliseconds() {
    let stage = Stage::enter().await;
    let pretender = stage.pretender(SLEEPS).await;
    let job = probe(&samples::mp4());
    let cancel = job.cancel.clone();
    let canceled = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
        Instant::now()
    });
    let done = pretender.run(job).await;
    let took = canceled.await.unwrap().elapsed();
    assert_eq!(done.outcome.unwrap_err().code, FailureCode::Canceled);
    assert!(took < Duration::from_millis(500), "{took:?}");
    stage.leave().await;
}

#[tokio::test]
async fn dropping_the_future_kills_too() {
    let stage = Stage::enter().await;
    let pretender = stage.pretender(SLEEPS).await;
    let gone = tokio::time::timeout(Duration::from_millis(200), pretender.run(probe(&samples::mp4()))).await;
    assert!(gone.is_err());
    stage.leave().await;
}

#[tokio::test]
async fn an_orphan_in_the_group_does_not_outlive_the_probe() {
    let stage = Stage::enter().await;
    // the child that stays behind has let go of the pipes
    let pretender = stage.pretender(&format!("sh -c '$SLEEP 60; :' >/dev/null 2>&1 </dev/null &\n{ANSWERS}")).await;
    let done = pretender.run(probe(&samples::mp4())).await;
    assert!(done.outcome.is_ok(), "{:?}", done.outcome);
    stage.leave().await;
}

#[tokio::test]
async fn endless_output_is_cut_off() {
    let stage = Stage::enter().await;
    let pretender = stage.pretender("exec yes").await;
    let started = Instant::now();
    let done = pretender.run(probe(&samples::mp4())).await;
    assert_eq!(done.outcome.unwrap_err().code, FailureCode::OutputLimit);
    assert!(started.elapsed().as_secs() < 10);
    stage.leave().await;
}

#[tokio::test]
async fn endless_complaints_are_kept_to_their_end() {
    let stage = Stage::enter().await;
    let flood =
        "i=0; while [ $i -lt 60000 ]; do echo \"[mpegts @ 0x1] [warning] Packet $i is corrupt\" >&2; i=$((i+1)); done";
    let pretender = stage.pretender(&format!("{flood}; printf 'a\\000b\\377 no end' >&2\n{ANSWERS}")).await;
    let done = pretender.run(probe(&samples::mp4())).await;
    assert!(done.outcome.is_ok(), "{:?}", done.outcome);
    assert!(done.stderr_tail.len() <= (64 << 10) + 8 && done.stderr_tail.ends_with("a\u{fffd}b\u{fffd} no end"));
    assert!(done.stderr_tail.starts_with("[mpegts"), "cut at a line");
    assert_eq!(done.warnings.len(), 1);
    stage.leave().await;
}

#[tokio::test]
async fn other_ends_have_their_codes() {
    use FailureCode as C;
    let stage = Stage::enter().await;
    let mut spins = probe(&samples::mp4());
    spins.limits.cpu_seconds = 1;
    let done = stage.pretender("while :; do :; done").await.run(spins).await;
    assert_eq!(done.outcome.unwrap_err().code, C::CpuLimit);
    // the kernel counts ticks, not time
    assert!(done.usage.cpu_ms.unwrap() >= 500, "{:?}", done.usage);
    for (script, code) in [
        ("kill -SEGV $$", C::FfprobeCrashed),
        ("kill -KILL $$", C::FfprobeCrashed),
        ("exit 0", C::UnreadableOutput),
        ("echo '{'; exit 0", C::UnreadableOutput),
        ("echo \"Unrecognized option 'max_streams'.\" >&2; exit 1", C::WorkerMisconfigured),
        ("exit 127", C::WorkerMisconfigured),
    ] {
        let failure = stage.pretender(script).await.run(probe(&samples::mp4())).await.outcome.unwrap_err();
        assert_eq!(failure.code, code, "{script}: {}", failure.message);
    }
    stage.leave().await;
}

#[tokio::test]
async fn too_little_memory_to_start_is_not_the_files_fault() {
    let stage = Stage::enter().await;
    let mut job = probe(&samples::mp4());
    job.limits.memory_bytes = 48 << 20;
    let done = ffprobe(None, Sandbox::BestEffort).await.run(job).await;
    match done.outcome {
        Err(failure) => assert_eq!(failure.code, FailureCode::WorkerMisconfigured, "{}", failure.message),
        // a static ffprobe is content with that
        Ok(report) => assert!(report.main.contains("h264")),
    }
    stage.leave().await;
}

#[tokio::test]
async fn a_missing_or_foreign_program_is_found_out_at_the_start() {
    let stage = Stage::enter().await;
    let detect = async |path: &str, search: &str| {
        let path = (!path.is_empty()).then(|| std::path::PathBuf::from(path));
        let found =
            worker::ffprobe::Ffprobe::detect(path.as_deref(), search.as_ref(), Sandbox::Off, crate::LAUNCHER.as_ref())
                .await;
        format!("{:#}", found.unwrap_err())
    };
    assert!(detect("", "/nowhere").await.contains("FFPROBE_PATH"));
    for wrong in ["/nowhere/ffprobe", "/bin/true", "/etc/passwd"] {
        let said = detect(wrong, "").await;
        assert!(said.contains("FFPROBE_PATH") && said.contains(wrong), "{said}");
    }
    stage.leave().await;
}
