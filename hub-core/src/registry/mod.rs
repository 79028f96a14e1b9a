//! Which kinds of objects exist, and where they live: the built-in ones of Kubernetes, and those of CustomResourceDefinitions.
//!
//! Kind, plural and scope always come from here, never from rules about strings (law 8).

use std::sync::Arc;

use crate::object::{GroupVersionResource, InvalidObject};

/// One kind of object, as discovery describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceKind {
    /// Its collection.
    pub resource: GroupVersionResource,
    /// `Pod`, …
    pub kind: Arc<str>,
    /// `pod`, …
    pub singular: Arc<str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// `po`, …
    pub short_names: Vec<Arc<str>>,
    /// `all`, …
    pub categories: Vec<Arc<str>>,
    /// The verbs of the collection.
    pub verbs: Vec<Arc<str>>,
    /// `status`, `scale`, …
    pub subresources: Vec<Subresource>,
    /// Whether a CustomResourceDefinition made it.
    pub custom: bool,
    /// Fields that field selectors may name besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<Arc<str>>,
    /// `additionalPrinterColumns` of a CustomResourceDefinition's version, as JSON; None for built-in kinds.
    pub columns: Option<Arc<str>>,
}

/// A subresource of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale`, `log`, …
    pub name: Arc<str>,
    /// The kind of its body.
    pub kind: Arc<str>,
    /// Group and version of that kind where they differ from the resource's.
    pub group_version: Option<(Arc<str>, Arc<str>)>,
    /// Its verbs.
    pub verbs: Vec<Arc<str>>,
}

/// The kinds known at the moment. Cheap to clone; all clones see the same kinds.
#[derive(Debug, Clone)]
pub struct Registry {}

#[expect(unused_variables, reason = "signatures first")]
impl Registry {
    /// The built-in kinds of Kubernetes.
    pub fn builtin() -> Self {
        todo!()
    }

    /// The kind that lives in a collection.
    pub fn by_resource(&self, resource: &GroupVersionResource) -> Option<Arc<ResourceKind>> {
        todo!()
    }

    /// The kind with this `apiVersion` (`v1`, `apps/v1`) and `kind`.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<Arc<ResourceKind>> {
        todo!()
    }

    /// The kinds whose name in lower case is this, as route resources name them (`configmap`, `ciliumnode`).
    pub fn by_lower_kind(&self, lower_kind: &str) -> Vec<Arc<ResourceKind>> {
        todo!()
    }

    /// All kinds: built-in ones in the order a real API server lists them, then custom ones by group.
    pub fn all(&self) -> Vec<Arc<ResourceKind>> {
        todo!()
    }

    /// Learns the kinds of a CustomResourceDefinition (its JSON), or forgets those it no longer serves.
    pub fn apply_definition(&self, body: &[u8]) -> Result<(), InvalidObject> {
        todo!()
    }

    /// Forgets the kinds of a deleted CustomResourceDefinition.
    pub fn remove_definition(&self, name: &str) {
        todo!()
    }

    /// Grows by one with every change, for caches of discovery documents.
    pub fn generation(&self) -> u64 {
        todo!()
    }
}
