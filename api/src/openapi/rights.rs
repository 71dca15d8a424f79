//! The page `docs/rights.md`: each call with the right it needs and the least role that carries it, read from the document
//! that the handlers' annotations make. `ffprobe-api rights` prints it; the committed copy is compared by a test.

use serde_json::Value;
use shared::access::{Need, Right};

const HEAD: &str = "\
# Rights

Which right each call needs, and the least role that carries it. A key has the rights of its role, or those of them that its
`scopes` name. Made by `make openapi` from the code; do not edit it.

| call | operation | right | least role |
|---|---|---|---|
";

/// The page as committed.
pub fn page() -> serde_json::Result<String> {
    let (_, document) = super::documented();
    let document = serde_json::to_value(&document)?;
    let mut page = HEAD.to_owned();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let Some(id) = operation["operationId"].as_str() else { continue };
            let (right, role) = lock(&operation["security"]);
            page.push_str(&format!("| `{} {path}` | `{id}` | {right} | {role} |\n", method.to_uppercase()));
        }
    }
    Ok(page)
}

/// The cells for the right and the role.
fn lock(security: &Value) -> (String, String) {
    let alternatives = security.as_array().map_or(&[][..], Vec::as_slice);
    let schemes = || alternatives.iter().filter_map(Value::as_object);
    let optional = if schemes().any(|scheme| scheme.is_empty()) { ", or no key" } else { "" };
    let word = schemes().flat_map(|s| s.values()).filter_map(|list| list[0].as_str()).next();
    match word.map(|word| (word, word.parse::<Right>())) {
        Some((word, Ok(right))) => (format!("`{word}`{optional}"), role(right).to_owned() + optional),
        Some((word, Err(()))) => (format!("`{word}`{optional}"), "unknown".to_owned()),
        None if schemes().any(|scheme| !scheme.is_empty()) => (format!("any{optional}"), format!("any key{optional}")),
        None => ("none".to_owned(), "no key".to_owned()),
    }
}

fn role(right: Right) -> &'static str {
    match right.need() {
        Need::Role(least) => least.as_str(),
        Need::Platform => "admin with platform reach",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn locks_become_cells() {
        let cells = |security: Value| {
            let (right, role) = lock(&security);
            format!("{right} | {role}")
        };
        assert_eq!(cells(json!([{"api_key": ["jobs:read"]}, {"bearer": ["jobs:read"]}])), "`jobs:read` | viewer");
        assert_eq!(cells(json!([{"api_key": ["tenants:read"]}])), "`tenants:read` | admin with platform reach");
        assert_eq!(cells(json!([{}, {"api_key": ["queues:read"]}])), "`queues:read`, or no key | viewer, or no key");
        assert_eq!(cells(json!([{"api_key": []}])), "any | any key");
        assert_eq!(cells(json!([{}])), "none | no key");
        assert_eq!(cells(Value::Null), "none | no key");
    }
}
