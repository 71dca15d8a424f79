//! Who reaches the API, and by what: proxies, addresses, origins, its own address and listeners. The part of the settings in
//! which a slip opens the service to others, so contradictions stop the start here. Called by `main`; asks nobody.

use std::net::{IpAddr, SocketAddr};

use axum::http::Uri;
use ipnet::IpNet;
use shared::config::{self, ConfigError};

use super::{ServeArgs, list};
use crate::client::Gate;

impl ServeArgs {
    /// Whom to believe about addresses, and whom to let in.
    pub fn gate(&self) -> Result<Gate, ConfigError> {
        let gate = Gate {
            trusted: config::networks("TRUSTED_PROXIES", &self.trusted_proxies)?,
            allow: config::networks("IP_ALLOW", &self.ip_allow)?,
            deny: config::networks("IP_DENY", &self.ip_deny)?,
        };
        if gate.trusted.iter().any(|network| network.prefix_len() == 0) {
            let problem = "it believes everybody, so a client could say that it comes from anywhere";
            let fix = "name the addresses of the proxies in front, and nothing else";
            return Err(ConfigError::new("TRUSTED_PROXIES", problem, fix));
        }
        let denied = |network: &IpNet| gate.deny.iter().any(|deny| deny.contains(network));
        if let Some(network) = gate.allow.iter().find(|network| denied(network)) {
            let problem = format!("it allows {network}, which IP_DENY forbids");
            return Err(ConfigError::new("IP_ALLOW", problem, "remove the entry from one of the two"));
        }
        Ok(gate)
    }

    /// The origins of web pages that may upload.
    pub fn origins(&self) -> Result<Vec<String>, ConfigError> {
        let words: Vec<String> = list(&self.cors_origins).map(str::to_owned).collect();
        let good = |w: &&String| {
            let host = w.strip_prefix("https://").or_else(|| w.strip_prefix("http://"));
            w.as_str() == "*" || host.is_some_and(|h| !h.is_empty() && !h.contains('/'))
        };
        if words.len() > 1 && words.iter().any(|w| w == "*") {
            let problem = "'*' stands for all, and there are others beside it";
            return Err(ConfigError::new("CORS_ORIGINS", problem, "keep '*' alone, or the others"));
        }
        match words.iter().find(|w| !good(w)) {
            None => Ok(words),
            Some(wrong) => Err(ConfigError::new(
                "CORS_ORIGINS",
                format!("'{wrong}' is not an origin"),
                "write https://HOST without a path, several joined by commas",
            )),
        }
    }

    /// What clients reach us by, without a trailing slash. It leads elsewhere by TLS only, unless the network is trusted:
    /// clients follow the links that are made of it, with their keys.
    pub fn checked_base_url(&self) -> Result<String, ConfigError> {
        const VARIABLE: &str = "BASE_URL";
        let url = self.base_url.trim_end_matches('/');
        if url.is_empty() {
            return Ok(String::new());
        }
        let wrong = || {
            let problem = format!("'{url}' is not an http or https URL");
            ConfigError::new(VARIABLE, problem, "write it as https://HOST, or leave it empty")
        };
        let parsed: Uri = url.parse().map_err(|_| wrong())?;
        match (parsed.scheme_str(), parsed.host()) {
            (Some("https"), Some(_)) => {}
            (Some("http"), Some(host)) => {
                let fix = "let a proxy in front end TLS, and write https:// (docs/tls.md)";
                self.plaintext.hosts()?.check(VARIABLE, host, fix)?;
            }
            _ => return Err(wrong()),
        }
        let names_a_user = parsed.authority().is_some_and(|a| a.as_str().contains('@'));
        if parsed.query().is_some() || url.contains('#') || names_a_user {
            let problem = "it has more than a scheme, a host, a port and a path";
            return Err(ConfigError::new(VARIABLE, problem, "write it as https://HOST, or leave it empty"));
        }
        Ok(url.to_owned())
    }

    /// Two listeners cannot have one port.
    pub fn check_listeners(&self) -> Result<(), ConfigError> {
        let metrics: Option<SocketAddr> = self.telemetry.metrics_addr.parse().ok();
        let hosts = [self.api_host, metrics.map_or(self.api_host, |m| m.ip())];
        let overlap = hosts[0] == hosts[1] || hosts.iter().any(IpAddr::is_unspecified);
        if self.api_port != 0 && overlap && metrics.is_some_and(|m| m.port() == self.api_port) {
            let problem = "it is the port of API_PORT, too";
            return Err(ConfigError::new("METRICS_ADDR", problem, "choose another port for one of the two"));
        }
        Ok(())
    }

    /// Whether clients of other machines come in clear, as far as the settings tell.
    pub fn is_open_in_clear(&self) -> bool {
        !self.api_host.is_loopback() && self.trusted_proxies.trim().is_empty() && !self.base_url.starts_with("https://")
    }
}
