//! What each route does, as the audit trail calls it. A route that is added without a line here fails the test below. The
//! words are promised to whoever filters by them: they never change their meaning.

use axum::http::{HeaderMap, Method};
use shared::audit::Target;

/// Whether and when a route is audited. Refused credentials are, on every route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It changes something: written before the answer, or with the change itself.
    Change(&'static str),
    /// It shows what belongs to a tenant: written in batches.
    Read(&'static str),
    /// Not audited, for this reason; its handler may still note what an answer held.
    Exempt(&'static str),
}

/// A route with its method.
#[derive(Debug)]
pub struct Operation {
    /// In capitals.
    pub method: &'static str,
    /// The pattern.
    pub route: &'static str,
    /// Whether it is audited.
    pub rule: Rule,
    /// The kind of thing it is about.
    pub kind: &'static str,
}

const fn of(method: &'static str, route: &'static str, kind: &'static str, rule: Rule) -> Operation {
    Operation { method, route, rule, kind }
}

use Rule::{Change, Exempt, Read};

/// Every route.
pub const OPERATIONS: &[Operation] = &[
    of("POST", "/api/v1/jobs", "job", Change("job.create")),
    of("GET", "/api/v1/jobs", "job", Read("job.list")),
    of("GET", "/api/v1/jobs/{id}", "job", Exempt("clients ask for the state again and again; a result in it is noted")),
    of("DELETE", "/api/v1/jobs/{id}", "job", Change("job.delete")),
    of("GET", "/api/v1/jobs/{id}/result", "job", Read("result.read")),
    of("GET", "/api/v1/jobs/{id}/series/{stream}", "job", Read("series.read")),
    of("GET", "/api/v1/jobs/{id}/attempts", "job", Read("attempt.list")),
    of("GET", "/api/v1/jobs/{id}/events", "job", Read("event.read")),
    of("GET", "/api/v1/events", "event", Read("event.read")),
    of("POST", "/api/v1/jobs/{id}/cancel", "job", Change("job.cancel")),
    of("POST", "/api/v1/jobs/{id}/retry", "job", Change("job.retry")),
    of("POST", "/api/v1/jobs/retry", "job", Change("job.retry")),
    of("POST", "/api/v1/probe/file", "job", Change("job.create")),
    of("POST", "/api/v1/probe/url", "job", Change("job.create")),
    of("GET", "/api/v1/probe/file", "job", Read("job.list")),
    of("POST", "/api/v1/batches", "batch", Change("batch.create")),
    of("GET", "/api/v1/batches", "batch", Read("batch.list")),
    of("GET", "/api/v1/batches/{id}", "batch", Exempt("it shows how far a batch is, and nothing of its content")),
    of("GET", "/api/v1/batches/{id}/results", "batch", Read("result.read")),
    of("POST", "/api/v1/batches/{id}/cancel", "batch", Change("batch.cancel")),
    of("POST", "/api/v1/batches/{id}/retry", "batch", Change("batch.retry")),
    of("GET", "/api/v1/queues", "queue", Exempt("queues belong to no tenant")),
    of("POST", "/api/v1/queues/{name}/pause", "queue", Change("queue.pause")),
    of("POST", "/api/v1/queues/{name}/resume", "queue", Change("queue.resume")),
    of("POST", "/api/v1/uploads", "upload", Change("upload.create")),
    of("GET", "/api/v1/uploads/{id}", "upload", Exempt("it shows how far an upload is, and nothing of its content")),
    of("HEAD", "/api/v1/uploads/{id}", "upload", Exempt("it shows how far an upload is, and nothing of its content")),
    of(
        "PATCH",
        "/api/v1/uploads/{id}",
        "upload",
        Exempt("a piece of an upload; the last one completes it, which is audited"),
    ),
    of("DELETE", "/api/v1/uploads/{id}", "upload", Change("upload.delete")),
    of("POST", "/api/v1/uploads/{id}", "upload", Exempt("it stands for the method that it names")),
    of("OPTIONS", "/api/v1/uploads", "upload", Exempt("it says what the service speaks")),
    of("OPTIONS", "/api/v1/uploads/{id}", "upload", Exempt("it says what the service speaks")),
    of("GET", "/api/v1/audit", "audit", Read("audit.read")),
    of("POST", "/api/v1/auth/token", "session", Change("session.token")),
    of("POST", "/api/v1/auth/revoke", "session", Change("session.revoke")),
    of("GET", "/api/v1/auth/me", "session", Exempt("it shows the caller to the caller")),
    of("GET", "/api/v1/auth/sessions", "session", Read("session.list")),
    of("DELETE", "/api/v1/auth/sessions/{id}", "session", Change("session.delete")),
    of("POST", "/api/v1/api-keys", "key", Change("key.create")),
    of("GET", "/api/v1/api-keys", "key", Read("key.list")),
    of("GET", "/api/v1/api-keys/{id}", "key", Read("key.read")),
    of("PATCH", "/api/v1/api-keys/{id}", "key", Change("key.change")),
    of("DELETE", "/api/v1/api-keys/{id}", "key", Change("key.revoke")),
    of("POST", "/api/v1/api-keys/{id}/rotate", "key", Change("key.rotate")),
    of("POST", "/api/v1/tenants", "tenant", Change("tenant.create")),
    of("GET", "/api/v1/tenants", "tenant", Read("tenant.list")),
    of("GET", "/api/v1/tenants/current", "tenant", Read("tenant.read")),
    of("GET", "/api/v1/tenants/{id}", "tenant", Read("tenant.read")),
    of("PATCH", "/api/v1/tenants/{id}", "tenant", Change("tenant.change")),
    of("POST", "/api/v1/tenants/{id}/api-keys", "tenant", Change("key.create")),
    of("POST", "/api/v1/webhooks", "webhook", Change("webhook.create")),
    of("GET", "/api/v1/webhooks", "webhook", Read("webhook.list")),
    of("GET", "/api/v1/webhooks/{id}", "webhook", Read("webhook.read")),
    of("PATCH", "/api/v1/webhooks/{id}", "webhook", Change("webhook.change")),
    of("DELETE", "/api/v1/webhooks/{id}", "webhook", Change("webhook.delete")),
    of("POST", "/api/v1/webhooks/default-secret", "webhook", Change("webhook.rotate_default")),
    of("POST", "/api/v1/webhooks/{id}/rotate-secret", "webhook", Change("webhook.rotate")),
    of("POST", "/api/v1/webhooks/{id}/test", "webhook", Change("webhook.test")),
    of("POST", "/api/v1/webhooks/{id}/replay", "webhook", Change("webhook.replay")),
    of("GET", "/api/v1/webhooks/{id}/deliveries", "webhook", Read("delivery.list")),
    of("GET", "/api/v1/webhooks/{id}/deliveries/{delivery_id}", "webhook", Read("delivery.read")),
    of("POST", "/api/v1/webhooks/{id}/deliveries/{delivery_id}/redeliver", "webhook", Change("delivery.redeliver")),
    of("GET", "/docs", "documentation", Exempt("documentation belongs to no tenant")),
    of("GET", "/docs/{file}", "documentation", Exempt("documentation belongs to no tenant")),
    of("GET", "/openapi.json", "documentation", Exempt("documentation belongs to no tenant")),
    of("GET", "/api/v1/probe/health", "health", Exempt("health belongs to no tenant")),
    of("GET", "/health", "health", Exempt("health belongs to no tenant")),
    of("GET", "/health/live", "health", Exempt("health belongs to no tenant")),
    of("GET", "/health/ready", "health", Exempt("health belongs to no tenant")),
];

/// What a request does.
pub fn find(method: &Method, headers: &HeaderMap, route: &str) -> Option<&'static Operation> {
    let exactly = |word: &str| OPERATIONS.iter().find(|o| o.method == word && o.route == route);
    let meant = headers.get("x-http-method-override").filter(|_| *method == Method::POST);
    // a word that no method has finds nothing, and the request stands for itself
    let meant = meant.and_then(|m| m.to_str().ok()).and_then(exactly);
    let found = meant.or_else(|| exactly(method.as_str()));
    // what answers GET answers HEAD, too
    found.or_else(|| if *method == Method::HEAD { exactly("GET") } else { None })
}

impl Operation {
    /// Method and pattern.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.route)
    }

    /// What a request for `path` is about: the first variable part of the pattern is its id.
    pub fn target(&self, path: &str) -> Option<Target> {
        let at = self.route.split('/').position(|part| part.starts_with('{'))?;
        Some(Target::new(self.kind, path.split('/').nth(at).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use axum::http::HeaderValue;
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_route_says_what_it_does() {
        let document: Value = serde_json::from_str(&crate::openapi::document().unwrap()).unwrap();
        let mut routes = HashSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|m| m.as_str() != "parameters") {
                routes.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let named: HashSet<String> = OPERATIONS.iter().map(Operation::name).collect();
        let missing: Vec<_> = routes.difference(&named).collect();
        assert!(missing.is_empty(), "say in OPERATIONS what these do, or why they are not audited: {missing:?}");
        let stale: Vec<_> = named.difference(&routes).collect();
        assert!(stale.is_empty(), "these routes are no more: {stale:?}");
        assert_eq!(named.len(), OPERATIONS.len(), "a route stands there twice");
    }

    #[test]
    fn words_and_reasons_are_decent() {
        for operation in OPERATIONS {
            match operation.rule {
                Change(action) | Read(action) => {
                    let good =
                        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                    assert!(action.contains('.') && action.split('.').all(good) && action.len() <= 64, "{action}");
                }
                Exempt(reason) => assert!(reason.len() > 15, "{}: {reason}", operation.name()),
            }
        }
    }

    #[test]
    fn a_method_may_stand_for_another() {
        let mut headers = HeaderMap::new();
        let route = "/api/v1/uploads/{id}";
        let method = |m: Method, h: &HeaderMap| find(&m, h, route).map(|o| o.method);
        assert_eq!(method(Method::POST, &headers), Some("POST"));
        headers.insert("x-http-method-override", HeaderValue::from_static("DELETE"));
        assert_eq!(method(Method::POST, &headers), Some("DELETE"));
        assert_eq!(method(Method::PATCH, &headers), Some("PATCH"));
        assert_eq!(find(&Method::HEAD, &headers, "/api/v1/jobs").map(|o| o.method), Some("GET"));
        assert!(find(&Method::PUT, &headers, route).is_none());
    }

    #[test]
    fn the_thing_is_read_from_the_path() {
        let result = find(&Method::GET, &HeaderMap::new(), "/api/v1/jobs/{id}/result").unwrap();
        assert_eq!(result.target("/api/v1/jobs/0197/result"), Some(Target::new("job", "0197")));
        assert_eq!(result.target("/api/v1/jobs/%00/result").unwrap().id, None);
    }
}
