//! What a Go edge does with a message once it has it (`edge/pkg/metamanager/process.go`): keep it, and say so.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The rows of the edge's database: content by route resource.
pub(crate) type Rows = BTreeMap<String, Value>;

/// The sources whose updates are acknowledged.
const SOURCES: [&str; 6] = [
    "edged",
    "edgecontroller",
    "dynamiccontroller",
    "devicecontroller",
    "policycontroller",
    "metamanager",
];

/// Applies a message that answers nothing. Returns the route of its acknowledgement, if it gets one.
pub(crate) fn apply(rows: &mut Rows, message: &Value) -> Option<Value> {
    let route = &message["route"];
    let text = |field: &str| route[field].as_str().unwrap_or_default();
    let (source, resource, operation) = (text("source"), text("resource"), text("operation"));
    // DeviceTwin gets these, and says nothing (`deviceManager` of group `twin`).
    if text("group") == "twin" {
        return None;
    }
    let mut ack = route.clone();
    ack["operation"] = "response".into();
    match operation {
        "insert" | "update" => {
            rows.insert(resource.into(), message["content"].clone());
            if operation == "update" && !SOURCES.contains(&source) {
                return None;
            }
        }
        "delete" => {
            let uid = |object: &Value| object["metadata"]["uid"].clone();
            let is_pod = resource.split('/').nth(1) == Some("pod");
            let other = is_pod
                && rows
                    .get(resource)
                    .is_some_and(|held| uid(held) != uid(&message["content"]));
            if !other {
                rows.remove(resource);
            }
        }
        _ => return None,
    }
    if source == "devicecontroller" && operation != "update" {
        // Built after the message was sent on to DeviceTwin.
        ack["source"] = "meta".into();
        ack["group"] = "twin".into();
    }
    Some(ack)
}

/// Takes in the answer to a question of kubelet's (`processRemote`): what looks like an object is kept, whatever it is.
pub(crate) fn consume(rows: &mut Rows, answer: &Value) {
    let (content, operation) = (&answer["content"], &answer["route"]["operation"]);
    if content == "OK" || operation != "response" {
        return;
    }
    let kept = match content.get("Object") {
        Some(_) if content.get("Err").is_some_and(|error| !error.is_null()) => return,
        Some(object) if content.get("Err").is_some() => object,
        _ => content,
    };
    let resource = answer["route"]["resource"].as_str().unwrap_or_default();
    rows.insert(resource.into(), kept.clone());
}

/// Whether the edge acknowledges the answer to this question, once it has consumed it (tunnel specification §4.5).
pub(crate) fn is_acknowledged(question: &Value) -> bool {
    let route = &question["route"];
    let operation = route["operation"].as_str().unwrap_or_default();
    let kind = route["resource"].as_str().unwrap_or_default().split('/').nth(1);
    match kind {
        Some("node") => operation == "insert",
        Some("lease") => true,
        Some(
            "configmap"
            | "secret"
            | "serviceaccounttoken"
            | "persistentvolume"
            | "persistentvolumeclaim"
            | "volumeattachment"
            | "certificatesigningrequest",
        ) => operation == "query",
        _ => false,
    }
}

/// A node as a Go kubelet registers it.
pub(crate) fn node(name: &str) -> Value {
    json!({ "metadata": { "name": name, "creationTimestamp": null, "labels": {
                "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
                "node-role.kubernetes.io/agent": "", "node-role.kubernetes.io/edge": "" } },
            "spec": {},
            "status": { "capacity": { "cpu": "1", "memory": "3840Mi", "pods": "110" }, "allocatable": { "cpu": "1", "memory": "3840Mi", "pods": "110" },
                "conditions": [{ "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-22T05:29:16Z", "lastTransitionTime": "2026-11-22T05:29:16Z",
                    "reason": "EdgeReady", "message": "edge is posting ready status" }],
                "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }, { "type": "Hostname", "address": name }],
                "nodeInfo": { "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "6.1", "osImage": "Debian", "containerRuntimeVersion": "fakeRuntime://0.1.0",
                    "kubeletVersion": "v1.32.10-kubeedge-v1.23.0", "kubeProxyVersion": "v1.32.10", "operatingSystem": "linux", "architecture": "amd64" } } })
}

/// The node's lease, as a Go kubelet writes it.
pub(crate) fn lease(name: &str, renewed: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "kube-node-lease", "creationTimestamp": null },
            "spec": { "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renewed } })
}
