//! Tests of access tokens: what is taken and what is not, with tokens forged by somebody who has the secret. That the service
//! itself says the same is tested in tests/it/tokens.rs.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::*;
use crate::access::Right;

const SECRET: &str = "5f1d7c0be2a94e6fb0c3d9182a7e64f5";
const OTHER: &str = "0b9e8d7c6a5f4e3d2c1b0a9f8e7d6c5b";

fn secret(text: &str) -> SecretString {
    text.to_owned().into()
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn keys() -> (TokenKeys, InstallationId) {
    let installation = InstallationId::new();
    (TokenKeys::new(&secret(SECRET), None, installation), installation)
}

fn token(scope: Option<Rights>) -> AccessToken {
    AccessToken {
        id: Uuid::new_v4(),
        session: SessionId::new(),
        key_public_id: "abcdefgh1234".into(),
        scope,
        expires_at: now() + Duration::minutes(15),
    }
}

/// A token like ours with members changed; null takes one away.
fn forged(installation: InstallationId, header: &Value, claims: &Value) -> String {
    let mut head = json!({"alg": "HS256", "typ": TYPE, "kid": kid(SECRET.as_bytes())});
    let mut body = json!({
        "iss": ISSUER, "aud": format!("urn:uuid:{installation}"), "sub": "abcdefgh1234", "sid": SessionId::new(),
        "jti": Uuid::new_v4(), "iat": now().timestamp(), "nbf": now().timestamp(), "exp": now().timestamp() + 900,
    });
    for (into, from) in [(&mut head, header), (&mut body, claims)] {
        for (name, value) in from.as_object().unwrap() {
            into[name] = value.clone();
        }
        into.as_object_mut().unwrap().retain(|_, v| !v.is_null());
    }
    let part = |v: &Value| {
        use base64::Engine;
        base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(v.to_string())
    };
    let message = format!("{}.{}", part(&head), part(&body));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let algorithm = match head["alg"].as_str() {
        Some("HS384") => Algorithm::HS384,
        Some("HS512") => Algorithm::HS512,
        _ => Algorithm::HS256,
    };
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn a_token_survives_the_trip_and_no_change() {
    let (keys, _) = keys();
    for scope in [None, Some([Right::JobsRead, Right::KeysWrite].into_iter().collect()), Some(Rights::default())] {
        let token = token(scope);
        let text = keys.sign(&token, now()).unwrap();
        assert_eq!(keys.check(&text, now()), Ok(token));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'Q' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // the last character carries two bits that base64 does not use: a strict reader refuses other ones
            assert_eq!(keys.check(&changed, now()), Err(NotTaken::Wrong), "position {at}");
        }
    }
}

#[test]
fn the_forger_of_the_tests_is_believed_where_nothing_is_wrong() {
    let (keys, installation) = keys();
    assert!(keys.check(&forged(installation, &json!({}), &json!({})), now()).is_ok());
}

#[test]
fn key_and_algorithm_are_ours_to_choose() {
    let (keys, installation) = keys();
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": null}),
        json!({"alg": "HS384"}),
        json!({"alg": "HS512"}),
        json!({"alg": "RS256"}),
        json!({"alg": "ES256"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": 256}),
        json!({"kid": null}),
        json!({"kid": ""}),
        json!({"kid": "../../dev/null"}),
        json!({"kid": kid(OTHER.as_bytes())}),
        json!({"typ": null}),
        json!({"typ": "JWT"}),
        json!({"typ": "rt+jwt"}),
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
    ] {
        let text = forged(installation, &header, &json!({}));
        assert_eq!(keys.check(&text, now()), Err(NotTaken::Wrong), "{header}");
        let (message, _) = text.rsplit_once('.').unwrap();
        assert_eq!(keys.check(&format!("{message}."), now()), Err(NotTaken::Wrong), "{header} without a signature");
    }
    for text in ["", ".", "..", "...", "a.b.c", "é.é.é", &"a".repeat(MAX_CHARS + 1), &format!("{}.a.b", "e30")] {
        assert_eq!(keys.check(text, now()), Err(NotTaken::Wrong), "{text}");
    }
}

#[test]
fn claims_are_all_there_and_for_us() {
    let (keys, installation) = keys();
    for name in ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"] {
        for value in [Value::Null, json!("x"), json!(["x"]), json!(1.5), json!({})] {
            // any text is a public id; that it is the session's is checked where the session is known
            if name == "sub" && value == json!("x") {
                continue;
            }
            let text = forged(installation, &json!({}), &json!({name: value.clone()}));
            assert_eq!(keys.check(&text, now()), Err(NotTaken::Wrong), "{name}: {value}");
        }
    }
    let elsewhere = forged(InstallationId::new(), &json!({}), &json!({}));
    assert_eq!(keys.check(&elsewhere, now()), Err(NotTaken::Wrong), "of another installation");
}

#[test]
fn time_is_judged_with_a_small_leeway() {
    let (keys, installation) = keys();
    let at = |claims: Value| keys.check(&forged(installation, &json!({}), &claims), now()).map(drop);
    let second = now().timestamp();
    assert_eq!(at(json!({"exp": second - LEEWAY + 1})), Ok(()));
    assert_eq!(at(json!({"exp": second - LEEWAY})), Err(NotTaken::Expired));
    assert_eq!(at(json!({"exp": 0})), Err(NotTaken::Expired));
    assert_eq!(at(json!({"exp": i64::MAX})), Err(NotTaken::Wrong), "no such instant");
    for name in ["nbf", "iat"] {
        assert_eq!(at(json!({name: second + LEEWAY})), Ok(()));
        assert_eq!(at(json!({name: second + LEEWAY + 1})), Err(NotTaken::NotYet));
        assert_eq!(at(json!({name: i64::MAX})), Err(NotTaken::NotYet));
    }
    assert_eq!(end(now(), Duration::minutes(15), now() + Duration::minutes(5)), now() + Duration::minutes(5));
    assert_eq!(end(now(), Duration::minutes(15), now() + Duration::hours(5)), now() + Duration::minutes(15));
}

#[test]
fn secrets_are_rotated_with_an_overlap() {
    let installation = InstallationId::new();
    let old = TokenKeys::new(&secret(OTHER), None, installation);
    let both = TokenKeys::new(&secret(SECRET), Some(&secret(OTHER)), installation);
    let new = TokenKeys::new(&secret(SECRET), None, installation);
    let token = token(None);
    let (before, after) = (old.sign(&token, now()).unwrap(), both.sign(&token, now()).unwrap());
    assert_eq!(both.check(&before, now()), Ok(token.clone()));
    assert_eq!(new.check(&after, now()), Ok(token));
    assert_eq!(new.check(&before, now()), Err(NotTaken::Wrong));
    assert_eq!(old.check(&after, now()), Err(NotTaken::Wrong));
    assert!(!format!("{both:?}").contains(SECRET) && format!("{both:?}").contains(&kid(SECRET.as_bytes())));
}
