//! The OpenAPI 3.1 document, made from the handlers' own annotations. `ffprobe-api openapi` prints it, `/openapi.json` gives
//! it; the committed copy is compared by a test. What all calls have in common is put in by [`finish`].

mod finish;

pub mod rights;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use crate::problem::ProblemBody;
use crate::{App, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "FFprobe API",
        description = "Inspects media: upload a file or name one, get back what ffprobe sees, as JSON.\n\nErrors are problem documents (RFC 9457) with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/", description = "This installation")),
    components(schemas(ProblemBody)),
    modifiers(&Credentials),
    tags(
        (name = "jobs", description = "Submit media and read what was found"),
        (name = "probe", description = "Short calls: submit and wait in one request"),
        (name = "events", description = "Be told what happens, while it happens"),
        (name = "queues", description = "Where jobs wait"),
        (name = "uploads", description = "Send media"),
        (name = "auth", description = "Tokens and sessions"),
        (name = "api-keys", description = "Who may ask"),
        (name = "tenants", description = "Who owns what, and how much"),
        (name = "webhooks", description = "Be told of events"),
        (name = "audit", description = "Who did what"),
        (name = "health", description = "Is the service well?"),
        (name = "documentation", description = "This document, as JSON and as pages")
    )
)]
struct Head;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let header = ApiKeyValue::with_description("X-API-Key", "An API key.");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
        let bearer = Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An access token or an API key as a bearer token."))
            .build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The routes with their document.
pub fn documented() -> (Router<Arc<App>>, Document) {
    let (router, mut document) = OpenApiRouter::with_openapi(Head::openapi()).merge(routes::all()).split_for_parts();
    finish::finish(&mut document);
    (router, document)
}

/// The document as committed: pretty JSON with a newline at its end.
pub fn document() -> serde_json::Result<String> {
    let (_, document) = documented();
    Ok(document.to_pretty_json()? + "\n")
}

/// The bytes of a file as a body; in the document only.
pub enum FileBytes {}

impl utoipa::PartialSchema for FileBytes {
    fn schema() -> RefOr<Schema> {
        let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).into()
    }
}

impl utoipa::ToSchema for FileBytes {}

/// Problems any authenticated call can end with.
pub struct ReadProblems;

/// Problems a call with a body can end with, too.
pub struct WriteProblems;

impl IntoResponses for ReadProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            ("400", "The request is not understood; `detail` says which part."),
            ("401", "No credentials, or wrong ones."),
            ("403", "The credentials do not carry the right this call needs."),
            ("408", "The request took too long."),
            ("429", "Too many requests, jobs that wait, or unfinished uploads: `code` says which."),
            ("500", "A fault of the service; the log has it under `request_id`."),
            ("503", "A part the service needs is away for the moment; try again."),
        ])
    }
}

impl IntoResponses for WriteProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut all = ReadProblems::responses();
        all.extend(problems(&[
            ("413", "The body is larger than this call takes (`payload_too_large`)."),
            ("415", "The content type is not one this call takes (`unsupported_media_type`)."),
        ]));
        all
    }
}

fn problems(list: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let response = |description: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemBody"))).build();
        ResponseBuilder::new().description(description).content("application/problem+json", content).build()
    };
    list.iter().map(|(status, description)| ((*status).to_owned(), RefOr::T(response(description)))).collect()
}
