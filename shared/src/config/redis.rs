//! Where Redis is: one address, or sentinels that know which server is the primary now. `main` parses [`RedisArgs`], the
//! queue connects to the [`RedisEndpoint`] they mean. Connects to nothing itself, and its messages never repeat a value:
//! an address may hold a password.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisResult};
use secrecy::{ExposeSecret, SecretString};

use super::{ConfigError, read_secret};

/// Most sentinels one may name; three or five are usual.
const SENTINELS_MAX: usize = 16;
/// A server that vanished without a word (a pulled cable, an address that went elsewhere) ends a connection after this
/// long. Left to itself the kernel takes a quarter of an hour, and for one that only listens two hours.
const SILENCE: Duration = Duration::from_secs(10);

/// Where Redis is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisArgs {
    /// Connection URL (redis://, rediss://, redis+unix://); if set, the other REDIS_* variables are not used
    #[arg(long, env, hide_env_values = true)]
    pub redis_url: Option<SecretString>,
    /// File holding the connection URL
    #[arg(long, env)]
    pub redis_url_file: Option<PathBuf>,
    /// Host name
    #[arg(long, env, default_value = "127.0.0.1")]
    pub redis_host: String,
    /// Port
    #[arg(long, env, default_value_t = 6379)]
    pub redis_port: u16,
    /// Password
    #[arg(long, env, hide_env_values = true)]
    pub redis_password: Option<SecretString>,
    /// File holding the password
    #[arg(long, env)]
    pub redis_password_file: Option<PathBuf>,
    /// Database number
    #[arg(long, env, default_value_t = 0)]
    pub redis_db: i64,
    /// Sentinels to ask for the primary, instead of a URL or a host: HOST:PORT,HOST:PORT
    #[arg(long, env, default_value = "", hide_env_values = true)]
    pub redis_sentinels: String,
    /// What the sentinels call the primary
    #[arg(long, env, default_value = "mymaster")]
    pub redis_sentinel_master: String,
    /// Password of the sentinels themselves
    #[arg(long, env, hide_env_values = true)]
    pub redis_sentinel_password: Option<SecretString>,
    /// File holding the password of the sentinels
    #[arg(long, env)]
    pub redis_sentinel_password_file: Option<PathBuf>,
}

/// Where Redis is, ready to be connected to.
#[derive(Debug, Clone)]
pub enum RedisEndpoint {
    /// One address that always leads to the primary.
    Fixed(Client),
    /// The address of the primary changes; ask these.
    Sentinels {
        /// The sentinels.
        sentinels: Vec<Client>,
        /// What they call the primary.
        master: String,
        /// How to log in to it.
        login: RedisConnectionInfo,
    },
}

impl RedisArgs {
    /// The place these settings mean; connects to nothing yet.
    pub fn endpoint(&self) -> Result<RedisEndpoint, ConfigError> {
        let url = read_secret("REDIS_URL", self.redis_url.as_ref(), self.redis_url_file.as_deref())?;
        let sentinel_password = read_secret(
            "REDIS_SENTINEL_PASSWORD",
            self.redis_sentinel_password.as_ref(),
            self.redis_sentinel_password_file.as_deref(),
        )?;
        match (url, self.sentinels()?) {
            (Some(_), Some(_)) => Err(ConfigError::new(
                "REDIS_SENTINELS",
                "REDIS_URL is set, too, and they may lead to different servers",
                "keep one of the two; with REDIS_SENTINELS the password goes into REDIS_PASSWORD",
            )),
            (_, None) if sentinel_password.is_some() => Err(ConfigError::new(
                "REDIS_SENTINEL_PASSWORD",
                "it is set, and REDIS_SENTINELS is not",
                "name the sentinels in REDIS_SENTINELS, or remove the password",
            )),
            (Some(url), None) => {
                let client = url.expose_secret().into_connection_info().and_then(open);
                client.map(RedisEndpoint::Fixed).map_err(|_| {
                    ConfigError::new(
                        "REDIS_URL",
                        "it is not a Redis URL",
                        "write redis://:PASSWORD@HOST:PORT/DB or redis+unix:///PATH",
                    )
                })
            }
            (None, Some(addresses)) => {
                let login = login(sentinel_password.as_ref());
                let sentinels = addresses.into_iter().map(|at| open_at(at, login.clone())).collect::<RedisResult<_>>();
                Ok(RedisEndpoint::Sentinels {
                    sentinels: sentinels.map_err(|_| no_address("REDIS_SENTINELS"))?,
                    master: self.master()?,
                    login: self.login()?,
                })
            }
            (None, None) => {
                let address = ConnectionAddr::Tcp(self.redis_host.clone(), self.redis_port);
                open_at(address, self.login()?).map(RedisEndpoint::Fixed).map_err(|_| no_address("REDIS_HOST"))
            }
        }
    }

    fn login(&self) -> Result<RedisConnectionInfo, ConfigError> {
        let password =
            read_secret("REDIS_PASSWORD", self.redis_password.as_ref(), self.redis_password_file.as_deref())?;
        Ok(login(password.as_ref()).set_db(self.redis_db))
    }

    fn master(&self) -> Result<String, ConfigError> {
        let name = &self.redis_sentinel_master;
        // what Sentinel itself takes
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) {
            return Err(ConfigError::new(
                "REDIS_SENTINEL_MASTER",
                "it is not a name of letters, digits, '.', '-' and '_'",
                "write the name that stands in the line 'sentinel monitor NAME …' of the sentinels",
            ));
        }
        Ok(name.clone())
    }

    /// The addresses of the sentinels, in the order written; none if there is no list.
    fn sentinels(&self) -> Result<Option<Vec<ConnectionAddr>>, ConfigError> {
        let wrong =
            |problem: String| ConfigError::new("REDIS_SENTINELS", problem, "write HOST:PORT, several joined by commas");
        let mut addresses: Vec<ConnectionAddr> = Vec::new();
        let parts = self.redis_sentinels.split(',').map(str::trim).enumerate().filter(|(_, part)| !part.is_empty());
        for (at, part) in parts {
            let number = at + 1;
            let address = host_and_port(part).ok_or_else(|| wrong(format!("entry {number} is not HOST:PORT")))?;
            if addresses.contains(&address) {
                return Err(wrong(format!("entry {number} stands in the list twice")));
            }
            addresses.push(address);
        }
        if addresses.len() > SENTINELS_MAX {
            return Err(wrong(format!("there are more than {SENTINELS_MAX}")));
        }
        Ok(Some(addresses).filter(|a| !a.is_empty()))
    }
}

/// Reads `host:26379` or `[::1]:26379`.
fn host_and_port(text: &str) -> Option<ConnectionAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|p| *p > 0)?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None if host.is_empty() => return None,
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)).then(|| host.to_owned())?,
    };
    Some(ConnectionAddr::Tcp(host, port))
}

fn login(password: Option<&SecretString>) -> RedisConnectionInfo {
    match password {
        Some(password) => RedisConnectionInfo::default().set_password(password.expose_secret()),
        None => RedisConnectionInfo::default(),
    }
}

/// A client of the server at `address`. Every client is made here or by [`open`], so that none waits for ever.
pub fn open_at(address: ConnectionAddr, login: RedisConnectionInfo) -> RedisResult<Client> {
    open(address.into_connection_info()?.set_redis_settings(login))
}

fn open(info: ConnectionInfo) -> RedisResult<Client> {
    let keepalive = TcpKeepalive::new().with_time(SILENCE / 2).with_interval(SILENCE / 4).with_retries(2);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(SILENCE);
    Client::open(info.set_tcp_settings(tcp))
}

fn no_address(variable: &'static str) -> ConfigError {
    ConfigError::new(variable, "it cannot be made an address", "write a host name or an IP address")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        redis: RedisArgs,
    }

    fn endpoint(arguments: &[&str]) -> Result<RedisEndpoint, ConfigError> {
        Cli::parse_from([&["x"], arguments].concat()).redis.endpoint()
    }

    fn addresses(list: &str) -> Vec<String> {
        match endpoint(&["--redis-sentinels", list]).unwrap() {
            RedisEndpoint::Sentinels { sentinels, .. } => {
                sentinels.iter().map(|s| s.get_connection_info().addr().to_string()).collect()
            }
            RedisEndpoint::Fixed(client) => vec![format!("fixed {}", client.get_connection_info().addr())],
        }
    }

    fn refusal(arguments: &[&str]) -> String {
        let message = endpoint(arguments).unwrap_err().to_string();
        assert!(message.contains("Fix: ") && !message.contains("hunter2"), "{arguments:?}: {message}");
        message
    }

    #[test]
    fn sentinels_are_read_in_order() {
        assert_eq!(addresses("b:26379, a.example:1 ,10.0.0.1:2"), ["b:26379", "a.example:1", "10.0.0.1:2"]);
        assert_eq!(addresses("[::1]:26379,"), ["::1:26379"]);
        for none in ["", " ", ","] {
            assert_eq!(addresses(none), ["fixed 127.0.0.1:6379"], "{none}");
        }
    }

    #[test]
    fn malformed_sentinels_are_refused() {
        for bad in [
            "a",
            "a:",
            ":26379",
            "a:0",
            "a:65536",
            "a b:1",
            "redis://a:26379",
            ":hunter2@a:26379",
            "::1:26379",
            "[a]:1",
            "a:1;b:1",
        ] {
            let message = refusal(&["--redis-sentinels", bad]);
            assert!(message.starts_with("REDIS_SENTINELS: entry 1 is not HOST:PORT"), "{bad}: {message}");
        }
        assert!(refusal(&["--redis-sentinels", "a:1,b:2,a:1"]).contains("entry 3 stands in the list twice"));
        let many: Vec<String> = (1..=17).map(|n| format!("a:{n}")).collect();
        assert!(refusal(&["--redis-sentinels", &many.join(",")]).contains("more than 16"));
    }

    #[test]
    fn contradictions_are_refused() {
        let both = refusal(&["--redis-sentinels", "a:1", "--redis-url", "redis://:hunter2@a"]);
        assert!(both.starts_with("REDIS_SENTINELS: REDIS_URL is set, too"), "{both}");
        for lonely in [
            &["--redis-sentinel-password", "hunter2"][..],
            &["--redis-sentinel-password", "x", "--redis-url", "redis://a"],
        ] {
            assert!(refusal(lonely).starts_with("REDIS_SENTINEL_PASSWORD: it is set, and REDIS_SENTINELS is not"));
        }
        for name in ["", "my master", "my\nmaster"] {
            let message = refusal(&["--redis-sentinels", "a:1", "--redis-sentinel-master", name]);
            assert!(message.starts_with("REDIS_SENTINEL_MASTER: "), "{message}");
        }
        assert!(refusal(&["--redis-url", "http://hunter2@a"]).starts_with("REDIS_URL: "));
    }

    #[test]
    fn an_empty_url_is_none() {
        assert!(matches!(
            endpoint(&["--redis-url", "", "--redis-sentinels", "a:1"]),
            Ok(RedisEndpoint::Sentinels { .. })
        ));
    }

    #[test]
    fn each_password_goes_where_it_belongs() {
        let all =
            ["--redis-sentinels", "a:1", "--redis-password", "p", "--redis-sentinel-password", "s", "--redis-db", "3"];
        let Ok(RedisEndpoint::Sentinels { sentinels, master, login }) = endpoint(&all) else { panic!("not sentinels") };
        assert_eq!(master, "mymaster");
        assert_eq!((login.password(), login.db()), (Some("p"), 3));
        let sentinel = sentinels[0].get_connection_info().redis_settings();
        assert_eq!((sentinel.password(), sentinel.db()), (Some("s"), 0));
    }
}
