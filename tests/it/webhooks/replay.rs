//! Sending a range of events again, part by part: nothing is left out or taken twice, however much of it is not wanted.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use shared::id::{TenantId, WebhookId};
use shared::store::delivery::{self, Range};
use tests::Installation;

use super::{hook, id, tenant};

/// When the first event happened.
const BEGIN: &str = "2026-01-01T00:00:00Z";

/// Replays in parts of `limit`. How many events each part began.
async fn replay(installation: &Installation, tenant: TenantId, hook: WebhookId, limit: i64) -> Vec<i64> {
    let mut range = Range { since: BEGIN.parse::<DateTime<Utc>>().expect("an instant"), until: None };
    let mut parts = Vec::new();
    loop {
        let part = delivery::replay(&installation.db, tenant, hook, range, limit).await.expect("replays");
        parts.push(part.events);
        match part.more_since {
            None => return parts,
            Some(more) => {
                assert!(more > range.since, "it comes to an end");
                range.since = more;
            }
        }
    }
}

#[tokio::test]
async fn a_range_full_of_other_events_is_gone_through_in_parts() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let tenant = tenant(&installation, &http).await;
    let hook = id(&hook(&http, "https://example.com/hook", &["batch.completed"]).await.0);
    let sql = "insert into event (tenant_id, type, job_id, data, occurred_at, sequence)
        select $1, case when n % 1000 = 0 then 'batch.completed' else 'job.progress' end,
            case when n % 1000 <> 0 then gen_random_uuid() end, '{}', $2::text::timestamptz + n / 2 * interval '1 ms', n
            from generate_series(1, 200000) n";
    installation.fill(sqlx::query(sql).bind(tenant).bind(BEGIN)).await;
    let begun = Instant::now();
    let parts = replay(&installation, tenant, hook, 10_000).await;
    println!("200,000 events were gone through in {} parts within {:?}", parts.len(), begun.elapsed());
    assert_eq!((parts.len(), parts.iter().sum::<i64>()), (10, 200), "{parts:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let none = replay(&installation, tenant, hook, 10_000).await;
    assert_eq!(none.iter().sum::<i64>(), 0, "all of them wait already");
}

#[tokio::test]
async fn events_of_one_instant_are_taken_together() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let tenant = tenant(&installation, &http).await;
    let hook = id(&hook(&http, "https://example.com/hook", &["batch.completed"]).await.0);
    let sql = "insert into event (tenant_id, type, data, occurred_at, sequence)
        select $1, 'batch.completed', '{}', $2::text::timestamptz + n / 10 * interval '1 microsecond', n + 1
            from generate_series(0, 49) n";
    installation.fill(sqlx::query(sql).bind(tenant).bind(BEGIN)).await;
    assert_eq!(replay(&installation, tenant, hook, 7).await, [10, 10, 10, 10, 10, 0]);
}
