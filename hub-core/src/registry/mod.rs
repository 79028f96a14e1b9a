//! Which kinds of objects exist, and where they live: the built-in ones of Kubernetes, and those of CustomResourceDefinitions.
//!
//! Kind, plural and scope always come from here, never from rules about strings (law 8).

mod builtin;
mod definition;
pub mod fields;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::object::{GroupVersionResource, InvalidObject};

/// One kind of object, as discovery describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceKind {
    /// Its collection.
    pub resource: GroupVersionResource,
    /// `Pod`, …
    pub kind: Arc<str>,
    /// The kind of a list of them. Of a CustomResourceDefinition where that names one, else the kind and `List`.
    pub list_kind: Arc<str>,
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
    /// `openAPIV3Schema` of a CustomResourceDefinition's version, as JSON; None for built-in kinds.
    pub schema: Option<Arc<str>>,
    /// The version in which a custom kind's objects are kept, where that is known.
    pub storage_version: Option<Arc<str>>,
    /// What people who use an outdated version of a custom kind are told.
    pub deprecation: Option<Arc<str>>,
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

impl ResourceKind {
    /// `apiVersion` and `kind` of what is put to the kind, or below an object of it.
    pub fn body(&self, subresource: Option<&str>) -> (String, String) {
        let own = self.resource.api_version();
        let below = subresource.and_then(|name| self.subresources.iter().find(|known| *known.name == *name));
        let Some(below) = below else {
            return (own, self.kind.to_string());
        };
        let api_version = match &below.group_version {
            Some((group, version)) if group.is_empty() => version.to_string(),
            Some((group, version)) => format!("{group}/{version}"),
            None => own,
        };
        (api_version, below.kind.to_string())
    }
}

/// The kinds known at the moment. Cheap to clone; all clones see the same kinds. Looking up takes no lock.
#[derive(Clone)]
pub struct Registry {
    kinds: Arc<ArcSwap<Kinds>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Registry {
    /// The built-in kinds of Kubernetes.
    pub fn builtin() -> Self {
        Self {
            kinds: Arc::new(ArcSwap::from_pointee(Kinds::new(None, BTreeMap::new(), 1))),
            changed: Arc::new(watch::Sender::new(1)),
        }
    }

    /// The kind that lives in a collection.
    pub fn by_resource(&self, resource: &GroupVersionResource) -> Option<Arc<ResourceKind>> {
        self.kinds.load().by_resource.get(resource).cloned()
    }

    /// The kind with this `apiVersion` (`v1`, `apps/v1`) and `kind`.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<Arc<ResourceKind>> {
        self.kinds.load().by_kind.get(api_version)?.get(kind).cloned()
    }

    /// The kinds whose name in lower case is this, as route resources name them (`configmap`, `ciliumnode`).
    pub fn by_lower_kind(&self, lower_kind: &str) -> Vec<Arc<ResourceKind>> {
        let kinds = self.kinds.load();
        kinds.by_lower_kind.get(lower_kind).cloned().unwrap_or_default()
    }

    /// All kinds: built-in ones in the order a real API server lists them, then custom ones by group.
    pub fn all(&self) -> Vec<Arc<ResourceKind>> {
        self.kinds.load().all.clone()
    }

    /// Learns the kinds of a CustomResourceDefinition (its JSON), or forgets those it no longer serves.
    ///
    /// A definition can never replace a built-in kind. One that does not read as a definition changes nothing.
    pub fn apply_definition(&self, body: &[u8]) -> Result<(), InvalidObject> {
        let (name, kinds) = definition::parse(body)?;
        self.change(|definitions| definitions.insert(name.clone(), kinds.clone()));
        Ok(())
    }

    /// Forgets the kinds of a deleted CustomResourceDefinition.
    pub fn remove_definition(&self, name: &str) {
        self.change(|definitions| definitions.remove(name));
    }

    /// From now on these kinds are all there are, as a discovery found them: they stand for the built-in ones and for those of
    /// definitions.
    pub fn replace(&self, kinds: Vec<ResourceKind>) {
        let served: Arc<[_]> = kinds.into_iter().map(Arc::new).collect();
        self.kinds.rcu(|old| {
            if old.definitions.is_empty() && old.served.as_ref() == Some(&served) {
                return Arc::clone(old);
            }
            Arc::new(Kinds::new(
                Some(served.clone()),
                Definitions::new(),
                old.generation + 1,
            ))
        });
        self.tell();
    }

    /// Grows by one with every change, for caches of discovery documents.
    pub fn generation(&self) -> u64 {
        self.kinds.load().generation
    }

    /// Wakes with every change. The value is the [generation](Self::generation).
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn change<T>(&self, mut change: impl FnMut(&mut Definitions) -> T) {
        self.kinds.rcu(|old| {
            let mut definitions = old.definitions.clone();
            change(&mut definitions);
            if definitions == old.definitions {
                return Arc::clone(old);
            }
            Arc::new(Kinds::new(old.served.clone(), definitions, old.generation + 1))
        });
        self.tell();
    }

    fn tell(&self) {
        self.changed.send_if_modified(|known| {
            let generation = self.generation();
            let newer = generation > *known;
            *known = (*known).max(generation);
            newer
        });
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.kinds.load();
        write!(f, "Registry({} kinds)", kinds.all.len())
    }
}

/// CustomResourceDefinitions by name, each with the kinds of its served versions.
type Definitions = BTreeMap<Arc<str>, Vec<Arc<ResourceKind>>>;

/// One state of the registry, with its indexes. Replaced as a whole.
struct Kinds {
    /// What a discovery found, in place of the built-in kinds.
    served: Option<Arc<[Arc<ResourceKind>]>>,
    definitions: Definitions,
    all: Vec<Arc<ResourceKind>>,
    by_resource: HashMap<GroupVersionResource, Arc<ResourceKind>>,
    by_kind: HashMap<String, HashMap<Arc<str>, Arc<ResourceKind>>>,
    by_lower_kind: HashMap<String, Vec<Arc<ResourceKind>>>,
    generation: u64,
}

impl Kinds {
    fn new(served: Option<Arc<[Arc<ResourceKind>]>>, definitions: Definitions, generation: u64) -> Self {
        let mut custom: Vec<_> = definitions.values().flatten().cloned().collect();
        custom.sort_by(|a, b| {
            let (a, b) = (&a.resource, &b.resource);
            let version =
                || definition::version_priority(&b.version).cmp(&definition::version_priority(&a.version));
            a.group
                .cmp(&b.group)
                .then_with(version)
                .then_with(|| a.resource.cmp(&b.resource))
        });
        let mut kinds = Self {
            served: served.clone(),
            definitions,
            all: Vec::new(),
            by_resource: HashMap::new(),
            by_kind: HashMap::new(),
            by_lower_kind: HashMap::new(),
            generation,
        };
        let served = served.as_deref().unwrap_or(&builtin::KINDS);
        for kind in served.iter().chain(&custom) {
            kinds.add(kind);
        }
        kinds
    }

    /// The first one wins, so that no definition hides a built-in kind.
    fn add(&mut self, kind: &Arc<ResourceKind>) {
        if self.by_resource.contains_key(&kind.resource) {
            return;
        }
        self.by_resource.insert(kind.resource.clone(), Arc::clone(kind));
        self.by_kind
            .entry(kind.resource.api_version())
            .or_default()
            .entry(kind.kind.clone())
            .or_insert_with(|| Arc::clone(kind));
        self.by_lower_kind
            .entry(kind.kind.to_lowercase())
            .or_default()
            .push(Arc::clone(kind));
        self.all.push(Arc::clone(kind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDGETS: &str = r#"{"kind":"CustomResourceDefinition","metadata":{"name":"widgets.demo.example.com"},
        "spec":{"group":"demo.example.com","scope":"Namespaced",
        "names":{"plural":"widgets","kind":"Widget","listKind":"WidgetCollection","shortNames":["wd"],"categories":["all"]},
        "versions":[
        {"name":"v1","served":true,"storage":true,"subresources":{"status":{},"scale":{"specReplicasPath":".spec.replicas"}},
         "additionalPrinterColumns":[{"name":"Size","type":"integer","jsonPath":".spec.size"}],
         "selectableFields":[{"jsonPath":".spec.color"}]},
        {"name":"v1alpha1","served":false},{"name":"v2beta1","served":true}]}}"#;

    fn widgets(version: &str) -> GroupVersionResource {
        GroupVersionResource::new("demo.example.com", version, "widgets")
    }

    #[test]
    fn the_built_in_kinds_are_those_of_discovery() {
        let registry = Registry::builtin();
        let pods = registry.by_resource(&GroupVersionResource::core("pods")).unwrap();
        assert_eq!(
            (&*pods.kind, &*pods.singular, pods.namespaced, &*pods.list_kind),
            ("Pod", "pod", true, "PodList")
        );
        assert_eq!(pods.short_names, ["po".into()]);
        assert!(
            pods.subresources
                .iter()
                .any(|s| &*s.name == "status" && s.group_version.is_none())
        );
        let eviction = pods.subresources.iter().find(|s| &*s.name == "eviction").unwrap();
        assert_eq!(eviction.group_version, Some(("policy".into(), "v1".into())));
        assert!(pods.selectable_fields.contains(&"spec.nodeName".into()));
        let policy = registry.by_kind("networking.k8s.io/v1", "NetworkPolicy").unwrap();
        assert_eq!(&*policy.resource.resource, "networkpolicies");
        assert_eq!(
            &*registry.by_kind("v1", "Endpoints").unwrap().resource.resource,
            "endpoints"
        );
        assert_eq!(registry.by_lower_kind("event").len(), 2, "core and events.k8s.io");
        assert!(
            registry.by_lower_kind("networkpolicys").is_empty()
                && registry.by_kind("v1", "Deployment").is_none()
        );
        let all = registry.all();
        assert_eq!(
            (all.len(), &*all[0].kind, &*all[17].kind),
            (68, "Binding", "APIService")
        );
        assert!(
            all.iter()
                .all(|kind| !kind.custom && !kind.singular.is_empty() && !kind.verbs.is_empty())
        );
    }

    #[test]
    fn a_definition_brings_its_served_versions_and_takes_them_away() {
        let registry = Registry::builtin();
        let other = registry.clone();
        registry.apply_definition(WIDGETS.as_bytes()).unwrap();
        let kind = other.by_resource(&widgets("v1")).unwrap();
        assert_eq!(
            (&*kind.kind, &*kind.singular, &*kind.list_kind),
            ("Widget", "widget", "WidgetCollection")
        );
        assert!(kind.custom && kind.namespaced);
        assert_eq!(
            kind.subresources.iter().map(|s| &*s.name).collect::<Vec<_>>(),
            ["status", "scale"]
        );
        assert_eq!(kind.selectable_fields, ["spec.color".into()]);
        assert!(kind.columns.as_deref().unwrap().contains(".spec.size"));
        assert!(other.by_resource(&widgets("v1alpha1")).is_none());
        assert_eq!(registry.generation(), 2);
        registry.apply_definition(WIDGETS.as_bytes()).unwrap();
        assert_eq!(registry.generation(), 2, "the same again is no change");
        let versions: Vec<_> = registry.all()[68..]
            .iter()
            .map(|k| k.resource.version.to_string())
            .collect();
        assert_eq!(versions, ["v1", "v2beta1"], "stable versions first");

        registry
            .apply_definition(WIDGETS.replace("\"served\":true", "\"served\":false").as_bytes())
            .unwrap();
        assert!(other.by_resource(&widgets("v1")).is_none());
        registry.apply_definition(WIDGETS.as_bytes()).unwrap();
        registry.remove_definition("widgets.demo.example.com");
        assert!(other.by_resource(&widgets("v1")).is_none() && registry.all().len() == 68);
        assert!(registry.by_lower_kind("widget").is_empty());
    }

    #[test]
    fn what_a_discovery_found_is_all_there_is() {
        let registry = Registry::builtin();
        let other = registry.clone();
        registry.apply_definition(WIDGETS.as_bytes()).unwrap();
        let pods = registry.by_resource(&GroupVersionResource::core("pods")).unwrap();
        let widget = registry.by_resource(&widgets("v1")).unwrap();
        registry.replace(vec![(*pods).clone()]);
        assert_eq!((other.all().len(), other.generation()), (1, 3));
        assert!(other.by_kind("v1", "Pod").is_some() && other.by_kind("v1", "Node").is_none());
        registry.replace(vec![(*pods).clone()]);
        assert_eq!(other.generation(), 3, "the same again is no change");
        registry.replace(vec![(*pods).clone(), (*widget).clone()]);
        assert!(other.by_resource(&widgets("v1")).is_some());
    }

    #[test]
    fn odd_definitions_change_nothing_and_do_not_panic() {
        let registry = Registry::builtin();
        for odd in [
            "",
            "[]",
            "null",
            "{}",
            r#"{"metadata":{"name":"a"}}"#,
            r#"{"metadata":{"name":"a"},"spec":{}}"#,
            r#"{"metadata":{"name":7},"spec":{"group":"g"}}"#,
            r#"{"metadata":{"name":""},"spec":{"group":"g","scope":"Cluster","names":{"plural":"p","kind":"K"},"versions":[]}}"#,
            r#"{"metadata":{"name":"p.g"},"spec":{"group":"g","scope":"Elsewhere","names":{"plural":"p","kind":"K"},"versions":[]}}"#,
            r#"{"metadata":{"name":"p.g"},"spec":{"group":"g","scope":"Cluster","names":{"plural":"","kind":"K"},"versions":[]}}"#,
        ] {
            assert!(registry.apply_definition(odd.as_bytes()).is_err(), "{odd}");
        }
        let hostile = r#"{"metadata":{"name":"pods."},"spec":{"group":"","scope":"Cluster",
            "names":{"plural":"pods","kind":"Pod","shortNames":null},"versions":[{"name":"v1","served":true,"subresources":null}]}}"#;
        let _ = registry.apply_definition(hostile.as_bytes());
        registry.remove_definition("nobody");
        let pods = registry.by_resource(&GroupVersionResource::core("pods")).unwrap();
        assert!(
            !pods.custom && pods.namespaced,
            "no definition hides a built-in kind"
        );
    }
}
