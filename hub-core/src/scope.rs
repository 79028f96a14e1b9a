//! A part of a cluster that somebody wants to hold: a collection, perhaps narrowed.

use std::fmt;
use std::sync::Arc;

use crate::object::{GroupVersionResource, ObjectKey};
use crate::selector::{FieldSelector, LabelSelector};

/// What is replicated to a node: all objects of a collection that match.
///
/// Two scopes with equal fields are the same subscription, whoever asked for it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The collection.
    pub resource: GroupVersionResource,
    /// None for all namespaces and for cluster-scoped resources.
    pub namespace: Option<Arc<str>>,
    /// Set when only one object is wanted.
    pub name: Option<Arc<str>>,
    /// Label selector text as Kubernetes writes it; empty for all.
    pub labels: Arc<str>,
    /// Field selector text; empty for all.
    pub fields: Arc<str>,
}

impl Scope {
    /// A whole collection.
    pub fn all(resource: GroupVersionResource) -> Self {
        Self {
            resource,
            namespace: None,
            name: None,
            labels: "".into(),
            fields: "".into(),
        }
    }

    /// One namespace of a collection.
    pub fn namespaced(resource: GroupVersionResource, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.into()),
            ..Self::all(resource)
        }
    }

    /// One object.
    pub fn object(key: &ObjectKey) -> Self {
        Self {
            namespace: key.namespace.clone(),
            name: Some(key.name.clone()),
            ..Self::all(key.resource.clone())
        }
    }

    /// Whether everything in `other` is surely in `self` too: it may demand more, and all that `self` demands. Single demands are
    /// compared as they stand, so a `false` may be over-careful; a `true` never lies.
    pub fn covers(&self, other: &Scope) -> bool {
        self.resource == other.resource
            && (self.namespace.is_none() || self.namespace == other.namespace)
            && (self.name.is_none() || self.name == other.name)
            && (self.labels.is_empty() || self.labels == other.labels || self.demands_labels_of(other))
            && (self.fields.is_empty() || self.fields == other.fields || self.demands_fields_of(other))
    }

    fn demands_labels_of(&self, other: &Scope) -> bool {
        let [ours, theirs] = [&self.labels, &other.labels].map(|text| LabelSelector::parse(text));
        matches!((ours, theirs), (Ok(ours), Ok(theirs)) if theirs.demands(&ours))
    }

    fn demands_fields_of(&self, other: &Scope) -> bool {
        let [ours, theirs] = [&self.fields, &other.fields].map(|text| FieldSelector::parse(text));
        matches!((ours, theirs), (Ok(ours), Ok(theirs)) if theirs.demands(&ours))
    }

    /// Whether a key lies in the scope as far as collection, namespace and name say.
    pub fn contains_key(&self, key: &ObjectKey) -> bool {
        self.resource == key.resource
            && (self.namespace.is_none() || self.namespace == key.namespace)
            && self.name.as_ref().is_none_or(|name| *name == key.name)
    }
}

/// Deletions in a scope that the cloud asks for and that this node does not believe yet: they are too many at once. The objects
/// are still there, and may be gone in the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    /// Where.
    pub scope: Scope,
    /// How many objects would go.
    pub deletions: usize,
    /// Of how many that are held.
    pub held: usize,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// From when on the cloud is believed if it still says so. None where only an operator may confirm it.
    pub second_look_ms: Option<i64>,
}

/// A canonical text: equal scopes print alike, different ones differ.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &self
                .resource
                .path(self.namespace.as_deref(), self.name.as_deref()),
        )?;
        if !self.labels.is_empty() {
            write!(f, "?labels={}", self.labels)?;
        }
        if !self.fields.is_empty() {
            write!(f, "?fields={}", self.fields)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_scope_covers_a_narrower_one() {
        let pods = GroupVersionResource::core("pods");
        let all = Scope::all(pods.clone());
        let one_namespace = Scope::namespaced(pods.clone(), "shop");
        let one = Scope::object(&ObjectKey::new(pods.clone(), Some("shop"), "web"));
        let mine = Scope {
            fields: "spec.nodeName=edge-1".into(),
            ..all.clone()
        };
        assert!(all.covers(&one_namespace) && one_namespace.covers(&one) && all.covers(&mine));
        assert!(!one_namespace.covers(&all) && !one.covers(&one_namespace) && !mine.covers(&all));
        assert!(
            !mine.covers(&one),
            "whether the object matches is not known from its key"
        );
        assert!(!all.covers(&Scope::all(GroupVersionResource::core("nodes"))));
    }

    #[test]
    fn who_demands_more_is_covered_by_who_demands_a_part_of_it() {
        let scope = |labels: &str, fields: &str| Scope {
            labels: labels.into(),
            fields: fields.into(),
            ..Scope::all(GroupVersionResource::core("pods"))
        };
        let mine = scope("", "spec.nodeName=edge-1");
        // As `kubectl describe node` asks.
        let running = "status.phase!=Succeeded,spec.nodeName=edge-1,status.phase!=Failed";
        assert!(mine.covers(&scope("", running)) && mine.covers(&scope("app=web", running)));
        assert!(!scope("", running).covers(&mine) && !mine.covers(&scope("", "spec.nodeName!=edge-1")));
        assert!(!mine.covers(&scope("", "spec.nodeName=edge-2,status.phase=Running")));
        let shops = scope("tier in (a,b),!old", "");
        assert!(shops.covers(&scope("!old,tier in (b,a),app=web", "")));
        assert!(!shops.covers(&scope("tier in (a,b)", "")) && !shops.covers(&scope("tier=a,!old", "")));
        assert!(!shops.covers(&scope("tier in (", "")), "what is no selector");
    }
}
