//! What clients send to the streams of events, and the checks it must pass: filters, and the last event that they have seen.
//! It says nothing about whether that event is still known; the handlers find out.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Deserialize;
use shared::event::EventType;
use shared::job::Profile;
use shared::{Code, Error};
use utoipa::IntoParams;

use crate::problem::Problem;
use crate::streams::Wanted;

/// What a client that lost its connection sends (WHATWG HTML, section 9.2.4).
const LAST_EVENT_ID: &str = "last-event-id";
/// Longest filter by external id, in bytes; none is longer.
const EXTERNAL_ID_BYTES: usize = 800;

/// The last event that the client has seen, as its header says.
pub struct LastEventId(Option<i64>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let sent = parts.headers.get(LAST_EVENT_ID);
        Ok(Self(sent.map(|id| place(id.to_str().unwrap_or_default())).transpose()?))
    }
}

impl LastEventId {
    /// What the header says, or else the query.
    pub fn or_asked(&self, asked: Option<&str>) -> Result<Option<i64>, Error> {
        self.0.map_or_else(|| asked.map(place).transpose(), |seen| Ok(Some(seen)))
    }
}

/// Reads an event id. All that were ever given are decimal numbers of an `i64`.
fn place(text: &str) -> Result<i64, Error> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        let detail = "The last event id is not one. Send the `id` of the last event that you have seen, or none.";
        Error::new(Code::BadRequest, detail)
    })
}

/// Query of a job's stream.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobEventsQuery {
    /// The last event that you have seen, for clients that cannot send `Last-Event-ID`; the header goes first.
    #[param(value_type = Option<i64>, minimum = 0)]
    pub last_event_id: Option<String>,
}

/// Query of the stream of all events. All filters must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only these types, joined by commas.
    #[param(example = "job.succeeded,job.failed")]
    types: Option<String>,
    /// Only events of the job with this external id.
    #[param(pattern = "^[^\\x00]*$", max_length = 200)]
    external_id: Option<String>,
    /// Only events of jobs with this profile.
    profile: Option<Profile>,
    /// The last event that you have seen, for clients that cannot send `Last-Event-ID`; the header goes first.
    #[param(value_type = Option<i64>, minimum = 0)]
    pub last_event_id: Option<String>,
}

impl EventsQuery {
    /// Which events are wanted.
    pub fn wanted(&self) -> Result<Wanted, Error> {
        let words = self.types.iter().flat_map(|types| types.split(',')).map(str::trim).filter(|word| !word.is_empty());
        let mut types = words.map(kind).collect::<Result<Vec<_>, _>>()?;
        types.sort_unstable();
        types.dedup();
        if self.external_id.as_ref().is_some_and(|id| id.len() > EXTERNAL_ID_BYTES || id.contains('\0')) {
            return Err(Error::new(Code::InvalidValue, "No job has such an external_id. Leave it out, or correct it."));
        }
        Ok(Wanted { types, external_id: self.external_id.clone(), profile: self.profile })
    }
}

fn kind(word: &str) -> Result<EventType, Error> {
    EventType::from_str(word).map_err(|()| {
        let known: Vec<&str> = EventType::ALL.into_iter().map(EventType::as_str).collect();
        Error::new(Code::BadRequest, format!("types={word} is not known; the types are {}.", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_are_ids() {
        assert_eq!(place("0").ok(), Some(0));
        assert_eq!(place("9223372036854775807").ok(), Some(i64::MAX));
        for bad in ["", "-1", "+1", " 1", "1 ", "1.0", "0x1", "9223372036854775808", "٣"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn types_are_words_of_a_list() {
        let wanted = |types: &str| EventsQuery { types: Some(types.into()), ..Default::default() }.wanted();
        let types = wanted("job.failed,,job.queued,job.failed").expect("they are known").types;
        assert_eq!(types, [EventType::JobQueued, EventType::JobFailed]);
        assert!(wanted("").expect("none").types.is_empty());
        assert!(wanted("job.lost").is_err());
    }
}
