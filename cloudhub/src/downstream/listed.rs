//! What a stock edge's clients were shown by lists, until they watch.
//!
//! A client lists a collection, and then watches it from the version of that list. A stock edge asks for the watch when the client does,
//! and is then told what is there: nobody would tell of what was deleted between the two. So each list is remembered for a while, and
//! when a watch begins at its version, what is gone since is told as deleted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use serde::Deserialize;
use serde_json::value::RawValue;

use hub_core::api::{ApiRequest, Verb};
use hub_core::node::NodeId;
use hub_core::object::{Metadata, Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;

use super::index::What;
use super::outgoing::{as_of, heard_after};
use super::recall::{QUESTIONS_AT_ONCE, Recalled};
use super::scopes::State;
use super::{Downstream, ScopeId, Timer};
use crate::cluster::Cluster;
use crate::config::DownstreamConfig;

/// What a client was shown: a list's answer, or one page of it.
#[derive(Debug)]
pub(crate) struct Shown {
    scope: Scope,
    /// The version of the list; all its pages have the same.
    version: Arc<str>,
    objects: Vec<Object>,
    bytes: usize,
}

impl Shown {
    /// Takes a list's answer apart. None for what is no list, and for one without objects. Of a list longer than `bytes_max` only the
    /// names are kept.
    pub(crate) fn new(scope: Scope, answer: &[u8], registry: &Registry, bytes_max: usize) -> Option<Self> {
        #[derive(Deserialize)]
        struct List<'a> {
            metadata: ListMetadata,
            #[serde(borrow)]
            items: Vec<&'a RawValue>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ListMetadata {
            resource_version: Arc<str>,
        }
        let list: List<'_> = serde_json::from_slice(answer).ok()?;
        let kind = registry.by_resource(&scope.resource)?;
        let object = |item: &RawValue| {
            let metadata = Metadata::parse(item.get().as_bytes()).ok()?;
            let body = if answer.len() > bytes_max {
                let namespace = (!metadata.namespace.is_empty()).then_some(&*metadata.namespace);
                let key = ObjectKey::new(scope.resource.clone(), namespace, &metadata.name);
                return super::minimal(registry, &key, &metadata.uid);
            } else if metadata.kind.is_empty() {
                // The items of a list do not say what they are.
                let (kind, version) = (&kind.kind, scope.resource.api_version());
                let fields = item.get().trim_start().strip_prefix('{')?;
                format!(r#"{{"kind":"{kind}","apiVersion":"{version}",{fields}"#).into()
            } else {
                Bytes::copy_from_slice(item.get().as_bytes())
            };
            Object::from_body(scope.resource.clone(), body).ok()
        };
        let objects: Vec<_> = list.items.into_iter().filter_map(object).collect();
        let bytes = objects.iter().map(|object| object.body.len()).sum();
        let version = list.metadata.resource_version;
        (!objects.is_empty()).then_some(Self {
            scope,
            version,
            objects,
            bytes,
        })
    }
}

/// The lists that a stock edge's clients were shown. See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Listed {
    lists: VecDeque<(Instant, Shown)>,
    /// Watches that began, and what they may have missed.
    begun: Vec<Begun>,
}

/// A watch that began at the version of a list.
#[derive(Debug)]
struct Begun {
    /// When its client surely listens: what an edge is told before that, its client does not hear.
    at: Instant,
    /// None where the node has what it watches without asking.
    watch: Option<ScopeId>,
    objects: Vec<Object>,
}

impl Listed {
    /// A client was shown a list. Old ones make room for it.
    fn remember(&mut self, shown: Shown, now: Instant, config: &DownstreamConfig) {
        self.lists.push_back((now, shown));
        let mut bytes: usize = self.lists.iter().map(|(_, shown)| shown.bytes).sum();
        while let Some((at, oldest)) = self.lists.front()
            && (bytes > config.listed_bytes_max || now.duration_since(*at) > config.listed_for)
        {
            bytes -= oldest.bytes;
            self.lists.pop_front();
        }
    }

    /// A watch begins at a version. Returns when what is gone since is to be told, if anything may be.
    fn begins(
        &mut self,
        scope: &Scope,
        version: &str,
        watch: Option<ScopeId>,
        now: Instant,
        config: &DownstreamConfig,
    ) -> Option<Instant> {
        let mut objects = Vec::new();
        self.lists.retain_mut(|(at, shown)| {
            let same = &*shown.version == version
                && shown.scope.covers(scope)
                && now.duration_since(*at) <= config.listed_for;
            if same {
                objects.append(&mut shown.objects);
            }
            !same
        });
        if objects.is_empty() {
            return None;
        }
        objects.retain(|object| is_within(object, scope));
        let at = now + config.listed_pause;
        self.begun.push(Begun { at, watch, objects });
        Some(at)
    }
}

impl Downstream {
    /// A stock edge's client was shown a list.
    pub(super) fn shown(&mut self, id: &NodeId, shown: Shown) {
        let stock = self.nodes.get_mut(id).and_then(|node| node.stock.as_mut());
        if let Some(stock) = stock {
            stock.listed.remember(shown, Instant::now(), &self.config);
        }
    }

    /// A stock edge's client watches on from a list.
    pub(super) fn watches_since(
        &mut self,
        id: &NodeId,
        watch: Option<ScopeId>,
        scope: &Scope,
        version: &str,
    ) {
        let stock = self.nodes.get_mut(id).and_then(|node| node.stock.as_mut());
        let at = stock.and_then(|stock| {
            stock
                .listed
                .begins(scope, version, watch, Instant::now(), &self.config)
        });
        if let Some(at) = at {
            self.timers.insert((at, Timer::Listed(id.clone())));
        }
    }

    /// Looks for what a watch does not have and its list had.
    pub(super) fn look_for_missed(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let Some(stock) = &mut node.stock else { return };
        let (now, mut missed) = (Instant::now(), Vec::new());
        let mut later = None;
        let (scopes, index) = (&self.scopes, &self.index);
        stock.listed.begun.retain_mut(|begun| {
            if begun.at > now {
                later = later.into_iter().chain([begun.at]).min();
                return true;
            }
            match begun.watch.map_or(State::Synced, |watch| scopes.state(watch)) {
                State::Loading => {
                    begun.at = now + LOOK_AGAIN;
                    later = later.into_iter().chain([begun.at]).min();
                    true
                }
                State::Synced => {
                    // What has another object in its place was replaced, and that is told.
                    let gone = |object: &Object| index.get(&object.key).is_none();
                    missed.extend(begun.objects.drain(..).filter(gone));
                    false
                }
                State::Refused(_) => false,
            }
        });
        if let Some(at) = later {
            self.timers.insert((at, Timer::Listed(id.clone())));
        }
        if !missed.is_empty() {
            let (id, session, cluster) = (id.clone(), node.session, self.cluster.clone());
            let asked = async move { Recalled::Missed(id, session, deleted(cluster, missed).await) };
            self.recalling.push(asked.boxed());
        }
    }

    /// These were listed and do not exist any more.
    pub(super) fn missed(&mut self, id: &NodeId, objects: Vec<Object>) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        for object in objects {
            if self.index.get(&object.key).is_none() {
                node.queue
                    .mark(object.key.clone(), What::Gone(Arc::new(object)), None);
            }
        }
        self.ready.insert(id.clone());
    }
}

fn is_within(object: &Object, scope: &Scope) -> bool {
    let namespace = scope.namespace.is_none() || scope.namespace == object.key.namespace;
    namespace && scope.name.as_ref().is_none_or(|name| *name == object.key.name)
}

/// Those of the objects that do not exist, with a version after their deletion. The cluster is asked for each: what
/// is watched here may be behind what the list showed.
async fn deleted(cluster: Arc<dyn Cluster>, objects: Vec<Object>) -> Vec<Object> {
    let asked = objects.into_iter().map(|object| {
        let found = cluster.get(object.key.clone());
        async move { matches!(found.await, Ok(None)).then_some(object) }
    });
    let mut asked = stream::iter(asked).buffer_unordered(QUESTIONS_AT_ONCE);
    let mut gone = Vec::new();
    while let Some(object) = asked.next().await {
        gone.extend(object);
    }
    drop(asked);
    let Some(first) = gone.first() else { return gone };
    let mut list = ApiRequest::resource(Verb::List, first.key.resource.clone(), None, None);
    list.query = "limit=1".into();
    let answer = cluster.execute(list).await;
    if let Some(version) = answer.ok().and_then(|answer| list_version(&answer.body)) {
        for object in &mut gone {
            *object = as_of(object, heard_after(version));
        }
    }
    gone
}

fn list_version(list: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct List {
        metadata: ListMetadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ListMetadata {
        resource_version: String,
    }
    let list: List = serde_json::from_slice(list).ok()?;
    list.metadata.resource_version.parse().ok()
}

/// The pause before a watch is looked at again that is still being listed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
