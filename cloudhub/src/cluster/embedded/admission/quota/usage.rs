//! What an object takes of what its namespace may have (Kubernetes `pkg/quota/v1/evaluator/core`).

use hub_core::registry::ResourceKind;
use serde_json::{Map, Value};

use super::amount::{Amount, Amounts};
use crate::cluster::embedded::call::is;

/// Whether a quota may count objects of a kind: all but what is never stored, and events.
pub(super) fn is_counted(kind: &ResourceKind) -> bool {
    kind.namespaced && &*kind.resource.resource != "events" && &*kind.resource.resource != "bindings"
}

/// Whether objects of a kind take anything of a resource that a quota names.
pub(super) fn concerns(kind: &ResourceKind, resource: &str) -> bool {
    let plural = &*kind.resource.resource;
    if let Some(counted) = resource.strip_prefix("count/") {
        return counted == count_name(kind).trim_start_matches("count/");
    }
    if !kind.resource.group.is_empty() {
        return false;
    }
    match plural {
        "pods" => {
            OF_PODS.contains(&resource)
                || resource.starts_with("hugepages-")
                || resource.strip_prefix("requests.").is_some_and(is_extended)
        }
        "services" => OF_SERVICES.contains(&resource),
        "persistentvolumeclaims" => {
            let of_class = resource
                .split_once(CLASS)
                .map_or(resource, |(_, resource)| resource);
            matches!(of_class, "persistentvolumeclaims" | "requests.storage")
        }
        "configmaps" | "replicationcontrollers" | "resourcequotas" | "secrets" => resource == plural,
        _ => false,
    }
}

/// What an object takes.
pub(super) fn of(kind: &ResourceKind, value: &Value) -> Amounts {
    let mut amounts = Amounts::from([(count_name(kind), Amount::count(1))]);
    if is(kind, "", "pods") {
        if !is_over(value) {
            pod(value, &mut amounts);
        }
    } else if is(kind, "", "services") {
        service(&value["spec"], &mut amounts);
    } else if is(kind, "", "persistentvolumeclaims") {
        claim(value, &mut amounts);
    } else if kind.resource.group.is_empty() {
        amounts.insert(kind.resource.resource.to_string(), Amount::count(1));
    }
    amounts
}

/// What a container takes, by the names that quotas have for it.
pub(super) fn of_resources(requests: &Amounts, limits: &Amounts, amounts: &mut Amounts) {
    for (name, amount) in requests {
        let measured = MEASURED.contains(&name.as_str());
        if measured || name.starts_with("hugepages-") {
            amounts.insert(name.clone(), *amount);
        }
        if measured || is_extended(name) {
            amounts.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits {
        if MEASURED.contains(&name.as_str()) {
            amounts.insert(format!("limits.{name}"), *amount);
        }
    }
}

pub(super) fn listed(resources: &Value) -> Amounts {
    let all = resources.as_object().into_iter().flatten();
    all.filter_map(|(name, amount)| Some((name.clone(), Amount::of(amount)?)))
        .collect()
}

fn count_name(kind: &ResourceKind) -> String {
    let resource = &kind.resource;
    if resource.group.is_empty() {
        format!("count/{}", resource.resource)
    } else {
        format!("count/{}.{}", resource.resource, resource.group)
    }
}

/// What Kubernetes itself does not know, and pages of a size.
fn is_extended(name: &str) -> bool {
    name.starts_with("hugepages-") || (name.contains('/') && !name.contains("kubernetes.io/"))
}

fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn pod(pod: &Value, amounts: &mut Amounts) {
    amounts.insert("pods".into(), Amount::count(1));
    let spec = &pod["spec"];
    of_resources(&summed(spec, "requests"), &summed(spec, "limits"), amounts);
}

/// What all containers of a pod have together. Those that go before the others need it only for a while; those of them that stay, on.
fn summed(spec: &Value, side: &str) -> Amounts {
    let list = |list: &str| spec[list].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut total = Amounts::new();
    for container in list("containers") {
        plus(&mut total, &listed(&container["resources"][side]));
    }
    let (mut most, mut staying) = (Amounts::new(), Amounts::new());
    for container in list("initContainers") {
        let mut needed = listed(&container["resources"][side]);
        if container["restartPolicy"] == "Always" {
            plus(&mut total, &needed);
            plus(&mut staying, &needed);
            needed.clone_from(&staying);
        } else {
            plus(&mut needed, &staying);
        }
        for (name, amount) in needed {
            let held = most.entry(name).or_default();
            *held = held.max(amount);
        }
    }
    for (name, amount) in most {
        let held = total.entry(name).or_default();
        *held = held.max(amount);
    }
    // What the pod as a whole asks for is asked instead.
    total.extend(listed(&spec["resources"][side]));
    for (name, amount) in listed(&spec["overhead"]) {
        // Only what is limited at all has a limit to add to.
        if side == "requests" || total.contains_key(&name) {
            let held = total.entry(name).or_default();
            *held = *held + amount;
        }
    }
    total
}

/// What a pod takes as a whole, as containers say it.
pub(in crate::cluster::embedded) fn of_pod(spec: &Value) -> Value {
    let shown = |side: &str| -> Value {
        let all = summed(spec, side).into_iter();
        all.map(|(name, amount)| (name, Value::String(amount.to_string())))
            .collect::<Map<_, _>>()
            .into()
    };
    serde_json::json!({"requests": shown("requests"), "limits": shown("limits")})
}

fn plus(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let held = total.entry(name.clone()).or_default();
        *held = *held + *amount;
    }
}

fn service(spec: &Value, amounts: &mut Amounts) {
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let balanced = spec["type"] == "LoadBalancer";
    let of_nodes = if balanced && spec["allocateLoadBalancerNodePorts"] == false {
        let given = |port: &&Value| port["nodePort"].as_i64().unwrap_or(0) != 0;
        ports.iter().filter(given).count()
    } else if balanced || spec["type"] == "NodePort" {
        ports.len()
    } else {
        0
    };
    for (name, number) in [
        ("services", 1),
        ("services.loadbalancers", usize::from(balanced)),
        ("services.nodeports", of_nodes),
    ] {
        amounts.insert(name.into(), Amount::count(number));
    }
}

fn claim(claim: &Value, amounts: &mut Amounts) {
    let annotated = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = annotated.or_else(|| claim["spec"]["storageClassName"].as_str());
    let class = class.filter(|class| !class.is_empty());
    let empty = Map::new();
    let asked = claim["spec"]["resources"]["requests"]
        .as_object()
        .unwrap_or(&empty);
    let asked = asked.get("storage").and_then(Amount::of).map(Amount::rounded_up);
    let allocated = Amount::of(&claim["status"]["allocatedResources"]["storage"]);
    let storage = asked.map(|asked| allocated.map_or(asked, |given| asked.max(given.rounded_up())));
    for (name, amount) in [
        ("persistentvolumeclaims", Some(Amount::count(1))),
        ("requests.storage", storage),
    ] {
        let Some(amount) = amount else { continue };
        amounts.insert(name.into(), amount);
        if let Some(class) = class {
            amounts.insert(format!("{class}{CLASS}{name}"), amount);
        }
    }
}

const OF_PODS: &[&str] = &[
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
const OF_SERVICES: &[&str] = &["services", "services.loadbalancers", "services.nodeports"];
const MEASURED: &[&str] = &["cpu", "memory", "ephemeral-storage"];
const CLASS: &str = ".storageclass.storage.k8s.io/";

#[cfg(test)]
mod tests {
    use hub_core::object::GroupVersionResource;
    use hub_core::registry::Registry;
    use serde_json::json;

    use super::*;

    fn taken(resource: &str, value: Value) -> Vec<String> {
        let kind = Registry::builtin()
            .by_resource(&GroupVersionResource::core(resource))
            .unwrap();
        let amounts = of(&kind, &value);
        let shown = amounts.iter().map(|(name, amount)| format!("{name}={amount}"));
        shown.filter(|shown| !shown.starts_with("count/")).collect()
    }

    #[test]
    fn a_pod_takes_what_its_containers_ask_for_and_what_goes_before_them_at_its_most() {
        let with = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let stays = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}});
        let pod = json!({"spec": {"containers": [with("200m"), with("300m")],
            "initContainers": [stays, with("2"), with("1")], "overhead": {"cpu": "50m"}}});
        assert_eq!(
            taken("pods", pod.clone()),
            ["cpu=2150m", "pods=1", "requests.cpu=2150m"]
        );
        let mut over = pod;
        over["status"] = json!({"phase": "Failed"});
        assert!(taken("pods", over).is_empty());
        let gpu = json!({"spec": {"containers": [{"resources": {"requests": {"x.io/gpu": "2"}, "limits": {"x.io/gpu": "2"}}}]}});
        assert_eq!(taken("pods", gpu), ["pods=1", "requests.x.io/gpu=2"]);
    }

    #[test]
    fn services_take_ports_of_nodes_and_claims_storage_of_their_class() {
        let balanced = json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}});
        assert_eq!(
            taken("services", balanced),
            ["services=1", "services.loadbalancers=1", "services.nodeports=2"]
        );
        let claim =
            json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(
            taken("persistentvolumeclaims", claim),
            [
                "fast.storageclass.storage.k8s.io/persistentvolumeclaims=1",
                "fast.storageclass.storage.k8s.io/requests.storage=1Gi",
                "persistentvolumeclaims=1",
                "requests.storage=1Gi"
            ]
        );
    }
}
