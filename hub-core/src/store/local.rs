//! What was written on this node while the cloud was away, laid over what the cloud has.
//!
//! A [`LocalCopy`] is kept in the store as an object of a collection that no client sees, so it is as durable as all others and
//! changes together with them. While there is one, [`Stored::served`](super::Stored::served) is its body, whatever comes from the
//! cloud: that changes [`Stored::object`](super::Stored::object) only. Once it is deleted, the cloud's object is served again.
//!
//! A copy whose body is `null` says that the object was deleted here: it is hidden, and what the cloud still says of it is not kept.
//! Whoever gives such a copy up puts what the cloud has back.

use std::fmt;
use std::sync::LazyLock;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Change;
use crate::object::{GroupVersionResource, Object, ObjectKey};

/// A local state of an object that the cloud has not seen yet.
#[derive(Clone, PartialEq, Eq)]
pub struct LocalCopy {
    /// Which object.
    pub key: ObjectKey,
    /// The object as local clients see it; its version is not read. `null` where they see none.
    pub body: Bytes,
    /// What its owner notes beside it. JSON.
    pub note: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Document<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    #[serde(borrow)]
    body: &'a RawValue,
    #[serde(borrow)]
    note: &'a RawValue,
}

impl LocalCopy {
    /// The collection of the copies.
    pub fn resource() -> &'static GroupVersionResource {
        static RESOURCE: LazyLock<GroupVersionResource> =
            LazyLock::new(|| GroupVersionResource::new(NODE_ONLY, "v1", "localcopies"));
        &RESOURCE
    }

    /// Where the copy of an object is kept.
    pub fn key_of(key: &ObjectKey) -> ObjectKey {
        let path = key.resource.path(key.namespace.as_deref(), Some(&key.name));
        ObjectKey::new(Self::resource().clone(), None, &path)
    }

    /// The change that keeps it. Fails when body or note are no JSON.
    pub fn put(&self) -> Result<Change, serde_json::Error> {
        let document = Document {
            group: &self.key.resource.group,
            version: &self.key.resource.version,
            resource: &self.key.resource.resource,
            namespace: self.key.namespace.as_deref(),
            name: &self.key.name,
            body: serde_json::from_slice(&self.body)?,
            note: serde_json::from_slice(&self.note)?,
        };
        Ok(Change::Put(Object {
            key: Self::key_of(&self.key),
            uid: "".into(),
            version: "".into(),
            body: serde_json::to_vec(&document)?.into(),
        }))
    }

    /// The change that forgets the copy of an object.
    pub fn forget(key: &ObjectKey) -> Change {
        Change::Delete {
            key: Self::key_of(key),
            uid: None,
            version: None,
        }
    }

    /// Whether the object was deleted here.
    pub fn is_deletion(&self) -> bool {
        &self.body[..] == b"null"
    }

    /// Reads what [`put`](Self::put) kept. None for other objects.
    pub fn of(object: &Object) -> Option<Self> {
        if object.key.resource != *Self::resource() {
            return None;
        }
        let document: Document<'_> = serde_json::from_slice(&object.body).ok()?;
        let resource = GroupVersionResource::new(document.group, document.version, document.resource);
        Some(Self {
            key: ObjectKey::new(resource, document.namespace, document.name),
            body: object.body.slice_ref(document.body.get().as_bytes()),
            note: object.body.slice_ref(document.note.get().as_bytes()),
        })
    }
}

/// Without the body, which may be a Secret's.
impl fmt::Debug for LocalCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({} bytes)", self.key, self.body.len())
    }
}

/// The group of what a node keeps for itself; no cluster serves it.
pub const NODE_ONLY: &str = "node.invalid";
