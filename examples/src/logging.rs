//! Logs to standard error, one event a line: journald adds the time, so we only do it for people at a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Starts logging. `RUST_LOG` decides what is said; without it `default`, such as `info`.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::stderr().is_terminal();
    let format = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_target(false);
    // A second initialisation, in a program that embeds two, keeps the first.
    let _ = if terminal {
        format.try_init()
    } else {
        format.without_time().try_init()
    };
}
