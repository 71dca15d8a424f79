//! Sessions: who sees and ends which, how fast that is seen elsewhere, how many there may be, and `probectl login`.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use shared::access::Role;
use shared::store;
use tests::{Answer, Installation, servers};

use super::{House, Tokens, log_in, me, refresh, refused};

#[tokio::test]
async fn each_key_sees_its_own_and_an_admin_all_of_the_tenant() {
    let house = House::new().await;
    let installation = &house.installation;
    let admin = log_in(&house.first, &installation.key, json!({})).await;
    let plain = installation.another_key("default", Role::Viewer, &[]).await;
    let viewer = log_in(&house.first, &plain, json!({"scope": "jobs:read"})).await;
    let stranger = installation.another_key("other", Role::Admin, &[]).await;
    let foreign = log_in(&house.first, &stranger, json!({})).await;

    let list = async |token: &str| super::get(&house.second, "/api/v1/auth/sessions", token).await.json["data"].clone();
    let ids = |list: &Value| -> Vec<String> {
        list.as_array().expect("a list").iter().map(|s| s["id"].as_str().expect("an id").to_owned()).collect()
    };
    let own = list(&viewer.access).await;
    assert_eq!((ids(&own).len(), &own[0]["current"], &own[0]["scopes"]), (1, &true.into(), &json!(["jobs:read"])));
    assert_eq!(own[0]["last_used_from"], "127.0.0.1");
    let all = list(&admin.access).await;
    assert_eq!(ids(&all).len(), 2, "{all}");
    assert_eq!(all[0]["id"], own[0]["id"], "newest first");
    let theirs = ids(&list(&foreign.access).await);
    assert_eq!(theirs.len(), 1);

    let end = async |token: &str, id: &str| {
        let path = format!("/api/v1/auth/sessions/{id}");
        Answer::of(house.first.request(Method::DELETE, &path).bearer_auth(token)).await
    };
    let of_admin = ids(&all)[1].clone();
    for id in [of_admin.as_str(), &theirs[0], "nonsense", &shared::id::SessionId::new().to_string()] {
        end(&viewer.access, id).await.problem(404, "not_found");
    }
    end(&admin.access, &theirs[0]).await.problem(404, "not_found");
    assert_eq!(me(&house.second, &foreign.access).await.status, 200);
    assert_eq!(end(&admin.access, &ids(&own)[0]).await.status, 204);
    refused(&house.second, &viewer.access).await.problem(401, "invalid_token");
    assert_eq!(end(&admin.access, &of_admin).await.status, 204, "its own");
    refused(&house.first, &admin.access).await.problem(401, "invalid_token");
}

#[tokio::test]
async fn sessions_have_pages_and_a_bound() {
    let house = House::new().await;
    let http = house.first.with_key(Some(&house.installation.key));
    let oldest = house.log_in().await;
    let kept = house.log_in().await;
    house.sql("update session set rotated_at = rotated_at - interval '1 hour'").await;
    Tokens::of(&refresh(&house.first, &kept.refresh).await);
    for _ in 0..99 {
        house.log_in().await;
    }
    refused(&house.second, &oldest.access).await.problem(401, "invalid_token");
    assert_eq!(me(&house.second, &kept.access).await.status, 200, "it is in use, however old");
    let mut seen = Vec::new();
    let mut path = "/api/v1/auth/sessions?limit=40".to_owned();
    loop {
        let page = http.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        seen.extend(page.json["data"].as_array().expect("a list").iter().map(|s| s["id"].to_string()));
        let Some(cursor) = page.json["next_cursor"].as_str() else { break };
        assert!(page.header("link").contains(cursor));
        path = format!("/api/v1/auth/sessions?limit=40&cursor={cursor}");
    }
    assert_eq!(seen.len(), 100);
    assert!(seen.windows(2).all(|w| w[0] > w[1]), "newest first, none twice");
    http.get("/api/v1/auth/sessions?cursor=x").await.problem(400, "invalid_cursor");
    http.get("/api/v1/auth/sessions?limit=201").await.problem(400, "invalid_value");
}

#[tokio::test]
async fn a_revocation_is_seen_by_the_other_api() {
    let house = House::new().await;
    end_and_look(&house).await;
    // by the bell, and not because nothing is remembered for longer than a second: one quick time in some is proof
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let tokens = house.log_in().await;
        assert_eq!(me(&house.second, &tokens.access).await.status, 200);
        house.first.post("/api/v1/auth/revoke", &json!({"token": tokens.refresh})).await;
        let begun = Instant::now();
        refused(&house.second, &tokens.access).await.problem(401, "invalid_token");
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_millis(500), "{quickest:?}");
}

#[tokio::test]
async fn a_revocation_is_seen_without_redis() {
    let (private, own) = servers::own().await;
    let house = House::of(Installation::on(&own).await);
    let redis = Pid::from_raw(private.pids().redis.expect("runs").cast_signed()).expect("a pid");
    kill_process(redis, Signal::KILL).expect("kills");
    end_and_look(&house).await;
}

/// Each way to end a session, while the other API has just looked it up.
async fn end_and_look(house: &House) {
    for way in ["revoke", "delete", "replay", "key", "tenant"] {
        let tokens = house.log_in().await;
        let session = me(&house.second, &tokens.access).await.json["session_id"].as_str().expect("an id").to_owned();
        let admin = house.first.with_key(Some(&house.installation.key));
        match way {
            "revoke" => {
                let answer = house.first.post("/api/v1/auth/revoke", &json!({"token": tokens.refresh})).await;
                assert_eq!(answer.status, 200);
            }
            "delete" => {
                let request = admin.request(Method::DELETE, &format!("/api/v1/auth/sessions/{session}"));
                assert_eq!(Answer::of(request).await.status, 204);
            }
            "replay" => {
                let next = Tokens::of(&refresh(&house.first, &tokens.refresh).await);
                Tokens::of(&refresh(&house.first, &next.refresh).await);
                refresh(&house.first, &tokens.refresh).await.problem(400, "invalid_grant");
            }
            "tenant" => house.sql("update tenant set suspended_at = now()").await,
            _ => house.sql("update api_key set revoked_at = now()").await,
        }
        let here = me(&house.first, &tokens.access).await;
        if ["revoke", "delete", "replay"].contains(&way) {
            here.problem(401, "invalid_token");
        }
        let there = refused(&house.second, &tokens.access).await;
        assert_eq!(there.status, if way == "tenant" { 403 } else { 401 }, "{way}: {}", there.text);
        house.sql("update api_key set revoked_at = null").await;
        house.sql("update tenant set suspended_at = null").await;
        // what was remembered of the key is forgotten
        tokio::time::sleep(Duration::from_millis(1_010)).await;
    }
}

#[tokio::test]
async fn upkeep_forgets_what_is_over() {
    let house = House::new().await;
    for _ in 0..3 {
        let tokens = house.log_in().await;
        Tokens::of(&refresh(&house.first, &tokens.refresh).await);
    }
    let db = &house.installation.db;
    assert_eq!(store::session::prune(db, 100).await.expect("prunes"), 0);
    house.sql("update refresh_token set expires_at = now() - interval '1 second' where rotation = 0").await;
    assert_eq!(store::session::prune(db, 2).await.expect("prunes"), 2, "no more than asked for");
    assert_eq!(store::session::prune(db, 2).await.expect("prunes"), 1);
    house.sql("update session set expires_at = now() - interval '1 second'").await;
    assert_eq!(store::session::prune(db, 100).await.expect("prunes"), 0, "their tokens go first");
    house.sql("update session set expires_at = now() - interval '1 second'").await;
    house.sql("update refresh_token set expires_at = now() - interval '1 second'").await;
    let _worker = house.installation.worker(&[("WORKER_ROLES", "upkeep")]);
    for _ in 0..200 {
        let sql = "select (select count(*) from session) + (select count(*) from refresh_token)";
        if sqlx::query_scalar::<_, i64>(sql).fetch_one(db).await.expect("counts") == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("upkeep forgot nothing");
}

#[tokio::test]
async fn probectl_logs_in_refreshes_by_itself_and_logs_out() {
    let installation = Installation::new().await;
    // so short that each command finds its token nearly over
    let (_api, http) = installation.api(&[("ACCESS_TOKEN_TTL", "2")]);
    let key = installation.key.clone();
    let state = installation.folder().join("state");
    let run = |arguments: &[&str], key: Option<&str>| {
        let mut program = installation.probectl_as(&http, arguments, key);
        let code = program.wait().code().expect("an exit code");
        std::thread::sleep(Duration::from_millis(100));
        (code, program.log())
    };
    let (code, text) = run(&["jobs"], None);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("unauthorized"), "{text}");
    let (code, text) = run(&["login"], None);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("FFPROBE_API_KEY"), "{text}");
    let (code, text) = run(&["login"], Some(&key));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("admin") && !text.contains("ffr_") && !text.contains(&key), "{text}");
    let files: Vec<_> = std::fs::read_dir(state.join("sessions")).expect("a folder").flatten().collect();
    let kept = files.iter().find(|f| f.path().extension().is_some_and(|e| e == "json")).expect("a session");
    assert_eq!(kept.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
    let before = std::fs::read_to_string(kept.path()).expect("a session");
    assert!(!before.contains(&key), "the key is not kept");
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(1_500));
        let (code, text) = run(&["jobs"], None);
        assert_eq!(code, 0, "{text}");
    }
    assert_ne!(before, std::fs::read_to_string(kept.path()).expect("a session"), "it was refreshed");
    let (code, text) = run(&["logout"], None);
    assert_eq!(code, 0, "{text}");
    assert!(!kept.path().exists());
    let left: i64 =
        sqlx::query_scalar("select count(*) from session").fetch_one(&installation.db).await.expect("counts");
    assert_eq!(left, 0, "the service knows");
    assert_eq!(run(&["jobs"], None).0, 1);
    assert_eq!(run(&["logout"], None).0, 0, "twice does no harm");
    // a session that somebody ended says what to do
    assert_eq!(run(&["login", "--scope", "jobs:read"], Some(&key)).0, 0);
    sqlx::query("delete from session").execute(&installation.db).await.expect("ends");
    std::thread::sleep(Duration::from_millis(2_100));
    let (code, text) = run(&["jobs"], None);
    assert_eq!(code, 1);
    assert!(text.contains("probectl login"), "{text}");
}
