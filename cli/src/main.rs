//! `probectl`: reads the command line and the environment, and runs one command.

use std::process::ExitCode;

use clap::Parser;
use cli::commands::{Cli, Command, FAILED, run};
use cli::terminal;
use shared::config::{LogFormat, TelemetryArgs};
use shared::telemetry;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into).and_then(|runtime| {
            if matches!(cli.command, Command::Up(_)) {
                let format = TelemetryArgs {
                    log_level: "info".into(),
                    log_format: LogFormat::Pretty,
                    metrics_addr: String::new(),
                };
                telemetry::init_logs(&format)?;
            }
            // this thread lives as long as the program, as children that die with it need
            runtime.block_on(run(cli))
        });
    outcome.unwrap_or_else(|error: anyhow::Error| {
        terminal::remark(&format!("probectl: {error:#}"));
        FAILED.into()
    })
}
