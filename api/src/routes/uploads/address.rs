//! The service's own address as the client knows it, for the absolute Location that tus clients insist on. Never used for
//! anything but links back to the same client.

use axum::http::HeaderMap;

use crate::App;

/// Where the address is read from when no BASE_URL is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Address {
    /// The Host header.
    #[default]
    Host,
    /// X-Forwarded-Proto and X-Forwarded-Host, which a trusted proxy sets; the Host header where they are missing.
    Forwarded,
}

/// Scheme and authority (and the path that BASE_URL has), without a trailing slash. Empty if the client named no host.
pub fn origin(app: &App, headers: &HeaderMap) -> String {
    if app.base_url.is_empty() { of_request(app.address, headers) } else { app.base_url.clone() }
}

fn of_request(address: Address, headers: &HeaderMap) -> String {
    let first = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?.split(',').next()?.trim();
        let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
        (good && !text.is_empty()).then(|| text.to_owned())
    };
    let forwarded = |name: &str| if address == Address::Forwarded { first(name) } else { None };
    let scheme = forwarded("x-forwarded-proto").filter(|s| s == "https").unwrap_or_else(|| "http".to_owned());
    match forwarded("x-forwarded-host").or_else(|| first("host")) {
        Some(host) => format!("{scheme}://{host}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn forwarded_headers_count_only_where_they_are_trusted() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("10.0.0.1:8080"));
        assert_eq!(of_request(Address::Forwarded, &headers), "http://10.0.0.1:8080");
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https, http"));
        headers.insert("x-forwarded-host", HeaderValue::from_static("probe.example.com"));
        assert_eq!(of_request(Address::Forwarded, &headers), "https://probe.example.com");
        assert_eq!(of_request(Address::Host, &headers), "http://10.0.0.1:8080");
        headers.insert("host", HeaderValue::from_static("a/../b?c"));
        assert_eq!(of_request(Address::Host, &headers), "");
    }
}
