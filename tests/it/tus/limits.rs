//! What a tenant may, which content is taken, what becomes of a finished upload: digest, job, memory.

use reqwest::Method;
use tests::{Answer, Installation, samples};

use super::{create, eventually, head, patch, request};

/// `sha256:` and the digest of `hello world`, in base64 of the whole.
const RIGHT: &str =
    "checksum c2hhMjU2OmI5NGQyN2I5OTM0ZDNlMDhhNTJlNTJkN2RhN2RhYmZhYzQ4NGVmZTM3YTUzODBlZTkwODhmN2FjZTJlZmNkZTk=";
/// `sha256:` and a digest of other bytes.
const WRONG: &str =
    "checksum c2hhMjU2OjAwNGQyN2I5OTM0ZDNlMDhhNTJlNTJkN2RhN2RhYmZhYzQ4NGVmZTM3YTUzODBlZTkwODhmN2FjZTJlZmNkZTk=";

fn mp4() -> Vec<u8> {
    std::fs::read(samples::path("mp4")).expect("a sample")
}

#[tokio::test]
async fn a_tenant_has_only_so_much_room() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[("MAX_OPEN_UPLOADS", "2"), ("MAX_STORED_BYTES", "100")]);
    let begin = |length: &'static str| {
        Answer::of(request(&http, Method::POST, "/api/v1/uploads", &[("upload-length", length)]))
    };
    begin("101").await.problem(413, "quota_exceeded");
    let first = create(&http, &[("upload-length", "60")]).await;
    begin("41").await.problem(413, "quota_exceeded");
    create(&http, &[("upload-length", "40")]).await;
    begin("0").await.problem(429, "too_many_uploads");
    assert_eq!(Answer::of(request(&http, Method::DELETE, &first, &[])).await.status, 204);
    let deferred = create(&http, &[("upload-defer-length", "1")]).await;
    patch(&http, &deferred, 0, &[], vec![0; 61]).await.problem(413, "payload_too_large");
    sqlx::query("update tenant set max_open_uploads = 5, max_stored_bytes = 1000")
        .execute(&installation.db)
        .await
        .expect("grants");
    assert_eq!(begin("500").await.status, 201);
}

#[tokio::test]
async fn content_counts_and_names_do() {
    let installation = Installation::new().await;
    let changes = [("ALLOWED_TYPES", "video/*"), ("ALLOWED_EXTENSIONS", "mp4")];
    let (_api, http) = installation.api(&changes);
    let named = |name: &str| format!("filename {name}");
    let (text, movie) = (named("YS50eHQ="), named("YS5tcDQ="));
    let refused = [("upload-length", "9000"), ("upload-metadata", text.as_str())];
    Answer::of(request(&http, Method::POST, "/api/v1/uploads", &refused)).await.problem(400, "extension_not_allowed");
    for length in ["9000", "5000"] {
        let path = create(&http, &[("upload-length", length), ("upload-metadata", &movie)]).await;
        patch(&http, &path, 0, &[], vec![b'x'; 5000]).await.problem(415, "content_not_allowed");
        assert_eq!(head(&http, &path).await.status, 410);
    }
    let bytes = mp4();
    let path = create(&http, &[("upload-length", &bytes.len().to_string()), ("upload-metadata", &movie)]).await;
    assert_eq!(patch(&http, &path, 0, &[], bytes).await.status, 204);
}

#[tokio::test]
async fn the_digest_of_the_whole_is_taken_and_compared() {
    let installation = Installation::new().await;
    let (_a, one) = installation.api(&[]);
    let (_b, two) = installation.api(&[]);
    let digest = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
    for (second, wish, right) in
        [(&one, RIGHT, true), (&two, RIGHT, true), (&one, "checksum c2hhMjU2", true), (&two, WRONG, false)]
    {
        let path = create(&one, &[("upload-length", "11"), ("upload-metadata", wish)]).await;
        assert_eq!(patch(&one, &path, 0, &[], b"hello ".to_vec()).await.status, 204);
        let answer = patch(second, &path, 6, &[], b"world".to_vec()).await;
        if right {
            assert_eq!(answer.status, 204, "{}", answer.text);
            assert_eq!(one.get(&path).await.json["sha256"], digest);
        } else {
            answer.problem(460, "checksum_mismatch");
            one.get(&path).await.problem(410, "upload_gone");
        }
    }
}

#[tokio::test]
async fn the_last_byte_makes_one_job() {
    let (installation, http, _programs) = Installation::running().await;
    let bytes = mp4();
    let metadata = "filename YS5tcDQ=,probe cXVpY2s=";
    let path = create(&http, &[("upload-length", &bytes.len().to_string()), ("upload-metadata", metadata)]).await;
    assert_eq!(patch(&http, &path, 0, &[], bytes.clone()).await.status, 204);
    for _ in 0..3 {
        assert_eq!(patch(&http, &path, bytes.len(), &[], Vec::new()).await.status, 204);
    }
    let job = http.get(&path).await.json["job_id"].as_str().expect("a job").to_owned();
    let job = http.wait(&job).await;
    assert_eq!((job["state"].as_str(), job["profile"].as_str()), (Some("succeeded"), Some("quick")), "{job}");
    let jobs: i64 = sqlx::query_scalar("select count(*) from job").fetch_one(&installation.db).await.expect("counts");
    assert_eq!(jobs, 1);
}

#[tokio::test]
async fn what_a_process_left_is_finished_by_another() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let path = create(&http, &[("upload-length", "11"), ("upload-metadata", RIGHT)]).await;
    assert_eq!(patch(&http, &path, 0, &[], b"hello ".to_vec()).await.status, 204);
    // as if the process had died between the last count and the end
    let id = path.rsplit('/').next().expect("an id");
    std::fs::write(installation.uploads().join(id).join("data"), b"hello world").expect("writes");
    sqlx::query("update upload set received_bytes = 11").execute(&installation.db).await.expect("updates");
    eventually(async || http.get(&path).await.json["state"] == "complete", "another process finishes it").await;
}

#[tokio::test]
async fn time_ends_uploads() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    let unfinished = create(&http, &[("upload-length", "5")]).await;
    let finished = create(&http, &[("upload-length", "0")]).await;
    let kept = create(&http, &[("upload-length", "0")]).await;
    let lost = create(&http, &[("upload-length", "0")]).await;
    std::fs::remove_dir_all(installation.uploads().join(lost.rsplit('/').next().expect("an id"))).expect("erases");
    let old = "update upload set expires_at = expires_at - interval '49 hours', completed_at = completed_at - interval '25 hours' where id::text <> all($1)";
    let young: Vec<_> = [&kept, &lost].map(|p| p.rsplit('/').next().expect("an id").to_owned()).into();
    sqlx::query(old).bind(young).execute(&installation.db).await.expect("shifts");
    let _upkeep = installation.worker(&[("WORKER_ROLES", "upkeep")]);
    for path in [&unfinished, &finished, &lost] {
        eventually(async || head(&http, path).await.status == 410, "it is given up").await;
        let id = path.rsplit('/').next().expect("an id");
        eventually(async || !installation.uploads().join(id).exists(), "its bytes are erased").await;
    }
    assert_eq!(head(&http, &kept).await.status, 200);
}

#[tokio::test]
async fn a_form_is_uploaded_and_probed_in_one_call() {
    let (_installation, http, _programs) = Installation::running().await;
    let bytes = mp4();
    let mut body = b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a b.mp4\"\r\n\r\n".to_vec();
    body.extend_from_slice(&bytes);
    body.extend_from_slice(b"\r\n--XX\r\nContent-Disposition: form-data; name=\"profile\"\r\n\r\nquick\r\n--XX--\r\n");
    let form = |path: &str| {
        http.request(Method::POST, path).header("content-type", "multipart/form-data; boundary=XX").body(body.clone())
    };
    let answer = Answer::of(form("/api/v1/uploads")).await;
    assert_eq!((answer.status.as_u16(), answer.json["filename"].as_str()), (201, Some("a b.mp4")), "{}", answer.text);
    assert_eq!(answer.json["size_bytes"].as_u64(), Some(bytes.len() as u64));
    let answer = Answer::of(form("/api/v1/probe/file")).await;
    assert_eq!((answer.status.as_u16(), answer.json["profile"].as_str()), (200, Some("quick")), "{}", answer.text);
    assert_eq!(answer.json["state"], "succeeded", "{}", answer.text);
}
