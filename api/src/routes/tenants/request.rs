//! What clients send to make and change tenants, and the checks against the settings: roots and profiles that are granted
//! must be set up.

use serde::Deserialize;
use shared::store::access::Grants;
use shared::store::access::tenant::{Limits, Service, Terms};
use shared::tenancy::tenant::{Change, LimitsChange};
use shared::{Code, Error};
use utoipa::ToSchema;

use crate::App;
use crate::given::given;
use crate::routes::keys::request::check_name;

/// Stands for every root or profile.
const ALL: &str = "*";
/// Most of a limit that is counted: far more than any installation has.
const MOST: i32 = 100_000_000;
/// Most stored bytes that may be given: what every JSON reader can hold (2^53 - 1).
const MOST_BYTES: i64 = 9_007_199_254_740_991;

/// How much a tenant may have. What is left out stays as it is; null: as the operator's settings say.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"rate_per_minute": 600, "max_queued": 10_000, "max_running": null}))]
pub struct ChangeLimits {
    /// Most requests a minute of all its keys together.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 100_000_000)]
    rate_per_minute: Option<Option<i32>>,
    /// Most requests at once beyond that rate.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 100_000_000)]
    rate_burst: Option<Option<i32>>,
    /// Most jobs that may wait.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 100_000_000)]
    max_queued: Option<Option<i32>>,
    /// Most jobs running at once; null: as many as there are slots.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 100_000_000)]
    max_running: Option<Option<i32>>,
    /// Most unfinished uploads.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 100_000_000)]
    max_open_uploads: Option<Option<i32>>,
    /// Most bytes of uploads; 0: none are taken.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    max_stored_bytes: Option<Option<i64>>,
}

impl ChangeLimits {
    fn check(self) -> Result<LimitsChange, Error> {
        let counts = [
            ("rate_per_minute", self.rate_per_minute),
            ("rate_burst", self.rate_burst),
            ("max_queued", self.max_queued),
            ("max_running", self.max_running),
            ("max_open_uploads", self.max_open_uploads),
        ];
        for (name, value) in counts {
            if value.flatten().is_some_and(|n| !(1..=MOST).contains(&n)) {
                let detail = format!("{name} is 1 to {MOST}, or null for what the settings say.");
                return Err(Error::new(Code::InvalidValue, detail).at(format!("/limits/{name}")));
            }
        }
        if self.max_stored_bytes.flatten().is_some_and(|n| !(0..=MOST_BYTES).contains(&n)) {
            let detail = format!("max_stored_bytes is 0 to {MOST_BYTES}, or null for what the settings say.");
            return Err(Error::new(Code::InvalidValue, detail).at("/limits/max_stored_bytes"));
        }
        Ok(LimitsChange {
            rate_per_minute: self.rate_per_minute,
            rate_burst: self.rate_burst,
            max_queued: self.max_queued,
            max_running: self.max_running,
            max_open_uploads: self.max_open_uploads,
            max_stored_bytes: self.max_stored_bytes,
        })
    }
}

/// A tenant to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "acme", "media_roots": ["*"], "limits": {"max_queued": 10_000}}))]
pub struct CreateTenant {
    /// Its name, unique in the installation.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Media roots its jobs may read, by name; `*` for every root. Without it, none.
    #[serde(default)]
    #[schema(example = json!(["*"]))]
    media_roots: Vec<String>,
    /// S3 profiles its jobs may use, by name; `*` for every profile. Without it, none.
    #[serde(default)]
    #[schema(example = json!(["*"]))]
    s3_profiles: Vec<String>,
    /// How much it may have, where that differs from the operator's settings.
    #[serde(default)]
    limits: ChangeLimits,
}

impl CreateTenant {
    /// The tenant that is wanted, if everything in it is as it must be.
    pub fn check(self, app: &App) -> Result<Terms, Error> {
        Ok(Terms {
            name: check_name(self.name)?,
            service: Service::Served,
            grants: Grants {
                media_roots: media_roots(self.media_roots, app)?,
                s3_profiles: s3_profiles(self.s3_profiles, app)?,
            },
            limits: self.limits.check()?.apply(Limits::default()),
        })
    }
}

/// What to change of a tenant. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"suspended": false, "media_roots": ["*"], "limits": {"max_running": 4, "max_queued": null}}))]
pub struct ChangeTenant {
    /// Its name, unique in the installation.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// true: its keys open nothing until this is false again. Its jobs that wait or run go on.
    suspended: Option<bool>,
    /// Media roots its jobs may read, by name; `*` for every root. Jobs that were accepted before keep theirs.
    #[schema(example = json!(["*"]))]
    media_roots: Option<Vec<String>>,
    /// S3 profiles its jobs may use, by name; `*` for every profile.
    #[schema(example = json!(["*"]))]
    s3_profiles: Option<Vec<String>>,
    /// How much it may have.
    #[serde(default)]
    limits: ChangeLimits,
}

impl ChangeTenant {
    /// The change that is wanted, if everything in it is as it must be.
    pub fn check(self, app: &App) -> Result<Change, Error> {
        let service = |suspended| if suspended { Service::Suspended } else { Service::Served };
        Ok(Change {
            name: self.name.map(check_name).transpose()?,
            service: self.suspended.map(service),
            media_roots: self.media_roots.map(|names| media_roots(names, app)).transpose()?,
            s3_profiles: self.s3_profiles.map(|names| s3_profiles(names, app)).transpose()?,
            limits: self.limits.check()?,
        })
    }
}

fn media_roots(names: Vec<String>, app: &App) -> Result<Vec<String>, Error> {
    let known: Vec<&str> = app.roots.iter().map(|root| root.name.as_str()).collect();
    granted(names, &known, "media root", "/media_roots")
}

fn s3_profiles(names: Vec<String>, app: &App) -> Result<Vec<String>, Error> {
    let known: Vec<&str> = app.s3.iter().map(|profile| profile.name.as_str()).collect();
    granted(names, &known, "S3 profile", "/s3_profiles")
}

/// The names once each, if all are known. There can be no more of them than there are roots or profiles.
fn granted(mut names: Vec<String>, known: &[&str], kind: &str, pointer: &str) -> Result<Vec<String>, Error> {
    if let Some(at) = names.iter().position(|name| name != ALL && !known.contains(&name.as_str())) {
        let listed = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let detail = format!("There is no such {kind}. Set up are: {listed}. '{ALL}' grants all of them.");
        return Err(Error::new(Code::InvalidValue, detail).at(format!("{pointer}/{at}")));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_up_is_granted() {
        let grant = |names: &[&str], known: &[&str]| {
            let names = names.iter().map(|n| (*n).to_owned()).collect();
            granted(names, known, "media root", "/media_roots").map_err(|e| e.pointer().map(str::to_owned))
        };
        assert_eq!(grant(&["b", "a", "b"], &["a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(grant(&["*"], &[]).unwrap(), ["*"]);
        assert_eq!(grant(&["a", "c"], &["a", "b"]).unwrap_err().as_deref(), Some("/media_roots/1"));
        assert_eq!(grant(&[""], &["a"]).unwrap_err().as_deref(), Some("/media_roots/0"));
    }
}
