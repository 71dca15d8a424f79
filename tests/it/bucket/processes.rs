//! Uploads in a bucket and the processes around them: two APIs that take an upload from each other, APIs and workers that
//! are killed, and a sweep that erases what nobody wants, and nothing else.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use shared::id::UploadId;
use tests::Answer;
use tests::s3::S3Api;
use tests::slow::SlowFfprobe;
use uuid::Uuid;

use super::over_http::{Site, begin, hanging, offset, patch, show, tus};
use super::{MIB, part};
use crate::remote::{until, wav};

#[tokio::test(flavor = "multi_thread")]
async fn apis_take_over_from_each_other_and_workers_from_the_dead() {
    let site = Site::on(S3Api::start()).await;
    let (first, to_first) = site.installation.api(&site.settings());
    let (second, to_second) = site.installation.api(&site.settings());
    let (slow, mut settings) = (SlowFfprobe::new(site.installation.folder()), site.settings());
    settings.extend(slow.settings());
    let doomed = site.installation.worker(&settings);
    slow.hold();
    let length = 40 * MIB;
    let bytes = wav(usize::try_from(length).expect("small"));
    let id = begin(&to_first, length, "filename dG9uZS53YXY=,probe c3RhbmRhcmQ=").await;

    // the first is alive and hangs: the second asks for the upload, and nothing that came is lost
    let sending = tokio::spawn(patch(&to_first, &id, 0, hanging(part(&bytes, 0, 18 * MIB))).send());
    until("most of it counts", async || (site.counted(&id).await >= 16 * MIB).then_some(())).await;
    until("all of it counts", async || (site.counted(&id).await == 18 * MIB).then_some(())).await;
    let begun = Instant::now();
    assert_eq!(offset(&to_second, &id).await, 18 * MIB);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(sending.await.expect("no panic").expect("an answer").status(), 423);

    // the second is killed
    let sending = tokio::spawn(patch(&to_second, &id, 18 * MIB, hanging(part(&bytes, 18 * MIB, 34 * MIB))).send());
    until("more counts", async || (site.counted(&id).await >= 26 * MIB).then_some(())).await;
    second.kill();
    assert!(sending.await.expect("no panic").is_err());
    let at = offset(&to_first, &id).await;
    assert!((26 * MIB..=34 * MIB).contains(&at), "{at}");
    assert_eq!(Answer::of(patch(&to_first, &id, at, part(&bytes, at, length).to_vec().into())).await.status, 204);
    assert!(site.object().await.1 == bytes);

    // a worker dies in the middle of the probe; one that sees neither media nor files takes its job
    slow.wait_for_one().await;
    doomed.kill();
    let elsewhere = site.installation.unprivileged_worker(&site.settings());
    let upload = show(&to_first, &id).await;
    let job = to_first.wait(upload["job_id"].as_str().expect("a job")).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(2)), "{job}");
    assert_eq!(job["result"]["media"]["container"]["size_bytes"], length, "{job}");
    elsewhere.stop();
    first.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_wants_is_erased_and_nothing_else() {
    // old enough that what no row knows is taken for left behind
    let site = Site::on(S3Api::with_old_objects()).await;
    let (api, http) = site.installation.api(&site.settings());
    let change = async |sql: &'static str, id: &str| {
        let id = Uuid::parse_str(id).expect("an id");
        assert_eq!(sqlx::query(sql).bind(id).execute(&site.installation.db).await.expect("SQL").rows_affected(), 1);
    };
    let bytes = wav(20 << 20);
    let unfinished = async || {
        let id = begin(&http, 30 * MIB, "filename YQ==").await;
        assert_eq!(Answer::of(patch(&http, &id, 0, bytes.clone().into())).await.status, 204);
        id
    };
    // ended by its client while another request is at it
    let terminated = begin(&http, 30 * MIB, "filename YQ==").await;
    let sending = tokio::spawn(patch(&http, &terminated, 0, hanging(&bytes)).send());
    until("a part of it counts", async || (site.counted(&terminated).await >= 17 * MIB).then_some(())).await;
    let path = format!("/api/v1/uploads/{terminated}");
    assert_eq!(Answer::of(tus(&http, Method::DELETE, &path)).await.status, 204);
    assert_eq!(sending.await.expect("no panic").expect("an answer").status(), 423);
    assert_eq!(site.store.list("uploads").await, (vec!["a/installation".to_owned()], 0));
    http.get(&path).await.problem(410, "upload_gone");

    let goes_on = unfinished().await;
    let expired = unfinished().await;
    change("update upload set expires_at = clock_timestamp() - interval '1 minute' where id = $1", &expired).await;
    let rowless = unfinished().await;
    change("delete from upload where id = $1", &rowless).await;
    let kept = http.upload("kept.wav", wav(1 << 20)).await;
    let unused = http.upload("unused.wav", wav(1 << 20)).await;
    change("update upload set completed_at = completed_at - interval '25 hours' where id = $1", &unused).await;
    let lost = http.upload("lost.wav", wav(1 << 20)).await;
    site.store.erase("uploads", &format!("a/{lost}/data")).await;
    let stray = UploadId::new();
    let others = ["a/notes".to_owned(), format!("b/{stray}/data")];
    for key in others.iter().chain([&format!("a/{stray}/data")]) {
        site.store.put("uploads", key, b"somebody's".to_vec()).await;
    }

    let worker = site.installation.worker(&site.settings());
    let gone = [&expired, &rowless, &unused, &stray.to_string()];
    until("they are erased", async || {
        let (keys, unfinished) = site.store.list("uploads").await;
        let left = keys.iter().any(|key| gone.iter().any(|id| key.starts_with(&format!("a/{id}/"))));
        (!left && unfinished == 1).then_some(())
    })
    .await;
    until("it is given up", async || (http.get(&format!("/api/v1/uploads/{lost}")).await.status == 410).then_some(()))
        .await;
    let (keys, _) = site.store.list("uploads").await;
    for key in others.iter().chain([&format!("a/{kept}/data"), &format!("a/{goes_on}/manifest")]) {
        assert!(keys.contains(key), "{key} stays: {keys:?}");
    }
    let more = vec![0; 10 << 20];
    assert_eq!(Answer::of(patch(&http, &goes_on, 20 * MIB, more.clone().into())).await.status, 204);
    let whole = site.store.get("uploads", &format!("a/{goes_on}/data")).await;
    assert!(whole == [bytes, more].concat());
    assert_eq!(site.store.list("uploads").await.1, 0);
    worker.stop();
    api.stop();
}
