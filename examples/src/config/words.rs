//! What is said about keys: those without effect, once, and those that nobody knows, with the one that was meant.

use serde_json::Value;
use strsim::damerau_levenshtein;

use super::catalogue::{Catalogue, Fate, Key, Run};
use super::defaults::at;
use super::kind::is_default;

/// A sentence for each run of keys that were given, have no effect here, and ask for something.
pub(super) fn about(catalogue: &'static Catalogue, given: &[(Key, Value)], defaults: &Value) -> Vec<String> {
    let runs = catalogue.runs.iter().copied().flatten();
    runs.filter_map(|run| sentence(run, given, defaults)).collect()
}

fn sentence(run: &'static Run, given: &[(Key, Value)], defaults: &Value) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    let mut enable = None;
    for (key, value) in given.iter().filter(|(key, _)| std::ptr::eq(key.run, run)) {
        if key.name == "enable" {
            enable = value.as_bool();
        }
        if !is_default(value, at(defaults, &key.path())) && !names.contains(&key.name) {
            names.push(key.name);
        }
    }
    match run.fate {
        Fate::Honoured(_) | Fate::Moved(_) => None,
        Fate::Always(advice) => (enable == Some(false) && !names.is_empty())
            .then(|| format!("{}.enable: false has no effect here: {advice}", run.path)),
        Fate::Absent(advice) => {
            let by_default = at(defaults, &format!("{}.enable", run.path)).and_then(Value::as_bool);
            let on = enable.or(by_default).unwrap_or(true);
            (on && (enable.is_some() || !names.is_empty()))
                .then(|| format!("{} has no effect here: {advice}", run.path))
        }
        Fate::Ignored(advice) | Fate::Earlier(advice) => (!names.is_empty())
            .then(|| format!("{} has no effect here: {advice}", together(run.path, &names))),
    }
}

/// `path.name`, or `path.{a, b}`.
fn together(path: &str, names: &[&str]) -> String {
    let shown = names
        .iter()
        .take(NAMED_MAX)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let more = names.len().saturating_sub(NAMED_MAX);
    let names = match (names.len(), more) {
        (1, _) => shown,
        (_, 0) => format!("{{{shown}}}"),
        (_, more) => format!("{{{shown}, and {more} more}}"),
    };
    if path.is_empty() {
        names
    } else {
        format!("{path}.{names}")
    }
}

/// The key that was probably meant by `name` below `path`.
pub(super) fn nearest<'a>(
    keys: impl Iterator<Item = &'a str> + Clone,
    path: &str,
    name: &str,
) -> Option<String> {
    let distance = |a: &str| damerau_levenshtein(&a.to_lowercase(), &name.to_lowercase());
    let full = |segment: &str| {
        if path.is_empty() {
            segment.to_owned()
        } else {
            format!("{path}.{segment}")
        }
    };
    // A slip of the pen among the neighbours.
    let neighbours = keys.clone().filter_map(|key| {
        let rest = if path.is_empty() {
            key
        } else {
            key.strip_prefix(path)?.strip_prefix('.')?
        };
        rest.split('.').next()
    });
    let near = neighbours.min_by_key(|neighbour| distance(neighbour));
    let slip = name.len().div_ceil(4).max(1);
    if let Some(neighbour) = near.filter(|neighbour| distance(neighbour) <= slip) {
        return Some(full(neighbour));
    }
    // The right name at the wrong place: the place that shares most with this one.
    let shared = |key: &str| {
        path.split('.')
            .zip(key.split('.'))
            .take_while(|(a, b)| a == b)
            .count()
    };
    let elsewhere = keys.filter(|key| {
        let segments = key.split('.').collect::<Vec<_>>();
        segments.iter().any(|segment| segment.eq_ignore_ascii_case(name))
    });
    let key = elsewhere.max_by_key(|key| (shared(key), std::cmp::Reverse(key.len())))?;
    // Up to the name that was found.
    let mut found = Vec::new();
    for segment in key.split('.') {
        found.push(segment);
        if segment.eq_ignore_ascii_case(name) {
            break;
        }
    }
    Some(found.join("."))
}

/// Keys that a sentence names; the rest are counted.
const NAMED_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_met_with_the_one_that_was_meant() {
        let paths: Vec<String> = Catalogue::edgecore().keys().map(|key| key.path()).collect();
        let near = |path: &str, name: &str| nearest(paths.iter().map(String::as_str), path, name);
        for (path, name, meant) in [
            ("modules.edgeHub", "heartbeats", Some("modules.edgeHub.heartbeat")),
            ("modules.edgeHub", "hartbeat", Some("modules.edgeHub.heartbeat")),
            ("modules.edgeHub", "httpSever", Some("modules.edgeHub.httpServer")),
            ("", "module", Some("modules")),
            ("modules", "edgehubb", Some("modules.edgeHub")),
            ("", "edgeHub", Some("modules.edgeHub")),
            ("", "token", Some("modules.edgeHub.token")),
            (
                "modules.edged",
                "maxPods",
                Some("modules.edged.tailoredKubeletConfig.maxPods"),
            ),
            ("modules", "bananas", None),
        ] {
            assert_eq!(near(path, name).as_deref(), meant, "{path} {name}");
        }
    }

    #[test]
    fn many_keys_are_counted() {
        assert_eq!(together("a", &["b"]), "a.b");
        assert_eq!(together("", &["b", "c"]), "{b, c}");
        assert_eq!(
            together("a", &["1", "2", "3", "4", "5", "6", "7", "8"]),
            "a.{1, 2, 3, 4, 5, 6, and 2 more}"
        );
    }
}
