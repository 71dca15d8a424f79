//! Where Redis is: one address, or sentinels that know which server is the primary now. `main` parses [`RedisArgs`], the
//! queue connects to the [`RedisEndpoint`] they mean. Connects to nothing itself, and its messages never repeat a value:
//! an address may hold a password.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    RedisResult, TlsCertificates,
};
use secrecy::{ExposeSecret, SecretString};

use super::{ConfigError, Plaintext, PlaintextArgs, Way, certificates, read_secret};

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
    /// Whether Redis, and its sentinels, are spoken to by TLS: on or off; a REDIS_URL says so itself, with rediss://
    #[arg(long, env, value_enum)]
    pub redis_tls: Option<RedisTls>,
    /// File of certificates (PEM) to trust instead of the system's, for a CA of your own
    #[arg(long, env)]
    pub redis_ca_file: Option<PathBuf>,
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

/// How Redis is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RedisTls {
    /// Encrypted, and the server proves its name.
    On,
    /// In clear.
    Off,
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
        /// How to enter it.
        door: RedisDoor,
    },
}

/// How to enter a server, wherever it is.
#[derive(Debug, Clone)]
pub struct RedisDoor {
    login: RedisConnectionInfo,
    tls: Option<TlsCertificates>,
    plaintext: Plaintext,
}

impl RedisEndpoint {
    /// How the way there is protected.
    pub fn way(&self) -> Way {
        let way = |client: &Client| match client.get_connection_info().addr() {
            ConnectionAddr::TcpTls { .. } => Way::Verified,
            ConnectionAddr::Tcp(host, _) if !Plaintext::default().allows(host) => Way::Clear,
            _ => Way::Local,
        };
        match self {
            Self::Fixed(client) => way(client),
            Self::Sentinels { door, .. } if door.tls.is_some() => Way::Verified,
            Self::Sentinels { sentinels, .. } if sentinels.iter().all(|s| way(s) == Way::Local) => Way::Local,
            Self::Sentinels { .. } => Way::Clear,
        }
    }
}

impl RedisDoor {
    /// The address of a server by its host and port.
    pub fn address(&self, host: String, port: u16) -> ConnectionAddr {
        match self.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        }
    }

    /// A client of the server at `address`; an error if it may not be spoken to in clear.
    pub fn open(&self, address: ConnectionAddr) -> RedisResult<Client> {
        if let ConnectionAddr::Tcp(host, _) = &address
            && !self.plaintext.allows(host)
        {
            let problem = "it may not be spoken to without TLS. Set REDIS_TLS=on, or add it to PLAINTEXT_HOSTS";
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, problem, host.clone())));
        }
        open(address.into_connection_info()?.set_redis_settings(self.login.clone()), self.tls.as_ref())
    }
}

impl RedisArgs {
    /// The place these settings mean; connects to nothing yet. Refuses a way that leaves this machine without verified TLS.
    pub fn endpoint(&self, plaintext: &PlaintextArgs) -> Result<RedisEndpoint, ConfigError> {
        let plaintext = plaintext.hosts()?;
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
            (Some(url), None) => self.at_url(&url, &plaintext),
            (None, Some(hosts)) => {
                let door = |login| self.door(login, plaintext.clone());
                let to_sentinels = door(login(sentinel_password.as_ref()))?;
                let open = |(host, port): (String, u16)| {
                    self.check_way("REDIS_SENTINELS", &host, &plaintext)?;
                    let client = to_sentinels.open(to_sentinels.address(host, port));
                    client.map_err(|_| no_address("REDIS_SENTINELS"))
                };
                Ok(RedisEndpoint::Sentinels {
                    sentinels: hosts.into_iter().map(open).collect::<Result<_, _>>()?,
                    master: self.master()?,
                    door: door(self.login()?)?,
                })
            }
            (None, None) => {
                self.check_way("REDIS_HOST", &self.redis_host, &plaintext)?;
                let door = self.door(self.login()?, plaintext)?;
                let client = door.open(door.address(self.redis_host.clone(), self.redis_port));
                client.map(RedisEndpoint::Fixed).map_err(|_| no_address("REDIS_HOST"))
            }
        }
    }

    fn at_url(&self, url: &SecretString, plaintext: &Plaintext) -> Result<RedisEndpoint, ConfigError> {
        const VARIABLE: &str = "REDIS_URL";
        let fix = "write rediss://:PASSWORD@HOST:PORT/DB, redis://:PASSWORD@HOST:PORT/DB or redis+unix:///PATH";
        let wrong = |problem: &str| ConfigError::new(VARIABLE, problem, fix);
        if self.redis_tls.is_some() {
            let problem = "REDIS_URL is set, so it would have no effect";
            return Err(ConfigError::new(
                "REDIS_TLS",
                problem,
                "remove it, and write rediss:// into REDIS_URL for TLS",
            ));
        }
        let info = url.expose_secret().into_connection_info().map_err(|_| wrong("it is not a Redis URL"))?;
        let certificates = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                let problem = "it ends in #insecure, so nobody would check who answers";
                return Err(ConfigError::new(VARIABLE, problem, "remove that, and name your CA in REDIS_CA_FILE"));
            }
            ConnectionAddr::TcpTls { .. } => Some(self.certificates()?),
            other => {
                if let ConnectionAddr::Tcp(host, _) = other {
                    plaintext.check(VARIABLE, host, "write rediss:// and let Redis listen with TLS")?;
                }
                self.check_no_ca("begin REDIS_URL with rediss://")?;
                None
            }
        };
        open(info, certificates.as_ref()).map(RedisEndpoint::Fixed).map_err(|_| wrong("it is not a Redis URL"))
    }

    fn door(&self, login: RedisConnectionInfo, plaintext: Plaintext) -> Result<RedisDoor, ConfigError> {
        let tls = match self.redis_tls {
            Some(RedisTls::On) => Some(self.certificates()?),
            Some(RedisTls::Off) | None => {
                self.check_no_ca("set REDIS_TLS=on")?;
                None
            }
        };
        Ok(RedisDoor { login, tls, plaintext })
    }

    /// What TLS trusts.
    fn certificates(&self) -> Result<TlsCertificates, ConfigError> {
        let root_cert = self.redis_ca_file.as_deref().map(|file| certificates::read("REDIS_CA_FILE", file));
        Ok(TlsCertificates { client_tls: None, root_cert: root_cert.transpose()? })
    }

    fn check_no_ca(&self, fix: &str) -> Result<(), ConfigError> {
        match self.redis_ca_file {
            Some(_) => Err(ConfigError::new("REDIS_CA_FILE", "it is set, and Redis is not spoken to by TLS", fix)),
            None => Ok(()),
        }
    }

    fn check_way(&self, variable: &'static str, host: &str, plaintext: &Plaintext) -> Result<(), ConfigError> {
        match self.redis_tls {
            Some(RedisTls::On) => Ok(()),
            Some(RedisTls::Off) | None => plaintext.check(variable, host, "set REDIS_TLS=on"),
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
    fn sentinels(&self) -> Result<Option<Vec<(String, u16)>>, ConfigError> {
        let wrong =
            |problem: String| ConfigError::new("REDIS_SENTINELS", problem, "write HOST:PORT, several joined by commas");
        let mut addresses: Vec<(String, u16)> = Vec::new();
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
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|p| *p > 0)?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None if host.is_empty() => return None,
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)).then(|| host.to_owned())?,
    };
    Some((host, port))
}

fn login(password: Option<&SecretString>) -> RedisConnectionInfo {
    match password {
        Some(password) => RedisConnectionInfo::default().set_password(password.expose_secret()),
        None => RedisConnectionInfo::default(),
    }
}

/// Every client is made here, so that none waits for ever.
fn open(info: ConnectionInfo, tls: Option<&TlsCertificates>) -> RedisResult<Client> {
    let keepalive = TcpKeepalive::new().with_time(SILENCE / 2).with_interval(SILENCE / 4).with_retries(2);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(SILENCE);
    let info = info.set_tcp_settings(tcp);
    match tls {
        Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        None => Client::open(info),
    }
}

fn no_address(variable: &'static str) -> ConfigError {
    ConfigError::new(variable, "it cannot be made an address", "write a host name or an IP address")
}

#[cfg(test)]
mod tests;
