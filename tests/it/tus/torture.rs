//! Many uploads of random sizes at once, their connections cut at random places and the API processes killed under them.
//! Every one ends with the bytes that were meant, and no offset goes back further than is promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shared::upload::Hasher;
use tests::{Http, Installation};
use tokio::sync::Mutex;

use super::wire::Wire;
use super::{pattern, request};

/// Uploads, at so many at a time.
const UPLOADS: usize = 200;
const AT_ONCE: usize = 12;
/// Largest upload, in bytes.
const LARGEST: usize = 3_000_000;
/// How long it may take in all.
const LIMIT: Duration = Duration::from_secs(120);

/// Random enough, and the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("fits") % most.max(1)
    }
}

/// The APIs as they are now; whoever kills one puts a new one in its place.
type Apis = Arc<Mutex<Vec<Http>>>;

async fn any(apis: &Apis, dice: &mut Dice) -> Http {
    let apis = apis.lock().await;
    apis[dice.below(apis.len())].clone()
}

/// The offset, asked for until somebody answers; `None` if the upload is complete.
async fn standing(apis: &Apis, dice: &mut Dice, path: &str) -> usize {
    loop {
        let http = any(apis, dice).await;
        if let Ok(answer) = request(&http, reqwest::Method::HEAD, path, &[]).send().await
            && answer.status() == 200
        {
            return answer.headers()["upload-offset"].to_str().expect("text").parse().expect("a number");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn upload(installation: &Installation, apis: &Apis, number: usize, cuts: &AtomicUsize) -> (String, usize) {
    let mut dice = Dice(number as u64);
    let length = dice.below(LARGEST);
    let bytes = pattern(number, length);
    let path = loop {
        let http = any(apis, &mut dice).await;
        let text = length.to_string();
        let headers = [("upload-length", text.as_str()), ("upload-metadata", "checksum c2hhMjU2")];
        if let Ok(answer) = request(&http, reqwest::Method::POST, "/api/v1/uploads", &headers).send().await
            && answer.status() == 201
        {
            let location = answer.headers()["location"].to_str().expect("text");
            break location.trim_start_matches(http.url()).to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut known = 0;
    loop {
        let at = standing(apis, &mut dice, &path).await;
        // what was told once was durable then: only what was never told can be lost
        assert!(at >= known, "upload {number} went back from {known} to {at}");
        known = at;
        if at == length {
            return (path, length);
        }
        let http = any(apis, &mut dice).await;
        let end = at + 1 + dice.below(2 * (length - at));
        let Some(mut wire) = Wire::patch_or_none(installation, &http, &path, at, length - at).await else { continue };
        wire.send(&bytes[at..end.min(length)]).await;
        if end >= length {
            let _ = tokio::time::timeout(Duration::from_secs(10), wire.answer()).await;
        } else {
            cuts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_survive_everything() {
    let installation = Arc::new(Installation::new().await);
    let settings = [("MAX_OPEN_UPLOADS", "1000"), ("MIN_FREE_BYTES", "0"), ("LOG_LEVEL", "warn,ffprobe_api=info")];
    let (one, two) = (installation.api(&settings), installation.api(&settings));
    let apis: Apis = Arc::new(Mutex::new(vec![one.1, two.1]));
    let (begun, next, cuts) = (Instant::now(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (installation, apis) = (Arc::clone(&installation), Arc::clone(&apis));
            let (next, cuts) = (Arc::clone(&next), Arc::clone(&cuts));
            tokio::spawn(async move {
                let mut done = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= UPLOADS {
                        return done;
                    }
                    let (path, length) = upload(&installation, &apis, number, &cuts).await;
                    done.push((number, path, length));
                }
            })
        })
        .collect();
    let mut programs = [Some(one.0), Some(two.0)];
    let mut kills = 0;
    while tasks.iter().any(|t| !t.is_finished()) && begun.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let victim = kills % 2;
        if let Some(program) = programs[victim].take() {
            program.kill();
        }
        let (program, http) = installation.api(&settings);
        programs[victim] = Some(program);
        apis.lock().await[victim] = http;
        kills += 1;
    }
    for task in tasks {
        let left = LIMIT.saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
        let done = tokio::time::timeout(left, task).await.expect("in time").expect("no panic");
        for (number, path, length) in done {
            judge(&installation, &apis, number, &path, length).await;
        }
    }
    let cuts = cuts.load(Ordering::Relaxed);
    println!("torture: {UPLOADS} uploads, {cuts} cut connections, {kills} killed processes, {:?}", begun.elapsed());
    assert!(cuts > UPLOADS / 2 && kills > 1);
}

async fn judge(installation: &Installation, apis: &Apis, number: usize, path: &str, length: usize) {
    let mut hasher = Hasher::sha256();
    hasher.update(&pattern(number, length));
    let expected: String = hasher.finish().iter().map(|b| format!("{b:02x}")).collect();
    let http = apis.lock().await[0].clone();
    super::eventually(async || http.get(path).await.json["state"] == "complete", "it is completed").await;
    let view = http.get(path).await.json;
    assert_eq!(view["sha256"], expected, "upload {number}: the digest on record");
    let stored = installation.uploads().join(path.rsplit('/').next().expect("an id")).join("data");
    assert!(std::fs::read(stored).expect("stored") == pattern(number, length), "upload {number}: the bytes");
}
