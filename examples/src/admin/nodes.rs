//! `/nodes`: what `cloudcore nodes --output json` prints.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cloudhub::{CloudHub, NodeReport};
use http_body_util::Full;
use hub_core::node::NodeId;
use hub_core::session::{Condition, Lane};
use hyper::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};

/// The nodes that have a session, those in trouble first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// One each.
    pub nodes: Vec<Node>,
}

/// One node. Times are in milliseconds, instants in milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub node: String,
    /// `ok`, or what is wrong, the worst first.
    pub state: String,
    /// Whether it has a connection.
    pub connected: bool,
    /// Since when it has one, or has none.
    pub since_ms: u64,
    /// Where it connected from.
    pub address: Option<String>,
    /// `websocket` or `quic`.
    pub transport: Option<String>,
    /// `kubeedge` for a stock edge; else what both ends can do.
    pub peer: Option<String>,
    /// The version of its software, as its Node says it.
    pub version: Option<String>,
    /// Nothing was heard for so long.
    pub silence_ms: Option<u64>,
    /// The last time from a send to its acknowledgement, in microseconds.
    pub round_trip_us: Option<u64>,
    /// The age of the oldest message that it has not acknowledged.
    pub lag_ms: Option<u64>,
    /// It takes no bytes for so long, though there are some.
    pub stuck_ms: Option<u64>,
    /// Messages waiting to be sent.
    pub queued: usize,
    /// Messages sent and not acknowledged.
    pub unacknowledged: usize,
    /// Messages that it refused and that are tried again.
    pub refused: usize,
    /// Its own messages whose handlers have not finished.
    pub handling: usize,
    /// Messages sent again because no acknowledgement came in time.
    pub resent: u32,
    /// What is to be delivered, by lane; lanes with nothing are left out.
    pub lanes: Vec<InLane>,
    /// The last thing that went wrong.
    pub last_error: Option<LastError>,
}

/// What is to be delivered in one lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InLane {
    /// `urgent`, `own`, `rest` or `bulk`.
    pub lane: String,
    /// Messages waiting to be sent.
    pub queued: usize,
    /// Messages sent and not acknowledged.
    pub unacknowledged: usize,
    /// The age of the oldest.
    pub oldest_ms: u64,
}

/// The last thing that went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When.
    pub at_ms: u64,
    /// What.
    pub what: String,
}

/// Answers `/nodes` and `/nodes?node=NAME`.
pub async fn answer_nodes(hub: CloudHub, method: Method, path: String) -> Response<Full<Bytes>> {
    if method != Method::GET {
        return super::refuse(StatusCode::METHOD_NOT_ALLOWED, "there is nothing to change here");
    }
    let only = match path.split_once('?').unwrap_or((&path, "")) {
        ("/nodes", "") => None,
        ("/nodes", query) => match query.strip_prefix("node=").map(NodeId::new) {
            Some(Ok(node)) => Some(node),
            _ => return super::refuse(StatusCode::BAD_REQUEST, "the query is node=NAME"),
        },
        _ => return super::refuse(StatusCode::NOT_FOUND, "there is /nodes and /nodes?node=NAME"),
    };
    let report = hub.report(only.as_ref()).await;
    if let (Some(node), true) = (only, report.is_empty()) {
        let why = format!(
            "node {node} has no session here: it never came, was refused (see the log), is with another instance, or has been away for long"
        );
        return super::refuse(StatusCode::NOT_FOUND, &why);
    }
    let mut nodes: Vec<_> = report.into_iter().map(Node::from).collect();
    nodes.sort_by(|a, b| (a.state == OK, &a.node).cmp(&(b.state == OK, &b.node)));
    super::json(&Nodes {
        at_ms: unix_ms(SystemTime::now()),
        nodes,
    })
}

impl From<NodeReport> for Node {
    fn from(report: NodeReport) -> Self {
        let state = state(report.is_connected, report.condition.as_ref());
        let condition = report.condition.unwrap_or_default();
        let lanes = Lane::ALL.iter().zip(condition.lanes).filter_map(|(lane, depth)| {
            Some(InLane {
                lane: lane.as_str().into(),
                queued: depth.queued,
                unacknowledged: depth.in_flight,
                oldest_ms: ms(depth.oldest?),
            })
        });
        Self {
            node: report.node.to_string(),
            state,
            connected: report.is_connected,
            since_ms: unix_ms(report.since),
            address: report.address.map(|address| address.to_string()),
            transport: report.transport.map(Into::into),
            peer: report
                .capabilities
                .map(|capabilities| match capabilities.to_string() {
                    none if none.is_empty() => "kubeedge".into(),
                    some => some,
                }),
            version: report.version,
            silence_ms: condition.silence.map(ms),
            round_trip_us: condition
                .round_trip
                .map(|trip| trip.as_micros().try_into().unwrap_or(u64::MAX)),
            lag_ms: condition.lag().map(ms),
            stuck_ms: condition.stuck.map(ms),
            queued: condition.depth.queued,
            unacknowledged: condition.depth.in_flight,
            refused: condition.refused(),
            handling: condition.depth.handling,
            resent: condition.resent,
            lanes: lanes.collect(),
            last_error: report.trouble.map(|trouble| LastError {
                at_ms: unix_ms(trouble.at),
                what: trouble.what,
            }),
        }
    }
}

/// What a person should know first.
fn state(is_connected: bool, condition: Option<&Condition>) -> String {
    let Some(condition) = condition else {
        return "session hangs".into();
    };
    if !is_connected {
        return "away".into();
    }
    if condition.stuck.is_some_and(|stuck| stuck >= SLOW) {
        return "takes nothing".into();
    }
    if condition.refused() > 0 {
        return format!("refuses {}", condition.refused());
    }
    if condition.lag().is_some_and(|lag| lag >= BEHIND) {
        return if condition.depth.in_flight > 0 {
            "acknowledges late".into()
        } else {
            "behind".into()
        };
    }
    if condition.silence.is_some_and(|silence| silence >= QUIET) {
        return "silent".into();
    }
    OK.into()
}

fn ms(duration: std::time::Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

fn unix_ms(time: SystemTime) -> u64 {
    ms(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) const OK: &str = "ok";
/// A flush that takes this long is no hiccup.
const SLOW: std::time::Duration = std::time::Duration::from_secs(2);
/// Twice what a message waits before it is sent again, at first.
const BEHIND: std::time::Duration = std::time::Duration::from_secs(10);
/// KubeEdge's edges say something every 15 s.
const QUIET: std::time::Duration = std::time::Duration::from_secs(20);
