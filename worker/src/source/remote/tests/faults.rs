//! Origins that break off, refuse for a while, or are slow.

use std::time::Instant;

use super::origin::{Server, Step, data, head, part, part_head};
use super::*;

const SIZE: u64 = 3_000_001;

/// Reads everything, checks every byte, and gives the account.
async fn whole(server: &Server) -> Account {
    let remote = open(&server.url()).await.unwrap();
    assert_eq!(remote.object().size_bytes, SIZE);
    let bytes = read(&remote, 0, SIZE as usize + 10).await.unwrap();
    assert!(bytes == data(0, SIZE), "every byte arrives once and in order");
    assert_eq!(remote.finish().await, None);
    remote.account()
}

#[tokio::test]
async fn a_reset_in_the_middle_is_resumed_where_it_was() {
    let server = Server::start(|asked| {
        let (head, until) = part_head(asked, SIZE, "v");
        match asked.number {
            1 => vec![head, Step::Data(asked.from, asked.from + 300_000), Step::Reset],
            _ => vec![head, Step::Data(asked.from, until)],
        }
    })
    .await;
    let account = whole(&server).await;
    let asked = server.asked();
    assert_eq!(asked[2].from, asked[1].from + 300_000, "it goes on at the byte reached");
    assert_eq!((account.bytes, account.retries, account.end_check), (SIZE, 1, EndCheck::Same));
    assert_eq!(account.requests as usize, asked.len());
    assert!(asked[1..].iter().all(|a| a.head.contains("if-match: \"v\"")), "the version goes along");
}

#[tokio::test]
async fn truncated_answers_are_resumed_and_end_when_nothing_comes() {
    let some = Server::start(|asked| {
        let (head, until) = part_head(asked, SIZE, "v");
        vec![head, Step::Data(asked.from, until.min(asked.from + 400_000))]
    })
    .await;
    let account = whole(&some).await;
    assert!(account.retries > 3 && account.bytes == SIZE, "{account:?}");
    let nothing = Server::start(|asked| {
        let (head, until) = part_head(asked, SIZE, "v");
        if asked.from == 0 { vec![head, Step::Data(0, until)] } else { vec![head] }
    })
    .await;
    let remote = open(&nothing.url()).await.unwrap();
    assert_eq!(told(&remote).await, Some(FailureCode::ConnectionLost));
    let account = remote.account();
    assert_eq!((account.requests, account.retries), (6, 4), "the first, the second, and four retries of it");
    // a byte a connection is progress, but not for ever
    let crumbs = Server::start(|asked| {
        let (head, until) = part_head(asked, SIZE, "v");
        vec![head, Step::Data(asked.from, if asked.from == 0 { until } else { asked.from + 1 })]
    })
    .await;
    let remote = open(&crumbs.url()).await.unwrap();
    assert_eq!(told(&remote).await, Some(FailureCode::ConnectionLost));
    assert_eq!(remote.account().retries, 20);
}

#[tokio::test]
async fn a_server_that_is_unwell_for_a_moment_is_asked_again() {
    for refusal in [500, 503, 429, 408] {
        let server = Server::start(move |asked| match asked.number {
            0 | 3 => vec![head(refusal, &[("Content-Length", "0".into())])],
            _ => part(asked, SIZE, "v"),
        })
        .await;
        assert_eq!(whole(&server).await.retries, 2, "{refusal}");
    }
    let down = Server::start(|_| vec![head(503, &[("Content-Length", "0".into())])]).await;
    let failure = open(&down.url()).await.err().unwrap();
    assert_eq!((failure.code, failure.retryable), (FailureCode::RemoteUnavailable, true));
    assert_eq!(down.asked().len(), 5);
    assert!(!failure.message.contains("secret"));
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for_and_a_long_one_is_handed_on() {
    let server = |after: &'static str| {
        Server::start(move |asked| match asked.number {
            0 => vec![head(429, &[("Retry-After", after.into()), ("Content-Length", "0".into())])],
            _ => part(asked, SIZE, "v"),
        })
    };
    let (short, since) = (server("1").await, Instant::now());
    whole(&short).await;
    assert!(since.elapsed() >= Duration::from_secs(1));
    let (long, since) = (server("60").await, Instant::now());
    let failure = open(&long.url()).await.err().unwrap();
    assert_eq!((failure.code, failure.retry_after_seconds), (FailureCode::RemoteUnavailable, Some(60)));
    assert!(since.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn slow_and_silent_servers_are_left_and_the_stall_is_seen() {
    let silent = Server::start(|_| vec![Step::Wait(Duration::from_secs(60))]).await;
    assert_eq!(code(open_with(&silent.url(), hasty()).await), FailureCode::RemoteTooSlow);
    let drip = Server::start(|asked| {
        let (head, until) = part_head(asked, SIZE, "v");
        let slow = Step::Forever(vec![0; 20], Duration::from_millis(10));
        if asked.from == 0 { vec![head, Step::Data(0, until)] } else { vec![head, slow] }
    })
    .await;
    let stops = Server::start(|asked| {
        let (head, until) = part_head(asked, SIZE, "v");
        let sent = Step::Data(asked.from, until.min(asked.from + 300_000));
        vec![head, sent, Step::Wait(Duration::from_secs(60))]
    })
    .await;
    for server in [drip, stops] {
        let remote = open_with(&server.url(), hasty()).await.unwrap();
        let since = Instant::now();
        let (outcome, stalled) = tokio::join!(told(&remote), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            remote.progress().stalled
        });
        assert_eq!(outcome, Some(FailureCode::RemoteTooSlow));
        assert!(since.elapsed() < Duration::from_secs(3));
        assert!(stalled.is_none_or(|s| s == Stalled::WaitingForBytes));
        assert!(remote.account().bytes < SIZE);
    }
}

#[tokio::test]
async fn what_is_waited_for_is_told() {
    let server = Server::start(|asked| {
        let (head, until) = part_head(asked, SIZE, "v");
        match asked.number {
            0 => vec![head, Step::Data(0, until)],
            1 => vec![Step::Wait(Duration::from_millis(300)), head, Step::Data(asked.from, until)],
            _ => vec![head, Step::Data(asked.from, asked.from + 1000), Step::Wait(Duration::from_secs(60))],
        }
    })
    .await;
    let remote = open_with(&server.url(), hasty()).await.unwrap();
    let mut seen = Vec::new();
    let watch = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            let progress = remote.progress();
            assert_eq!(progress.total_bytes, SIZE);
            if seen.last() != Some(&progress.stalled) {
                seen.push(progress.stalled);
            }
        }
    };
    let (_, ()) = tokio::join!(told(&remote), watch);
    let both = [Stalled::WaitingForAnswer, Stalled::WaitingForBytes];
    assert_eq!(seen.into_iter().flatten().collect::<Vec<_>>(), both);
}

#[tokio::test]
async fn nobody_listening_is_a_failed_connection() {
    let gone = Server::start(|_| Vec::new()).await;
    let url = gone.url();
    let lost = code(open(&url).await);
    assert_eq!(lost, FailureCode::ConnectionLost);
    drop(gone);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(code(open(&url).await), FailureCode::ConnectFailed);
}
