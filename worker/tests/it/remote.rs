//! Remote input as ffprobe sees it in the jail: one server on loopback, in a network of its own where the kernel gives
//! one. The server here is as small as can be; the product's own is tested where it lives.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shared::job::{FailureCode, Profile};
use worker::ffprobe::{Probe, REMOTE_INPUT};
use worker::jail::{Input, Loopback, Sandbox};

use crate::walls::offered_here;
use crate::{Stage, ffprobe, places, samples};

/// How often the server was reached on the machine's network, and inside a run's own.
#[derive(Default)]
struct Seen {
    outside: AtomicUsize,
    inside: AtomicUsize,
}

/// Serves a file by ranges under `/secret`, wherever the jail wants it.
fn serve(path: PathBuf) -> (Loopback, Arc<Seen>) {
    let (seen, listener) = (Arc::new(Seen::default()), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let (counts, file) = (Arc::clone(&seen), path.clone());
    std::thread::spawn(move || accept(&listener, &file, &counts.outside));
    let inside = Arc::clone(&seen);
    let serve_on = Arc::new(move |listener: TcpListener| {
        let (counts, file) = (Arc::clone(&inside), path.clone());
        std::thread::spawn(move || accept(&listener, &file, &counts.inside));
        Ok(())
    });
    (Loopback { port, path: "/secret".into(), serve_on }, seen)
}

fn accept(listener: &TcpListener, path: &PathBuf, count: &AtomicUsize) {
    for guest in listener.incoming() {
        count.fetch_add(1, Ordering::Relaxed);
        let file = File::open(path).unwrap();
        // ffprobe hangs up in the middle whenever it seeks
        std::thread::spawn(move || drop(answer(guest.unwrap(), &file)));
    }
}

fn answer(mut guest: TcpStream, file: &File) -> std::io::Result<()> {
    let (mut start, mut lines) = (0, BufReader::new(guest.try_clone()?).lines());
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.split('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    if !request.starts_with("GET /secret HTTP") {
        return guest.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    }
    let size = file.metadata()?.len();
    write!(
        guest,
        "HTTP/1.1 206 Partial Content\r\naccept-ranges: bytes\r\ncontent-length: {}\r\ncontent-range: bytes {start}-{}/{size}\r\nconnection: close\r\n\r\n",
        size - start,
        size - 1
    )?;
    let mut chunk = vec![0; 64 << 10];
    while let n @ 1.. = file.read_at(&mut chunk, start)? {
        guest.write_all(&chunk[..n])?;
        start += n as u64;
    }
    Ok(())
}

#[tokio::test]
async fn a_remote_input_is_read_from_its_own_port() {
    let stage = Stage::enter().await;
    // one with two runs: each has a network of its own
    for path in [samples::mp4(), samples::hdr10()] {
        let (server, seen) = serve(path);
        let done = ffprobe(None, Sandbox::BestEffort).await.run(remote(server)).await;
        let report = done.outcome.unwrap();
        assert!(report.main.contains("codec_name"), "{}", report.main);
        let (outside, inside) = (seen.outside.load(Ordering::Relaxed), seen.inside.load(Ordering::Relaxed));
        if offered_here().contains(&"remote_namespace") {
            assert!(outside == 0 && inside > 0, "outside {outside}, inside {inside}");
        } else {
            assert!(outside > 0 && inside == 0, "outside {outside}, inside {inside}");
        }
        assert_eq!(done.arguments.last().unwrap(), REMOTE_INPUT);
        assert!(!done.warnings.concat().contains("secret"), "{:?}", done.warnings);
    }
    stage.leave().await;
}

#[tokio::test]
async fn without_walls_the_server_is_reached_on_the_machine() {
    let stage = Stage::enter().await;
    let (server, seen) = serve(samples::mp4());
    let done = ffprobe(None, Sandbox::Off).await.run(remote(server)).await;
    assert!(done.outcome.is_ok() && seen.outside.load(Ordering::Relaxed) > 0, "{:?}", done.outcome);
    stage.leave().await;
}

#[tokio::test]
async fn a_failure_of_the_server_names_no_address() {
    let stage = Stage::enter().await;
    let (mut server, _) = serve(samples::mp4());
    server.path = "/other".into();
    let done = ffprobe(None, Sandbox::BestEffort).await.run(remote(server)).await;
    let failure = done.outcome.unwrap_err();
    let said = format!("{failure:?} {:?} {:?}", done.warnings, done.arguments);
    assert!(!said.contains("/other"), "{said}");

    let (mut server, _) = serve(samples::mp4());
    server.serve_on = Arc::new(|_| Err(std::io::Error::other("full")));
    if offered_here().contains(&"remote_namespace") {
        let failure = ffprobe(None, Sandbox::BestEffort).await.run(remote(server)).await.outcome.unwrap_err();
        assert_eq!(failure.code, FailureCode::WorkerMisconfigured, "{}", failure.message);
    }
    stage.leave().await;
}

#[tokio::test]
async fn required_refuses_remote_input_that_nothing_confines() {
    let stage = Stage::enter().await;
    if !offered_here().contains(&"landlock_fs") {
        return stage.leave().await;
    }
    let run = |sandbox: Sandbox| {
        places::without(places::NO_NETWORK_WALLS, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (server, seen) = serve(samples::mp4());
                let remote = ffprobe(None, sandbox).await.run(remote(server)).await;
                let local = ffprobe(None, sandbox).await.run(crate::probe(&samples::mp4())).await;
                (remote.outcome, local.outcome, seen.outside.load(Ordering::Relaxed))
            })
        })
    };
    let (remote, local, reached) = run(Sandbox::Required);
    assert_eq!(remote.unwrap_err().code, FailureCode::SandboxUnavailable);
    assert!(local.is_ok() && reached == 0, "{local:?}");
    let (remote, local, reached) = run(Sandbox::BestEffort);
    assert!(remote.is_ok() && local.is_ok() && reached > 0, "{remote:?} {local:?}");
    stage.leave().await;
}

fn remote(server: Loopback) -> Probe {
    Probe::of(Input::Loopback(server), Profile::Standard)
}
