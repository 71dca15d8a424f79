//! How a URL is shown: without its query, which is often a signature, and without user and password. The API shows jobs
//! so, `egress` and the worker write their messages so. The URL itself is a secret and is never printed.

use url::Url;

/// The URL as people may see it: `https://host:8443/path?…`. User, password and fragment are left out, a query becomes
/// `?…`.
pub fn redact(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{host}{port}{}{query}", url.scheme(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out() {
        for (url, shown) in [
            ("https://user:pass@cdn.example/a/b.mp4?X-Sig=secret#secret", "https://cdn.example/a/b.mp4?…"),
            ("http://secret@[2606:4700::1]:8080/a.mp4", "http://[2606:4700::1]:8080/a.mp4"),
            ("https://cdn.example:443", "https://cdn.example/"),
            ("https://cdn.example/?", "https://cdn.example/?…"),
        ] {
            assert_eq!(redact(&Url::parse(url).unwrap()), shown);
        }
    }
}
