//! How the quickstart talks to a person: steps that tick, and small tables.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Talks, or keeps quiet.
#[derive(Debug, Clone, Copy)]
pub struct Show {
    quiet: bool,
    terminal: bool,
}

impl Show {
    /// Talks to standard output unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// A line.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.quiet {
            // A reader that went away is no reason to stop.
            let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
        }
    }

    /// A heading.
    pub fn heading(&self, text: &str) {
        self.line(format!("\n{}", self.bold(text)));
    }

    /// Does a step: a spinner while it runs, a tick with its time and what came of it after.
    pub async fn step<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<(T, String), String>>,
    ) -> Result<T, String> {
        let start = Instant::now();
        let spinner = (!self.quiet && self.terminal).then(|| {
            let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
            spinner.set_style(ProgressStyle::default_spinner());
            spinner.enable_steady_tick(Duration::from_millis(80));
            spinner
        });
        let result = work.await;
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        match result {
            Ok((value, outcome)) => {
                let tick = self.colour("✓", "32");
                self.line(format!(
                    "  {tick} {what:<28} {outcome}  {}",
                    self.faint(&time(start.elapsed()))
                ));
                Ok(value)
            }
            Err(error) => {
                self.line(format!("  {} {what:<28} {error}", self.colour("✗", "31")));
                Err(format!("{what}: {error}"))
            }
        }
    }

    /// A table with a heading line.
    pub fn table(&self, headings: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count());
            cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..headings.len()).map(width).collect();
        let line = |cells: Vec<&str>| -> String {
            let padded = cells
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:width$}"));
            format!("  {}", padded.collect::<Vec<_>>().join("   ").trim_end())
        };
        self.line(self.faint(&line(headings.to_vec())));
        for row in rows {
            self.line(line(row.iter().map(String::as_str).collect()));
        }
    }

    /// Bold, on a terminal.
    pub fn bold(&self, text: &str) -> String {
        self.colour(text, "1")
    }

    fn faint(&self, text: &str) -> String {
        self.colour(text, "2")
    }

    fn colour(&self, text: &str, code: &str) -> String {
        if self.terminal {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A time as people say it.
pub fn time(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..1_000 => format!("{micros} µs"),
        micros @ 1_000..10_000 => format!("{:.1} ms", micros as f64 / 1e3),
        micros @ 10_000..1_000_000 => format!("{} ms", micros / 1_000),
        micros => format!("{:.1} s", micros as f64 / 1e6),
    }
}
