//! Logs, and the small server of `/metrics` that every long-running process has on a port of its own.
//! Metric values live beside the code that counts them; names begin with `ffprobe_api_` through the registry's prefix.

mod lines;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use self::lines::Lines;
use crate::config::{ConfigError, LogFormat, TelemetryArgs};

/// Content type of the OpenMetrics text format 1.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What libraries tell of their inner life is kept back unless the operator writes directives.
const QUIET: &str =
    "apalis_core=warn,apalis_redis=warn,h2=warn,hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,sqlx=warn";

/// Starts logging for the whole process. Called once, first thing in `main`.
pub fn init_logs(args: &TelemetryArgs) -> Result<(), ConfigError> {
    let own_level = !args.log_level.contains(['=', ',']);
    let filter = if own_level { format!("{},{QUIET}", args.log_level) } else { args.log_level.clone() };
    let filter = EnvFilter::try_new(filter).map_err(|e| {
        ConfigError::new(
            "LOG_LEVEL",
            format!("'{}' is not a level: {e}", args.log_level),
            "write error, warn, info, debug or trace",
        )
    })?;
    let out = Lines::stdout().map_err(|e| {
        ConfigError::new("standard output", format!("nothing can be logged: {e}"), "raise the limit of open files")
    })?;
    // it would tell of a line that cannot be written on standard error, and panic where that is closed as well
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(out).log_internal_errors(false);
    match args.log_format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).init(),
        LogFormat::Pretty => lines.compact().with_target(false).with_ansi(std::io::stdout().is_terminal()).init(),
    }
    Ok(())
}

/// A registry that already says which build this is.
pub fn registry(version: &'static str) -> Registry {
    let mut registry = Registry::with_prefix("ffprobe_api");
    registry.register("build", "Which build this process is", Info::new(vec![("version", version)]));
    registry
}

/// The address of `METRICS_ADDR`; `None` if it is turned off.
pub fn metrics_address(args: &TelemetryArgs) -> Result<Option<SocketAddr>, ConfigError> {
    let text = &args.metrics_addr;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| wrong_address(format!("'{text}' is not ADDRESS:PORT")))
}

/// Binds the address of `METRICS_ADDR`; `None` if it is turned off.
pub async fn bind_metrics(args: &TelemetryArgs) -> Result<Option<TcpListener>, ConfigError> {
    let Some(addr) = metrics_address(args)? else { return Ok(None) };
    TcpListener::bind(addr).await.map(Some).map_err(|e| wrong_address(format!("cannot listen on {addr}: {e}")))
}

fn wrong_address(problem: String) -> ConfigError {
    ConfigError::new("METRICS_ADDR", problem, "write ADDRESS:PORT with a free port, or leave it empty")
}

/// Serves `/metrics` and `/health/live` until the process ends.
pub async fn serve_metrics(listener: TcpListener, registry: Registry) -> std::io::Result<()> {
    let registry = Arc::new(registry);
    let metrics = get(move || {
        let registry = Arc::clone(&registry);
        async move { render(&registry) }
    });
    let router = Router::new().route("/metrics", metrics).route("/health/live", get(|| async { "alive\n" }));
    axum::serve(listener, router).await
}

fn render(registry: &Registry) -> axum::response::Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
