//! Remote objects against origins that misbehave, over real TCP and through the real `egress`. Every test says what the
//! origin does and what the job is told.

mod ends;
mod faults;
mod ffprobe;
mod origin;
mod s3;
mod serving;
mod sizes;

use std::sync::Arc;
use std::time::Duration;

use ::url::Url;
use clap::Parser;
use hyper::header::HeaderMap;
use shared::config::EgressArgs;
use shared::egress::Egress;
use shared::job::{Failure, FailureCode};
use tokio_util::sync::CancellationToken;

use super::*;

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    egress: EgressArgs,
}

/// The way out, with loopback allowed.
fn egress() -> Arc<Egress> {
    let arguments = ["test", "--egress-schemes", "http", "--egress-allow-cidrs", "127.0.0.1/32:1-65535"];
    Arc::new(Egress::new(Settings::parse_from(arguments).egress.settings().unwrap()).unwrap())
}

/// The usual bounds of time, which a busy machine keeps too, and short waits of our own.
fn bounds() -> Bounds {
    Bounds {
        backoff: Duration::from_millis(5),
        stall: Duration::from_millis(50),
        spent_grace: Duration::from_millis(50),
        ..Bounds::new(u64::MAX, std::env::temp_dir())
    }
}

/// Bounds that a slow origin breaks within seconds.
fn hasty() -> Bounds {
    Bounds { first_byte: Duration::from_secs(2), pace_over: Duration::from_millis(400), ..bounds() }
}

async fn open_with(url: &str, bounds: Bounds) -> Result<Remote, Failure> {
    let origin = UrlOrigin::new(egress(), Url::parse(url).unwrap(), HeaderMap::new());
    Remote::open(Arc::new(origin), bounds, CancellationToken::new()).await
}

async fn open(url: &str) -> Result<Remote, Failure> {
    open_with(url, bounds()).await
}

/// Reads through the blocking reader.
async fn read(remote: &Remote, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let reader = remote.reader();
    let reading = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; length];
        let got = reader.read_at(offset, &mut buffer)?;
        buffer.truncate(got);
        Ok(buffer)
    });
    reading.await.unwrap()
}

fn code<T>(outcome: Result<T, Failure>) -> FailureCode {
    outcome.err().expect("it fails").code
}

/// What the job is told after reading everything.
async fn told(remote: &Remote) -> Option<FailureCode> {
    let size = usize::try_from(remote.object().size_bytes).unwrap();
    let _ = read(remote, 0, size).await;
    remote.finish().await.map(|f| f.code)
}
