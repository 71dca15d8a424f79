//! The range server towards its client.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::origin::{Server, Step, data, part, part_head};
use super::*;

const SIZE: u64 = 3_000_001;

/// Sends a request and reads the whole answer.
async fn ask(served: &Served, request: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let body = answer.split_off(at + 4);
    (String::from_utf8(answer).unwrap().to_lowercase(), body)
}

fn path(served: &Served) -> String {
    Url::parse(&served.url()).unwrap().path().to_owned()
}

async fn get(served: &Served, range: &str) -> (String, Vec<u8>) {
    let path = path(served);
    ask(served, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{range}\r\n")).await
}

#[tokio::test]
async fn ranges_are_answered_after_the_rfc() {
    let server = Server::start(|asked| part(asked, SIZE, "v")).await;
    let remote = open(&server.url()).await.unwrap();
    let served = remote.serve().unwrap();
    let last = SIZE - 1;
    for (range, status, told, from, until) in [
        ("", 200, String::new(), 0, SIZE),
        ("Range: bytes=0-\r\n", 206, format!("bytes 0-{last}/{SIZE}"), 0, SIZE),
        ("Range: bytes=1000000-1000009\r\n", 206, format!("bytes 1000000-1000009/{SIZE}"), 1_000_000, 1_000_010),
        ("Range: bytes=-5\r\n", 206, format!("bytes {}-{last}/{SIZE}", SIZE - 5), SIZE - 5, SIZE),
        ("Range: bytes=2999999-9999999999\r\n", 206, format!("bytes 2999999-{last}/{SIZE}"), 2_999_999, SIZE),
        ("Range: bytes=3000001-\r\n", 416, format!("bytes */{SIZE}"), 0, 0),
        ("Range: bytes=0-1,5-6\r\n", 416, format!("bytes */{SIZE}"), 0, 0),
        ("Range: bytes=x\r\n", 416, format!("bytes */{SIZE}"), 0, 0),
        ("Range: bytes=0-1\r\nRange: bytes=5-6\r\n", 416, format!("bytes */{SIZE}"), 0, 0),
        ("Range: pages=1-2\r\n", 200, String::new(), 0, SIZE),
    ] {
        let (head, body) = get(&served, range).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{range}: {head}");
        assert!(head.contains(&format!("content-length: {}\r\n", until - from)) || from == until, "{range}: {head}");
        let seen = head.lines().find_map(|l| l.strip_prefix("content-range: ")).unwrap_or_default();
        assert_eq!(seen, told, "{range}");
        assert!(body == data(from, until), "{range}: {} bytes", body.len());
    }
}

#[tokio::test]
async fn only_the_token_opens_and_only_for_reading() {
    let server = Server::start(|asked| part(asked, 5000, "v")).await;
    let remote = open(&server.url()).await.unwrap();
    let served = remote.serve().unwrap();
    let path = path(&served);
    assert!(path.len() == 33 && !path.contains('.'), "{path}");
    let end = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let wrong = format!("{}x", &path[..path.len() - 1]);
    for other in [
        "/",
        "",
        wrong.as_str(),
        &path[..32],
        &format!("{path}0"),
        &format!("{path}?a"),
        &format!("{path}/"),
        "/..",
        "*",
    ] {
        let (head, body) = ask(&served, &format!("GET {other} {end}")).await;
        let refused = head.starts_with("http/1.1 404 ") || head.starts_with("http/1.1 400 ");
        assert!(refused && body.is_empty(), "{other}: {head}");
    }
    let (head, body) =
        ask(&served, &format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\nConnection: close\r\n\r\n"))
            .await;
    assert!(
        head.starts_with("http/1.1 200 ") && head.contains("content-length: 5000\r\n") && body.is_empty(),
        "{head}"
    );
    for method in ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS"] {
        let (head, _) = ask(&served, &format!("{method} {path} {end}")).await;
        assert!(head.starts_with("http/1.1 4"), "{method}: {head}");
    }
    // another listener on the same object has the same path, another object another one
    assert_eq!(remote.serve().unwrap().path, served.path);
    assert_ne!(open(&server.url()).await.unwrap().serve().unwrap().path, served.path);
    drop(served);
}

#[tokio::test]
async fn it_serves_on_a_listener_from_elsewhere_and_ends_with_it() {
    let server = Server::start(|asked| part(asked, 5000, "v")).await;
    let remote = open(&server.url()).await.unwrap();
    assert!(remote.serve_on(TcpListener::bind("0.0.0.0:0").unwrap()).is_err());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let served = remote.serve_on(listener).unwrap();
    assert_eq!(served.port, addr.port());
    assert_eq!(get(&served, "").await.1, data(0, 5000));
    drop(served);
    for _ in 0..100 {
        if TcpStream::connect(addr).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it still listens");
}

#[tokio::test]
async fn a_broken_origin_breaks_the_answer_off_and_later_requests_are_refused() {
    let server = Server::start(|asked| {
        let (head, until) = part_head(asked, SIZE, "v");
        if asked.from == 0 { vec![head, Step::Data(0, until)] } else { vec![Step::Reset] }
    })
    .await;
    let remote = open(&server.url()).await.unwrap();
    let served = remote.serve().unwrap();
    let (head, body) = get(&served, "Range: bytes=0-\r\n").await;
    assert!(head.starts_with("http/1.1 206 ") && (body.len() as u64) < SIZE, "shorter than announced");
    let (head, _) = get(&served, "").await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(remote.finish().await.map(|f| f.code), Some(FailureCode::ConnectionLost));
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_reading_and_frees_its_place() {
    const LARGE: u64 = 1 << 40;
    let server = Server::start(|asked| part(asked, LARGE, "v")).await;
    let remote = open(&server.url()).await.unwrap();
    let served = remote.serve().unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path(&served));
    // more clients one after the other than there are places, each leaves in the middle
    for _ in 0..10 {
        let mut stream = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut some = vec![0; 600_000];
        stream.read_exact(&mut some).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = remote.account();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = remote.account();
    assert_eq!(before.bytes, after.bytes, "nothing is read for nobody");
    assert!(after.bytes < 12_000_000, "what is read twice is fetched once: {after:?}");
    assert!(after.requests <= 5, "{after:?}");
}

#[tokio::test]
async fn a_client_that_goes_away_while_the_origin_is_silent_frees_its_place() {
    let server =
        Server::start(
            |asked| {
                if asked.from == 0 { part(asked, SIZE, "v") } else { vec![Step::Wait(Duration::from_secs(60))] }
            },
        )
        .await;
    let patient = Bounds { first_byte: Duration::from_secs(60), ..bounds() };
    let remote = open_with(&server.url(), patient).await.unwrap();
    let served = remote.serve().unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nRange: bytes=1000000-\r\n\r\n", path(&served));
    for _ in 0..8 {
        let mut stream = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 16];
        stream.read_exact(&mut head).await.unwrap();
    }
    let first = tokio::time::timeout(Duration::from_secs(5), get(&served, "Range: bytes=0-9\r\n"));
    assert_eq!(first.await.expect("there is a place").1, data(0, 10));
}
