//! The nodes as a table for a person who looks for the one that hangs.

use super::nodes::{Node, Nodes, OK};

/// An aligned table and a line that sums it up. What is wrong stands on top.
pub fn table(nodes: &Nodes) -> String {
    let rows = nodes.nodes.iter().map(|node| row(node, nodes.at_ms));
    let mut text = aligned(&HEADINGS, rows);
    let (all, connected) = (
        nodes.nodes.len(),
        nodes.nodes.iter().filter(|node| node.connected).count(),
    );
    let troubled = nodes.nodes.iter().filter(|node| node.state != OK).count();
    text.push_str(&format!(
        "{connected} connected, {} away; {troubled} of {all} want a look\n",
        all - connected
    ));
    text
}

/// Rows below headings, each column as wide as its widest cell.
pub(super) fn aligned(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut all = vec![headings.iter().map(|heading| (*heading).to_owned()).collect()];
    all.extend(rows);
    let width = |column: usize| {
        all.iter()
            .map(|row: &Vec<String>| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for row in &all {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(node: &Node, now_ms: u64) -> Vec<String> {
    let or = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let error = node.last_error.as_ref().map(|error| {
        let ago = now_ms.saturating_sub(error.at_ms);
        format!("{} ({} ago)", error.what, span(ago))
    });
    // A connection that takes no bytes says more than how long nothing came.
    let state = match node.stuck_ms {
        Some(stuck) if node.state == "takes nothing" => format!("{} for {}", node.state, span(stuck)),
        _ => node.state.clone(),
    };
    vec![
        node.node.clone(),
        state,
        span(now_ms.saturating_sub(node.since_ms)),
        or(node.transport.clone()),
        or(node.version.clone().or_else(|| {
            node.peer.clone().map(|peer| match &*peer {
                "kubeedge" => peer,
                _ => "edgecore".into(),
            })
        })),
        or(node.silence_ms.map(span)),
        or(node.round_trip_us.map(trip)),
        or(node.lag_ms.map(span)),
        node.queued.to_string(),
        node.unacknowledged.to_string(),
        node.resent.to_string(),
        or(error),
    ]
}

/// As kubectl shows ages: the two largest units.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..120 => format!("{seconds}s"),
        120..7200 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        7200..172_800 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn trip(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        10_000..10_000_000 => format!("{}ms", us / 1000),
        _ => format!("{}s", us / 1_000_000),
    }
}

const HEADINGS: [&str; 12] = [
    "NODE",
    "STATE",
    "SINCE",
    "TRANSPORT",
    "PEER",
    "HEARD",
    "ROUND-TRIP",
    "LAG",
    "QUEUED",
    "UNACKED",
    "RESENT",
    "LAST ERROR",
];
