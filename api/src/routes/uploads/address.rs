//! The service's own address as the client knows it, for the absolute Location that tus clients insist on. Never used for
//! anything but links back to the same client.

use axum::http::HeaderMap;

use crate::App;
use crate::client::{FORWARDED_HOST, FORWARDED_PROTO};

/// Scheme and authority (and the path that BASE_URL has), without a trailing slash. Empty if the client named no host.
pub fn origin(app: &App, headers: &HeaderMap) -> String {
    if app.base_url.is_empty() { of_request(headers) } else { app.base_url.clone() }
}

/// X-Forwarded-Proto and X-Forwarded-Host, which reach us only from a trusted proxy (see [`crate::client`]); the Host header
/// where they are missing.
fn of_request(headers: &HeaderMap) -> String {
    let first = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?.split(',').next()?.trim();
        let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
        (good && !text.is_empty()).then(|| text.to_owned())
    };
    let scheme = first(FORWARDED_PROTO).filter(|s| s == "https").unwrap_or_else(|| "http".to_owned());
    match first(FORWARDED_HOST).or_else(|| first("host")) {
        Some(host) => format!("{scheme}://{host}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_proxy_knows_better_than_the_connection() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("10.0.0.1:8080"));
        assert_eq!(of_request(&headers), "http://10.0.0.1:8080");
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https, http"));
        headers.insert("x-forwarded-host", HeaderValue::from_static("probe.example.com"));
        assert_eq!(of_request(&headers), "https://probe.example.com");
        headers.remove("x-forwarded-host");
        headers.insert("host", HeaderValue::from_static("a/../b?c"));
        assert_eq!(of_request(&headers), "");
    }
}
