//! S3 buckets: a scripted server for what goes wrong, and a real one for what goes right.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3Builder;
use shared::config::{S3Profile, S3Style};

use super::origin::{Server, data, head, part};
use super::*;

const SIZE: u64 = 3_000_001;

fn profile(endpoint: &str) -> S3Profile {
    S3Profile {
        name: "archive".into(),
        endpoint: Some(Url::parse(endpoint).unwrap()),
        region: "eu-central-1".into(),
        access_key_id: "AKIDTEST".into(),
        secret_access_key: "hush-hush".to_owned().into(),
        buckets: vec!["media".into()],
        prefixes: Vec::new(),
        style: S3Style::Path,
    }
}

async fn open_s3(endpoint: &str, key: &str, bounds: Bounds) -> Result<Remote, Failure> {
    let origin = S3Origin::new(&profile(endpoint), "media", key)?;
    Remote::open(Arc::new(origin), bounds, CancellationToken::new()).await
}

async fn open(server: &Server) -> Result<Remote, Failure> {
    open_s3(&format!("http://{}", server.addr), "public/a b%20c.mp4", bounds()).await
}

#[tokio::test]
async fn an_object_is_read_with_signed_requests_and_its_version() {
    let server = Server::start(|asked| match asked.number {
        1 => vec![head(503, &[("Content-Length", "0".into())])],
        _ => part(asked, SIZE, "v"),
    })
    .await;
    let remote = open(&server).await.unwrap();
    assert_eq!((remote.object().size_bytes, remote.object().name.as_str()), (SIZE, "a b%20c.mp4"));
    assert!(read(&remote, 0, SIZE as usize).await.unwrap() == data(0, SIZE));
    assert_eq!(remote.finish().await, None);
    let asked = server.asked();
    assert!(asked.iter().all(|a| a.head.contains("authorization: aws4-hmac-sha256 credential=akidtest/")));
    assert!(asked.iter().all(|a| a.head.starts_with("get /media/public/a%20b%2520c.mp4 ")), "{}", asked[0].head);
    assert!(asked[1..].iter().all(|a| a.head.contains("if-match: \"v\"")));
    let account = remote.account();
    assert_eq!((account.requests as usize, account.retries), (asked.len(), 1));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    use FailureCode as C;
    for (status, header, expected) in [
        (404, ("x", ""), C::RemoteNotFound),
        (403, ("x", ""), C::RemoteForbidden),
        (401, ("x", ""), C::RemoteForbidden),
        (400, ("x", ""), C::RemoteRejected),
        (301, ("Location", "http://127.0.0.1:1/"), C::RemoteRejected),
        (416, ("x", ""), C::EmptyInput),
        (200, ("x", ""), C::RangeNotSupported),
        (503, ("Retry-After", "60"), C::RemoteUnavailable),
    ] {
        let server = Server::start(move |_| {
            vec![head(status, &[("Content-Length", "0".into()), (header.0, header.1.to_owned())])]
        })
        .await;
        let failure = open(&server).await.err().unwrap();
        assert_eq!(failure.code, expected, "{status}");
        assert_eq!(failure.retry_after_seconds, (status == 503).then_some(60));
        assert_eq!(server.asked().len(), 1, "{status}: object_store does not retry by itself");
        assert!(!failure.message.contains("hush"), "{}", failure.message);
    }
    let server = Server::start(|_| Vec::new()).await;
    assert_eq!(code(open(&server).await), C::ConnectionLost);
    assert_eq!(code(open_s3("http://127.0.0.1:1", "a", bounds()).await), C::ConnectFailed);
    assert_eq!(code(open_s3("http://127.0.0.1:1", "a//../b", bounds()).await), C::RemoteNotFound);
}

#[tokio::test]
async fn a_changed_object_is_noticed() {
    for status in [412, 404] {
        let server = Server::start(move |asked| match asked.number {
            0 => part(asked, SIZE, "v"),
            _ => vec![head(status, &[("Content-Length", "0".into())])],
        })
        .await;
        let remote = open(&server).await.unwrap();
        assert_eq!(told(&remote).await, Some(FailureCode::SourceChanged), "{status}");
    }
    let server = Server::start(|asked| part(asked, SIZE, if asked.number == 0 { "v" } else { "w" })).await;
    let remote = open(&server).await.unwrap();
    assert_eq!(told(&remote).await, Some(FailureCode::SourceChanged));
}

/// A real S3 API on a free port: moto, which `scripts/setup.sh test` installs. Killed when dropped.
struct Moto {
    endpoint: String,
    server: Child,
}

impl Moto {
    fn start() -> Self {
        let own = std::env::current_exe().unwrap();
        let python = own.ancestors().nth(3).unwrap().join("s3-api/bin/python");
        let mut server = Command::new(&python)
            .args(["-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}; this test needs: scripts/setup.sh test", python.display()));
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("Running on ")?.1.trim().to_owned()));
        // it says a line for every request
        std::thread::spawn(move || lines.for_each(drop));
        Self { endpoint: address.expect("moto says where it listens"), server }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test]
async fn a_real_api_serves_ranges_and_notices_changes() {
    let moto = Moto::start();
    let (endpoint, key) = (moto.endpoint.as_str(), "public/a b%20\u{fc}+&c.mp4");
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    client.put(format!("{endpoint}/media")).send().await.unwrap().error_for_status().unwrap();
    let store = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_bucket_name("media")
        .with_access_key_id("AKIDTEST")
        .with_secret_access_key("hush-hush")
        .build()
        .unwrap();
    let put = async |key: &str, body: Vec<u8>| {
        store.put(&object_store::path::Path::parse(key).unwrap(), body.into()).await.unwrap();
    };
    put(key, data(0, SIZE)).await;
    put("empty", Vec::new()).await;
    let remote = open_s3(endpoint, key, bounds()).await.unwrap();
    assert_eq!(remote.object().size_bytes, SIZE);
    assert!(matches!(remote.object().validator, Validator::Tag(_)));
    assert!(read(&remote, 0, SIZE as usize).await.unwrap() == data(0, SIZE));
    assert!(read(&remote, SIZE - 10, 100).await.unwrap() == data(SIZE - 10, SIZE));
    assert_eq!(remote.finish().await, None);
    assert_eq!(remote.account().end_check, EndCheck::Same);
    let remote = open_s3(endpoint, key, bounds()).await.unwrap();
    put(key, data(1, SIZE + 1)).await;
    assert_eq!(told(&remote).await, Some(FailureCode::SourceChanged));
    assert_eq!(code(open_s3(endpoint, "none", bounds()).await), FailureCode::RemoteNotFound);
    assert_eq!(code(open_s3(endpoint, "empty", bounds()).await), FailureCode::EmptyInput);
}
