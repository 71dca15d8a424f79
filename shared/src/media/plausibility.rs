//! Reasons to doubt a probe that succeeded: things that no real file has, each seen in a damaged or hostile one. A guess is
//! worse than silence, so every rule names numbers that contradict each other. Called after normalising; pure.

use super::{Media, Video};

/// Most reasons told.
const MAX_REASONS: usize = 16;
/// Above this many bits a second no stream of one file is stored today (uncompressed 16K video has 200 Gbit/s).
const MOST_BITS_PER_SECOND: f64 = 1e12;
/// A picture this wide or high is none that any encoder makes.
const LARGEST_SIDE: u32 = 65_536;

/// What is not plausible about this file, a sentence each.
pub fn suspicious(media: &Media) -> Vec<String> {
    let mut reasons = Vec::new();
    let container = &media.container;
    let size = container.size_bytes;
    if let (Some(seconds), true) = (container.duration_seconds, size > 0) {
        let rate = size as f64 * 8.0 / seconds;
        if seconds > 0.0 && rate > MOST_BITS_PER_SECOND {
            reasons.push(format!("{size} bytes in {seconds} seconds is more than any medium plays."));
        }
        if seconds < 0.0 {
            reasons.push(format!("The duration is negative ({seconds} seconds)."));
        }
    }
    for video in &media.video {
        reasons.extend(of_video(video, size));
    }
    for audio in &media.audio {
        if audio.channels == Some(0) || audio.sample_rate == Some(0) {
            reasons.push(format!("Audio stream {} has no channels or no sample rate.", audio.index));
        }
    }
    let known = |codec: &Option<String>| codec.as_deref().is_some_and(|c| !matches!(c, "none" | "unknown"));
    let mut codecs = media.video.iter().map(|v| &v.codec).chain(media.audio.iter().map(|a| &a.codec));
    if media.video.len() + media.audio.len() > 0 && !codecs.any(known) {
        reasons.push("No audio or video stream has a codec that ffprobe knows.".to_owned());
    }
    reasons.truncate(MAX_REASONS);
    reasons
}

fn of_video(video: &Video, size: u64) -> Vec<String> {
    let mut reasons = Vec::new();
    let index = video.index;
    match (video.width, video.height) {
        (Some(width), Some(height)) if width > LARGEST_SIDE || height > LARGEST_SIDE => {
            reasons.push(format!("Video stream {index} claims pictures of {width}x{height}."));
        }
        (Some(0) | None, _) | (_, Some(0) | None) => {
            reasons.push(format!("Video stream {index} has no picture size; its headers may be damaged."));
        }
        _ => {}
    }
    // every coded picture takes at least a byte
    if let Some(frames) = video.frame_count.filter(|frames| size > 0 && *frames > size) {
        reasons.push(format!("Video stream {index} claims {frames} frames in a file of {size} bytes."));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::super::normalize;
    use super::*;

    fn doubts(size: u64, json: &str) -> Vec<String> {
        suspicious(&normalize("a", size, json, None).unwrap())
    }

    #[test]
    fn a_usual_file_raises_no_doubt() {
        let json = r#"{"streams":[{"index":0,"codec_type":"video","codec_name":"h264","width":640,"height":360,"nb_frames":"250"},
            {"index":1,"codec_type":"audio","codec_name":"aac","channels":2,"sample_rate":"48000"}],
            "format":{"format_name":"mov,mp4","duration":"10.0"}}"#;
        assert_eq!(doubts(1_000_000, json), Vec::<String>::new());
    }

    #[test]
    fn numbers_that_contradict_each_other_are_told() {
        for (size, json, words) in [
            (
                3_732,
                r#"{"streams":[{"codec_type":"video","codec_name":"h264","width":64,"height":64,"nb_frames":"30000000"}],"format":{}}"#,
                "30000000 frames",
            ),
            (9, r#"{"streams":[{"codec_type":"video","codec_name":"h264"}],"format":{}}"#, "no picture size"),
            (
                9,
                r#"{"streams":[{"codec_type":"video","codec_name":"h264","width":70000,"height":2}],"format":{}}"#,
                "70000x2",
            ),
            (
                9,
                r#"{"streams":[{"codec_type":"audio","codec_name":"unknown","channels":2}],"format":{}}"#,
                "no audio or video",
            ),
            (
                1 << 40,
                r#"{"streams":[{"codec_type":"audio","codec_name":"aac","channels":2}],"format":{"duration":"0.1"}}"#,
                "more than any medium",
            ),
        ] {
            let found = doubts(size, json);
            assert!(found.iter().any(|r| r.to_lowercase().contains(words)), "{json}: {found:?}");
        }
    }
}
