//! Names that lead where they must not: to forbidden addresses, to mixed ones, to others than a moment ago; and redirects
//! between schemes. Listeners see nothing of what was refused.

use super::origin::{Forbidden, Origin, beside, ok, to};
use super::*;
use crate::job::FailureCode;

#[tokio::test]
async fn names_that_lead_inside_are_refused() {
    let forbidden = Forbidden::everywhere();
    for answer in [
        &["127.0.0.1"][..],
        &["127.0.0.2"],
        &["0.0.0.0"],
        &["::1"],
        &["::"],
        &["::ffff:127.0.0.1"],
        &["::127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["64:ff9b:1::7f00:1"],
        &["2002:7f00:1::1"],
        &["2001::1"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
        &["10.0.0.1"],
        &["100.64.0.1"],
        &["fe80::1"],
        &["1.1.1.1", "127.0.0.1"],
        &["127.0.0.1", "1.1.1.1"],
        &["2606:4700::1111", "1.1.1.1", "::1"],
    ] {
        let names = Names::say(&[answer]);
        let egress = wide("").resolved_by(&names);
        let error = failing(&egress, &format!("http://inside.example:{}/?secret", forbidden.port)).await;
        assert!(matches!(error, Error::NotAllowed(_)) && names.asked() == 1, "{answer:?}: {error}");
        // which address a name has inside is nobody's business
        assert!(!answer.iter().any(|ip| error.to_string().contains(ip)) && !error.to_string().contains("secret"));
        assert!(!forbidden.was_met(), "{answer:?} was connected to");
    }
}

#[tokio::test]
async fn many_answers_hide_none() {
    let mut answers = vec!["1.1.1.1"; 40];
    answers.push("127.0.0.1");
    let egress = wide("").resolved_by(&Names::say(&[&answers]));
    assert!(matches!(failing(&egress, "https://inside.example/").await, Error::NotAllowed(_)));
}

#[tokio::test]
async fn a_name_that_changes_its_mind_gains_nothing() {
    let origin = Origin::start(|path| if path == "/go" { to("/there") } else { ok("good") }).await;
    let forbidden = Forbidden::at(beside([127, 0, 0, 2], origin.port));
    let names = Names::say(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let egress = wide(&origin.opened()).resolved_by(&names);
    let at = |path: &str| format!("http://fickle.example:{}{path}", origin.port);

    // between the check and the connection, and for every later request
    let answer = egress.follow(get(&at("/here"))).await.unwrap();
    let pinned = answer.pinned.clone();
    assert_eq!(text(answer).await, "good");
    for _ in 0..3 {
        assert_eq!(text(pinned.get(Some(0..=3), HeaderMap::new()).await.unwrap()).await, "good");
    }
    assert_eq!(names.asked(), 1, "a pinned origin is looked up once");

    // the next job, and the next hop of a redirect to the same name, ask again
    assert!(matches!(failing(&egress, &at("/here")).await, Error::NotAllowed(_)));
    let names = Names::say(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let egress = wide(&origin.opened()).resolved_by(&names);
    assert!(matches!(failing(&egress, &at("/go")).await, Error::NotAllowed(_)));
    assert_eq!(names.asked(), 2, "every hop is looked up");
    assert!(!forbidden.was_met());
}

#[tokio::test]
async fn a_message_follows_no_name_that_changes_its_mind() {
    let origin = Origin::start(|_| ok("good")).await;
    let forbidden = Forbidden::at(beside([127, 0, 0, 2], origin.port));
    let names = Names::say(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let egress = wide(&origin.opened()).resolved_by(&names);
    let at = url(&format!("http://fickle.example:{}/hook", origin.port));
    let pinned = egress.pin_for_message(&at).await.unwrap();
    for _ in 0..3 {
        let answer = pinned.send(Method::POST, HeaderMap::new(), "message".into()).await.unwrap();
        assert_eq!(text(answer).await, "good");
    }
    assert_eq!(names.asked(), 1);
    assert!(matches!(egress.pin_for_message(&at).await, Err(Error::NotAllowed(_))));
    assert!(!forbidden.was_met());
}

#[tokio::test]
async fn redirects_do_not_leave_http() {
    let forbidden = Forbidden::everywhere();
    let port = forbidden.port;
    for location in [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://inside.example:{port}/"),
        format!("https://inside.example:{port}/"),
        format!("//inside.example:{port}/"),
        format!("ftp://127.0.0.1:{port}/"),
        format!("gopher://127.0.0.1:{port}/"),
        "file:///etc/passwd".into(),
        "data:,media".into(),
        "javascript:0".into(),
        "blob:http://127.0.0.1/".into(),
    ] {
        let target = location.clone();
        let origin = Origin::start(move |_| to(&target)).await;
        let egress = wide(&origin.opened()).resolved_by(&Names::say(&[&["127.0.0.1"]]));
        let error = failing(&egress, &origin.url("/")).await;
        assert!(matches!(error, Error::NotAllowed(_)), "{location}: {error}");
        assert!(!forbidden.was_met() && origin.heads().len() == 1, "{location}");
    }
}

#[tokio::test]
async fn plain_http_is_refused_unless_it_is_allowed() {
    let origin = Origin::start(|_| ok("")).await;
    let strict = Egress::new(settings(|args| args.egress_allow_cidrs = origin.opened())).unwrap();
    assert!(matches!(failing(&strict, &origin.url("/")).await, Error::NotAllowed(_)));
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn ports_are_refused_by_words_and_with_the_address() {
    let origin = Origin::start(|_| ok("")).await;
    let open = |cidrs: String| {
        let settings = settings(|args| {
            args.egress_schemes = "https,http".into();
            args.egress_allow_cidrs = cidrs;
        });
        Egress::new(settings).unwrap().resolved_by(&Names::say(&[&["127.0.0.1"]]))
    };
    let named = format!("http://private.example:{}/", origin.port);
    assert!(open(origin.opened()).follow(get(&named)).await.is_ok());
    // the network without the port, another port, another address
    for cidrs in ["127.0.0.0/8".to_owned(), "127.0.0.1/32:1".into(), format!("127.0.0.2/32:{}", origin.port)] {
        assert!(matches!(failing(&open(cidrs.clone()), &named).await, Error::NotAllowed(_)), "{cidrs}");
    }
    for port in [1, 22, 25, 5432, 6379, 11211, 65535] {
        let error = failing(&open(String::new()), &format!("https://public.example:{port}/")).await;
        assert!(matches!(error, Error::NotAllowed(_)), "{port}");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn the_name_service_fails_in_three_ways() {
    let said = |answer: Answered| Names::script(Duration::ZERO, vec![answer]);
    for (answer, code) in [
        (Err(LookupError::NotFound), FailureCode::HostNotFound),
        (Ok(Vec::new()), FailureCode::HostNotFound),
        (Err(LookupError::Failed("try again".into())), FailureCode::DnsError),
        (Err(LookupError::Busy), FailureCode::DnsError),
    ] {
        let egress = wide("").resolved_by(&said(answer));
        assert_eq!(failing(&egress, "https://nowhere.example/").await.failure().code, code);
    }
    let mut egress = wide("").resolved_by(&Names::script(Duration::from_secs(3600), vec![Ok(Vec::new())]));
    egress.bounds.lookup = Duration::from_millis(100);
    let begun = std::time::Instant::now();
    assert_eq!(failing(&egress, "https://nowhere.example/").await.code(), FailureCode::DnsError);
    assert!(begun.elapsed() < Duration::from_secs(5), "a look-up that hangs is given up");
}

#[tokio::test]
async fn names_of_sources_that_hang_keep_no_message_waiting() {
    let mut egress = wide("127.0.0.1/32,::1/128");
    egress.bounds.lookup = Duration::from_millis(200);
    let none = || Resolver::System(Arc::new(tokio::sync::Semaphore::new(0)));
    egress.resolver = none();
    assert!(matches!(failing(&egress, "http://localhost:9/a").await, Error::Busy(_)));
    egress.bounds.lookup = LOOKUP_TIMEOUT;
    egress.pin_for_message(&url("http://localhost:9/a")).await.expect("it is looked up");
    (egress.resolver, egress.message_resolver) = (Resolver::system(), none());
    egress.pin(&url("http://localhost:9/a"), HeaderMap::new()).await.expect("nor the other way around");
}

#[tokio::test]
async fn the_path_of_a_message_is_never_shown() {
    let secret = "https://user:pass@public.example/T0/SECRET?token=SECRET";
    for egress in [wide("").resolved_by(&Names::say(&[&["127.0.0.1"]])), wide("").resolved_by(&Names::say(&[&[]]))] {
        let error = egress.pin_for_message(&url(secret)).await.expect_err("it leads nowhere").to_string();
        assert!(error.starts_with("https://public.example: ") && !error.contains("SECRET"), "{error}");
    }
    // nothing listens there
    let egress = wide("127.0.0.1/32");
    let way = egress.pin_for_message(&url("http://127.0.0.1:1/T0/SECRET")).await.expect("it is checked");
    let error = way.send(Method::POST, HeaderMap::new(), Bytes::new()).await.expect_err("nobody answers");
    assert!(error.to_string().starts_with("http://127.0.0.1:1: "), "{error}");
    assert!(!format!("{error} {way:?}").contains("SECRET"));
}
