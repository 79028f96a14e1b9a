//! Nodes that are new: nothing is to run on one that has not said that it is ready (Kubernetes
//! `plugin/pkg/admission/nodetaint`, `pkg/controller/nodelifecycle`).

use serde_json::{Value, json};

use crate::cluster::embedded::values::set::default;

/// Taints a new node.
pub(in crate::cluster::embedded) fn taint(node: &mut Value) {
    default(&mut node["spec"], "taints", json!([]));
    if let Some(taints) = node["spec"]["taints"].as_array_mut()
        && !taints.iter().any(is_not_ready)
    {
        taints.push(json!({"key": NOT_READY, "effect": EFFECT}));
    }
}

/// Takes the taint from a node that says that it is ready, in the same write: in a real cluster a controller does it some moments later.
pub(in crate::cluster::embedded) fn settle(node: &mut Value) {
    if !is_ready(node) {
        return;
    }
    let Some(taints) = node["spec"]["taints"].as_array_mut() else {
        return;
    };
    taints.retain(|taint| !is_not_ready(taint));
    if taints.is_empty()
        && let Some(spec) = node["spec"].as_object_mut()
    {
        spec.remove("taints");
    }
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
    use super::*;

    #[test]
    fn a_node_is_tainted_until_it_is_ready() {
        let mut node =
            json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "own", "effect": "NoSchedule"}]}});
        taint(&mut node);
        taint(&mut node);
        let taints = |node: &Value| {
            let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
            taints
                .iter()
                .map(|taint| taint["key"].as_str().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        for (ready, wanted) in [("False", &["own", NOT_READY][..]), ("True", &["own"])] {
            node["status"] = json!({"conditions": [{"type": "Ready", "status": ready}]});
            settle(&mut node);
            assert_eq!(taints(&node), wanted, "{ready}");
        }
        let mut plain = json!({"metadata": {"name": "n"}, "status": node["status"]});
        taint(&mut plain);
        settle(&mut plain);
        assert_eq!(plain["spec"], json!({}), "no list is left");
    }
}
