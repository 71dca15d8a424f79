//! What happens when processes die, stop or lose their servers: no job is lost, none is finished twice.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::slow::{SlowFfprobe, is_gone};
use tests::{Http, Installation, samples, servers};

pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn submit(installation: &Installation, http: &Http) -> String {
    let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
    let job = http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": file}})).await;
    assert_eq!(job.status, 202, "{}", job.text);
    job.json["id"].as_str().expect("an id").to_owned()
}

/// How a job's attempts ended, in order.
async fn outcomes(installation: &Installation, job: &str) -> Vec<String> {
    let sql = "select coalesce(outcome, 'open') from attempt where job_id = $1 order by number";
    sqlx::query_scalar(sql)
        .bind(uuid::Uuid::parse_str(job).expect("an id"))
        .fetch_all(&installation.db)
        .await
        .expect("lists")
}

async fn results(installation: &Installation) -> i64 {
    sqlx::query_scalar("select count(*) from result").fetch_one(&installation.db).await.expect("counts")
}

#[tokio::test]
async fn a_killed_workers_job_is_run_by_another() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let slow = SlowFfprobe::new(installation.folder());
    let first = installation.worker(&slow.settings());
    slow.hold();
    let job = submit(&installation, &http).await;
    let child = slow.wait_for_one().await;
    first.kill();
    until("ffprobe dies with its worker", async || is_gone(child)).await;
    let _second = installation.worker(&[]);
    let begun = Instant::now();
    let ended = http.wait(&job).await;
    println!("a killed worker's job was finished {:.1} s later", begun.elapsed().as_secs_f64());
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(2)), "{ended}");
    assert_eq!(outcomes(&installation, &job).await, ["lost", "succeeded"]);
    assert_eq!(results(&installation).await, 1);
}

#[tokio::test]
async fn a_worker_cut_off_for_longer_than_its_lease_changes_nothing() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let slow = SlowFfprobe::new(installation.folder());
    let mut first = installation.worker(&[&slow.settings()[..], &[("WORKER_ROLES", "probe")]].concat());
    slow.hold();
    let job = submit(&installation, &http).await;
    slow.wait_for_one().await;
    first.signal(Signal::STOP);
    // its lease runs out while it stands still
    sqlx::query("update job set lease_until = clock_timestamp() - interval '1 second'")
        .execute(&installation.db)
        .await
        .expect("shifts");
    slow.let_go();
    let _second = installation.worker(&[]);
    let ended = http.wait(&job).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(2)), "{ended}");
    first.signal(Signal::CONT);
    first.wait_for(|line| line.contains("has gone to another worker").then_some(()), "the late finish is refused");
    assert_eq!(
        http.get(&format!("/api/v1/jobs/{job}?include=result")).await.json,
        ended,
        "the late finish changed nothing"
    );
    assert_eq!(outcomes(&installation, &job).await, ["lost", "succeeded"]);
    assert_eq!(results(&installation).await, 1);
}

#[tokio::test]
async fn a_stopping_worker_finishes_what_it_runs() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let slow = SlowFfprobe::new(installation.folder());
    let mut worker = installation.worker(&[&slow.settings()[..], &[("SHUTDOWN_GRACE", "30")]].concat());
    slow.hold();
    let job = submit(&installation, &http).await;
    slow.wait_for_one().await;
    worker.signal(Signal::TERM);
    worker.wait_for_line("draining");
    slow.let_go();
    assert!(worker.wait().success());
    let ended = http.get(&format!("/api/v1/jobs/{job}")).await;
    assert_eq!((&ended.json["state"], &ended.json["attempt"]), (&json!("succeeded"), &json!(1)), "{}", ended.text);
}

#[tokio::test]
async fn beyond_the_grace_jobs_go_back_uncharged() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let slow = SlowFfprobe::new(installation.folder());
    let mut worker = installation.worker(&[&slow.settings()[..], &[("SHUTDOWN_GRACE", "1")]].concat());
    slow.hold();
    let job = submit(&installation, &http).await;
    let child = slow.wait_for_one().await;
    worker.signal(Signal::TERM);
    assert!(worker.wait().success());
    assert!(is_gone(child), "ffprobe is dead");
    let waiting = http.get(&format!("/api/v1/jobs/{job}")).await;
    assert_eq!((&waiting.json["state"], &waiting.json["attempt"]), (&json!("queued"), &json!(0)), "{}", waiting.text);
    assert_eq!(outcomes(&installation, &job).await, ["released"]);
    slow.let_go();
    let _next = installation.worker(&[]);
    let ended = http.wait(&job).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(1)), "{ended}");
}

#[tokio::test]
async fn a_file_that_kills_every_worker_runs_out_of_attempts() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let job = submit(&installation, &http).await;
    let id = uuid::Uuid::parse_str(&job).expect("an id");
    let claimant = shared::store::job::lease::Claimant {
        id: shared::id::WorkerId::new(),
        name: "doomed".into(),
        media_roots: vec!["media".into()],
        has_uploads: true,
        s3_profiles: Vec::new(),
        lease: Duration::from_secs(20),
    };
    for attempt in 1..=5 {
        let claim = shared::lifecycle::claim(&installation.db, shared::id::JobId(id), &claimant)
            .await
            .expect("asks")
            .expect("is to be had");
        assert_eq!(claim.job.attempt, attempt);
        // the worker dies: nobody beats, and the lease runs out
        sqlx::query("update job set lease_until = clock_timestamp() - interval '1 second'")
            .execute(&installation.db)
            .await
            .expect("shifts");
        let rescued = shared::lifecycle::rescue(&installation.db).await.expect("rescues");
        assert_eq!(rescued.len(), 1);
    }
    let ended = http.get(&format!("/api/v1/jobs/{job}")).await;
    assert_eq!(
        (&ended.json["state"], &ended.json["failure"]["code"]),
        (&json!("failed"), &json!("worker_lost")),
        "{}",
        ended.text
    );
    assert_eq!(outcomes(&installation, &job).await, ["lost"; 5]);
}

#[tokio::test]
async fn without_redis_jobs_start_some_seconds_later() {
    let (private, own) = servers::own().await;
    let installation = Installation::on(&own).await;
    let (_api, http) = installation.api(&[]);
    let _worker = installation.worker(&[]);
    let redis = rustix::process::Pid::from_raw(private.pids().redis.expect("runs").cast_signed()).expect("a pid");
    rustix::process::kill_process(redis, Signal::KILL).expect("kills");
    until("health notices", async || http.get("/health").await.json["redis"] == "unhealthy").await;
    assert_eq!(http.get("/health/ready").await.json["status"], "degraded");
    let begun = Instant::now();
    let job = submit(&installation, &http).await;
    let ended = http.wait(&job).await;
    println!("without Redis a job took {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn lost_tickets_cost_seconds_only() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let job = submit(&installation, &http).await;
    // as if its ticket had been sent, and Redis had forgotten it
    sqlx::query("update job set dispatched_at = clock_timestamp()").execute(&installation.db).await.expect("marks");
    let _worker = installation.worker(&[]);
    assert_eq!(http.wait(&job).await["state"], "succeeded");
}

#[tokio::test]
async fn postgres_restarting_loses_nothing() {
    let (mut private, own) = servers::own().await;
    let installation = Installation::on(&own).await;
    let (_api, http) = installation.api(&[]);
    let slow = SlowFfprobe::new(installation.folder());
    let _worker = installation.worker(&slow.settings());
    slow.hold();
    let job = submit(&installation, &http).await;
    slow.wait_for_one().await;
    let postgres = rustix::process::Pid::from_raw(private.pids().postgres.expect("runs").cast_signed()).expect("a pid");
    rustix::process::kill_process(postgres, Signal::QUIT).expect("ends at once");
    let supervised = tokio::spawn(async move { private.supervise().await });
    until("PostgreSQL is away", async || http.get("/health").await.status == 503).await;
    slow.let_go();
    until("PostgreSQL is back", async || http.get("/health").await.status == 200).await;
    let ended: Value = http.wait(&job).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(1)), "{ended}");
    assert_eq!(results(&installation).await, 1);
    supervised.abort();
}

#[tokio::test]
async fn a_job_that_met_a_limit_gets_one_wider_try_if_the_operator_says_so() {
    for (setting, wanted) in [("never", &["output_limit"][..]), ("once", &["output_limit", "unreadable_output"])] {
        let installation = Installation::new().await;
        let (_api, http) = installation.api(&[]);
        // more than the jail takes, less than it takes the second time
        let ffprobe = evil_ffprobe(&installation, "exec head -c 20971520 /dev/zero");
        let _worker =
            installation.worker(&[("FFPROBE_PATH", &ffprobe), ("SANDBOX", "off"), ("RESOURCE_RETRY", setting)]);
        let job = submit(&installation, &http).await;
        let sql = "select count(*) from attempt where outcome is not null";
        for n in 1..=wanted.len() {
            until("the attempt ends", async || {
                sqlx::query_scalar::<_, i64>(sql).fetch_one(&installation.db).await.expect("counts") >= n as i64
            })
            .await;
            // the back-off is over
            sqlx::query("update job set run_at = clock_timestamp() where state = 'queued'")
                .execute(&installation.db)
                .await
                .expect("shifts");
        }
        let attempts = http.get(&format!("/api/v1/jobs/{job}/attempts")).await;
        let codes = attempts.json["data"].as_array().expect("data").iter().map(|a| a["failure"]["code"].clone());
        assert_eq!(codes.take(wanted.len()).collect::<Vec<_>>(), wanted, "RESOURCE_RETRY={setting}: {}", attempts.text);
        if setting == "never" {
            assert_eq!(http.wait(&job).await["state"], "failed");
        }
    }
}

/// An ffprobe that does something evil to a file of ours (larger than the canary's).
fn evil_ffprobe(installation: &Installation, deed: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let script = installation.folder().join("evil-ffprobe");
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in -version) exec ffprobe -version;; esac\n\
         if [ \"$(wc -c < /dev/fd/0)\" -lt 5000 ]; then exec ffprobe \"$@\"; fi\n{deed}\n"
    );
    std::fs::write(&script, text).expect("writes");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("is executable");
    script.display().to_string()
}

#[tokio::test]
async fn a_file_that_crashes_ffprobe_is_tried_once_more() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let ffprobe = evil_ffprobe(&installation, "kill -SEGV $$");
    let _worker = installation.worker(&[("FFPROBE_PATH", &ffprobe), ("SANDBOX", "off")]);
    let job = submit(&installation, &http).await;
    until("the first attempt ends", async || outcomes(&installation, &job).await == ["failed"]).await;
    // the back-off is over
    sqlx::query("update job set run_at = clock_timestamp()").execute(&installation.db).await.expect("shifts");
    let ended = http.wait(&job).await;
    assert_eq!((&ended["state"], &ended["failure"]["code"]), (&json!("failed"), &json!("ffprobe_crashed")), "{ended}");
    assert_eq!(outcomes(&installation, &job).await, ["failed", "failed"]);
}

#[tokio::test]
async fn a_file_that_kills_the_worker_itself_ends_failed() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let ffprobe = evil_ffprobe(&installation, "kill -KILL $PPID; sleep 5");
    let settings = [
        ("FFPROBE_PATH", ffprobe.as_str()),
        ("SANDBOX", "off"),
        ("LEASE_SECONDS", "2"),
        ("WORKER_ROLES", "probe,relay"),
    ];
    let _keeper = installation.worker(&[("WORKER_ROLES", "relay,upkeep")]);
    let job = submit(&installation, &http).await;
    let mut killed = 0;
    loop {
        let mut worker = installation.start_worker(&settings);
        until("the worker is killed, or there is nothing left to do", async || {
            is_gone(worker.pid()) || http.get(&format!("/api/v1/jobs/{job}")).await.json["state"] == "failed"
        })
        .await;
        if !is_gone(worker.pid()) {
            break;
        }
        worker.wait();
        killed += 1;
    }
    let ended = http.wait(&job).await;
    assert_eq!((&ended["failure"]["code"], &ended["attempt"]), (&json!("worker_lost"), &json!(5)), "{ended}");
    assert_eq!((killed, outcomes(&installation, &job).await), (5, vec!["lost".to_owned(); 5]));
}
