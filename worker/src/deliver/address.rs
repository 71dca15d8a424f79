//! Targets whose host was resolved and checked lately, with their open connections. Used by the sender. What it gives leads to
//! the addresses that were checked and to no other; after some seconds they are looked up and checked anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::egress::{Egress, Error, Pinned};
use tokio::time::Instant;
use url::Url;

/// How long a look-up is believed.
const AGE: Duration = Duration::from_secs(30);
/// Most targets that are remembered.
const MOST: usize = 256;

/// Targets by their whole URL.
#[derive(Default)]
pub(super) struct Addresses(Mutex<HashMap<String, (Instant, Pinned)>>);

impl Addresses {
    /// The way to `url`.
    pub(super) async fn find(&self, egress: &Egress, url: &Url) -> Result<Pinned, Error> {
        if let Some((_, pinned)) = self.lock().get(url.as_str()).filter(|(at, _)| at.elapsed() < AGE) {
            return Ok(pinned.clone());
        }
        let pinned = egress.pin_for_message(url).await?;
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (at, _)| at.elapsed() < AGE);
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(url.as_str().to_owned(), (Instant::now(), pinned.clone()));
        Ok(pinned)
    }

    /// Forgets a way that led nowhere.
    pub(super) fn forget(&self, url: &Url) {
        self.lock().remove(url.as_str());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Pinned)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
