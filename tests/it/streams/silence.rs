//! A PostgreSQL that is gone without a word: nothing comes back on the connections that are open, and nobody closes them.

use std::time::{Duration, Instant};

use reqwest::Method;
use shared::access::{Reach, Role};
use shared::store::PATIENCE;
use tests::http::Answer;
use tests::line::Line;
use tests::sse::Sse;
use tests::{Http, Installation};

use super::{EVENTS, submit, tenant_of};
use crate::recovery::until;

/// Until everything works again: what the API waits for an answer, and some seconds to begin anew.
const SOON: Duration = Duration::from_secs(18);

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_answered_though_postgres_vanished() {
    let installation = Installation::new().await;
    let line = Line::to(&installation.application_url(), installation.folder());
    let (_api, http) = installation.api(&[("DATABASE_URL", &line.url)]);
    let (tenant, job) = (tenant_of(&http).await, submit(&http, "/nowhere.wav").await);
    let mut stream = Sse::open(&http, EVENTS, None).await;
    let waits = tokio::spawn({
        let (http, path) = (http.clone(), format!("/api/v1/jobs/{job}?wait=30"));
        async move { http.get(&path).await }
    });
    let key = http.with_key(Some(&installation.key_of(tenant, Role::Viewer, Reach::Tenant, None).await.1));
    // who waits knows the job by then
    tokio::time::sleep(Duration::from_secs(1)).await;
    // every part of the API that asks by itself waits for an answer
    let mut lock = installation.db.begin().await.expect("begins");
    let sql = "lock table job, event, api_key in access exclusive mode";
    sqlx::query(sql).execute(&mut *lock).await.expect("locks");
    let asks = tokio::spawn(async move {
        loop {
            // those before are refused within the second that PostgreSQL lets them wait
            let (begun, answer) = (Instant::now(), key.get("/api/v1/auth/me").await);
            if begun.elapsed() > Duration::from_secs(3) {
                return answer;
            }
        }
    });
    until("the reader, the waiting and the look-up of a key wait for an answer", async || {
        let sql = "select count(*) filter (where query like '%from event %') > 0
                and count(*) filter (where query like '%join job%') > 0
                and count(*) filter (where query like '%where k.public_id%') > 0
            from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        sqlx::query_scalar(sql).fetch_one(&installation.db).await.expect("looks")
    })
    .await;
    line.fall_silent();
    lock.rollback().await.expect("lets go");
    let begun = Instant::now();
    let sql = "update job set state = 'canceled', finished_at = clock_timestamp() where id = $1::uuid";
    sqlx::query(sql).bind(&job).execute(&installation.db).await.expect("ends the job");
    asks.await.expect("an answer").problem(503, "unavailable");
    println!("the look-up of a key was given up after {:?}", begun.elapsed());
    while stream.next().await.expect("goes on").kind != "job.canceled" {}
    println!("the event came after {:?}", begun.elapsed());
    let answer = waits.await.expect("an answer");
    println!("who waited was answered after {:?}", begun.elapsed());
    assert_eq!(answer.json["state"], "canceled", "{}", answer.text);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_answered_though_postgres_vanished() {
    let installation = Installation::new().await;
    let line = Line::to(&installation.application_url(), installation.folder());
    let (_api, http) = installation.api(&[("DATABASE_URL", &line.url)]);
    let create = http.request(Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0");
    let created = Answer::of(create.header("upload-length", "3")).await;
    let place = created.header("location").to_owned();
    let path = place[place.find("/api/").expect("a path")..].to_owned();
    let append = async |http: &Http| {
        let request = http.request(Method::PATCH, &path).header("tus-resumable", "1.0.0").header("upload-offset", "0");
        Answer::of(request.header("content-type", "application/offset+octet-stream").body("abc")).await
    };
    let mut lock = installation.db.begin().await.expect("begins");
    sqlx::query("lock table upload in access exclusive mode").execute(&mut *lock).await.expect("locks");
    let (appending, waiting) = tokio::join!(append(&http), async {
        until("the request waits for its upload", async || {
            let sql = "select exists (select from pg_stat_activity where datname = current_database()
                and wait_event_type = 'Lock' and query like '%upload%')";
            sqlx::query_scalar(sql).fetch_one(&installation.db).await.expect("looks")
        })
        .await;
        line.fall_silent();
        lock.rollback().await.expect("lets go");
        Instant::now()
    });
    appending.problem(503, "unavailable");
    println!("the upload was given up after {:?}", waiting.elapsed());
    assert!((PATIENCE / 2..SOON).contains(&waiting.elapsed()), "{:?}", waiting.elapsed());
    // what PostgreSQL did without telling us holds nobody up for long
    until("the upload goes on", async || append(&http).await.status == 204).await;
}
