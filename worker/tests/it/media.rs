//! What comes out of real files: good ones, broken ones, and ones that name other files.

use std::path::PathBuf;

use serde_json::Value;
use shared::job::FailureCode;
use worker::ffprobe::{INPUT, Run};

use crate::{Stage, run, samples};

fn description(run: &Run) -> Value {
    serde_json::from_str(&run.outcome.as_ref().unwrap().main).unwrap()
}

#[tokio::test]
async fn a_healthy_file_is_described_and_its_cost_counted() {
    let stage = Stage::enter().await;
    let path = samples::mp4();
    let done = run(&path).await;
    let seen = description(&done);
    assert_eq!(seen["streams"][0]["codec_name"], "h264");
    assert_eq!(seen["streams"][1]["codec_name"], "aac");
    assert_eq!(seen["format"]["filename"], INPUT);
    for key in ["chapters", "programs"] {
        assert!(seen[key].is_array(), "{key}");
    }
    let (usage, size) = (done.usage, path.metadata().unwrap().len());
    assert!(usage.wall_ms > 0 && usage.cpu_ms.unwrap() > 0, "{usage:?}");
    assert!((1 << 20..1 << 30).contains(&usage.peak_memory_bytes.unwrap()), "{usage:?}");
    assert!((1_000..size + 2_000_000).contains(&usage.bytes_read.unwrap()), "{usage:?}");
    assert_eq!((done.warnings.len(), done.degraded), (0, false), "{:?}", done.warnings);
    assert!(done.outcome.unwrap().first_frame.is_none(), "8-bit SDR needs no second run");
    stage.leave().await;
}

#[tokio::test]
async fn hdr_metadata_comes_from_the_first_frame() {
    let stage = Stage::enter().await;
    // a transport stream that begins in the middle of a group of pictures, too
    let ts = std::fs::read(samples::hdr10_ts()).unwrap();
    let cut = stage.file("cut.ts", &ts[188 * 3..]);
    for path in [samples::hdr10(), samples::hdr10_ts(), cut] {
        let report = run(&path).await.outcome.unwrap();
        assert!(!report.main.contains("Mastering display"), "{path:?}: the stream alone does not tell");
        let frames: Value = serde_json::from_str(&report.first_frame.unwrap()).unwrap();
        let frame = &frames["frames"][0];
        assert_eq!((&frame["media_type"], &frame["key_frame"]), (&"video".into(), &1.into()), "{path:?}");
        let kinds: Vec<_> =
            frame["side_data_list"].as_array().unwrap().iter().map(|s| s["side_data_type"].as_str().unwrap()).collect();
        assert!(
            kinds.contains(&"Mastering display metadata") && kinds.contains(&"Content light level metadata"),
            "{kinds:?}"
        );
    }
    let cover = run(&samples::cover()).await.outcome.unwrap();
    assert!(cover.first_frame.is_none(), "a cover is no video");
    stage.leave().await;
}

#[tokio::test]
async fn broken_and_foreign_files_have_stable_answers() {
    use FailureCode as C;
    let stage = Stage::enter().await;
    let mp4 = std::fs::read(samples::mp4()).unwrap();
    let flac = std::fs::read(samples::flac()).unwrap();
    let secret = samples::mp4();
    let secret = secret.to_str().unwrap();
    let hls = format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{secret}\n#EXT-X-ENDLIST\n");
    let dash = format!(
        r#"<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>file://{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>"#
    );
    let table: [(&str, Vec<u8>, C); 11] = [
        ("text", b"These are only words.\nAnd more words.\n".repeat(40), C::InvalidMedia),
        ("zeros.mp3", vec![0; 3 << 20], C::InvalidMedia),
        ("one byte", vec![7], C::InvalidMedia),
        ("cut.mp4", mp4[..mp4.len() / 2].to_vec(), C::TruncatedMedia),
        // ffprobe says "input/output error" of this one, but the storage is well
        ("cut.flac", flac[..40].to_vec(), C::TruncatedMedia),
        ("cut more.flac", flac[..300].to_vec(), C::TruncatedMedia),
        ("list.mp4", hls.into_bytes(), C::BlockedFormat),
        ("concat.mp4", format!("ffconcat version 1.0\nfile {secret}\n").into_bytes(), C::BlockedFormat),
        ("manifest.mp4", dash.into_bytes(), C::BlockedFormat),
        ("still.mov", std::fs::read(samples::png()).unwrap(), C::BlockedFormat),
        (
            "subtitles",
            b"1\n00:00:01,000 --> 00:00:02,000\nhi\n\n2\n00:00:03,000 --> 00:00:04,000\nyo\n".to_vec(),
            C::BlockedFormat,
        ),
    ];
    for (name, bytes, code) in table {
        let done = run(&stage.file(name, bytes)).await;
        let failure = done.outcome.unwrap_err();
        assert_eq!(failure.code, code, "{name}: {}", failure.message);
        assert!(!failure.message.contains("/dev/") && !failure.message.contains("0x"), "{name}: {}", failure.message);
    }
    stage.leave().await;
}

#[tokio::test]
async fn damage_is_told_in_bounded_warnings() {
    let stage = Stage::enter().await;
    let mut ts = std::fs::read(samples::hdr10_ts()).unwrap();
    for packet in ts.chunks_mut(188).skip(20).step_by(4) {
        packet[1] |= 0x80; // the transport error indicator
    }
    let done = run(&stage.file("damaged.ts", &ts)).await;
    assert!(done.outcome.is_ok());
    assert!(done.warnings.iter().any(|w| w.starts_with("mpegts: ") && w.ends_with(" times)")), "{:?}", done.warnings);
    assert!(done.warnings.len() <= 50);
    assert!(
        done.warnings.iter().all(|w| w.len() <= 500 && !w.contains("fd/0") && !w.contains("@ 0x")),
        "{:?}",
        done.warnings
    );
    stage.leave().await;
}

#[tokio::test]
async fn a_name_is_never_an_argument() {
    let stage = Stage::enter().await;
    let bytes = std::fs::read(samples::mp4()).unwrap();
    let paths: Vec<PathBuf> =
        ["-version", "a%03d.png", "x:y.mp4", "http:host.mp4", "a b'\"\n.mp4"].map(|n| stage.file(n, &bytes)).into();
    for path in paths {
        let done = run(&path).await;
        assert_eq!(description(&done)["streams"][0]["codec_name"], "h264", "{path:?}");
        assert!(!done.arguments.iter().any(|a| path.to_str().unwrap().contains(a.as_str()) && a.len() > 4));
    }
    stage.leave().await;
}
