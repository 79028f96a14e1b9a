//! Prints what a running program said, once or again and again.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::ValueEnum;

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// Everything that is known.
    Json,
}

/// Prints the text that `ask` brings; with `watch` every two seconds, until the reader goes away.
pub async fn print(
    watch: bool,
    output: Output,
    ask: impl AsyncFn() -> Result<String, String>,
) -> Result<(), String> {
    loop {
        let text = ask().await?;
        let mut out = std::io::stdout().lock();
        // A terminal shows the newest only; a file or pipe gets them all.
        let clear = if watch && output == Output::Table && out.is_terminal() {
            "\u{1b}[H\u{1b}[2J"
        } else {
            ""
        };
        // A reader that went away, such as `head`, is no error.
        if write!(out, "{clear}{text}").and_then(|()| out.flush()).is_err() || !watch {
            return Ok(());
        }
        drop(out);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);
