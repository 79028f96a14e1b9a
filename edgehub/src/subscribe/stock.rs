//! Subscribing at a stock KubeEdge cloud: watch applications, `watchapp/sync` on every connection, and lists for what watches
//! lose (metaserver specification G.12).
//!
//! A stock cloud dies of a watch of a kind that does not exist, and of a field selector it cannot read (defects C01–C03). So a
//! scope is listed first, watched only when that worked, and never watched with a field selector.

mod diff;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hub_core::api::{ApiRequest, ApiResponse, Reason, Target, UpstreamError, Verb};
use hub_core::application::{Application, SOURCE_CLOUD, SOURCE_EDGE, WATCH_SYNC};
use hub_core::backoff::Backoff;
use hub_core::handle::CallError;
use hub_core::message::{Content, Message, MessageId, Operation, Route};
use hub_core::node::NodeId;
use hub_core::scope::Scope;
use hub_core::session::Lane;
use hub_core::store::{Change, ObjectStore};
use hub_core::transport::Capabilities;

use super::wanted;
use crate::handle::Shared;
use crate::upstream;

/// The watches that the cloud took, by scope. They outlive connections, and are named anew on each.
#[derive(Debug, Default)]
pub(super) struct Watches {
    taken: BTreeMap<Scope, Application>,
    /// A cloud that answers no lists was told of.
    silence_told: bool,
}

/// Keeps the wanted scopes filled. Ends only by being dropped.
pub(super) async fn run(shared: &Shared, store: &dyn ObjectStore, watches: &mut Watches) {
    let mut changed = store.scopes_changed();
    let own = shared.config.own_scopes();
    // What was listed since the last round.
    let mut listed = BTreeSet::new();
    // Whether the cloud knows of exactly these watches.
    let mut synced = false;
    let mut failures = 0;
    let mut round = tokio::time::Instant::now();
    shared.doubts.begin_connection();
    loop {
        changed.mark_unchanged();
        let now = tokio::time::Instant::now();
        if round <= now {
            listed.clear();
            round = now + shared.config.relist.mul_f64(0.5 + 0.5 * share());
        }
        let scopes = wanted(shared, store);
        let before = watches.taken.len();
        watches.taken.retain(|scope, _| scopes.contains(scope));
        synced &= watches.taken.len() == before;
        let mut failed = false;
        // What every node gets is pushed, but a cloud that believes it delivered does not repeat itself.
        for scope in own.iter().chain(&scopes) {
            if !listed.contains(scope) {
                match fill(shared, store, watches, scope, !own.contains(scope), synced).await {
                    Ok(()) => {
                        listed.insert(scope.clone());
                    }
                    Err(Unfilled) => failed = true,
                }
            }
        }
        if !synced {
            match sync(shared, watches).await {
                Some(unwatched) => {
                    synced = true;
                    failed |= !unwatched.is_empty();
                    listed.retain(|scope| !unwatched.contains(scope));
                }
                None => failed = true,
            }
        }
        failures = if failed { failures + 1 } else { 0 };
        let backoff = Backoff {
            max: shared.config.relist,
            ..shared.config.backoff
        };
        let retry = now + backoff.pause(failures, (share() * u64::MAX as f64) as u64);
        let again = tokio::time::sleep_until(if failed { retry.min(round) } else { round });
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = &mut again => break,
                () = shared.doubts.due(now) => break,
                Ok(()) = changed.changed() => {
                    if wanted(shared, store) != scopes {
                        break;
                    }
                }
            }
        }
    }
}

/// The scope could not be filled; told already.
struct Unfilled;

/// Lists a scope and applies the difference. It is then among the watches; `now`, or with the next [`sync`].
async fn fill(
    shared: &Shared,
    store: &dyn ObjectStore,
    watches: &mut Watches,
    scope: &Scope,
    watch: bool,
    now: bool,
) -> Result<(), Unfilled> {
    let (changes, doubted) = match list(shared, store, scope).await {
        Ok(difference) => {
            let doubted = difference.deletions.is_none();
            (difference.into_changes(scope), doubted)
        }
        Err(ListError::Denied(answer)) if watch => {
            let reason = String::from_utf8_lossy(&answer.body);
            tracing::warn!(%scope, %reason, "the cloud does not give this node what a client of it wants; check its permissions");
            watches.taken.remove(scope);
            let drop_scope = Change::Drop(scope.clone());
            // A client wants its scope anew; what the configuration wants is asked for until it is given.
            if shared.config.prefetched().contains(scope) {
                let _ = store.apply(vec![drop_scope, Change::Want(scope.clone())]).await;
                return Err(Unfilled);
            }
            return store
                .apply(vec![drop_scope])
                .await
                .map(drop)
                .map_err(|_| Unfilled);
        }
        Err(error) => {
            if matches!(error, ListError::Call(CallError::TimedOut)) && !watches.silence_told {
                watches.silence_told = true;
                tracing::warn!(
                    %scope,
                    "the cloud does not answer lists; a stock cloud does so with modules.dynamicController.enable. \
                     What it pushes unasked arrives all the same"
                );
            }
            tracing::debug!(%scope, %error, "a scope could not be listed");
            // Its kind may be gone, and a watch of it the end of the cloud.
            watches.taken.remove(scope);
            return Err(Unfilled);
        }
    };
    for batch in diff::batches(changes) {
        if let Err(error) = store.apply(batch).await {
            tracing::warn!(%scope, %error, "a list could not be stored");
            return Err(Unfilled);
        }
    }
    // A scope in doubt is listed again before long; meanwhile its watch tells what happens.
    let filled = if doubted { Err(Unfilled) } else { Ok(()) };
    if !watch || !scope.fields.is_empty() || watches.taken.contains_key(scope) {
        return filled;
    }
    let application = watch_of(&shared.config.node, scope);
    if now {
        let answer = call(shared, application.to_message(), shared.config.write_timeout).await;
        if !matches!(answer.as_ref().map(upstream::response), Ok(Ok(response)) if response.is_success()) {
            tracing::debug!(%scope, "the cloud does not watch; the scope is listed now and then");
            return Err(Unfilled);
        }
    }
    watches.taken.insert(scope.clone(), application);
    filled
}

#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Answer(#[from] UpstreamError),
    #[error("denied ({})", .0.code)]
    Denied(ApiResponse),
    #[error("the cloud could not list ({0})")]
    Failed(u16),
    #[error(transparent)]
    List(#[from] diff::InvalidList),
}

/// What a list of the scope changes here. Deletions that are too many to be believed are held back.
async fn list(
    shared: &Shared,
    store: &dyn ObjectStore,
    scope: &Scope,
) -> Result<diff::Difference, ListError> {
    let response = read(shared, scope).await?;
    let listed = match response.code {
        200..=299 => diff::Listed::parse(store.registry(), scope, &response.body)?,
        // Of one object: there is none. Of a collection: its kind is not there (yet).
        404 if scope.name.is_some() => diff::Listed::default(),
        code if code == Reason::Forbidden.code() => return Err(ListError::Denied(response)),
        code => return Err(ListError::Failed(code)),
    };
    let mut difference = diff::Difference::of(store, scope, listed);
    let deletions = difference.deletions.take().unwrap_or_default().into_iter();
    let deletions = deletions.filter_map(|change| match &change {
        Change::Delete { key, .. } => Some((key.clone(), change)),
        _ => None,
    });
    difference.deletions = shared.doubts.weigh(scope, deletions.collect(), difference.held);
    Ok(difference)
}

async fn read(shared: &Shared, scope: &Scope) -> Result<ApiResponse, ListError> {
    let verb = if scope.name.is_some() {
        Verb::Get
    } else {
        Verb::List
    };
    let mut request = ApiRequest::resource(
        verb,
        scope.resource.clone(),
        scope.namespace.as_deref(),
        scope.name.as_deref(),
    );
    request.query = diff::query(scope, &[]);
    let message = upstream::message(&shared.config.node, &request, Capabilities::NONE);
    Ok(upstream::response(
        &call(shared, message, shared.config.list_timeout).await?,
    )?)
}

/// Names all watches that this node has: the cloud begins those it does not know and ends the others. A cloud that restarted
/// knows of none, and KubeEdge's edges do not tell it (weak spot L10). Gives the scopes that it does not watch.
async fn sync(shared: &Shared, watches: &mut Watches) -> Option<Vec<Scope>> {
    let all: BTreeMap<_, _> = watches
        .taken
        .values()
        .map(|application| (&application.id, application))
        .collect();
    let route = Route::new(SOURCE_EDGE, SOURCE_CLOUD, Operation::Null, WATCH_SYNC);
    let message = Message::new(route, Content::encode(&all));
    let answer = call(shared, message, shared.config.write_timeout).await.ok()?;
    let failed: BTreeMap<String, serde::de::IgnoredAny> =
        answer.content.decode("the watches that failed").ok()?;
    let unwatched = watches
        .taken
        .iter()
        .filter(|(_, application)| failed.contains_key(&application.id));
    let unwatched: Vec<_> = unwatched.map(|(scope, _)| scope.clone()).collect();
    unwatched
        .iter()
        .for_each(|scope| drop(watches.taken.remove(scope)));
    Some(unwatched)
}

/// The same scope has the same watch, whoever asks: nothing in it may vary.
fn watch_of(node: &NodeId, scope: &Scope) -> Application {
    let target = Target::Resource {
        resource: scope.resource.clone(),
        namespace: scope.namespace.clone(),
        name: scope.name.clone(),
        subresource: None,
    };
    let mut request = ApiRequest::new(Verb::Watch, target);
    request.query = diff::query(
        scope,
        &[
            ("resourceVersionMatch", "NotOlderThan"),
            ("sendInitialEvents", "true"),
        ],
    );
    Application {
        tunnel: None,
        ..Application::request(node, &request)
    }
}

async fn call(shared: &Shared, message: Message, within: Duration) -> Result<Message, CallError> {
    shared.call(message, Lane::Own, within).await
}

/// From 0 to 1, at random.
fn share() -> f64 {
    let id = MessageId::random();
    id.as_uuid().map_or(0.5, |bytes| f64::from(bytes[0]) / 255.0)
}
