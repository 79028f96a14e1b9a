//! Logs to standard error, one event a line: as text, where journald adds the time and we only do it for people at a terminal, or as JSON
//! with time, level, fields and the spans around it.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line, for whoever collects logs.
    Json,
}

/// Starts logging. `RUST_LOG` decides what is said; without it `default`, such as `info`.
pub fn init(default: &str, format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal && format == LogFormat::Text)
        .with_target(false);
    // A second initialisation, in a program that embeds two, keeps the first.
    let _ = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text if terminal => lines.try_init(),
        LogFormat::Text => lines.without_time().try_init(),
    };
}
