//! Which hosts may be spoken to in clear. What leaves this machine carries credentials and everything else, so it goes by
//! verified TLS unless the operator says that the network to a host is trusted. Asked by the settings of PostgreSQL, Redis
//! and the API's own address; resolves no name: who answers DNS must not decide this.

use std::net::IpAddr;

use clap::Args;
use url::Host;

use super::ConfigError;
use super::egress::{HostRule, hosts};

/// The one variable.
const VARIABLE: &str = "PLAINTEXT_HOSTS";

/// Which networks are trusted.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Trusted networks")]
pub struct PlaintextArgs {
    /// Hosts, addresses and networks that may be spoken to without TLS, because the network to them is trusted:
    /// postgres,redis,10.1.0.0/16. This machine itself always may be
    #[arg(long, env, default_value = "")]
    pub plaintext_hosts: String,
}

/// How the way to a server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It does not leave this machine.
    Local,
    /// By TLS, to a server that proves its name.
    Verified,
    /// By a network that must be trusted.
    Clear,
}

/// The hosts that may be spoken to in clear.
#[derive(Debug, Clone, Default)]
pub struct Plaintext {
    hosts: Vec<HostRule>,
}

impl PlaintextArgs {
    /// Reads the list.
    pub fn hosts(&self) -> Result<Plaintext, ConfigError> {
        let hosts = hosts(VARIABLE, &self.plaintext_hosts)?;
        let everybody = |rule: &HostRule| matches!(rule, HostRule::Network(n) if n.prefix_len() == 0);
        if hosts.iter().any(everybody) {
            let fix = "name the hosts, or the networks that are yours";
            return Err(ConfigError::new(VARIABLE, "it holds all addresses there are", fix));
        }
        Ok(Plaintext { hosts })
    }
}

impl Plaintext {
    /// Whether `host`, as it stands in a setting, is this machine or on the list.
    pub fn allows(&self, host: &str) -> bool {
        match address(host) {
            Some(ip) => ip.is_loopback() || self.hosts.iter().any(|rule| rule.covers(ip)),
            None => {
                let name = host.trim_end_matches('.').to_ascii_lowercase();
                name == "localhost" || self.hosts.iter().any(|rule| rule.is_called(&name))
            }
        }
    }

    /// Refuses `variable`, which leads to `host` in clear, unless that is allowed. `fix` says how to get TLS.
    pub fn check(&self, variable: &'static str, host: &str, fix: &str) -> Result<(), ConfigError> {
        if self.allows(host) {
            return Ok(());
        }
        Err(ConfigError::new(
            variable,
            format!(
                "it leads to '{host}' without verified TLS, and whoever is on the way could read and change everything"
            ),
            format!("{fix}, or add the host to {VARIABLE} if the network to it is trusted"),
        ))
    }
}

/// The address that `host` is, if it is one; IPv6 with or without brackets.
fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Some(ip.to_canonical()),
        // what resolvers take for an address as well: 127.1, 0x7f000001
        Err(_) => match Host::parse(bare) {
            Ok(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Plaintext, ConfigError> {
        PlaintextArgs { plaintext_hosts: text.into() }.hosts()
    }

    #[test]
    fn this_machine_and_what_is_named_may_be_spoken_to_in_clear() {
        let none = list("").unwrap();
        for own in ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.10", "127.1", "::1", "[::1]", "::ffff:127.0.0.1"] {
            assert!(none.allows(own), "{own}");
        }
        for away in
            ["", "db", "10.1.2.3", "localhost.example.com", "notlocalhost", "0.0.0.0", "[2001:db8::1]", "128.0.0.1"]
        {
            assert!(!none.allows(away), "{away}");
        }
        let some = list("Postgres, *.internal,10.1.0.0/16,2001:db8::/32").unwrap();
        for named in ["postgres", "POSTGRES.", "a.internal", "10.1.255.1", "::ffff:10.1.0.1", "[2001:db8::7]"] {
            assert!(some.allows(named), "{named}");
        }
        for other in ["postgres2", "internal", "10.2.0.1", "a.postgres", "xinternal", "2001:db9::1"] {
            assert!(!some.allows(other), "{other}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_read_or_holds_everybody_is_refused() {
        for bad in ["a b", "*", "redis://a", "a:6379", "10.0.0.0/33", "0.0.0.0/0", "::/0"] {
            let message = list(bad).unwrap_err().to_string();
            assert!(message.starts_with("PLAINTEXT_HOSTS: ") && message.contains("Fix: "), "{bad}: {message}");
        }
    }

    #[test]
    fn a_refusal_names_the_host_and_both_ways_out() {
        let refused = list("db").unwrap().check("X", "other", "use TLS").unwrap_err().to_string();
        assert!(refused.starts_with("X: ") && refused.contains("'other'"), "{refused}");
        assert!(refused.contains("use TLS, or add the host to PLAINTEXT_HOSTS"), "{refused}");
        assert!(list("db").unwrap().check("X", "db", "").is_ok());
    }
}
