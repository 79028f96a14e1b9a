//! `apps`: what runs pods.

use serde_json::Value;

use super::super::text::{NONE, at, containers, items, labels, number, selector, text};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    Some(match resource {
        "deployments" => {
            let ready = format!(
                "{}/{}",
                number(o, "status.readyReplicas"),
                number(o, "spec.replicas")
            );
            let [containers, images] = containers(at(o, "spec.template.spec"));
            vec![
                name,
                ready.into(),
                number(o, "status.updatedReplicas").into(),
                number(o, "status.availableReplicas").into(),
                age,
                containers,
                images,
                selector(at(o, "spec.selector")).into(),
            ]
        }
        "statefulsets" => {
            let ready = format!(
                "{}/{}",
                number(o, "status.readyReplicas"),
                number(o, "spec.replicas")
            );
            let [containers, images] = containers(at(o, "spec.template.spec"));
            vec![name, ready.into(), age, containers, images]
        }
        "daemonsets" => {
            let counts = ["desired", "current", "numberReady", "updated", "numberAvailable"].map(|count| {
                let path = match count {
                    "desired" | "current" | "updated" => format!("status.{count}NumberScheduled"),
                    other => format!("status.{other}"),
                };
                number(o, &path).into()
            });
            let [containers, images] = containers(at(o, "spec.template.spec"));
            let nodes = labels(at(o, "spec.template.spec.nodeSelector"));
            let chosen = selector(at(o, "spec.selector"));
            [
                vec![name],
                counts.into(),
                vec![nodes.into(), age, containers, images, chosen.into()],
            ]
            .concat()
        }
        "controllerrevisions" => {
            let owner = items(o, "metadata.ownerReferences")
                .iter()
                .find(|owner| owner["controller"] == true);
            let owner = owner.map_or(NONE.into(), |owner| {
                let (group, _) = text(owner, "apiVersion").split_once('/').unwrap_or(("", ""));
                let kind = text(owner, "kind").to_lowercase();
                let dot = if group.is_empty() { "" } else { "." };
                format!("{kind}{dot}{group}/{}", text(owner, "name"))
            });
            vec![name, owner.into(), number(o, "revision").into(), age]
        }
        "replicasets" => replicas(o, name, age, selector(at(o, "spec.selector"))),
        _ => return None,
    })
}

/// Of a ReplicaSet, and of the ReplicationController that was before it.
pub(super) fn replicas(o: &Value, name: Value, age: Value, chosen: String) -> Vec<Value> {
    let counts =
        ["spec.replicas", "status.replicas", "status.readyReplicas"].map(|path| number(o, path).into());
    let [containers, images] = containers(at(o, "spec.template.spec"));
    [
        vec![name],
        counts.into(),
        vec![age, containers, images, chosen.into()],
    ]
    .concat()
}
