//! `/docs`: the API as pages to read and try, by Swagger UI, whose files are built in; and `/openapi.json`, which they show.
//! Nothing is loaded from another host, and only these pages have a content security policy that lets scripts run.

use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use shared::{Code, Error};
use utoipa_swagger_ui::Config;

use crate::openapi;
use crate::problem::Result;

/// What the pages may do: run our scripts, ask this API, show the icons that stand in the style sheet. Chromium shows them
/// under it without a complaint.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// Everybody may keep them, and asks whether they changed: another build may have others.
const KEEP: HeaderValue = HeaderValue::from_static("public, no-cache");
/// The page. Links are relative, so that it also works below the path of a proxy.
const PAGE: &str = include_str!("docs/page.html");
/// Starts Swagger UI. Its own starter would ask another host to judge the document.
const START: &str = include_str!("docs/start.js");
/// Files of Swagger UI that the page uses, with their content types.
const FILES: [(&str, &str); 3] = [
    ("swagger-ui.css", "text/css; charset=utf-8"),
    ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ("favicon-32x32.png", "image/png"),
];

/// Read and try the API
///
/// Swagger UI over `/openapi.json`, without anything from other hosts.
#[utoipa::path(
    get, path = "/docs", tag = "documentation", operation_id = "show_docs",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html", example = "<!doctype html>…")), security(())
)]
pub async fn page() -> Response {
    answer("text/html; charset=utf-8", PAGE)
}

/// A file of the page
///
/// A script, a style sheet or an icon of `/docs`.
#[utoipa::path(
    get, path = "/docs/{file}", tag = "documentation", operation_id = "show_docs_file",
    params(("file" = String, Path, description = "Its name.", example = "start.js")),
    responses(
        (status = 200, description = "The file.", content((String = "text/javascript"), (String = "text/css"), (Vec<u8> = "image/png"))),
        (status = 404, description = "There is no such file.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
    ),
    security(())
)]
pub async fn file(Path(name): Path<String>) -> Result<Response> {
    if name == "start.js" {
        return Ok(answer("text/javascript; charset=utf-8", START));
    }
    let known = FILES.iter().find(|(file, _)| *file == name);
    let Some((name, kind)) = known else {
        return Err(Error::new(Code::NotFound, "The pages have no such file. Begin at /docs.").into());
    };
    let file = utoipa_swagger_ui::serve(name, Arc::new(Config::default()));
    let file = file.map_err(|e| Error::internal(e.to_string()))?;
    let file = file.ok_or_else(|| Error::internal(format!("Swagger UI was built without {name}")))?;
    Ok(answer(kind, file.bytes.into_owned()))
}

/// The document of this API
///
/// OpenAPI 3.1: every call with its parameters, bodies, answers, errors and rights.
#[utoipa::path(
    get, path = "/openapi.json", tag = "documentation", operation_id = "show_openapi",
    responses((status = 200, description = "The document.", body = Object, example = json!({"openapi": "3.1.0", "info": {"title": "FFprobe API", "version": "0.1.0"}, "paths": {}}))), security(())
)]
pub async fn document() -> Result<Response> {
    static DOCUMENT: LazyLock<std::result::Result<String, String>> =
        LazyLock::new(|| openapi::document().map_err(|e| e.to_string()));
    let text = DOCUMENT.as_ref().map_err(|e| Error::internal(e.clone()))?;
    Ok(answer("application/json", text.as_str()))
}

fn answer(kind: &'static str, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] =
        [(CONTENT_TYPE, HeaderValue::from_static(kind)), (CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, KEEP)];
    (headers, body).into_response()
}
