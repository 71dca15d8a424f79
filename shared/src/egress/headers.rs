//! The request headers that a client may add to a fetch of its URL. The API calls [`check`] when a job is submitted, the
//! worker again before it sends them. Pure. Values are secrets: no message repeats one, and `Debug` hides them.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::Refused;

/// Most headers of one source.
pub const HEADERS_MAX: usize = 16;
/// Most bytes of all names and values together: servers refuse heads of more than 8 to 16 KiB, ours and the URL included.
pub const HEADERS_MAX_BYTES: usize = 4096;

/// Headers that a client may not set, by name or by how the name begins (with `*` at the end). `Cookie` and
/// `Authorization` may be set: they are the client's own, and stay behind when a redirect leaves the origin.
const RESERVED: [&str; 24] = [
    // the connection and the form of the message are ours (RFC 9110 sections 7.6.1 and 7.2, RFC 9112)
    "connection",
    "content-*",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-*",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // so is which bytes we ask for, and when they count as the same object
    "accept-encoding",
    "if-*",
    "range",
    // a private origin may believe whoever connects from inside
    "forwarded",
    "via",
    "x-forwarded-*",
    "x-real-ip",
    // and may turn our GET into something else
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    // what guards the metadata of cloud machines
    "metadata",
    "metadata-flavor",
    "x-aws-ec2-*",
];

/// Checks headers as a client wrote them, and makes them ready to be sent.
pub fn check<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<HeaderMap, Refused> {
    let mut headers = HeaderMap::new();
    let mut bytes = 0_usize;
    for (count, (name, value)) in (1..).zip(pairs) {
        bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
        if count > HEADERS_MAX || bytes > HEADERS_MAX_BYTES {
            return Err(Refused::new(format!(
                "At most {HEADERS_MAX} request headers with {HEADERS_MAX_BYTES} bytes together are taken."
            )));
        }
        let (name, value) = pair(name, value)?;
        if headers.insert(&name, value).is_some() {
            return Err(Refused::new(format!("The request header '{name}' is there twice. Write it once.")));
        }
    }
    Ok(headers)
}

fn pair(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Refused> {
    let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(Refused::new(format!(
            "{name:?} is not the name of a header. Use letters, digits and '-' only, without the colon."
        )));
    };
    if RESERVED.iter().any(|reserved| matches(reserved, known.as_str())) {
        return Err(Refused::new(format!(
            "The service sets the request header '{known}' itself, or never. Leave it out."
        )));
    }
    // bytes above ASCII are legal and mean something else to every server (RFC 9110 section 5.5)
    let Some(mut value) = HeaderValue::from_str(value).ok().filter(|_| value.is_ascii()) else {
        return Err(Refused::new(format!(
            "The value of the request header '{known}' has characters that a header cannot carry. Use visible ASCII only."
        )));
    };
    value.set_sensitive(true);
    Ok((known, value))
}

fn matches(reserved: &str, name: &str) -> bool {
    match reserved.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_needs_is_taken() {
        let pairs =
            [("Authorization", "Bearer secret"), ("Cookie", "a=secret"), ("X-Api-Key", ""), ("Referer", "https://a/")];
        let headers = check(pairs).unwrap();
        assert_eq!((headers.len(), headers["authorization"].as_bytes()), (4, &b"Bearer secret"[..]));
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn what_is_ours_or_no_header_is_refused() {
        for (name, value) in [
            ("Host", "127.0.0.1"),
            ("content-length", "5"),
            ("Content-Type", "text/plain"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("Proxy-Authorization", "secret"),
            ("RANGE", "bytes=0-"),
            ("If-None-Match", "*"),
            ("Accept-Encoding", "gzip"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-HTTP-Method-Override", "DELETE"),
            ("Metadata-Flavor", "Google"),
            ("X-aws-ec2-metadata-token", "secret"),
            ("", "secret"),
            ("a b", "secret"),
            ("X-A:", "secret"),
            ("X-A\r\nHost", "secret"),
            ("X-\u{e4}", "secret"),
            ("X-A", "secret\r\nHost: 127.0.0.1"),
            ("X-A", "secret\n"),
            ("X-A", "secret\0"),
            ("X-A", "secret\u{e4}"),
        ] {
            let sentence = check([(name, value)]).unwrap_err().to_string();
            assert!(!sentence.contains("secret") && !sentence.contains('\n'), "{sentence}");
        }
    }

    #[test]
    fn count_and_size_are_bounded_and_names_are_single() {
        let names: Vec<String> = (0..=HEADERS_MAX).map(|n| format!("x-{n}")).collect();
        let pairs = |count: usize| names[..count].iter().map(|n| (n.as_str(), "v"));
        assert!(check(pairs(HEADERS_MAX)).is_ok() && check(pairs(HEADERS_MAX + 1)).is_err());
        assert!(check([("x-a", "v".repeat(HEADERS_MAX_BYTES - 3).as_str())]).is_ok());
        assert!(check([("x-a", "v".repeat(HEADERS_MAX_BYTES - 2).as_str())]).is_err());
        assert!(check([("x-a", "1"), ("X-A", "2")]).is_err());
    }
}
