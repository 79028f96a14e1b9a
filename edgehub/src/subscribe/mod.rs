//! The cloud learns what this node wants to hold, on each connection and whenever that changes.
//!
//! Our own cloud is told what is here and sends the difference ([`resume`]). A stock cloud is asked to watch, and to list now and
//! then ([`stock`]). While the link is down scopes stay as they are: what is here may be old, but it was complete.

mod resume;
mod stock;

use std::collections::BTreeSet;
use std::sync::Arc;

use hub_core::scope::Scope;
use hub_core::store::ObjectStore;

use crate::handle::Shared;

/// Runs for ever.
pub(crate) async fn run(shared: &Shared, store: &Arc<dyn ObjectStore>) {
    let mut number = 0;
    let mut watches = stock::Watches::default();
    loop {
        let connection = shared.board.attached(number + 1).await;
        number = connection.attached;
        let resume = connection.current.is_some_and(|capabilities| capabilities.resume);
        let serve = async {
            if resume {
                resume::run(shared, &**store).await;
            } else {
                stock::run(shared, &**store, &mut watches).await;
            }
        };
        tokio::select! {
            () = shared.board.gone(number) => {}
            () = serve => {}
        }
    }
}

/// What clients of this node want, beside what every node gets. Definitions of custom kinds first: the kinds of other objects
/// are known by them.
fn wanted(shared: &Shared, store: &dyn ObjectStore) -> Vec<Scope> {
    let own = shared.config.own_scopes();
    let scopes: BTreeSet<_> = store.scopes().into_iter().map(|(scope, _)| scope).collect();
    let mut scopes: Vec<_> = scopes.into_iter().filter(|scope| !own.contains(scope)).collect();
    scopes.sort_by_key(|scope| &*scope.resource.group != "apiextensions.k8s.io");
    scopes
}
