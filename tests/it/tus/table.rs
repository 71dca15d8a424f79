//! The table of the protocol: what each request needs, how it is answered, and which refusal wins.

use reqwest::Method;
use tests::{Answer, Installation};

use super::wire::Wire;
use super::{create, head, offset, patch, path_of, pattern, request};

const UPLOADS: &str = "/api/v1/uploads";

/// Headers and body of a request, and the status of its answer.
type Row<'a> = (&'a [(&'a str, &'a str)], &'a [u8], u16);

#[tokio::test]
async fn options_tell_what_is_spoken() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("MAX_UPLOAD_BYTES", "1000")]);
    for path in [UPLOADS, "/api/v1/uploads/anything"] {
        let answer = Answer::of(http.with_key(None).request(Method::OPTIONS, path)).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
        assert_eq!(answer.header("tus-version"), "1.0.0");
        assert_eq!(answer.header("tus-max-size"), "1000");
        assert_eq!(answer.header("tus-checksum-algorithm"), "sha1,sha256,md5,crc32");
        assert!(answer.header("tus-extension").contains("checksum-trailer"));
    }
}

#[tokio::test]
async fn an_upload_comes_in_pieces() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let metadata = "filename aG9saWRheS5tcDQ=,is_confidential";
    let path = create(&http, &[("upload-length", "300000"), ("upload-metadata", metadata)]).await;
    let bytes = pattern(0, 300_000);
    let answer = head(&http, &path).await;
    for (name, value) in [
        ("upload-offset", "0"),
        ("upload-length", "300000"),
        ("upload-metadata", metadata),
        ("tus-resumable", "1.0.0"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert!(answer.header("upload-expires").ends_with(" GMT"));
    let answer = patch(&http, &path, 0, &[], bytes[..100_000].to_vec()).await;
    assert_eq!((answer.status.as_u16(), answer.header("upload-offset")), (204, "100000"), "{}", answer.text);
    assert!(answer.header("upload-expires").ends_with(" GMT"));
    let answer = patch(&http, &path, 0, &[], bytes[..10].to_vec()).await;
    answer.problem(409, "offset_mismatch");
    assert_eq!(answer.header("upload-offset"), "100000");
    assert_eq!(http.get(&path).await.json["received_bytes"], 100_000);
    assert_eq!(patch(&http, &path, 100_000, &[], bytes[100_000..].to_vec()).await.status, 204);
    // a retry after a lost answer changes nothing
    let answer = patch(&http, &path, 300_000, &[], Vec::new()).await;
    assert_eq!((answer.status.as_u16(), answer.header("upload-offset")), (204, "300000"));
    patch(&http, &path, 300_000, &[], vec![0]).await.problem(413, "payload_too_large");
    let answer = http.get(&path).await;
    assert_eq!(
        (answer.json["state"].as_str(), answer.json["filename"].as_str()),
        (Some("complete"), Some("holiday.mp4"))
    );
    assert_eq!(head(&http, &path).await.header("upload-expires"), "");
    let stored = installation.uploads().join(answer.json["id"].as_str().expect("an id")).join("data");
    assert!(std::fs::read(stored).expect("stored") == bytes);
}

#[tokio::test]
async fn creation_is_refused_in_the_right_order() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("MAX_UPLOAD_BYTES", "1000")]);
    let offset_type = ("content-type", "application/offset+octet-stream");
    let rows: &[Row<'_>] = &[
        (&[], b"", 400),
        (&[("upload-length", "5"), ("upload-defer-length", "1")], b"", 400),
        (&[("upload-defer-length", "2")], b"", 400),
        (&[("upload-length", "+5")], b"", 400),
        (&[("upload-length", "5"), ("upload-metadata", "a ?")], b"", 400),
        (&[("upload-length", "5"), ("upload-concat", "whole")], b"", 400),
        (&[("upload-length", "1001")], b"", 413),
        (&[("upload-length", "5"), ("content-type", "text/plain")], b"hello", 415),
        (&[("upload-length", "x"), ("content-type", "text/plain")], b"hello", 415),
        (&[("upload-length", "4"), offset_type], b"hello", 413),
        (&[("upload-length", "5"), offset_type, ("upload-checksum", "crc64 AAAA")], b"hello", 400),
        (&[("upload-length", "5"), offset_type, ("upload-checksum", "crc32 AAAAAA==")], b"hello", 460),
        (&[("upload-concat", "final;/api/v1/uploads/nothing")], b"", 400),
        (&[("upload-concat", "final;/api/v1/uploads/6f1ed002-ab5b-4f26-8f2b-6b8f1d3c9a11")], b"", 404),
    ];
    for (headers, body, status) in rows {
        let answer = Answer::of(request(&http, Method::POST, UPLOADS, headers).body(body.to_vec())).await;
        assert_eq!(answer.status.as_u16(), *status, "{headers:?}: {}", answer.text);
        assert_eq!(answer.header("tus-resumable"), "1.0.0");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let plain = http.request(Method::POST, UPLOADS).header("upload-length", "x");
    let answer = Answer::of(plain).await;
    answer.problem(412, "tus_version");
    assert_eq!(answer.header("tus-version"), "1.0.0");
    let answer = Answer::of(request(&http.with_key(None), Method::POST, UPLOADS, &[("tus-resumable", "0.1")])).await;
    answer.problem(401, "unauthorized");
}

#[tokio::test]
async fn patches_are_refused_in_the_right_order() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let path = create(&http, &[("upload-length", "10")]).await;
    patch(&http, &path, 3, &[("upload-length", "10")], b"x".to_vec()).await.problem(409, "offset_mismatch");
    patch(&http, &path, 0, &[("upload-length", "11")], b"x".to_vec()).await.problem(400, "bad_request");
    patch(&http, &path, 0, &[], vec![0; 11]).await.problem(413, "payload_too_large");
    let bare = |headers: &[(&str, &str)]| request(&http, Method::PATCH, &path, headers).body("x");
    Answer::of(bare(&[])).await.problem(415, "unsupported_media_type");
    Answer::of(bare(&[("content-type", "text/plain"), ("upload-offset", "0")]))
        .await
        .problem(415, "unsupported_media_type");
    let kind = ("content-type", "application/offset+octet-stream");
    for bad in ["-1", "1.0", "0x0", "a", "+0"] {
        Answer::of(bare(&[kind, ("upload-offset", bad)])).await.problem(400, "bad_request");
    }
    Answer::of(bare(&[kind])).await.problem(400, "bad_request");
    let missing = "/api/v1/uploads/6f1ed002-ab5b-4f26-8f2b-6b8f1d3c9a11";
    patch(&http, missing, 0, &[], b"x".to_vec()).await.problem(404, "not_found");
    patch(&http, "/api/v1/uploads/x", 0, &[], b"x".to_vec()).await.problem(404, "not_found");
    let other = http.with_key(Some(&installation.another_key("other", shared::access::Role::Admin, &[]).await));
    patch(&other, &path, 0, &[], b"x".to_vec()).await.problem(404, "not_found");
    assert_eq!(head(&other, &path).await.status, 404);
    assert_eq!(Answer::of(http.request(Method::HEAD, &path)).await.status, 412);
    assert_eq!(offset(&http, &path).await, 0);
}

#[tokio::test]
async fn the_first_bytes_may_come_with_the_creation() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let kind = ("content-type", "application/offset+octet-stream");
    let first = request(&http, Method::POST, UPLOADS, &[("upload-length", "10"), kind]).body("hello");
    let answer = Answer::of(first).await;
    assert_eq!((answer.status.as_u16(), answer.header("upload-offset")), (201, "5"), "{}", answer.text);
    let path = path_of(&http, &answer);
    assert_eq!(patch(&http, &path, 5, &[], b"world".to_vec()).await.status, 204);
    let answer = Answer::of(request(&http, Method::POST, UPLOADS, &[("upload-length", "0")])).await;
    assert_eq!((answer.status.as_u16(), answer.header("upload-offset")), (201, "0"));
    let answer = http.get(&path_of(&http, &answer)).await;
    assert_eq!((answer.json["state"].as_str(), answer.json["size_bytes"].as_i64()), (Some("complete"), Some(0)));
}

#[tokio::test]
async fn the_length_may_be_said_later() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let path = create(&http, &[("upload-defer-length", "1")]).await;
    let answer = head(&http, &path).await;
    assert_eq!((answer.header("upload-defer-length"), answer.header("upload-length")), ("1", ""));
    assert_eq!(patch(&http, &path, 0, &[], b"hello".to_vec()).await.status, 204);
    patch(&http, &path, 5, &[("upload-length", "4")], Vec::new()).await.problem(400, "bad_request");
    assert_eq!(patch(&http, &path, 5, &[("upload-length", "10")], b"wor".to_vec()).await.status, 204);
    assert_eq!(head(&http, &path).await.header("upload-length"), "10");
    patch(&http, &path, 8, &[("upload-length", "9")], b"l".to_vec()).await.problem(400, "bad_request");
    assert_eq!(patch(&http, &path, 8, &[("upload-length", "10")], b"ld".to_vec()).await.status, 204);
    assert_eq!(http.get(&path).await.json["state"], "complete");
}

#[tokio::test]
async fn a_wrong_checksum_keeps_nothing() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let path = create(&http, &[("upload-length", "11")]).await;
    let wrong = [("upload-checksum", "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=")];
    patch(&http, &path, 0, &wrong, b"hello world".to_vec()).await.problem(460, "checksum_mismatch");
    assert_eq!(offset(&http, &path).await, 0);
    let right = [("upload-checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")];
    assert_eq!(patch(&http, &path, 0, &right, b"hello world".to_vec()).await.status, 204);
    // as a trailer
    let path = create(&http, &[("upload-length", "11")]).await;
    for (digest, status) in [("sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=", 460), ("crc32 DUoRhQ==", 204)] {
        let rest = "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nTransfer-Encoding: chunked\r\nTrailer: Upload-Checksum\r\n";
        let mut wire = Wire::send_head(&installation, &http, &format!("PATCH {path}"), rest).await;
        wire.send(format!("b\r\nhello world\r\n0\r\nUpload-Checksum: {digest}\r\n\r\n").as_bytes()).await;
        let answer = wire.answer().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(offset(&http, &path).await, if status == 204 { 11 } else { 0 });
    }
}

#[tokio::test]
async fn an_erased_upload_is_remembered() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    for finished in [true, false] {
        let path = create(&http, &[("upload-length", "5")]).await;
        if finished {
            assert_eq!(patch(&http, &path, 0, &[], b"hello".to_vec()).await.status, 204);
        }
        Answer::of(http.request(Method::DELETE, &path)).await.problem(412, "tus_version");
        assert_eq!(Answer::of(request(&http, Method::DELETE, &path, &[])).await.status, 204);
        Answer::of(request(&http, Method::DELETE, &path, &[])).await.problem(410, "upload_gone");
        let answer = head(&http, &path).await;
        assert_eq!((answer.status.as_u16(), answer.header("upload-offset")), (410, ""));
        patch(&http, &path, 5, &[], Vec::new()).await.problem(410, "upload_gone");
        http.get(&path).await.problem(410, "upload_gone");
        let id = path.rsplit('/').next().expect("an id");
        assert!(!installation.uploads().join(id).exists());
    }
}

#[tokio::test]
async fn parts_are_put_together() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let bytes = pattern(0, 250_000);
    let mut parts = Vec::new();
    for piece in bytes.chunks(100_000) {
        let length = piece.len().to_string();
        let path = create(&http, &[("upload-length", &length), ("upload-concat", "partial")]).await;
        parts.push((path, piece));
    }
    let list = format!("final;{} {}{} {}", parts[0].0, http.url(), parts[1].0, parts[2].0);
    let join = || Answer::of(request(&http, Method::POST, UPLOADS, &[("upload-concat", &list)]));
    join().await.problem(400, "bad_request");
    for (path, piece) in &parts {
        assert_eq!(patch(&http, path, 0, &[], piece.to_vec()).await.status, 204);
    }
    let source = serde_json::json!({"source": {"type": "upload", "id": parts[0].0.rsplit('/').next()}});
    http.post("/api/v1/jobs", &source).await.problem(409, "upload_incomplete");
    let answer = join().await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let path = path_of(&http, &answer);
    let answer = head(&http, &path).await;
    for (name, value) in [("upload-offset", "250000"), ("upload-length", "250000"), ("upload-concat", &list)] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert_eq!(head(&http, &parts[0].0).await.header("upload-concat"), "partial");
    patch(&http, &path, 250_000, &[], Vec::new()).await.problem(403, "upload_final");
    let stored = installation.uploads().join(path.rsplit('/').next().expect("an id")).join("data");
    assert!(std::fs::read(stored).expect("stored") == bytes);
    let with_length = [("upload-concat", list.as_str()), ("upload-length", "250000")];
    Answer::of(request(&http, Method::POST, UPLOADS, &with_length)).await.problem(400, "bad_request");
    let other = http.with_key(Some(&installation.another_key("other", shared::access::Role::Admin, &[]).await));
    Answer::of(request(&other, Method::POST, UPLOADS, &[("upload-concat", &list)])).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_method_may_be_meant_by_post() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let path = create(&http, &[("upload-length", "5")]).await;
    let by_post = |method: &str| request(&http, Method::POST, &path, &[("x-http-method-override", method)]);
    let bytes = by_post("PATCH").header("content-type", "application/offset+octet-stream").header("upload-offset", "0");
    assert_eq!(Answer::of(bytes.body("hello")).await.status, 204);
    assert_eq!(Answer::of(by_post("HEAD")).await.header("upload-offset"), "5");
    Answer::of(by_post("PUT")).await.problem(405, "method_not_allowed");
    assert_eq!(Answer::of(by_post("DELETE")).await.status, 204);
    // only a POST can mean something else
    let meant = request(&http, Method::GET, &path, &[("x-http-method-override", "DELETE")]);
    Answer::of(meant).await.problem(410, "upload_gone");
}

#[tokio::test]
async fn web_pages_need_leave() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("CORS_ORIGINS", "https://app.example.com")]);
    for (origin, allowed) in [("https://app.example.com", true), ("https://evil.example.com", false)] {
        let preflight = http.with_key(None).request(Method::OPTIONS, UPLOADS).header("origin", origin);
        let answer = Answer::of(preflight.header("access-control-request-method", "POST")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), if allowed { origin } else { "" });
        assert_eq!(answer.header("access-control-allow-headers").contains("Upload-Offset"), allowed);
        assert_eq!(answer.header("tus-version"), "1.0.0");
        let refused = request(&http.with_key(None), Method::POST, UPLOADS, &[("origin", origin)]);
        let answer = Answer::of(refused).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("access-control-expose-headers").contains("Location"), allowed);
    }
}
