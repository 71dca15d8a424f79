//! Where the service must not connect to: every target of `shared/testdata/ssrf-targets.txt`, named by the client or by a
//! redirect in every combination of schemes. A listener on loopback says whether anybody came.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::listener::Listener;
use tests::origin::{Act, Origin};
use tests::tls::TlsOrigin;
use tests::{Installation, samples};

use super::{Site, submit};

/// Targets, one a line.
const TARGETS: &str = include_str!("../../../shared/testdata/ssrf-targets.txt");

/// The targets, each aimed at the listener.
pub(crate) fn targets(listener: &Listener) -> Vec<String> {
    let lines = TARGETS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let targets: Vec<String> = lines.map(|line| line.replace("{port}", &listener.port().to_string())).collect();
    assert!(targets.len() >= 60, "only {} targets", targets.len());
    targets
}

#[tokio::test]
async fn no_forbidden_target_is_taken() {
    let (site, listener) = (Site::new().await, Listener::start());
    let targets = targets(&listener);
    for target in &targets {
        for (path, body) in [
            ("/api/v1/jobs", json!({"source": {"type": "url", "url": target}})),
            ("/api/v1/probe/url", json!({"url": target})),
        ] {
            let answer = site.http.post(path, &body).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.json["code"]),
                (400, &json!("url_not_allowed")),
                "{target}: {}",
                answer.text
            );
        }
    }
    for target in ["", " ", "https://", "https:///", "https://[", "https://host:99999/", "https://ho st/", "\u{0}"] {
        let answer = site.http.post("/api/v1/jobs", &json!({"source": {"type": "url", "url": target}})).await;
        assert_eq!(answer.status, 400, "{target:?}: {}", answer.text);
    }
    println!("{} targets refused at submission", targets.len());
    assert_eq!(listener.heard(), 0);
    let jobs: i64 =
        sqlx::query_scalar("select count(*) from job").fetch_one(&site.installation.db).await.expect("counts");
    assert_eq!(jobs, 0, "nothing was stored");
}

#[tokio::test]
async fn what_only_resolution_tells_is_refused_by_the_worker() {
    let (site, listener) = (Site::new().await, Listener::start());
    // a name of this machine that words cannot tell from any other
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for url in [format!("http://{own}:8080/a.mp4"), format!("http://{own}.:8080/a.mp4")] {
        let answer = site.http.post("/api/v1/jobs", &json!({"source": {"type": "url", "url": url}})).await;
        if answer.status == 400 {
            answer.problem(400, "url_not_allowed");
            continue;
        }
        let job = site.first_attempt(answer.json["id"].as_str().expect("an id")).await;
        let code = job["failure"]["code"].as_str().unwrap_or_default();
        assert!(["url_not_allowed", "host_not_found", "dns_error"].contains(&code), "{url}: {job}");
    }
    // what was allowed at submission and is not any more
    let job = {
        let origin = Origin::start();
        let (_api, http) = site.installation.api(&[
            ("EGRESS_SCHEMES", "https,http"),
            ("EGRESS_ALLOW_CIDRS", &format!("127.0.0.1/32:{}", listener.port())),
        ]);
        drop(origin);
        submit(&http, &json!({"source": {"type": "url", "url": format!("http://127.0.0.1:{}/a", listener.port())}}))
            .await
    };
    let job = site.http.wait(&job).await;
    assert_eq!((&job["failure"]["code"], &job["attempt"]), (&json!("url_not_allowed"), &json!(1)), "{job}");
    assert_eq!(listener.heard(), 0);
}

#[tokio::test]
async fn no_redirect_leads_to_a_forbidden_target() {
    let (site, listener) = (Site::with(&[("WORKER_SLOTS", "16")]).await, Listener::start());
    let mut jobs = Vec::new();
    for (number, target) in targets(&listener).into_iter().enumerate() {
        let act = Act::Redirect([301, 302, 303, 307, 308][number % 5], target.clone());
        let url = site.origin.script(&format!("/{number}"), Vec::new(), &[], act);
        jobs.push((target, site.submit(&url).await));
    }
    let mut codes = BTreeMap::<String, usize>::new();
    for (target, job) in &jobs {
        let ended = site.http.wait(job).await;
        assert_eq!(ended["state"], "failed", "{target}: {ended}");
        let code = ended["failure"]["code"].as_str().expect("a code").to_owned();
        // a few are no addresses but paths on the same origin, which has nothing there
        let known = ["url_not_allowed", "remote_not_found", "remote_rejected"].contains(&code.as_str());
        assert!(known, "{target}: {ended}");
        *codes.entry(code).or_default() += 1;
    }
    println!("{} redirects: {codes:?}", jobs.len());
    assert!(codes["url_not_allowed"] >= 100, "{codes:?}");
    assert_eq!(listener.heard(), 0);
}

#[tokio::test]
async fn schemes_do_not_mix_to_a_way_in() {
    let (installation, plain, secure, listener) =
        (Installation::new().await, Origin::start(), TlsOrigin::start(), Listener::start());
    let ports = [plain.address().port(), secure.port()].map(|port| format!("127.0.0.1/32:{port}")).join(",");
    let certificate = secure.certificate().display().to_string();
    let egress = [
        ("EGRESS_SCHEMES", "https,http"),
        ("EGRESS_ALLOW_CIDRS", ports.as_str()),
        ("EGRESS_CA_FILE", certificate.as_str()),
    ];
    let (_api, http) = installation.api(&egress);
    let _worker = installation.worker(&egress);
    let probe = async |url: &str| -> Value {
        http.wait(&submit(&http, &json!({"source": {"type": "url", "url": url}})).await).await
    };
    let mp4 = std::fs::read(samples::path("mp4")).expect("a sample");
    let mut whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", mp4.len()).into_bytes();
    whole.extend(&mp4);
    let good = secure.answer("good.mp4", &whole);
    assert_eq!(probe(&good).await["state"], "succeeded", "the way itself is open");
    let to = |location: &str| {
        format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    };
    let http_to_https = plain.script("/up", Vec::new(), &[], Act::Redirect(302, good.clone()));
    assert_eq!(probe(&http_to_https).await["state"], "succeeded", "from http to https is allowed");

    let port = listener.port();
    let open = plain.serve("/a.mp4", mp4);
    let mut wrong = Vec::new();
    for (number, target) in [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://127.0.0.2:{port}/"),
        format!("https://localhost:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("ftp://127.0.0.1:{port}/"),
        format!("gopher://127.0.0.1:{port}/"),
        "file:///etc/passwd".to_owned(),
        "data:text/plain,media".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let from_http = plain.script(&format!("/to{number}"), Vec::new(), &[], Act::Redirect(307, target.clone()));
        let from_https = secure.answer(&format!("to{number}"), &to(target));
        // two hops: in by https, on by http
        let twice = plain.script(&format!("/on{number}"), Vec::new(), &[], Act::Redirect(302, from_https.clone()));
        for url in [&from_http, &from_https, &twice] {
            let job = probe(url).await;
            if job["failure"]["code"] != "url_not_allowed" {
                wrong.push(format!("{url} to {target}: {job}"));
            }
        }
    }
    // down to http is never followed, not even to an origin that is open
    let down = probe(&secure.answer("down", &to(&open))).await;
    assert_eq!(down["failure"]["code"], "url_not_allowed", "{down}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(plain.exchanges_of("/a.mp4").is_empty());
    assert_eq!(listener.heard(), 0);
}
