//! Bounds and sizes: budgets to the byte, few requests, flat memory.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::origin::{Asked, Server, Step, data, part, part_head};
use super::*;

#[tokio::test]
async fn a_budget_is_kept_to_the_byte() {
    const SIZE: u64 = 5_000_000;
    let server = Server::start(|asked| part(asked, SIZE, "v")).await;
    for budget in [1, 1000, 262_144, 262_145, 1_500_000] {
        let remote = open_with(&server.url(), Bounds { max_bytes: budget, ..bounds() }).await.unwrap();
        assert_eq!(read(&remote, 0, budget as usize).await.unwrap(), data(0, budget), "{budget}");
        assert!(read(&remote, 0, budget as usize + 1).await.is_err());
        assert_eq!(remote.account().bytes, budget);
        assert_eq!(remote.finish().await, None, "a header reader that wants too much is not the job's failure");
        assert!(server.asked().iter().all(|a| a.until <= SIZE));
    }
    let most = Bounds { max_bytes: SIZE, ..bounds() };
    let remote = open_with(&server.url(), most).await.unwrap();
    assert_eq!(told(&remote).await, None, "an object as large as the budget fits");
    let none = Bounds { max_bytes: 0, ..bounds() };
    assert_eq!(code(open_with(&server.url(), none).await), FailureCode::BudgetExceeded);
    // over two runs, each of which was asked for while the budget was larger
    let remote = open_with(&server.url(), Bounds { max_bytes: 700_000, ..bounds() }).await.unwrap();
    for offset in [0, 3_000_000, 10_000, 3_100_000, 400_000, 3_400_000] {
        let _ = read(&remote, offset, 150_000).await;
    }
    assert_eq!(remote.account().bytes, 700_000);
}

#[tokio::test]
async fn a_spent_budget_counts_only_if_the_client_still_wants_more() {
    const SIZE: u64 = 50_000_000;
    let server = Server::start(|asked| part(asked, SIZE, "v")).await;
    for (stays, outcome) in [(false, None), (true, Some(FailureCode::BudgetExceeded))] {
        let remote = open_with(&server.url(), Bounds { max_bytes: 500_000, ..bounds() }).await.unwrap();
        let served = remote.serve().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
        let path = served.path.trim_start_matches('/');
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream.read_exact(&mut vec![0; 400_000]).await.unwrap();
        if stays {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        drop(stream);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(remote.finish().await.map(|f| f.code), outcome);
        assert_eq!(remote.account().bytes, 500_000);
    }
}

#[tokio::test]
async fn a_server_that_sends_a_byte_at_a_time_is_left() {
    const SIZE: u64 = 5_000_000;
    let server = Server::start(|asked| part(&Asked { until: asked.from + 1, ..asked.clone() }, SIZE, "v")).await;
    let remote = open_with(&server.url(), Bounds { requests: 50, ..bounds() }).await.unwrap();
    assert_eq!(told(&remote).await, Some(FailureCode::RemoteRejected));
    let account = remote.account();
    assert_eq!((account.requests, account.bytes, account.retries), (50, 50, 0));
}

#[tokio::test]
async fn two_places_read_in_turn_cost_few_requests() {
    const SIZE: u64 = 200_000_000;
    let server = Server::start(|asked| part(asked, SIZE, "v")).await;
    let remote = open(&server.url()).await.unwrap();
    let (one, two) = (10_000_000, 150_000_000);
    for step in 0..100 {
        for base in [one, two] {
            let at = base + step * 100_000;
            assert!(read(&remote, at, 100_000).await.unwrap() == data(at, at + 100_000));
        }
    }
    let account = remote.account();
    assert!(account.requests <= 8, "{account:?}");
    assert!(account.bytes <= 21_000_000, "{account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "shows how flat it is")]
async fn memory_is_flat_over_gibibytes() {
    const SIZE: u64 = 2 << 30;
    // zeros from one buffer, as fast as they are taken
    let server = Server::start(|asked| {
        let (head, until) = part_head(asked, SIZE, "v");
        let zeros = (until - asked.from) / (1 << 20);
        let rest = usize::try_from((until - asked.from) % (1 << 20)).unwrap();
        vec![head, Step::Zeros(zeros), Step::Send(vec![0; rest])]
    })
    .await;
    let remote = open(&server.url()).await.unwrap();
    let served = remote.serve().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
    let path = served.path.trim_start_matches('/');
    let request = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut buffer, mut got, mut base) = (vec![0; 1 << 20], 0_u64, 0);
    let since = std::time::Instant::now();
    loop {
        let n = stream.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        got += n as u64;
        // the cache is full and every buffer has found its size
        if base == 0 && got > 100 << 20 {
            base = resident_kib();
        }
    }
    let growth = resident_kib().saturating_sub(base);
    assert!(got > SIZE && remote.account().bytes == SIZE, "{got} bytes with the head");
    assert_eq!(remote.finish().await, None);
    let account = remote.account();
    println!("{account:?}, resident growth {growth} KiB, {:?}", since.elapsed());
    assert!(account.requests < 12 && growth < 32 * 1024, "{account:?} {growth}");
}

/// The largest memory this process had so far.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
