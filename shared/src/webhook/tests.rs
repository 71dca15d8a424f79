//! The rules of webhooks: the published vector, the schedule, the circuit, the size of a body.

use chrono::DateTime;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::id::{EventId, JobId, TenantId};
use crate::job::{JobState, Profile, Source};

#[test]
fn the_published_vector_is_signed_as_published() {
    let secret = Secret::from_bytes(b"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_vec()).expect("a secret");
    let body = br#"{"email":"test@example.com","username":"test_user"}"#;
    let signature = secret.sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
    assert_eq!(signature.as_deref(), Some("v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="));
}

#[test]
fn a_secret_is_written_as_the_libraries_read_it() {
    let secret = Secret::from_random([7; 32]);
    assert!(secret.expose().starts_with("whsec_") && secret.expose().len() == 6 + 44);
    let again = Secret::from_bytes(secret.expose().as_bytes().to_vec()).expect("a secret");
    assert_eq!(again.sign("a", 1, b"x"), secret.sign("a", 1, b"x"));
    assert!(Secret::from_bytes(b"nothing".to_vec()).is_none());
    assert!(Secret::from_bytes(b"whsec_***".to_vec()).expect("a form").sign("a", 1, b"x").is_none());
}

#[test]
fn tries_end_after_three_days() {
    let waits: Vec<Duration> = (1..).map_while(|tries| retry_wait(tries, 0.5)).collect();
    assert_eq!(waits.len(), 9);
    assert_eq!(waits.iter().sum::<Duration>(), Duration::from_secs(75 * 3600 + 35 * 60 + 5));
    assert_eq!((retry_wait(0, 0.5), retry_wait(10, 0.5)), (None, None));
}

proptest! {
    #[test]
    fn every_wait_lies_about_its_own(tries in 0..20_u32, dice in -1.0..2.0_f64) {
        match retry_wait(tries, dice) {
            None => prop_assert!(tries == 0 || tries > 9),
            Some(wait) => {
                let middle = retry_wait(tries, 0.5).expect("the same").as_secs_f64();
                prop_assert!((0.8 * middle - 0.001..=1.2 * middle + 0.001).contains(&wait.as_secs_f64()));
            }
        }
    }

    #[test]
    fn a_circuit_opens_late_and_for_minutes_at_most(failures: u32) {
        let pause = circuit_pause(failures);
        prop_assert_eq!(pause.is_zero(), failures < CIRCUIT_FAILURES);
        prop_assert!(pause <= PAUSE_MAX && circuit_pause(failures.saturating_add(1)) >= pause);
    }

    #[test]
    fn any_change_changes_the_signature(body: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
        prop_assume!(!body.is_empty());
        let secret = Secret::from_random([9; 32]);
        let mut changed = body.clone();
        *at.get_mut(&mut changed) ^= 1 << bit;
        prop_assert_ne!(secret.sign("id", 1, &body), secret.sign("id", 1, &changed));
    }
}

fn ping() -> Event {
    Event {
        id: EventId::new(),
        tenant: TenantId::new(),
        kind: EventType::Ping,
        timestamp: DateTime::UNIX_EPOCH,
        sequence: 7,
        data: About::Other(json!({"ping": {}}).as_object().expect("an object").clone()),
    }
}

fn ended() -> Event {
    let job = EventJob {
        id: JobId::new(),
        state: JobState::Succeeded,
        profile: Profile::Standard,
        source: Source::Path { path: "/a.wav".into() },
        attempt: 1,
        max_attempts: 5,
        external_id: None,
        batch_id: None,
        metadata: Map::new(),
        created_at: DateTime::UNIX_EPOCH,
        started_at: None,
        finished_at: None,
        failure: None,
        progress: None,
    };
    Event { kind: EventType::JobSucceeded, data: About::Job { job: Box::new(job) }, ..ping() }
}

#[test]
fn media_that_is_too_large_is_left_out() {
    let beside = |letters: usize| Beside {
        media: Some(json!({"name": "x".repeat(letters)})),
        result_url: Some("/api/v1/jobs/1/result".into()),
        metadata: Some(json!({"mine": 1})),
    };
    let small: Value = serde_json::from_str(&body(&ended(), &beside(10)).expect("JSON")).expect("JSON");
    assert_eq!(small["data"]["media"]["name"], "xxxxxxxxxx");
    let large = body(&ended(), &beside(BODY_MAX_BYTES)).expect("JSON");
    assert!(large.len() < 2_000);
    let large: Value = serde_json::from_str(&large).expect("JSON");
    assert!(large["data"]["media"].is_null() && large["data"].as_object().expect("an object").contains_key("media"));
    assert_eq!(
        (&large["data"]["result_url"], &large["data"]["metadata"]),
        (&json!("/api/v1/jobs/1/result"), &json!({"mine": 1}))
    );
}

#[test]
fn what_is_about_no_job_is_sent_as_it_is() {
    let sent: Value = serde_json::from_str(&body(&ping(), &Beside::default()).expect("JSON")).expect("JSON");
    assert_eq!(sent, json!({"type": "ping", "timestamp": "1970-01-01T00:00:00Z", "sequence": 7, "data": {"ping": {}}}));
}
