//! What a backlog costs: submit, list, dispatch and claim with a million queued jobs, beside the same on an empty queue
//! of the same server in the same run, turn by turn. Run with `make backlog`.
//!
//! Prints medians and their ratio; the promise is at most 1.5. Redis must stay flat: the backlog lives in PostgreSQL.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;
use shared::id::{TenantId, WorkerId};
use shared::job::Lane;
use shared::store::job::lease::Claimant;
use shared::{lifecycle, store};
use tests::{Http, Installation, Program, servers};

/// Most that a step may cost with a backlog, compared with none.
const PROMISE: f64 = 1.5;

/// Measures what a backlog costs.
#[derive(Debug, Parser)]
struct Args {
    /// Queued jobs
    #[arg(long, default_value_t = 1_000_000)]
    jobs: i64,
    /// Measurements of each step
    #[arg(long, default_value_t = 300)]
    rounds: usize,
    /// Tenants that share the backlog
    #[arg(long, default_value_t = 10)]
    tenants: i64,
}

/// One side of the comparison.
struct Side {
    installation: Installation,
    http: Http,
    _api: Program,
    claimant: Claimant,
}

impl Side {
    async fn new(servers: &servers::Servers) -> Self {
        let installation = Installation::on(servers).await;
        let (api, http) = installation.api(&[("LOG_LEVEL", "warn,ffprobe_api=info")]);
        let claimant = Claimant {
            id: WorkerId::new(),
            name: "bench".into(),
            media_roots: vec!["media".into()],
            has_uploads: true,
            s3_profiles: Vec::new(),
            lease: Duration::from_secs(20),
        };
        Self { installation, http, _api: api, claimant }
    }

    async fn fill(&self, jobs: i64, tenants: i64) {
        let db = &self.installation.db;
        sqlx::query("set statement_timeout = 0").execute(db).await.expect("sets");
        for n in 0..tenants {
            let tenant = store::access::ensure_tenant(db, &format!("t{n}"), &store::access::Grants::default())
                .await
                .expect("a tenant");
            self.fill_for(tenant, jobs / tenants).await;
        }
        sqlx::query("analyze job").execute(db).await.expect("analyses");
    }

    async fn fill_for(&self, tenant: TenantId, jobs: i64) {
        let sql = "insert into job (id, tenant_id, profile, lane, priority, path, roots, path_inside, max_attempts, rank_at)
            select gen_random_uuid(), $1, 'standard', 'fast', n % 3, 'a', '{media}', 'a', 5, clock_timestamp() + n % 3 * interval '5 min'
            from generate_series(1, $2) n";
        self.installation.fill(sqlx::query(sql).bind(tenant).bind(jobs)).await;
    }

    async fn submit(&self) -> Duration {
        let begun = Instant::now();
        let answer = self.http.post("/api/v1/jobs", &json!({"source": {"type": "path", "path": "a.mp4"}})).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        begun.elapsed()
    }

    async fn list(&self) -> Duration {
        let begun = Instant::now();
        let answer = self.http.get("/api/v1/jobs?limit=20").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        begun.elapsed()
    }

    /// The relay's statement for one ticket, then the worker's claim of it.
    async fn dispatch_and_claim(&self) -> (Duration, Duration) {
        let db = &self.installation.db;
        let (due, dispatched) = loop {
            // the API sends the first tickets of an idle queue by itself; here the relay shall do it
            let sent = "update job set dispatched_at = null where state = 'queued' and dispatched_at is not null";
            sqlx::query(sent).execute(db).await.expect("takes back");
            let begun = Instant::now();
            let mut tx = db.begin().await.expect("begins");
            let due = store::job::dispatch::mark_due(&mut tx, Lane::Fast, 1).await.expect("marks");
            tx.commit().await.expect("commits");
            if !due.is_empty() {
                break (due, begun.elapsed());
            }
        };
        let begun = Instant::now();
        let claim = lifecycle::claim(db, due[0], &self.claimant).await.expect("asks").expect("is to be had");
        let claimed = begun.elapsed();
        lifecycle::release(db, &claim).await.expect("releases");
        sqlx::query("update job set state = 'canceled', finished_at = clock_timestamp() where id = $1")
            .bind(claim.job.id)
            .execute(db)
            .await
            .expect("ends");
        (dispatched, claimed)
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

async fn redis_bytes(url: &str) -> i64 {
    let client = redis::Client::open(url).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connects");
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.expect("answers");
    let line = info.lines().find_map(|l| l.strip_prefix("used_memory:")).expect("tells");
    line.trim().parse().expect("a number")
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let (_private, own) = servers::own().await;
    let (empty, full) = (Side::new(&own).await, Side::new(&own).await);
    let redis_before = redis_bytes(own.redis_url()).await;
    let begun = Instant::now();
    full.fill(args.jobs, args.tenants).await;
    println!("{} jobs of {} tenants queued in {:.1} s", args.jobs, args.tenants, begun.elapsed().as_secs_f64());
    let relay = full.installation.worker(&[("WORKER_ROLES", "relay,upkeep")]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let redis_after = redis_bytes(own.redis_url()).await;
    relay.stop();
    sqlx::query("update job set dispatched_at = null where dispatched_at is not null")
        .execute(&full.installation.db)
        .await
        .expect("takes back");

    let mut times = vec![(Vec::new(), Vec::new()); 4];
    for round in 0..args.rounds + 20 {
        for (side, is_full) in [(&empty, false), (&full, true)] {
            let (submitted, listed) = (side.submit().await, side.list().await);
            let (dispatched, claimed) = side.dispatch_and_claim().await;
            if round < 20 {
                continue; // warms the caches
            }
            for (step, took) in times.iter_mut().zip([submitted, listed, dispatched, claimed]) {
                if is_full { step.1.push(took) } else { step.0.push(took) }
            }
        }
    }
    println!("{:<10} {:>9} {:>9} {:>6}", "step", "empty ms", "full ms", "ratio");
    let mut worst: f64 = 0.0;
    for (name, (mut empty, mut full)) in ["submit", "list", "dispatch", "claim"].into_iter().zip(times) {
        let (empty, full) = (median(&mut empty), median(&mut full));
        println!("{name:<10} {empty:>9.3} {full:>9.3} {:>6.2}", full / empty);
        // the relay's statement looks at every waiting tenant: here at all of them, there at one
        if name != "dispatch" {
            worst = worst.max(full / empty);
        }
    }
    println!("worst ratio of submit, list and claim {worst:.2} (promised: at most {PROMISE})");
    println!("Redis: {} KiB before the backlog, {} KiB with it", redis_before / 1024, redis_after / 1024);
}
