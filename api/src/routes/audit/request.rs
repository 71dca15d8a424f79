//! What clients ask of `/api/v1/audit`, and how far they may see.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use shared::access::Principal;
use shared::audit::Outcome;
use shared::id::TenantId;
use shared::store::audit::Filter;
use shared::{Code, Error};
use utoipa::IntoParams;

use crate::export::Format;
use crate::instant::check_instant;

/// Events on a page when the client does not say, and at most.
const DEFAULT_PAGE: i64 = 100;
const MAX_PAGE: i64 = 1_000;
/// Longest id that is looked for, in characters.
const MAX_ID_CHARS: usize = 64;

/// Which events to show.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only this action, or all that begin so: `job.create`, `job.`, `auth`.
    #[param(example = "job.", max_length = 64, pattern = "^[a-z_.]+$")]
    action: Option<String>,
    /// Only by this actor: the public id of a key, or the id of a session.
    #[param(max_length = 64)]
    actor: Option<String>,
    /// Only what was done to the thing with this id.
    #[param(max_length = 64)]
    target: Option<String>,
    /// Only what ended so.
    outcome: Option<Outcome>,
    /// Only what happened at this instant (RFC 3339) or later.
    from: Option<DateTime<Utc>>,
    /// Only what happened before this instant.
    to: Option<DateTime<Utc>>,
    /// Only of this tenant; for those who run the platform. Others see their own.
    tenant: Option<TenantId>,
    /// Events on a page.
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// All events at once, as a stream: `ndjson` (one object a line) or `csv`. Not with `limit` and `cursor`.
    #[param(inline)]
    pub format: Option<Format>,
}

impl AuditQuery {
    /// The filters, as far as whoever asks may see.
    pub fn filter(&self, who: &Principal) -> Result<Filter, Error> {
        let bad = |detail: &str| Error::new(Code::BadRequest, detail);
        let is_word = |w: &String| {
            (1..=MAX_ID_CHARS).contains(&w.len()) && w.bytes().all(|b| b.is_ascii_lowercase() || b"_.".contains(&b))
        };
        if !self.action.as_ref().is_none_or(is_word) {
            return Err(bad("An action is made of small letters, '_' and dots, such as job.create."));
        }
        let is_id = |id: &String| {
            (1..=MAX_ID_CHARS).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !self.actor.iter().chain(&self.target).all(is_id) {
            return Err(bad("The ids of actors and targets have 1 to 64 letters, digits, '-' or '_'."));
        }
        for at in [self.from, self.to].into_iter().flatten() {
            check_instant(at)?;
        }
        let tenant = match (who.platform, self.tenant) {
            (true, tenant) => tenant,
            (false, None) => Some(who.tenant),
            (false, Some(tenant)) if tenant == who.tenant => Some(tenant),
            (false, Some(_)) => return Err(Error::not_found("tenant")),
        };
        Ok(Filter {
            tenant,
            action: self.action.clone(),
            actor: self.actor.clone(),
            target: self.target.clone(),
            outcome: self.outcome,
            from: self.from,
            to: self.to,
        })
    }

    /// How many events to show.
    pub fn limit(&self) -> Result<i64, Error> {
        let limit = self.limit.unwrap_or(DEFAULT_PAGE);
        let wrong =
            || Error::new(Code::BadRequest, format!("limit={limit} is out of range; here it is 1 to {MAX_PAGE}."));
        if (1..=MAX_PAGE).contains(&limit) { Ok(limit) } else { Err(wrong()) }
    }
}
