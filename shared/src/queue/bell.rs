//! The doorbell: Redis pub/sub that says "look at PostgreSQL now instead of in a second". Nobody believes its message;
//! a bell that is not heard costs a second, one that rings for nothing costs a query.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, RedisResult};
use tokio::sync::{broadcast, watch};
use tokio::time::interval;

use super::line::within;
use super::{CALL_TIMEOUT, Queue};
use crate::id::{JobId, TenantId, UploadId};

/// Wait before subscribing again after the connection broke.
const RECONNECT: Duration = Duration::from_secs(1);
/// How often a silent connection is asked for a sign of life: one to a server that stands still never breaks.
const PING: Duration = Duration::from_secs(2);

/// What a bell says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bell {
    /// There may be work for the relay.
    Wake,
    /// This job has ended.
    Done(JobId),
    /// Somebody wants this job canceled.
    Cancel(JobId),
    /// Somebody wants this upload: whoever receives its bytes stores them and lets go.
    Release(UploadId),
    /// Who may do what in this tenant has changed: forget what is remembered of it.
    Access(TenantId),
    /// Events were published: whoever streams them reads on.
    Published,
    /// Never sent: bells may have been missed, so look at everything.
    Missed,
}

impl fmt::Display for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wake => f.write_str("wake"),
            Self::Done(id) => write!(f, "done {id}"),
            Self::Cancel(id) => write!(f, "cancel {id}"),
            Self::Release(id) => write!(f, "release {id}"),
            Self::Access(id) => write!(f, "access {id}"),
            Self::Published => f.write_str("published"),
            Self::Missed => f.write_str("missed"),
        }
    }
}

impl FromStr for Bell {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(' ') {
            None if text == "wake" => Ok(Self::Wake),
            None if text == "published" => Ok(Self::Published),
            Some(("done", id)) => id.parse().map(Self::Done).map_err(drop),
            Some(("cancel", id)) => id.parse().map(Self::Cancel).map_err(drop),
            Some(("release", id)) => id.parse().map(Self::Release).map_err(drop),
            Some(("access", id)) => id.parse().map(Self::Access).map_err(drop),
            _ => Err(()),
        }
    }
}

/// Hands every bell of the installation to `ears`, for ever. After each time the connection was away it says
/// [`Bell::Missed`]; `hearing` tells whether it is there now. Run it as a task of its own.
pub async fn listen(queue: Queue, ears: broadcast::Sender<Bell>, hearing: watch::Sender<bool>) {
    let mut heard_of = false;
    loop {
        match subscribe(&queue).await {
            Ok(ear) => {
                if heard_of {
                    tracing::info!("listening to Redis again");
                }
                heard_of = false;
                hearing.send_replace(true);
                // an error means that nobody listens just now, which is no reason to stop
                let _ = ears.send(Bell::Missed);
                ear.hear(&queue, &ears).await;
                hearing.send_replace(false);
            }
            Err(error) if !heard_of => {
                heard_of = true;
                // a server without TLS takes a greeting for the beginning of a command, and waits for the rest
                if error.is_timeout() && queue.line.is_by_tls() {
                    tracing::warn!(
                        %error,
                        "cannot listen to Redis: it does not answer by TLS; does it listen with TLS at this port? PostgreSQL is \
                         asked every second instead"
                    );
                } else {
                    tracing::warn!(%error, "cannot listen to Redis; PostgreSQL is asked every second instead");
                }
            }
            Err(_) => {}
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// A subscription to the bells.
struct Ear {
    sink: PubSubSink,
    messages: PubSubStream,
    to: Client,
}

async fn subscribe(queue: &Queue) -> RedisResult<Ear> {
    within(CALL_TIMEOUT, async {
        let to = queue.line.primary().await.client;
        let (mut sink, messages) = to.get_async_pubsub().await?.split();
        sink.subscribe(&queue.channel).await?;
        Ok(Ear { sink, messages, to })
    })
    .await
}

impl Ear {
    /// Passes bells on until the connection breaks, falls silent, or leads to a server that is not the primary any more.
    async fn hear(mut self, queue: &Queue, ears: &broadcast::Sender<Bell>) {
        let mut tick = interval(PING);
        loop {
            tokio::select! {
                message = self.messages.next() => {
                    let Some(message) = message else { return };
                    if let Some(bell) = message.get_payload::<String>().ok().and_then(|p| p.parse().ok()) {
                        let _ = ears.send(bell);
                    }
                }
                _ = tick.tick() => {
                    if within(CALL_TIMEOUT, self.sink.ping::<redis::Value>()).await.is_err() {
                        return;
                    }
                }
                () = queue.line.moved_from(&self.to) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bells_survive_the_trip() {
        let (job, upload, tenant) = (JobId::new(), UploadId::new(), TenantId::new());
        for bell in [
            Bell::Wake,
            Bell::Published,
            Bell::Done(job),
            Bell::Cancel(job),
            Bell::Release(upload),
            Bell::Access(tenant),
        ] {
            assert_eq!(bell.to_string().parse(), Ok(bell));
        }
        for noise in ["", "missed", "done", "done x", "wake up"] {
            assert_eq!(noise.parse::<Bell>(), Err(()), "{noise}");
        }
    }
}
