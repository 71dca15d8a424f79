//! What all calls have in common, put into the document in one place: tags of reads and their 304, an example for every
//! answer and problem, bodies that may be left out, and closed objects where utoipa does not see that they are. Called once
//! for a document, by [`super::documented`]. The examples stand in `examples.json`, by the name of their schema.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::Code;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Content, OpenApi as Document, PathItem, RefOr, Required, Response, ResponseBuilder, Schema};

use crate::{cursor, idempotency};

/// Answers and bodies as they look, by the name of their schema; redocly compares them.
const EXAMPLES: &str = include_str!("examples.json");
/// Calls that take an empty body for one that says nothing.
const BODY_OPTIONAL: [&str; 11] = [
    "pause_queue",
    "retry_failed_jobs",
    "create_upload",
    "override_upload",
    "change_api_key",
    "rotate_api_key",
    "change_tenant",
    "change_webhook",
    "rotate_webhook_secret",
    "rotate_default_webhook_secret",
    "retry_batch",
];
/// Parameters that look the same wherever they are.
const PATTERNS: [(&str, &str); 2] = [("cursor", cursor::PATTERN), ("Idempotency-Key", idempotency::PATTERN)];
/// Schemas with variants that take no unknown members.
const CLOSED: [&str; 3] = ["SourceRequest", "Source", "Grant"];
const PROBLEM: &str = "application/problem+json";
const EVENT_STREAM: &str = "text/event-stream";

/// Completes the document.
pub(super) fn finish(document: &mut Document) {
    // a mistake in the file is seen by the test below, and by every reader as missing examples
    let examples: BTreeMap<String, Value> = serde_json::from_str(EXAMPLES).unwrap_or_default();
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let (method, operation) = operation;
        if method == "get" {
            say_that_it_is_tagged(operation);
        }
        if BODY_OPTIONAL.contains(&operation.operation_id.as_deref().unwrap_or_default())
            && let Some(RefOr::T(body)) = &mut operation.request_body
        {
            body.required = Some(Required::False);
        }
        operation.parameters.iter_mut().flatten().for_each(shape);
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            body.content.values_mut().for_each(|content| exemplify(content, "body", &examples));
        }
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            show_problem(status, response);
            response.content.values_mut().for_each(|content| exemplify(content, status, &examples));
        }
    }
    for name in CLOSED {
        let schema = document.components.as_mut().and_then(|c| c.schemas.get_mut(name));
        if let Some(RefOr::T(Schema::OneOf(variants))) = schema {
            variants.items.iter_mut().for_each(close);
        }
    }
}

fn operations(item: &mut PathItem) -> Vec<(&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("options", &mut item.options),
        ("head", &mut item.head),
        ("patch", &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?))).collect()
}

/// As [`crate::conditional`] does it.
fn say_that_it_is_tagged(operation: &mut Operation) {
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let Some(RefOr::T(answer)) = operation.responses.responses.get_mut("200") else { return };
    // what never ends has no tag
    if answer.content.contains_key(EVENT_STREAM) {
        return;
    }
    let tag = HeaderBuilder::new().schema(Some(text())).description(Some("Names exactly this answer.")).build();
    answer.headers.insert("ETag".into(), RefOr::T(tag));
    let unchanged = "You have it: the answer would be the one that `If-None-Match` names.";
    let unchanged = ResponseBuilder::new().description(unchanged).build();
    operation.responses.responses.insert("304".into(), RefOr::T(unchanged));
    let known = ParameterBuilder::new()
        .name("If-None-Match")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The `ETag` of the answer you have; 304 if there is no other."))
        .schema(Some(text()))
        .example(Some(json!("W/\"d6ObP_v7sosIQwmInNGfhg\"")))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(known));
}

fn shape(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(parameter) = parameter else { return };
    let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema else { return };
    // one that may be left out is left out; there is no null in a header
    if let SchemaType::Array(types) = &object.schema_type
        && let Some(kind) = types.iter().find(|kind| **kind != Type::Null)
    {
        object.schema_type = SchemaType::Type(kind.clone());
    }
    if let Some((_, pattern)) = PATTERNS.iter().find(|(name, _)| *name == parameter.name) {
        object.pattern = Some((*pattern).to_owned());
    }
}

/// An example for a body or an answer, unless it was given one by hand: the one of its schema and status, or of its schema.
fn exemplify(content: &mut RefOr<Content>, status: &str, examples: &BTreeMap<String, Value>) {
    let RefOr::T(content) = content else { return };
    if content.example.is_some() || !content.examples.is_empty() {
        return;
    }
    if let Some(RefOr::Ref(schema)) = &content.schema {
        let name = schema.ref_location.rsplit('/').next().unwrap_or_default();
        content.example = examples.get(&format!("{name} {status}")).or_else(|| examples.get(name)).cloned();
    }
}

/// A problem as it looks. Which one: the first that the description names in code letters, else the first of its status.
fn show_problem(status: &str, response: &mut Response) {
    let Some(RefOr::T(content)) = response.content.get_mut(PROBLEM) else { return };
    let of_status = || Code::ALL.iter().filter(|code| code.status().to_string() == status);
    let named = of_status().find(|code| response.description.contains(&format!("`{}`", code.as_str())));
    let Some(code) = named.or_else(|| of_status().next()) else { return };
    if content.example.is_none() {
        content.example = Some(json!({
            "type": crate::problem::explained_at(*code),
            "title": code.title(),
            "status": code.status(),
            "code": code.as_str(),
            "detail": response.description,
            "request_id": "0199a3c2-5f0e-7d35-8a55-0b6f2f3a9c11",
        }));
    }
}

fn close(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema {
        object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_json_and_each_has_its_schema() {
        let examples: BTreeMap<String, Value> = serde_json::from_str(EXAMPLES).expect("JSON");
        let (_, document) = crate::openapi::documented();
        let schemas = document.components.expect("components").schemas;
        for name in examples.keys() {
            let schema = name.split(' ').next().expect("a word");
            assert!(schemas.contains_key(schema), "there is no schema {schema}");
        }
    }
}
