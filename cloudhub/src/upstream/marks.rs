//! Which instance serves a node, written into the node: the rule engine of KubeEdge's cloud finds a node by that, and several hubs which
//! of them has the newest connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use hub_core::api::{ApiRequest, Verb};
use hub_core::backoff::Backoff;
use hub_core::node::NodeId;

use super::Upstream;
use crate::downstream::nodes;
use crate::sessions::{CONNECTION, HubEvent};

/// Marks each node that connects. A cluster that gives no answer is asked again; what it refuses is tried when the node connects anew,
/// and a node that is not registered yet brings its mark with it.
pub(crate) async fn mark_nodes(upstream: Arc<Upstream>, mut events: broadcast::Receiver<HubEvent>) {
    let mut due = BTreeSet::<NodeId>::new();
    let mut writes = FuturesUnordered::new();
    // Those without an answer, until then.
    let mut unanswered = BTreeSet::new();
    let (mut again, mut attempt) = (Instant::now(), 0);
    loop {
        while writes.len() < MARKS_MAX
            && let Some(node) = due.pop_first()
        {
            writes.push(mark(&upstream, node));
        }
        tokio::select! {
            event = events.recv() => match event {
                Ok(HubEvent::Connected(node)) => drop(due.insert(node)),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => due.extend(upstream.sessions.connected()),
                Err(RecvError::Closed) => return,
            },
            Some((node, marked)) = writes.next(), if !writes.is_empty() => match marked {
                Marked::Unanswered => {
                    if unanswered.is_empty() {
                        again = Instant::now() + AGAIN.pause(attempt, uuid::Uuid::new_v4().as_u64_pair().0);
                        attempt += 1;
                    }
                    unanswered.insert(node);
                }
                Marked::Answered => attempt = 0,
            },
            () = tokio::time::sleep_until(again), if !unanswered.is_empty() => due.append(&mut unanswered),
        }
    }
}

/// What became of a mark.
enum Marked {
    /// It is there, or the cluster will not have it, or there is nothing to mark.
    Answered,
    Unanswered,
}

async fn mark(upstream: &Upstream, node: NodeId) -> (NodeId, Marked) {
    let marks = marks(upstream, &node);
    if marks.is_empty() {
        return (node, Marked::Answered);
    }
    let annotations: Map<String, Value> = marks
        .into_iter()
        .map(|(annotation, value)| (annotation.to_owned(), json!(&*value)))
        .collect();
    let body = json!({ "metadata": { "annotations": annotations } });
    let patch = ApiRequest::resource(Verb::Patch, nodes(), None, Some(node.as_str()))
        .with_body("application/merge-patch+json", body.to_string());
    match upstream.execute_as_hub(patch).await.code {
        // One that is not registered yet brings its mark with it.
        200..300 | 404 => (node, Marked::Answered),
        code @ (429 | 500..) => {
            tracing::debug!(%node, code, "which instance serves the node is written later");
            (node, Marked::Unanswered)
        }
        code => {
            tracing::warn!(%node, code, "the node could not be marked with this instance");
            (node, Marked::Answered)
        }
    }
}

/// What a node's annotations are to say of this instance, as long as the node is connected.
pub(super) fn marks(upstream: &Upstream, node: &NodeId) -> Vec<(&'static str, Arc<str>)> {
    let address = upstream.config.instance_address.clone();
    let address = address.map(|address| ("cloudcore", address));
    let connection = upstream.sessions.mark(node).map(|mark| (CONNECTION, mark));
    address.into_iter().chain(connection).collect()
}

/// Nodes that are marked at once.
const MARKS_MAX: usize = 16;
/// When a cluster without an answer is asked again.
const AGAIN: Backoff = Backoff {
    first: Duration::from_secs(1),
    max: Duration::from_secs(30),
};
