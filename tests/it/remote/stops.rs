//! An attempt that hangs in a remote read is stopped like any other: by cancel, by a worker that stops, and by its death.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::origin::Act;
use tests::samples;

use super::{Site, id, opened, submit, until, wav};

/// Submits a job whose object comes so far and no further, and waits until it hangs.
async fn hanging(site: &Site, path: &str, act: Act) -> String {
    let url = site.origin.script(path, wav(3 << 20), &[], act);
    let job = submit(&site.http, &json!({"source": {"type": "url", "url": url}, "profile": "packets"})).await;
    site.asked(path).await;
    job
}

/// Bytes come, but only just fast enough to be waited for.
fn creeping() -> Act {
    Act::Drip { bytes: 2048, pause: Duration::from_millis(100) }
}

async fn outcomes(site: &Site, job: &str) -> Vec<String> {
    let sql = "select coalesce(outcome, 'open') from attempt where job_id = $1 order by number";
    sqlx::query_scalar(sql).bind(id(job)).fetch_all(&site.installation.db).await.expect("lists")
}

#[tokio::test]
async fn cancel_ends_a_hanging_read_within_two_seconds() {
    let site = Site::new().await;
    for (path, act) in [("/silent", Act::Silent), ("/creeping", creeping())] {
        let job = hanging(&site, path, act).await;
        tokio::time::sleep(Duration::from_millis(1000)).await;
        let begun = Instant::now();
        let asked = site.http.post(&format!("/api/v1/jobs/{job}/cancel"), &json!({})).await;
        assert_eq!(asked.status, 202, "{}", asked.text);
        let ended = site.http.wait(&job).await;
        assert_eq!((&ended["state"], &ended["failure"]["code"]), (&json!("canceled"), &json!("canceled")), "{ended}");
        println!("{path}: canceled after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(2), "{path} took {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_hanging_read_says_so_while_it_hangs() {
    let site = Site::with(&[("LEASE_SECONDS", "4")]).await;
    let url = site.origin.script("/a.wav", wav(3 << 20), &[Act::Serve], Act::Silent);
    let silent = submit(&site.http, &json!({"source": {"type": "url", "url": url}, "profile": "packets"})).await;
    let reason = until("the job says why nothing moves", async || {
        let job = site.http.get(&format!("/api/v1/jobs/{silent}")).await.json;
        assert!(job["state"] != "failed" && job["attempt"] != 2, "{job}");
        job["progress"]["stalled"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(reason, "Waiting for the server's answer.");
    let job = hanging(&site, "/b.wav", creeping()).await;
    let progress = until("there is progress", async || {
        let job = site.http.get(&format!("/api/v1/jobs/{job}")).await.json;
        job["progress"]["bytes_read"].as_u64().filter(|n| *n > 0).map(|_| job["progress"].clone())
    })
    .await;
    assert_eq!(progress["bytes_total"], 3 << 20, "{progress}");
    assert!(progress["estimate"].is_object(), "{progress}");
}

#[tokio::test]
async fn a_stopping_worker_hands_a_hanging_read_back() {
    let mut site = Site::with(&[("SHUTDOWN_GRACE", "1")]).await;
    let job = hanging(&site, "/a.wav", Act::Silent).await;
    site.worker.signal(Signal::TERM);
    assert!(site.worker.wait().success());
    let waiting = site.http.get(&format!("/api/v1/jobs/{job}")).await.json;
    assert_eq!((&waiting["state"], &waiting["attempt"]), (&json!("queued"), &json!(0)), "{waiting}");
    assert_eq!(outcomes(&site, &job).await, ["released"]);
    let ended = by_another(&site, &job, "/a.wav").await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(1)), "{ended}");
}

#[tokio::test]
async fn a_killed_workers_hanging_read_is_done_by_another() {
    let mut site = Site::with(&[("LEASE_SECONDS", "3")]).await;
    let job = hanging(&site, "/a.wav", Act::Silent).await;
    site.worker.signal(Signal::KILL);
    site.worker.wait();
    let ended = by_another(&site, &job, "/a.wav").await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(2)), "{ended}");
    assert_eq!(outcomes(&site, &job).await, ["lost", "succeeded"]);
}

/// The end of a job once its object is served well and another worker is there.
async fn by_another(site: &Site, job: &str, path: &str) -> Value {
    site.origin.serve(path, std::fs::read(samples::path("wav")).expect("a sample"));
    let open = opened(&[&site.origin]);
    let _next = site.installation.worker(&[("EGRESS_SCHEMES", "https,http"), ("EGRESS_ALLOW_CIDRS", &open)]);
    site.http.wait(job).await
}
