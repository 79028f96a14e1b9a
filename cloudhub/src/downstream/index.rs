//! What each node should hold: its own Node, the pods and devices bound to it, what these need, and what is in the scopes it
//! subscribes to.
//!
//! A plain value: changes of the cluster go in, and which nodes are concerned comes out. It knows no session and keeps no queue.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use hub_core::node::NodeId;
use hub_core::object::{Object, ObjectKey};

use super::kinds::{Kind, kind};
use super::placement::Placement;
use super::references::Facts;

/// Names a watched scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ScopeId(pub(crate) u32);

/// A node must be told something about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) node: NodeId,
    pub(crate) key: ObjectKey,
    pub(crate) what: What,
}

/// What a node must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// It needs the object as it is now.
    Put {
        /// Whether it did not need it before.
        fresh: bool,
        /// The body that it should hold now.
        previous: Option<Bytes>,
    },
    /// It does not need it any more. With the last state that it may hold.
    Gone(Arc<Object>),
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Index {
    objects: HashMap<ObjectKey, Entry>,
    placement: Placement,
    /// Whether nodes are told what the service accounts of their pods may do.
    policy: bool,
    /// The objects of the scopes that are subscribed to.
    members: HashMap<ScopeId, BTreeSet<ObjectKey>>,
    /// Who subscribes.
    subscribers: HashMap<ScopeId, HashSet<NodeId>>,
}

#[derive(Debug)]
struct Entry {
    object: Arc<Object>,
    /// The scopes that it is in.
    scopes: Vec<ScopeId>,
    /// Of pods and devices.
    facts: Option<Box<Facts>>,
}

impl Index {
    /// An empty one. `policy`: whether nodes are told what the service accounts of their pods may do.
    pub(crate) fn new(policy: bool) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// An object as it is known.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.objects.get(key).map(|entry| &entry.object)
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether a node needs an object, by any of its rights.
    pub(crate) fn needs(&self, node: &NodeId, key: &ObjectKey) -> bool {
        let Some(entry) = self.objects.get(key) else {
            return false;
        };
        self.is_own(node, key) || entry.scopes.iter().any(|scope| self.subscribes(node, *scope))
    }

    /// Whether an object is a node's own: its Node, a pod or device of its, or something that one of these needs.
    pub(crate) fn is_own(&self, node: &NodeId, key: &ObjectKey) -> bool {
        match kind(key) {
            Kind::Node => &*key.name == node.as_str(),
            Kind::Pod | Kind::Device => self.placement.has(node, key),
            Kind::Config | Kind::Model | Kind::Access => self.references(node, key),
            Kind::Other => false,
        }
    }

    /// Whether a pod or device of the node needs this object, be it there or not.
    pub(crate) fn references(&self, node: &NodeId, key: &ObjectKey) -> bool {
        self.placement.references(node, key)
    }

    /// What pods and devices of any node need, be it there or not.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &ObjectKey> {
        self.placement.needed()
    }

    /// Changes whenever [`needed`](Self::needed) may have changed.
    pub(crate) fn needs_revision(&self) -> u64 {
        self.placement.revision()
    }

    /// The facts of the node's pods and devices.
    pub(crate) fn facts(&self, node: &NodeId) -> impl Iterator<Item = &Facts> {
        let placed = self.placement.of(node);
        placed.filter_map(|key| self.objects.get(key)?.facts.as_deref())
    }

    /// Whether everything is known that a pod or device cannot do without.
    pub(crate) fn has_dependencies(&self, key: &ObjectKey) -> bool {
        let facts = self.objects.get(key).and_then(|entry| entry.facts.as_ref());
        facts.is_none_or(|facts| {
            let mut needs = facts.needs.iter().filter(|key| kind(key) != Kind::Access);
            needs.all(|key| self.objects.contains_key(key))
        })
    }

    /// The DeviceModels that a device needs, be they there or not.
    pub(crate) fn models_of(&self, device: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        let facts = self.objects.get(device).and_then(|entry| entry.facts.as_ref());
        let needs = facts.into_iter().flat_map(|facts| &facts.needs);
        needs.filter(|key| kind(key) == Kind::Model)
    }

    /// All that a node should hold.
    pub(crate) fn wanted(&self, node: &NodeId) -> BTreeMap<ObjectKey, Arc<Object>> {
        let own_node = ObjectKey::new(super::nodes(), None, node.as_str());
        let needs = self.facts(node).flat_map(|facts| &facts.needs);
        let placed = self.placement.of(node);
        let subscribed = self.subscribers.iter().filter(|(_, nodes)| nodes.contains(node));
        let members = subscribed.flat_map(|(scope, _)| self.members.get(scope).into_iter().flatten());
        let keys = std::iter::once(&own_node)
            .chain(needs)
            .chain(placed)
            .chain(members);
        keys.filter_map(|key| Some((key.clone(), self.get(key)?.clone())))
            .collect()
    }

    /// The object is in the scope, and now looks like this.
    pub(crate) fn apply(&mut self, scope: ScopeId, object: Object) -> Vec<Effect> {
        let key = object.key.clone();
        let before = self.holders(&key);
        let old = self.objects.get(&key).map(|entry| entry.object.clone());
        // Two scopes tell of one object at their own pace; the newer state stands.
        let stale = old.as_ref().is_some_and(|old| is_same_or_older(&object, old));
        let mut effects = Vec::new();
        if !stale {
            let facts = Facts::of(&object, self.policy).map(Box::new);
            let replaced = old
                .as_ref()
                .filter(|old| old.uid != object.uid && !old.uid.is_empty())
                .cloned();
            let entry = self.objects.entry(key.clone()).or_insert_with(|| Entry {
                object: Arc::new(object.clone()),
                scopes: Vec::new(),
                facts: None,
            });
            entry.object = Arc::new(object);
            let old_facts = std::mem::replace(&mut entry.facts, facts.clone());
            // Another object under the same name: the old one is gone first.
            if let Some(replaced) = replaced {
                let gone = |node: &NodeId| effect(node, &key, What::Gone(replaced.clone()));
                effects.extend(before.iter().map(gone));
            }
            self.facts_changed(&key, old_facts, facts, &mut effects);
        }
        if let Some(entry) = self.objects.get_mut(&key)
            && !entry.scopes.contains(&scope)
        {
            entry.scopes.push(scope);
            self.members.entry(scope).or_default().insert(key.clone());
        }
        let after = self.holders(&key);
        let previous = old.as_ref().map(|old| old.body.clone());
        for node in &after {
            let fresh = !before.contains(node);
            if fresh || !stale {
                let previous = previous.clone().filter(|_| !fresh);
                effects.push(effect(node, &key, What::Put { fresh, previous }));
            }
        }
        if let Some(old) = old {
            let left = before.difference(&after);
            effects.extend(left.map(|node| effect(node, &key, What::Gone(old.clone()))));
        }
        // What a pod needs goes first, and what it needs no more goes last.
        effects.sort_by_key(|effect| match effect.what {
            What::Gone(_) if effect.key != key => 2,
            _ if effect.key != key => 0,
            _ => 1,
        });
        effects
    }

    /// The object is not in the scope any more. `last` is its last state, where it was told.
    pub(crate) fn remove(&mut self, scope: ScopeId, key: &ObjectKey, last: Option<Object>) -> Vec<Effect> {
        let before = self.holders(key);
        if let Some(members) = self.members.get_mut(&scope) {
            members.remove(key);
        }
        let Some(entry) = self.objects.get_mut(key) else {
            return Vec::new();
        };
        entry.scopes.retain(|known| *known != scope);
        let same = |last: &Object| last.uid == entry.object.uid;
        let last = last.filter(same).map_or_else(|| entry.object.clone(), Arc::new);
        let mut effects = Vec::new();
        if entry.scopes.is_empty()
            && let Some(entry) = self.objects.remove(key)
        {
            self.facts_changed(key, entry.facts, None, &mut effects);
        }
        let after = self.holders(key);
        let left = before.difference(&after);
        let mut gone: Vec<_> = left
            .map(|node| effect(node, key, What::Gone(last.clone())))
            .collect();
        gone.append(&mut effects);
        gone
    }

    /// The objects that are known to be in a scope.
    pub(crate) fn members(&self, scope: ScopeId) -> impl Iterator<Item = &ObjectKey> {
        self.members.get(&scope).into_iter().flatten()
    }

    /// Whether an object is known to be in a scope.
    pub(crate) fn is_member(&self, scope: ScopeId, key: &ObjectKey) -> bool {
        self.members
            .get(&scope)
            .is_some_and(|members| members.contains(key))
    }

    /// A node wants a scope from now on.
    pub(crate) fn subscribe(&mut self, node: &NodeId, scope: ScopeId) -> Vec<Effect> {
        if self.subscribes(node, scope) {
            return Vec::new();
        }
        let fresh = self.members(scope).filter(|key| !self.needs(node, key));
        let put = |key| {
            effect(
                node,
                key,
                What::Put {
                    fresh: true,
                    previous: None,
                },
            )
        };
        let effects = fresh.map(put).collect();
        self.subscribers.entry(scope).or_default().insert(node.clone());
        effects
    }

    /// A node wants a scope no more.
    pub(crate) fn unsubscribe(&mut self, node: &NodeId, scope: ScopeId) -> Vec<Effect> {
        let Some(nodes) = self.subscribers.get_mut(&scope) else {
            return Vec::new();
        };
        if !nodes.remove(node) {
            return Vec::new();
        }
        if nodes.is_empty() {
            self.subscribers.remove(&scope);
        }
        let left = self.members(scope).filter(|key| !self.needs(node, key));
        left.filter_map(|key| Some(effect(node, key, What::Gone(self.get(key)?.clone()))))
            .collect()
    }

    /// Whether anybody wants a scope.
    pub(crate) fn is_wanted(&self, scope: ScopeId) -> bool {
        self.subscribers.contains_key(&scope)
    }

    fn subscribes(&self, node: &NodeId, scope: ScopeId) -> bool {
        self.subscribers
            .get(&scope)
            .is_some_and(|nodes| nodes.contains(node))
    }

    /// Every node that needs an object.
    fn holders(&self, key: &ObjectKey) -> BTreeSet<NodeId> {
        let Some(entry) = self.objects.get(key) else {
            return BTreeSet::new();
        };
        let mut holders: BTreeSet<NodeId> = match kind(key) {
            Kind::Node => NodeId::new(&key.name).into_iter().collect(),
            Kind::Pod | Kind::Device => entry
                .facts
                .as_ref()
                .and_then(|facts| facts.node.clone())
                .into_iter()
                .collect(),
            Kind::Config | Kind::Model | Kind::Access => self.placement.nodes_with(key).cloned().collect(),
            Kind::Other => BTreeSet::new(),
        };
        let subscribers = entry
            .scopes
            .iter()
            .filter_map(|scope| self.subscribers.get(scope));
        holders.extend(subscribers.flatten().cloned());
        holders
    }

    /// A pod or device appeared, moved, or is gone: its node needs other things now.
    fn facts_changed(
        &mut self,
        placed: &ObjectKey,
        old: Option<Box<Facts>>,
        new: Option<Box<Facts>>,
        effects: &mut Vec<Effect>,
    ) {
        if old == new {
            return;
        }
        let mut concerned: Vec<(NodeId, ObjectKey)> = Vec::new();
        for facts in [&old, &new].into_iter().flatten() {
            if let Some(node) = &facts.node {
                concerned.extend(facts.needs.iter().map(|need| (node.clone(), need.clone())));
            }
        }
        let before: Vec<bool> = concerned
            .iter()
            .map(|(node, config)| self.needs(node, config))
            .collect();
        self.placement.change(placed, old.as_deref(), new.as_deref());
        for ((node, config), before) in concerned.into_iter().zip(before) {
            match (before, self.needs(&node, &config), self.get(&config)) {
                (false, true, _) => {
                    effects.push(effect(
                        &node,
                        &config,
                        What::Put {
                            fresh: true,
                            previous: None,
                        },
                    ));
                }
                (true, false, Some(object)) => {
                    effects.push(effect(&node, &config, What::Gone(object.clone())));
                }
                _ => {}
            }
        }
    }
}

fn effect(node: &NodeId, key: &ObjectKey, what: What) -> Effect {
    Effect {
        node: node.clone(),
        key: key.clone(),
        what,
    }
}

fn is_same_or_older(object: &Object, known: &Object) -> bool {
    match (object.version.number(), known.version.number()) {
        (Some(new), Some(known)) => new <= known,
        _ => object.version == known.version && object.uid == known.uid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hub_core::object::GroupVersionResource;
    use proptest::prelude::*;

    const CONFIGMAPS: ScopeId = ScopeId(1);
    const PODS: ScopeId = ScopeId(3);
    const SUBSCRIBED: ScopeId = ScopeId(9);

    fn node(number: u8) -> NodeId {
        NodeId::new(&format!("edge-{number}")).unwrap()
    }

    fn object(resource: &str, name: u8, version: u64, spec: &str) -> Object {
        let body = format!(
            r#"{{"metadata":{{"name":"o{name}","namespace":"d","uid":"u{name}","resourceVersion":"{version}"}},"spec":{spec}}}"#
        );
        Object::from_body(GroupVersionResource::core(resource), body.into()).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Config(u8),
        NoConfig(u8),
        Pod(u8, u8, Vec<u8>),
        NoPod(u8),
        Subscribe(u8),
        Unsubscribe(u8),
    }

    proptest! {
        /// Whoever follows the effects holds exactly what the index says that it should.
        #[test]
        fn the_effects_keep_every_node_as_it_should_be(steps in prop::collection::vec(prop_oneof![
            (0..4u8).prop_map(Step::Config),
            (0..4u8).prop_map(Step::NoConfig),
            (0..4u8, 0..3u8, prop::collection::vec(0..4u8, 0..3)).prop_map(|(p, n, c)| Step::Pod(p, n, c)),
            (0..4u8).prop_map(Step::NoPod),
            (0..3u8).prop_map(Step::Subscribe),
            (0..3u8).prop_map(Step::Unsubscribe),
        ], 0..60)) {
            let mut index = Index::default();
            let mut held: HashMap<NodeId, BTreeMap<ObjectKey, Arc<Object>>> = HashMap::new();
            for (version, step) in steps.into_iter().enumerate() {
                let version = version as u64 + 1;
                let config = |name| object("configmaps", name, version, "{}");
                let effects = match step {
                    Step::Config(name) => {
                        let mut effects = index.apply(CONFIGMAPS, config(name));
                        effects.extend(index.apply(SUBSCRIBED, config(name)));
                        effects
                    }
                    Step::NoConfig(name) => {
                        let mut effects = index.remove(CONFIGMAPS, &config(name).key, None);
                        effects.extend(index.remove(SUBSCRIBED, &config(name).key, None));
                        effects
                    }
                    Step::Pod(name, place, configs) => {
                        let from = configs.iter().map(|c| format!(r#"{{"configMapRef":{{"name":"o{c}"}}}}"#));
                        let from = from.collect::<Vec<_>>().join(",");
                        let spec = format!(r#"{{"nodeName":"edge-{place}","containers":[{{"envFrom":[{from}]}}]}}"#);
                        index.apply(PODS, object("pods", name, version, &spec))
                    }
                    Step::NoPod(name) => index.remove(PODS, &object("pods", name, version, "{}").key, None),
                    Step::Subscribe(n) => index.subscribe(&node(n), SUBSCRIBED),
                    Step::Unsubscribe(n) => index.unsubscribe(&node(n), SUBSCRIBED),
                };
                for Effect { node, key, what } in effects {
                    let holds = held.entry(node).or_default();
                    match what {
                        What::Put { .. } => drop(holds.insert(key.clone(), index.get(&key).unwrap().clone())),
                        What::Gone(_) => drop(holds.remove(&key)),
                    }
                }
                for n in 0..3 {
                    prop_assert_eq!(&index.wanted(&node(n)), held.entry(node(n)).or_default());
                }
            }
        }
    }
}
