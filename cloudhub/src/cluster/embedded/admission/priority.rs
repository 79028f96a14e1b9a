//! What the classes of a cluster say of a new pod: how urgent it is, and what its runtime takes (Kubernetes
//! `plugin/pkg/admission/priority`, `plugin/pkg/admission/runtimeclass`).

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::ResourceKind;
use serde_json::{Value, json};

use crate::cluster::embedded::call::{is, meta};
use crate::cluster::embedded::fault;
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::set::default;

/// Gives a new pod its priority, and what its runtime class says.
pub(in crate::cluster::embedded) fn admit(
    state: &State,
    kind: &ResourceKind,
    pod: &mut Value,
) -> Result<(), Status> {
    prioritize(state, kind, pod)?;
    equip(state, kind, pod)
}

/// The classes that are in every cluster (Kubernetes `pkg/apis/scheduling/v1/helpers.go`).
pub(in crate::cluster::embedded) fn bootstrap() -> impl Iterator<Item = (ObjectKey, Value)> {
    SYSTEM.iter().map(|(name, value, description)| {
        let body = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description,
        });
        (ObjectKey::new(classes(), None, name), body)
    })
}

/// Whether this is one of the classes that every cluster has.
pub(in crate::cluster::embedded) fn is_system(kind: &ResourceKind, name: &str) -> bool {
    is(kind, "scheduling.k8s.io", "priorityclasses")
        && matches!(name, "system-cluster-critical" | "system-node-critical")
}

/// 403 for a second class that would be the default.
pub(in crate::cluster::embedded) fn check(
    state: &State,
    kind: &ResourceKind,
    class: &Value,
) -> Result<(), Status> {
    if class["globalDefault"] != true {
        return Ok(());
    }
    let name = meta(class, "name");
    match default_class(state) {
        Some(held) if meta(&held, "name") != name => {
            let held = meta(&held, "name");
            let why =
                format!("PriorityClass {held} is already marked as default. Only one default can exist");
            Err(fault::forbidden(kind, name, &why))
        }
        _ => Ok(()),
    }
}

fn prioritize(state: &State, kind: &ResourceKind, pod: &mut Value) -> Result<(), Status> {
    let refuse = |pod: &Value, why: String| Err(fault::forbidden(kind, meta(pod, "name"), &why));
    let named = pod["spec"]["priorityClassName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let class = if named.is_empty() {
        default_class(state)
    } else {
        match state.value(&ObjectKey::new(classes(), None, &named))? {
            None => return refuse(pod, format!("no PriorityClass with name {named} was found")),
            class => class,
        }
    };
    let (priority, policy) = match &class {
        Some(class) => (
            class["value"].as_i64().unwrap_or_default(),
            class["preemptionPolicy"]
                .as_str()
                .unwrap_or("PreemptLowerPriority"),
        ),
        None => (0, "PreemptLowerPriority"),
    };
    let spec = &pod["spec"];
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != priority) {
        return refuse(
            pod,
            format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            ),
        );
    }
    if let Some(given) = spec["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        return refuse(
            pod,
            format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            ),
        );
    }
    let policy = policy.into();
    if let Some(class) = &class {
        default(&mut pod["spec"], "priorityClassName", meta(class, "name").into());
    }
    pod["spec"]["priority"] = priority.into();
    pod["spec"]["preemptionPolicy"] = policy;
    Ok(())
}

/// The class of pods that name none.
fn default_class(state: &State) -> Option<Value> {
    let resource = classes();
    let marked = |body: &[u8]| body.windows(DEFAULT.len()).any(|part| part == DEFAULT);
    state
        .list(&resource, None)
        // Few classes are the default: most are not worth reading.
        .filter(|class| marked(&class.body))
        .filter_map(|class| serde_json::from_slice::<Value>(&class.body).ok())
        .filter(|class| class["globalDefault"] == true)
        .min_by_key(|class| class["value"].as_i64().unwrap_or_default())
}

fn equip(state: &State, kind: &ResourceKind, pod: &mut Value) -> Result<(), Status> {
    let refuse = |pod: &Value, why: String| Err(fault::forbidden(kind, meta(pod, "name"), &why));
    let class = match pod["spec"]["runtimeClassName"].as_str() {
        None => Value::Null,
        Some(name) => {
            let key = ObjectKey::new(
                GroupVersionResource::new("node.k8s.io", "v1", "runtimeclasses"),
                None,
                name,
            );
            match state.value(&key)? {
                Some(class) => class,
                None => return refuse(pod, format!("pod rejected: RuntimeClass {name:?} not found")),
            }
        }
    };
    let given = &pod["spec"]["overhead"];
    let says = given.as_object().is_some_and(|given| !given.is_empty());
    if !class["overhead"].is_object() {
        if says {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return refuse(pod, why.into());
        }
    } else if says && *given != class["overhead"]["podFixed"] {
        let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
        return refuse(pod, why.into());
    } else {
        pod["spec"]["overhead"] = class["overhead"]["podFixed"].clone();
    }
    let nodes = class["scheduling"]["nodeSelector"].as_object();
    for (key, wanted) in nodes.into_iter().flatten() {
        let held = &pod["spec"]["nodeSelector"][key];
        if !held.is_null() && held != wanted {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(wanted),
                text(held)
            );
            return refuse(pod, why);
        }
        default(&mut pod["spec"], "nodeSelector", json!({}));
        pod["spec"]["nodeSelector"][key] = wanted.clone();
    }
    for toleration in class["scheduling"]["tolerations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        default(&mut pod["spec"], "tolerations", json!([]));
        if let Some(held) = pod["spec"]["tolerations"].as_array_mut()
            && !held.contains(toleration)
        {
            held.push(toleration.clone());
        }
    }
    Ok(())
}

fn classes() -> GroupVersionResource {
    GroupVersionResource::new("scheduling.k8s.io", "v1", "priorityclasses")
}

const DEFAULT: &[u8] = b"\"globalDefault\":true";
const SYSTEM: &[(&str, i64, &str)] = &[
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];
