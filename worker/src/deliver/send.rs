//! One attempt: put the body together, sign it, post it, and read the beginning of the answer. Called by the deliverer. It
//! follows no redirect, and sends nothing anywhere but through `egress`.

use std::time::{Duration, SystemTime};

use futures::StreamExt;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use shared::Error;
use shared::delivery::{Ended, Unsent};
use shared::egress::{self, Answer, Body};
use shared::error::Result;
use shared::event::{Event, EventType};
use shared::id::TenantId;
use shared::store;
use shared::store::delivery::turn::{Attempted, Claimed};
use shared::webhook::{self, BODY_MAX_BYTES, Beside, RESPONSE_MAX_BYTES, Secret};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::Crew;
use super::fault::Faults;
use crate::Worker;

/// Longest time for one attempt, from the look-up of the name to the status of the answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time for the beginning of the answer's body, which decides nothing.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time from the first byte that is sent to the end.
pub(super) const LONGEST: Duration = ATTEMPT_TIMEOUT.saturating_add(RESPONSE_TIMEOUT);
/// When it is tried again if something could not be read, which passes by itself.
const SOON: Duration = Duration::from_secs(5);
/// When it is tried again if something could not be opened, which somebody must set right.
const LATER: Duration = Duration::from_secs(300);
/// Longest text of an error that is kept, in characters.
const ERROR_MAX_CHARS: usize = 500;
/// Which attempt it is, from 1; not signed.
const ATTEMPT_HEADER: HeaderName = HeaderName::from_static("webhook-attempt");

/// Sends a delivery once, if it can be made ready before `deadline`. How that ended, for better or worse.
///
/// # Errors
/// Why nothing was sent.
pub(super) async fn attempt(
    worker: &Worker,
    crew: &Crew,
    claimed: &Claimed,
    deadline: Instant,
) -> std::result::Result<Ended, Unsent> {
    let begun = Instant::now();
    let ready = timeout_at(deadline, prepare(worker, &crew.faults, claimed)).await;
    let (url, headers, body) = ready.unwrap_or_else(|_| {
        crew.faults.tell(claimed, &Error::unavailable("The database", "a message was not ready in time"));
        Err(Unsent::Fault("the service did not have the message ready in time", SOON))
    })?;
    let addresses = &crew.addresses;
    let sending = async {
        let way = addresses.find(&worker.remotes.egress, &url).await?;
        way.send(Method::POST, headers, body.into()).await
    };
    let answer = match timeout(ATTEMPT_TIMEOUT, sending).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error @ egress::Error::Busy(_))) => {
            crew.faults.tell(claimed, &Error::unavailable("The name service", error));
            return Err(Unsent::Fault("the service had no look-up free for the webhook's name", SOON));
        }
        Ok(Err(error)) => {
            addresses.forget(&url);
            return Ok(failed(begun, error.to_string()));
        }
        Err(_) => {
            addresses.forget(&url);
            return Ok(failed(begun, format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs())));
        }
    };
    Ok(read(begun, answer).await)
}

/// Everything that is sent, and where.
async fn prepare(
    worker: &Worker,
    faults: &Faults,
    claimed: &Claimed,
) -> std::result::Result<(Url, HeaderMap, String), Unsent> {
    let fault = |reason, wait| {
        move |error: Error| {
            faults.tell(claimed, &error);
            Unsent::Fault(reason, wait)
        }
    };
    let read = put_together(worker, claimed).await;
    let (event, body) =
        read.map_err(fault("the service could not read what is to be sent", SOON))?.ok_or(Unsent::Void)?;
    let sealed = claimed.url.as_deref().ok_or(Unsent::Void)?;
    let opened = open(worker, claimed.tenant, sealed)
        .and_then(|url| Ok((url, sign(worker, claimed, &event, body.as_bytes())?)))
        .map_err(fault("the service cannot open the webhook's address or secret", LATER))?;
    Ok((opened.0, opened.1, body))
}

/// The whole URL. One that this build does not take any more is our own fault, not the endpoint's.
fn open(worker: &Worker, tenant: TenantId, sealed: &[u8]) -> Result<Url> {
    let plain = worker.keys.open(tenant, sealed).map_err(Error::internal)?;
    egress::parse(&String::from_utf8(plain).map_err(Error::internal)?).map_err(Error::internal)
}

/// The event and the body that tells of it; none if it was erased meanwhile.
async fn put_together(worker: &Worker, claimed: &Claimed) -> Result<Option<(Event, String)>> {
    let mut db = worker.db.acquire().await?;
    let Some(event) = store::event::find(&mut db, claimed.event_number).await? else { return Ok(None) };
    let mut beside = Beside { metadata: claimed.metadata.clone().map(|json| json.0), ..Beside::default() };
    if let Some(job) = event.job().filter(|_| event.kind == EventType::JobSucceeded) {
        // PostgreSQL writes JSON with more spaces than we do; what is really too large is seen to afterwards
        let most = i64::try_from(2 * BODY_MAX_BYTES).unwrap_or(i64::MAX);
        beside.media = store::result::find_media(&mut *db, job, most).await?;
        beside.result_url = Some(format!("{}/api/v1/jobs/{job}/result", worker.base_url));
    }
    let body = webhook::body(&event, &beside).map_err(Error::internal)?;
    Ok(Some((event, body)))
}

/// The headers, with a signature of every secret that is in force.
fn sign(worker: &Worker, claimed: &Claimed, event: &Event, body: &[u8]) -> Result<HeaderMap> {
    let id = event.id.to_string();
    let now = chrono::Utc::now().timestamp();
    let mut signatures = Vec::with_capacity(claimed.secrets.len());
    for sealed in &claimed.secrets {
        let plain = worker.keys.open(claimed.tenant, sealed).map_err(Error::internal)?;
        let secret = Secret::from_bytes(plain).ok_or_else(|| Error::internal("a secret that is none"))?;
        signatures.push(secret.sign(&id, now, body).ok_or_else(|| Error::internal("a secret that is not base64"))?);
    }
    if signatures.is_empty() {
        return Err(Error::internal("no secret to sign with"));
    }
    let value = |text: &str| HeaderValue::from_str(text).map_err(Error::internal);
    Ok(HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("webhook-id"), value(&id)?),
        (HeaderName::from_static("webhook-timestamp"), HeaderValue::from(now)),
        (HeaderName::from_static("webhook-signature"), value(&signatures.join(" "))?),
        (ATTEMPT_HEADER, HeaderValue::from(claimed.attempts)),
    ]))
}

/// What an answer says. Only 2xx is a success; a redirect is none, because nobody checked where it leads.
async fn read(begun: Instant, answer: Answer) -> Ended {
    let latency = begun.elapsed();
    let status = answer.status;
    let error = match status.as_u16() {
        200..=299 => None,
        300..=399 => {
            Some(format!("the endpoint answered {status}; redirects are not followed, name the final address"))
        }
        _ => Some(format!("the endpoint answered {status}")),
    };
    let asked = answer.headers.get(RETRY_AFTER).filter(|_| error.is_some()).and_then(|value| value.to_str().ok());
    let retry_after = asked.and_then(|text| retry_after(text, SystemTime::now()));
    let response = beginning(answer.body).await;
    let status = i16::try_from(status.as_u16()).ok();
    Ended { attempted: Attempted { status, error, latency, response: Some(response) }, retry_after }
}

/// The beginning of a body, as text that PostgreSQL can hold. What comes after it is not read: the connection is closed.
async fn beginning(mut body: Body) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while bytes.len() < RESPONSE_MAX_BYTES {
            let Some(Ok(chunk)) = body.next().await else { break };
            bytes.extend_from_slice(&chunk[..chunk.len().min(RESPONSE_MAX_BYTES - bytes.len())]);
        }
    };
    // what came in time is kept
    let _ = timeout(RESPONSE_TIMEOUT, reading).await;
    String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}")
}

/// How long an endpoint wants to be left alone (RFC 9110 section 10.2.3): seconds, or an instant.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).ok()
}

fn failed(begun: Instant, error: String) -> Ended {
    let error = error.chars().filter(|c| *c != '\0').take(ERROR_MAX_CHARS).collect();
    let attempted = Attempted { status: None, error: Some(error), latency: begun.elapsed(), response: None };
    Ended { attempted, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_be_left_alone_is_read_in_both_forms() {
        let now = httpdate::parse_http_date("Tue, 01 Oct 2024 10:00:00 GMT").unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("4294967295", Some(4_294_967_295)),
            ("Tue, 01 Oct 2024 10:01:00 GMT", Some(60)),
            ("Tue, 01 Oct 2024 09:59:00 GMT", None),
            ("99999999999", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_read_no_further_than_it_is_kept() {
        let endless = futures::stream::repeat_with(|| Ok(vec![b'x'; 3_000].into()));
        assert_eq!(beginning(endless.boxed()).await.len(), RESPONSE_MAX_BYTES);
        let odd = futures::stream::iter([Ok(b"a\0\xff".to_vec().into())]);
        assert_eq!(beginning(odd.boxed()).await, "a\u{fffd}\u{fffd}");
    }
}
