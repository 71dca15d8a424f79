//! Asks the sentinels which server is the primary, for as long as the line lives, and tells the line when it is another.
//! Started by `line`. It never believes a server about itself over the sentinels, nor one sentinel over a newer one: an
//! old primary that comes back thinks for seconds that it is still in charge.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use redis::aio::ConnectionManager;
use redis::{Client, ConnectionAddr, ErrorKind, RedisError, RedisResult, Role};
use tokio::sync::watch;
use tokio::time::sleep;

use super::CALL_TIMEOUT;
use super::line::{Primary, address, connection, within};
use crate::config::RedisDoor;

/// How often the sentinels are asked. A failover takes them seconds; noticing it should not add one.
const LOOK: Duration = Duration::from_millis(500);
/// How long one sentinel may take. The others are not believed before: the slow one may know better.
const PATIENCE: Duration = Duration::from_millis(500);

/// Those who know the primary.
pub(super) struct Sentinels {
    connections: Vec<ConnectionManager>,
    master: String,
    door: RedisDoor,
}

impl Sentinels {
    /// Connects when first used.
    pub(super) fn new(clients: &[Client], master: String, door: RedisDoor) -> RedisResult<Self> {
        let connections = clients.iter().map(|client| connection(client, PATIENCE)).collect::<RedisResult<_>>()?;
        Ok(Self { connections, master, door })
    }

    /// Asks until nobody wants to know any more.
    pub(super) async fn follow(self, tell: watch::Sender<Option<Primary>>) {
        let mut troubled = false;
        loop {
            let known = tell.borrow().as_ref().map(|now| address(&now.client).clone());
            match self.look(known.as_ref()).await {
                Ok(found) => {
                    troubled = false;
                    if let Some(primary) = found {
                        tracing::info!(address = %address(&primary.client), "the Redis primary is here now");
                        tell.send_replace(Some(primary));
                    }
                }
                Err(error) if !troubled => {
                    troubled = true;
                    tracing::warn!(
                        %error,
                        "the sentinels lead to no Redis primary; if it stays so, look at them, and at REDIS_SENTINELS, \
                         REDIS_SENTINEL_MASTER and the two passwords"
                    );
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tell.closed() => return,
                () = sleep(LOOK) => {}
            }
        }
    }

    /// The primary, if it is another than the one known. All are asked: one that slept through a failover, or sits in
    /// the smaller part of a split network, still names the old primary, but with an older epoch.
    async fn look(&self, known: Option<&ConnectionAddr>) -> RedisResult<Option<Primary>> {
        let answers = join_all(self.connections.iter().map(|sentinel| ask(sentinel.clone(), &self.master))).await;
        let newest = answers.into_iter().max_by_key(|answer| answer.as_ref().ok().map(|(epoch, ..)| *epoch));
        let Some((_, host, port)) = newest.transpose()? else { return Ok(None) };
        let address = self.door.address(host, port);
        if known == Some(&address) {
            return Ok(None);
        }
        let primary = Primary::at(self.door.open(address)?)?;
        let (role, mut commands) = (redis::cmd("ROLE"), primary.commands.clone());
        match within(CALL_TIMEOUT, role.query_async::<Role>(&mut commands)).await? {
            Role::Primary { .. } => Ok(Some(primary)),
            _ => Err(RedisError::from((ErrorKind::Client, "the server they name is a replica"))),
        }
    }
}

/// The address a sentinel gives, and the epoch of the failover that made it so.
async fn ask(mut sentinel: ConnectionManager, master: &str) -> RedisResult<(u64, String, u16)> {
    // during a failover the first answer has the new address some time before the second one
    let mut both = redis::pipe();
    both.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).cmd("SENTINEL").arg("MASTER").arg(master);
    let asked = both.query_async::<((String, u16), HashMap<String, String>)>(&mut sentinel);
    let ((host, port), state) = within(PATIENCE, asked).await?;
    let epoch = state.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    Ok((epoch, host, port))
}
