//! Watches: what is there, then what changes, for as long as the client listens.
//!
//! A watch follows the store, so nothing that happens to the link to the cloud is seen here. It is pulled by the client's
//! socket and holds only a position in the store's history: a client that reads too slowly falls out of that history, is told
//! so, and has hurt nobody. Events are written as the stored bytes between two short constants.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hub_core::api::{Status, Verb};
use hub_core::object::Revision;
use hub_core::registry::ResourceKind;
use hub_core::scope::Scope;
use hub_core::store::{Change, Coverage, Event, EventKind, Stored, Watch, with_resource_version};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::accept::Offer;
use crate::api::{Api, Asked};
use crate::body::{Body, Slices};
use crate::encode::View;
use crate::explain::OpenWatch;
use crate::fault::{self, away};
use crate::options::{ListOptions, Selection, Version};
use crate::read::not_kept;
use crate::reply::{self, Reply, Source};

impl Api {
    /// Opens a watch.
    pub(crate) async fn watch(self: &Arc<Self>, asked: Asked) -> Result<Reply, Status> {
        let form = asked.form(Offer::List)?.streamed(asked.client.cbor)?;
        let view = self.view(&asked, form)?;
        let namespace = asked.namespace.as_deref().filter(|_| asked.kind.namespaced);
        let options = ListOptions::parse(&asked.query, &asked.kind, namespace, asked.name.as_deref(), true)?;
        let Ok(permit) = self.watches.clone().try_acquire_owned() else {
            return Err(fault::busy("watches"));
        };
        let scope = options.select.scope(&asked.kind);
        if !self.holds(&scope)
            && let Some(refused) = self.arrive(&asked, &options, scope).await?
        {
            return Ok(refused);
        }
        let path = match &*asked.query {
            "" => asked.path,
            query => format!("{}?{query}", asked.path),
        };
        let open = self.open.enter(path, asked.client.agent, asked.upgrade.is_some());
        let watcher = self.follow(asked.kind, options, view, open, permit).await;
        if let Some(upgrade) = asked.upgrade {
            return Ok(reply::from(upgrade.carry(watcher, form.media), Source::Cache));
        }
        let events = futures::stream::unfold(watcher, async |mut watcher| {
            let slices = watcher.next().await?;
            Some((slices, watcher))
        });
        Ok(reply::from(
            reply::stream(Body::stream(events), form.media),
            Source::Cache,
        ))
    }

    /// Subscribes to a scope and waits until all of it is here. Some: the cloud refused.
    async fn arrive(
        &self,
        asked: &Asked,
        options: &ListOptions,
        scope: Scope,
    ) -> Result<Option<Reply>, Status> {
        // A short list tells at once whether it exists, whether it may be read, and whether the cloud is there.
        let mut request = asked.request(Verb::List, Bytes::new());
        if let hub_core::api::Target::Resource { name, .. } = &mut request.target {
            *name = None;
        }
        request.query = match options.select.query() {
            empty if empty.is_empty() => "limit=1".into(),
            select => format!("{select}&limit=1"),
        };
        let answer = self.cloud.call(request).await;
        let response = match answer {
            Ok(response) => response,
            // What is here is followed, and all of it once the cloud is back.
            Err(error) if self.part(asked, options, &error).is_some() => {
                self.store
                    .apply(vec![Change::Want(scope)])
                    .await
                    .map_err(|error| not_kept(&error))?;
                return Ok(None);
            }
            Err(error) => return Err(away(&error, Verb::Watch, &asked.kind, None)),
        };
        if !response.is_success() {
            return Ok(Some(reply::passed(response, asked.client.status_form())));
        }
        let mut changed = self.store.scopes_changed();
        self.store
            .apply(vec![Change::Want(scope.clone())])
            .await
            .map_err(|error| not_kept(&error))?;
        let arrived = async {
            loop {
                match self.store.coverage(&scope) {
                    Coverage::Complete => return Ok(None),
                    Coverage::Absent => return Err(fault::not_followed(&scope.resource)),
                    Coverage::Loading => {}
                }
                if changed.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        match timeout(self.config.scope_timeout, arrived).await {
            Ok(arrived) => arrived,
            Err(_) => Err(fault::busy("objects are still on their way from the cloud")),
        }
    }

    async fn follow(
        self: &Arc<Self>,
        kind: Arc<ResourceKind>,
        options: ListOptions,
        view: View,
        open: OpenWatch,
        permit: OwnedSemaphorePermit,
    ) -> Watcher {
        let now = Instant::now();
        let deadline = now
            + options
                .timeout
                .unwrap_or_else(|| spread(self.config.watch_lifetime));
        let pause = spread(self.config.bookmark_interval);
        let mut watcher = Watcher {
            stop: Box::pin(self.stop.clone().cancelled_owned()),
            timer: Box::pin(sleep_until(deadline)),
            deadline,
            bookmark: options
                .bookmarks
                .then(|| next_bookmark(now, pause, deadline))
                .flatten(),
            pause,
            sent: 0,
            ends: Vec::new(),
            initial: VecDeque::new(),
            mark: None,
            fault: None,
            watch: None,
            followed: (!self.authoritative()).then(|| {
                let (scope, mut changed) = (options.select.scope(&kind), self.store.scopes_changed());
                // It may have gone just now.
                changed.mark_changed();
                Followed { scope, changed }
            }),
            select: options.select,
            kind,
            view,
            open,
            api: self.clone(),
            _permit: permit,
        };
        let from_start = match (options.initial_events, options.version) {
            (Some(wanted), _) => wanted,
            (None, version) => !matches!(version, Version::At(_)),
        };
        let resource = watcher.kind.resource.clone();
        let (after, asked_for) = if from_start {
            if let Version::At(version) = options.version
                && let Err(status) = self.await_version(version, &watcher.kind).await
            {
                watcher.fault = Some(status);
                return watcher;
            }
            let listing = self.store.list(&resource, watcher.select.namespace());
            watcher.initial = listing.objects.into();
            let marked = options.initial_events == Some(true) && options.bookmarks;
            watcher.mark = marked.then_some(listing.revision);
            (listing.revision, listing.revision.0)
        } else {
            match options.version {
                Version::At(version) => (Revision(version), version),
                _ => (self.store.revision(), 0),
            }
        };
        match self.store.watch(&resource, after) {
            Ok(watch) => watcher.watch = Some(watch),
            Err(compacted) => {
                self.metrics.watches_expired.inc();
                watcher.fault = Some(fault::version_too_old(asked_for, compacted.oldest));
            }
        }
        watcher
    }
}

/// One open watch.
pub(crate) struct Watcher {
    api: Arc<Api>,
    kind: Arc<ResourceKind>,
    select: Selection,
    view: View,
    /// What was there at the start and is still to be sent.
    initial: VecDeque<Arc<Stored>>,
    /// Where a bookmark ends the initial objects.
    mark: Option<Revision>,
    /// What ends the stream after what is still to be sent.
    fault: Option<Status>,
    /// None once the stream has ended.
    watch: Option<Watch>,
    /// What the cloud tells this node of. None where there is no cloud behind the store.
    followed: Option<Followed>,
    /// The newest revision that was sent.
    sent: u64,
    /// Where each of the events ends that were written last.
    ends: Vec<usize>,
    deadline: Instant,
    bookmark: Option<Instant>,
    pause: Duration,
    timer: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    open: OpenWatch,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    /// The next events, each by itself; waits for them. None ends the watch. Dropping the future loses nothing.
    pub(crate) async fn next_events(&mut self) -> Option<Vec<Bytes>> {
        let mut slices = self.next().await?;
        let mut begin = 0;
        let event =
            |end: usize| bytes::Buf::copy_to_bytes(&mut slices, end - std::mem::replace(&mut begin, end));
        Some(self.ends.drain(..).map(event).collect())
    }

    /// The next bytes for the client; waits for them. None ends the stream. Dropping the future loses nothing.
    async fn next(&mut self) -> Option<Slices> {
        loop {
            let mut slices = Slices::default();
            self.ends.clear();
            while let Some(stored) = self.initial.pop_front() {
                if self.select.matches(&stored) {
                    self.push(&mut slices, ADDED, &stored.served, Some(stored.revision));
                    if bytes::Buf::remaining(&slices) > CHUNK {
                        return Some(slices);
                    }
                }
            }
            if let Some(revision) = self.mark.take() {
                self.push_bookmark(&mut slices, revision, true);
            }
            if let Some(status) = self.fault.take() {
                self.watch = None;
                // A Status has every form.
                let _ = self.view.error(&mut slices, &status);
                self.ends.push(bytes::Buf::remaining(&slices));
            }
            if bytes::Buf::has_remaining(&slices) {
                return Some(slices);
            }
            let watch = self.watch.as_mut()?;
            let due = self
                .bookmark
                .map_or(self.deadline, |bookmark| bookmark.min(self.deadline));
            if self.timer.deadline() != due {
                self.timer.as_mut().reset(due);
            }
            tokio::select! {
                biased;
                () = &mut self.stop => {
                    // So that its client can go on from here when the program is there again.
                    let progress = watch.progress().filter(|_| self.bookmark.take().is_some());
                    self.watch = None;
                    self.push_bookmark(&mut slices, progress?, false);
                    return Some(slices);
                }
                () = lost(&self.api, &mut self.followed) => {
                    self.followed = None;
                    self.fault = Some(fault::followed_no_more());
                }
                events = watch.next_batch(BATCH) => match events {
                    Ok(events) => {
                        for event in events {
                            self.push_event(&mut slices, &event);
                        }
                        if bytes::Buf::has_remaining(&slices) {
                            return Some(slices);
                        }
                    }
                    Err(compacted) => {
                        self.api.metrics.watches_expired.inc();
                        self.fault = Some(fault::version_too_old(self.sent, compacted.oldest));
                    }
                },
                () = &mut self.timer => {
                    let progress = watch.progress();
                    if Instant::now() >= self.deadline {
                        self.watch = None;
                        return None;
                    }
                    self.bookmark = next_bookmark(Instant::now(), self.pause, self.deadline);
                    if let Some(revision) = progress {
                        self.push_bookmark(&mut slices, revision, false);
                        return Some(slices);
                    }
                }
            }
        }
    }

    /// Writes an event as it looks through the selector: who enters is added, who leaves is deleted.
    fn push_event(&mut self, slices: &mut Slices, event: &Event) {
        self.sent = event.revision.0;
        let was = match event.kind {
            EventKind::Added => false,
            EventKind::Modified => event
                .previous
                .as_ref()
                .is_some_and(|stored| self.select.matches(stored)),
            EventKind::Deleted => self
                .select
                .matches(event.previous.as_ref().unwrap_or(&event.stored)),
        };
        let is = event.kind != EventKind::Deleted && self.select.matches(&event.stored);
        let revision = Some(event.stored.revision);
        match (was, is) {
            (false, false) => {}
            (false, true) => self.push(slices, ADDED, &event.stored.served, revision),
            (true, true) => self.push(slices, MODIFIED, &event.stored.served, revision),
            (true, false) if event.kind == EventKind::Deleted => {
                self.push(slices, DELETED, &event.stored.served, revision)
            }
            (true, false) => {
                // The client is shown the last state that it could see, at the revision of the change.
                let last = event.previous.as_ref().unwrap_or(&event.stored);
                let served = with_resource_version(&last.served, event.revision.0);
                self.push(slices, DELETED, &served, None);
            }
        }
    }

    fn push_bookmark(&mut self, slices: &mut Slices, revision: Revision, initial: bool) {
        let annotation = if initial {
            r#","annotations":{"k8s.io/initial-events-end":"true"}"#
        } else {
            ""
        };
        let object = format!(
            r#"{{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{revision}"{annotation}}}}}"#,
            self.kind.kind,
            self.kind.resource.api_version(),
        );
        self.push(slices, BOOKMARK, &object.into(), None);
    }

    fn push(&mut self, slices: &mut Slices, kind: &'static str, served: &Bytes, revision: Option<Revision>) {
        if !self.view.has_events() {
            // A real server finds that out at the first event too, and says nothing of it.
            self.initial.clear();
            self.watch = None;
            return;
        }
        if let Err(error) = self.view.event(slices, kind, served, revision) {
            // The client must not believe that it has seen everything.
            tracing::warn!(%error, "an event could not be encoded");
            self.fault = Some(fault::not_encoded(&error));
            return;
        }
        self.ends.push(bytes::Buf::remaining(slices));
        self.api.metrics.events.inc();
        self.open.sent(revision.map_or(self.sent, |revision| revision.0));
    }
}

/// The scope of a watch, and where it is told that scopes changed.
struct Followed {
    scope: Scope,
    changed: tokio::sync::watch::Receiver<u64>,
}

/// Resolves once nobody tells of a scope any more. Whoever went on with such a watch would be silent for ever, and would take for
/// deletions what only leaves this node.
async fn lost(api: &Api, followed: &mut Option<Followed>) {
    let Some(Followed { scope, changed }) = followed else {
        return std::future::pending().await;
    };
    while changed.changed().await.is_ok() {
        if api.store.coverage(scope) == Coverage::Absent {
            return;
        }
    }
    std::future::pending().await
}

/// When the next bookmark is due: after the pause, and once shortly before the watch ends. A watch that is about to end gets none.
fn next_bookmark(now: Instant, pause: Duration, deadline: Instant) -> Option<Instant> {
    let last = deadline.checked_sub(BOOKMARK_BEFORE_END)?;
    Some(last.min(now + pause)).filter(|due| *due > now)
}

/// Between the time and twice the time, so that what began together does not end together.
fn spread(time: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1000;
    time + time * u32::try_from(random).unwrap_or_default() / 1000
}

const ADDED: &str = "ADDED";
const MODIFIED: &str = "MODIFIED";
const DELETED: &str = "DELETED";
const BOOKMARK: &str = "BOOKMARK";

/// As kube-apiserver has it (`apiserver/pkg/storage/cacher/cache_watcher.go`).
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Events taken from the history at a time.
const BATCH: usize = 64;
/// Bytes of initial objects handed to the socket at a time.
const CHUNK: usize = 64 << 10;
