//! An object at a URL: single range requests through `egress`, the first of which follows redirects. Made by the worker's
//! probe. Connects nowhere but through `egress`, and never asks the name server again for an origin it was led to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, IF_MATCH};
use shared::egress::{self, Answer, Egress, Get, Pinned, Verb};
use shared::job::FailureCode;
use url::Url;

use super::answer;
use super::fault::Fault;
use super::origin::{Body, Object, OpenBody, Opened, Origin, Part, Validator};

/// An object at a URL.
pub struct UrlOrigin {
    egress: Arc<Egress>,
    url: Url,
    /// The client's own, which stay behind when a redirect leaves the origin.
    headers: HeaderMap,
    /// Where redirects led, with the addresses that were checked.
    pinned: Mutex<Option<Pinned>>,
}

impl UrlOrigin {
    /// The object at `url`, asked for with the client's `headers`, which `shared::egress::headers` checked.
    pub fn new(egress: Arc<Egress>, url: Url, headers: HeaderMap) -> Self {
        Self { egress, url, headers, pinned: Mutex::new(None) }
    }

    /// Asks at the client's URL and remembers who answered.
    async fn follow(&self, from: u64, until: u64) -> Result<Answer, Fault> {
        let range = Some(from..=until.saturating_sub(1));
        let get = Get { url: self.url.clone(), verb: Verb::Get, headers: self.headers.clone(), range };
        let answer = self.egress.follow(get).await.map_err(fault)?;
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.pinned.clone());
        Ok(answer)
    }

    /// Asks whoever answered last. An address that was redirected to may be signed for some minutes only: once it is
    /// refused, the client's URL gives a fresh one.
    async fn again(&self, object: &Object, from: u64, until: u64) -> Result<Answer, Fault> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(pinned) = pinned else { return self.follow(from, until).await };
        let mut headers = HeaderMap::new();
        if let Validator::Tag(tag) = &object.validator
            && let Ok(tag) = HeaderValue::from_str(tag)
        {
            headers.insert(IF_MATCH, tag);
        }
        let answer = pinned.get(Some(from..=until.saturating_sub(1)), headers).await.map_err(fault)?;
        let refused = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::GONE);
        if refused && *pinned.url() != self.url { self.follow(from, until).await } else { Ok(answer) }
    }
}

impl Origin for UrlOrigin {
    fn open(&self, length: u64) -> BoxFuture<'_, Result<Opened, Fault>> {
        async move {
            let answer = self.follow(0, length).await?;
            let first = answer::first(answer.status, &answer.headers, self.url.path(), length, SystemTime::now())?;
            let body = body(answer);
            let body = match first.until {
                Some(until) => OpenBody::First { until, body },
                None => OpenBody::Whole(body),
            };
            Ok(Opened { object: first.object, body })
        }
        .boxed()
    }

    fn read<'a>(&'a self, object: &'a Object, from: u64, until: u64) -> BoxFuture<'a, Result<Part, Fault>> {
        async move {
            let answer = self.again(object, from, until).await?;
            let until = answer::part(answer.status, &answer.headers, object, from, until, SystemTime::now())?;
            Ok(Part { until, body: body(answer) })
        }
        .boxed()
    }
}

fn body(answer: Answer) -> Body {
    answer.body.map(|bytes| bytes.map_err(fault)).boxed()
}

fn fault(error: egress::Error) -> Fault {
    let code = error.code();
    match code {
        FailureCode::ConnectFailed | FailureCode::ConnectionLost | FailureCode::DnsError => {
            Fault::passing(code, error.to_string())
        }
        _ => Fault::last(code, error.to_string()),
    }
}
