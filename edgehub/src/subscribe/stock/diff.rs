//! What a list says about what is held: newer objects, and those that are gone.

use bytes::Bytes;
use hub_core::object::{InvalidObject, Metadata, Object, ObjectKey, ResourceVersion};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::selector::{FieldSelector, LabelSelector};
use hub_core::store::{Change, ObjectStore, Stored};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::apply::with_type;

/// The objects of a scope at one version of the cloud's.
#[derive(Debug, Default)]
pub(super) struct Listed {
    version: Option<u64>,
    objects: Vec<Object>,
}

/// The answer is no list. The cloud's move.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidList {
    #[error("not a list: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Object(#[from] InvalidObject),
    #[error("this node does not know the kind of {0} yet")]
    UnknownKind(Scope),
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
}

impl Listed {
    /// Reads a list, or the one object that a scope names. Items of lists need not say their kind.
    pub(super) fn parse(registry: &Registry, scope: &Scope, body: &[u8]) -> Result<Self, InvalidList> {
        let kind = registry.by_resource(&scope.resource);
        let object = |body: &[u8]| {
            let metadata = Metadata::parse(body)?;
            let body = match &kind {
                _ if !metadata.kind.is_empty() && !metadata.api_version.is_empty() => {
                    Bytes::copy_from_slice(body)
                }
                Some(kind) => with_type(kind, body),
                None => return Err(InvalidList::UnknownKind(scope.clone())),
            };
            Ok(Object::from_body(scope.resource.clone(), body)?)
        };
        if scope.name.is_some() {
            return Ok(Self {
                version: None,
                objects: vec![object(body)?],
            });
        }
        let list: List<'_> = serde_json::from_slice(body)?;
        let items = list.items.unwrap_or_default();
        Ok(Self {
            version: ResourceVersion::from(list.metadata.resource_version).number(),
            objects: items
                .iter()
                .map(|item| object(item.get().as_bytes()))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// What must be done so that the store agrees with a list.
#[derive(Debug)]
pub(super) struct Difference {
    puts: Vec<Change>,
    /// None where they are held back.
    pub(super) deletions: Option<Vec<Change>>,
    /// How many objects of the scope the store holds.
    pub(super) held: usize,
}

impl Difference {
    pub(super) fn of(store: &dyn ObjectStore, scope: &Scope, listed: Listed) -> Self {
        let keys: std::collections::HashSet<&ObjectKey> =
            listed.objects.iter().map(|object| &object.key).collect();
        // What another scope holds as a whole is that scope's business.
        let others: Vec<_> = store
            .scopes()
            .into_iter()
            .map(|(other, _)| other)
            .filter(|other| other != scope)
            .collect();
        let elsewhere = |key: &ObjectKey| {
            others
                .iter()
                .any(|s| s.labels.is_empty() && s.fields.is_empty() && s.contains_key(key))
        };
        let (labels, fields) = (
            LabelSelector::parse(&scope.labels),
            FieldSelector::parse(&scope.fields),
        );
        let matches = |stored: &Stored| match (&labels, &fields) {
            (Ok(labels), Ok(fields)) => {
                let body = &stored.object.body;
                let metadata = Metadata::parse(body).unwrap_or_default();
                scope.contains_key(&stored.object.key)
                    && labels.matches(&metadata.labels)
                    && (fields.is_empty() || fields.matches(body))
            }
            // The cloud read it; what it chose is not known here.
            _ => false,
        };
        let held: Vec<_> = store.list(&scope.resource, scope.namespace.as_deref()).objects;
        let held: Vec<_> = held.into_iter().filter(|stored| matches(stored)).collect();
        let gone = |stored: &&std::sync::Arc<Stored>| {
            // Made here and not there yet, or there only after the list was.
            let object = &stored.object;
            let newer = match (object.version.number(), listed.version) {
                (Some(held), Some(listed)) => held > listed,
                _ => object.version.as_str().is_empty(),
            };
            !keys.contains(&object.key) && !newer && !elsewhere(&object.key)
        };
        // It went before the list was made: a copy that is older than that is late.
        let as_of = |stored: &Stored| match listed.version {
            Some(listed) if stored.object.version.number().is_some() => listed.to_string().into(),
            _ => stored.object.version.clone(),
        };
        let deletion = |stored: &std::sync::Arc<Stored>| Change::Delete {
            key: stored.object.key.clone(),
            uid: Some(stored.object.uid.clone()).filter(|uid| !uid.is_empty()),
            version: Some(as_of(stored)),
        };
        let deletions = held.iter().filter(gone).map(deletion).collect();
        Self {
            deletions: Some(deletions),
            held: held.len(),
            puts: listed.objects.into_iter().map(Change::Put).collect(),
        }
    }

    /// All of it, and then the scope is complete, unless something of it is held back.
    pub(super) fn into_changes(self, scope: &Scope) -> Vec<Change> {
        let mut changes = self.puts;
        if let Some(deletions) = self.deletions {
            changes.extend(deletions);
            changes.push(Change::Complete(scope.clone()));
        }
        changes
    }
}

/// The changes in parts, so that other writers come between them.
pub(super) fn batches(mut changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut batches = Vec::new();
    while changes.len() > BATCH_MAX {
        let rest = changes.split_off(BATCH_MAX);
        batches.push(std::mem::replace(&mut changes, rest));
    }
    batches.push(changes);
    batches
}

/// The query string of a scope.
pub(super) fn query(scope: &Scope, more: &[(&str, &str)]) -> String {
    let selectors = [
        ("labelSelector", &*scope.labels),
        ("fieldSelector", &*scope.fields),
    ];
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(selectors.iter().filter(|(_, text)| !text.is_empty()));
    query.extend_pairs(more);
    query.finish()
}

const BATCH_MAX: usize = 500;
