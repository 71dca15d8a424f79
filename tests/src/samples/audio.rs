//! Samples without moving pictures. Listed by [`super::all`].

use serde_json::json;

use super::{COVER, Sample, TONE};

pub(super) fn samples() -> Vec<Sample> {
    vec![wav(), flac(), mp3(), m4a()]
}

fn wav() -> Sample {
    let surround = "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=1,aformat=channel_layouts=5.1";
    let facts = json!({
        "/container": {
            "format": "wav", "brand": null, "duration_seconds": 1.0, "start_seconds": null, "timecode": null,
        },
        "/video/#": 0, "/audio/#": 1,
        "/audio/0": {
            "index": 0, "codec": "pcm_s24le", "channels": 6, "channel_layout": "5.1", "sample_rate": 48000,
            "bit_depth": 24, "bit_rate": 6 * 24 * 48000, "duration_seconds": 1.0, "language": null,
            "disposition": [], "tags": {},
        },
    });
    Sample::new("wav", "wav", &[surround, "-c:a pcm_s24le"], facts)
}

fn flac() -> Sample {
    let tone = "-f lavfi -i sine=frequency=440:sample_rate=96000:duration=1";
    let facts = json!({
        "/container": { "format": "flac", "duration_seconds": 1.0 },
        "/audio/#": 1, "/attachments/#": 0,
        "/audio/0": {
            "codec": "flac", "channels": 1, "channel_layout": "mono", "sample_rate": 96000, "bit_depth": 24,
            "start_seconds": 0.0,
        },
    });
    Sample::new("flac", "flac", &[tone, "-c:a flac -sample_fmt s32 -bits_per_raw_sample 24"], facts)
}

fn mp3() -> Sample {
    let recipe = [
        TONE,
        COVER,
        "-map 0 -map 1 -c:a libmp3lame -b:a 128k -c:v mjpeg -frames:v 1 -disposition:v attached_pic",
        "-metadata:s:v title=Front",
    ];
    let facts = json!({
        "/container": { "format": "mp3", "duration_seconds": 1.0 },
        "/video/#": 0, "/audio/#": 1, "/attachments/#": 1,
        "/audio/0": {
            "codec": "mp3", "channels": 2, "channel_layout": "stereo", "sample_rate": 48000, "bit_depth": null,
            "bit_rate": 128_000,
        },
        "/attachments/0": {
            "index": 1, "kind": "attached_pic", "codec": "mjpeg", "mimetype": "image/jpeg", "title": "Front",
            "width": 64, "height": 48, "disposition": ["attached_pic"], "duration_seconds": null,
        },
    });
    Sample::new("mp3", "mp3", &recipe, facts)
}

fn m4a() -> Sample {
    let recipe = [
        TONE,
        COVER,
        "-map 0 -map 1 -c:a aac -b:a 64k -c:v png -frames:v 1 -disposition:v attached_pic",
        "-metadata creation_time=2024-05-06T09:08:09+02:00",
    ];
    let facts = json!({
        "/container": { "format": "m4a", "brand": "M4A", "created_at": "2024-05-06T07:08:09Z" },
        "/video/#": 0, "/audio/#": 1, "/attachments/#": 1,
        "/audio/0": { "codec": "aac", "channels": 2, "language": null },
        "/attachments/0": { "codec": "png", "mimetype": "image/png" },
    });
    Sample::new("m4a", "m4a", &recipe, facts)
}
