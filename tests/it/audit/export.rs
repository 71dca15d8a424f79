//! Exports: everything that fits, once, in order, with memory that does not grow with it; and a body that breaks off when it
//! is not complete.

use futures::StreamExt;
use reqwest::Method;
use serde_json::Value;
use tests::Installation;

use super::seed;

/// Rows of a large trail.
const MANY: i32 = 100_000;

#[tokio::test]
async fn a_hundred_thousand_rows_flow_through_flat_memory() {
    let installation = Installation::new().await;
    let (api, http) = installation.api(&[]);
    seed(&installation, MANY).await;
    // what a small export takes is taken once
    assert_eq!(http.get("/api/v1/audit?action=seed.&limit=1000").await.status, 200);
    http.get("/api/v1/audit?action=seed.&format=ndjson&to=2026-01-01T00:10:00Z").await;
    let before = api.peak_bytes();
    let request = http.request(Method::GET, "/api/v1/audit?action=seed.").header("accept", "application/x-ndjson");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let mut body = response.bytes_stream();
    let (mut lines, mut bytes, mut last, mut part) = (0, 0_usize, String::from("9"), Vec::new());
    while let Some(piece) = body.next().await {
        let piece = piece.expect("a whole body");
        bytes += piece.len();
        part.extend_from_slice(&piece);
        let end = part.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let rest = part.split_off(end);
        for line in part.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let event: Value = serde_json::from_slice(line).expect("JSON");
            let at = event["happened_at"].as_str().expect("an instant").to_owned();
            assert!(at < last, "newest first, each once: {at} after {last}");
            last = at;
            lines += 1;
        }
        part = rest;
    }
    assert_eq!((lines, part.len()), (MANY, 0));
    let grown = api.peak_bytes().saturating_sub(before);
    println!("{lines} rows, {bytes} bytes, {grown} bytes more memory");
    assert!(grown < 16 << 20, "{bytes} bytes went through and {grown} stayed");
}

#[tokio::test]
async fn a_csv_holds_no_formulas() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    seed(&installation, 3).await;
    let answer = http.get("/api/v1/audit?format=csv&action=seed.").await;
    assert!(answer.header("content-type").starts_with("text/csv"));
    let lines: Vec<&str> = answer.text.split("\r\n").collect();
    assert!(lines[0].starts_with("id,happened_at,tenant_id,actor_kind,"));
    assert_eq!(lines.len(), 5, "a header, three rows, and the end of the last");
    for (line, n) in lines[1..4].iter().zip([2, 1, 0]) {
        assert!(line.contains(&format!("key,k{n},192.0.2.7,\"'=r{n}\",seed.")) && line.ends_with(",200,,{}"), "{line}");
    }
}

#[tokio::test]
async fn an_export_that_cannot_go_on_breaks_off() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    seed(&installation, 20_000).await;
    let request = http.request(Method::GET, "/api/v1/audit?action=seed.&format=ndjson");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let mut body = response.bytes_stream();
    body.next().await.expect("a beginning").expect("bytes");
    // a row that no build can read: the server notices when it comes to it
    let spoil = "alter table audit_event drop constraint audit_event_outcome_known;
        update audit_event set outcome = 'x' where actor_id = 'k0'";
    sqlx::raw_sql(spoil).execute(&installation.db).await.expect("spoils the last row");
    let mut end = Ok(());
    while let Some(piece) = body.next().await {
        end = piece.map(drop);
    }
    assert!(end.is_err(), "the client can tell that it is not complete");
    let answer = http.get("/api/v1/audit?action=seed.&format=ndjson&to=2026-01-01T00:00:05Z").await;
    answer.problem(500, "internal");
}
