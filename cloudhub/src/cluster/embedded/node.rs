//! Nodes that are new: nothing is to run on one that has not said that it is ready (Kubernetes
//! `plugin/pkg/admission/nodetaint`, `pkg/controller/nodelifecycle`).

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey};
use serde_json::{Value, json};

use super::defaults::default;
use super::state::{Mark, State};

/// Taints a new node.
pub(super) fn taint(node: &mut Value) {
    default(&mut node["spec"], "taints", json!([]));
    if let Some(taints) = node["spec"]["taints"].as_array_mut()
        && !taints.iter().any(is_not_ready)
    {
        taints.push(json!({"key": NOT_READY, "effect": EFFECT}));
    }
}

/// Takes the taint from the nodes that became ready since the mark, as a controller does in a real cluster.
pub(super) fn follow(state: &mut State, mark: Mark) -> Result<(), Status> {
    let tainted: Vec<ObjectKey> = state
        .steps_since(mark)
        .filter(|(key, _, now)| {
            &*key.resource.resource == "nodes"
                && now.is_some_and(|node| memchr::memmem::find(&node.body, NOT_READY.as_bytes()).is_some())
        })
        .map(|(key, ..)| key.clone())
        .collect();
    for key in tainted {
        if key.resource != GroupVersionResource::core("nodes") {
            continue;
        }
        if let Some(mut node) = state.value(&key)?
            && is_ready(&node)
            && untaint(&mut node)
        {
            state.put(&key.resource, &mut node)?;
        }
    }
    Ok(())
}

fn untaint(node: &mut Value) -> bool {
    let Some(taints) = node["spec"]["taints"].as_array_mut() else {
        return false;
    };
    let held = taints.len();
    taints.retain(|taint| !is_not_ready(taint));
    let (left, changed) = (taints.len(), taints.len() != held);
    if left == 0
        && let Some(spec) = node["spec"].as_object_mut()
    {
        spec.remove("taints");
    }
    changed
}

fn is_not_ready(taint: &Value) -> bool {
    taint["key"] == NOT_READY && taint["effect"] == EFFECT
}

fn is_ready(node: &Value) -> bool {
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

#[cfg(test)]
mod tests {
    use hub_core::registry::Registry;

    use super::*;
    use crate::cluster::embedded::EmbeddedConfig;

    #[test]
    fn a_node_is_tainted_until_it_is_ready() {
        let mut state = State::new(Registry::builtin(), [], 1, &EmbeddedConfig::default());
        let nodes = GroupVersionResource::core("nodes");
        let mut node =
            json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "own", "effect": "NoSchedule"}]}});
        taint(&mut node);
        taint(&mut node);
        let taints = |state: &State| {
            let node = state
                .value(&ObjectKey::new(nodes.clone(), None, "n"))
                .unwrap()
                .unwrap();
            let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
            taints
                .iter()
                .map(|taint| taint["key"].as_str().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        for (ready, wanted) in [("False", &["own", NOT_READY][..]), ("True", &["own"])] {
            node["status"] = json!({"conditions": [{"type": "Ready", "status": ready}]});
            let mark = state.mark();
            state.put(&nodes, &mut node).unwrap();
            follow(&mut state, mark).unwrap();
            assert_eq!(taints(&state), wanted, "{ready}");
        }
    }
}
