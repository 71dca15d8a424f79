//! A bucket as the storage of uploads, on a real S3 API: what any process can go on with, what a late writer cannot do, and
//! what is left behind. Through HTTP, with processes that are killed, in `over_http`; here the storage alone.

mod over_http;
mod processes;
mod trouble;

use std::time::Duration;

use shared::Code;
use shared::config::{S3Place, S3Profile, S3Style, StoragePlace};
use shared::id::UploadId;
use shared::storage::{Appending, Batch, Storage};
use shared::upload::Hasher;
use tests::s3::S3Api;
use tokio::time::timeout;

use crate::remote::until;

const MIB: u64 = 1 << 20;

/// The storage as one process sees it.
fn storage(endpoint: &str) -> Storage {
    let profile = S3Profile {
        name: "store".into(),
        endpoint: Some(endpoint.parse().expect("a URL")),
        region: "eu-1".into(),
        access_key_id: "AKIDTEST".into(),
        secret_access_key: "hush-hush-7".into(),
        buckets: vec!["uploads".into()],
        prefixes: Vec::new(),
        style: S3Style::Path,
    };
    let place = S3Place { profile, bucket: "uploads".into(), prefix: "a/b".into() };
    Storage::open(StoragePlace::S3(Box::new(place))).expect("a profile that can be used")
}

async fn store() -> (S3Api, Storage) {
    let store = S3Api::start();
    store.make("uploads").await;
    let storage = storage(store.endpoint());
    (store, storage)
}

/// Bytes that differ everywhere.
fn noise(seed: u64, bytes: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut all = Vec::new();
    for _ in 0..bytes.div_ceil(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend(state.to_le_bytes());
    }
    all.truncate(usize::try_from(bytes).expect("small"));
    all
}

/// Writes bytes as the API does: in batches, the offset following.
async fn feed(tail: &Appending, at: u64, bytes: &[u8]) -> shared::Result<()> {
    let mut at = at;
    for chunk in bytes.chunks(128 << 10) {
        tail.write(Batch { at, bytes: chunk.to_vec(), request: None, whole: None }).await?;
        at += chunk.len() as u64;
    }
    Ok(())
}

fn part(bytes: &[u8], from: u64, to: u64) -> &[u8] {
    &bytes[usize::try_from(from).expect("small")..usize::try_from(to).expect("small")]
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    let mut hasher = Hasher::sha256();
    hasher.update(bytes);
    hasher.finish()
}

/// What the bucket holds of an upload as a whole.
async fn stored_digest(storage: &Storage, id: UploadId) -> (Vec<u8>, u64) {
    let (hasher, bytes) = storage.digest(id, 0, u64::MAX / 2, Hasher::sha256()).await.expect("bytes");
    (hasher.finish(), bytes)
}

#[tokio::test]
async fn another_process_goes_on_and_the_whole_is_one_object() {
    let (store, first) = store().await;
    let (id, bytes) = (UploadId::new(), noise(1, 40 * MIB + 5));
    let tail = first.create(id).await.unwrap();
    feed(&tail, 0, part(&bytes, 0, 21 * MIB)).await.unwrap();
    tail.sync().await.unwrap();
    tail.counted(21 * MIB);
    // stored and never counted, as after kill -9
    feed(&tail, 21 * MIB, part(&bytes, 21 * MIB, 30 * MIB)).await.unwrap();
    drop((tail, first));

    let second = storage(store.endpoint());
    assert!(second.exists(id).await.unwrap());
    assert_eq!(second.stored(id, 20 * MIB).await.unwrap(), 20 * MIB);
    let (tail, at) = second.append(id, 21 * MIB).await.unwrap();
    assert_eq!(at, 21 * MIB);
    feed(&tail, at, part(&bytes, at, 40 * MIB + 5)).await.unwrap();
    tail.sync().await.unwrap();
    drop(tail);
    for _ in 0..2 {
        second.complete(id, 40 * MIB + 5).await.unwrap();
        assert_eq!(stored_digest(&second, id).await, (sha256(&bytes), 40 * MIB + 5));
        assert_eq!(
            store.list("uploads").await,
            (vec![format!("a/b/{id}/data")], 0),
            "one object and nothing beside it"
        );
    }
    // a process that died before the row said complete finds it so
    let (tail, at) = second.append(id, 40 * MIB + 5).await.unwrap();
    assert_eq!(at, 40 * MIB + 5);
    assert!(feed(&tail, at, b"more").await.is_ok() && tail.sync().await.is_err(), "it takes nothing more");
    assert!(second.complete(id, 40 * MIB).await.is_err(), "another size is another upload");
    assert_eq!(second.list(Duration::ZERO).await.unwrap(), [id]);
    assert!(second.list(Duration::from_secs(60)).await.unwrap().is_empty());
    second.remove(id).await.unwrap();
    second.remove(id).await.unwrap();
    assert_eq!(store.list("uploads").await, (Vec::new(), 0));
    assert!(!second.exists(id).await.unwrap() && second.stored(id, 9).await.unwrap() == 0);
}

#[tokio::test]
async fn it_is_cut_where_the_row_says_even_within_a_part() {
    let (store, storage) = store().await;
    let (id, bytes, other) = (UploadId::new(), noise(2, 35 * MIB), noise(3, 40 * MIB));
    let tail = storage.create(id).await.unwrap();
    feed(&tail, 0, &bytes).await.unwrap();
    tail.sync().await.unwrap();
    drop(tail);
    // two parts are stored by now, of which the second is not whole any more
    let cut = 30 * MIB + 77;
    let (tail, at) = storage.append(id, cut).await.unwrap();
    assert_eq!((at, storage.stored(id, 99 * MIB).await.unwrap()), (cut, cut));
    feed(&tail, at, part(&other, at, 38 * MIB)).await.unwrap();
    tail.truncate(36 * MIB + 1).await.unwrap();
    tail.truncate(99 * MIB).await.unwrap();
    feed(&tail, 36 * MIB + 1, part(&other, 36 * MIB + 1, 37 * MIB)).await.unwrap();
    tail.sync().await.unwrap();
    // within the second part again, which was whole meanwhile
    tail.truncate(31 * MIB).await.unwrap();
    assert_eq!(storage.stored(id, 99 * MIB).await.unwrap(), 31 * MIB);
    feed(&tail, 31 * MIB, part(&other, 31 * MIB, 37 * MIB)).await.unwrap();
    assert!(feed(&tail, 36 * MIB, b"x").await.is_err(), "no hole and no overlap");
    tail.sync().await.unwrap();
    storage.complete(id, 37 * MIB).await.unwrap();
    let expected = [part(&bytes, 0, cut), part(&other, cut, 37 * MIB)].concat();
    assert_eq!(stored_digest(&storage, id).await, (sha256(&expected), 37 * MIB));
    assert_eq!(store.list("uploads").await.1, 0);
}

#[tokio::test]
async fn what_is_unfinished_can_be_read_where_it_must_be() {
    let (store, storage) = store().await;
    let (id, bytes) = (UploadId::new(), noise(4, 36 * MIB));
    let tail = storage.create(id).await.unwrap();
    assert!(storage.head(id, 4096).await.unwrap().is_empty());
    feed(&tail, 0, part(&bytes, 0, 20 * MIB)).await.unwrap();
    tail.sync().await.unwrap();
    tail.counted(20 * MIB);
    // its digest comes after the body, so none of it counts yet
    feed(&tail, 20 * MIB, part(&bytes, 20 * MIB, 36 * MIB)).await.unwrap();
    tail.sync().await.unwrap();
    assert_eq!(storage.head(id, 4096).await.unwrap(), part(&bytes, 0, 4096), "the first bytes stay readable");
    let (hasher, read) = storage.digest(id, 20 * MIB, 99 * MIB, Hasher::sha256()).await.unwrap();
    assert_eq!((hasher.finish(), read), (sha256(part(&bytes, 20 * MIB, 36 * MIB)), 16 * MIB));
    let (_, read) = storage.digest(id, 8 * MIB, MIB, Hasher::sha256()).await.unwrap();
    assert_eq!(read, 0, "bytes that count are in a part and not readable yet");
    assert_eq!(tail.truncate(9 * MIB).await.unwrap_err().code(), Code::Internal);
    // as if a standby took over that had not heard of the last counts
    assert_eq!(storage.append(id, 9 * MIB).await.unwrap().1, 0);
    storage.remove(id).await.unwrap();
    assert_eq!(store.list("uploads").await, (Vec::new(), 0), "unfinished parts are given up");
}

#[tokio::test]
async fn many_uploads_at_once_are_as_right_as_one() {
    let (store, storage) = store().await;
    let size = 17 * MIB + 9;
    let uploads: Vec<_> = (20..32).map(|seed| (UploadId::new(), noise(seed, size))).collect();
    let mut tails = Vec::new();
    for (id, _) in &uploads {
        tails.push(storage.create(*id).await.unwrap());
    }
    // more parts in the making than are kept in memory, all at the same time; those of the first half are cut meanwhile
    for (from, to) in [(0, 15 * MIB), (15 * MIB, size)] {
        for ((n, tail), (_, bytes)) in tails.iter().enumerate().zip(&uploads) {
            feed(tail, from, part(bytes, from, to)).await.unwrap();
            tail.sync().await.unwrap();
            if n < 6 && from == 0 {
                tail.truncate(14 * MIB).await.unwrap();
                feed(tail, 14 * MIB, part(bytes, 14 * MIB, to)).await.unwrap();
            }
        }
    }
    drop(tails);
    for (id, bytes) in &uploads {
        storage.complete(*id, size).await.unwrap();
        assert_eq!(stored_digest(&storage, *id).await, (sha256(bytes), size));
    }
    assert_eq!(store.list("uploads").await.1, 0);
}

#[tokio::test]
async fn multipart_uploads_that_nothing_names_are_given_up() {
    let (store, storage) = store().await;
    let bytes = noise(13, 17 * MIB);
    let begun = async || {
        let id = UploadId::new();
        let tail = storage.create(id).await.unwrap();
        feed(&tail, 0, &bytes).await.unwrap();
        tail.sync().await.unwrap();
        id
    };
    let (other, complete, erased) = (begun().await, begun().await, begun().await);
    for id in [complete, complete, erased] {
        // as a process that was killed before it could say so
        store.begin("uploads", &format!("a/b/{id}/data")).await;
    }
    assert_eq!(store.list("uploads").await.1, 6);
    storage.complete(complete, 17 * MIB).await.unwrap();
    assert_eq!(stored_digest(&storage, complete).await, (sha256(&bytes), 17 * MIB));
    assert_eq!(store.list("uploads").await.1, 3, "those of other uploads stay");
    storage.remove(erased).await.unwrap();
    assert_eq!(store.list("uploads").await.1, 1);
    storage.complete(other, 17 * MIB).await.unwrap();
    assert_eq!(stored_digest(&storage, other).await, (sha256(&bytes), 17 * MIB));
    assert_eq!(store.list("uploads").await.1, 0);
}

#[tokio::test]
async fn slow_uploads_leave_few_objects_and_small_ones_need_no_parts() {
    let (store, storage) = store().await;
    let (id, bytes) = (UploadId::new(), noise(5, 300_000));
    let tail = storage.create(id).await.unwrap();
    let mut most = 0;
    for (n, chunk) in bytes.chunks(2_000).enumerate() {
        feed(&tail, n as u64 * 2_000, chunk).await.unwrap();
        tail.sync().await.unwrap();
        tail.counted((n as u64 + 1) * 2_000);
        if n % 10 == 0 {
            most = most.max(store.list("uploads").await.0.len());
        }
    }
    assert!((20..=130).contains(&most), "{most} objects at a time");
    assert_eq!(store.list("uploads").await.1, 0);
    storage.complete(id, 300_000).await.unwrap();
    assert_eq!(stored_digest(&storage, id).await, (sha256(&bytes), 300_000));

    let empty = UploadId::new();
    drop(storage.create(empty).await.unwrap());
    storage.complete(empty, 0).await.unwrap();
    assert!(storage.head(empty, 4096).await.unwrap().is_empty());
    assert_eq!(storage.list(Duration::ZERO).await.unwrap().len(), 2);
    assert_eq!(store.list("uploads").await.0.len(), 2);
}

#[tokio::test]
async fn a_writer_that_lost_the_upload_changes_nothing() {
    let (_store, storage) = store().await;
    let (id, bytes, wrong) = (UploadId::new(), noise(6, 40 * MIB), noise(7, 40 * MIB));
    let late = storage.create(id).await.unwrap();
    feed(&late, 0, part(&bytes, 0, 14 * MIB)).await.unwrap();
    late.sync().await.unwrap();
    let (tail, at) = storage.append(id, 14 * MIB).await.unwrap();
    feed(&tail, at, part(&bytes, at, 33 * MIB)).await.unwrap();
    // it would fill the same parts with other bytes
    let refused = feed(&late, 14 * MIB, part(&wrong, 14 * MIB, 40 * MIB)).await.unwrap_err();
    assert_eq!(refused.code(), Code::UploadLocked);
    assert_eq!(late.sync().await.unwrap_err().code(), Code::UploadLocked);
    assert_eq!(late.truncate(3 * MIB).await.unwrap_err().code(), Code::UploadLocked);
    feed(&tail, 33 * MIB, part(&bytes, 33 * MIB, 40 * MIB)).await.unwrap();
    tail.sync().await.unwrap();
    storage.complete(id, 40 * MIB).await.unwrap();
    assert_eq!(stored_digest(&storage, id).await, (sha256(&bytes), 40 * MIB));
}

#[tokio::test]
async fn uploads_are_put_together_from_others() {
    let (store, storage) = store().await;
    let mut parts = Vec::new();
    let mut expected = Vec::new();
    for (seed, size) in [(8, 17 * MIB + 3), (9, 1), (10, 20 * MIB)] {
        let (id, bytes) = (UploadId::new(), noise(seed, size));
        let tail = storage.create(id).await.unwrap();
        feed(&tail, 0, &bytes).await.unwrap();
        tail.sync().await.unwrap();
        storage.complete(id, size).await.unwrap();
        parts.push((id, size));
        expected.extend(bytes);
    }
    let whole = UploadId::new();
    let tail = storage.create(whole).await.unwrap();
    let mut at = 0;
    for (id, size) in parts {
        let mut from = 0;
        while from < size {
            let copied = tail.copy(id, from, at, 9 * MIB).await.unwrap();
            assert!(copied > 0);
            tail.sync().await.unwrap();
            (from, at) = (from + copied, at + copied);
            tail.counted(at);
        }
        assert_eq!(tail.copy(id, size, at, MIB).await.unwrap(), 0);
    }
    storage.complete(whole, at).await.unwrap();
    assert_eq!(stored_digest(&storage, whole).await, (sha256(&expected), expected.len() as u64));
    assert_eq!(store.list("uploads").await.1, 0);
}

#[tokio::test]
async fn what_was_begun_goes_on_though_nobody_waits_for_it() {
    let (_store, storage) = store().await;
    let (id, bytes) = (UploadId::new(), noise(12, 18 * MIB));
    let tail = storage.create(id).await.unwrap();
    feed(&tail, 0, part(&bytes, 0, MIB)).await.unwrap();
    // as a request that waits for its last bytes to be written and looks at nothing else
    let mut counting = Box::pin(tail.sync());
    assert!(futures::poll!(&mut counting).is_pending());
    let rest = timeout(Duration::from_secs(30), feed(&tail, MIB, part(&bytes, MIB, 17 * MIB)));
    rest.await.expect("bytes are taken while they are made durable").unwrap();
    let mut cutting = Box::pin(tail.truncate(16 * MIB + 5));
    assert!(futures::poll!(&mut cutting).is_pending());
    timeout(Duration::from_secs(30), tail.sync()).await.expect("it does not wait for ever").unwrap();
    counting.await.unwrap();
    cutting.await.unwrap();
    // as a request whose client is gone
    feed(&tail, 16 * MIB + 5, part(&bytes, 16 * MIB + 5, 18 * MIB)).await.unwrap();
    assert!(futures::poll!(Box::pin(tail.sync())).is_pending());
    let stored = async || storage.stored(id, 99 * MIB).await.unwrap();
    until("it is durable", async || (stored().await == 18 * MIB).then_some(())).await;
    storage.complete(id, 18 * MIB).await.unwrap();
    assert_eq!(stored_digest(&storage, id).await, (sha256(&bytes), 18 * MIB));
}
