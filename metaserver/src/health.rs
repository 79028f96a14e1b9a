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
        let trouble = self.store.trouble().filter(|_| name == "readyz");
        let is_verbose = query(query_text).any(|(key, _)| key == "verbose");
        match (check, &trouble) {
            (None | Some("store"), Some(_)) => reply::text(500, self.checks(name, trouble.as_deref())),
            (None, None) if is_verbose => reply::text(200, self.checks(name, None)),
            (None | Some("ping" | "store"), _) => reply::text(200, "ok"),
            (Some(_), _) => reply::nowhere(),
        }
    }

    fn checks(&self, name: &str, trouble: Option<&str>) -> String {
        let mut text = String::from("[+]ping ok\n");
        // Writing to a String does not fail.
        let _ = match trouble {
            None => writeln!(text, "[+]store ok"),
            Some(trouble) => writeln!(text, "[-]store failed: {trouble}"),
        };
        if !self.authoritative() {
            let _ = match self.cloud.away() {
                None => writeln!(text, "[+]cloud ok"),
                Some(away) => writeln!(
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
        let outcome = if trouble.is_some() { "failed" } else { "passed" };
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
