//! A Redis failover by Sentinel, with real servers: a primary, a replica and three sentinels of the test's own. The
//! primary is killed or stands still; API, worker, relay and doorbell move to the new one by themselves, and what the
//! old one says when it comes back changes nothing.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tests::{Http, Installation, Program, samples};

use super::trio::{Trio, until};

/// Between two jobs of the steady stream.
const BEAT: Duration = Duration::from_millis(300);
/// Longest time from the promotion of a server to the first job that came by a ticket through it, on a busy machine.
const RESUMED: f64 = 4.0;
/// A job whose ticket does not come is taken without one when it is so old.
const OVERDUE: f64 = 5.0;

/// What became of a job.
#[derive(Debug)]
struct Job {
    /// When it was submitted, in seconds of the scene.
    at: f64,
    /// How long it waited to be started.
    waited: f64,
    by_ticket: bool,
}

impl Job {
    fn started(&self) -> f64 {
        self.at + self.waited
    }
}

/// One API and one worker on a trio, and a steady stream of jobs.
struct Scene {
    trio: Trio,
    installation: Installation,
    api: Program,
    worker: Program,
    http: Http,
    file: String,
    begun: Instant,
    submitted: Vec<(f64, uuid::Uuid)>,
}

impl Scene {
    async fn set() -> Self {
        let installation = Installation::new().await;
        let trio = Trio::start(installation.folder()).await;
        let redis = trio.settings();
        let mut settings: Vec<(&str, &str)> = redis.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // cheap probes: two tests stream jobs at a time, and a busy machine would look like a late ticket
        settings.push(("SANDBOX", "off"));
        let (api, http) = installation.api(&settings);
        let worker = installation.worker(&settings);
        until("both hear the doorbell of the primary", || trio.first.ears() == 2).await;
        let file = installation.put("a.wav", &std::fs::read(samples::path("wav")).expect("a sample"));
        Self { trio, installation, api, worker, http, file, begun: Instant::now(), submitted: Vec::new() }
    }

    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    async fn submit(&mut self) {
        let at = self.now();
        let job = self.http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": self.file}})).await;
        assert_eq!(job.status, 202, "{}", job.text);
        self.submitted.push((at, job.json["id"].as_str().expect("an id").parse().expect("a UUID")));
    }

    /// Submits jobs for so long.
    async fn stream(&mut self, seconds: f64) {
        let end = self.now() + seconds;
        while self.now() < end {
            self.submit().await;
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Submits jobs until something is so.
    async fn stream_until(&mut self, what: &str, holds: impl Fn(&Trio) -> bool) -> f64 {
        let begun = self.now();
        while !holds(&self.trio) {
            assert!(self.now() - begun < 30.0, "never came true: {what}");
            self.submit().await;
            tokio::time::sleep(BEAT).await;
        }
        self.now()
    }

    /// Waits for every job, and insists on one attempt and one result each.
    async fn settle(&self) -> Vec<Job> {
        let mut seen = Vec::new();
        for (at, job) in &self.submitted {
            assert_eq!(self.http.wait(&job.to_string()).await["state"], "succeeded");
            let sql = "select extract(epoch from a.started_at - j.created_at)::float8 from attempt a, job j \
                       where a.job_id = j.id and j.id = $1";
            let waits: Vec<f64> =
                sqlx::query_scalar(sql).bind(job).fetch_all(&self.installation.db).await.expect("asks");
            assert_eq!(waits.len(), 1, "one attempt of job {job}");
            let (log, id) = (self.worker.log(), job.to_string());
            let by_ticket = !log.lines().any(|l| l.contains("taken without a ticket") && l.contains(&id));
            seen.push(Job { at: *at, waited: waits[0], by_ticket });
        }
        let sql = "select count(*) from result";
        let results: i64 = sqlx::query_scalar(sql).fetch_one(&self.installation.db).await.expect("counts");
        assert_eq!(usize::try_from(results), Ok(self.submitted.len()), "one result for each job");
        for program in [&self.api, &self.worker] {
            let log = program.log();
            // apalis calls every broken connection an error
            let error = log.lines().find(|l| l.contains("\"level\":\"ERROR\"") && !l.contains("apalis_core"));
            assert_eq!(error, None);
            let moves = log.matches("the Redis primary is here now").count();
            assert_eq!(moves, 2, "to the first, to the second, and never back: {log}");
        }
        seen
    }
}

/// Insists that tickets flowed again soon after the promotion, and to the end.
fn judge(what: &str, trouble: f64, promoted: f64, jobs: &[Job]) {
    let resumed =
        jobs.iter().filter(|j| j.by_ticket && j.started() > promoted).map(Job::started).fold(f64::INFINITY, f64::min);
    let after: Vec<&Job> = jobs.iter().filter(|j| j.at > resumed).collect();
    let longest = |jobs: &mut dyn Iterator<Item = &Job>| jobs.map(|j| j.waited).fold(0.0, f64::max);
    println!(
        "primary {what}: the other was primary {:.1} s later, tickets flowed {:.1} s after that; of {} jobs the longest \
         waited {:.1} s, of the {} after that {:.1} s; {} came without a ticket",
        promoted - trouble,
        resumed - promoted,
        jobs.len(),
        longest(&mut jobs.iter()),
        after.len(),
        longest(&mut after.iter().copied()),
        jobs.iter().filter(|j| !j.by_ticket).count(),
    );
    assert!(resumed < promoted + RESUMED, "{jobs:?}");
    assert!(after.len() > 10, "{jobs:?}");
    assert!(after.iter().all(|j| j.by_ticket && j.waited < OVERDUE), "{jobs:?}");
}

/// The primary is taken away and given back; what must be so in between and afterwards does not depend on how.
async fn fail_over(what: &str, take: impl Fn(&mut Trio), give_back: impl Fn(&mut Trio)) {
    let mut scene = Scene::set().await;
    scene.stream(1.0).await;
    let trouble = scene.now();
    take(&mut scene.trio);
    let promoted = scene.stream_until("the replica is promoted", |trio| trio.second.is_primary()).await;
    scene.stream_until("both hear the new doorbell", |trio| trio.second.ears() == 2).await;
    scene.stream(1.0).await;
    // the old one comes back, and may believe for a while that it is the primary
    give_back(&mut scene.trio);
    scene.stream_until("the old primary is a replica", |trio| trio.first.is_replica()).await;
    scene.stream(1.0).await;
    assert_eq!((scene.trio.first.ears(), scene.trio.second.ears()), (0, 2));
    assert_eq!(scene.http.get("/health").await.json["redis"], "healthy");
    judge(what, trouble, promoted, &scene.settle().await);
}

#[tokio::test]
async fn a_killed_primary_is_left_for_the_new_one() {
    let kill = |trio: &mut Trio| {
        trio.first.program.signal(Signal::KILL);
        trio.first.program.wait();
    };
    fail_over("killed", kill, |trio| trio.first.start_again()).await;
}

#[tokio::test]
async fn a_primary_that_stands_still_is_left_for_the_new_one() {
    // as in a split network: connections stay open, and nobody answers; the sentinel on the same side still believes in
    // the old primary when both come back
    let both = |trio: &mut Trio, signal| {
        trio.first.program.signal(signal);
        trio.sentinels[0].signal(signal);
    };
    fail_over("stopped", |trio| both(trio, Signal::STOP), |trio| both(trio, Signal::CONT)).await;
}
