//! Whom nothing is sent to: every target of `shared/testdata/ssrf-targets.txt`, as an endpoint and as a job's webhook; a name
//! whose addresses change between check and delivery. A listener on loopback says whether anybody came.

use std::io::ErrorKind;
use std::net::TcpListener;

use serde_json::json;
use tests::Installation;
use tests::listener::Listener;
use tests::receiver::{Receiver, Reply};

use super::{Site, a_moment, opened, tenant};
use crate::remote::targets::targets;

#[tokio::test]
async fn no_forbidden_target_is_taken() {
    let (site, listener) = (Site::new().await, Listener::start());
    site.http.post("/api/v1/webhooks/default-secret", &json!({})).await;
    let (own, _) = site.hook("/own", &["batch.completed"]).await;
    let targets = targets(&listener);
    for target in &targets {
        site.http.post("/api/v1/webhooks", &json!({"url": target})).await.problem(400, "url_not_allowed");
        let changed = site.http.patch(&format!("/api/v1/webhooks/{own}"), &json!({"url": target})).await;
        changed.problem(400, "url_not_allowed");
        let job = json!({"source": {"type": "path", "path": "/a.wav"}, "webhook": {"url": target}});
        site.http.post("/api/v1/jobs", &job).await.problem(400, "url_not_allowed");
    }
    println!("{} targets refused", targets.len());
    assert_eq!(listener.heard(), 0);
}

/// What an API took that knew other rules is judged again by the deliverer, at every attempt: so it is with a name that points
/// elsewhere by then.
#[tokio::test]
async fn what_was_taken_once_is_judged_at_every_attempt() {
    let (installation, listener) = (Installation::new().await, Listener::start());
    let open = format!("127.0.0.0/8:{port},[::1/128]:{port}", port = listener.port());
    let (api, http) = installation.api(&[("EGRESS_SCHEMES", "https,http"), ("EGRESS_ALLOW_CIDRS", &open)]);
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut hooks = Vec::new();
    for host in ["127.0.0.1", "localhost", "[::1]", own.as_str()] {
        let url = format!("http://{host}:{}/hook", listener.port());
        let made = http.post("/api/v1/webhooks", &json!({"url": url, "events": ["batch.completed"]})).await;
        if made.status == 201 {
            hooks.push(made.json["id"].as_str().expect("an id").to_owned());
        }
    }
    assert!(hooks.len() >= 3, "{hooks:?}");
    let worker = installation.worker(&[("EGRESS_SCHEMES", "https,http")]);
    let receiver = Receiver::start();
    let tenant = tenant(&installation, &http).await;
    let site = Site { receiver, http, installation, tenant, api, worker };
    site.happen(1).await;
    for hook in &hooks {
        let shown = site.delivery(hook, |d| d["attempts"] == 1 && d["state"] == "pending").await;
        let error = shown["last_error"].as_str().expect("a reason");
        assert!(!error.contains("127.0.0.1:0") && shown["last_status"].is_null(), "{shown}");
    }
    a_moment().await;
    assert_eq!(listener.heard(), 0);
}

/// The name of an endpoint points to the receiver, for the next attempt to where nothing may be sent, alone or beside the
/// receiver, and then to the receiver again.
#[tokio::test]
async fn a_name_that_comes_to_point_elsewhere_gets_nothing() {
    let (installation, receiver) = (Installation::new().await, Receiver::start());
    let inside = TcpListener::bind(("127.0.0.2", receiver.port())).expect("the port is free there");
    inside.set_nonblocking(true).expect("does not wait");
    let names = installation.folder().join("hosts");
    let point_to = |addresses: &[&str]| {
        let lines: String = addresses.iter().map(|address| format!("{address} moving.example\n")).collect();
        // in place: what is mounted is this very file
        std::fs::write(&names, lines).expect("writes");
    };
    point_to(&["127.0.0.1"]);
    let open = opened(&receiver);
    let egress = open.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (api, http) = installation.api(&egress);
    let Some(worker) = installation.worker_with_names(&names, &egress) else {
        println!("not seen: this place lets no process have names of its own");
        return;
    };
    let tenant = tenant(&installation, &http).await;
    let site = Site { receiver, http, installation, tenant, api, worker };
    for (path, elsewhere) in [("/one", &["127.0.0.2"][..]), ("/both", &["127.0.0.1", "127.0.0.2"])] {
        // a connection that broke is what makes the deliverer look the name up anew
        site.receiver.script(path, &[Reply::Reset], Reply::status(204));
        let url = format!("http://moving.example:{}{path}", site.receiver.port());
        let (hook, _) = super::hook(&site.http, &url, &["batch.completed"]).await;
        site.happen(1).await;
        site.delivery(&hook, |d| d["attempts"] == 1 && d["state"] == "pending").await;
        point_to(elsewhere);
        site.now().await;
        let refused = site.delivery(&hook, |d| d["attempts"] == 2 && d["state"] == "pending").await;
        let error = refused["last_error"].as_str().expect("a reason");
        assert!(error.contains("does not connect to") && refused["last_status"].is_null(), "{elsewhere:?}: {refused}");
        assert_eq!(site.receiver.messages(path).len(), 1);
        point_to(&["127.0.0.1"]);
        site.now().await;
        site.messages(path, 2).await;
        // the next one shall have the origin for itself: they share the way to it
        site.http.delete(&format!("/api/v1/webhooks/{hook}")).await;
    }
    assert_eq!(inside.accept().expect_err("nobody came").kind(), ErrorKind::WouldBlock);
}
