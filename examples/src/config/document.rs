//! The tables of `docs/operations.md`, held to the catalogue.

use std::path::Path;

use serde_json::Value;

use super::catalogue::{Catalogue, Fate, Run};
use super::defaults::at;
use super::host::Host;

impl Catalogue {
    /// The tables: what has an effect, and what has none.
    fn tables(&self) -> String {
        let defaults = self.defaults(&Host {
            address: SOME_HOST.parse().unwrap(),
            name: "‹its name›".into(),
        });
        let runs = || self.runs.iter().copied().flatten();
        let mut text = format!(
            "| Key of `{}.yaml` | Default | What it does |\n|---|---|---|\n",
            self.program
        );
        for run in runs() {
            if let Fate::Honoured(about) = run.fate {
                let values = run.keys().map(|key| show(at(&defaults, &key.path())));
                let values = values.collect::<Vec<_>>().join(", ");
                text += &format!("| {} | {values} | {about} |\n", names(run));
            }
        }
        text += "\n| Key without effect | What to do |\n|---|---|\n";
        for run in runs() {
            let advice = match run.fate {
                Fate::Honoured(_) => continue,
                Fate::Ignored(advice) | Fate::Earlier(advice) => advice.to_owned(),
                Fate::Always(advice) => format!("nothing: {advice}"),
                Fate::Absent(advice) => format!("switch it off: {advice}"),
                Fate::Moved(to) => format!("write `{to}`; it is taken as that"),
            };
            text += &format!("| {} | {advice} |\n", names(run));
        }
        text
    }
}

fn names(run: &'static Run) -> String {
    let names = run.keys().map(|key| key.name).collect::<Vec<_>>();
    let dot = if run.path.is_empty() { "" } else { "." };
    match names.as_slice() {
        [name] => format!("`{}{dot}{name}`", run.path),
        names if run.path.is_empty() => format!("`{}`", names.join("`, `")),
        names => format!("`{}.{{{}}}`", run.path, names.join(", ")),
    }
}

fn show(default: Option<&Value>) -> String {
    match default {
        None | Some(Value::Null) => "none".into(),
        Some(Value::String(text)) if text.is_empty() => "empty".into(),
        Some(Value::String(text)) => format!("`{}`", text.replace(SOME_HOST, "‹its address›")),
        Some(Value::Array(items)) if items.is_empty() => "none".into(),
        Some(Value::Array(items)) => {
            let items = items.iter().map(|item| show(Some(item)));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        Some(Value::Object(entries)) if entries.is_empty() => "none".into(),
        Some(other) => other.to_string(),
    }
}

/// Stands for the host's address.
const SOME_HOST: &str = "192.0.2.1";

#[test]
fn the_tables_of_the_operations_page_are_those_of_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let mut expected = page.clone();
    for catalogue in [Catalogue::cloudcore(), Catalogue::edgecore()] {
        let begin = format!("<!-- the keys of {}.yaml -->\n", catalogue.program);
        let (before, rest) = expected.split_once(&begin).unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        expected = format!("{before}{begin}{}<!-- end -->{after}", catalogue.tables());
    }
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert!(
            page == expected,
            "the tables differ: run this test once with WRITE_DOCS=1, and look at what changed"
        );
    }
}
