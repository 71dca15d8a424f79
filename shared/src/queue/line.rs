//! The line to the Redis that is the primary now. An address that always leads there makes it simple; with Sentinel the
//! primary moves, so whatever hangs on the old one is cut off: a demoted or partitioned server may keep its connections
//! for ever. The queue, the doorbell and the apalis workers all hang on one [`Line`]. It never waits without a bound.

use std::future::pending;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ConnectionAddr, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::sentinel::Sentinels;
use super::{APALIS_TIMEOUT, CALL_TIMEOUT};
use crate::config::RedisEndpoint;

/// How long a new apalis worker waits for its primary before its supervisor hears of it: most failovers fit into it, and
/// a drain does not notice it.
const TETHER_PATIENCE: Duration = Duration::from_secs(3);
/// Wait between two attempts within that time.
const TETHER_PAUSE: Duration = Duration::from_millis(100);

/// Leads to the present primary.
#[derive(Clone)]
pub(super) struct Line {
    present: watch::Receiver<Option<Primary>>,
}

/// A server that is or was the primary.
#[derive(Clone)]
pub(super) struct Primary {
    /// For connections of another kind.
    pub(super) client: Client,
    /// The connection for commands of ours.
    pub(super) commands: ConnectionManager,
}

impl Line {
    /// Connects when first used. With sentinels it asks them from now on, on the runtime it is called in.
    pub(super) fn new(endpoint: RedisEndpoint) -> RedisResult<Self> {
        let (tell, present) = watch::channel(None);
        match endpoint {
            RedisEndpoint::Fixed(client) => drop(tell.send_replace(Some(Primary::at(client)?))),
            RedisEndpoint::Sentinels { sentinels, master, door } => {
                tokio::spawn(Sentinels::new(&sentinels, master, door)?.follow(tell));
            }
        }
        Ok(Self { present })
    }

    /// The present primary; waits while none is known.
    pub(super) async fn primary(&self) -> Primary {
        let mut present = self.present.clone();
        loop {
            if let Some(primary) = present.borrow_and_update().clone() {
                return primary;
            }
            if present.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Whether the present primary is spoken to by TLS.
    pub(super) fn is_by_tls(&self) -> bool {
        let by_tls = |primary: &Primary| matches!(address(&primary.client), ConnectionAddr::TcpTls { .. });
        self.present.borrow().as_ref().is_some_and(by_tls)
    }

    /// Comes true when another server than this is the primary.
    pub(super) async fn moved_from(&self, server: &Client) {
        let another = |now: &Option<Primary>| now.as_ref().is_some_and(|now| address(&now.client) != address(server));
        // an error: nobody will ever tell, because the address is fixed
        if self.present.clone().wait_for(another).await.is_err() {
            pending::<()>().await;
        }
    }

    /// What a server answers, as long as it is the primary.
    async fn unless_moved<T>(&self, server: &Client, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        tokio::select! {
            biased;
            () = self.moved_from(server) => {
                Err(RedisError::from(std::io::Error::other("another server is the Redis primary now")))
            }
            answer = answer => answer,
        }
    }

    /// A connection of its own for one apalis worker. Waits a little for a primary that answers.
    pub(super) async fn tether(&self) -> RedisResult<Tether> {
        let until = Instant::now() + TETHER_PATIENCE;
        loop {
            let attempt = async {
                let to = self.primary().await.client;
                let mut commands = connection(&to, APALIS_TIMEOUT)?;
                redis::cmd("PING").query_async::<String>(&mut commands).await?;
                Ok(Tether { line: self.clone(), to, commands })
            };
            match within(CALL_TIMEOUT, attempt).await {
                Err(_) if Instant::now() < until => sleep(TETHER_PAUSE).await,
                outcome => return outcome,
            }
        }
    }
}

/// Commands of ours. Each is bounded, from waiting for a primary to its answer.
impl ConnectionLike for Line {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(within(CALL_TIMEOUT, async move {
            let Primary { client, mut commands } = self.primary().await;
            self.unless_moved(&client, commands.req_packed_command(cmd)).await
        }))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(within(CALL_TIMEOUT, async move {
            let Primary { client, mut commands } = self.primary().await;
            self.unless_moved(&client, commands.req_packed_commands(cmd, offset, count)).await
        }))
    }

    fn get_db(&self) -> i64 {
        self.present.borrow().as_ref().map_or(0, |primary| primary.commands.get_db())
    }
}

impl Primary {
    /// A server, connected to when first used.
    pub(super) fn at(client: Client) -> RedisResult<Self> {
        Ok(Self { commands: connection(&client, CALL_TIMEOUT)?, client })
    }
}

/// An apalis worker's connection. It breaks as soon as its server is not the primary any more, in the middle of a call
/// if need be: a partitioned server would be waited for, one that came back would be believed.
#[derive(Clone)]
pub struct Tether {
    line: Line,
    to: Client,
    commands: ConnectionManager,
}

impl ConnectionLike for Tether {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.line.unless_moved(&self.to, self.commands.req_packed_command(cmd)))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(self.line.unless_moved(&self.to, self.commands.req_packed_commands(cmd, offset, count)))
    }

    fn get_db(&self) -> i64 {
        self.commands.get_db()
    }
}

/// Where a client leads.
pub(super) fn address(client: &Client) -> &ConnectionAddr {
    client.get_connection_info().addr()
}

/// The answer, or an error when it takes too long.
pub(super) async fn within<T>(limit: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(late) => Err(std::io::Error::from(late).into()),
    }
}

/// A connection that comes back by itself, to this server and no other.
pub(super) fn connection(to: &Client, response_timeout: Duration) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(response_timeout))
        .set_connection_timeout(Some(CALL_TIMEOUT.min(response_timeout)))
        .set_number_of_retries(1)
        .set_max_delay(Duration::from_millis(500));
    ConnectionManager::new_lazy_with_config(to.clone(), config)
}
