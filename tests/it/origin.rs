//! The hostile origin itself, asked by a client that is known: it does what its acts say and remembers what it was asked.
//! No product takes part; its tests of remote input stand on this.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use tests::origin::{Act, Change, Origin, RangeLie};

fn client() -> Client {
    let patience = Duration::from_secs(5);
    Client::builder()
        .no_proxy()
        .timeout(patience)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client")
}

fn bytes() -> Vec<u8> {
    (0..100_000_u32).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn it_serves_ranges_and_remembers() {
    let (origin, client) = (Origin::start(), client());
    let url = origin.serve("/a.mp4", bytes());
    let whole = client.get(&url).header("X-Word", "hello").send().await.expect("an answer");
    assert_eq!(whole.bytes().await.expect("a body"), bytes());
    for (range, status, from, to) in [
        ("bytes=10-19", 206, 10, 20),
        ("bytes=99990-", 206, 99_990, 100_000),
        ("bytes=-5", 206, 99_995, 100_000),
        ("bytes=99990-200000", 206, 99_990, 100_000),
    ] {
        let part = client.get(format!("{url}?q=1")).header("Range", range).send().await.expect("an answer");
        assert_eq!(part.status(), status, "{range}");
        assert_eq!(part.headers()["content-range"], format!("bytes {from}-{}/100000", to - 1), "{range}");
        assert_eq!(part.bytes().await.expect("a body"), bytes()[from..to], "{range}");
    }
    let outside = client.get(&url).header("Range", "bytes=100000-").send().await.expect("an answer");
    assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(client.get(origin.url("/other")).send().await.expect("an answer").status(), 404);

    let seen = origin.exchanges_of("/a.mp4");
    assert_eq!(
        (seen.len(), seen[0].header("x-word"), seen[1].header("range")),
        (6, Some("hello"), Some("bytes=10-19"))
    );
    assert_eq!((seen[0].body_bytes, seen[1].body_bytes, seen[1].target()), (100_000, 10, "/a.mp4?q=1"));
    assert_eq!(origin.connections(), 1, "the connection is used again");
}

#[tokio::test]
async fn every_act_does_what_it_says() {
    let (origin, client) = (Origin::start(), client());
    let part = async |path: &str, act: Act| {
        let url = origin.script(path, bytes(), &[], act);
        client.get(url).header("Range", "bytes=1000-1999").send().await
    };
    let body = async |path: &str, act: Act| Ok::<_, reqwest::Error>(part(path, act).await?.bytes().await?.len());
    assert_eq!(body("/no-ranges", Act::NoRanges).await.expect("the whole"), 100_000);
    assert_eq!(body("/no-length", Act::NoLength).await.expect("the whole"), 100_000);
    assert_eq!(body("/chunked", Act::Chunked).await.expect("the whole"), 100_000);
    assert_eq!(body("/close", Act::CloseAfter).await.expect("the part"), 1000);
    for (path, act) in [
        ("/reset", Act::Reset { after: 10 }),
        ("/truncated", Act::Truncate { after: 10 }),
        ("/refused", Act::Refuse),
        ("/garbage", Act::Raw(b"SSH-2.0-x\r\n\r\n".to_vec())),
        ("/flood", Act::HeaderFlood { count: 5000, bytes: 200 }),
    ] {
        assert!(body(path, act).await.is_err(), "{path}");
    }
    let multipart = part("/multipart", Act::Multipart).await.expect("an answer");
    assert!(multipart.headers()["content-type"].to_str().expect("text").starts_with("multipart/"));
    assert!(multipart.text().await.is_ok_and(|t| t.ends_with("--part--\r\n")));
    let lies = [RangeLie::OtherStart, RangeLie::OtherTotal, RangeLie::Garbage, RangeLie::Missing];
    for lie in lies {
        let answer = part("/lie", Act::WrongRange(lie)).await.expect("an answer");
        let said = answer.headers().get("content-range").map(|v| v.to_str().expect("text"));
        assert_ne!(said, Some("bytes 1000-1999/100000"), "{lie:?}");
    }
    let other = part("/other", Act::WrongRange(RangeLie::OtherBytes)).await.expect("an answer");
    assert_eq!(other.bytes().await.expect("a body"), bytes()[1001..2001]);
    let location = part("/moved", Act::Redirect(302, "gopher://x".into())).await.expect("an answer");
    assert_eq!(
        (location.status().as_u16(), &location.headers()["location"]),
        (302, &"gopher://x".parse().expect("one"))
    );
    let encoded = part("/gzip", Act::Encoded("gzip")).await.expect("an answer");
    assert_eq!(encoded.headers()["content-encoding"], "gzip");
}

#[tokio::test]
async fn scripts_change_and_slow_ones_are_slow() {
    let (origin, client) = (Origin::start(), client());
    let url = origin.script("/busy", bytes(), &[Act::status(503), Act::retry_after(429, "7")], Act::Serve);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.get(&url).send().await.expect("an answer").status().as_u16());
    }
    assert_eq!(statuses, [503, 429, 200, 200]);

    for (change, header) in
        [(Change::ETag, "etag"), (Change::LastModified, "last-modified"), (Change::Size, "content-length")]
    {
        let url = origin.script("/changing", bytes(), &[], Act::Changing(change));
        let first = client.get(&url).send().await.expect("an answer").headers()[header].clone();
        assert_ne!(client.get(&url).send().await.expect("an answer").headers()[header], first, "{change:?}");
    }

    let pause = Duration::from_millis(5);
    let quick = Duration::from_millis(300);
    for (path, act) in [("/loris", Act::SlowHead { pause }), ("/drip", Act::Drip { bytes: 1000, pause })] {
        let (url, begun) = (origin.script(path, bytes(), &[], act), Instant::now());
        assert_eq!(client.get(url).send().await.expect("an answer").bytes().await.expect("a body").len(), 100_000);
        assert!(begun.elapsed() > quick, "{path} took {:?}", begun.elapsed());
    }
    let (silent, begun) = (origin.script("/silent", bytes(), &[], Act::Silent), Instant::now());
    assert!(client.get(silent).timeout(quick).send().await.is_err_and(|e| e.is_timeout()));
    assert!(begun.elapsed() >= quick);
    let endless = origin.script("/endless", bytes(), &[], Act::Endless { length: None });
    let mut body = client.get(endless).send().await.expect("an answer");
    for _ in 0..100 {
        assert!(body.chunk().await.expect("more").is_some());
    }
}
