//! The cluster as it was when a recording began: what the recording shows, and nobody in it made.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::recording::{Line, asked, is, parsed};
use super::{QUIET, Replay};
use crate::kubectl;

impl Replay {
    /// What the recorded cluster had when the recording began.
    pub(super) async fn seed(&mut self, lines: &[Line]) {
        for (kind, plural) in [
            ("Device", "devices"),
            ("DeviceModel", "devicemodels"),
            ("DeviceStatus", "devicestatuses"),
        ] {
            let definition = json!({
                "kind": "CustomResourceDefinition",
                "metadata": { "name": format!("{plural}.devices.kubeedge.io") },
                "spec": { "group": "devices.kubeedge.io", "scope": "Namespaced", "names": { "kind": kind, "plural": plural },
                    "versions": [{ "name": "v1beta1", "served": true, "storage": true,
                        "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] },
            });
            kubectl::apply(&self.world, definition).await;
        }
        if self.name.contains("authorization") {
            self.seed_rights(lines).await;
        }
        // What nobody creates in the recording was there, as it was first seen.
        let created = |resource: &str| {
            lines.iter().any(|line| match line {
                Line::Note(note) if note.contains("kubectl apply") => {
                    let object = note
                        .split_once(" <<< ")
                        .and_then(|(_, json)| serde_json::from_str::<Value>(json).ok());
                    let object = object.unwrap_or_default();
                    let (kind, name) = (object["kind"].as_str(), object["metadata"]["name"].as_str());
                    resource
                        == format!(
                            "default/{}/{}",
                            kind.unwrap_or_default().to_lowercase(),
                            name.unwrap_or_default()
                        )
                }
                Line::Up(message) => {
                    let application = parsed(message);
                    let body = application["ReqBody"]
                        .as_str()
                        .and_then(|text| BASE64.decode(text).ok())
                        .unwrap_or_default();
                    let object: Value = serde_json::from_slice(&body).unwrap_or_default();
                    let name = object["metadata"]["name"].as_str().unwrap_or("?");
                    let made = application["Verb"] == "create" || application["Verb"] == "patch";
                    made && resource.starts_with("default/configmap/") && resource.ends_with(name)
                }
                _ => false,
            })
        };
        let mut seen = BTreeSet::new();
        for line in lines {
            let Line::Down(message) = line else { continue };
            let resource = message.route.resource.as_str();
            let kept = ["/configmap/", "/secret/", "/pod/", "/devicemodel/"]
                .iter()
                .any(|kind| resource.contains(kind));
            let mut object = parsed(message);
            if resource.contains("/devicemodel/") && !message.is_reply() {
                // Where a watch or a repair brought it, KubeEdge leaves these out.
                object["kind"] = "DeviceModel".into();
                object["apiVersion"] = "devices.kubeedge.io/v1beta1".into();
            }
            if kept && object["kind"].is_string() && !created(resource) && seen.insert(resource.to_owned()) {
                kubectl::apply(&self.world, bare(object.clone())).await;
                let kind = object["kind"].as_str().unwrap().to_lowercase();
                let ours =
                    kubectl::read(&self.world, &kind, object["metadata"]["name"].as_str().unwrap()).await;
                self.learn(&object, &ours);
            }
        }
        let binding = json!({
            "kind": "ClusterRoleBinding", "metadata": { "name": "nodes-may-everything" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes" }],
        });
        let role = json!({ "kind": "ClusterRole", "metadata": { "name": "cluster-admin" },
            "rules": [{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }, { "nonResourceURLs": ["*"], "verbs": ["*"] }] });
        if !self.name.contains("authorization") {
            // A stock cloud asks nobody whether a node may, by default.
            kubectl::apply(&self.world, role).await;
            kubectl::apply(&self.world, binding).await;
        }
        let registers = lines
            .iter()
            .any(|line| matches!(line, Line::Up(message) if is(message, "insert", "/node/")));
        if !registers {
            // As it was first seen.
            let node = lines.iter().find_map(|line| match line {
                Line::Down(message)
                    if message.route.resource.as_str() == format!("null/node/{}", self.node)
                        && !message.is_reply() =>
                {
                    Some(parsed(message))
                }
                Line::Down(message) if asked(message) == format!("get /core/v1/nodes/null/{}", self.node) => {
                    let body = BASE64.decode(parsed(message)["RespBody"].as_str()?).ok()?;
                    serde_json::from_slice(&body).ok()
                }
                _ => None,
            });
            let node = node.unwrap_or_else(|| json!({ "kind": "Node", "metadata": { "name": self.node } }));
            kubectl::apply(&self.world, bare(node)).await;
        }
        let lease = lines.iter().find_map(|line| match line {
            Line::Up(message) if is(message, "insert", "/lease/") => Some(None),
            Line::Up(message) if is(message, "update", "/lease/") => Some(Some(parsed(message))),
            _ => None,
        });
        if let Some(Some(lease)) = lease {
            let mut ours = bare(lease.clone());
            ours["kind"] = "Lease".into();
            kubectl::apply(&self.world, ours).await;
            let ours = self
                .world
                .read(
                    "coordination.k8s.io/v1/leases",
                    Some("kube-node-lease"),
                    &self.node,
                )
                .await;
            self.learn(&lease, &ours);
        }
        if !matches!(lines.first(), Some(Line::Opened)) {
            // The recording begins on a connection that was open: what ours tells at its begin was told before.
            self.edge = Some(self.world.stock(&self.node).await);
            while let Some(edge) = &mut self.edge
                && matches!(tokio::time::timeout(QUIET, edge.try_receive()).await, Ok(Ok(_)))
            {}
        }
    }

    /// The kind in which a node is told what service accounts may do, and what those of the recorded cluster might.
    async fn seed_rights(&mut self, lines: &[Line]) {
        let definition = json!({
            "kind": "CustomResourceDefinition",
            "metadata": { "name": "serviceaccountaccesses.policy.kubeedge.io" },
            "spec": { "group": "policy.kubeedge.io", "scope": "Namespaced",
                "names": { "plural": "serviceaccountaccesses", "singular": "serviceaccountaccess", "kind": "ServiceAccountAccess" },
                "versions": [{ "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
                    "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] },
        });
        kubectl::apply(&self.world, definition).await;
        let told = lines.iter().find_map(|line| match line {
            Line::Down(message) if is(message, "update", "/serviceaccountaccess/") => Some(parsed(message)),
            _ => None,
        });
        for access in told.iter().flat_map(|told| {
            told["spec"]["accessClusterRoleBinding"]
                .as_array()
                .into_iter()
                .flatten()
        }) {
            let mut binding = access["clusterRoleBinding"].clone();
            binding["kind"] = "ClusterRoleBinding".into();
            let role = json!({ "kind": "ClusterRole", "metadata": { "name": binding["roleRef"]["name"] }, "rules": access["rules"] });
            kubectl::apply(&self.world, role).await;
            kubectl::apply(&self.world, binding).await;
        }
    }
}

/// Without what a server gives.
fn bare(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "managedFields",
            "generation",
        ] {
            metadata.remove(field);
        }
    }
    object
}

/// A pod with the volumes that the recorded cluster's admission gave it.
pub(super) fn completed(object: &Value, lines: &[Line]) -> Option<Value> {
    if object["kind"] != "Pod" {
        return None;
    }
    let resource = format!("default/pod/{}", object["metadata"]["name"].as_str()?);
    let recorded = lines.iter().find_map(|line| match line {
        Line::Down(message) if message.route.resource.as_str() == resource && !message.is_reply() => {
            Some(parsed(message))
        }
        _ => None,
    })?;
    let mut object = object.clone();
    if recorded["spec"]["volumes"].is_array() {
        object["spec"]["volumes"] = recorded["spec"]["volumes"].clone();
    }
    for (index, container) in recorded["spec"]["containers"].as_array()?.iter().enumerate() {
        if container["volumeMounts"].is_array() {
            object["spec"]["containers"][index]["volumeMounts"] = container["volumeMounts"].clone();
        }
    }
    Some(object)
}
