//! Remote input behind the jail's walls: `SANDBOX=required` reads it as root, in a network namespace, and as an unprivileged
//! user, where ffprobe may connect to its one port.

use serde_json::json;
use tests::{Program, samples};

use super::{Site, opened, submit};

async fn reads(site: &Site, worker: &Program) {
    for name in ["mp4", "hdr10"] {
        let url = site.origin.serve(&format!("/{name}"), std::fs::read(samples::path(name)).expect("a sample"));
        for profile in ["quick", "standard", "packets", "frames"] {
            let body = json!({"source": {"type": "url", "url": url}, "profile": profile});
            let job = site.http.wait(&submit(&site.http, &body).await).await;
            assert_eq!(job["state"], "succeeded", "{name} {profile}: {job}\n{}", worker.log());
        }
    }
}

#[tokio::test]
async fn required_walls_let_remote_input_through() {
    let site = Site::with(&[("SANDBOX", "required")]).await;
    reads(&site, &site.worker).await;
}

#[tokio::test]
async fn an_unprivileged_worker_reads_remote_input_behind_required_walls() {
    if !rustix::process::geteuid().is_root() {
        println!("this user is unprivileged already: the test beside this one covers it");
        return;
    }
    let mut site = Site::new().await;
    site.worker.signal(rustix::process::Signal::TERM);
    site.worker.wait();
    let open = opened(&[&site.origin]);
    let settings = [("SANDBOX", "required"), ("EGRESS_SCHEMES", "https,http"), ("EGRESS_ALLOW_CIDRS", open.as_str())];
    let worker = site.installation.unprivileged_worker(&settings);
    reads(&site, &worker).await;
    let health = site.http.get("/api/v1/probe/health").await;
    println!("unprivileged: {}", health.json["workers"]);
}
