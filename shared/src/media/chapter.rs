//! Chapters. Used by [`super::normalize`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::raw;

/// A chapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Chapter {
    /// The container's id of the chapter. Text, because Matroska's are 64-bit random numbers that JSON readers round.
    pub id: Option<String>,
    /// Title as tagged.
    pub title: Option<String>,
    /// Start in seconds.
    pub start_seconds: Option<f64>,
    /// End in seconds.
    pub end_seconds: Option<f64>,
    /// Tags of the chapter.
    pub tags: BTreeMap<String, String>,
}

pub(super) fn chapter(chapter: &raw::Chapter) -> Chapter {
    Chapter {
        id: chapter.id.word(),
        title: chapter.tags.get("title").map(str::to_owned),
        start_seconds: chapter.start_time.number(),
        end_seconds: chapter.end_time.number(),
        tags: chapter.tags.to_map(),
    }
}
