//! The exports of a batch beside what its jobs say of themselves.

use serde_json::Value;

use crate::Http;

/// Reads both exports of a batch whose jobs all succeeded, and compares them with the jobs: each line of NDJSON and each row of
/// CSV with each other, and every `step`th with the job itself. Returns the bytes of NDJSON and of CSV.
///
/// # Panics
/// If one is missing, in the wrong place or different.
pub async fn compare(http: &Http, batch: &str, jobs: usize, step: usize) -> (usize, usize) {
    let path = format!("/api/v1/batches/{batch}/results");
    let ndjson = http.get(&path).await.text;
    let csv = http.get(&format!("{path}?format=csv")).await.text;
    let lines: Vec<Value> = ndjson.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let mut rows = csv.split_terminator("\r\n");
    let names: Vec<&str> = rows.next().expect("a first line").split(',').collect();
    let rows: Vec<&str> = rows.collect();
    assert_eq!((lines.len(), rows.len()), (jobs, jobs));
    for (place, (line, row)) in lines.iter().zip(rows).enumerate() {
        assert_eq!(line["state"], "succeeded", "{line}");
        let media = &line["result"]["media"];
        assert!(media["container"]["format"].is_string(), "{line}");
        let fields: Vec<&str> = row.split(',').collect();
        for (name, expected) in [
            ("number", Value::from(place + 1)),
            ("job_id", line["id"].clone()),
            ("external_id", line["external_id"].clone()),
            ("source", line["source"]["path"].clone()),
            ("state", line["state"].clone()),
            ("completeness", line["result"]["completeness"]["verdict"].clone()),
            ("format", media["container"]["format"].clone()),
            ("size_bytes", media["container"]["size_bytes"].clone()),
            ("audio_codec", media["audio"][0]["codec"].clone()),
        ] {
            let at = names.iter().position(|n| *n == name).expect("a column");
            let expected = match expected {
                Value::Null => String::new(),
                Value::String(text) => text,
                other => other.to_string(),
            };
            assert_eq!(fields.get(at).copied(), Some(expected.as_str()), "{name}: {row}\n{line}");
        }
    }
    for line in lines.iter().step_by(step) {
        let job = http.get(&format!("/api/v1/jobs/{}?include=result", line["id"].as_str().expect("an id"))).await;
        assert_eq!(&job.json, line);
    }
    (ndjson.len(), csv.len())
}
