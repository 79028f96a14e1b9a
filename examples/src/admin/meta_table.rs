//! What a node says of itself, as tables for a person.

use metaserver::{Scopes, Why};

use super::meta::{JournalReport, KeptTokens, MetaScopes, Watchers};
use super::table::{aligned, span};

/// The scopes, those in doubt first, and what sums them up.
pub fn scopes(report: &MetaScopes) -> String {
    let Scopes {
        at_ms, cloud, scopes, ..
    } = &report.held;
    let headings = ["SCOPE", "STATE", "OBJECTS", "BYTES", "HELD BACK"];
    let rows = scopes.iter().map(|scope| {
        let held_back = scope.held_back.as_ref().map(|held| {
            let when = match held.second_look_ms {
                Some(at) if at > *at_ms => format!("confirmed by a second look in {}", ago(*at_ms, at)),
                Some(_) => "a second look is due".into(),
                None => "waits for edgecore meta allow".into(),
            };
            format!(
                "{} of {} deletions for {}; {when}",
                held.deletions,
                held.held,
                ago(held.since_ms, *at_ms)
            )
        });
        vec![
            scope.scope.clone(),
            scope.state.clone(),
            scope.objects.to_string(),
            scope.bytes.to_string(),
            held_back.unwrap_or_else(|| "-".into()),
        ]
    });
    let mut text = aligned(&headings, rows);
    text += &match cloud.away_ms {
        None => match cloud.silent_ms {
            None => "the cloud is reachable\n".to_owned(),
            Some(silent) => format!(
                "the cloud is reachable, and its API server silent for {}\n",
                span(silent)
            ),
        },
        Some(away) => format!("the cloud has been away for {}\n", span(away)),
    };
    if let Some(trouble) = &report.store_trouble {
        text += &format!("changes are refused: {trouble}\n");
    }
    if let Some(notice) = &report.store_notice {
        text += &format!("{notice}\n");
    }
    if let Some(trouble) = &report.api_trouble {
        text += &format!("the node's API does not listen: {trouble}\n");
    }
    text
}

/// The open watches, the oldest first.
pub fn watchers(report: &Watchers) -> String {
    let headings = [
        "WATCH",
        "CLIENT",
        "OVER",
        "SINCE",
        "EVENTS",
        "REVISION",
        "LAST EVENT",
    ];
    let rows = report.watchers.iter().map(|watch| {
        let last = watch.last_event_ms.map(|last| ago(last, report.at_ms));
        vec![
            watch.path.clone(),
            if watch.client.is_empty() {
                "-".into()
            } else {
                watch.client.clone()
            },
            if watch.websocket { "websocket" } else { "http" }.into(),
            ago(watch.since_ms, report.at_ms),
            watch.events.to_string(),
            watch.revision.to_string(),
            last.map_or_else(|| "-".into(), |last| format!("{last} ago")),
        ]
    });
    aligned(&headings, rows) + &format!("{} open\n", report.watchers.len())
}

/// What waits for the cloud, and what it did not take.
pub fn journal(report: &JournalReport) -> String {
    let headings = ["WAITS FOR THE CLOUD", "KIND", "CLASS", "SINCE", "WRITES"];
    let rows = |kind: &'static str, waiting: &[super::meta::Waiting]| -> Vec<Vec<String>> {
        let row = |one: &super::meta::Waiting| {
            let since = ago(one.since_ms, report.at_ms);
            vec![
                one.about.clone(),
                kind.into(),
                one.lane.clone(),
                since,
                one.writes.to_string(),
            ]
        };
        waiting.iter().map(row).collect()
    };
    let rows = rows("write", &report.writes)
        .into_iter()
        .chain(rows("message", &report.first));
    let mut text = aligned(&headings, rows);
    text += &format!(
        "{} messages of {} bytes and {} written objects wait; {} messages made room for others\n",
        report.messages,
        report.bytes,
        report.writes.len(),
        report.dropped
    );
    if !report.conflicts.is_empty() {
        let headings = ["CONFLICT", "REASON", "AT", "WHAT"];
        let rows = report.conflicts.iter().map(|conflict| {
            vec![
                conflict.path.clone(),
                conflict.reason.clone(),
                format!("{} ago", ago(conflict.at_ms, report.at_ms)),
                conflict.message.clone(),
            ]
        });
        text += "\n";
        text += &aligned(&headings, rows);
    }
    text
}

/// Whose tokens are kept, and for how long they are good.
pub fn tokens(report: &KeptTokens) -> String {
    let headings = ["ACCOUNT", "BOUND TO", "FOR", "GOOD FOR", "RENEWED IN"];
    let rows = report.tokens.iter().map(|token| {
        let or = |text: &str, nothing: &str| if text.is_empty() { nothing } else { text }.to_owned();
        vec![
            format!("{}/{}", token.namespace, token.account),
            or(&token.bound_to, "-"),
            or(&token.audiences.join(","), "the API server"),
            ago(report.at_ms, token.ends_ms),
            ago(report.at_ms, token.due_ms),
        ]
    });
    aligned(&headings, rows) + &format!("{} kept\n", report.tokens.len())
}

/// A line for each thing that decided an answer.
pub fn why(why: &Why) -> String {
    let mut lines = vec![("request", format!("{} {}", why.request, why.path))];
    lines.push((
        "answer",
        match why.code {
            Some(code) => format!("{code} from the {}", place(&why.source)),
            None => "as the cloud says".into(),
        },
    ));
    lines.push(("because", why.because.clone()));
    lines.push((
        "cloud",
        match why.cloud.away_ms {
            None => "reachable".into(),
            Some(away) => format!("away for {}", span(away)),
        },
    ));
    if let (Some(scope), Some(state)) = (&why.scope, &why.state) {
        lines.push(("scope", format!("{scope}: {state}")));
    }
    for held in &why.covered_by {
        lines.push(("covered by", held.clone()));
    }
    if let Some(held) = &why.held_back {
        lines.push((
            "held back",
            format!("{} of {} objects may be gone", held.deletions, held.held),
        ));
    }
    lines.push(("who may", why.authorization.clone()));
    for write in &why.writes {
        let rule = write.rule.as_deref().unwrap_or("refused with 503");
        lines.push(("offline", format!("{}: {rule}", write.verb)));
    }
    if why.pending {
        lines.push(("pending", "a write to it is still to be told to the cloud".into()));
    }
    lines
        .iter()
        .map(|(name, text)| format!("{name:<10}  {text}\n"))
        .collect()
}

fn place(source: &str) -> &str {
    match source {
        "own" => "server itself",
        other => other,
    }
}

fn ago(from_ms: i64, to_ms: i64) -> String {
    span(u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0))
}
