//! The committed OpenAPI document is what the code says.

use std::process::Command;

use tests::binaries;

#[test]
fn the_committed_document_is_fresh() {
    let printed = Command::new(binaries::path("ffprobe-api")).arg("openapi").output().expect("prints");
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).expect("text");
    let committed =
        std::fs::read_to_string(binaries::workspace().join("openapi.json")).expect("openapi.json is committed");
    assert!(printed == committed, "openapi.json is stale. Run: make openapi");
}

#[test]
fn every_operation_is_described() {
    let text = std::fs::read_to_string(binaries::workspace().join("openapi.json")).expect("openapi.json is committed");
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            operations += 1;
            for member in ["operationId", "summary", "tags", "responses", "security"] {
                // browsers ask by OPTIONS before they may send a key
                if (method.as_str(), member) == ("options", "security") {
                    continue;
                }
                assert!(!operation[member].is_null(), "{method} {path} has no {member}");
            }
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let described = response["description"].as_str().is_some_and(|d| !d.is_empty());
                assert!(described, "{method} {path} {status} has no description");
            }
        }
    }
    assert!(operations >= 12, "{operations} operations");
}
