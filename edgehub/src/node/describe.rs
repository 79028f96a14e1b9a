//! What a node says of itself, in Kubernetes' words.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::{NodeAgentConfig, Taint};

/// The Node as it is registered.
pub(super) fn node(name: &str, config: &NodeAgentConfig, ready_since: &str) -> Value {
    let mut labels = json!({
        "beta.kubernetes.io/arch": architecture(),
        "beta.kubernetes.io/os": std::env::consts::OS,
        "kubernetes.io/arch": architecture(),
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": std::env::consts::OS,
        "node-role.kubernetes.io/agent": "",
        "node-role.kubernetes.io/edge": "",
    });
    for (label, value) in &config.labels {
        labels[label] = value.as_str().into();
    }
    let mut metadata = json!({ "name": name, "labels": labels });
    if !config.annotations.is_empty() {
        metadata["annotations"] = json!(config.annotations);
    }
    let mut spec = json!({});
    if let Some(cidr) = &config.pod_cidr {
        spec["podCIDR"] = cidr.as_str().into();
        spec["podCIDRs"] = json!([cidr]);
    }
    if !config.taints.is_empty() {
        let taint = |taint: &Taint| {
            let mut json = json!({ "key": taint.key, "effect": taint.effect });
            if !taint.value.is_empty() {
                json["value"] = taint.value.as_str().into();
            }
            json
        };
        spec["taints"] = config.taints.iter().map(taint).collect();
    }
    // A node that is not to take pods yet is marked and tainted, as a kubelet does it.
    if !config.schedulable {
        spec["unschedulable"] = true.into();
        let unschedulable = json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" });
        match spec["taints"].as_array_mut() {
            Some(taints) => taints.push(unschedulable),
            None => spec["taints"] = json!([unschedulable]),
        }
    }
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": metadata,
        "spec": spec,
        "status": status(name, config, ready_since),
    })
}

/// What a Node must be told to have the labels and annotations of `wanted`, if it lacks some.
pub(super) fn lacking(known: &Value, wanted: &Value) -> Option<Value> {
    let mut metadata = json!({ "name": wanted["metadata"]["name"] });
    let mut any = false;
    for field in ["labels", "annotations"] {
        let has = &known["metadata"][field];
        let wanted = wanted["metadata"][field].as_object();
        let lacks: serde_json::Map<_, _> = wanted
            .into_iter()
            .flatten()
            .filter(|(key, _)| has.get(key).is_none())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        any |= !lacks.is_empty();
        if !lacks.is_empty() {
            metadata[field] = lacks.into();
        }
    }
    any.then(|| json!({ "kind": "Node", "apiVersion": "v1", "metadata": metadata, "spec": {}, "status": {} }))
}

/// Its status: ready, for there is nothing here that could be anything else. There is no pressure either, since nothing is evicted.
pub(super) fn status(name: &str, config: &NodeAgentConfig, ready_since: &str) -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "lastHeartbeatTime": now(), "lastTransitionTime": ready_since,
            "reason": reason, "message": message,
        })
    };
    let calm = |kind| condition(kind, "False", "NothingIsEvicted", "this node evicts no pods");
    let mut addresses = vec![json!({ "type": "Hostname", "address": name })];
    if let Some(ip) = &config.internal_ip {
        addresses.insert(0, json!({ "type": "InternalIP", "address": ip }));
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let resources = json!({
        "cpu": cpus.to_string(),
        "memory": format!("{}Ki", memory_kib()),
        "pods": config.pods.to_string(),
    });
    json!({
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            calm("MemoryPressure"),
            calm("DiskPressure"),
            calm("PIDPressure"),
            condition("Ready", "True", "EdgeReady", "the edge hub is connected"),
        ],
        "addresses": addresses,
        // Nobody listens for the API server's calls.
        "daemonEndpoints": { "kubeletEndpoint": { "Port": 0 } },
        "nodeInfo": {
            "architecture": architecture(),
            "operatingSystem": std::env::consts::OS,
            "kubeletVersion": config.version,
            "kubeProxyVersion": "",
            "containerRuntimeVersion": "",
            "kernelVersion": read("/proc/sys/kernel/osrelease"),
            "osImage": os_image(),
            "bootID": read("/proc/sys/kernel/random/boot_id"),
            "machineID": read("/etc/machine-id"),
            "systemUUID": "",
        },
    })
}

/// A fresh lease.
pub(super) fn lease(name: &str, uid: &str, config: &NodeAgentConfig) -> Value {
    let lease = json!({
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": { "name": name, "namespace": super::LEASES },
        "spec": {},
    });
    renewed(lease, name, uid, config)
}

/// The lease, renewed now. It belongs to the Node of this uid: a lease that another life of the node left would go with that.
pub(super) fn renewed(mut lease: Value, name: &str, uid: &str, config: &NodeAgentConfig) -> Value {
    if !uid.is_empty() {
        lease["metadata"]["ownerReferences"] =
            json!([{ "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid }]);
    }
    lease["spec"]["holderIdentity"] = name.into();
    lease["spec"]["leaseDurationSeconds"] = config.lease_duration.as_secs().into();
    lease["spec"]["renewTime"] = micro_time().into();
    lease
}

/// `metav1.MicroTime` of now.
pub(super) fn micro_time() -> String {
    let now = OffsetDateTime::now_utc();
    let seconds = now
        .replace_nanosecond(0)
        .unwrap_or(now)
        .format(&Rfc3339)
        .unwrap_or_default();
    format!("{}.{:06}Z", seconds.trim_end_matches('Z'), now.microsecond())
}

/// `metav1.Time` of now.
pub(super) fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0)
        .unwrap_or(now)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn memory_kib() -> u64 {
    let text = read("/proc/meminfo");
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total
        .and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0)
}

fn os_image() -> String {
    let text = read("/etc/os-release");
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or(std::env::consts::OS).trim_matches('"').to_owned()
}

/// A small file of the system's; empty where there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_kubernetes_writes_them() {
        let micro = micro_time();
        assert_eq!(
            (micro.len(), &micro[19..20], &micro[26..]),
            (27, ".", "Z"),
            "{micro}"
        );
        assert_eq!(now().len(), 20);
    }

    #[test]
    fn a_node_has_what_every_edge_node_has_and_what_it_was_given() {
        let config = NodeAgentConfig {
            labels: [("zone".to_owned(), "shop".to_owned())].into(),
            taints: vec![Taint {
                key: "shop".into(),
                value: String::new(),
                effect: "NoExecute".into(),
            }],
            schedulable: false,
            internal_ip: Some("192.0.2.7".into()),
            ..NodeAgentConfig::default()
        };
        let node = node("e", &config, "2026-01-01T00:00:00Z");
        assert_eq!(node["metadata"]["labels"]["zone"], "shop");
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "e");
        assert_eq!(node["status"]["addresses"][0]["address"], "192.0.2.7");
        assert_eq!(node["status"]["conditions"][3]["type"], "Ready");
        assert_eq!(node["spec"]["unschedulable"], true);
        assert_eq!(
            node["spec"]["taints"],
            json!([
                { "key": "shop", "effect": "NoExecute" },
                { "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" },
            ])
        );
    }
}
