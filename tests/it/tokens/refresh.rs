//! Refresh tokens are used once: a replay ends the session, a lost answer does not, and of many at once one turns the token.

use serde_json::json;

use super::{House, Tokens, me, refresh, refused};

/// Statements that decide the same refresh at once; two APIs have 8 connections each.
const CROWD: i64 = 10;

/// As if the last refresh had been some seconds earlier than it was.
const EARLIER: &str = "update session set rotated_at = rotated_at - interval '11 seconds'";

#[tokio::test]
async fn a_lost_answer_does_no_harm() {
    let house = House::new().await;
    let first = house.log_in().await;
    let lost = Tokens::of(&refresh(&house.first, &first.refresh).await);
    let again = Tokens::of(&refresh(&house.second, &first.refresh).await);
    assert_eq!(again.refresh, lost.refresh, "the same successor");
    assert_eq!(me(&house.first, &again.access).await.status, 200);
    let next = Tokens::of(&refresh(&house.second, &again.refresh).await);
    assert_eq!(me(&house.first, &next.access).await.status, 200, "the session goes on");
}

#[tokio::test]
async fn a_replay_after_the_grace_ends_the_session() {
    let mut house = House::new().await;
    let first = house.log_in().await;
    let next = Tokens::of(&refresh(&house.first, &first.refresh).await);
    assert_eq!(me(&house.second, &next.access).await.status, 200);
    house.sql(EARLIER).await;
    let answer = refresh(&house.first, &first.refresh).await;
    assert!(answer.problem(400, "invalid_grant").contains("used before"));
    for token in [&first.access, &next.access] {
        refused(&house.first, token).await.problem(401, "invalid_token");
        refused(&house.second, token).await.problem(401, "invalid_token");
    }
    refresh(&house.second, &next.refresh).await.problem(400, "invalid_grant");
    let line = house.programs[0].wait_for(
        |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["target"] == "audit" && line["action"] == "token.reused").then_some(line)
        },
        "token.reused",
    );
    assert_eq!(line["level"], "WARN");
    assert!(line["target.id"].is_string() && line["tenant"].is_string(), "{line}");
    assert_eq!((&line["target.kind"], &line["client"]), (&"session".into(), &"127.0.0.1".into()), "{line}");
}

#[tokio::test]
async fn a_replay_within_the_grace_ends_it_too_once_the_successor_was_used() {
    let house = House::new().await;
    let first = house.log_in().await;
    let second = Tokens::of(&refresh(&house.first, &first.refresh).await);
    let third = Tokens::of(&refresh(&house.first, &second.refresh).await);
    refresh(&house.second, &first.refresh).await.problem(400, "invalid_grant");
    refresh(&house.second, &third.refresh).await.problem(400, "invalid_grant");
    refused(&house.first, &third.access).await.problem(401, "invalid_token");
}

#[tokio::test]
async fn other_sessions_of_the_key_are_not_touched() {
    let house = House::new().await;
    let (ours, other) = (house.log_in().await, house.log_in().await);
    let next = Tokens::of(&refresh(&house.first, &ours.refresh).await);
    Tokens::of(&refresh(&house.first, &next.refresh).await);
    refresh(&house.first, &ours.refresh).await.problem(400, "invalid_grant");
    let other = Tokens::of(&refresh(&house.first, &other.refresh).await);
    assert_eq!(me(&house.second, &other.access).await.status, 200);
}

#[tokio::test]
async fn fifty_at_once_get_one_successor() {
    let house = House::new().await;
    let mut token = house.log_in().await.refresh;
    for round in 1..=3 {
        let both = [house.first.clone(), house.second.clone()];
        // whoever decides must wait until many have come that far
        let mut holder = house.installation.db.begin().await.expect("a transaction");
        sqlx::query("select from session for update").execute(&mut *holder).await.expect("locks");
        let asks = (0..50).map(|n| {
            let (http, token) = (both[n % 2].clone(), token.clone());
            tokio::spawn(async move { Tokens::of(&refresh(&http, &token).await) })
        });
        let asks: Vec<_> = asks.collect();
        wait_for_a_crowd(&house).await;
        holder.commit().await.expect("lets go");
        let answers: Vec<Tokens> =
            futures::future::join_all(asks).await.into_iter().map(|answer| answer.expect("no panic")).collect();
        assert!(answers.iter().all(|a| a.refresh == answers[0].refresh), "one successor");
        let sql = "select rotation, (select count(*) from refresh_token where session_id = session.id) from session";
        let stored: Vec<(i32, i64)> = sqlx::query_as(sql).fetch_all(&house.installation.db).await.expect("rows");
        assert_eq!(stored, [(round, i64::from(round) + 1)]);
        for answer in answers.iter().step_by(7) {
            assert_eq!(me(&house.second, &answer.access).await.status, 200);
        }
        token.clone_from(&answers[0].refresh);
    }
}

/// Waits until many statements wait for a lock; each does so for a second at most.
async fn wait_for_a_crowd(house: &House) {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    for _ in 0..500 {
        let waiting: i64 = sqlx::query_scalar(sql).fetch_one(&house.installation.db).await.expect("counts");
        if waiting >= CROWD {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("nobody waits: what decides a refresh takes no lock");
}

#[tokio::test]
async fn a_replay_beside_a_refresh_leaves_nobody_with_a_token() {
    let house = House::new().await;
    for _ in 0..10 {
        let spent = house.log_in().await;
        let good = Tokens::of(&refresh(&house.first, &spent.refresh).await);
        house.sql(EARLIER).await;
        let (replayed, refreshed) =
            tokio::join!(refresh(&house.first, &spent.refresh), refresh(&house.second, &good.refresh));
        // whichever was first: the replay is seen, and the session is over
        replayed.problem(400, "invalid_grant");
        if refreshed.status == 200 {
            let last = Tokens::of(&refreshed);
            refresh(&house.second, &last.refresh).await.problem(400, "invalid_grant");
            refused(&house.second, &last.access).await.problem(401, "invalid_token");
        } else {
            refreshed.problem(400, "invalid_grant");
        }
    }
}

#[tokio::test]
async fn tokens_and_sessions_end() {
    let house = House::new().await;
    let tokens = house.log_in().await;
    house.sql("update refresh_token set expires_at = now()").await;
    assert!(refresh(&house.first, &tokens.refresh).await.problem(400, "invalid_grant").contains("expired"));
    house.sql("update refresh_token set expires_at = now() + interval '1 day'").await;
    house.sql("update session set expires_at = now() + interval '100 seconds'").await;
    let answer = refresh(&house.first, &tokens.refresh).await;
    let (access, refresh_in) = (&answer.json["expires_in"], &answer.json["refresh_expires_in"]);
    assert!((90..=100).contains(&access.as_i64().expect("a number")), "not beyond its session: {access}");
    assert!((90..=100).contains(&refresh_in.as_i64().expect("a number")), "not beyond its session: {refresh_in}");
    let next = Tokens::of(&answer);
    house.sql("update session set expires_at = now()").await;
    refused(&house.second, &next.access).await.problem(401, "invalid_token");
    refresh(&house.second, &next.refresh).await.problem(400, "invalid_grant");
    house.sql("update session set expires_at = now() + interval '1 day', rotation = 10000").await;
    house.sql("update refresh_token set rotation = 10000 where rotation = 1").await;
    let answer = refresh(&house.second, &next.refresh).await;
    assert!(answer.problem(400, "invalid_grant").contains("expired"), "so often no client refreshes");
}

#[tokio::test]
async fn revoking_answers_the_same_whatever_the_token_is() {
    let house = House::new().await;
    let revoke = async |token: &str| {
        let answer = house.first.post("/api/v1/auth/revoke", &json!({"token": token})).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""), "{token}");
    };
    let (one, two) = (house.log_in().await, house.log_in().await);
    for token in ["", "x", "ffr_x", house.installation.key.as_str(), "a.b.c"] {
        revoke(token).await;
    }
    assert_eq!(me(&house.second, &one.access).await.status, 200);
    let next = Tokens::of(&refresh(&house.first, &one.refresh).await);
    revoke(&one.refresh).await;
    refused(&house.second, &next.access).await.problem(401, "invalid_token");
    refresh(&house.second, &next.refresh).await.problem(400, "invalid_grant");
    revoke(&one.refresh).await;
    assert_eq!(me(&house.second, &two.access).await.status, 200);
    revoke(&two.access).await;
    refused(&house.second, &two.access).await.problem(401, "invalid_token");
    let body = json!({"token": "x", "token_type_hint": "refresh_token"});
    assert_eq!(house.first.post("/api/v1/auth/revoke", &body).await.status, 200);
    house.first.post("/api/v1/auth/revoke", &json!({})).await.problem(400, "invalid_json");
}
