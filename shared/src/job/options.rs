//! What a job may do beyond the usual, and how much it may take: pure data with bounds. Read by the API (which checks it)
//! and by the worker (which keeps to it).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Code, Error};
use crate::frames::{self, PlanError};

/// A kind of input that is no audio or video and is refused unless the job says that it may be one: in most services a
/// text file that "succeeds" is a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// Still images: JPEG, PNG, GIF, WebP, TIFF and others.
    Image,
    /// Subtitle files: SRT, WebVTT, ASS and others.
    Subtitle,
    /// Plain text, which ffprobe describes as the output of a terminal.
    Text,
}

/// The most a job may take; what is left out has the profile's own limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Most bytes read of the input, everything together. A job that is sure to need more fails before it reads them.
    #[schema(minimum = 1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_read_bytes: Option<u64>,
    /// Most seconds one attempt may run.
    #[schema(minimum = 1, maximum = 86_400)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<u32>,
}

/// What an earlier job's work may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReuseOf {
    /// Its result: for the same bytes, profile and options, and the same version of ffprobe.
    Result,
}

/// What a job may do beyond the usual, and how much it may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Kinds of input taken besides audio and video.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<Accept>,
    /// The most it may take.
    pub budget: Budget,
    /// What of an earlier job's work it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reuse: Option<ReuseOf>,
    /// Which frames to look at, with the profile `frames`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<frames::Request>,
}

impl Options {
    /// Checks the ranges. Pointers name the members of the request.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |pointer: &str, detail: String| Err(Error::new(Code::InvalidValue, detail).at(pointer));
        if self.budget.max_read_bytes == Some(0) {
            return wrong(
                "/budget/max_read_bytes",
                "A budget of 0 bytes reads nothing. Leave it out for no limit.".into(),
            );
        }
        if self.budget.max_seconds.is_some_and(|s| !(1..=86_400).contains(&s)) {
            return wrong("/budget/max_seconds", "max_seconds is from 1 to 86400.".into());
        }
        let Some(frames) = self.frames else { return Ok(()) };
        if let Err(error) = frames.check() {
            let pointer = match &error {
                PlanError::OutOfRange { name, .. } => format!("/frames/{name}"),
                _ => "/frames".to_owned(),
            };
            return wrong(&pointer, error.to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: serde_json::Value) -> Result<Options, String> {
        let options: Options = serde_json::from_value(json).map_err(|e| e.to_string())?;
        options.check().map_err(|e| e.pointer().unwrap_or_default().to_owned())?;
        Ok(options)
    }

    #[test]
    fn ranges_are_checked_and_named() {
        assert_eq!(options(serde_json::json!({})).unwrap(), Options::default());
        for (json, pointer) in [
            (serde_json::json!({"budget": {"max_read_bytes": 0}}), "/budget/max_read_bytes"),
            (serde_json::json!({"budget": {"max_seconds": 86_401}}), "/budget/max_seconds"),
            (serde_json::json!({"frames": {"first": 2_001}}), "/frames/first"),
            (serde_json::json!({"frames": {"windows": 21}}), "/frames/windows"),
            (serde_json::json!({"frames": {"window_frames": 101}}), "/frames/window_frames"),
            (serde_json::json!({"frames": {"first": 0}}), "/frames/first"),
        ] {
            assert_eq!(options(json.clone()).unwrap_err(), pointer, "{json}");
        }
        assert!(options(serde_json::json!({"frames": {"frist": 1}})).is_err());
        let kept = serde_json::to_value(options(serde_json::json!({"budget": {"max_seconds": 5}})).unwrap()).unwrap();
        assert_eq!(kept, serde_json::json!({"budget": {"max_seconds": 5}}));
    }
}
