//! TLS: an origin that proves its name, and those that do not. The certificates are made by `testdata/tls/make.sh`.

use super::origin::{Forbidden, Origin, TlsOrigin, ok, testdata, to};
use super::*;
use crate::job::FailureCode;

/// Trusts the CA of the tests; every name is this machine.
fn trusting(port: u16, more: &str) -> Egress {
    let settings = settings(|args| {
        args.egress_schemes = "https,http".into();
        args.egress_ports = "1-65535".into();
        args.egress_allow_cidrs = format!("127.0.0.1/32:{port},{more}");
        args.egress_ca_file = Some(testdata("ca.pem"));
    });
    Egress::new(settings).unwrap().resolved_by(&Names::say(&[&["127.0.0.1"]]))
}

#[tokio::test]
async fn an_origin_of_an_own_ca_is_trusted_under_its_name() {
    let origin = TlsOrigin::start("origin.pem", &ok("media"));
    let egress = trusting(origin.port, "");
    assert_eq!(text(egress.follow(get(&origin.url("origin.test"))).await.unwrap()).await, "media");
    assert_eq!(text(egress.follow(get(&origin.url("origin.test."))).await.unwrap()).await, "media");
    for host in ["other.test", "127.0.0.1"] {
        let failure = failing(&egress, &origin.url(host)).await.failure();
        assert_eq!(failure.code, FailureCode::TlsError, "{}", failure.message);
    }
}

#[tokio::test]
async fn an_unknown_or_expired_certificate_is_not_trusted() {
    let origin = TlsOrigin::start("origin.pem", &ok("media"));
    let without = wide(&format!("127.0.0.1/32:{}", origin.port)).resolved_by(&Names::say(&[&["127.0.0.1"]]));
    let failure = failing(&without, &origin.url("origin.test")).await.failure();
    assert_eq!(failure.code, FailureCode::TlsError, "{}", failure.message);
    let expired = TlsOrigin::start("expired.pem", &ok("media"));
    let failure = failing(&trusting(expired.port, ""), &expired.url("origin.test")).await.failure();
    assert_eq!(failure.code, FailureCode::TlsError, "{}", failure.message);
    assert!(failure.message.contains("expired"), "{}", failure.message);
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_that_is_silent() {
    let plain = Origin::start(|_| ok("")).await;
    // a client's greeting has no blank line, so this origin says nothing until it is told what to say
    let mut egress = trusting(plain.port, "");
    egress.bounds.connect = Duration::from_millis(500);
    let silent = failing(&egress, &format!("https://origin.test:{}/", plain.port)).await;
    assert_eq!(silent.code(), FailureCode::ConnectFailed, "{silent}");

    let speaks = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = speaks.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = speaks.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = failing(&trusting(port, ""), &format!("https://origin.test:{port}/")).await;
    assert_eq!(error.code(), FailureCode::TlsError, "{error}");
}

#[tokio::test]
async fn an_encrypted_origin_redirects_to_nothing_less_and_nothing_inside() {
    let plain = Origin::start(|_| ok("")).await;
    let forbidden = Forbidden::everywhere();
    for location in [
        plain.url("/"),
        format!("http://origin.test:{}/", plain.port),
        format!("http://127.0.0.1:{}/", forbidden.port),
        format!("https://127.0.0.1:{}/", forbidden.port),
        format!("https://origin.test:{}/", forbidden.port),
        format!("//127.0.0.1:{}/", forbidden.port),
        "file:///etc/passwd".to_owned(),
        "ftp://origin.test/".to_owned(),
    ] {
        let origin = TlsOrigin::start("origin.pem", &to(&location));
        let egress = trusting(origin.port, &plain.opened());
        let error = failing(&egress, &origin.url("origin.test")).await;
        assert!(matches!(error, Error::NotAllowed(_)), "{location}: {error}");
        assert!(!forbidden.was_met(), "{location}");
    }
    assert_eq!(plain.connections(), 0);
}

#[tokio::test]
async fn a_plain_origin_may_lead_to_an_encrypted_one() {
    let origin = TlsOrigin::start("origin.pem", &ok("media"));
    let target = origin.url("origin.test");
    let plain = Origin::start(move |_| to(&target)).await;
    let egress = trusting(origin.port, &plain.opened());
    let answer = egress.follow(get(&plain.url("/"))).await.unwrap();
    assert_eq!(answer.pinned.url().scheme(), "https");
    assert_eq!(text(answer).await, "media");
}

#[test]
fn a_file_that_holds_no_certificate_stops_the_start() {
    for (name, bytes) in [
        ("text", &b"no certificate"[..]),
        ("broken", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        let mut settings = settings(|_| {});
        settings.ca = Some(bytes.to_vec());
        let error = Egress::new(settings).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("EGRESS_CA_FILE: "), "{name}: {error}");
    }
}
