//! Settings of how often and how much: rates of requests, and jobs that may wait. Read by the API's own settings; what they
//! mean is in `shared::limit` and [`crate::limits`].

use clap::Args;
use shared::config::ConfigError;
use shared::limit::Rate;

use crate::limits::Rates;
use crate::limits::backlog::MOST;

/// How often one may ask, and how much may wait.
#[derive(Debug, Clone, Args)]
pub struct RateArgs {
    /// Requests of a key: a minute, and at once (PER_MINUTE:BURST); 0: no limit
    #[arg(long, env, default_value = "6000:500")]
    pub rate_limit_per_key: String,
    /// Requests of all keys of a tenant, unless its own row says otherwise; 0: no limit
    #[arg(long, env, default_value = "30000:2500")]
    pub rate_limit_per_tenant: String,
    /// Requests from an address (IPv6: a /64), whoever asks; 0: no limit
    #[arg(long, env, default_value = "30000:2500")]
    pub rate_limit_per_address: String,
    /// Refused credentials from an address; 0: no limit
    #[arg(long, env, default_value = "10:10")]
    pub rate_limit_failed_auth: String,
    /// Jobs of a tenant that may wait, unless its own row says otherwise
    #[arg(long, env, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    pub max_queued_jobs: u32,
}

impl RateArgs {
    /// The rates, if all of them are some.
    pub fn rates(&self) -> Result<Rates, ConfigError> {
        Ok(Rates {
            key: rate("RATE_LIMIT_PER_KEY", &self.rate_limit_per_key)?,
            tenant: rate("RATE_LIMIT_PER_TENANT", &self.rate_limit_per_tenant)?,
            address: rate("RATE_LIMIT_PER_ADDRESS", &self.rate_limit_per_address)?,
            authentication: rate("RATE_LIMIT_FAILED_AUTH", &self.rate_limit_failed_auth)?,
        })
    }
}

fn rate(variable: &'static str, text: &str) -> Result<Option<Rate>, ConfigError> {
    if text.trim() == "0" {
        return Ok(None);
    }
    let wrong = |e| ConfigError::new(variable, format!("'{text}': {e}"), "write it as 6000:500, or 0 for no limit");
    text.parse().map(Some).map_err(wrong)
}
