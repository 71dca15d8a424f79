//! Objects that change, and answers that do not fit what was asked.

use super::origin::{Server, Step, data, head, part, part_head};
use super::*;

const SIZE: u64 = 3_000_001;

#[tokio::test]
async fn an_object_that_changes_between_requests_is_noticed() {
    let versions = [("a new tag", SIZE, "w"), ("another size", SIZE + 1, "v")];
    for (what, size, tag) in versions {
        let server =
            Server::start(move |asked| if asked.number < 2 { part(asked, SIZE, "v") } else { part(asked, size, tag) })
                .await;
        let remote = open(&server.url()).await.unwrap();
        assert_eq!(told(&remote).await, Some(FailureCode::SourceChanged), "{what}");
    }
    for status in [412, 416, 404, 410] {
        let server = Server::start(move |asked| match asked.number {
            0 | 1 => part(asked, SIZE, "v"),
            _ => vec![head(status, &[("Content-Length", "0".into())])],
        })
        .await;
        let remote = open(&server.url()).await.unwrap();
        assert_eq!(told(&remote).await, Some(FailureCode::SourceChanged), "{status}");
    }
}

#[tokio::test]
async fn an_object_that_changes_after_the_last_request_is_noticed_at_the_end() {
    for (last, outcome, check) in [
        (412, Some(FailureCode::SourceChanged), EndCheck::Changed),
        (404, Some(FailureCode::SourceChanged), EndCheck::Changed),
        (403, None, EndCheck::Unknown),
        (503, None, EndCheck::Unknown),
    ] {
        let server = Server::start(move |asked| match (asked.from, asked.until) {
            (0, 1) => vec![head(last, &[("Content-Length", "0".into())])],
            _ => part(asked, SIZE, "v"),
        })
        .await;
        let remote = open(&server.url()).await.unwrap();
        assert_eq!(told(&remote).await, outcome, "{last}");
        assert_eq!(remote.account().end_check, check, "{last}");
    }
}

#[tokio::test]
async fn one_quick_answer_needs_no_check() {
    let server = Server::start(|asked| part(asked, 5000, "v")).await;
    let remote = open(&server.url()).await.unwrap();
    assert_eq!(told(&remote).await, None);
    let account = remote.account();
    assert_eq!((account.requests, account.bytes, account.end_check), (1, 5000, EndCheck::NotMade));
    let slow = Bounds { end_check_after: Duration::ZERO, ..bounds() };
    let remote = open_with(&server.url(), slow).await.unwrap();
    assert_eq!((told(&remote).await, remote.account().end_check), (None, EndCheck::Same));
}

#[tokio::test]
async fn without_parts_a_small_object_is_read_as_a_whole_and_a_large_one_refused() {
    let server = Server::start(|asked| {
        let whole = head(200, &[("Content-Length", SIZE.to_string())]);
        match asked.number {
            0 => vec![whole, Step::Data(0, SIZE / 2), Step::Reset],
            _ => vec![whole, Step::Data(0, SIZE)],
        }
    })
    .await;
    let remote = open(&server.url()).await.unwrap();
    assert!(read(&remote, 0, SIZE as usize).await.unwrap() == data(0, SIZE));
    assert!(read(&remote, SIZE - 5, 100).await.unwrap() == data(SIZE - 5, SIZE));
    assert_eq!(remote.finish().await, None);
    let account = remote.account();
    assert_eq!((account.requests, account.retries), (2, 1));
    assert!(account.bytes > SIZE, "what was thrown away counts too");
    for bounds in [Bounds { spool_bytes: SIZE - 1, ..bounds() }, Bounds { max_bytes: SIZE - 1, ..bounds() }] {
        let before = server.asked().len();
        assert_eq!(code(open_with(&server.url(), bounds).await), FailureCode::RangeNotSupported);
        assert_eq!(server.asked().len(), before + 1, "it is refused at once");
    }
}

#[tokio::test]
async fn bodies_without_an_end_are_left() {
    let chunk = [b"10000\r\n".to_vec(), vec![7; 0x10000], b"\r\n".to_vec()].concat();
    let forever = move || Step::Forever(chunk.clone(), Duration::ZERO);
    let also = forever.clone();
    let chunked = || ("Transfer-Encoding", "chunked".to_owned());
    let whole = Server::start(move |_| vec![head(200, &[chunked()]), forever()]).await;
    assert_eq!(code(open(&whole.url()).await), FailureCode::RangeNotSupported);
    let parts = Server::start(move |asked| {
        let until = asked.until.min(SIZE);
        let range = ("Content-Range", format!("bytes {}-{}/{SIZE}", asked.from, until - 1));
        vec![head(206, &[range, chunked()]), also()]
    })
    .await;
    let remote = open(&parts.url()).await.unwrap();
    // the bytes up to the announced end are taken; what follows is not
    assert_eq!(told(&remote).await, Some(FailureCode::ConnectionLost));
    assert!(remote.account().bytes <= SIZE);
}

#[tokio::test]
async fn answers_that_lie_are_refused() {
    use FailureCode as C;
    let gzip = Server::start(|asked| {
        let (_, until) = part_head(asked, SIZE, "v");
        let range = ("Content-Range", format!("bytes {}-{}/{SIZE}", asked.from, until - 1));
        vec![head(206, &[range, ("Content-Encoding", "gzip".into())]), Step::Data(0, until)]
    })
    .await;
    assert_eq!(code(open(&gzip.url()).await), C::RemoteRejected);
    let elsewhere = Server::start(|asked| match asked.number {
        0 => part(asked, SIZE, "v"),
        _ => vec![head(206, &[("Content-Range", format!("bytes 0-99/{SIZE}"))]), Step::Data(0, 100)],
    })
    .await;
    let remote = open(&elsewhere.url()).await.unwrap();
    assert_eq!(told(&remote).await, Some(C::RemoteRejected));
    for (status, list, expected) in [
        (416, ("Content-Range", "bytes */0".to_owned()), C::EmptyInput),
        (200, ("Content-Length", "0".to_owned()), C::EmptyInput),
        (404, ("Content-Length", "0".to_owned()), C::RemoteNotFound),
        (403, ("Content-Length", "0".to_owned()), C::RemoteForbidden),
        (206, ("Content-Range", "bytes 0-99/*".to_owned()), C::RangeNotSupported),
    ] {
        let server = Server::start(move |_| vec![head(status, std::slice::from_ref(&list))]).await;
        assert_eq!(code(open(&server.url()).await), expected, "{status}");
        assert_eq!(server.asked().len(), 1, "{status}: asked once");
    }
}

#[tokio::test]
async fn an_address_that_was_redirected_to_and_ran_out_is_asked_for_again() {
    let target = Server::start(|asked| match asked.number {
        1 => vec![head(403, &[("Content-Length", "0".into())])],
        _ => part(asked, SIZE, "v"),
    })
    .await;
    let to = target.url();
    let first =
        Server::start(move |_| vec![head(302, &[("Location", to.clone()), ("Content-Length", "0".into())])]).await;
    let remote = open(&first.url()).await.unwrap();
    assert_eq!(told(&remote).await, None);
    assert_eq!(first.asked().len(), 2, "once to open, once for a fresh address");
}

#[tokio::test]
async fn a_canceled_read_ends_at_once_and_is_no_fault() {
    let server = Server::start(|asked| match asked.number {
        0 => part(asked, SIZE, "v"),
        _ => vec![Step::Wait(Duration::from_secs(60))],
    })
    .await;
    let cancel = CancellationToken::new();
    let origin = UrlOrigin::new(egress(), Url::parse(&server.url()).unwrap(), HeaderMap::new());
    let remote = Remote::open(Arc::new(origin), bounds(), cancel.clone()).await.unwrap();
    let (read, ()) = tokio::join!(read(&remote, 0, SIZE as usize), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    });
    assert!(read.is_err());
    assert_eq!(remote.finish().await, None);
}
