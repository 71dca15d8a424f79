//! The committed OpenAPI document is what the code says.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
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

fn document() -> Value {
    let text = std::fs::read_to_string(binaries::workspace().join("openapi.json")).expect("openapi.json is committed");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn every_operation_is_described() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            operations += 1;
            for member in ["operationId", "summary", "tags", "responses", "security"] {
                assert!(!operation[member].is_null(), "{method} {path} has no {member}");
            }
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let described = response["description"].as_str().is_some_and(|d| !d.is_empty());
                assert!(described, "{method} {path} {status} has no description");
                let content = response["content"].as_object();
                let kinds: Vec<&String> = content.into_iter().flat_map(|c| c.keys()).collect();
                // an answer to HEAD has no body
                if status.starts_with(['4', '5'])
                    && method != "head"
                    && !kinds.contains(&&"application/json".to_owned())
                {
                    assert_eq!(kinds, ["application/problem+json"], "{method} {path} {status}");
                }
            }
        }
    }
    assert!(operations >= 12, "{operations} operations");
}

/// Reads are tagged, JSON has examples, and problems are of the one kind.
#[test]
fn every_body_and_answer_has_an_example() {
    let document = document();
    let of_schema = |content: &Value| {
        let name = content["schema"]["$ref"].as_str().and_then(|r| r.rsplit('/').next()).unwrap_or_default();
        !document["components"]["schemas"][name]["example"].is_null()
    };
    let mut bodies = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let answers = operation["responses"].as_object().expect("responses").values();
            for body in answers.chain([&operation["requestBody"]]) {
                for (kind, content) in body["content"].as_object().into_iter().flatten() {
                    let words = kind.contains("json") || kind.starts_with("multipart/");
                    let shown = !content["example"].is_null() || of_schema(content);
                    assert!(shown || !words, "{method} {path} {kind} has no example: openapi/examples.json takes one");
                    bodies += 1;
                }
            }
            let content = &operation["responses"]["200"]["content"];
            // what never ends has no tag
            let read = method == "get" && content.is_object() && content["text/event-stream"].is_null();
            assert_eq!(operation["responses"]["304"].is_object(), read, "{method} {path}");
        }
    }
    assert!(bodies > 100, "{bodies}");
}

/// Objects are closed in the document exactly where the code refuses members that it does not know.
#[test]
fn objects_are_closed_where_the_code_closes_them() {
    let mut closed = BTreeSet::new();
    for file in super::tidy::files(&["api/src", "shared/src"], ".rs") {
        for part in file.text.split("deny_unknown_fields").skip(1) {
            let (attributes, rest) = part.split_once("\npub ").unwrap_or_default();
            let renamed = attributes.split("schema(as = ").nth(1).and_then(|rest| rest.split(')').next());
            let own = rest.split_whitespace().nth(1).unwrap_or_default();
            closed.insert(renamed.unwrap_or(own).to_owned());
        }
    }
    let mut found = 0;
    for (name, schema) in document()["components"]["schemas"].as_object().expect("schemas") {
        let variants = schema["oneOf"].as_array().into_iter().flatten();
        let objects: Vec<&Value> = variants.chain([schema]).filter(|s| s["properties"].is_object()).collect();
        let shut = !objects.is_empty() && objects.iter().all(|s| s["additionalProperties"] == false);
        assert_eq!(shut, closed.contains(name), "{name}: deny_unknown_fields and additionalProperties disagree");
        found += u32::from(shut);
    }
    assert!(found >= 8, "{found}");
}
