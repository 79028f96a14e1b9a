//! What a node says of itself, in Kubernetes' words.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::NodeAgentConfig;

/// The Node as it is registered.
pub(super) fn node(name: &str, config: &NodeAgentConfig, ready_since: &str) -> Value {
    let mut labels = json!({
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": std::env::consts::OS,
        "kubernetes.io/arch": architecture(),
        "node-role.kubernetes.io/agent": "",
        "node-role.kubernetes.io/edge": "",
    });
    for (label, value) in &config.labels {
        labels[label] = value.as_str().into();
    }
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": { "name": name, "labels": labels },
        "spec": {},
        "status": status(name, config, ready_since),
    })
}

/// Its status: ready, for there is nothing here that could be anything else.
pub(super) fn status(name: &str, config: &NodeAgentConfig, ready_since: &str) -> Value {
    let ready = json!({
        "type": "Ready", "status": "True", "lastHeartbeatTime": now(), "lastTransitionTime": ready_since,
        "reason": "EdgeReady", "message": "the edge hub is connected",
    });
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
        "conditions": [ready],
        "addresses": addresses,
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
    let mut metadata = json!({ "name": name, "namespace": super::LEASES });
    if !uid.is_empty() {
        metadata["ownerReferences"] =
            json!([{ "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid }]);
    }
    json!({
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": metadata,
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": config.lease_duration.as_secs(),
            "renewTime": micro_time(),
        },
    })
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
            internal_ip: Some("192.0.2.7".into()),
            ..NodeAgentConfig::default()
        };
        let node = node("e", &config, "2026-01-01T00:00:00Z");
        assert_eq!(node["metadata"]["labels"]["zone"], "shop");
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "e");
        assert_eq!(node["status"]["addresses"][0]["address"], "192.0.2.7");
        assert_eq!(node["status"]["conditions"][0]["type"], "Ready");
    }
}
