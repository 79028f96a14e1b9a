//! The edge's side of the [catch-up](hub_core::catch_up) with our own cloud: tell little, get exactly what is missing.

use hub_core::catch_up::{BUCKETS_OF, Differ, HAVE, Have, Inventory, SOURCE, ScopeText, VERSIONS_OF};
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::scope::Scope;
use hub_core::session::Lane;
use hub_core::store::{Change, ObjectStore};
use serde::Serialize;

use super::wanted;
use crate::handle::Shared;

/// Catches up, and again whenever the wanted scopes change. Ends only by being dropped.
pub(super) async fn run(shared: &Shared, store: &dyn ObjectStore) {
    let mut changed = store.scopes_changed();
    let (mut attempt, mut told) = (0, String::new());
    shared.doubts.begin_connection();
    // What the cloud did not give the last time it may give now.
    let prefetched = shared.config.prefetched().into_iter().map(Change::Want);
    if let Err(error) = store.apply(prefetched.collect()).await {
        tracing::warn!(%error, "what the configuration wants held could not be noted");
    }
    loop {
        changed.mark_unchanged();
        let scopes = wanted(shared, store);
        shared.doubts.begin_catch_up();
        let caught_up = catch_up(shared, store, &scopes).await;
        shared.doubts.asked(!matches!(caught_up, Ok(Same::All)));
        match caught_up {
            Ok(_) => {
                attempt = 0;
                shared.board.metrics.catch_ups.inc();
            }
            Err(error) => {
                let pause = shared
                    .config
                    .backoff
                    .pause(attempt, u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                attempt = attempt.saturating_add(1);
                // Each trouble is told once a connection.
                if std::mem::replace(&mut told, error.to_string()) != told {
                    tracing::warn!(%error, "the catch-up with the cloud failed; it is tried again");
                }
                tokio::time::sleep(pause).await;
                continue;
            }
        }
        let looked = tokio::time::Instant::now();
        // Completions are changes too, but nothing to tell. While one catch-up runs, the newest wish waits for it.
        loop {
            tokio::select! {
                () = shared.doubts.due(looked) => break,
                changed = changed.changed() => if changed.is_err() {
                    return std::future::pending().await;
                }
            }
            if wanted(shared, store) != scopes {
                break;
            }
        }
    }
}

/// A step brought no answer, or not one that makes sense.
#[derive(Debug, thiserror::Error)]
enum CatchUpError {
    #[error("{step}: {source}")]
    Call {
        step: &'static str,
        source: hub_core::handle::CallError,
    },
    #[error("{step}: the cloud says {reason:?}")]
    Refused { step: &'static str, reason: String },
    #[error(transparent)]
    Content(#[from] hub_core::message::ContentError),
}

/// What the cloud found.
enum Same {
    /// This node holds exactly what it should.
    All,
    /// Something differs, and follows.
    NotAll,
}

async fn catch_up(shared: &Shared, store: &dyn ObjectStore, scopes: &[Scope]) -> Result<Same, CatchUpError> {
    let inventory = inventory(store);
    let have = Have {
        scopes: scopes.iter().map(ScopeText::from).collect(),
        digests: inventory.digests(),
    };
    let differ: Differ = ask(shared, HAVE, &have).await?;
    tracing::debug!(
        collections = differ.resources.len(),
        "the cloud says which collections differ"
    );
    if differ.resources.is_empty() {
        return Ok(Same::All);
    }
    let differ: Differ = ask(shared, BUCKETS_OF, &inventory.buckets(&differ)).await?;
    let versions = inventory.versions(&differ);
    call(shared, VERSIONS_OF, &versions).await?;
    Ok(Same::NotAll)
}

/// What came from the cloud and is here. What was made here has no version of the cloud's yet.
fn inventory(store: &dyn ObjectStore) -> Inventory {
    let mut inventory = Inventory::default();
    for resource in store.resources() {
        for stored in store.list(&resource, None).objects {
            let object = &stored.object;
            if !object.version.as_str().is_empty() {
                inventory.add(&object.key, &object.uid, object.version.as_str());
            }
        }
    }
    inventory
}

async fn ask<T: Serialize>(shared: &Shared, step: &'static str, content: &T) -> Result<Differ, CatchUpError> {
    let answer = call(shared, step, content).await?;
    Ok(answer.content.decode("where the cloud found differences")?)
}

async fn call<T: Serialize>(
    shared: &Shared,
    step: &'static str,
    content: &T,
) -> Result<Message, CatchUpError> {
    let route = Route::new(SOURCE, "resource", Operation::Query, step);
    let message = Message::new(route, Content::encode(content));
    let answer = shared
        .session
        .call(message, Lane::Urgent, shared.config.catch_up_timeout)
        .await;
    let answer = answer.map_err(|source| CatchUpError::Call { step, source })?;
    if answer.route.operation == Operation::Error {
        let reason = answer.content.as_string().unwrap_or_default();
        return Err(CatchUpError::Refused { step, reason });
    }
    Ok(answer)
}
