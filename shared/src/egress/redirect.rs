//! Where a redirect leads and what may go along. Pure; [`super::Egress::follow`] checks and connects at every hop.

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION};
use url::Url;

use super::error::Error;
use super::rules;
use crate::job::address::redact;

/// The next address to ask and the client's headers that go there.
pub(super) struct Hop {
    /// The address, with the credentials that may be shown to it.
    pub(super) url: Url,
    /// Empty as soon as the origin has changed once.
    pub(super) headers: HeaderMap,
}

impl Hop {
    /// Where an answer with `status` and `answered` sends whoever asked here; none if it is an answer to keep.
    pub(super) fn next(&self, status: StatusCode, answered: &HeaderMap) -> Result<Option<Self>, Error> {
        let followed = [
            StatusCode::MOVED_PERMANENTLY,
            StatusCode::FOUND,
            StatusCode::SEE_OTHER,
            StatusCode::TEMPORARY_REDIRECT,
            StatusCode::PERMANENT_REDIRECT,
        ];
        if !followed.contains(&status) {
            return Ok(None);
        }
        let from = redact(&self.url);
        let Some(location) = answered.get(LOCATION) else {
            return Err(Error::Rejected(format!("{from} answers {} and does not say where to go", status.as_u16())));
        };
        let text = std::str::from_utf8(location.as_bytes())
            .map_err(|_| Error::Rejected(format!("{from} redirects to something that is not a URL")))?;
        let mut url = rules::join(&self.url, text)
            .map_err(|e| Error::Rejected(format!("{from} redirects to an address that cannot be used: {e}")))?;
        if self.url.scheme() == "https" && url.scheme() == "http" {
            // whatever the settings allow: the client asked for an encrypted way
            let to = redact(&url);
            return Err(Error::NotAllowed(format!(
                "{from} redirects to {to}, which is not encrypted; name that address"
            )));
        }
        if url.origin() != self.url.origin() {
            return Ok(Some(Self { url, headers: HeaderMap::new() }));
        }
        if url.username().is_empty() && url.password().is_none() {
            // an http URL has a host, so setting these cannot fail
            let _ = url.set_username(self.url.username()).and_then(|()| url.set_password(self.url.password()));
        }
        Ok(Some(Self { url, headers: self.headers.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn next(from: &str, location: &str) -> Result<Hop, Error> {
        let headers = HeaderMap::from_iter([(reqwest::header::AUTHORIZATION, HeaderValue::from_static("secret"))]);
        let hop = Hop { url: Url::parse(from).unwrap(), headers };
        let answered = HeaderMap::from_iter([(LOCATION, HeaderValue::from_bytes(location.as_bytes()).unwrap())]);
        hop.next(StatusCode::FOUND, &answered).map(Option::unwrap)
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        for (location, url, kept) in [
            ("/b?y", "https://me:secret@a.example/b?y", true),
            ("c", "https://me:secret@a.example/d/c", true),
            ("https://a.example:443/b", "https://me:secret@a.example/b", true),
            ("https://you@a.example/b", "https://you@a.example/b", true),
            ("https://a.example:8443/b", "https://a.example:8443/b", false),
            ("https://b.example/b", "https://b.example/b", false),
            ("//b.example/b", "https://b.example/b", false),
            ("https://a.example.b.example/", "https://a.example.b.example/", false),
            ("https://you@b.example/b", "https://you@b.example/b", false),
        ] {
            let hop = next("https://me:secret@a.example/d/a?x", location).unwrap();
            assert_eq!((hop.url.as_str(), !hop.headers.is_empty()), (url, kept), "{location}");
        }
        assert!(next("http://a.example/", "https://a.example/").unwrap().headers.is_empty());
    }

    #[test]
    fn what_leads_nowhere_is_an_error() {
        for location in ["https://", "http://[::1", "https:\\\\b.example", "https://b.example/\ta", "https://a b/"] {
            assert!(
                matches!(next("https://a.example/?secret", location), Err(Error::Rejected(m)) if !m.contains("secret"))
            );
        }
        let hop = Hop { url: Url::parse("https://a.example/").unwrap(), headers: HeaderMap::new() };
        assert!(matches!(hop.next(StatusCode::FOUND, &HeaderMap::new()), Err(Error::Rejected(_))));
        assert!(hop.next(StatusCode::NOT_MODIFIED, &HeaderMap::new()).unwrap().is_none());
        let raw = HeaderMap::from_iter([(LOCATION, HeaderValue::from_bytes(b"/\xff").unwrap())]);
        assert!(matches!(hop.next(StatusCode::FOUND, &raw), Err(Error::Rejected(_))));
    }

    #[test]
    fn an_encrypted_way_stays_encrypted() {
        for location in ["http://a.example/", "http://b.example/"] {
            assert!(matches!(next("https://a.example/", location), Err(Error::NotAllowed(_))), "{location}");
        }
    }
}
