//! A store of uploads that refuses, is away, or is not ours: what is said, and that nothing is lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shared::Code;
use shared::id::{InstallationId, UploadId};
use shared::storage::Storage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{MIB, feed, noise, part, sha256, storage, store, stored_digest};

/// The way to a store, which can be closed.
pub(super) struct Gate {
    pub(super) endpoint: String,
    way: watch::Sender<Way>,
    waiting: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Open,
    /// Connections end.
    Closed,
    /// Nothing goes through, and nobody is told.
    Blocked,
}

impl Gate {
    pub(super) async fn to(endpoint: &str) -> Self {
        let store = endpoint.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (way, sign) = watch::channel(Way::Open);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (store, counts, sign, mut shut) = (store.clone(), Arc::clone(&counts), sign.clone(), sign.clone());
                tokio::spawn(async move {
                    let through = async {
                        let ((ask, answers), (answer, asks)) =
                            (client.into_split(), TcpStream::connect(store).await?.into_split());
                        tokio::try_join!(pass(ask, asks, sign.clone(), &counts), pass(answer, answers, sign, &counts))
                    };
                    tokio::select! { _ = shut.wait_for(|way| *way == Way::Closed) => {}, _ = through => {} }
                });
            }
        });
        Self { endpoint, way, waiting }
    }

    pub(super) fn close(&self) {
        self.way.send_replace(Way::Closed);
    }

    pub(super) fn block(&self) {
        self.way.send_replace(Way::Blocked);
    }

    pub(super) fn open(&self) {
        self.way.send_replace(Way::Open);
    }

    /// How many sides of connections wait at a blocked gate.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut sign: watch::Receiver<Way>,
    waiting: &AtomicUsize,
) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).await?;
        if *sign.borrow() == Way::Blocked {
            waiting.fetch_add(1, Ordering::SeqCst);
            let _ = sign.wait_for(|way| *way != Way::Blocked).await;
            waiting.fetch_sub(1, Ordering::SeqCst);
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..read]).await?;
    }
}

async fn belongs(storage: &Storage, installation: InstallationId) -> (bool, bool) {
    let storage = storage.clone();
    let look = move || (storage.is_there(), storage.belongs_to(installation));
    tokio::task::spawn_blocking(look).await.expect("a look")
}

#[tokio::test]
async fn the_storage_of_another_installation_is_refused() {
    let (store, storage) = store().await;
    let (ours, other) = (InstallationId::new(), InstallationId::new());
    assert_eq!(belongs(&storage, ours).await, (false, false));
    let (one, two) = tokio::join!(storage.mark(ours), storage.mark(ours));
    assert!(one.is_ok() && two.is_ok());
    storage.mark(ours).await.unwrap();
    assert_eq!(belongs(&storage, ours).await, (true, true));
    assert_eq!(belongs(&storage, other).await, (true, false));
    let refused = storage.mark(other).await.unwrap_err().to_string();
    assert!(refused.contains("another installation") && refused.contains("s3://store/uploads/a/b"), "{refused}");
    assert_eq!(store.list("uploads").await.0, ["a/b/installation"]);
    assert!(storage.list(std::time::Duration::ZERO).await.unwrap().is_empty(), "the mark is no upload");
    assert!(storage.check_limit(53_687_091_200).is_ok());
    let too_much = storage.check_limit(200 << 30).unwrap_err().to_string();
    assert!(too_much.starts_with("MAX_UPLOAD_BYTES: ") && too_much.contains("167772160000"), "{too_much}");
    assert!(storage.holds("uploads", "a/b/x/data") && !storage.holds("uploads", "a/c"));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_or_keys_that_are_refused_are_named() {
    let (api, _) = store().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let answer = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 69\r\n\r\n\
                <Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>  ";
            let mut asked = vec![0; 16 << 10];
            let _ = client.read(&mut asked).await;
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    let empty = tests::s3::S3Api::start();
    for (endpoint, word) in [(refusing.as_str(), "refuses the profile's keys"), (empty.endpoint(), "no such bucket")] {
        let storage = storage(endpoint);
        let said = storage.mark(InstallationId::new()).await.unwrap_err().to_string();
        assert!(said.contains(word) && !said.contains("hush-hush-7"), "{said}");
        let id = UploadId::new();
        assert_eq!(storage.create(id).await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(storage.append(id, 5).await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(storage.stored(id, 5).await.unwrap_err().code(), Code::Unavailable, "it does not say 0");
        assert_eq!(storage.exists(id).await.unwrap_err().code(), Code::Unavailable, "it does not say gone");
        assert_eq!(belongs(&storage, InstallationId::new()).await, (false, false));
    }
    drop(api);
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_costs_no_bytes() {
    let (api, direct) = store().await;
    let gate = Gate::to(api.endpoint()).await;
    let storage = storage(&gate.endpoint);
    let (id, bytes) = (UploadId::new(), noise(11, 36 * MIB));
    let tail = storage.create(id).await.unwrap();
    feed(&tail, 0, part(&bytes, 0, 15 * MIB)).await.unwrap();
    tail.sync().await.unwrap();
    feed(&tail, 15 * MIB, part(&bytes, 15 * MIB, 17 * MIB)).await.unwrap();
    gate.close();
    assert_eq!(tail.sync().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(direct.stored(id, 99 * MIB).await.unwrap(), 15 * MIB, "what is not durable does not count");
    assert_eq!(
        tail.truncate(15 * MIB).await.map_err(|e| e.code()),
        Ok(()),
        "what never left this process is forgotten here"
    );
    feed(&tail, 15 * MIB, part(&bytes, 15 * MIB, 18 * MIB)).await.unwrap();
    assert_eq!(tail.sync().await.unwrap_err().code(), Code::Unavailable);
    gate.open();
    // the same bytes are tried again by the next one
    tail.sync().await.unwrap();
    assert_eq!(direct.stored(id, 99 * MIB).await.unwrap(), 18 * MIB);
    feed(&tail, 18 * MIB, part(&bytes, 18 * MIB, 36 * MIB)).await.unwrap();
    tail.sync().await.unwrap();
    storage.complete(id, 36 * MIB).await.unwrap();
    assert_eq!(stored_digest(&direct, id).await, (sha256(&bytes), 36 * MIB));
}
