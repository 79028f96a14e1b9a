//! Health: this server's own, whatever the cloud's is.
//!
//! `/healthz` and `/livez` say that it answers; who restarts a program by them must not restart it for a full disk. `/readyz` says
//! whether all of it works. What people should know besides is in `?verbose`, and fails nothing.

use std::fmt::Write as _;

use crate::accept::Form;
use crate::api::Api;
use crate::fault;
use crate::reply::{self, Reply};
use crate::request::query;

impl Api {
    pub(crate) fn health(&self, path: &str, query_text: &str) -> Reply {
        let mut parts = path.trim_start_matches('/').split('/');
        let (name, check) = (parts.next().unwrap_or_default(), parts.next());
        let trouble = self.store.trouble();
        let fails = name == "readyz" && trouble.is_some();
        let is_verbose = query(query_text).any(|(key, _)| key == "verbose");
        match check {
            None | Some("store") if fails && !is_excluded(query_text, "store") => {
                reply::text(500, self.checks(name, trouble.as_deref(), fails))
            }
            None if is_verbose => reply::text(
                200,
                excluded(query_text, self.checks(name, trouble.as_deref(), fails)),
            ),
            None => reply::text(200, "ok"),
            Some("ping" | "store") => reply::plain(200, "ok"),
            Some(_) => reply::nowhere(),
        }
    }

    fn checks(&self, name: &str, trouble: Option<&str>, fails: bool) -> String {
        let mut text = String::from("[+]ping ok\n");
        // Writing to a String does not fail.
        let _ = match trouble {
            None => writeln!(text, "[+]store ok"),
            Some(trouble) if fails => writeln!(text, "[-]store failed: {trouble}"),
            Some(trouble) => writeln!(text, "[+]store takes no changes: {trouble}"),
        };
        if let Some(notice) = self.store.notice() {
            let _ = writeln!(text, "[+]{notice}");
        }
        if !self.authoritative() {
            let _ = match (self.cloud.away(), self.cloud.silent()) {
                (None, None) => writeln!(text, "[+]cloud ok"),
                (None, Some(silent)) => writeln!(
                    text,
                    "[+]cloud ok, its API server silent for {}s: served from what is held",
                    silent.as_secs()
                ),
                (Some(away), _) => writeln!(
                    text,
                    "[+]cloud away for {}s: served from what is held",
                    away.as_secs()
                ),
            };
            for doubt in self.cloud.held_back().iter() {
                let _ = writeln!(
                    text,
                    "[+]deletions held back: {} of {} in {}",
                    doubt.deletions, doubt.held, doubt.scope
                );
            }
        }
        let outcome = if fails { "failed" } else { "passed" };
        let _ = writeln!(text, "{name} check {outcome}");
        text
    }

    /// What a client is told whose request met a mistake of ours.
    pub(crate) fn panicked(&self) -> Reply {
        self.metrics.panics.inc();
        tracing::error!("a request was answered with 500 after a panic; other requests go on");
        reply::status(&fault::panicked(), Form::PLAIN)
    }
}

fn is_excluded(query_text: &str, check: &str) -> bool {
    query(query_text).any(|(key, value)| key == "exclude" && value == check)
}

/// The same checks, with a word of warning where a client names one to leave out that there is not.
fn excluded(query_text: &str, checks: String) -> String {
    let mut unknown: Vec<String> = query(query_text)
        .filter(|(key, value)| key == "exclude" && !matches!(&**value, "ping" | "store"))
        .map(|(_, value)| format!("{value:?}"))
        .collect();
    unknown.sort();
    unknown.dedup();
    let last = checks.trim_end().rfind('\n').map_or(0, |end| end + 1);
    let (mut text, outcome) = (checks[..last].to_owned(), &checks[last..]);
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        let _ = writeln!(
            text,
            "warn: some health checks cannot be excluded: no matches for {unknown}"
        );
    }
    text + outcome
}
