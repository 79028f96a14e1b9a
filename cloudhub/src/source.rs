//! Tells our own edges when the cluster behind this hub has gone silent, and when it is there again: what they hold is not live then,
//! though their link is up.

use std::sync::Arc;
use std::time::Duration;

use hub_core::catch_up::SOURCE;
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::session::{Delivery, Lane, Outgoing};
use hub_core::source::{PATH, SourceState};

use crate::cluster::Cluster;
use crate::config::SourceConfig;
use crate::downstream::RESOURCE;
use crate::sessions::Sessions;

/// Looks at the cluster again and again. Runs for ever.
pub(crate) async fn run(cluster: Arc<dyn Cluster>, sessions: Arc<Sessions>, config: SourceConfig) {
    let mut told = None;
    let mut good_looks = 0;
    loop {
        tokio::time::sleep(config.look_every).await;
        let silent = cluster.silence().filter(|silent| *silent >= config.silent_after);
        // It answers before all watches have been taken up again.
        good_looks = if silent.is_some() { 0 } else { good_looks + 1 };
        if told.is_some() && good_looks > 0 && good_looks < GOOD_LOOKS {
            continue;
        }
        if silent.is_some() == told.is_some() {
            continue;
        }
        match silent {
            Some(silent) => {
                tracing::warn!(
                    ?silent,
                    "the cluster is silent; edges of ours show what they hold as stale"
                );
            }
            None => tracing::info!("the cluster is there again"),
        }
        told = silent;
        sessions.source_is(silent).await;
    }
}

/// The message of it.
pub(crate) fn message(silent: Option<Duration>) -> Outgoing {
    let silent_ms = silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX));
    let route = Route::new(SOURCE, RESOURCE, Operation::Update, PATH);
    Outgoing {
        key: PATH.into(),
        version: None,
        lane: Lane::Urgent,
        delivery: Delivery::Acked,
        message: Message::new(route, Content::encode(&SourceState { silent_ms })),
        previous: None,
    }
}

/// So many looks in a row must find it there: watches come back within some seconds, not all at once.
const GOOD_LOOKS: u32 = 3;
