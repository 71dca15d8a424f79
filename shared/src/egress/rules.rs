//! What the operator's settings say about a URL and about an address. Pure: resolves no name. The API asks for the words
//! of a URL when a job is submitted; the connection asks for both, at every hop.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::public;
use crate::config::{EgressSettings, HostRule, Scheme};

/// Longest URL taken, in bytes. A presigned one has about 2,000.
pub const URL_MAX_BYTES: usize = 8192;
/// Longest name of a host (RFC 1035 section 2.3.4, without the length bytes).
const HOST_MAX_BYTES: usize = 253;
/// Names that mean this machine wherever they are looked up (RFC 6761 section 6.3, and what distributions write into
/// their tables of hosts).
const OWN_NAMES: [&str; 4] = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"];

/// Something the service does not connect to, with a sentence that says what to do. Repeats no query and no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(String);

impl Refused {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Reads a URL as a client or a server wrote it. What a parser would mend in silence is refused: whoever wrote it meant
/// something else.
pub fn parse(text: &str) -> Result<Url, Refused> {
    words(text)?;
    Url::parse(text).map_err(|e| {
        Refused::new(format!("This is not a URL ({e}). Write https://HOST/PATH, all of it percent-encoded."))
    })
}

/// Reads the address that a server redirects to, which may be relative to `base`.
pub(super) fn join(base: &Url, text: &str) -> Result<Url, Refused> {
    words(text)?;
    base.join(text).map_err(|e| Refused::new(format!("This is not a URL ({e}).")))
}

fn words(text: &str) -> Result<(), Refused> {
    if text.len() > URL_MAX_BYTES {
        let sentence = format!("The URL has {} bytes; at most {URL_MAX_BYTES} are taken.", text.len());
        return Err(Refused::new(sentence));
    }
    // parsers drop line ends and tabs, and read \ as /
    if text.chars().any(|c| c.is_control() || c == '\\') {
        let sentence = "The URL contains a line end, another control character or a backslash. Write %0A or %5C if it \
                        belongs there.";
        return Err(Refused::new(sentence));
    }
    Ok(())
}

/// The settings, as questions.
#[derive(Debug)]
pub(super) struct Rules {
    settings: EgressSettings,
}

impl Rules {
    pub(super) fn new(settings: EgressSettings) -> Self {
        Self { settings }
    }

    /// Judges the words of a URL.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refused> {
        if url.as_str().len() > URL_MAX_BYTES {
            return words(url.as_str());
        }
        if !self.settings.schemes.iter().any(|s| s.as_str() == url.scheme()) {
            let known: Vec<_> = self.settings.schemes.iter().map(|s| format!("{}://", s.as_str())).collect();
            let sentence = format!(
                "URLs that begin with {}:// are not fetched here. Use {}, or ask the operator (EGRESS_SCHEMES).",
                url.scheme(),
                known.join(" or ")
            );
            return Err(Refused::new(sentence));
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(Refused::new("The URL names no host. Write https://HOST/PATH."));
        };
        self.check_port(port)?;
        match host {
            Host::Domain(name) => self.check_name(name, port),
            Host::Ipv4(ip) => self.check_literal(ip.into(), port),
            Host::Ipv6(ip) => self.check_literal(ip.into(), port),
        }
    }

    /// Why the service does not connect to this address and port; none if it does. `port` matters, because networks that
    /// are not public are opened for single ports.
    pub(super) fn forbidden(&self, ip: IpAddr, port: u16) -> Option<&'static str> {
        if self.settings.deny_hosts.iter().any(|rule| rule.covers(ip)) {
            return Some("on the list of denied hosts");
        }
        let of_public_hosts = self.is_public_port(port);
        let opened = self.settings.allow_networks.iter().any(|rule| {
            rule.network.contains(&ip) && rule.ports.as_ref().map_or(of_public_hosts, |ports| ports.contains(&port))
        });
        match public::special(ip) {
            _ if opened => None,
            None if !of_public_hosts => Some("at a port that is not open for public hosts"),
            reason => reason,
        }
    }

    /// Whether a plain connection may be made at all.
    pub(super) fn allows(&self, scheme: Scheme) -> bool {
        self.settings.schemes.contains(&scheme)
    }

    /// Certificates to trust besides the system's.
    pub(super) fn ca(&self) -> Option<&[u8]> {
        self.settings.ca.as_deref()
    }

    fn check_port(&self, port: u16) -> Result<(), Refused> {
        // which address it will be is not known yet; `forbidden` holds the two together
        let opened = self.settings.allow_networks.iter().any(|r| r.ports.as_ref().is_some_and(|p| p.contains(&port)));
        if opened || self.is_public_port(port) {
            return Ok(());
        }
        let known: Vec<_> = self.settings.ports.iter().map(range).collect();
        let sentence = format!(
            "Port {port} is not one the service connects to. Use one of {}, or ask the operator (EGRESS_PORTS).",
            known.join(", ")
        );
        Err(Refused::new(sentence))
    }

    fn is_public_port(&self, port: u16) -> bool {
        self.settings.ports.iter().any(|ports| ports.contains(&port))
    }

    fn check_literal(&self, ip: IpAddr, port: u16) -> Result<(), Refused> {
        self.check_lists(&ip.to_string(), |rule| rule.covers(ip))?;
        match self.forbidden(ip, port) {
            None => Ok(()),
            Some(reason) => Err(Refused::new(format!(
                "The service does not connect to {ip}: {reason}. Name a public host, or ask the operator \
                 (EGRESS_ALLOW_CIDRS)."
            ))),
        }
    }

    fn check_name(&self, name: &str, port: u16) -> Result<(), Refused> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() > HOST_MAX_BYTES || name.split('.').any(str::is_empty) {
            return Err(Refused::new("The host of the URL is not a name that can be looked up. Check its spelling."));
        }
        self.check_lists(name, |rule| rule.is_called(name))?;
        let own = OWN_NAMES.contains(&name) || name.ends_with(".localhost");
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        if own && loopback.into_iter().all(|ip| self.forbidden(ip, port).is_some()) {
            return Err(Refused::new(format!(
                "'{name}' means the service's own machine. Name a public host, or ask the operator (EGRESS_ALLOW_CIDRS)."
            )));
        }
        Ok(())
    }

    fn check_lists(&self, host: &str, matches: impl Fn(&HostRule) -> bool) -> Result<(), Refused> {
        let settings = &self.settings;
        if settings.deny_hosts.iter().any(&matches) {
            return Err(Refused::new(format!("The operator forbids connections to '{host}'. Use another host.")));
        }
        if !settings.allow_hosts.is_empty() && !settings.allow_hosts.iter().any(&matches) {
            return Err(Refused::new(format!(
                "'{host}' is not on the operator's list of hosts. Use one that is, or ask the operator \
                 (EGRESS_ALLOW_HOSTS)."
            )));
        }
        Ok(())
    }
}

fn range(ports: &std::ops::RangeInclusive<u16>) -> String {
    if ports.start() == ports.end() { ports.start().to_string() } else { format!("{}-{}", ports.start(), ports.end()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EgressArgs;

    fn rules(set: impl FnOnce(&mut EgressArgs)) -> Rules {
        Rules::new(super::super::tests::settings(set))
    }

    fn allowed(rules: &Rules, url: &str) -> bool {
        rules.check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn hosts_are_held_against_both_lists() {
        let listed = rules(|args| {
            args.egress_allow_hosts = "example.com,*.cdn.example,1.1.1.1".into();
            args.egress_deny_hosts = "bad.cdn.example,*.worse.cdn.example".into();
        });
        for url in [
            "https://example.com/",
            "https://EXAMPLE.com./",
            "https://a.b.cdn.example/",
            "https://1.1.1.1/",
            "https://worse.cdn.example/",
        ] {
            assert!(allowed(&listed, url), "{url}");
        }
        for url in [
            "https://www.example.com/",
            "https://cdn.example/",
            "https://notcdn.example/",
            "https://8.8.8.8/",
            "https://bad.cdn.example./",
            "https://a.worse.cdn.example/",
            "https://example.com@8.8.8.8/",
            "https://example.com.evil.example/",
        ] {
            assert!(!allowed(&listed, url), "{url}");
        }
    }

    #[test]
    fn denied_networks_win_over_everything() {
        let denied = rules(|args| {
            args.egress_deny_hosts = "10.1.0.0/16,8.8.8.0/24".into();
            args.egress_allow_cidrs = "10.0.0.0/8".into();
        });
        assert!(!allowed(&denied, "https://10.1.0.1/") && !allowed(&denied, "https://8.8.8.8/"));
        assert!(allowed(&denied, "https://10.2.0.1/") && denied.forbidden([10, 1, 2, 3].into(), 443).is_some());
    }

    #[test]
    fn a_network_opened_for_a_port_is_open_there_only() {
        let opened = rules(|args| args.egress_allow_cidrs = "127.0.0.1/32:9000,[::1/128]:9001,10.0.0.0/8".into());
        for url in ["https://127.0.0.1:9000/", "https://localhost:9000/", "https://[::1]:9001/", "https://10.9.8.7/"] {
            assert!(allowed(&opened, url), "{url}");
        }
        for url in [
            "https://127.0.0.1/",
            "https://127.0.0.1:9001/",
            "https://127.0.0.2:9000/",
            "https://localhost/",
            "https://[::1]:9000/",
            "https://[::ffff:127.0.0.1]:9000/",
            "https://10.9.8.7:9000/",
            "https://8.8.8.8:9000/",
        ] {
            assert!(!allowed(&opened, url), "{url}");
        }
        // the words of a name do not tell its address, so the port passes; the address does not
        assert!(allowed(&opened, "https://example.com:9000/"));
        assert!(opened.forbidden([8, 8, 8, 8].into(), 9000).is_some());
    }

    #[test]
    fn sentences_keep_secrets_and_say_what_to_do() {
        let strict = rules(|_| {});
        for url in [
            "ftp://user:secret@example.com/?secret",
            "http://user:secret@example.com/?secret",
            "https://user:secret@127.0.0.1/?secret",
            "https://user:secret@localhost/?secret",
            "https://user:secret@example.com:22/?secret",
            "https://user:secret@a..b/?secret",
        ] {
            let sentence = strict.check(&Url::parse(url).unwrap()).unwrap_err().to_string();
            assert!(!sentence.contains("secret") && sentence.ends_with('.'), "{sentence}");
        }
    }

    #[test]
    fn what_a_parser_would_mend_is_refused() {
        for text in [
            "https://exam\r\nple.com/",
            "https://example.com/\r\nHost: a",
            "https://example.com/a\tb",
            "https:\\\\example.com\\a",
            "https://example.com\\@127.0.0.1/",
            "https://exa\u{0}mple.com/",
            "https://example.com/\u{85}",
            "example.com/a.mp4",
            "",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let long = format!("https://example.com/{}", "a".repeat(URL_MAX_BYTES));
        assert!(parse(&long).is_err() && !allowed(&rules(|_| {}), &long));
        assert!(parse("https://example.com/a%20b.mp4?x=1").is_ok());
    }
}
