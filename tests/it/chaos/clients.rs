//! Clients of a storm: they submit jobs over HTTP at a steady pace to whichever API is there, and count as accepted what
//! was answered with 202, nothing else. Now and then they do not want a job any more. Used by the storm.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::Http;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::cast::Doors;

/// How many submit at once.
const CLIENTS: usize = 4;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Wait after a request that was not accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// One in so many jobs is canceled a moment after it was accepted.
const CANCELED: usize = 50;

/// What they did so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Jobs that were answered with 202.
    pub(super) accepted: Vec<Uuid>,
    /// Requests that were answered with something else, by status.
    pub(super) refused: Vec<u16>,
    /// Requests without an answer: the job may be there or not.
    pub(super) unanswered: usize,
}

/// Clients at work.
pub(super) struct Clients {
    tasks: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
}

impl Clients {
    /// Starts to submit `jobs` jobs within about `length`, each with one of these sources.
    pub(super) fn start(doors: &Doors, sources: &[Value], jobs: usize, length: Duration) -> Self {
        let (begun, tally, next) = (Instant::now(), Arc::<Mutex<Tally>>::default(), Arc::<AtomicUsize>::default());
        let pace = length / u32::try_from(jobs).expect("fits");
        let mut tasks = JoinSet::new();
        for _ in 0..CLIENTS {
            let (doors, sources, tally, next) =
                (Arc::clone(doors), sources.to_vec(), Arc::clone(&tally), Arc::clone(&next));
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= jobs {
                        return;
                    }
                    sleep_until(begun + pace * u32::try_from(number).expect("fits")).await;
                    let (door, job) = submit(&doors, &sources[number % sources.len()], number, &tally).await;
                    if number % CANCELED == 0 {
                        sleep(PAUSE).await;
                        let cancel = door.request(Method::POST, &format!("/api/v1/jobs/{job}/cancel")).send();
                        // it may have ended, and the API may be away; what matters is that the job ends one way or another
                        let _ = timeout(PATIENCE, cancel).await;
                    }
                }
            });
        }
        Self { tasks, tally }
    }

    /// How many jobs were accepted so far.
    pub(super) fn accepted(&self) -> usize {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).accepted.len()
    }

    /// Waits until all are accepted.
    pub(super) async fn done(mut self) -> Tally {
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client ends well");
        }
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Asks one API after the other until one accepts. Returns which one, and the job.
async fn submit(doors: &Doors, source: &Value, number: usize, tally: &Mutex<Tally>) -> (Http, Uuid) {
    let mut turn = number;
    loop {
        turn += 1;
        let http: Http = {
            let doors = doors.read().unwrap_or_else(PoisonError::into_inner);
            doors[turn % doors.len()].clone()
        };
        let priority = ["high", "normal", "normal", "low"][number % 4];
        let body = json!({"source": source, "priority": priority});
        let answer = timeout(PATIENCE, ask(&http, &body)).await;
        {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(Ok((StatusCode::ACCEPTED, job))) => {
                    let id = job["id"].as_str().and_then(|id| id.parse().ok()).expect("an accepted job has an id");
                    tally.accepted.push(id);
                    return (http, id);
                }
                Ok(Ok((status, _))) => tally.refused.push(status.as_u16()),
                Ok(Err(_)) | Err(_) => tally.unanswered += 1,
            }
        }
        sleep(PAUSE).await;
    }
}

async fn ask(http: &Http, body: &Value) -> reqwest::Result<(StatusCode, Value)> {
    let response = http.request(Method::POST, "/api/v1/jobs").json(body).send().await?;
    Ok((response.status(), response.json().await?))
}
