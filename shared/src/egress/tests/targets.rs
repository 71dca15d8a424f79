//! The table of addresses that must not be reached (`testdata/ssrf-targets.txt`): asked for directly, and by a redirect of
//! an origin that may be asked. Each is refused, and a listener on this machine sees nothing of it.

use super::origin::{Forbidden, Origin, to};
use super::*;

const TARGETS: &str = include_str!("../../../testdata/ssrf-targets.txt");

fn targets(port: u16) -> Vec<String> {
    let lines = TARGETS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.replace("{port}", &port.to_string())).collect()
}

#[tokio::test]
async fn every_target_is_refused_by_its_words() {
    let forbidden = Forbidden::everywhere();
    let names = Names::say(&[&["127.0.0.1"]]);
    let egress = wide("").resolved_by(&names);
    let targets = targets(forbidden.port);
    assert!(targets.len() >= 60, "the table is not read: {} targets", targets.len());
    for target in &targets {
        if let Ok(url) = parse(target) {
            assert!(egress.check(&url).is_err(), "{target} passes");
            assert!(matches!(failing(&egress, url.as_str()).await, Error::NotAllowed(_)), "{target}");
        }
        assert!(!forbidden.was_met(), "{target} was connected to");
    }
    assert_eq!(names.asked(), 0, "the words are enough");
    // whoever skips `parse` is not better off: what a parser mends leads nowhere, either
    for target in targets {
        if let Ok(url) = Url::parse(&target) {
            assert!(matches!(failing(&egress, url.as_str()).await, Error::NotAllowed(_)), "{target}");
        }
        assert!(!forbidden.was_met(), "{target} was connected to");
    }
}

#[tokio::test]
async fn every_target_is_refused_as_the_end_of_a_redirect() {
    let forbidden = Forbidden::everywhere();
    let targets = targets(forbidden.port);
    let locations = targets.clone();
    let origin = Origin::start(move |path| {
        let number = path.trim_start_matches('/').parse::<usize>().ok();
        // those that are relative lead back here and end on a page that does not exist
        number
            .and_then(|n| locations.get(n))
            .map_or_else(|| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), |location| to(location))
    })
    .await;
    let egress = wide(&origin.opened()).resolved_by(&Names::say(&[&["127.0.0.1"]]));
    let mut stayed = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        match egress.follow(get(&origin.url(&format!("/{number}")))).await {
            Err(Error::NotAllowed(_) | Error::Rejected(_)) => {}
            Err(error) => panic!("{target}: {error}"),
            Ok(answer) => {
                assert_eq!(answer.pinned.url().origin(), url(&origin.url("/")).origin(), "{target}");
                stayed.push(target.as_str());
            }
        }
        assert!(!forbidden.was_met(), "{target} was connected to");
    }
    // "http:HOST" and "HOST:PORT" are paths to a redirect
    assert_eq!(stayed.len(), 3, "{stayed:?}");
}

#[tokio::test]
async fn the_listener_of_these_tests_sees_what_is_allowed() {
    let forbidden = Forbidden::everywhere();
    let mut egress = wide(&format!("127.0.0.1/32:{}", forbidden.port));
    egress.bounds.first_byte = Duration::from_millis(200);
    let error = failing(&egress, &format!("http://127.1:{}/", forbidden.port)).await;
    assert!(matches!(error, Error::TooSlow(_)) && forbidden.was_met(), "{error}");
}

#[tokio::test]
async fn control_characters_never_reach_a_request() {
    let origin = Origin::start(|_| origin::ok("")).await;
    let egress = wide(&origin.opened());
    let at = format!("127.0.0.1:{}", origin.port);
    for text in [
        format!("http://{at}/a\r\nX-Smuggled: 1"),
        format!("http://{at}\r\n/a"),
        format!("http://{at}/a?b\nX-Smuggled: 1"),
        format!("http://me\r\n:secret@{at}/a"),
        format!("http://{at}/a\tb"),
        format!("http://{at}/a\0b"),
    ] {
        assert!(parse(&text).is_err(), "{text:?}");
        if let Ok(url) = Url::parse(&text) {
            let _ = egress.follow(get(url.as_str())).await;
        }
    }
    for head in origin.heads() {
        assert!(!head.contains("\r\nx-smuggled") && head.matches("\r\nhost:").count() == 1, "{head}");
    }
}
