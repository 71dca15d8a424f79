//! Origins whose host was resolved and checked lately, with their open connections. Used by the sender. What it gives leads to
//! the addresses that were checked and to no other; after some seconds they are looked up and checked anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::egress::{Egress, Error, Pinned};
use tokio::time::Instant;
use url::{Origin, Url};

/// How long a look-up is believed.
const AGE: Duration = Duration::from_secs(30);
/// Most origins that are remembered.
const MOST: usize = 256;

/// Ways to origins: the URLs of jobs differ in their paths, and share a connection all the same.
#[derive(Default)]
pub(super) struct Addresses(Mutex<HashMap<Origin, (Instant, Pinned)>>);

impl Addresses {
    /// The way to `url`.
    pub(super) async fn find(&self, egress: &Egress, url: &Url) -> Result<Pinned, Error> {
        let origin = url.origin();
        let known = self.lock().get(&origin).filter(|(at, _)| at.elapsed() < AGE).and_then(|(_, way)| way.to(url));
        if let Some(pinned) = known {
            return Ok(pinned);
        }
        let pinned = egress.pin_for_message(url).await?;
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (at, _)| at.elapsed() < AGE);
        }
        if known.len() >= MOST
            && let Some(oldest) = known.iter().min_by_key(|(_, (at, _))| *at).map(|(origin, _)| origin.clone())
        {
            known.remove(&oldest);
        }
        known.insert(origin, (Instant::now(), pinned.clone()));
        Ok(pinned)
    }

    /// Forgets a way that led nowhere.
    pub(super) fn forget(&self, url: &Url) {
        self.lock().remove(&url.origin());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Origin, (Instant, Pinned)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use shared::config::EgressArgs;

    use super::*;

    #[derive(Parser)]
    struct Settings {
        #[command(flatten)]
        egress: EgressArgs,
    }

    #[tokio::test]
    async fn an_origin_is_looked_up_once_and_the_oldest_makes_room() {
        let arguments = ["test", "--egress-schemes", "http", "--egress-allow-cidrs", "127.0.0.1/32:1-65535"];
        let egress = Egress::new(Settings::parse_from(arguments).egress.settings().unwrap()).unwrap();
        let addresses = Addresses::default();
        let url = |port: usize, path: &str| Url::parse(&format!("http://127.0.0.1:{port}{path}")).unwrap();
        for path in ["/a", "/b?c", "/d"] {
            let way = addresses.find(&egress, &url(1000, path)).await.unwrap();
            assert_eq!(way.url(), &url(1000, path), "each URL is asked itself");
        }
        assert_eq!(addresses.lock().len(), 1);
        for port in 1001..=1000 + MOST {
            addresses.find(&egress, &url(port, "/")).await.unwrap();
        }
        let known = |port| addresses.lock().contains_key(&url(port, "/").origin());
        assert!(!known(1000) && known(1001) && known(1000 + MOST), "one makes room, and it is the oldest");
        addresses.forget(&url(1001, "/other"));
        assert!(!known(1001));
    }
}
