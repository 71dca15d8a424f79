//! Typed identifiers. One macro, so that an upload's id can never be passed where a job's is wanted.
//!
//! Ids that only name rows are UUIDv7 (RFC 9562): they sort by creation and keep B-tree inserts at the right edge.
//! Ids that work as an unguessable address (uploads) or as a fence (lease tokens) are UUIDv4.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $new:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type, ToSchema)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id.
            #[expect(clippy::new_without_default, reason = "an id is made on purpose, never by default")]
            pub fn new() -> Self {
                Self(Uuid::$new())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(s).map(Self)
            }
        }
    };
}

id!(
    /// A tenant: the owner of everything else.
    TenantId, now_v7
);
id!(
    /// A row of `api_key`; not the public part of the key itself.
    ApiKeyId, now_v7
);
id!(
    /// What an API key was exchanged for: a family of tokens.
    SessionId, now_v7
);
id!(
    /// An upload. Random, because its URL is handed around.
    UploadId, new_v4
);
id!(
    /// A job.
    JobId, now_v7
);
id!(
    /// An event of the audit trail.
    AuditEventId, now_v7
);
id!(
    /// Something that happened. Random, because it says nothing but itself.
    EventId, new_v4
);
id!(
    /// A webhook: an endpoint that wants to be told of events.
    WebhookId, now_v7
);
id!(
    /// One event on its way to one webhook.
    DeliveryId, now_v7
);
id!(
    /// Jobs that were handed in together.
    BatchId, now_v7
);
id!(
    /// One run of a worker process.
    WorkerId, now_v7
);
id!(
    /// The fence of one lease: a write that carries an old token changes nothing.
    LeaseToken, new_v4
);
id!(
    /// One database, for as long as it lives. Prefixes every Redis key and marks the upload volume.
    InstallationId, new_v4
);
