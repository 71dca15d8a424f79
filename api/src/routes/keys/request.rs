//! What clients send to make and change API keys, and the checks that need no database.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use shared::access::{Reach, Right, Role};
use shared::config::network;
use shared::store::access::key::{Bounds, Expiry};
use shared::tenancy::key::{Change, Wish};
use shared::{Code, Error};
use utoipa::ToSchema;

use crate::given::given;
use crate::instant::check_instant;

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// Most address ranges of a key.
const MAX_NETWORKS: usize = 50;
/// Most scopes that are read; there are fewer rights than that.
const MAX_SCOPES: usize = 50;
/// Longest time that may be given in seconds: ten years.
const MAX_EXPIRES_IN: u64 = 315_360_000;
/// Most requests a minute that may be given to a key.
const MAX_RATE: u32 = 1_000_000;
/// Longest overlap of a rotation, in seconds: 30 days.
const MAX_OVERLAP: u64 = 2_592_000;
/// The overlap when the client does not say: a day.
const DEFAULT_OVERLAP: u64 = 86_400;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "ingest", "role": "submitter", "scopes": ["jobs:write", "jobs:read"], "networks": ["192.0.2.0/24"], "expires_in": 31_536_000}))]
pub struct CreateKey {
    /// A name for people.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it may do at most.
    role: Role,
    /// Whether it reaches beyond its tenant; only admin keys may, and only such a key can make one.
    #[serde(default)]
    platform: bool,
    /// Narrows it to these of its role's rights; without it, it has all of them.
    #[schema(min_items = 1, max_items = 50)]
    scopes: Option<Vec<Right>>,
    /// Address ranges or addresses it may be used from; without it, from everywhere.
    #[serde(default)]
    #[schema(max_items = 50, example = json!(["192.0.2.0/24", "2001:db8::1"]))]
    networks: Vec<String>,
    /// Seconds after which it opens nothing any more; at most ten years. Without it and `expires_at` it does not expire.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_in: Option<u64>,
    /// The instant (RFC 3339) at which it opens nothing any more.
    expires_at: Option<DateTime<Utc>>,
    /// Most requests a minute of this key alone; without it, as the operator's settings say.
    #[schema(minimum = 1, maximum = 1_000_000)]
    rate_per_minute: Option<u32>,
}

impl CreateKey {
    /// The key that is wanted, if everything in it is as it must be.
    pub fn check(self) -> Result<Wish, Error> {
        if self.platform && self.role != Role::Admin {
            let detail = "Only admin keys have platform reach. Leave platform out, or make the role admin.";
            return Err(Error::new(Code::InvalidValue, detail).at("/platform"));
        }
        let expiry = expiry(self.expires_in, self.expires_at.map(Some))?.unwrap_or(Expiry::Never);
        check_rate(self.rate_per_minute)?;
        Ok(Wish {
            role: self.role,
            reach: if self.platform { Reach::Platform } else { Reach::Tenant },
            bounds: Bounds {
                name: check_name(self.name)?,
                scopes: self.scopes.map(words).transpose()?,
                networks: ranges(&self.networks)?,
                expiry,
                rate_per_minute: self.rate_per_minute,
            },
        })
    }
}

/// What to change of a key. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "ingest, old site", "networks": ["192.0.2.0/24"], "expires_in": 86_400}))]
pub struct ChangeKey {
    /// A name for people.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Narrows it to these of its role's rights; null: it has all of them.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<Right>>, min_items = 1, max_items = 50)]
    scopes: Option<Option<Vec<Right>>>,
    /// Address ranges or addresses it may be used from; an empty list: from everywhere.
    #[schema(max_items = 50, example = json!(["192.0.2.0/24", "2001:db8::1"]))]
    networks: Option<Vec<String>>,
    /// Seconds from now after which it opens nothing any more; at most ten years.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_in: Option<u64>,
    /// The instant (RFC 3339) at which it opens nothing any more; null: it does not expire.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    expires_at: Option<Option<DateTime<Utc>>>,
    /// Most requests a minute of this key alone; null: as the operator's settings say.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    rate_per_minute: Option<Option<u32>>,
}

impl ChangeKey {
    /// The change that is wanted, if everything in it is as it must be.
    pub fn check(self) -> Result<Change, Error> {
        check_rate(self.rate_per_minute.flatten())?;
        Ok(Change {
            name: self.name.map(check_name).transpose()?,
            scopes: self.scopes.map(|scopes| scopes.map(words).transpose()).transpose()?,
            networks: self.networks.as_deref().map(ranges).transpose()?,
            expiry: expiry(self.expires_in, self.expires_at)?,
            rate_per_minute: self.rate_per_minute,
        })
    }
}

/// How to rotate a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap_seconds": 3600}))]
pub struct RotateKey {
    /// Seconds for which the old key goes on, at most 30 days; a day if left out. 0 ends it at once.
    #[schema(minimum = 0, maximum = 2_592_000, default = 86_400)]
    overlap_seconds: Option<u64>,
}

impl RotateKey {
    /// For how long the old key goes on.
    pub fn check(&self) -> Result<Duration, Error> {
        let seconds = self.overlap_seconds.unwrap_or(DEFAULT_OVERLAP);
        if seconds > MAX_OVERLAP {
            let detail = format!("An overlap has at most {MAX_OVERLAP} seconds, which is 30 days.");
            return Err(Error::new(Code::InvalidValue, detail).at("/overlap_seconds"));
        }
        Ok(Duration::from_secs(seconds))
    }
}

/// A name of a key or a tenant.
pub fn check_name(name: String) -> Result<String, Error> {
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME || name.chars().any(char::is_control) {
        let detail = format!("A name has 1 to {MAX_NAME} characters and no control characters.");
        return Err(Error::new(Code::InvalidValue, detail).at("/name"));
    }
    Ok(name)
}

fn check_rate(rate: Option<u32>) -> Result<(), Error> {
    if rate.is_some_and(|rate| !(1..=MAX_RATE).contains(&rate)) {
        let detail = format!("A key may send 1 to {MAX_RATE} requests a minute.");
        return Err(Error::new(Code::InvalidValue, detail).at("/rate_per_minute"));
    }
    Ok(())
}

fn words(mut scopes: Vec<Right>) -> Result<Vec<String>, Error> {
    if scopes.is_empty() {
        let detail = "A key without any right opens nothing. Name some, or leave scopes out.";
        return Err(Error::new(Code::InvalidValue, detail).at("/scopes"));
    }
    if scopes.len() > MAX_SCOPES {
        let detail = format!("At most {MAX_SCOPES} scopes are read. Name each right once.");
        return Err(Error::new(Code::InvalidValue, detail).at("/scopes"));
    }
    scopes.sort_unstable();
    scopes.dedup();
    Ok(scopes.into_iter().map(|right| right.as_str().to_owned()).collect())
}

fn ranges(networks: &[String]) -> Result<Vec<String>, Error> {
    if networks.len() > MAX_NETWORKS {
        let detail = format!("A key has at most {MAX_NETWORKS} address ranges. Name larger ones.");
        return Err(Error::new(Code::InvalidValue, detail).at("/networks"));
    }
    let range = |(at, text): (usize, &String)| {
        network(text).map(|network| network.to_string()).map_err(|why| {
            // what a client wrote comes back cut: it may be long
            let shown: String = text.chars().take(50).collect();
            Error::new(Code::InvalidValue, format!("'{shown}' {why}.")).at(format!("/networks/{at}"))
        })
    };
    networks.iter().enumerate().map(range).collect()
}

fn expiry(seconds: Option<u64>, at: Option<Option<DateTime<Utc>>>) -> Result<Option<Expiry>, Error> {
    let wrong = |detail: &str, pointer: &str| Err(Error::new(Code::InvalidValue, detail).at(pointer));
    match (seconds, at) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => wrong("Say expires_in or expires_at, not both.", "/expires_in"),
        (Some(seconds), None) if (1..=MAX_EXPIRES_IN).contains(&seconds) => {
            Ok(Some(Expiry::In(Duration::from_secs(seconds))))
        }
        (Some(_), None) => wrong("expires_in is 1 to 315360000 seconds, which is ten years.", "/expires_in"),
        (None, Some(None)) => Ok(Some(Expiry::Never)),
        (None, Some(Some(at))) => {
            check_instant(at).map_err(|e| e.at("/expires_at"))?;
            if at <= Utc::now() {
                return wrong("expires_at is over already. Name a later instant, or revoke the key.", "/expires_at");
            }
            Ok(Some(Expiry::At(at)))
        }
    }
}
