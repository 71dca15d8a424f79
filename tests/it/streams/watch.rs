//! `probectl watch`: shows what happens, goes on where it was when an API dies, and ends with the jobs.

use rustix::process::Signal;
use serde_json::Value;
use tests::{Installation, samples};

use super::submit;

#[tokio::test(flavor = "multi_thread")]
async fn watch_ends_with_the_jobs_it_was_given() {
    let (installation, http, _programs) = Installation::running().await;
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let (good, bad) = (submit(&http, &file).await, submit(&http, "/nowhere.wav").await);
    for (jobs, code) in [(vec![good.as_str()], 0), (vec![&good, &bad], 3)] {
        let mut watch = installation.probectl(&http, &[&["watch"], &jobs[..]].concat());
        assert_eq!(watch.wait().code(), Some(code), "{}", watch.log());
        let log = watch.log();
        assert_eq!(log.lines().count(), 3 * jobs.len(), "{log}");
        assert!(log.contains("job.succeeded") && log.contains(&format!("{good}  {file}")), "{log}");
    }
    let mut watch = installation.probectl(&http, &["watch", &bad, "--json", "--types", "job.failed"]);
    assert_eq!(watch.wait().code(), Some(3));
    let event: Value = serde_json::from_str(&watch.log()).expect("one line of JSON");
    assert_eq!(event["data"]["job"]["failure"]["code"], "input_not_found");
    let mut watch = installation.probectl(&http, &["watch", &shared::id::JobId::new().to_string()]);
    assert_eq!(watch.wait().code(), Some(1));
    assert!(watch.log().contains("not_found"), "{}", watch.log());
    let mut watch = installation.probectl(&http, &["watch", "--types", "job.lost"]);
    assert_eq!(watch.wait().code(), Some(2), "{}", watch.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_goes_on_when_the_service_comes_back() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    let port = http.url().rsplit(':').next().expect("a port").to_owned();
    let job = submit(&http, "/nowhere.wav").await;
    let mut all = installation.probectl(&http, &["watch"]);
    let mut one = installation.probectl(&http, &["watch", &job]);
    one.wait_for(|line| line.contains("job.queued").then_some(()), "the job is queued");
    // it has begun to listen once it shows something
    let seen = loop {
        submit(&http, "/elsewhere.wav").await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        if all.log().contains("job.queued") {
            break all.log().lines().count();
        }
    };
    api.kill();
    let _worker = installation.worker(&[]);
    let (_api, _) = installation.api(&[("API_PORT", &port)]);
    assert_eq!(one.wait().code(), Some(3), "{}", one.log());
    let lines: Vec<String> = one.log().lines().filter(|line| line.contains(&job)).map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "each once: {}", one.log());
    all.wait_for(|line| (line.contains("job.failed") && line.contains(&job)).then_some(()), "its end is shown");
    assert!(seen < all.log().lines().count());
    all.signal(Signal::TERM);
    all.wait();
}
