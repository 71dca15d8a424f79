//! What credentials and limits cost: processor time of an API for each request without key and limits, with a key, with key
//! and all limits, and with an access token and all limits, turn by turn in one run; the calls to Redis for each; and a submission with 100,000 jobs waiting,
//! beside one with none. Run with `make limits`.
//!
//! Exits with 1 if a promise breaks: 0.2 ms and one round trip to Redis for each request, by key and by token.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;
use tests::process::cpu_of;
use tests::{Http, Installation, Program, servers};

/// Most processor time that credentials and limits may cost, in milliseconds.
const PROMISE_MS: f64 = 0.2;
/// Requests on their way at the same time.
const AT_ONCE: usize = 8;
/// All limits, so high that none refuses.
const LIMITS: [(&str, &str); 5] = [
    ("RATE_LIMIT_PER_KEY", "1000000:1000000"),
    ("RATE_LIMIT_PER_TENANT", "1000000:1000000"),
    ("RATE_LIMIT_PER_ADDRESS", "1000000:1000000"),
    ("RATE_LIMIT_FAILED_AUTH", "10"),
    ("MAX_QUEUED_JOBS", "110000"),
];
/// A route that does nothing: what it costs is what stands around it.
const NOTHING: &str = "/nothing";

/// Measures what credentials and limits cost.
#[derive(Debug, Parser)]
struct Args {
    /// Requests of each side in a round
    #[arg(long, default_value_t = 4_000)]
    requests: usize,
    /// Rounds
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Jobs that wait
    #[arg(long, default_value_t = 100_000)]
    jobs: i64,
}

/// One side of the comparison.
struct Side<'a> {
    name: &'a str,
    api: &'a Program,
    http: Http,
    cpu: Duration,
    calls: u64,
}

impl Side<'_> {
    async fn round(&mut self, requests: usize, redis: &str) {
        let (cpu, calls) = (cpu_of(self.api.pid()), script_calls(redis).await);
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let http = self.http.clone();
                tokio::spawn(async move {
                    for _ in 0..requests / AT_ONCE {
                        assert_eq!(http.get(NOTHING).await.status, 404);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        self.cpu += cpu_of(self.api.pid()) - cpu;
        self.calls += script_calls(redis).await - calls;
    }
}

/// Scripts that Redis ran for its clients: a round trip each. What they call themselves is none.
async fn script_calls(url: &str) -> u64 {
    let client = redis::Client::open(url).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connects");
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.expect("answers");
    let calls = |name: &str| {
        let line = info.lines().find_map(|l| l.strip_prefix("cmdstat_")?.strip_prefix(name)?.strip_prefix(":calls="));
        line.and_then(|l| l.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    ["evalsha", "eval", "fcall"].into_iter().map(calls).sum()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

async fn requests(args: &Args, servers: &servers::Servers) -> bool {
    let installation = Installation::on(servers).await;
    let quiet = ("LOG_LEVEL", "warn,ffprobe_api=info");
    let (off, free) = installation.api(&[quiet]);
    let mut settings = LIMITS.to_vec();
    settings.push(quiet);
    let (on, limited) = installation.api(&settings);
    let tokens = limited.post("/api/v1/auth/token", &json!({"grant_type": "api_key"})).await;
    let bearer = limited.with_token(tokens.json["access_token"].as_str().expect("an access token"));
    let side = |name, api, http| Side { name, api, http, cpu: Duration::ZERO, calls: 0 };
    let mut sides = [
        side("neither key nor limits", &off, free.with_key(None)),
        side("a key, no limits", &off, free),
        side("a key and all limits", &on, limited),
        side("a token and all limits", &on, bearer),
    ];
    for round in 0..=args.rounds {
        for side in &mut sides {
            side.round(args.requests, servers.redis_url()).await;
            // the first round only warms up
            if round == 0 {
                (side.cpu, side.calls) = (Duration::ZERO, 0);
            }
        }
    }
    let all = (args.requests / AT_ONCE * AT_ONCE * args.rounds) as f64;
    let cost = |side: &Side<'_>| side.cpu.as_secs_f64() * 1e3 / all;
    println!("{:24} {:>12} {:>12} {:>18}", "request with", "CPU ms", "more than", "Redis round trips");
    for side in &sides {
        let (more, calls) = (cost(side) - cost(&sides[0]), side.calls as f64 / all);
        println!("{:24} {:>12.4} {more:>12.4} {calls:>18.3}", side.name, cost(side));
    }
    println!("a request by token costs {:.2} times one by key", cost(&sides[3]) / cost(&sides[2]));
    let keeps = |side: &Side<'_>| {
        let (more, calls) = (cost(side) - cost(&sides[0]), side.calls as f64 / all);
        println!("{}: {more:.3} ms of CPU (promised: at most {PROMISE_MS}), {calls:.2} round trips", side.name);
        more <= PROMISE_MS && calls <= 1.0
    };
    sides[2..].iter().filter(|side| !keeps(side)).count() == 0
}

/// A submission with and without a backlog of the same tenant, and the count that it takes now and then.
async fn backlog(args: &Args, servers: &servers::Servers) {
    let (empty, full) = (Installation::on(servers).await, Installation::on(servers).await);
    let sql =
        "insert into job (id, tenant_id, profile, lane, priority, path, roots, path_inside, max_attempts, rank_at)
        select gen_random_uuid(), t.id, 'standard', 'fast', 1, 'a', '{media}', 'a', 5, clock_timestamp()
        from tenant t, generate_series(1, $1) n";
    for _ in 0..args.jobs / 20_000 {
        sqlx::query(sql).bind(20_000).execute(&full.db).await.expect("fills");
    }
    let ((one, few), (two, many)) = (empty.api(&LIMITS), full.api(&LIMITS));
    let body = json!({"source": {"type": "path", "path": "a.mp4"}});
    let mut times = [Vec::new(), Vec::new()];
    let mut cpu = [cpu_of(one.pid()), cpu_of(two.pid())];
    for _ in 0..500 {
        for (http, times) in [&few, &many].into_iter().zip(&mut times) {
            let begun = Instant::now();
            let answer = http.post("/api/v1/jobs", &body).await;
            assert_eq!(answer.status, 202, "{}", answer.text);
            times.push(begun.elapsed());
        }
    }
    cpu = [cpu_of(one.pid()) - cpu[0], cpu_of(two.pid()) - cpu[1]];
    let tenant = sqlx::query_scalar("select id from tenant").fetch_one(&full.db).await.expect("a tenant");
    let mut counts = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        let counted = shared::store::job::count_queued(&full.db, tenant, 110_000).await.expect("counts");
        assert!(i64::from(counted) > args.jobs);
        counts.push(begun.elapsed());
    }
    let worst = times[1].iter().max().map_or(0.0, Duration::as_secs_f64) * 1e3;
    let [empty, full] = times.map(median);
    println!(
        "submit: {empty:.2} ms with none waiting, {full:.2} ms with {} (ratio {:.2}, worst {worst:.1} ms)",
        args.jobs,
        full / empty
    );
    println!("CPU of 500: {:?} and {:?}; one count of all that wait: {:.1} ms", cpu[0], cpu[1], median(counts));
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let (_private, own) = servers::own().await;
    let kept = requests(&args, &own).await;
    backlog(&args, &own).await;
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
