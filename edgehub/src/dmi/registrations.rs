//! Which mappers the node knows, and what each of them took: kept in the node's store, beside its objects.

use std::sync::Arc;

use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::store::{Change, NODE_ONLY, ObjectStore, StoreError};
use serde::{Deserialize, Serialize};

use super::plan::{Key, Kind, Told};

/// A mapper that registered. One a protocol: a later one takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapper {
    /// What it calls itself.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Devices with this protocol are its own.
    pub(crate) protocol: Arc<str>,
    /// The path of its socket.
    pub(crate) address: String,
}

/// The durable list of mappers.
#[derive(Clone)]
pub(crate) struct Registrations(Arc<dyn ObjectStore>);

impl Registrations {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self(store)
    }

    /// All mappers.
    pub(crate) fn all(&self) -> Vec<Mapper> {
        let kept = self.0.list(&mappers(), None).objects;
        kept.iter()
            .filter_map(|kept| serde_json::from_slice(&kept.object.body).ok())
            .collect()
    }

    /// What the mapper of a protocol took.
    pub(crate) fn told(&self, protocol: &str) -> Told {
        let kept = self.0.list(&told(), Some(protocol)).objects;
        let read = |kept: &Object| {
            let took: Took = serde_json::from_slice(&kept.body).ok()?;
            let (kind, rest) = kept.key.name.split_once('/')?;
            let (namespace, name) = rest.split_once('/')?;
            let kind = if kind == MODEL { Kind::Model } else { Kind::Device };
            let (namespace, name) = (namespace.into(), name.into());
            Some((
                Key {
                    kind,
                    namespace,
                    name,
                },
                took.hash,
            ))
        };
        kept.iter().filter_map(|kept| read(&kept.object)).collect()
    }

    /// Keeps a mapper, and what it takes with the answer, in the place of all that has its name or its protocol.
    pub(crate) async fn register(&self, mapper: &Mapper, took: &Told) -> Result<(), StoreError> {
        let same = |known: &Mapper| known.name == mapper.name || known.protocol == mapper.protocol;
        let mut changes = Vec::new();
        for known in self.all().iter().filter(|known| same(known)) {
            changes.push(forget(ObjectKey::new(mappers(), None, &known.protocol)));
            for key in self.told(&known.protocol).keys() {
                changes.push(forget(told_key(&known.protocol, key)));
            }
        }
        changes.push(put(ObjectKey::new(mappers(), None, &mapper.protocol), mapper)?);
        for (key, hash) in took {
            changes.push(put(told_key(&mapper.protocol, key), &Took { hash: *hash })?);
        }
        self.0.apply(changes).await.map(drop)
    }

    /// Keeps what a mapper took since, or forgot. Outer None for the latter.
    pub(crate) async fn note(
        &self,
        protocol: &str,
        news: &[(Key, Option<Option<u64>>)],
    ) -> Result<(), StoreError> {
        let change = |(key, hash): &(Key, Option<Option<u64>>)| match hash {
            Some(hash) => put(told_key(protocol, key), &Took { hash: *hash }),
            None => Ok(forget(told_key(protocol, key))),
        };
        let changes = news.iter().map(change).collect::<Result<Vec<_>, _>>()?;
        if changes.is_empty() {
            return Ok(());
        }
        self.0.apply(changes).await.map(drop)
    }
}

#[derive(Serialize, Deserialize)]
struct Took {
    hash: Option<u64>,
}

fn put(key: ObjectKey, body: &impl Serialize) -> Result<Change, StoreError> {
    let body = serde_json::to_vec(body).map_err(|error| StoreError::Disk(error.to_string()))?;
    Ok(Change::Put(Object {
        key,
        uid: "".into(),
        version: "".into(),
        body: body.into(),
    }))
}

fn forget(key: ObjectKey) -> Change {
    Change::Delete {
        key,
        uid: None,
        version: None,
    }
}

fn told_key(
    protocol: &str,
    Key {
        kind,
        namespace,
        name,
    }: &Key,
) -> ObjectKey {
    let kind = match kind {
        Kind::Model => MODEL,
        Kind::Device => "device",
    };
    ObjectKey::new(told(), Some(protocol), &format!("{kind}/{namespace}/{name}"))
}

fn mappers() -> GroupVersionResource {
    GroupVersionResource::new(NODE_ONLY, "v1", "mappers")
}

fn told() -> GroupVersionResource {
    GroupVersionResource::new(NODE_ONLY, "v1", "toldmappers")
}

const MODEL: &str = "model";
