//! The binary: parses the command line and runs one command.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use host_sync::cli::{self, Cli, Command, LogFormat};
use host_sync::commands;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let command = Cli::of_process().command;
    match &command {
        Command::Run { log_format, .. } => begin_logs(*log_format, "info"),
        _ => begin_logs(LogFormat::Text, "warn"),
    }
    match commands::run(command).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}: {error:#}", cli::name());
            ExitCode::FAILURE
        }
    }
}

fn begin_logs(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
