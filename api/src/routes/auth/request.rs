//! What clients send to `/api/v1/auth`, and how its words are read. Nothing here is printed: it holds secrets.

use serde::Deserialize;
use shared::access::{Principal, Right, Rights};
use shared::id::SessionId;
use shared::{Code, Error};
use utoipa::{IntoParams, ToSchema};

/// Sessions on a page, unless the request says otherwise.
const PAGE: i64 = 50;

/// Longest scope, in characters.
const MAX_SCOPE: usize = 1_000;

/// What tokens are asked for with.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "grant_type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Grant {
    /// The API key in the request's header.
    ApiKey {
        /// Rights to narrow the session to, joined by spaces; the key has each of them. Without it: all that the key has.
        #[schema(min_length = 1, max_length = 1000, example = "jobs:read uploads:read")]
        scope: Option<String>,
    },
    /// A refresh token, in place of any other credentials.
    RefreshToken {
        /// The newest refresh token of the session.
        #[schema(max_length = 200)]
        refresh_token: String,
        /// Rights to narrow this one access token to; the session keeps those it has.
        #[schema(min_length = 1, max_length = 1000, example = "jobs:read")]
        scope: Option<String>,
    },
}

/// The token to be revoked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeToken {
    /// A refresh token or an access token.
    pub token: String,
    /// What kind it is (RFC 7009); not needed, since they tell themselves apart.
    #[serde(default, rename = "token_type_hint")]
    #[schema(example = "refresh_token")]
    pub _hint: Option<String>,
}

/// Which sessions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionQuery {
    /// Sessions on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<String>,
}

impl SessionQuery {
    /// How many; at most `most`.
    pub fn limit(&self, most: i64) -> Result<i64, Error> {
        let limit = self.limit.unwrap_or(PAGE);
        let wrong =
            || Error::new(Code::InvalidValue, format!("limit is a number from 1 to {most}; left out, it is {PAGE}."));
        (1..=most).contains(&limit).then_some(limit).ok_or_else(wrong)
    }

    /// The session after which the page begins.
    pub fn after(&self) -> Result<Option<SessionId>, Error> {
        let wrong = |_| {
            let detail = "The cursor was not made by this service. Use next_cursor of an earlier page as it is.";
            Error::new(Code::InvalidCursor, detail)
        };
        self.cursor.as_deref().map(str::parse).transpose().map_err(wrong)
    }
}

/// Reads rights joined by spaces, each of which `who` has; at least one, since a token without any is surely a mistake.
pub fn scope(text: &str, who: &Principal) -> Result<Rights, Error> {
    let words = text.split(' ').filter(|w| !w.is_empty());
    if text.chars().count() > MAX_SCOPE || words.clone().next().is_none() {
        let detail =
            format!("A scope has 1 to {MAX_SCOPE} characters and names a right. Leave it out for all that you have.");
        return Err(Error::new(Code::InvalidValue, detail).at("/scope"));
    }
    let right = |word: &str| match word.parse::<Right>() {
        Ok(right) if who.rights.has(right) => Ok(right),
        Ok(right) => {
            let detail = format!("The right {} is not among those you have. Leave it out.", right.as_str());
            Err(Error::new(Code::InvalidValue, detail).at("/scope"))
        }
        Err(()) => {
            let all = Right::ALL.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(", ");
            let detail = format!("A scope is made of rights joined by spaces. The rights are {all}.");
            Err(Error::new(Code::InvalidValue, detail).at("/scope"))
        }
    };
    words.map(right).collect()
}
