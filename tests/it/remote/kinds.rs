//! What can be read: every sample is described from a URL as it is from a file, through redirects too, and with every profile.

use serde_json::{Value, json};
use tests::origin::{Act, Origin};
use tests::{Installation, samples};

use super::{Site, opened, submit, wav};

/// A result without what differs between two jobs: the name, when and how it was read.
fn nameless(result: &Value) -> Value {
    let mut result = result.clone();
    for pointer in ["/media/name", "/ffprobe/format/filename", "/provenance", "/job_id", "/created_at"] {
        *result.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is missing")) = Value::Null;
    }
    result
}

#[tokio::test]
async fn every_sample_is_the_same_from_a_url_as_from_a_file() {
    let site = Site::new().await;
    let mut wrong = Vec::new();
    let mut pairs = Vec::new();
    for sample in samples::all() {
        let name = format!("{}.{}", sample.name, sample.extension);
        let bytes = std::fs::read(sample.path()).expect("a sample");
        let file = site.installation.put(&name, &bytes);
        let url = site.origin.serve(&format!("/a%20b/{name}"), bytes);
        let by_path = submit(&site.http, &json!({"source": {"type": "path", "path": file}})).await;
        pairs.push((name, by_path, site.submit(&url).await));
    }
    for (name, by_path, by_url) in pairs {
        let (by_path, by_url) = (site.http.wait(&by_path).await, site.http.wait(&by_url).await);
        if by_url["state"] != "succeeded" || nameless(&by_path["result"]) != nameless(&by_url["result"]) {
            wrong.push(format!("{name}:\n  path {by_path}\n  url  {by_url}"));
            continue;
        }
        assert_eq!(by_url["result"]["media"]["name"], name.as_str());
        assert_eq!(by_url["result"]["ffprobe"]["format"]["filename"], name.as_str());
        let remote = &by_url["result"]["provenance"]["remote"];
        assert!(remote["bytes"].as_u64() > Some(0) && remote["requests"].as_u64() > Some(0), "{by_url}");
        assert!(!by_url["result"].to_string().contains("127.0.0.1:"), "no address is in the result: {by_url}");
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_profile_reads_from_a_url_as_from_a_file() {
    let site = Site::new().await;
    for (name, bytes) in [("a.mp4", std::fs::read(samples::path("mp4")).expect("a sample")), ("long.wav", wav(3 << 20))]
    {
        let file = site.installation.put(name, &bytes);
        let url = site.origin.serve(&format!("/{name}"), bytes.clone());
        for profile in ["quick", "standard", "packets", "frames"] {
            let ask = async |source: Value| {
                let job = submit(&site.http, &json!({"source": source, "profile": profile})).await;
                let ended = site.http.wait(&job).await;
                (job, ended)
            };
            let (local_job, local) = ask(json!({"type": "path", "path": file})).await;
            let (remote_job, remote) = ask(json!({"type": "url", "url": url})).await;
            if name == "long.wav" && profile == "frames" {
                assert_eq!(
                    (&local["failure"]["code"], &remote["failure"]["code"]),
                    (&json!("no_video"), &json!("no_video"))
                );
                continue;
            }
            assert_eq!(remote["state"], "succeeded", "{name} {profile}: {remote}");
            assert_eq!(nameless(&local["result"]), nameless(&remote["result"]), "{name} {profile}");
            if profile == "packets" {
                let series = async |job: &str| site.http.get(&format!("/api/v1/jobs/{job}/series/0")).await.json;
                let (local, remote) = (series(&local_job).await, series(&remote_job).await);
                assert_eq!(local, remote, "{name}");
                assert!(remote["points"].as_array().is_some_and(|p| !p.is_empty()), "{remote}");
            }
            if (name, profile) == ("long.wav", "packets") {
                let account = &remote["result"]["provenance"]["remote"];
                assert!(account["bytes"].as_u64() >= Some(bytes.len() as u64), "{account}");
                assert_eq!(account["end_check"], "same", "{account}");
            }
        }
    }
}

#[tokio::test]
async fn a_url_is_probed_in_one_call() {
    let site = Site::new().await;
    let url = site.origin.serve("/a.mp4", std::fs::read(samples::path("mp4")).expect("a sample"));
    let answer = site.http.post("/api/v1/probe/url", &json!({"url": url, "headers": {"X-Ask": "1"}})).await;
    assert_eq!((answer.status.as_u16(), &answer.json["state"]), (200, &json!("succeeded")), "{}", answer.text);
    assert_eq!(answer.json["source"], json!({"type": "url", "url": url}));
    assert_eq!(answer.json["result"]["media"]["name"], "a.mp4");
    assert_eq!(site.origin.exchanges()[0].header("x-ask"), Some("1"));
    let missing = site.http.post("/api/v1/probe/url", &json!({"url": site.origin.url("/none")})).await;
    assert_eq!((missing.status.as_u16(), &missing.json["failure"]["code"]), (200, &json!("remote_not_found")));
    let refused = site.http.post("/api/v1/probe/url", &json!({"url": "http://127.0.0.1:1/"})).await;
    refused.problem(400, "url_not_allowed");
    assert_eq!(refused.json["errors"][0]["pointer"], "#/url");
    let header = site.http.post("/api/v1/probe/url", &json!({"url": url, "headers": {"Host": "x"}})).await;
    header.problem(400, "invalid_value");
    assert_eq!(header.json["errors"][0]["pointer"], "#/headers");
}

#[tokio::test]
async fn redirects_are_followed_and_headers_stay_with_their_origin() {
    let (installation, here, there) = (Installation::new().await, Origin::start(), Origin::start());
    let open = opened(&[&here, &there]);
    let egress = [("EGRESS_SCHEMES", "https,http"), ("EGRESS_ALLOW_CIDRS", open.as_str())];
    let (_api, http) = installation.api(&egress);
    let _worker = installation.worker(&egress);
    let bytes = wav(1 << 20);
    let end = there.serve("/end.wav", bytes.clone());
    let near = here.serve("/near.wav", bytes.clone());
    for (status, path, to) in [
        (301, "/a", near.as_str()),
        (302, "/b", "/near.wav"),
        (303, "/c", "near.wav"),
        (307, "/d", end.as_str()),
        (308, "/e", end.as_str()),
    ] {
        let url = here.script(path, Vec::new(), &[], Act::Redirect(status, to.to_owned()));
        let body = json!({"source": {"type": "url", "url": url, "headers": {"Authorization": "Bearer t0p", "X-Own": "y"}},
            "profile": "packets"});
        let job = http.wait(&submit(&http, &body).await).await;
        assert_eq!(job["state"], "succeeded", "{path}: {job}");
        assert_eq!(here.exchanges_of(path)[0].header("authorization"), Some("Bearer t0p"));
    }
    let kept = |origin: &Origin, path: &str| {
        let asked = origin.exchanges_of(path);
        assert!(asked.len() > 3, "{path} was read in {} requests", asked.len());
        asked.iter().filter(|e| e.header("authorization").is_some() && e.header("x-own").is_some()).count()
            == asked.len()
    };
    assert!(kept(&here, "/near.wav"), "headers reach every request of their origin");
    let far = there.exchanges_of("/end.wav");
    assert!(!far.is_empty() && far.iter().all(|e| e.header("authorization").is_none() && e.header("x-own").is_none()));
}
