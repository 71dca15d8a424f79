//! Where a request comes from: the address of the connection, or what the proxies in front say, as far as they are trusted.
//! Rate limits, address ranges of keys, the audit log and the operator's own lists judge by it; nothing else does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::STRICT_TRANSPORT_SECURITY;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use shared::{Code, Error};

use crate::App;
use crate::problem::Problem;

/// The header that proxies add to; each writes the address it saw behind those that were there.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// What clients reach the service by, as the proxy in front saw it.
pub const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// The same, host and port.
pub const FORWARDED_HOST: &str = "x-forwarded-host";
/// Two years without a word in clear (RFC 6797), for clients that came by TLS.
const STAY_WITH_TLS: HeaderValue = HeaderValue::from_static("max-age=63072000");
/// Most hops that are followed. More proxies than that stand before nobody.
const MAX_HOPS: usize = 20;

/// The other end of the connection; set for every request of it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Where the request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Whom to believe, and whom to let in.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// Proxies whose word counts; none by default.
    pub trusted: Vec<IpNet>,
    /// Only these addresses may call the API; all if empty.
    pub allow: Vec<IpNet>,
    /// These may not.
    pub deny: Vec<IpNet>,
}

impl Gate {
    fn trusts(&self, peer: IpAddr) -> bool {
        contains(&self.trusted, peer.to_canonical())
    }

    /// From right to left: what a trusted proxy wrote counts, and what it saw may be a trusted proxy again. A word that is
    /// no address ends the walk, since whoever wrote it is the last that is known.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let words: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .map(str::trim)
            .collect();
        for word in words.iter().rev().take(MAX_HOPS) {
            if !contains(&self.trusted, client) {
                break;
            }
            let Some(address) = address(word) else { break };
            client = address;
        }
        client
    }

    fn lets_in(&self, client: IpAddr) -> bool {
        !contains(&self.deny, client) && (self.allow.is_empty() || contains(&self.allow, client))
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|n| n.contains(&address))
}

/// An address as proxies write it: with or without a port, IPv6 in brackets or bare.
fn address(word: &str) -> Option<IpAddr> {
    let bare = word.strip_prefix('[').and_then(|w| w.strip_suffix(']')).unwrap_or(word);
    bare.parse::<IpAddr>().or_else(|_| word.parse::<SocketAddr>().map(|s| s.ip())).ok().map(|a| a.to_canonical())
}

/// Notes where the request comes from, drops what only a trusted proxy may say, and turns away whom the operator does not
/// want. Health checks are answered to all.
pub async fn locate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() else {
        return Problem(Error::internal("a request without a connection")).into_response();
    };
    let client = app.gate.client(peer.ip(), request.headers());
    if !app.gate.lets_in(client) && !request.uri().path().starts_with("/health/") {
        let detail = format!("Requests from {client} are not served here. Ask the operator to allow the address.");
        return Problem(Error::new(Code::AddressNotAllowed, detail)).into_response();
    }
    if !app.gate.trusts(peer.ip()) {
        request.headers_mut().remove(FORWARDED_PROTO);
        request.headers_mut().remove(FORWARDED_HOST);
    }
    let by_tls = request.headers().get(FORWARDED_PROTO).is_some_and(|proto| proto == "https");
    request.extensions_mut().insert(ClientAddress(client));
    let mut response = next.run(request).await;
    if by_tls {
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, STAY_WITH_TLS);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn gate(trusted: &[&str]) -> Gate {
        Gate { trusted: trusted.iter().map(|n| n.parse().unwrap()).collect(), ..Gate::default() }
    }

    fn client(gate: &Gate, peer: &str, headers: &[&str]) -> String {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(FORWARDED_FOR, HeaderValue::from_str(header).unwrap());
        }
        gate.client(peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let (none, one) = (gate(&[]), gate(&["10.0.0.0/8", "::1/128"]));
        assert_eq!(client(&none, "10.0.0.1", &["1.1.1.1"]), "10.0.0.1");
        assert_eq!(
            client(&one, "10.0.0.1", &["6.6.6.6, 1.1.1.1"]),
            "1.1.1.1",
            "what stands before was the client's own"
        );
        assert_eq!(client(&one, "10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"]), "1.1.1.1", "two proxies");
        assert_eq!(client(&one, "10.0.0.1", &["6.6.6.6", "1.1.1.1:4711"]), "1.1.1.1", "two headers, a port");
        assert_eq!(client(&one, "::1", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(client(&one, "::ffff:10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1", "a mapped peer");
        assert_eq!(client(&one, "9.9.9.9", &["1.1.1.1"]), "9.9.9.9", "not through the proxy");
        assert_eq!(client(&one, "10.0.0.1", &["1.1.1.1, unknown"]), "10.0.0.1");
        assert_eq!(client(&one, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn lists_of_the_operator() {
        let net = |n: &str| n.parse::<IpNet>().unwrap();
        let gate = Gate { allow: vec![net("10.0.0.0/8")], deny: vec![net("10.6.0.0/16")], ..Gate::default() };
        let lets_in = |a: &str| gate.lets_in(a.parse().unwrap());
        assert!(lets_in("10.1.1.1") && !lets_in("10.6.1.1") && !lets_in("192.0.2.1"));
    }

    proptest! {
        #[test]
        fn nobody_behind_an_untrusted_peer_is_believed(header in "[ -~]{0,200}") {
            prop_assert_eq!(client(&gate(&["10.0.0.0/8"]), "192.0.2.7", &[&header]), "192.0.2.7");
        }

        #[test]
        fn what_a_client_writes_does_not_hide_it(header in "[0-9a-f:., ]{0,100}") {
            let headers = [header.as_str(), "198.51.100.9"];
            prop_assert_eq!(client(&gate(&["10.0.0.0/8"]), "10.0.0.1", &headers), "198.51.100.9");
        }
    }
}
