//! Which hosts, ports and networks the service may connect to when a client names the address. `main` parses
//! [`EgressArgs`]; `egress` obeys the [`EgressSettings`] they mean. Resolves no name and connects to nothing itself.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;
use url::Host;

use super::{ConfigError, certificates};

/// Most entries of one list; every address that a name answers with is held against all of them.
const ENTRIES_MAX: usize = 256;
/// How a list of hosts is written.
const HOSTS: &str = "write names and addresses joined by commas: example.com,*.example.com,192.0.2.1";
/// Where HTTP is served by convention. Everything else, the ports of databases and mail among it, an operator opens.
const PORTS: &str = "80,443,8080,8443";

/// Where the service may fetch from, and later deliver to, when a client names the address.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connections to addresses that clients name")]
pub struct EgressArgs {
    /// Schemes of URLs that are fetched: https, or https,http
    #[arg(long, env, default_value = "https")]
    pub egress_schemes: String,
    /// Only these hosts: example.com,*.example.com; empty for all. Private addresses need EGRESS_ALLOW_CIDRS as well
    #[arg(long, env, default_value = "")]
    pub egress_allow_hosts: String,
    /// Never these hosts, addresses or networks: example.com,*.example.com,198.18.0.0/15. Wins over every permission
    #[arg(long, env, default_value = "")]
    pub egress_deny_hosts: String,
    /// Ports of public hosts: 443,8000-8999
    #[arg(long, env, default_value = PORTS)]
    pub egress_ports: String,
    /// Networks that are not public and may be reached all the same, with a port or a range of ports:
    /// 10.0.0.0/8,127.0.0.1/32:9000,[fd00::/8]:8000-8999. Without ports, EGRESS_PORTS counts
    #[arg(long, env, default_value = "")]
    pub egress_allow_cidrs: String,
    /// File of certificates (PEM) to trust besides the system's
    #[arg(long, env)]
    pub egress_ca_file: Option<PathBuf>,
}

/// How a URL may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Encrypted, and the host proves its name.
    Https,
    /// Neither.
    Http,
}

impl Scheme {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Https, Self::Http];

    /// As a URL begins, without the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// An entry of a list of hosts. Names are in lower case and have no dot at their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRule {
    /// This name only.
    Name(String),
    /// Every name below this one, and not this one itself.
    Below(String),
    /// Addresses.
    Network(IpNet),
}

/// A network that may be reached although it is not public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRule {
    /// The network.
    pub network: IpNet,
    /// Exactly these ports; none stands for the ports of public hosts.
    pub ports: Option<RangeInclusive<u16>>,
}

/// What [`EgressArgs`] mean.
#[derive(Debug, Clone)]
pub struct EgressSettings {
    /// How URLs may begin; at least one.
    pub schemes: Vec<Scheme>,
    /// Only these hosts; empty for all.
    pub allow_hosts: Vec<HostRule>,
    /// Never these.
    pub deny_hosts: Vec<HostRule>,
    /// Ports of public hosts.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Networks that are not public and allowed.
    pub allow_networks: Vec<NetworkRule>,
    /// Certificates (PEM) to trust besides the system's.
    pub ca: Option<Vec<u8>>,
}

impl EgressArgs {
    /// Reads the lists, and the file of certificates if one is named.
    pub fn settings(&self) -> Result<EgressSettings, ConfigError> {
        let schemes = list("EGRESS_SCHEMES", "write https, or https,http", &self.egress_schemes, scheme)?;
        if schemes.is_empty() {
            return Err(ConfigError::new("EGRESS_SCHEMES", "it is empty", "write https, or https,http"));
        }
        let networks = "write NETWORK/BITS, NETWORK/BITS:PORT or [NETWORK/BITS]:PORT, several joined by commas";
        let settings = EgressSettings {
            schemes,
            allow_hosts: hosts("EGRESS_ALLOW_HOSTS", &self.egress_allow_hosts)?,
            deny_hosts: hosts("EGRESS_DENY_HOSTS", &self.egress_deny_hosts)?,
            ports: list("EGRESS_PORTS", "write ports or ranges: 443,8000-8999", &self.egress_ports, ports)?,
            allow_networks: list("EGRESS_ALLOW_CIDRS", networks, &self.egress_allow_cidrs, network_rule)?,
            ca: self.ca()?,
        };
        settings.check_agreement()?;
        Ok(settings)
    }

    fn ca(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        self.egress_ca_file.as_deref().map(|file| certificates::read("EGRESS_CA_FILE", file)).transpose()
    }
}

/// Reads a list of hosts, addresses and networks.
pub(super) fn hosts(variable: &'static str, text: &str) -> Result<Vec<HostRule>, ConfigError> {
    list(variable, HOSTS, text, host)
}

impl HostRule {
    /// Whether it stands for this address.
    pub fn covers(&self, ip: IpAddr) -> bool {
        matches!(self, Self::Network(network) if network.contains(&ip))
    }

    /// Whether it stands for this name, which is in lower case and has no dot at its end.
    pub fn is_called(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Below(own) => name.strip_suffix(own.as_str()).is_some_and(|rest| rest.ends_with('.')),
            Self::Network(_) => false,
        }
    }
}

impl EgressSettings {
    /// A permission that a prohibition undoes as a whole is a mistake in one of the two.
    fn check_agreement(&self) -> Result<(), ConfigError> {
        let undone = |variable: &'static str, entry: &dyn std::fmt::Debug| {
            let problem = format!("it allows {entry:?}, which EGRESS_DENY_HOSTS forbids");
            ConfigError::new(variable, problem, "remove the entry from one of the two")
        };
        if let Some(host) = self.allow_hosts.iter().find(|host| self.deny_hosts.contains(host)) {
            return Err(undone("EGRESS_ALLOW_HOSTS", host));
        }
        let denied = |net: &IpNet| self.deny_hosts.iter().any(|d| matches!(d, HostRule::Network(d) if d.contains(net)));
        match self.allow_networks.iter().find(|rule| denied(&rule.network)) {
            Some(rule) => Err(undone("EGRESS_ALLOW_CIDRS", &rule.network)),
            None => Ok(()),
        }
    }
}

/// Reads a list, entry by entry.
fn list<T>(
    variable: &'static str,
    fix: &str,
    text: &str,
    read: fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ConfigError> {
    let wrong = |problem: String| ConfigError::new(variable, problem, fix);
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    if parts.len() > ENTRIES_MAX {
        return Err(wrong(format!("it has {} entries, at most {ENTRIES_MAX} are taken", parts.len())));
    }
    parts.into_iter().map(|part| read(part).map_err(|e| wrong(format!("'{part}' {e}")))).collect()
}

fn scheme(text: &str) -> Result<Scheme, String> {
    let known = Scheme::ALL.into_iter().find(|s| s.as_str() == text);
    known.ok_or_else(|| "is not a scheme that can be fetched".to_owned())
}

fn host(text: &str) -> Result<HostRule, String> {
    if let Ok(network) = network(text) {
        return Ok(HostRule::Network(network));
    }
    let (name, below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
    let wrong = || "is neither a host name nor an address".to_owned();
    if name.contains('*') || name.contains('/') {
        return Err(wrong());
    }
    match Host::parse(name).map_err(|_| wrong())? {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_owned();
            match (name.is_empty(), below) {
                (true, _) => Err(wrong()),
                (false, true) => Ok(HostRule::Below(name)),
                (false, false) => Ok(HostRule::Name(name)),
            }
        }
        _ if below => Err(wrong()),
        Host::Ipv4(ip) => Ok(HostRule::Network(IpAddr::V4(ip).into())),
        Host::Ipv6(ip) => Ok(HostRule::Network(IpAddr::V6(ip).into())),
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err("is neither a port nor a range of ports".to_owned()),
    }
}

fn network_rule(text: &str) -> Result<NetworkRule, String> {
    let (net, behind) = if let Some(rest) = text.strip_prefix('[') {
        let (net, behind) = rest.split_once(']').ok_or("has no ']'")?;
        let behind = match behind.strip_prefix(':') {
            None if !behind.is_empty() => return Err("has something other than ':PORT' behind its ']'".to_owned()),
            behind => behind,
        };
        (net, behind)
    } else {
        // more than one colon: an IPv6 network, which takes brackets before a port
        let parts = text.split_once(':').filter(|(_, behind)| !behind.contains(':'));
        parts.map_or((text, None), |(net, behind)| (net, Some(behind)))
    };
    let ports = behind.map(|behind| ports(behind).map_err(|_| format!("has the port '{behind}', which is none")));
    Ok(NetworkRule { network: network(net)?, ports: ports.transpose()? })
}

/// A list of networks and addresses joined by commas, the value of `variable`.
pub fn networks(variable: &'static str, text: &str) -> Result<Vec<IpNet>, ConfigError> {
    list(variable, "write NETWORK/BITS or addresses, several joined by commas: 10.0.0.0/8,2001:db8::1", text, network)
}

/// A network, or an address as a network of one; what is wrong with the text otherwise.
pub fn network(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "is not a network such as 10.0.0.0/8".to_owned())?;
    if net.trunc() != net {
        return Err(format!("has bits behind its length; did you mean {}?", net.trunc()));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        egress: EgressArgs,
    }

    fn settings(flag: &str, value: &str) -> Result<EgressSettings, ConfigError> {
        Program::try_parse_from(["test", flag, value]).unwrap().egress.settings()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_defaults_are_strict() {
        let defaults = Program::try_parse_from(["test"]).unwrap().egress.settings().unwrap();
        assert_eq!(defaults.schemes, [Scheme::Https]);
        assert_eq!(defaults.ports, [80..=80, 443..=443, 8080..=8080, 8443..=8443]);
        assert!(
            defaults.allow_hosts.is_empty() && defaults.deny_hosts.is_empty() && defaults.allow_networks.is_empty()
        );
        assert!(defaults.ca.is_none());
    }

    #[test]
    fn lists_are_read() {
        let hosts = settings("--egress-allow-hosts", "Example.COM., *.cdn.example,192.0.2.1,[2001:db8::1]").unwrap();
        let expected = [
            HostRule::Name("example.com".into()),
            HostRule::Below("cdn.example".into()),
            HostRule::Network(net("192.0.2.1/32")),
            HostRule::Network(net("2001:db8::1/128")),
        ];
        assert_eq!(hosts.allow_hosts, expected);
        let cidrs = "10.0.0.0/8,127.0.0.1/32:9000,[fd00::/8]:80-90,fd00::/8,[::1],127.0.0.2";
        let rules = settings("--egress-allow-cidrs", cidrs).unwrap().allow_networks;
        let expected = [
            ("10.0.0.0/8", None),
            ("127.0.0.1/32", Some(9000..=9000)),
            ("fd00::/8", Some(80..=90)),
            ("fd00::/8", None),
            ("::1/128", None),
            ("127.0.0.2/32", None),
        ];
        assert_eq!(rules, expected.map(|(n, ports)| NetworkRule { network: net(n), ports }));
    }

    #[test]
    fn wrong_values_name_the_variable_and_the_fix() {
        for (flag, variable, values) in [
            ("--egress-schemes", "EGRESS_SCHEMES", &["", "ftp", "https://", "HTTPS"][..]),
            (
                "--egress-allow-hosts",
                "EGRESS_ALLOW_HOSTS",
                &["a:80", "https://a", "*", "a.*", "*.10.0.0.1", "a/b", "."],
            ),
            ("--egress-deny-hosts", "EGRESS_DENY_HOSTS", &["10.0.0.1/8", "a b"]),
            ("--egress-ports", "EGRESS_PORTS", &["0", "65536", "9-8", "x", "1-2-3", "-1"]),
            (
                "--egress-allow-cidrs",
                "EGRESS_ALLOW_CIDRS",
                &[
                    "10.0.0.0/33",
                    "10.0.0.1/8",
                    "a",
                    "10.0.0.0/8:0",
                    "[::1/128",
                    "[::1/128]x",
                    "[::1/128]:",
                    "::1/128:80",
                ],
            ),
            ("--egress-ca-file", "EGRESS_CA_FILE", &["/nowhere/ca.pem"]),
        ] {
            for value in values {
                let flag = format!("{flag}={value}");
                let parsed = Program::try_parse_from(["test", &flag]).unwrap().egress.settings();
                let message = parsed.unwrap_err().to_string();
                assert!(
                    message.starts_with(&format!("{variable}: ")) && message.contains("Fix: "),
                    "{value}: {message}"
                );
            }
        }
        assert!(settings("--egress-ports", &"1,".repeat(257)).is_err());
    }

    #[test]
    fn a_permission_that_is_undone_is_refused() {
        let both = |allow: [&str; 2], deny: &str| {
            let line = ["test", allow[0], allow[1], "--egress-deny-hosts", deny];
            Program::try_parse_from(line).unwrap().egress.settings()
        };
        for (allow, deny) in [
            (["--egress-allow-hosts", "a.example,b.example"], "B.example"),
            (["--egress-allow-hosts", "*.example"], "*.example"),
            (["--egress-allow-cidrs", "10.1.0.0/16:9000"], "10.0.0.0/8"),
        ] {
            let message = both(allow, deny).unwrap_err().to_string();
            assert!(message.contains("EGRESS_DENY_HOSTS forbids") && message.contains("Fix: "), "{message}");
        }
        // a part of what is allowed may be forbidden
        assert!(both(["--egress-allow-hosts", "*.example"], "a.example").is_ok());
        assert!(both(["--egress-allow-cidrs", "10.0.0.0/8"], "10.1.0.0/16").is_ok());
    }
}
