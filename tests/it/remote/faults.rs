//! What servers do wrong, and what the job is told: each fault has its code, faults that pass are ridden out inside the
//! attempt, and those that outlast it are mended by the next one. All run at once, because some take the patience of the
//! worker, 10 to 15 s.

use std::time::Duration;

use serde_json::{Value, json};
use tests::origin::{Act, Change, RangeLie};
use tests::samples;

use super::{Site, id, submit, wav};

/// Enough to run all at once: what they do is wait.
const SLOTS: (&str, &str) = ("WORKER_SLOTS", "48");
/// Requests that one opening makes of a server that always fails in passing: the first and four more.
const TRIES: usize = 5;

/// How one origin behaves, and what comes of it.
struct Case {
    name: &'static str,
    first: Vec<Act>,
    then: Act,
    /// The failure of the first attempt; none if it succeeds.
    code: Option<&'static str>,
}

fn case(name: &'static str, first: &[Act], then: Act, code: Option<&'static str>) -> Case {
    Case { name, first: first.to_vec(), then, code }
}

/// Faults that a retry inside the attempt mends, and none at all.
fn ridden_out() -> Vec<Case> {
    vec![
        case("reset-once", &[Act::Reset { after: 1000 }], Act::Serve, None),
        case("refused-once", &[Act::Refuse], Act::Serve, None),
        case("truncated-once", &[Act::Truncate { after: 1000 }], Act::Serve, None),
        case("5xx-then-200", &[Act::status(500), Act::status(503)], Act::Serve, None),
        case("429-then-200", &[Act::retry_after(429, "1")], Act::Serve, None),
        case("close-after", &[], Act::CloseAfter, None),
        case("slow-but-steady", &[], Act::Drip { bytes: 20_000, pause: Duration::from_millis(20) }, None),
        case("no-ranges-small", &[], Act::NoRanges, None),
    ]
}

/// Faults that may be gone at the next attempt.
fn transient() -> Vec<Case> {
    let slow = Duration::from_secs(1);
    vec![
        case("loris", &[], Act::SlowHead { pause: slow }, Some("remote_too_slow")),
        case("silent", &[], Act::Silent, Some("remote_too_slow")),
        case("drip", &[], Act::Drip { bytes: 1, pause: Duration::from_millis(100) }, Some("remote_too_slow")),
        case("reset", &[], Act::Reset { after: 0 }, Some("connection_lost")),
        case("refused", &[], Act::Refuse, Some("connection_lost")),
        case("truncated", &[], Act::Truncate { after: 0 }, Some("connection_lost")),
        case("500", &[], Act::status(500), Some("remote_unavailable")),
        case("503", &[], Act::status(503), Some("remote_unavailable")),
        case("429", &[], Act::retry_after(429, "1800"), Some("remote_unavailable")),
        case("etag", &[], Act::Changing(Change::ETag), Some("source_changed")),
        case("modified", &[], Act::Changing(Change::LastModified), Some("source_changed")),
        case("size", &[], Act::Changing(Change::Size), Some("source_changed")),
    ]
}

/// Answers that another attempt would get again.
fn permanent() -> Vec<Case> {
    let lie = |name, lie| case(name, &[], Act::WrongRange(lie), Some("remote_rejected"));
    let status = |name, status, code| case(name, &[], Act::status(status), Some(code));
    vec![
        status("401", 401, "remote_forbidden"),
        status("403", 403, "remote_forbidden"),
        status("404", 404, "remote_not_found"),
        status("410", 410, "remote_not_found"),
        status("400", 400, "remote_rejected"),
        status("204", 204, "remote_rejected"),
        status("304", 304, "remote_rejected"),
        case("gzip", &[], Act::Encoded("gzip"), Some("remote_rejected")),
        case("multipart", &[], Act::Multipart, Some("remote_rejected")),
        lie("range-start", RangeLie::OtherStart),
        lie("range-none", RangeLie::Missing),
        lie("range-garbage", RangeLie::Garbage),
        case("no-length", &[], Act::NoLength, Some("range_not_supported")),
        case("chunked", &[], Act::Chunked, Some("range_not_supported")),
        case("endless", &[], Act::Endless { length: None }, Some("range_not_supported")),
        case("endless-long", &[], Act::Endless { length: Some(1 << 40) }, Some("range_not_supported")),
        case("garbage", &[], Act::Raw(b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec()), Some("remote_rejected")),
        case("flood", &[], Act::HeaderFlood { count: 500, bytes: 1000 }, Some("remote_rejected")),
        case("nowhere", &[], Act::Redirect(302, String::new()), Some("too_many_redirects")),
        case("loop", &[], Act::Redirect(302, "/loop".to_owned()), Some("too_many_redirects")),
    ]
}

async fn start(site: &Site, cases: &[Case], content: &[u8]) -> Vec<String> {
    let mut jobs = Vec::new();
    for case in cases {
        let url = site.origin.script(&format!("/{}", case.name), content.to_vec(), &case.first, case.then.clone());
        // reads all, so that there is a middle to fail in
        let body = json!({"source": {"type": "url", "url": url}, "profile": "packets"});
        jobs.push(submit(&site.http, &body).await);
    }
    jobs
}

/// Sees the first attempt fail as it should, lets the origin serve well, and sees another attempt succeed.
async fn mended(site: &Site, case: &Case, job: &str, content: &[u8]) -> Result<(), String> {
    let waiting = site.first_attempt(job).await;
    if code(&waiting) != case.code || waiting["state"] != "queued" {
        return Err(format!("{} is not {:?} and tried again: {waiting}", case.name, case.code));
    }
    site.origin.script(&format!("/{}", case.name), content.to_vec(), &[], Act::Serve);
    site.now(job).await;
    let ended = site.http.wait(job).await;
    if ended["state"] != "succeeded" || ended["attempt"] != 2 {
        return Err(format!("{} is not mended by another attempt: {ended}", case.name));
    }
    let attempts = site.http.get(&format!("/api/v1/jobs/{job}/attempts")).await.json;
    assert_eq!(attempts["data"][0]["failure"]["code"].as_str(), case.code, "{attempts}");
    Ok(())
}

fn code(job: &Value) -> Option<&str> {
    job["failure"]["code"].as_str()
}

#[tokio::test]
async fn every_fault_is_told_apart_and_what_passes_is_mended() {
    let site = Site::with(&[SLOTS]).await;
    let content = wav(3 << 20);
    let (ridden_out, transient, permanent) = (ridden_out(), transient(), permanent());
    let late = start(&site, &transient, &content).await;
    let never = start(&site, &permanent, &content).await;
    let good = start(&site, &ridden_out, &content).await;
    let mending = transient.iter().zip(&late).map(|(case, job)| mended(&site, case, job, &content));
    let mending = futures::future::join_all(mending).await;
    let mut wrong: Vec<String> = mending.into_iter().filter_map(Result::err).collect();
    for (case, job) in ridden_out.iter().zip(&good) {
        let ended = site.http.wait(job).await;
        let expected = json!(["succeeded", 1]);
        if json!([ended["state"], ended["attempt"]]) != expected {
            wrong.push(format!("{} is not ridden out: {ended}", case.name));
        } else if !case.first.is_empty() {
            let retries = ended["result"]["provenance"]["remote"]["retries"].as_u64();
            assert_eq!(retries, Some(case.first.len() as u64), "{}: {ended}", case.name);
        }
    }
    for (case, job) in permanent.iter().zip(&never) {
        let ended = site.http.wait(job).await;
        if code(&ended) != case.code || ended["attempt"] != 1 || ended["state"] != "failed" {
            wrong.push(format!("{} is not {:?}: {ended}", case.name, case.code));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let asked = |name: &str| site.origin.exchanges_of(&format!("/{name}")).len();
    for name in ["refused", "500"] {
        assert!(asked(name) > TRIES, "{name} was asked {} times", asked(name));
    }
    assert_eq!((asked("404"), asked("gzip"), asked("429-then-200") > 1), (1, 1, true));
    assert!(asked("loop") <= 6, "a loop was followed {} times", asked("loop"));
}

#[tokio::test]
async fn a_server_that_asks_for_time_gets_it() {
    let site = Site::new().await;
    let wait = async |name: &str, first: Act| {
        let mp4 = std::fs::read(samples::path("mp4")).expect("a sample");
        let url = site.origin.script(name, mp4, &[first], Act::Serve);
        let job = site.submit(&url).await;
        site.first_attempt(&job).await
    };
    let begun = std::time::Instant::now();
    let short = wait("/short", Act::retry_after(429, "2")).await;
    assert_eq!((&short["state"], &short["attempt"]), (&json!("succeeded"), &json!(1)), "{short}");
    assert!(begun.elapsed() >= Duration::from_secs(2), "it waited {:?}", begun.elapsed());
    // one that is refused, one that is served, and the question at the end whether it is still the same
    assert_eq!(site.origin.exchanges_of("/short").len(), 3);

    let long = wait("/long", Act::retry_after(503, "600")).await;
    assert_eq!((&long["state"], &long["failure"]["code"]), (&json!("queued"), &json!("remote_unavailable")), "{long}");
    assert_eq!(long["failure"]["retry_after_seconds"], 600);
    assert_eq!(site.origin.exchanges_of("/long").len(), 1);
    let job = long["id"].as_str().expect("an id");
    let sql = "select extract(epoch from run_at - clock_timestamp())::float8 from job where id = $1";
    let left: f64 = sqlx::query_scalar(sql).bind(id(job)).fetch_one(&site.installation.db).await.expect("a time");
    assert!((500.0..=600.0).contains(&left), "the next attempt is due in {left} s");
    site.now(job).await;
    assert_eq!(site.http.wait(job).await["state"], "succeeded");
}

#[tokio::test]
async fn a_large_object_without_ranges_is_refused_before_it_is_read() {
    let site = Site::new().await;
    let file = site.installation.folder().join("large.wav");
    std::fs::write(&file, wav(1000)).expect("writes");
    std::fs::OpenOptions::new().write(true).open(&file).and_then(|f| f.set_len(50 << 30)).expect("a sparse file");
    let url = site.origin.script("/large.wav", file, &[], Act::NoRanges);
    let job = site.http.wait(&site.submit(&url).await).await;
    assert_eq!(code(&job), Some("range_not_supported"), "{job}");
    assert!(job["failure"]["message"].as_str().is_some_and(|m| m.contains("53687091200")), "{job}");
    let sent = site.origin.body_bytes();
    println!("a server without ranges had sent {sent} bytes of 50 GiB when it was refused");
    assert!(sent < 16 << 20, "{sent} bytes were sent");
}
