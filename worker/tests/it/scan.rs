//! Long runs whose output is streamed: flat memory, budgets that end them, and what the walls and the stream cost.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shared::job::FailureCode;
use worker::ffprobe::{Ffprobe, Probe, Scan};
use worker::jail::Sandbox;

use crate::{Stage, ffprobe, probe, samples};

/// One line for each packet.
const PACKETS: &[&str] = &["-show_entries", "packet=stream_index,pts,dts,duration,size,flags", "-of", "csv=p=0"];

async fn scan(ffprobe: &Ffprobe, probe: &Probe) -> (Scan, u64, usize) {
    let (mut lines, mut largest) = (0_u64, 0);
    let mut count = |chunk: &[u8]| {
        lines += chunk.iter().filter(|b| **b == b'\n').count() as u64;
        largest = largest.max(chunk.len());
        ControlFlow::Continue(())
    };
    let done = ffprobe.scan(probe, PACKETS, &mut count).await;
    (done, lines, largest)
}

/// A WAV file of silence, mostly a hole: cheap to make, and ffprobe reads all of it.
fn silence(stage: &Stage, bytes: u32) -> PathBuf {
    let mut header = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    header.extend_from_slice(&48_000_u32.to_le_bytes());
    header.extend_from_slice(&192_000_u32.to_le_bytes());
    header.extend_from_slice(b"\x04\0\x10\0data");
    header.extend_from_slice(&bytes.to_le_bytes());
    header[4..8].copy_from_slice(&(bytes + 36).to_le_bytes());
    let path = stage.file("silence", header);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(u64::from(bytes) + 44).unwrap();
    path
}

#[tokio::test]
async fn packets_come_while_ffprobe_runs() {
    let stage = Stage::enter().await;
    let ffprobe = ffprobe(None, Sandbox::BestEffort).await;
    let (done, lines, _) = scan(&ffprobe, &probe(&samples::mp4())).await;
    assert!(done.outcome.is_ok() && lines > 100, "{:?} {lines}", done.outcome);
    let path = silence(&stage, 400 << 20);
    let (done, lines, largest) = scan(&ffprobe, &probe(&path)).await;
    // 4096 bytes a packet
    assert_eq!((done.outcome, lines), (Ok(()), 102_400));
    assert!(largest <= 64 << 10, "{largest}");
    let broken = stage.file("broken", b"These are only words.\n".repeat(40));
    let (done, lines, _) = scan(&ffprobe, &probe(&broken)).await;
    assert_eq!((done.outcome.unwrap_err().code, lines > 2), (FailureCode::InvalidMedia, false));
    stage.leave().await;
}

#[tokio::test]
async fn a_scan_ends_at_every_limit() {
    let stage = Stage::enter().await;
    let ffprobe = ffprobe(None, Sandbox::BestEffort).await;
    let path = silence(&stage, 1 << 30);
    let started = Instant::now();

    let mut few_bytes = probe(&path);
    few_bytes.limits.read_bytes = Some(20 << 20);
    let (done, ..) = scan(&ffprobe, &few_bytes).await;
    assert_eq!(done.outcome.unwrap_err().code, FailureCode::BudgetExceeded);
    let read = done.usage.bytes_read.unwrap();
    assert!((20 << 20..800 << 20).contains(&read), "{read}");

    let mut little_output = probe(&path);
    little_output.limits.stdout_bytes = 100_000;
    let (done, lines, _) = scan(&ffprobe, &little_output).await;
    assert_eq!(done.outcome.unwrap_err().code, FailureCode::OutputLimit);
    assert!(lines < 10_000, "{lines}");

    let mut chunks = 0;
    let mut enough = |_: &[u8]| {
        chunks += 1;
        if chunks == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let done = ffprobe.scan(&probe(&path), PACKETS, &mut enough).await;
    assert_eq!((done.outcome.unwrap_err().code, chunks), (FailureCode::OutputLimit, 3));

    let mut short = probe(&path);
    short.limits.wall_ms = 300;
    assert_eq!(scan(&ffprobe, &short).await.0.outcome.unwrap_err().code, FailureCode::DeadlineExceeded);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    stage.leave().await;
}

#[tokio::test]
async fn a_budget_counts_the_file_and_not_the_libraries() {
    let stage = Stage::enter().await;
    let ffprobe = ffprobe(None, Sandbox::BestEffort).await;
    let size = samples::mp4().metadata().unwrap().len();
    let run = async |budget: u64| {
        let mut job = probe(&samples::mp4());
        job.limits.read_bytes = Some(budget);
        ffprobe.run(job).await.outcome.map(|_| ()).map_err(|f| f.code)
    };
    assert_eq!(run(size).await, Ok(()));
    // too short a run to be looked at: it fails all the same, and does so each time
    let (path, reader) = (silence(&stage, 3 << 20), stage.pretender("exec cat >/dev/null").await);
    for (budget, code) in [(4 << 20, FailureCode::UnreadableOutput), (1 << 20, FailureCode::BudgetExceeded)] {
        let mut job = probe(&path);
        job.limits.read_bytes = Some(budget);
        assert_eq!(reader.run(job).await.outcome.unwrap_err().code, code);
    }
    stage.leave().await;
}

/// The least of some runs, in milliseconds, of each of two ways that take turns.
async fn least(rounds: usize, first: impl AsyncFn(), second: impl AsyncFn()) -> (f64, f64) {
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..rounds {
        let started = Instant::now();
        first().await;
        best.0 = best.0.min(started.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        second().await;
        best.1 = best.1.min(started.elapsed().as_secs_f64() * 1e3);
    }
    best
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a measurement is for people to read")]
async fn the_walls_cost_little() {
    let stage = Stage::enter().await;
    let (walls, none) = (ffprobe(None, Sandbox::BestEffort).await, ffprobe(None, Sandbox::Off).await);
    let path = samples::mp4();
    let once = async |ffprobe: &Ffprobe| assert!(ffprobe.run(probe(&path)).await.outcome.is_ok());
    let (with, without) = least(20, async || once(&walls).await, async || once(&none).await).await;
    eprintln!("a probe: {with:.1} ms behind all walls, {without:.1} ms behind none: {:.3} x", with / without);
    assert!(with < without * 1.5 + 20.0, "{with} {without}");
    stage.leave().await;
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a measurement is for people to read")]
async fn streaming_does_not_slow_ffprobe() {
    let stage = Stage::enter().await;
    let ffprobe = ffprobe(None, Sandbox::BestEffort).await;
    let path = silence(&stage, 512 << 20);
    let cpu = std::cell::Cell::new(u64::MAX);
    let streamed = async || {
        let (done, ..) = scan(&ffprobe, &probe(&path)).await;
        assert!(done.outcome.is_ok(), "{:?}", done.outcome);
        cpu.set(cpu.get().min(done.usage.cpu_ms.unwrap()));
    };
    let plain = async || {
        let mut command = tokio::process::Command::from(alone(ffprobe.path(), &path));
        assert!(command.status().await.unwrap().success());
    };
    let (with, without) = least(5, streamed, plain).await;
    eprintln!(
        "512 MiB in 131,072 packets: {with:.0} ms streamed from the jail ({} ms of processor), {without:.0} ms to /dev/null: {:.3} x",
        cpu.get(),
        with / without
    );
    // tiny packets are the worst case: ffprobe writes each by itself, and a pipe takes longer than /dev/null does
    assert!(with < without * 2.0 + 100.0, "{with} {without}");
    stage.leave().await;
}

fn alone(ffprobe: &Path, input: &Path) -> Command {
    // as nice as in the jail, or a busy machine would be measured instead
    let mut command = Command::new("nice");
    command.args(["-n", "10"]).arg(ffprobe).args(["-v", "error"]).args(PACKETS).args(["-i", "file:/dev/fd/0"]);
    command.stdin(std::fs::File::open(input).unwrap()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
