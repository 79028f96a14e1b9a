//! What a returning node lacks, found out by telling little: digests first, versions only where digests differ.
//!
//! The edge's disk is the truth about the edge (decision 5). On attach the edge sends a [`Have`]: the scopes it subscribes to and
//! one digest for each collection it holds. The cloud compares with what the node should hold. Where a collection differs, the edge
//! is asked for the digests of its [`BUCKETS`] buckets, and then for the versions in those buckets that differ; what is missing,
//! outdated or superfluous is sent as ordinary insert, update and delete messages, and a barrier behind them says "complete".
//!
//! ```text
//!   edge  ── query sync/have      Have ────────────────────────►  cloud
//!         ◄─ response             Differ { resources } ─────────
//!         ── query sync/buckets   Buckets ──────────────────────►   only if something differs
//!         ◄─ response             Differ { buckets } ───────────
//!         ── query sync/versions  Versions ─────────────────────►
//!         ◄─ insert · update · delete …, then update sync/complete (a barrier)
//! ```
//!
//! Later the cloud may find that it can follow a scope no more, as its kind is gone or may not be read now: `update sync/lost`.
//!
//! These messages exist only between peers with the `resume` capability. They are idempotent; a broken link starts over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::content_hash;
use crate::object::{GroupVersionResource, ObjectKey};

/// The resource of the first message: what the edge holds, by collection.
pub const HAVE: &str = "sync/have";
/// The resource of the second message: the buckets of the collections that differ.
pub const BUCKETS_OF: &str = "sync/buckets";
/// The resource of the third message: the versions in the buckets that differ.
pub const VERSIONS_OF: &str = "sync/versions";
/// The resource of the last message, from the cloud: everything that was to be sent has been sent and acknowledged.
pub const COMPLETE: &str = "sync/complete";
/// The resource of a message from the cloud that comes at any time later, with a [`Refused`] in it: a scope that it had promised to
/// follow it follows no more.
pub const LOST: &str = "sync/lost";
/// The source of these messages on either side.
pub const SOURCE: &str = "sync";

/// Buckets of a collection: a change in one object makes one of them differ.
pub const BUCKETS: usize = 256;

/// A set of (key, uid, version), as a sum that does not depend on the order in which they were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digest {
    /// How many.
    pub count: u64,
    /// The wrapping sum of their hashes.
    pub sum: u64,
}

impl Digest {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(entry.hash());
    }
}

/// One object that an end holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry(
    /// Namespace; empty for none.
    pub String,
    /// Name.
    pub String,
    /// Uid.
    pub String,
    /// The cloud's version.
    pub String,
);

impl Entry {
    /// The entry of an object.
    pub fn new(key: &ObjectKey, uid: &str, version: &str) -> Self {
        Self(
            key.namespace.as_deref().unwrap_or("").into(),
            (&*key.name).into(),
            uid.into(),
            version.into(),
        )
    }

    /// The key of the object in its collection.
    pub fn key(&self, resource: GroupVersionResource) -> ObjectKey {
        ObjectKey::new(resource, (!self.0.is_empty()).then_some(&*self.0), &self.1)
    }

    /// Which bucket of its collection it falls into: by its name only, so that another version is in the same bucket.
    pub fn bucket(&self) -> usize {
        (content_hash(format!("{}/{}", self.0, self.1).as_bytes()) % BUCKETS as u64) as usize
    }

    fn hash(&self) -> u64 {
        // No field can hold a zero byte, so different entries make different texts.
        content_hash(format!("{}\0{}\0{}\0{}", self.0, self.1, self.2, self.3).as_bytes())
    }
}

/// A collection's name in these messages: `<group>/<version>/<resource>`, the group empty for core.
pub fn resource_name(resource: &GroupVersionResource) -> String {
    format!("{}/{}/{}", resource.group, resource.version, resource.resource)
}

/// The collection of a [`resource_name`].
fn parse_resource_name(name: &str) -> Option<GroupVersionResource> {
    let mut parts = name.splitn(3, '/');
    let (group, version, resource) = (parts.next()?, parts.next()?, parts.next()?);
    Some(GroupVersionResource::new(group, version, resource))
}

/// A scope as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopeText {
    /// [`resource_name`] of the collection.
    pub resource: String,
    /// Namespace, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name, if one object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Label selector.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub labels: String,
    /// Field selector.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fields: String,
}

impl From<&crate::scope::Scope> for ScopeText {
    fn from(scope: &crate::scope::Scope) -> Self {
        Self {
            resource: resource_name(&scope.resource),
            namespace: scope.namespace.as_deref().map(Into::into),
            name: scope.name.as_deref().map(Into::into),
            labels: (&*scope.labels).into(),
            fields: (&*scope.fields).into(),
        }
    }
}

impl ScopeText {
    /// The scope, when the collection's name is one.
    pub fn scope(&self) -> Option<crate::scope::Scope> {
        Some(crate::scope::Scope {
            resource: parse_resource_name(&self.resource)?,
            namespace: self.namespace.as_deref().map(Into::into),
            name: self.name.as_deref().map(Into::into),
            labels: (&*self.labels).into(),
            fields: (&*self.fields).into(),
        })
    }
}

/// What the edge holds and wants. Sent on attach and whenever the wanted scopes change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Have {
    /// The scopes it subscribes to, beside what every node gets.
    pub scopes: Vec<ScopeText>,
    /// One digest for each collection it holds, by [`resource_name`].
    pub digests: BTreeMap<String, Digest>,
}

/// Where the cloud found differences.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Differ {
    /// Collections, each with the buckets that differ; an empty list asks for the buckets' digests.
    pub resources: BTreeMap<String, Vec<usize>>,
}

/// The digests of all buckets of some collections.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Buckets {
    /// By [`resource_name`]; each list has [`BUCKETS`] sums. Count and sum are folded into one number here.
    pub resources: BTreeMap<String, Vec<u64>>,
}

/// The objects in the buckets that differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Versions {
    /// By [`resource_name`]: the buckets that are told completely, and their entries.
    pub resources: BTreeMap<String, (Vec<usize>, Vec<Entry>)>,
}

/// The end of a catch-up, from the cloud: [`COMPLETE`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Complete {
    /// The wanted scopes that are on the edge's disk completely now. What every node gets is complete too, unsaid.
    #[serde(default)]
    pub scopes: Vec<ScopeText>,
    /// The wanted scopes that the cloud will not send. Asking again, or for something else, is the edge's move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// A scope that the cloud will not send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The scope.
    pub scope: ScopeText,
    /// Why, for a person.
    pub reason: String,
}

/// What one end holds, for comparing. Built from a listing when it is needed.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    resources: BTreeMap<String, Vec<Entry>>,
}

/// What must be done to a collection of the edge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Not there, or there in another version: send it.
    pub send: Vec<ObjectKey>,
    /// There and not wanted: delete it. With the uid that the edge holds.
    pub delete: Vec<(ObjectKey, String)>,
    /// There as it should be: its content may serve as a base.
    pub same: Vec<ObjectKey>,
}

impl Inventory {
    /// Adds an object.
    pub fn add(&mut self, key: &ObjectKey, uid: &str, version: &str) {
        self.resources
            .entry(resource_name(&key.resource))
            .or_default()
            .push(Entry::new(key, uid, version));
    }

    /// The digest of each collection.
    pub fn digests(&self) -> BTreeMap<String, Digest> {
        let digest = |entries: &Vec<Entry>| {
            let mut digest = Digest::default();
            entries.iter().for_each(|entry| digest.add(entry));
            digest
        };
        self.resources
            .iter()
            .map(|(name, entries)| (name.clone(), digest(entries)))
            .collect()
    }

    /// Cloud, first answer: the collections that differ from what the edge has.
    pub fn differing(&self, have: &Have) -> Differ {
        let mine = self.digests();
        let names = mine.keys().chain(have.digests.keys());
        let differs = |name: &&String| mine.get(*name) != have.digests.get(*name);
        Differ {
            resources: names
                .filter(differs)
                .map(|name| (name.clone(), Vec::new()))
                .collect(),
        }
    }

    /// Edge, second message: the buckets of the collections that differ.
    pub fn buckets(&self, differ: &Differ) -> Buckets {
        Buckets {
            resources: differ
                .resources
                .keys()
                .map(|name| (name.clone(), self.bucket_sums(name)))
                .collect(),
        }
    }

    /// Cloud, second answer: the buckets that differ.
    pub fn differing_buckets(&self, theirs: &Buckets) -> Differ {
        let mut differ = Differ::default();
        for (name, sums) in &theirs.resources {
            let mine = self.bucket_sums(name);
            let differing = (0..BUCKETS).filter(|&i| sums.get(i) != Some(&mine[i])).collect();
            differ.resources.insert(name.clone(), differing);
        }
        differ
    }

    /// Edge, third message: all it holds in the buckets that differ.
    pub fn versions(&self, differ: &Differ) -> Versions {
        let mut versions = Versions::default();
        for (name, buckets) in &differ.resources {
            let entries = self.in_buckets(name, buckets).cloned().collect();
            versions
                .resources
                .insert(name.clone(), (buckets.clone(), entries));
        }
        versions
    }

    /// Cloud: what to send and what to delete.
    pub fn difference(&self, theirs: &Versions) -> Difference {
        let mut difference = Difference::default();
        for (name, (buckets, entries)) in &theirs.resources {
            let Some(resource) = parse_resource_name(name) else {
                continue;
            };
            let held: BTreeMap<_, _> = entries.iter().map(|e| ((&e.0, &e.1), e)).collect();
            let mut wanted = BTreeMap::new();
            for entry in self.in_buckets(name, buckets) {
                wanted.insert((&entry.0, &entry.1), entry);
                let key = entry.key(resource.clone());
                if held
                    .get(&(&entry.0, &entry.1))
                    .is_some_and(|theirs| *theirs == entry)
                {
                    difference.same.push(key);
                } else {
                    difference.send.push(key);
                }
            }
            for (at, entry) in held {
                if !wanted.contains_key(&at) {
                    difference
                        .delete
                        .push((entry.key(resource.clone()), entry.2.clone()));
                }
            }
        }
        difference
    }

    fn bucket_sums(&self, name: &str) -> Vec<u64> {
        let mut digests = vec![Digest::default(); BUCKETS];
        for entry in self.resources.get(name).into_iter().flatten() {
            digests[entry.bucket()].add(entry);
        }
        digests.iter().map(|d| d.sum.wrapping_add(d.count)).collect()
    }

    fn in_buckets<'a>(&'a self, name: &str, buckets: &[usize]) -> impl Iterator<Item = &'a Entry> {
        let mut wanted = [false; BUCKETS];
        for &bucket in buckets.iter().filter(|&&b| b < BUCKETS) {
            wanted[bucket] = true;
        }
        self.resources
            .get(name)
            .into_iter()
            .flatten()
            .filter(move |entry| wanted[entry.bucket()])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inventory(objects: &BTreeMap<(u8, u16), u32>) -> Inventory {
        let mut inventory = Inventory::default();
        for ((kind, name), version) in objects {
            let resource = GroupVersionResource::core(if *kind == 0 { "pods" } else { "secrets" });
            let key = ObjectKey::new(resource, Some("d"), &format!("o{name}"));
            inventory.add(&key, &format!("u{name}"), &version.to_string());
        }
        inventory
    }

    /// The whole conversation.
    fn difference(cloud: &Inventory, edge: &Inventory) -> Difference {
        let differ = cloud.differing(&Have {
            scopes: vec![],
            digests: edge.digests(),
        });
        let differ = cloud.differing_buckets(&edge.buckets(&differ));
        cloud.difference(&edge.versions(&differ))
    }

    #[test]
    fn equal_inventories_end_the_conversation_at_once() {
        let objects = (0..1000).map(|i| ((0, i), 1)).collect();
        let (cloud, edge) = (inventory(&objects), inventory(&objects));
        assert_eq!(
            cloud.differing(&Have {
                scopes: vec![],
                digests: edge.digests()
            }),
            Differ::default()
        );
    }

    #[test]
    fn one_percent_changed_of_five_thousand_tells_little_more_than_that() {
        let mut objects: BTreeMap<_, _> = (0..5000).map(|i| ((0, i), 1)).collect();
        let edge = inventory(&objects);
        objects
            .iter_mut()
            .filter(|((_, i), _)| i % 100 == 0)
            .for_each(|(_, version)| *version = 2);
        let cloud = inventory(&objects);
        let differ = cloud.differing(&Have {
            scopes: vec![],
            digests: edge.digests(),
        });
        let differ = cloud.differing_buckets(&edge.buckets(&differ));
        let versions = edge.versions(&differ);
        assert!(
            versions
                .resources
                .values()
                .map(|(_, entries)| entries.len())
                .sum::<usize>()
                < 1500
        );
        assert_eq!(cloud.difference(&versions).send.len(), 50);
    }

    proptest! {
        #[test]
        fn the_difference_is_exactly_what_is_missing_outdated_or_superfluous(
            cloud: BTreeMap<(u8, u16), u32>,
            edge: BTreeMap<(u8, u16), u32>,
        ) {
            let kinds = |map: BTreeMap<(u8, u16), u32>| -> BTreeMap<(u8, u16), u32> {
                map.into_iter().map(|((k, n), v)| ((k % 2, n), v % 3)).collect()
            };
            let (cloud, edge) = (kinds(cloud), kinds(edge));
            let found = difference(&inventory(&cloud), &inventory(&edge));
            let send = cloud.iter().filter(|(k, v)| edge.get(k) != Some(v)).count();
            let delete = edge.keys().filter(|k| !cloud.contains_key(k)).count();
            prop_assert_eq!((found.send.len(), found.delete.len()), (send, delete));
        }
    }
}
