//! What breaks while bytes arrive: the client, the request, the process, the database, Redis, the disk. What came is kept and
//! counted, and another request goes on from there.

use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use tests::servers::own;
use tests::{Answer, Installation};

use super::wire::Wire;
use super::{create, eventually, head, offset, patch, pattern, request};

const MB: usize = 1_000_000;

#[tokio::test]
async fn a_lost_connection_loses_nothing() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let path = create(&http, &[("upload-length", "10000000")]).await;
    let bytes = pattern(0, 10 * MB);
    let mut wire = Wire::patch(&installation, &http, &path, 0, 10 * MB).await;
    assert!(wire.send(&bytes[..3 * MB]).await);
    drop(wire);
    eventually(async || offset(&http, &path).await == 3 * MB, "all that was sent counts").await;
    assert_eq!(patch(&http, &path, 3 * MB, &[], bytes[3 * MB..].to_vec()).await.status, 204);
    let id = path.rsplit('/').next().expect("an id");
    assert!(std::fs::read(installation.uploads().join(id).join("data")).expect("stored") == bytes);
}

#[tokio::test]
async fn a_hanging_request_is_taken_over_from_any_replica() {
    let installation = Installation::new().await;
    // the last one cannot hear the bell, and looks at the row
    let deaf = [("REDIS_URL", "redis://127.0.0.1:1")];
    let (_a, one) = installation.api(&[]);
    let (_b, two) = installation.api(&[]);
    let (_c, three) = installation.api(&deaf);
    for (holder, other) in [(&one, &one), (&one, &two), (&three, &two), (&two, &three)] {
        for method in [Method::HEAD, Method::PATCH, Method::DELETE] {
            let path = create(holder, &[("upload-length", "3000000")]).await;
            let mut wire = Wire::patch(&installation, holder, &path, 0, 3 * MB).await;
            assert!(wire.send(&pattern(0, MB)).await);
            let row = || async { holder.get(&path).await.json["received_bytes"].as_u64() };
            eventually(async || row().await == Some(MB as u64), "the bytes count").await;
            let begun = Instant::now();
            let answer = match method {
                Method::HEAD => head(other, &path).await,
                Method::PATCH => patch(other, &path, MB, &[], pattern(MB, 2 * MB)).await,
                _ => Answer::of(request(other, Method::DELETE, &path, &[])).await,
            };
            let took = begun.elapsed();
            assert!(answer.status.is_success(), "{method}: {} {}", answer.status, answer.text);
            assert!(took < Duration::from_secs(2), "{method}: {took:?}");
            if method == Method::HEAD {
                assert_eq!(answer.header("upload-offset"), MB.to_string());
            }
            assert!(wire.answer().await.starts_with("HTTP/1.1 423 "), "{method}");
        }
    }
}

#[tokio::test]
async fn a_stop_loses_nothing() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let (_other, second) = installation.api(&[]);
    let path = create(&http, &[("upload-length", "3000000")]).await;
    let mut wire = Wire::patch(&installation, &http, &path, 0, 3 * MB).await;
    assert!(wire.send(&pattern(0, MB)).await);
    eventually(async || second.get(&path).await.json["received_bytes"] == MB, "the bytes count").await;
    assert!(wire.send(&pattern(MB, MB)).await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    api.signal(Signal::TERM);
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("upload-offset: 2000000"), "{answer}");
    assert_eq!(offset(&second, &path).await, 2 * MB);
    api.stop();
    assert_eq!(patch(&second, &path, 2 * MB, &[], pattern(2 * MB, MB)).await.status, 204);
}

#[tokio::test]
async fn a_kill_loses_little() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let (_other, second) = installation.api(&[]);
    let path = create(&http, &[("upload-length", "40000000")]).await;
    let mut wire = Wire::patch(&installation, &http, &path, 0, 40 * MB).await;
    let bytes = pattern(0, 40 * MB);
    assert!(wire.send(&bytes[..30 * MB]).await);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    api.kill();
    let begun = Instant::now();
    let at = offset(&second, &path).await;
    println!("kill -9: {at} of {} bytes count; known after {:?}", 30 * MB, begun.elapsed());
    assert!(30 * MB - at <= 8 << 20, "{at}");
    assert_eq!(patch(&second, &path, at, &[], bytes[at..].to_vec()).await.status, 204);
    let id = path.rsplit('/').next().expect("an id");
    assert!(std::fs::read(installation.uploads().join(id).join("data")).expect("stored") == bytes);
}

#[tokio::test]
async fn the_servers_may_be_away_for_some_seconds() {
    let (mut private, servers) = own().await;
    let installation = Installation::on(&servers).await;
    let (_api, http) = installation.api(&[]);
    let path = create(&http, &[("upload-length", "6000000")]).await;
    let mut wire = Wire::patch(&installation, &http, &path, 0, 6 * MB).await;
    assert!(wire.send(&pattern(0, 2 * MB)).await);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let pids = private.pids();
    for pid in [pids.postgres, pids.redis].into_iter().flatten() {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
        rustix::process::kill_process(pid, Signal::QUIT).expect("ends at once");
    }
    let supervised = tokio::spawn(async move { private.supervise().await });
    assert!(wire.send(&pattern(2 * MB, 2 * MB)).await);
    tokio::time::sleep(Duration::from_secs(2)).await;
    eventually(async || http.get("/health").await.status == 200, "PostgreSQL is back").await;
    assert!(wire.send(&pattern(4 * MB, 2 * MB)).await);
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert_eq!(http.get(&path).await.json["state"], "complete");
    supervised.abort();
}

/// A small file system of its own; none without the right to mount one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(folder: &std::path::Path) -> Option<Self> {
        std::fs::create_dir(folder).expect("a folder");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(folder).status();
        mount.is_ok_and(|status| status.success()).then(|| Self(folder.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_keeps_what_fits() {
    let installation = Installation::new().await;
    let Some(disk) = SmallDisk::new(&installation.folder().join("small")) else {
        println!("skipped: no right to mount a small file system");
        return;
    };
    let url = format!("file://{}", disk.0.display());
    let (_api, http) = installation.api(&[("STORAGE_URL", &url), ("MIN_FREE_BYTES", "0")]);
    let path = create(&http, &[("upload-defer-length", "1")]).await;
    let answer = patch(&http, &path, 0, &[], pattern(0, 12 * MB)).await;
    answer.problem(507, "storage_full");
    let at: usize = answer.header("upload-offset").parse().expect("an offset");
    assert!(at > 6 * MB && at < 9 * MB, "{at}");
    assert_eq!(offset(&http, &path).await, at);
    let id = path.rsplit('/').next().expect("an id");
    assert!(std::fs::read(disk.0.join(id).join("data")).expect("stored") == pattern(0, at));
    let too_much = request(&http, Method::POST, "/api/v1/uploads", &[("upload-length", "10000000")]);
    Answer::of(too_much).await.problem(507, "storage_full");
}

#[tokio::test]
async fn parts_are_not_put_together_where_their_copy_has_no_room() {
    let installation = Installation::new().await;
    let Some(disk) = SmallDisk::new(&installation.folder().join("small")) else {
        println!("skipped: no right to mount a small file system");
        return;
    };
    let url = format!("file://{}", disk.0.display());
    let (_api, http) = installation.api(&[("STORAGE_URL", &url), ("MIN_FREE_BYTES", "0")]);
    let mut parts = Vec::new();
    for _ in 0..2 {
        let part = create(&http, &[("upload-length", "2500000"), ("upload-concat", "partial")]).await;
        assert_eq!(patch(&http, &part, 0, &[], pattern(0, 5 * MB / 2)).await.status, 204);
        parts.push(part);
    }
    let before = std::fs::read_dir(&disk.0).expect("a folder").count();
    let whole = format!("final;{}", parts.join(" "));
    let refused = Answer::of(request(&http, Method::POST, "/api/v1/uploads", &[("upload-concat", &whole)])).await;
    refused.problem(507, "storage_full");
    assert_eq!(std::fs::read_dir(&disk.0).expect("a folder").count(), before, "nothing was begun");
    // nothing of the parts is lost, and a smaller whole fits
    assert_eq!(offset(&http, &parts[0]).await, 5 * MB / 2);
    let one = format!("final;{}", parts[0]);
    let fits = Answer::of(request(&http, Method::POST, "/api/v1/uploads", &[("upload-concat", &one)])).await;
    assert_eq!(fits.status, 201, "{}", fits.text);
}

#[tokio::test]
async fn the_body_stops_where_the_upload_ends() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let path = create(&http, &[("upload-length", "10")]).await;
    let rest = "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nTransfer-Encoding: chunked\r\n";
    let mut wire = Wire::send_head(&installation, &http, &format!("PATCH {path}"), rest).await;
    wire.send(b"8\r\n01234567\r\n8\r\n89abcdef\r\n0\r\n\r\n").await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("upload-offset: 10"), "{answer}");
    let id = path.rsplit('/').next().expect("an id");
    assert_eq!(std::fs::read(installation.uploads().join(id).join("data")).expect("stored"), b"0123456789");
}

#[tokio::test]
async fn memory_stays_flat_under_many_uploads() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[("MAX_OPEN_UPLOADS", "1000"), ("LOG_LEVEL", "warn,ffprobe_api=info")]);
    create(&http, &[("upload-length", "1")]).await;
    let before = api.peak_bytes();
    let mut wires = Vec::new();
    for _ in 0..200 {
        let path = create(&http, &[("upload-length", "2000000")]).await;
        wires.push(Wire::patch(&installation, &http, &path, 0, 2 * MB).await);
    }
    let bytes = pattern(0, MB);
    futures::future::join_all(wires.iter_mut().map(|wire| wire.send(&bytes))).await;
    futures::future::join_all(wires.iter_mut().map(|wire| wire.send(&bytes))).await;
    for wire in &mut wires {
        assert!(wire.answer().await.starts_with("HTTP/1.1 204 "));
    }
    let grown = api.peak_bytes().saturating_sub(before);
    println!("200 uploads at once: peak resident memory of the API grew by {} KiB", grown / 1024);
    assert!(grown < 64 << 20, "grew by {grown} bytes");
}
