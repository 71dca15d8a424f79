//! The doorbell: Redis pub/sub that says "look at PostgreSQL now instead of in a second". Nobody believes its message;
//! a bell that is not heard costs a second, one that rings for nothing costs a query.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{broadcast, watch};

use super::Queue;
use crate::id::JobId;

/// Wait before subscribing again after the connection broke.
const RECONNECT: Duration = Duration::from_secs(1);

/// What a bell says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bell {
    /// There may be work for the relay.
    Wake,
    /// This job has ended.
    Done(JobId),
    /// Somebody wants this job canceled.
    Cancel(JobId),
    /// Never sent: bells may have been missed, so look at everything.
    Missed,
}

impl fmt::Display for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wake => f.write_str("wake"),
            Self::Done(id) => write!(f, "done {id}"),
            Self::Cancel(id) => write!(f, "cancel {id}"),
            Self::Missed => f.write_str("missed"),
        }
    }
}

impl FromStr for Bell {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(' ') {
            None if text == "wake" => Ok(Self::Wake),
            Some(("done", id)) => id.parse().map(Self::Done).map_err(drop),
            Some(("cancel", id)) => id.parse().map(Self::Cancel).map_err(drop),
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
            Ok(mut messages) => {
                if heard_of {
                    tracing::info!("listening to Redis again");
                }
                heard_of = false;
                hearing.send_replace(true);
                // an error means that nobody listens just now, which is no reason to stop
                let _ = ears.send(Bell::Missed);
                while let Some(message) = messages.next().await {
                    if let Some(bell) = message.get_payload::<String>().ok().and_then(|p| p.parse().ok()) {
                        let _ = ears.send(bell);
                    }
                }
                hearing.send_replace(false);
            }
            Err(error) if !heard_of => {
                heard_of = true;
                tracing::warn!(%error, "cannot listen to Redis; PostgreSQL is asked every second instead");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn subscribe(queue: &Queue) -> redis::RedisResult<redis::aio::PubSubStream> {
    let mut pubsub = queue.client.get_async_pubsub().await?;
    pubsub.subscribe(&queue.channel).await?;
    Ok(pubsub.into_on_message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bells_survive_the_trip() {
        for bell in [Bell::Wake, Bell::Done(JobId::new()), Bell::Cancel(JobId::new())] {
            assert_eq!(bell.to_string().parse(), Ok(bell));
        }
        for noise in ["", "missed", "done", "done x", "wake up"] {
            assert_eq!(noise.parse::<Bell>(), Err(()), "{noise}");
        }
    }
}
