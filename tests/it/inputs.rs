//! What is probed: every sample format with the right values, and odd inputs with a clear, stable answer.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tests::{Http, Installation, samples};

async fn outcome(http: &Http, path: &str) -> (String, String) {
    let job = http.probe(json!({"type": "path", "path": path})).await;
    let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    (word(&job["state"]), word(&job["failure"]["code"]))
}

#[tokio::test]
async fn every_sample_comes_back_as_it_was_made() {
    let (_installation, http, _programs) = Installation::running().await;
    let mut wrong = Vec::new();
    for sample in samples::all() {
        let bytes = std::fs::read(samples::path(sample.name)).expect("a sample");
        let size = bytes.len();
        let upload = http.upload(&format!("{}.bin", sample.name), bytes).await;
        let job = http.probe(json!({"type": "upload", "id": upload})).await;
        if job["state"] != "succeeded" {
            wrong.push(format!("{}: {job}", sample.name));
            continue;
        }
        let media = &job["result"]["media"];
        assert_eq!(
            (&media["name"], &media["container"]["size_bytes"]),
            (&json!(format!("{}.bin", sample.name)), &json!(size))
        );
        wrong.extend(sample.differences(media));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn odd_names_are_only_names() {
    let (installation, http, _programs) = Installation::running().await;
    let bytes = std::fs::read(samples::path("mp4")).expect("a sample");
    for name in [
        "-version",
        "a%03d.png",
        "x:y.mp4",
        "http:evil.mp4",
        "with space and é.mp4",
        "quote\"'.mp4",
        "file:x",
        "concat:a|b",
        "a\nb.mp4",
    ] {
        installation.put(name, &bytes);
        let job = http.probe(json!({"type": "path", "path": name})).await;
        assert_eq!(
            (&job["state"], &job["result"]["media"]["name"], &job["result"]["ffprobe"]["format"]["filename"]),
            (&json!("succeeded"), &json!(name), &json!(name)),
            "{job}"
        );
    }
}

#[tokio::test]
async fn what_is_not_media_fails_clearly_and_the_service_goes_on() {
    let (installation, http, _programs) = Installation::running().await;
    let mp4 = std::fs::read(samples::path("mp4")).expect("a sample");
    let cut = &mp4[..mp4.len() / 2];
    for (name, bytes, code) in [
        ("empty.mp4", &b""[..], "empty_input"),
        ("notes.txt", b"These are notes, not media. They go on for a while.\n", "invalid_media"),
        ("cut.mp4", cut, "truncated_media"),
        (
            "list.m3u8",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
            "blocked_format",
        ),
        ("list.ffconcat", b"ffconcat version 1.0\nfile good.mp4\n", "blocked_format"),
    ] {
        installation.put(name, bytes);
        assert_eq!(outcome(&http, name).await, ("failed".into(), code.into()), "{name}");
    }
    installation.put("good.mp4", &mp4);
    assert_eq!(outcome(&http, "good.mp4").await, ("succeeded".into(), String::new()));
}

#[tokio::test]
async fn no_path_leads_out_of_its_root() {
    let (installation, http, _programs) = Installation::running().await;
    let mp4 = std::fs::read(samples::path("mp4")).expect("a sample");
    let secret = installation.folder().join("secret.mp4");
    std::fs::write(&secret, &mp4).expect("writes");
    installation.put("inside/real.mp4", &mp4);
    let media = installation.media();
    symlink(&secret, media.join("absolute.mp4")).expect("links");
    symlink("../secret.mp4", media.join("relative.mp4")).expect("links");
    symlink(installation.folder(), media.join("folder")).expect("links");
    symlink("inside/real.mp4", media.join("within.mp4")).expect("links");
    symlink("loop.mp4", media.join("loop.mp4")).expect("links");
    for (path, code) in [
        ("/absolute.mp4", "outside_root"),
        ("/relative.mp4", "outside_root"),
        ("/folder/secret.mp4", "outside_root"),
        ("/nothing.mp4", "input_not_found"),
        ("/inside", "not_a_file"),
        ("/inside/real.mp4/x", "input_not_found"),
    ] {
        assert_eq!(outcome(&http, path).await, ("failed".into(), code.into()), "{path}");
    }
    assert_eq!(outcome(&http, "/loop.mp4").await.0, "failed");
    for path in
        ["/within.mp4", "//inside//real.mp4", "./inside/real.mp4", &format!("{}/inside/real.mp4", media.display())]
    {
        assert_eq!(outcome(&http, path).await.0, "succeeded", "{path}");
    }
    // an absolute path outside every root is only looked up inside them
    assert_eq!(outcome(&http, &secret.display().to_string()).await, ("failed".into(), "input_not_found".into()));
}
