//! Renews what is due though nobody asks, so that an outage finds the tokens of the node's pods as fresh as can be.

use futures::StreamExt;
use hub_core::object::GroupVersionResource;
use hub_core::store::{Event, EventKind, ObjectStore, Watch};

use super::is_refusal;
use super::kept::{self, Kept};
use crate::handle::Shared;

/// Runs for ever.
pub(crate) async fn run(shared: &Shared) {
    let mut link = shared.board.link();
    loop {
        link.mark_unchanged();
        let pods = Deletions::of(&*shared.store, "pods");
        let accounts = Deletions::of(&*shared.store, "serviceaccounts");
        let due = look_through(shared).await;
        if link.borrow().is_up() {
            renew(shared, due).await;
        }
        tokio::select! {
            _ = link.changed() => {}
            () = pods.next() => {}
            () = accounts.next() => {}
            () = tokio::time::sleep(shared.config.tokens.look_every) => {}
        }
    }
}

/// Forgets what is over, and gives what is due of the pods that are here.
async fn look_through(shared: &Shared) -> Vec<Kept> {
    let now = shared.clock.unix_ms();
    let (mut due, mut over, mut count) = (Vec::new(), Vec::new(), 0);
    for (key, kept) in shared.all_kept() {
        let kept = kept.filter(|kept| kept.is_good(now) && shared.lives(kept).is_ok());
        let Some(kept) = kept else {
            over.push(kept::forget(key));
            continue;
        };
        count += 1;
        // What is bound to no pod is renewed when somebody asks for it: only they know whether it is still wanted.
        if kept.bound.kind == "Pod" && kept.is_due(&shared.config.tokens, now) {
            due.push(kept);
        }
    }
    shared.board.metrics.tokens_kept.set(count);
    if !over.is_empty() {
        tracing::debug!(tokens = over.len(), "tokens that are over are forgotten");
        if let Err(error) = shared.store.apply(over).await {
            tracing::warn!(%error, "tokens that are over could not be forgotten; they are not given");
        }
    }
    due.sort_by_key(|kept| kept.ends_ms);
    due
}

/// What fails is tried again at the next look; what the cloud refuses is forgotten.
async fn renew(shared: &Shared, due: Vec<Kept>) {
    let metrics = &shared.board.metrics;
    let renewed = futures::stream::iter(due).map(|kept| async move {
        match shared.obtain(&kept.ask).await {
            Ok(_) => {
                metrics.tokens_renewed.inc();
            }
            Err(error) => {
                metrics.tokens_failed.inc();
                if !is_refusal(&error) {
                    tracing::debug!(account = %kept.ask, %error, "a token could not be renewed yet");
                }
            }
        }
    });
    let at_once = shared.config.tokens.renewals_max.max(1);
    renewed.buffer_unordered(at_once).collect::<()>().await;
}

/// Something of a collection is gone, or came anew under its name.
struct Deletions(Option<Watch>);

impl Deletions {
    fn of(store: &dyn ObjectStore, resource: &str) -> Self {
        let resource = GroupVersionResource::core(resource);
        Self(store.watch(&resource, store.revision()).ok())
    }

    async fn next(self) {
        let Some(mut watch) = self.0 else {
            return std::future::pending().await;
        };
        loop {
            match watch.next().await {
                Ok(event) if event.kind == EventKind::Modified && is_same(&event) => {}
                _ => return,
            }
        }
    }
}

/// Whether the object is the incarnation that it was before.
fn is_same(event: &Event) -> bool {
    let before = event.previous.as_ref();
    before.is_none_or(|before| before.object.uid == event.stored.object.uid)
}
