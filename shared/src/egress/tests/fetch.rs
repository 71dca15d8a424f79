//! How an object is fetched: redirects and what goes along, ranges on one connection, answers as they are, and the ways an
//! origin can let us down.

use reqwest::StatusCode;

use super::origin::{Forbidden, Origin, ok, to};
use super::*;
use crate::job::FailureCode;

fn secrets() -> HeaderMap {
    headers::check([("X-Api-Key", "k-secret"), ("Cookie", "c-secret")]).unwrap()
}

#[tokio::test]
async fn an_answer_is_handed_on_as_it_is() {
    let origin = Origin::start(|path| match path {
        "/a?q" => "HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd".to_owned(),
        "/not-modified" => "HTTP/1.1 304 Not Modified\r\nLocation: /a\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    })
    .await;
    let egress = wide(&origin.opened());
    let answer = egress.follow(Get { range: Some(5..=8), ..get(&origin.url("/a?q#f")) }).await.unwrap();
    assert_eq!(
        (answer.status, answer.headers["content-encoding"].as_bytes()),
        (StatusCode::PARTIAL_CONTENT, &b"gzip"[..])
    );
    assert_eq!(text(answer).await, "abcd", "nothing is unpacked");
    let head = origin.heads().remove(0);
    assert!(head.starts_with("get /a?q http/1.1\r\n"), "{head}");
    for line in ["range: bytes=5-8", "accept-encoding: identity", "user-agent: ffprobe-api/", "host: 127.0.0.1:"] {
        assert!(head.contains(&format!("\r\n{line}")), "{line} is missing: {head}");
    }
    assert!(!head.contains("referer") && !head.contains("authorization"));
    for (path, status) in [("/none", 404), ("/not-modified", 304)] {
        assert_eq!(egress.follow(get(&origin.url(path))).await.unwrap().status.as_u16(), status);
    }
    let head = Get { verb: Verb::Head, ..get(&origin.url("/none")) };
    assert_eq!(egress.follow(head).await.unwrap().status, StatusCode::NOT_FOUND);
    assert!(origin.heads().last().unwrap().starts_with("head /none"));
}

#[tokio::test]
async fn ranges_share_a_connection() {
    let origin = Origin::start(|_| ok("media")).await;
    let egress = wide(&origin.opened());
    let answer = egress.follow(Get { headers: secrets(), ..get(&origin.url("/a")) }).await.unwrap();
    let pinned = answer.pinned.clone();
    text(answer).await;
    let condition = HeaderMap::from_iter([(reqwest::header::IF_RANGE, "\"tag\"".parse().unwrap())]);
    for first in 0..5 {
        text(pinned.get(Some(first..=first + 10), condition.clone()).await.unwrap()).await;
    }
    assert_eq!((origin.heads().len(), origin.connections()), (6, 1));
    let last = origin.heads().pop().unwrap();
    for line in ["range: bytes=4-14", "if-range: \"tag\"", "x-api-key: k-secret"] {
        assert!(last.contains(line), "{line}: {last}");
    }
}

#[tokio::test]
async fn a_request_without_following_takes_a_redirect_as_the_answer() {
    let forbidden = Forbidden::everywhere();
    let location = format!("http://127.0.0.1:{}/", forbidden.port);
    let origin = Origin::start(move |_| to(&location)).await;
    let pinned = wide(&origin.opened()).pin(&url(&origin.url("/hook")), HeaderMap::new()).await.unwrap();
    let answer = pinned.send(Method::POST, HeaderMap::new(), Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(answer.status, StatusCode::FOUND);
    assert!(origin.heads()[0].starts_with("post /hook") && !forbidden.was_met());
}

#[tokio::test]
async fn headers_and_credentials_stay_with_their_origin() {
    let other = Origin::start(|_| ok("")).await;
    let away = other.url("/b");
    let origin = Origin::start(move |path| match path {
        "/same" => to("/away"),
        "/away" => to(&away),
        _ => ok(""),
    })
    .await;
    let egress = wide(&format!("{},{}", origin.opened(), other.opened()));
    let from = format!("http://me:p%40ss@127.0.0.1:{}/same", origin.port);
    let answer = egress.follow(Get { headers: secrets(), range: Some(0..=1), ..get(&from) }).await.unwrap();
    assert_eq!(answer.pinned.url().as_str(), other.url("/b"));
    answer.pinned.get(None, HeaderMap::new()).await.unwrap();
    // me:p@ss
    let mine = ["authorization: basic bwu6cebzcw==", "x-api-key: k-secret", "cookie: c-secret"];
    assert_eq!((origin.heads().len(), other.heads().len()), (2, 2));
    for (head, line) in origin.heads().iter().flat_map(|h| mine.map(|m| (h.clone(), m))) {
        assert!(head.contains(line), "{line} is missing: {head}");
    }
    for head in other.heads() {
        assert!(!head.contains("secret") && !head.contains("authorization") && !head.contains("referer"), "{head}");
    }
    assert!(other.heads()[0].contains("range: bytes=0-1"), "the range is ours and goes along");
}

#[tokio::test]
async fn what_was_dropped_does_not_come_back() {
    let home = Arc::new(std::sync::OnceLock::<String>::new());
    let back = home.clone();
    let other = Origin::start(move |_| to(back.get().unwrap())).await;
    let away = other.url("/");
    let origin = Origin::start(move |path| if path == "/end" { ok("") } else { to(&away) }).await;
    home.set(origin.url("/end")).unwrap();
    let egress = wide(&format!("{},{}", origin.opened(), other.opened()));
    egress.follow(Get { headers: secrets(), ..get(&origin.url("/")) }).await.unwrap();
    assert!(origin.heads()[0].contains("secret") && !origin.heads()[1].contains("secret"));
}

#[tokio::test]
async fn an_authorization_of_the_client_wins_over_the_url() {
    let origin = Origin::start(|_| ok("")).await;
    let headers = headers::check([("Authorization", "Bearer token")]).unwrap();
    let from = format!("http://me:pass@127.0.0.1:{}/", origin.port);
    wide(&origin.opened()).follow(Get { headers, ..get(&from) }).await.unwrap();
    assert_eq!(origin.heads()[0].matches("authorization: ").count(), 1);
    assert!(origin.heads()[0].contains("authorization: bearer token"));
    let odd = format!("http://%ff@127.0.0.1:{}/", origin.port);
    assert!(matches!(failing(&wide(&origin.opened()), &odd).await, Error::NotAllowed(_)));
    assert_eq!(origin.heads().len(), 1);
}

#[tokio::test]
async fn redirects_are_counted() {
    let origin = Origin::start(|path| match path.trim_start_matches('/').parse::<u32>() {
        Ok(0) => ok("there"),
        Ok(left) => to(&format!("/{}", left - 1)),
        Err(_) => to("/loop"),
    })
    .await;
    let egress = wide(&origin.opened());
    assert_eq!(text(egress.follow(get(&origin.url("/5"))).await.unwrap()).await, "there");
    for path in ["/6", "/loop"] {
        let before = origin.heads().len();
        let error = failing(&egress, &origin.url(path)).await;
        assert_eq!((error.code(), origin.heads().len() - before), (FailureCode::TooManyRedirects, REDIRECTS_MAX + 1));
    }
}

#[tokio::test]
async fn an_origin_that_lets_us_down_is_told_apart() {
    let origin = Origin::start(|path| match path.trim_end_matches("?secret") {
        "/garbage" => "SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(),
        "/length" => "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_owned(),
        "/nowhere" => "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "/unusable" => to("http://[::1"),
        "/huge" => format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)),
        "/silent" => "HTTP".to_owned(),
        _ => String::new(),
    })
    .await;
    let mut egress = wide(&origin.opened());
    egress.bounds.first_byte = Duration::from_millis(500);
    for (path, code) in [
        ("/garbage", FailureCode::RemoteRejected),
        ("/length", FailureCode::RemoteRejected),
        ("/nowhere", FailureCode::RemoteRejected),
        ("/unusable", FailureCode::RemoteRejected),
        ("/huge", FailureCode::RemoteRejected),
        ("/closes", FailureCode::ConnectionLost),
        ("/silent", FailureCode::RemoteTooSlow),
    ] {
        let failure =
            failing(&egress, &format!("{}?secret", origin.url(path).replace("//", "//me:secret@"))).await.failure();
        // the paths of the messages carry no query
        assert_eq!(failure.code, code, "{path}: {}", failure.message);
        assert!(!failure.message.contains("secret"), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_of_the_body() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let origin = Origin::start(move |_| cut.to_owned()).await;
    let egress = wide(&origin.opened());
    let mut answer = egress.follow(get(&origin.url("/cut?secret"))).await.unwrap();
    assert_eq!(answer.body.try_next().await.unwrap().unwrap(), "half");
    // how long the rest may take is the reader's to decide
    let rest = answer.body.try_next();
    assert!(tokio::time::timeout(Duration::from_millis(100), rest).await.is_err());
    origin.close();
    let failure = answer.body.try_next().await.unwrap_err().failure();
    assert_eq!(failure.code, FailureCode::ConnectionLost);
    assert!(!failure.message.contains("secret"), "{}", failure.message);
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    let origin = Forbidden::everywhere();
    let egress = wide(&format!("127.0.0.1/32:{}", origin.port));
    let at = format!("http://127.0.0.1:{}/", origin.port);
    drop(origin);
    let error = failing(&egress, &at).await;
    assert_eq!(error.code(), FailureCode::ConnectFailed, "{error}");
}

#[tokio::test]
async fn an_address_that_does_not_answer_leaves_the_others() {
    let origin = Origin::start(|_| ok("media")).await;
    let opened = format!("{},[::1/128]:{}", origin.opened(), origin.port);
    for answers in [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]] {
        let egress = wide(&opened).resolved_by(&Names::say(&[&answers]));
        let at = format!("http://both.example.:{}/", origin.port);
        assert_eq!(text(egress.follow(get(&at)).await.unwrap()).await, "media");
    }
}

#[tokio::test]
async fn debug_output_keeps_secrets() {
    let origin = Origin::start(|_| ok("")).await;
    let at = format!("http://me:secret@127.0.0.1:{}/a?secret", origin.port);
    let answer = wide(&origin.opened()).follow(Get { headers: secrets(), ..get(&at) }).await.unwrap();
    assert!(!format!("{answer:?}").contains("secret"), "{answer:?}");
}
