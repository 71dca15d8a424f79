//! Fuzz target: `media::normalize` and `media::rename_filename` on arbitrary text in place of what ffprobe printed. Fails on a
//! panic, an overflow, a NUL in the result, or a description that does not survive a round trip.

#![no_main]

use fuzz::media;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    if let Ok(described) = media::normalize("name.mov", 1, input, Some(input)) {
        let json = serde_json::to_string(&described).expect("a description is JSON");
        assert!(!json.contains("\\u0000"));
        let back: media::Media = serde_json::from_str(&json).expect("our own JSON");
        assert_eq!(back, described);
    }
    let _ = media::rename_filename(input, "name.mov");
});
