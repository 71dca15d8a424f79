//! How far a running job is, and what it was expected to take. Pure arithmetic; the worker brings the numbers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Profile;

/// Bytes that a look at the headers reads of an input, at the most usual: measured 0.2 to 17 MB on files of up to 50 GB.
const HEADER_BYTES: u64 = 16 << 20;
/// How fast one processor goes through packets, in bytes a second: measured 0.6 GB/s (MP4) to 1.2 GB/s (Matroska).
const SCAN_BYTES_PER_SECOND: u64 = 600_000_000;

/// What an attempt is expected to take, before it reads anything. A guide, not a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// Bytes of the input that will be read, at the most.
    pub bytes: u64,
    /// Seconds it will take on an idle worker that is not held up by its storage.
    pub seconds: u64,
}

impl Estimate {
    /// What `profile` takes on an input of `input_bytes`.
    pub fn of(profile: Profile, input_bytes: u64) -> Self {
        let headers = input_bytes.min(HEADER_BYTES);
        match profile {
            Profile::Quick | Profile::Standard => Self { bytes: headers, seconds: 1 },
            Profile::Frames => Self { bytes: input_bytes.min(HEADER_BYTES * 16), seconds: 10 },
            Profile::Packets => {
                Self { bytes: input_bytes.saturating_add(headers), seconds: 1 + input_bytes / SCAN_BYTES_PER_SECOND }
            }
        }
    }
}

/// How far a running job is. Null until known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Progress {
    /// Bytes of the input read so far, by this attempt.
    pub bytes_read: Option<i64>,
    /// Bytes the whole input has.
    pub bytes_total: Option<i64>,
    /// How much of the work is done, from 0 to 100; never goes back within an attempt. Only where the whole input is read.
    pub percent: Option<f32>,
    /// Bytes a second, lately.
    pub bytes_per_second: Option<i64>,
    /// Why nothing moves, if nothing has for some seconds.
    pub stalled: Option<String>,
    /// What the attempt was expected to take.
    pub estimate: Option<Estimate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scan_is_expected_to_read_everything() {
        let size = 50 << 30;
        assert_eq!(Estimate::of(Profile::Standard, size), Estimate { bytes: HEADER_BYTES, seconds: 1 });
        assert_eq!(Estimate::of(Profile::Standard, 7).bytes, 7);
        let scan = Estimate::of(Profile::Packets, size);
        assert!(scan.bytes > size && scan.seconds > 60, "{scan:?}");
        assert!(Estimate::of(Profile::Packets, u64::MAX).bytes == u64::MAX);
    }

    #[test]
    fn progress_of_an_older_worker_is_read() {
        let old: Progress = serde_json::from_str(r#"{"bytes_read":1,"bytes_total":2}"#).unwrap();
        assert_eq!((old.bytes_read, old.percent), (Some(1), None));
    }
}
