//! One watch at the API server: list, follow, resume, heal. What it sees goes into a [`Collection`](super::collection::Collection).
//!
//! ```text
//!            list (streamed or in pages)            events, bookmarks
//!   start ──────────────────────────────► at v ──────────────────────► at v' ──┐
//!     ▲                                     ▲      closed, cut, garbage:       │
//!     │                                     └───── again from v', after a pause┘
//!     └──────────── 410: v' is no longer known; or v' fails again and again
//! ```
//!
//! What is held stays as it is until a *complete* new list says otherwise: no failure ever deletes an object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::Instant;

use hub_core::api::Status;
use hub_core::object::{Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;

use super::collection::{Collection, Held};
use super::door::{Door, Fault, chain, get};
use super::metrics::Heard;
use super::rights::Right;
use super::wire::{Event, Garbage, Page, Refusal, Shape};

/// See the [module](self).
pub(super) struct Reflector {
    pub(super) door: Arc<Door>,
    pub(super) scope: Scope,
    pub(super) collection: Arc<Collection>,
    pub(super) registry: Registry,
    /// Whether the server has streaming lists, as far as is known.
    pub(super) streams: Arc<AtomicBool>,
    /// Only the metadata of the objects is wanted.
    pub(super) metadata_only: bool,
}

/// Why a list or watch ended.
enum End {
    /// The server closed the watch in its time.
    Closed,
    Failed(Fault),
    Garbage(Garbage),
    Refused(Refusal),
    /// A streaming list that the server does not know after all.
    NoStream,
}

impl From<Garbage> for End {
    fn from(garbage: Garbage) -> Self {
        Self::Garbage(garbage)
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl From<http::Error> for End {
    fn from(error: http::Error) -> Self {
        Self::Garbage(Garbage::Senseless(error.to_string()))
    }
}

/// How far a watch came.
struct Position {
    /// The version to go on from; None to list.
    version: Option<String>,
    /// Whether anything came since the last failure.
    moved: bool,
    /// Objects asked for in a page.
    page: u32,
    heard: Heard,
}

impl Position {
    fn move_on(&mut self) {
        self.moved = true;
        self.heard.now();
    }
}

impl Reflector {
    /// The same once more, for when this one is refused.
    pub(super) fn again(&self) -> Self {
        Self {
            door: self.door.clone(),
            scope: self.scope.clone(),
            collection: self.collection.clone(),
            registry: self.registry.clone(),
            streams: self.streams.clone(),
            metadata_only: self.metadata_only,
        }
    }

    /// Runs until the API server refuses for good, and says why.
    pub(super) async fn run(self) -> Status {
        let mut position = Position {
            version: None,
            moved: false,
            page: self.door.config.page_objects.max(1),
            heard: self.door.metrics.hear(&self.scope.resource),
        };
        let mut failures = 0;
        loop {
            let (start, began) = (position.version.clone(), Instant::now());
            position.moved = false;
            let end = self.step(&mut position).await;
            let lived = began.elapsed();
            if position.moved || lived > LIVED {
                failures = 0;
            }
            let Err(end) = end else {
                failures = 0;
                continue;
            };
            let mut retry_after = None;
            match end {
                End::Closed => {
                    if lived > LIVED {
                        continue;
                    }
                }
                End::NoStream => {
                    self.streams.store(false, Ordering::Relaxed);
                    continue;
                }
                End::Refused(refusal) => {
                    match self.refused(&refusal, start.is_some()) {
                        Refused::Expired => position.version = None,
                        Refused::Final => return refusal.to_status(),
                        // Perhaps it is the version that it does not like: one from before a backup was restored.
                        Refused::Later if failures >= RELIST => position.version = None,
                        Refused::Later => {}
                    }
                    retry_after = refusal.retry_after;
                }
                End::Failed(Fault::TooLarge(max)) => {
                    tracing::warn!(scope = %self.scope, max, page = position.page, "a page of a list is too large; asking for fewer objects");
                    position.page = (position.page / 4).max(1);
                }
                End::Failed(fault) => {
                    self.interrupted(failures, &fault);
                }
                End::Garbage(garbage) => {
                    self.door.metrics.garbage.inc();
                    tracing::warn!(scope = %self.scope, %garbage, "the API server sends what makes no sense");
                    if failures >= RELIST {
                        position.version = None;
                    }
                }
            }
            let pause = self.door.pause(failures, retry_after);
            failures = failures.saturating_add(1);
            if retry_after.is_some() {
                tokio::time::sleep(pause).await;
            } else if self.door.rest(pause).await {
                failures = 0;
            }
        }
    }

    /// Lists, or follows until that ends.
    async fn step(&self, position: &mut Position) -> Result<(), End> {
        match &position.version {
            Some(_) => self.watch(position).await,
            None if self.streams.load(Ordering::Relaxed) => self.watch(position).await,
            None => self.list(position).await,
        }
    }

    fn interrupted(&self, failures: u32, fault: &Fault) {
        self.door.metrics.interrupted.inc();
        // At first it is news; then it is the same news.
        if failures == FAILURES_QUIET {
            tracing::warn!(scope = %self.scope, %fault, "a watch is interrupted; what is held is still served");
        } else {
            tracing::debug!(scope = %self.scope, %fault, failures, "a watch is interrupted");
        }
    }

    fn refused(&self, refusal: &Refusal, watching: bool) -> Refused {
        let known = self.collection.is_known();
        match refusal.code {
            410 => {
                tracing::debug!(scope = %self.scope, refusal.message, "the version is too old; listing anew");
                Refused::Expired
            }
            403 if self.door.is_settling() => Refused::Later,
            403 => {
                self.door
                    .rights
                    .report(Right::watch(&self.scope.resource), &refusal.message);
                // What is held was allowed once; a right that comes back finds it.
                if known { Refused::Later } else { Refused::Final }
            }
            // An API server that is starting does not know its custom kinds yet.
            404 if known && self.registry.by_resource(&self.scope.resource).is_some() => Refused::Later,
            400 | 404 | 405 | 406 | 415 | 422 if refusal.is_status || refusal.code == 404 => {
                if watching {
                    Refused::Expired
                } else {
                    Refused::Final
                }
            }
            code => {
                tracing::debug!(scope = %self.scope, code, refusal.message, "the API server refuses for now");
                Refused::Later
            }
        }
    }

    // --- lists

    async fn list(&self, position: &mut Position) -> Result<(), End> {
        self.door.metrics.lists.inc();
        let (mut objects, mut next) = (BTreeMap::new(), String::new());
        loop {
            let limit = position.page.to_string();
            let mut options = vec![("limit", &*limit)];
            if !next.is_empty() {
                options.push(("continue", &next));
            }
            let request = get(&self.uri(&options), self.accept(true))?;
            let answer = self.door.fetch(request, self.door.config.page_bytes_max).await?;
            if !answer.is_success() {
                return Err(End::Refused(answer.refusal()));
            }
            let page = Page::parse(&self.shape(), &answer.body)?;
            drop(answer);
            for object in page.objects {
                self.note(&mut objects, object);
            }
            if page.next.is_empty() {
                self.know(objects, &page.version);
                position.version = Some(page.version);
                position.move_on();
                return Ok(());
            }
            if page.next == next {
                return Err(Garbage::Senseless("a list that does not go on".into()).into());
            }
            next = page.next;
        }
    }

    fn note(&self, objects: &mut BTreeMap<ObjectKey, Object>, object: Object) {
        let object = self.collection.same(&object).unwrap_or(object);
        objects.insert(object.key.clone(), object);
    }

    fn know(&self, objects: BTreeMap<ObjectKey, Object>, version: &str) {
        tracing::debug!(scope = %self.scope, objects = objects.len(), version, "a collection is known");
        self.changing(|| self.collection.replace(objects, version));
        self.door.rights.granted(&Right::watch(&self.scope.resource));
    }

    // --- watches

    async fn watch(&self, position: &mut Position) -> Result<(), End> {
        let config = &self.door.config;
        let seconds = self.duration().as_secs();
        let timeout = seconds.to_string();
        let mut options = vec![
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", &*timeout),
        ];
        // What a streaming list named so far.
        let mut initial = None;
        match &position.version {
            Some(version) => options.push(("resourceVersion", version)),
            None => {
                self.door.metrics.lists.inc();
                initial = Some(BTreeMap::new());
                options.push(("sendInitialEvents", "true"));
                options.push(("resourceVersionMatch", "NotOlderThan"));
            }
        }
        let request = get(&self.uri(&options), self.accept(false))?;
        let body = match self.door.open(request).await? {
            Ok(response) => response.into_body(),
            Err(refusal) if initial.is_some() && matches!(refusal.code, 400 | 422) => {
                return Err(End::NoStream);
            }
            Err(refusal) => return Err(End::Refused(refusal)),
        };
        let shape = self.shape();
        let mut lines = Lines::new(body, config.object_bytes_max);
        let until = Instant::now() + Duration::from_secs(seconds) + OVERTIME;
        loop {
            let listed_by = initial.as_ref().map(|_| Instant::now() + config.stream_patience);
            let line = tokio::time::timeout_at(listed_by.unwrap_or(until).min(until), lines.next()).await;
            let line = match line {
                Ok(line) => line?,
                // Objects came and then no end of them: the server does not know what a streaming list is, or cannot end it.
                Err(_) if initial.is_some() => return Err(End::NoStream),
                Err(_) => return Err(Fault::Timeout.into()),
            };
            let Some(line) = line else {
                return Err(if initial.is_some() {
                    Fault::Broken("a streaming list ended too early".into()).into()
                } else {
                    End::Closed
                });
            };
            let event = Event::parse(&shape, &line)?;
            match (event, &mut initial) {
                (Event::Failed(refusal), _) => return Err(End::Refused(refusal)),
                (Event::Put(object), Some(initial)) => self.note(initial, object),
                (Event::Deleted(object), Some(initial)) => {
                    initial.remove(&object.key);
                }
                (
                    Event::Bookmark {
                        initial_end: false, ..
                    },
                    Some(_),
                ) => {}
                (Event::Bookmark { version, .. }, listed) => {
                    if let Some(objects) = listed.take() {
                        self.know(objects, &version);
                    }
                    position.version = Some(version);
                    position.move_on();
                }
                (Event::Put(object), None) => {
                    self.tell(&object, "changed");
                    position.version = Some(object.version.to_string());
                    position.move_on();
                    self.changing(|| self.collection.put(object));
                }
                (Event::Deleted(object), None) => {
                    self.tell(&object, "deleted");
                    position.version = Some(object.version.to_string());
                    position.move_on();
                    self.changing(|| self.collection.remove(object));
                }
            }
        }
    }

    /// The first step of an object's way: its version is named at each further one.
    fn tell(&self, object: &Object, what: &'static str) {
        tracing::debug!(target: "way", object = %object.key, version = %object.version, what, "the API server tells of a change");
    }

    /// Counts what is held.
    fn changing(&self, change: impl FnOnce()) {
        let before = self.collection.held();
        change();
        self.door.metrics.hold(before, self.collection.held());
    }

    /// Not the same for all, so that they do not end together.
    fn duration(&self) -> Duration {
        let whole = self.door.config.watch_duration;
        let share = (self.door.random() >> 11) as f64 / (1u64 << 53) as f64;
        whole.mul_f64(0.75 + share / 4.0).max(Duration::from_secs(1))
    }

    // --- words

    fn shape(&self) -> Shape {
        let kind = self.registry.by_resource(&self.scope.resource);
        Shape {
            resource: self.scope.resource.clone(),
            kind: kind.map(|kind| kind.kind.clone()),
        }
    }

    fn accept(&self, list: bool) -> &'static str {
        match (self.metadata_only, list) {
            (false, _) => "application/json",
            (true, true) => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
            }
            (true, false) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
        }
    }

    fn uri(&self, options: &[(&str, &str)]) -> String {
        let path = super::execute::path(&self.scope.resource, self.scope.namespace.as_deref(), None, None);
        let name = self
            .scope
            .name
            .as_ref()
            .map(|name| format!("metadata.name={name}"));
        let fields = [name.as_deref().unwrap_or_default(), &*self.scope.fields];
        let fields: Vec<_> = fields.into_iter().filter(|text| !text.is_empty()).collect();
        let fields = fields.join(",");
        let selectors = [
            ("labelSelector", &*self.scope.labels),
            ("fieldSelector", &*fields),
        ];
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(selectors.iter().filter(|(_, text)| !text.is_empty()))
            .extend_pairs(options)
            .finish();
        format!("{path}?{query}")
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        self.door.metrics.hold(self.collection.held(), Held::default());
    }
}

enum Refused {
    Expired,
    Final,
    Later,
}

/// A body as lines.
struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Up to where the buffer has no end of a line.
    searched: usize,
    max: usize,
}

impl Lines {
    fn new(body: Body, max: usize) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
            max,
        }
    }

    /// The next line that is not empty. None at the end; what has no end of a line there was cut off, and is no line.
    async fn next(&mut self) -> Result<Option<Bytes>, End> {
        loop {
            let end = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let line = self.buffer.split_to(self.searched + end).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.max {
                return Err(Garbage::Senseless(format!("an event of more than {} bytes", self.max)).into());
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Fault::Broken(chain(&error)).into()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// A watch that lived for so long was a good one.
const LIVED: Duration = Duration::from_secs(5);
/// How much later than asked for the server may close a watch.
const OVERTIME: Duration = Duration::from_secs(30);
/// After how many refusals, or answers that make no sense, in a row the collection is listed anew.
const RELIST: u32 = 3;
/// Interruptions in a row that nobody needs to hear of: a server that restarts, a connection that is renewed.
const FAILURES_QUIET: u32 = 3;
