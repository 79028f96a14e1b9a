//! Health: this server's own, whatever the cloud's is.
//!
//! `/healthz` and `/livez` say that it answers; who restarts a program by them must not restart it for a full disk. `/readyz` says
//! whether all of it works. What people should know besides is in `?verbose`, and fails nothing. The cluster itself calls its checks by
//! the names that a kube-apiserver has for the same things; its store is what clients know as etcd.

use std::fmt::Write as _;

use crate::accept::Form;
use crate::api::Api;
use crate::fault;
use crate::reply::{self, Reply};
use crate::request::query;

impl Api {
    pub(crate) fn health(&self, path: &str, query_text: &str) -> Reply {
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (name, check) = (parts.next().unwrap_or_default(), parts.next());
        let trouble = self.store.trouble();
        let fails = name == "readyz" && trouble.is_some();
        let checks = self.checks(name, fails);
        let is_verbose = query(query_text).any(|(key, _)| key == "verbose");
        match check {
            None if fails && !is_excluded(query_text, self.store_check()) => {
                reply::text(500, self.report(name, &checks, trouble.as_deref(), fails))
            }
            None if is_verbose => reply::text(
                200,
                excluded(
                    query_text,
                    &checks,
                    self.report(name, &checks, trouble.as_deref(), fails),
                ),
            ),
            None => reply::text(200, "ok"),
            Some(check) if fails && check == self.store_check() => {
                reply::text(500, self.report(name, &checks, trouble.as_deref(), fails))
            }
            Some(check) if checks.contains(&check) => reply::plain(200, "ok"),
            Some(_) => reply::nowhere(),
        }
    }

    /// The same as metrics, for those who count how often a cluster is well.
    pub(crate) fn sample_of_checks(&self) -> String {
        let trouble = self.store.trouble();
        let mut text = String::from(
            "# HELP kubernetes_healthcheck 1 where a check of health is passed, else 0.\n\
             # TYPE kubernetes_healthcheck gauge\n",
        );
        for name in ["healthz", "livez", "readyz"] {
            let fails = name == "readyz" && trouble.is_some();
            for check in self.checks(name, fails) {
                let passed = u8::from(!(fails && check == self.store_check()));
                // Writing to a String does not fail.
                let _ = writeln!(
                    text,
                    "kubernetes_healthcheck{{name={check:?},type={name:?}}} {passed}"
                );
            }
        }
        text
    }

    fn store_check(&self) -> &'static str {
        if self.authoritative() { "etcd" } else { "store" }
    }

    /// The checks there are. A kube-apiserver is ready whatever its store says, and so does not name it there.
    fn checks(&self, name: &str, fails: bool) -> Vec<&'static str> {
        match (self.authoritative(), name) {
            (false, _) => vec!["ping", "store"],
            (true, "readyz") if fails => vec!["ping", "log", "etcd", "informer-sync", "shutdown"],
            (true, "readyz") => vec!["ping", "log", "informer-sync", "shutdown"],
            (true, _) => vec!["ping", "log", "etcd"],
        }
    }

    fn report(&self, name: &str, checks: &[&str], trouble: Option<&str>, fails: bool) -> String {
        let mut text = String::new();
        for check in checks {
            // Writing to a String does not fail.
            let _ = match trouble.filter(|_| *check == self.store_check()) {
                None => writeln!(text, "[+]{check} ok"),
                Some(trouble) if fails => writeln!(text, "[-]{check} failed: {trouble}"),
                Some(trouble) => writeln!(text, "[+]{check} takes no changes: {trouble}"),
            };
        }
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

/// The same report, without what a client wants to leave out, and with a word of warning where that is nothing.
fn excluded(query_text: &str, checks: &[&str], report: String) -> String {
    let mut unknown: Vec<String> = query(query_text)
        .filter(|(key, value)| key == "exclude" && !checks.contains(&&**value))
        .map(|(_, value)| format!("{value:?}"))
        .collect();
    unknown.sort();
    unknown.dedup();
    let mut text = String::new();
    let mut lines: Vec<&str> = report.lines().collect();
    let outcome = lines.pop().unwrap_or_default();
    for line in lines {
        let check = line
            .trim_start_matches("[+]")
            .split(' ')
            .next()
            .unwrap_or_default();
        let _ = match is_excluded(query_text, check) {
            true => writeln!(text, "[+]{check} excluded: ok"),
            false => writeln!(text, "{line}"),
        };
    }
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        let _ = writeln!(
            text,
            "warn: some health checks cannot be excluded: no matches for {unknown}"
        );
    }
    let _ = writeln!(text, "{outcome}");
    text
}
