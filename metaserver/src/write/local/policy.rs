//! Which writes this node may take by itself while the cloud is away: a table, the first rule that fits decides.

use std::borrow::Cow;
use std::time::Duration;

use hub_core::api::Verb;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::store::ObjectStore;
use serde_json::Value;

/// The writes that a node takes without the cloud, and what it may keep of them.
#[derive(Debug, Clone)]
pub struct LocalWrites {
    /// The name of this node. None takes no writes.
    pub node: Option<String>,
    /// What is taken. What fits no rule is refused with 503.
    pub rules: Vec<LocalRule>,
    /// Objects whose local state the cloud has not yet. Over it, writes to further objects are refused. Protects disk and memory.
    pub pending_max: usize,
    /// Of these, events; over it the oldest makes room.
    pub events_max: usize,
    /// Conflicts that are kept to be looked at; over it the oldest makes room. Protects disk and memory.
    pub conflicts_max: usize,
    /// Whether the endpoints of this node's pods follow the pods while the cloud, whose work it is, is away.
    pub endpoints: bool,
    /// How long to wait before what the cloud did not take is told again.
    pub retry_pause: Duration,
}

/// One row of the table.
#[derive(Debug, Clone)]
pub struct LocalRule {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The plural name of the kind.
    pub resource: Cow<'static, str>,
    /// Of [`Verb::Create`], [`Verb::Update`], [`Verb::Patch`] and [`Verb::Delete`]; nothing else is ever taken.
    pub verbs: Cow<'static, [Verb]>,
    /// Which objects.
    pub whose: Whose,
    /// JSON pointers; only what is at or below one of them may be changed. Empty for everything.
    pub fields: Cow<'static, [&'static str]>,
    /// Who wins a field outside of `status` that the cloud changed too. In `status` this node wins.
    pub wins: Winner,
    /// When it is told to the cloud: lower first.
    pub class: LocalClass,
}

/// Which objects are this node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Those that are named like the node.
    Named,
    /// Those in this namespace that are named like the node.
    NamedIn(Cow<'static, str>),
    /// All in this namespace.
    In(Cow<'static, str>),
    /// Those that have `<prefix><node>` at a JSON pointer.
    Field {
        /// Where.
        pointer: Cow<'static, str>,
        /// What stands before the node's name.
        prefix: Cow<'static, str>,
    },
    /// Those that are named like a pod on this node, in its namespace.
    OfPod,
    /// Calico's handles of addresses that all lie in blocks of this node.
    OfBlocks,
    /// All.
    Any,
}

/// Who wins where both ends changed one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Winner {
    /// The cloud's value stays, and this node's is kept as a conflict.
    Cloud,
    /// This node's value goes to the cloud.
    Local,
}

/// In which order objects are told to the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LocalClass {
    /// Leases: whether the node lives.
    Lease,
    /// What this node alone knows.
    Own,
    /// What was opted in.
    Queued,
    /// Events.
    Event,
}

impl Default for LocalWrites {
    fn default() -> Self {
        Self {
            node: None,
            rules: default_rules(),
            pending_max: 10_000,
            events_max: 1000,
            conflicts_max: 1000,
            endpoints: true,
            retry_pause: Duration::from_secs(1),
        }
    }
}

impl LocalWrites {
    /// The default table for a node.
    pub fn of_node(node: impl Into<String>) -> Self {
        Self {
            node: Some(node.into()),
            ..Self::default()
        }
    }

    /// Whether some objects of a collection may be written so.
    pub(super) fn knows(&self, resource: &GroupVersionResource, verb: Verb) -> bool {
        self.node.is_some() && self.rules.iter().any(|rule| rule.is_of(resource, verb))
    }

    /// The first rule that takes a write to an object. `state` is the object as it is, or as it is to be created.
    pub(super) fn rule(
        &self,
        store: &dyn ObjectStore,
        key: &ObjectKey,
        verb: Verb,
        state: &Value,
    ) -> Option<&LocalRule> {
        let node = self.node.as_deref()?;
        self.rules
            .iter()
            .find(|rule| rule.is_of(&key.resource, verb) && rule.whose.fits(store, node, key, state))
    }
}

impl LocalRule {
    fn is_of(&self, resource: &GroupVersionResource, verb: Verb) -> bool {
        self.group == *resource.group && self.resource == *resource.resource && self.verbs.contains(&verb)
    }

    /// Whether a change at a JSON pointer is one that the rule takes.
    pub(super) fn takes(&self, pointer: &str) -> bool {
        self.fields.is_empty()
            || self.fields.iter().any(|field| {
                pointer
                    .strip_prefix(field)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }
}

impl Whose {
    fn fits(&self, store: &dyn ObjectStore, node: &str, key: &ObjectKey, state: &Value) -> bool {
        match self {
            Self::Named => key.name.as_ref() == node,
            Self::NamedIn(namespace) => {
                key.name.as_ref() == node && key.namespace.as_deref() == Some(&**namespace)
            }
            Self::In(namespace) => key.namespace.as_deref() == Some(&**namespace),
            Self::Field { pointer, prefix } => state
                .pointer(pointer)
                .and_then(Value::as_str)
                .and_then(|value| value.strip_prefix(&**prefix))
                .is_some_and(|value| value == node),
            Self::OfPod => {
                let pods = GroupVersionResource::core("pods");
                let pod = store.get(&ObjectKey::new(pods, key.namespace.as_deref(), &key.name));
                let pod = pod.and_then(|pod| serde_json::from_slice::<Value>(&pod.served).ok());
                pod.is_some_and(|pod| pod["spec"]["nodeName"].as_str() == Some(node))
            }
            Self::OfBlocks => {
                let own = |cidr: &String| {
                    let name: String = cidr
                        .chars()
                        .map(|c| if ".:/".contains(c) { '-' } else { c })
                        .collect();
                    let resource = GroupVersionResource {
                        resource: "ipamblocks".into(),
                        ..key.resource.clone()
                    };
                    let block = store.get(&ObjectKey::new(resource, None, &name));
                    let block = block.and_then(|block| serde_json::from_slice::<Value>(&block.served).ok());
                    let affinity = block
                        .as_ref()
                        .and_then(|block| block["spec"]["affinity"].as_str());
                    affinity.and_then(|affinity| affinity.strip_prefix("host:")) == Some(node)
                };
                let blocks = state.pointer("/spec/block").and_then(Value::as_object);
                blocks.is_some_and(|blocks| !blocks.is_empty() && blocks.keys().all(own))
            }
            Self::Any => true,
        }
    }
}

/// The classes L and E of the metaServer's goal G.7.
fn default_rules() -> Vec<LocalRule> {
    let rule =
        |group: &'static str, resource: &'static str, whose, fields: &'static [&'static str]| LocalRule {
            group: group.into(),
            resource: resource.into(),
            verbs: if fields.is_empty() { ALL } else { CHANGES }.into(),
            whose,
            fields: fields.into(),
            wins: Winner::Cloud,
            class: LocalClass::Own,
        };
    let field = |pointer: &'static str, prefix: &'static str| Whose::Field {
        pointer: pointer.into(),
        prefix: prefix.into(),
    };
    let event = |group| LocalRule {
        class: LocalClass::Event,
        wins: Winner::Local,
        ..rule(group, "events", Whose::Any, &[])
    };
    vec![
        LocalRule {
            verbs: KEPT.into(),
            class: LocalClass::Lease,
            wins: Winner::Local,
            ..rule(
                "coordination.k8s.io",
                "leases",
                Whose::NamedIn("kube-node-lease".into()),
                &[],
            )
        },
        rule("", "nodes", Whose::Named, REPORTED),
        rule("", "pods", field("/spec/nodeName", ""), REPORTED),
        rule("cilium.io", "ciliumnodes", Whose::Named, &[]),
        rule("cilium.io", "ciliumendpoints", Whose::OfPod, &[]),
        rule(
            "crd.projectcalico.org",
            "blockaffinities",
            field("/spec/node", ""),
            &[],
        ),
        rule(
            "crd.projectcalico.org",
            "ipamblocks",
            field("/spec/affinity", "host:"),
            &[],
        ),
        rule("crd.projectcalico.org", "ipamhandles", Whose::OfBlocks, &[]),
        rule("spiderpool.spidernet.io", "spiderendpoints", Whose::OfPod, &[]),
        // Its drivers, as the rules for nodes have it, and what NFD found on it.
        rule("storage.k8s.io", "csinodes", Whose::Named, &[]),
        rule("nfd.k8s-sigs.io", "nodefeatures", Whose::Named, &[]),
        // What a mapper should do with a device; KubeEdge's `keadm ctl edit device` changes it on the node.
        rule(
            "devices.kubeedge.io",
            "devices",
            field("/spec/nodeName", ""),
            WISHES,
        ),
        event(""),
        event("events.k8s.io"),
    ]
}

const ALL: &[Verb] = &[Verb::Create, Verb::Update, Verb::Patch, Verb::Delete];
/// A node that lives has a lease.
const KEPT: &[Verb] = &[Verb::Create, Verb::Update, Verb::Patch];
const CHANGES: &[Verb] = &[Verb::Update, Verb::Patch];
/// What agents on the node say about it and its pods. All else is the cloud's to decide.
const REPORTED: &[&str] = &["/status", "/metadata/annotations"];
/// Of a device all but where it belongs.
const WISHES: &[&str] = &[
    "/spec/properties",
    "/spec/methods",
    "/spec/protocol",
    "/spec/stateReport",
    "/metadata/annotations",
    "/metadata/labels",
];

#[cfg(test)]
mod tests {
    use hub_core::registry::Registry;
    use hub_core::store::{MemoryStore, StoreLimits};
    use serde_json::json;

    use super::*;

    fn taken(group: &str, resource: &str, namespace: Option<&str>, name: &str, state: &Value) -> bool {
        let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
        let key = ObjectKey::new(GroupVersionResource::new(group, "v1", resource), namespace, name);
        LocalWrites::of_node("edge-1")
            .rule(&store, &key, Verb::Patch, state)
            .is_some()
    }

    #[test]
    fn a_node_takes_what_is_its_own_and_nothing_of_another() {
        assert!(taken("", "nodes", None, "edge-1", &json!({})));
        assert!(!taken("", "nodes", None, "edge-2", &json!({})));
        let lease =
            |namespace, name| taken("coordination.k8s.io", "leases", Some(namespace), name, &json!({}));
        assert!(lease("kube-node-lease", "edge-1"));
        assert!(!lease("kube-node-lease", "edge-2"));
        assert!(!lease("kube-system", "edge-1"));
        let pod = |node| taken("", "pods", Some("d"), "web", &json!({"spec": {"nodeName": node}}));
        assert!(pod("edge-1") && !pod("edge-2"));
        let block = |affinity| {
            let state = json!({"spec": {"affinity": affinity}});
            taken("crd.projectcalico.org", "ipamblocks", None, "10-0-0-0-26", &state)
        };
        assert!(block("host:edge-1") && !block("host:edge-2"));
        let device = |node| {
            taken(
                "devices.kubeedge.io",
                "devices",
                Some("d"),
                "lamp",
                &json!({"spec": {"nodeName": node}}),
            )
        };
        assert!(device("edge-1") && !device("edge-2"));
        assert!(taken("", "events", Some("d"), "any", &json!({})));
        assert!(!taken("", "secrets", Some("d"), "edge-1", &json!({})));
        assert!(!taken(
            "cilium.io",
            "ciliumendpoints",
            Some("d"),
            "web",
            &json!({})
        ));
    }

    #[test]
    fn of_its_node_object_only_what_agents_report_may_change() {
        let writes = LocalWrites::of_node("edge-1");
        let node = &writes.rules[1];
        assert!(node.takes("/status/conditions") && node.takes("/metadata/annotations/a"));
        assert!(!node.takes("/spec/unschedulable") && !node.takes("/metadata/annotationsX"));
    }
}
