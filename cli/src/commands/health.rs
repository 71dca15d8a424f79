//! `probectl health`: is the service well, and are its workers?

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::{SUCCESS, UNHEALTHY};
use crate::client::Client;
use crate::terminal;

/// Asks whether the service is well.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Print the answers as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(client: &Client, args: HealthArgs) -> Result<u8> {
    let (_, service) = client.get_any_status("/health").await?;
    let (status, probing) = client.get_any_status("/api/v1/probe/health").await?;
    if args.json {
        terminal::json(&serde_json::json!({"service": service, "probing": probing}));
    } else {
        let word = |v: &Value| v.as_str().unwrap_or("unknown").to_owned();
        terminal::line(&format!("service   {}", word(&service["status"])));
        for part in ["database", "redis", "storage"] {
            terminal::line(&format!("  {part:<8} {}", word(&service[part])));
        }
        let why = if status.is_success() { word(&probing["status"]) } else { word(&probing["detail"]) };
        terminal::line(&format!("probing   {why}"));
        if probing["queued"].is_number() {
            terminal::line(&format!("  queued  {}\n  running {}", probing["queued"], probing["running"]));
        }
        if probing["audit_append_only"] == false {
            terminal::line("  audit   the service's database role may change the audit trail; see docs/operations.md");
        }
        for worker in probing["workers"].as_array().into_iter().flatten() {
            terminal::line(&format!(
                "  worker  {} {}/{} busy, ffprobe {}",
                word(&worker["name"]),
                worker["busy"],
                worker["slots"],
                word(&worker["ffprobe_version"])
            ));
        }
    }
    let well = service["status"] != "unhealthy" && probing["status"] == "healthy";
    Ok(if well { SUCCESS } else { UNHEALTHY })
}
