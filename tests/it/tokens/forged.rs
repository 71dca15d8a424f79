//! Access tokens of somebody who has a good one, and even the secret: with one member changed, each is refused.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use tests::JWT_SECRET;

use super::{House, me};

/// The parts of a good token, to be changed.
struct Forge {
    header: Value,
    claims: Value,
}

impl Forge {
    fn of(token: &str) -> Self {
        let mut parts = token.split('.').map(|part| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64");
            serde_json::from_slice(&bytes).unwrap_or_default()
        });
        Self { header: parts.next().expect("a header"), claims: parts.next().expect("claims") }
    }

    /// Changes members and signs; null takes one away.
    fn with(&self, header: &Value, claims: &Value, algorithm: Algorithm, secret: &str) -> String {
        let part = |whole: &Value, changes: &Value| {
            let mut whole = whole.as_object().expect("members").clone();
            whole.extend(changes.as_object().expect("members").clone());
            whole.retain(|_, v| !v.is_null());
            BASE64_URL_SAFE_NO_PAD.encode(Value::from(whole).to_string())
        };
        let message = format!("{}.{}", part(&self.header, header), part(&self.claims, claims));
        let key = EncodingKey::from_secret(secret.as_bytes());
        format!("{message}.{}", crypto::sign(message.as_bytes(), &key, algorithm).expect("signs"))
    }

    fn header(&self, header: Value) -> String {
        self.with(&header, &json!({}), Algorithm::HS256, JWT_SECRET)
    }

    fn claims(&self, claims: Value) -> String {
        self.with(&json!({}), &claims, Algorithm::HS256, JWT_SECRET)
    }
}

#[tokio::test]
async fn what_was_not_made_here_opens_nothing() {
    let house = House::new().await;
    let tokens = house.log_in().await;
    let forge = Forge::of(&tokens.access);
    assert_eq!(forge.header["typ"], "at+jwt");
    let same = forge.claims(json!({}));
    assert_eq!(me(&house.first, &same).await.status, 200, "the forger is good at it");
    let public_id = shared::access::ApiKey::parse(&house.installation.key).expect("a key").public_id().to_owned();
    assert_eq!(forge.claims["sub"], public_id);

    let (message, signature) = tokens.access.rsplit_once('.').expect("a signature");
    let none = forge.header(json!({"alg": "none"}));
    let unsigned = format!("{}.", none.rsplit_once('.').expect("a signature").0);
    let other = "ffffffffeeeeeeeeddddddddcccccccc99999999";
    let rows = [
        ("no signature", format!("{message}.")),
        ("alg none", none),
        ("alg none, no signature", unsigned),
        ("alg none with the good signature", format!("{}.{signature}", message.replacen("eyJ", "eyK", 1))),
        ("HS384 with the secret", forge.with(&json!({"alg": "HS384"}), &json!({}), Algorithm::HS384, JWT_SECRET)),
        ("HS512 with the secret", forge.with(&json!({"alg": "HS512"}), &json!({}), Algorithm::HS512, JWT_SECRET)),
        ("says HS384, is HS256", forge.header(json!({"alg": "HS384"}))),
        ("says RS256, is HS256", forge.header(json!({"alg": "RS256"}))),
        ("says ES256, is HS256", forge.header(json!({"alg": "ES256"}))),
        ("another secret", forge.with(&json!({}), &json!({}), Algorithm::HS256, other)),
        ("an empty secret", forge.with(&json!({}), &json!({}), Algorithm::HS256, "")),
        ("an unknown kid", forge.header(json!({"kid": "0123456789abcdef"}))),
        ("a kid that is a path", forge.header(json!({"kid": "/dev/null"}))),
        ("no kid", forge.header(json!({"kid": null}))),
        ("another type", forge.header(json!({"typ": "JWT"}))),
        ("no type", forge.header(json!({"typ": null}))),
        ("a key of its own", forge.header(json!({"jwk": {"kty": "oct", "k": "AAAA"}, "kid": null}))),
        ("something critical", forge.header(json!({"crit": ["b64"], "b64": false}))),
        ("another audience", forge.claims(json!({"aud": format!("urn:uuid:{}", uuid::Uuid::new_v4())}))),
        ("many audiences", forge.claims(json!({"aud": [forge.claims["aud"], "x"]}))),
        ("another issuer", forge.claims(json!({"iss": "https://accounts.example.com"}))),
        ("no issuer", forge.claims(json!({"iss": null}))),
        ("another key", forge.claims(json!({"sub": "abcdefghijkl"}))),
        ("no key", forge.claims(json!({"sub": null}))),
        ("an unknown session", forge.claims(json!({"sid": uuid::Uuid::now_v7()}))),
        ("no end", forge.claims(json!({"exp": null}))),
        ("not yet valid", forge.claims(json!({"nbf": chrono::Utc::now().timestamp() + 120}))),
        ("made in the future", forge.claims(json!({"iat": chrono::Utc::now().timestamp() + 120}))),
        ("too long", format!("{message}{}.{signature}", "A".repeat(5_000))),
        ("three empty parts", "..".to_owned()),
    ];
    for (what, token) in &rows {
        for http in [&house.first, &house.second] {
            let answer = me(http, token).await;
            assert_eq!(answer.status, 401, "{what}: {}", answer.text);
            answer.problem(401, "invalid_token");
            assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{what}");
        }
    }
    assert_eq!(me(&house.second, &tokens.access).await.status, 200, "none of that did harm");
}

#[tokio::test]
async fn an_expired_token_says_so() {
    let house = House::new().await;
    let tokens = house.log_in().await;
    let forge = Forge::of(&tokens.access);
    let expired = forge.claims(json!({"exp": chrono::Utc::now().timestamp() - 60}));
    let answer = me(&house.first, &expired).await;
    answer.problem(401, "token_expired");
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_token\""), "{challenge}");
    let anonymous = house.first.get("/api/v1/auth/me").await;
    anonymous.problem(401, "unauthorized");
    assert!(!anonymous.header("www-authenticate").contains("error"), "nothing was sent that could be wrong");
    let life = forge.claims["exp"].as_i64().expect("a time") - forge.claims["iat"].as_i64().expect("a time");
    assert_eq!(life, 900);
    let signed_by_another = forge.with(
        &json!({}),
        &json!({"exp": chrono::Utc::now().timestamp() - 60}),
        Algorithm::HS256,
        "ffffffffeeeeeeeeddddddddcccccccc99999999",
    );
    me(&house.first, &signed_by_another).await.problem(401, "invalid_token");
}
