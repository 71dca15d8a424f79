//! Objects in S3 buckets, read from a real S3 API: what a profile opens and to whom, what is told when an object cannot be
//! read, and that its secret is never shown.

use serde_json::{Value, json};
use shared::access::Role;
use tests::origin::Act;
use tests::s3::S3Api;
use tests::{Http, Installation, samples};

use super::{Site, submit, until, wav};

/// The secret of the profile.
const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-hush";

/// Writes a file of profiles for a store and returns the setting that names it.
fn profiles(installation: &Installation, endpoint: &str) -> String {
    let folder = installation.folder();
    std::fs::write(folder.join("s3-secret"), format!("{SECRET}\n")).expect("writes");
    let text = json!({"archive": {
        "endpoint": endpoint, "allow_http": true, "path_style": true, "region": "eu-central-1", "access_key_id": "AKIDTEST",
        "secret_access_key_file": folder.join("s3-secret"), "buckets": ["media", "none"], "prefixes": ["public/"],
    }});
    let file = folder.join("s3-profiles.json");
    std::fs::write(&file, text.to_string()).expect("writes");
    file.display().to_string()
}

fn object(key: &str) -> Value {
    json!({"type": "s3", "profile": "archive", "bucket": "media", "key": key})
}

async fn probe(http: &Http, source: Value, profile: &str) -> Value {
    http.wait(&submit(http, &json!({"source": source, "profile": profile})).await).await
}

#[tokio::test]
async fn objects_are_read_and_what_cannot_be_is_told() {
    let (installation, store) = (Installation::new().await, S3Api::start());
    let file = profiles(&installation, store.endpoint());
    let (api, http) = installation.api(&[("S3_PROFILES_FILE", &file)]);
    let worker = installation.worker(&[("S3_PROFILES_FILE", &file)]);
    store.make("media").await;
    let mp4 = std::fs::read(samples::path("mp4")).expect("a sample");
    store.put("media", "public/a%20b/%C3%BC+c.mp4", mp4.clone()).await;
    store.put("media", "public/long.wav", wav(5 << 20)).await;
    store.put("media", "public/empty.mp4", Vec::new()).await;
    store.put("media", "private/a.mp4", mp4.clone()).await;
    let path = json!({"type": "path", "path": installation.put("ü+c.mp4", &mp4)});
    for profile in ["quick", "standard", "packets", "frames"] {
        let (ours, theirs) =
            (probe(&http, object("public/a b/ü+c.mp4"), profile).await, probe(&http, path.clone(), profile).await);
        assert_eq!(ours["state"], "succeeded", "{profile}: {ours}");
        for part in ["media", "packets", "frames", "completeness"] {
            assert_eq!(ours["result"][part], theirs["result"][part], "{profile} {part}");
        }
    }
    let long = probe(&http, object("public/long.wav"), "packets").await;
    let account = &long["result"]["provenance"]["remote"];
    assert!(account["bytes"].as_u64() >= Some((5 << 20) - 3) && account["requests"].as_u64() > Some(2), "{long}");
    assert_eq!(account["end_check"], "same", "{long}");
    let missing_bucket = json!({"type": "s3", "profile": "archive", "bucket": "none", "key": "public/a.mp4"});
    for (source, code) in [
        (object("public/none.mp4"), "remote_not_found"),
        (missing_bucket, "remote_not_found"),
        (object("public/empty.mp4"), "empty_input"),
    ] {
        let job = probe(&http, source, "standard").await;
        assert_eq!((&job["failure"]["code"], &job["attempt"]), (&json!(code), &json!(1)), "{job}");
        let attempts = http.get(&format!("/api/v1/jobs/{}/attempts", job["id"].as_str().expect("an id"))).await;
        assert!(!attempts.text.contains(SECRET) && !job.to_string().contains(SECRET));
    }
    for (what, text) in [("API", api.log()), ("worker", worker.log())] {
        assert!(!text.contains(SECRET), "the {what} logs the secret");
        assert!(!text.contains("Signature="), "the {what} logs signed requests");
    }
}

#[tokio::test]
async fn a_profile_opens_what_it_says_to_whom_it_was_granted() {
    let (installation, store) = (Installation::new().await, S3Api::start());
    let file = profiles(&installation, store.endpoint());
    let (_api, http) = installation.api(&[("S3_PROFILES_FILE", &file)]);
    let ask = async |http: &Http, source: Value| http.post("/api/v1/jobs", &json!({"source": source})).await;
    for (key, bucket) in [
        ("private/a.mp4", "media"),
        ("publicity/a.mp4", "media"),
        ("public/../private/a.mp4", "media"),
        ("/public/a.mp4", "media"),
        ("public//a.mp4", "media"),
        ("public/", "media"),
        ("", "media"),
        ("public/a\nb", "media"),
        ("public/a.mp4", "other"),
        ("public/a.mp4", "media/public"),
        ("public/a.mp4", ""),
    ] {
        let source = json!({"type": "s3", "profile": "archive", "bucket": bucket, "key": key});
        ask(&http, source).await.problem(400, "object_not_allowed");
    }
    let unknown = json!({"type": "s3", "profile": "unknown", "bucket": "media", "key": "public/a.mp4"});
    let unknown = ask(&http, unknown).await.problem(400, "no_s3_profile").replace("unknown", "archive");
    let other = http.with_key(Some(&installation.another_key("other", Role::Admin, &["*"]).await));
    let refused = ask(&other, object("public/a.mp4")).await;
    assert_eq!(refused.problem(400, "no_s3_profile"), unknown, "one not granted looks like one that is not there");
    assert_eq!(refused.json["errors"][0]["pointer"], "#/source/profile");
    sqlx::query("update tenant set s3_profiles = '{elsewhere}' where name = 'other'")
        .execute(&installation.db)
        .await
        .expect("grants");
    ask(&other, object("public/a.mp4")).await.problem(400, "no_s3_profile");
    // through the API, which makes every process forget what it remembers of the tenant
    let tenant = format!("/api/v1/tenants/{}", installation.tenant("other").await);
    let granted = http.patch(&tenant, &json!({"s3_profiles": ["archive"]})).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(ask(&other, object("public/a.mp4")).await.status, 202);
}

#[tokio::test]
async fn a_worker_without_the_profile_leaves_the_job_to_one_with_it() {
    let (installation, store) = (Installation::new().await, S3Api::start());
    let file = profiles(&installation, store.endpoint());
    let (_api, http) = installation.api(&[("S3_PROFILES_FILE", &file)]);
    store.make("media").await;
    store.put("media", "public/a.mp4", std::fs::read(samples::path("mp4")).expect("a sample")).await;
    let without = installation.worker(&[]);
    let job = submit(&http, &json!({"source": object("public/a.mp4")})).await;
    let show = async || http.get(&format!("/api/v1/jobs/{job}")).await.json;
    until("the job is put aside", async || (show().await["queue"]["waiting_for"] == "no_mount").then_some(())).await;
    // longer than a worker leaves a job to a ticket
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    let waiting = show().await;
    assert_eq!((&waiting["state"], &waiting["attempt"]), (&json!("queued"), &json!(0)), "{waiting}");
    assert_eq!(waiting["queue"]["waiting_for"], "no_mount", "{waiting}");
    let _with = installation.worker(&[("S3_PROFILES_FILE", &file)]);
    sqlx::query("update job set run_at = clock_timestamp()").execute(&installation.db).await.expect("time passes");
    let ended = http.wait(&job).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(1)), "{ended}");
    without.stop();
}

#[tokio::test]
async fn a_store_that_fails_is_asked_again() {
    let site = Site::new().await;
    let file = profiles(&site.installation, &site.origin.url(""));
    let settings = [("S3_PROFILES_FILE", file.as_str())];
    let (_api, http) = site.installation.api(&settings);
    let _worker = site.installation.worker(&settings);
    let content = wav(1 << 20);
    for (name, first, then, code) in [
        ("once", vec![Act::status(503), Act::Reset { after: 5000 }], Act::Serve, None),
        ("slow", vec![Act::retry_after(503, "900")], Act::Serve, Some("remote_unavailable")),
        ("denied", vec![], Act::status(403), Some("remote_forbidden")),
        ("changed", vec![], Act::Changing(tests::origin::Change::ETag), Some("source_changed")),
    ] {
        site.origin.script(&format!("/media/public/{name}"), content.clone(), &first, then);
        let job = submit(&http, &json!({"source": object(&format!("public/{name}")), "profile": "packets"})).await;
        let ended = site.first_attempt(&job).await;
        assert_eq!(ended["failure"]["code"].as_str(), code, "{name}: {ended}");
    }
    let signed = site.origin.exchanges_of("/media/public/once");
    let by_us = |e: &tests::origin::Exchange| {
        e.header("authorization").is_some_and(|a| a.starts_with("AWS4-HMAC-SHA256 Credential=AKIDTEST/"))
    };
    assert!(signed.len() > 2 && signed.iter().all(by_us), "{signed:?}");
}
