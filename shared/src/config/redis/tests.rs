//! What the settings of Redis mean, and which are refused: addresses, sentinels, passwords, TLS. Connects to nothing;
//! `tests/it/tls.rs` and `tests/it/sentinel.rs` do.
//! No message may repeat a password.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    plaintext: PlaintextArgs,
}

const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tls/ca.pem");

/// In a network that is trusted.
fn endpoint(arguments: &[&str]) -> Result<RedisEndpoint, ConfigError> {
    strictly(&[arguments, &["--plaintext-hosts", "a,b,a.example,10.0.0.1"]].concat())
}

fn strictly(arguments: &[&str]) -> Result<RedisEndpoint, ConfigError> {
    let cli = Cli::parse_from([&["x"], arguments].concat());
    cli.redis.endpoint(&cli.plaintext)
}

fn addresses(list: &str) -> Vec<String> {
    match endpoint(&["--redis-sentinels", list]).unwrap() {
        RedisEndpoint::Sentinels { sentinels, .. } => {
            sentinels.iter().map(|s| s.get_connection_info().addr().to_string()).collect()
        }
        RedisEndpoint::Fixed(client) => vec![format!("fixed {}", client.get_connection_info().addr())],
    }
}

fn refusal(arguments: &[&str]) -> String {
    let message = endpoint(arguments).unwrap_err().to_string();
    assert!(message.contains("Fix: ") && !message.contains("hunter2"), "{arguments:?}: {message}");
    message
}

#[test]
fn sentinels_are_read_in_order() {
    assert_eq!(addresses("b:26379, a.example:1 ,10.0.0.1:2"), ["b:26379", "a.example:1", "10.0.0.1:2"]);
    assert_eq!(addresses("[::1]:26379,"), ["::1:26379"]);
    for none in ["", " ", ","] {
        assert_eq!(addresses(none), ["fixed 127.0.0.1:6379"], "{none}");
    }
}

#[test]
fn malformed_sentinels_are_refused() {
    for bad in [
        "a",
        "a:",
        ":26379",
        "a:0",
        "a:65536",
        "a b:1",
        "redis://a:26379",
        ":hunter2@a:26379",
        "::1:26379",
        "[a]:1",
        "a:1;b:1",
    ] {
        let message = refusal(&["--redis-sentinels", bad]);
        assert!(message.starts_with("REDIS_SENTINELS: entry 1 is not HOST:PORT"), "{bad}: {message}");
    }
    assert!(refusal(&["--redis-sentinels", "a:1,b:2,a:1"]).contains("entry 3 stands in the list twice"));
    let many: Vec<String> = (1..=17).map(|n| format!("a:{n}")).collect();
    assert!(refusal(&["--redis-sentinels", &many.join(",")]).contains("more than 16"));
}

#[test]
fn contradictions_are_refused() {
    let both = refusal(&["--redis-sentinels", "a:1", "--redis-url", "redis://:hunter2@a"]);
    assert!(both.starts_with("REDIS_SENTINELS: REDIS_URL is set, too"), "{both}");
    for lonely in
        [&["--redis-sentinel-password", "hunter2"][..], &["--redis-sentinel-password", "x", "--redis-url", "redis://a"]]
    {
        assert!(refusal(lonely).starts_with("REDIS_SENTINEL_PASSWORD: it is set, and REDIS_SENTINELS is not"));
    }
    for name in ["", "my master", "my\nmaster"] {
        let message = refusal(&["--redis-sentinels", "a:1", "--redis-sentinel-master", name]);
        assert!(message.starts_with("REDIS_SENTINEL_MASTER: "), "{message}");
    }
    assert!(refusal(&["--redis-url", "http://hunter2@a"]).starts_with("REDIS_URL: "));
}

#[test]
fn an_empty_url_is_none() {
    assert!(matches!(endpoint(&["--redis-url", "", "--redis-sentinels", "a:1"]), Ok(RedisEndpoint::Sentinels { .. })));
}

#[test]
fn each_password_goes_where_it_belongs() {
    let all =
        ["--redis-sentinels", "a:1", "--redis-password", "p", "--redis-sentinel-password", "s", "--redis-db", "3"];
    let Ok(RedisEndpoint::Sentinels { sentinels, master, door }) = endpoint(&all) else { panic!("not sentinels") };
    let login = door.login;
    assert_eq!(master, "mymaster");
    assert_eq!((login.password(), login.db()), (Some("p"), 3));
    let sentinel = sentinels[0].get_connection_info().redis_settings();
    assert_eq!((sentinel.password(), sentinel.db()), (Some("s"), 0));
}

#[test]
fn another_machine_needs_tls_or_a_word_of_the_operator() {
    for (arguments, variable) in [
        (&["--redis-url", "redis://:hunter2@a"][..], "REDIS_URL"),
        (&["--redis-host", "a"], "REDIS_HOST"),
        (&["--redis-host", "a", "--redis-tls", "off"], "REDIS_HOST"),
        (&["--redis-sentinels", "127.0.0.1:1,a:1"], "REDIS_SENTINELS"),
    ] {
        let message = strictly(arguments).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{variable}: it leads to 'a' without verified TLS")), "{message}");
        assert!(message.contains("PLAINTEXT_HOSTS") && !message.contains("hunter2"), "{message}");
        assert!(endpoint(arguments).is_ok_and(|e| e.way() == Way::Clear), "{arguments:?}");
    }
    for verified in [
        &["--redis-url", "rediss://a"][..],
        &["--redis-url", "rediss://a", "--redis-ca-file", CA],
        &["--redis-host", "a", "--redis-tls", "on", "--redis-ca-file", CA],
        &["--redis-sentinels", "a:1", "--redis-tls", "on"],
    ] {
        assert!(strictly(verified).is_ok_and(|e| e.way() == Way::Verified), "{verified:?}");
    }
    for local in ["redis+unix:///run/redis", "redis://127.0.0.1"] {
        assert!(strictly(&["--redis-url", local]).is_ok_and(|e| e.way() == Way::Local), "{local}");
    }
}

#[test]
fn a_primary_that_the_sentinels_name_needs_it_too() {
    let door = |arguments: &[&str]| match strictly(arguments) {
        Ok(RedisEndpoint::Sentinels { door, .. }) => door,
        other => panic!("{other:?}"),
    };
    let clear = door(&["--redis-sentinels", "127.0.0.1:1", "--plaintext-hosts", "a"]);
    assert!(clear.open(clear.address("a".into(), 1)).is_ok());
    assert!(clear.open(clear.address("b".into(), 1)).unwrap_err().to_string().contains("REDIS_TLS=on"));
    let tls = door(&["--redis-sentinels", "a:1", "--redis-tls", "on", "--redis-ca-file", CA]);
    let client = tls.open(tls.address("b".into(), 1)).unwrap();
    let to = client.get_connection_info().addr();
    assert!(matches!(to, ConnectionAddr::TcpTls { insecure: false, tls_params: Some(_), .. }), "{to:?}");
}

#[test]
fn tls_that_would_have_no_effect_is_refused() {
    for (arguments, wanted) in [
        (&["--redis-url", "rediss://:hunter2@a/#insecure"][..], "REDIS_URL: it ends in #insecure"),
        (&["--redis-url", "redis://a", "--redis-tls", "on"], "REDIS_TLS: REDIS_URL is set"),
        (&["--redis-url", "redis://a", "--redis-ca-file", CA], "REDIS_CA_FILE: it is set, and Redis is not"),
        (&["--redis-host", "a", "--redis-ca-file", CA], "REDIS_CA_FILE: it is set, and Redis is not"),
        (&["--redis-url", "rediss://a", "--redis-ca-file", "/nowhere"], "REDIS_CA_FILE: '/nowhere' cannot be read"),
    ] {
        assert!(refusal(arguments).starts_with(wanted), "{arguments:?}: {}", refusal(arguments));
    }
}
