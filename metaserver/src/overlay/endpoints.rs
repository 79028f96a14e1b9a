//! What this node's own pods make of a Service's endpoints (Kubernetes `staging/src/k8s.io/endpointslice/utils.go` and
//! `pkg/controller/endpoint`). Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

/// Namespace and name.
pub(super) type Name = (Arc<str>, Arc<str>);

/// What of a pod endpoints tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalPod {
    addresses: Vec<IpAddr>,
    ready: bool,
    terminating: bool,
    ended: bool,
}

/// The pods of this node.
pub(super) type LocalPods = HashMap<Name, LocalPod>;

impl LocalPod {
    /// Reads a pod; None for one of another node.
    pub(super) fn parse(body: &[u8], node: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Pod {
            metadata: Metadata,
            spec: Spec,
            #[serde(default)]
            status: Status,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            #[serde(default)]
            deletion_timestamp: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            #[serde(default)]
            node_name: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Status {
            phase: String,
            #[serde(rename = "podIP")]
            pod_ip: String,
            #[serde(rename = "podIPs")]
            pod_ips: Vec<PodIp>,
            conditions: Vec<Condition>,
        }
        #[derive(Deserialize)]
        struct PodIp {
            #[serde(default)]
            ip: String,
        }
        #[derive(Deserialize)]
        struct Condition {
            r#type: String,
            status: String,
        }
        let Pod {
            metadata,
            spec,
            status,
        } = serde_json::from_slice(body).ok()?;
        if spec.node_name != node {
            return None;
        }
        let all = status.pod_ips.iter().map(|known| &known.ip);
        let mut addresses: Vec<IpAddr> = all.filter_map(|text| text.parse().ok()).collect();
        if addresses.is_empty() {
            addresses.extend(status.pod_ip.parse::<IpAddr>());
        }
        let ready = |condition: &Condition| condition.r#type == "Ready" && condition.status == "True";
        Some(Self {
            addresses,
            ready: status.conditions.iter().any(ready),
            terminating: metadata.deletion_timestamp.is_some(),
            ended: matches!(&*status.phase, "Succeeded" | "Failed"),
        })
    }

    /// Its address of a family. None: it takes no part.
    fn address(&self, v6: bool) -> Option<String> {
        let fits = self.addresses.iter().find(|address| address.is_ipv6() == v6);
        fits.filter(|_| !self.ended).map(ToString::to_string)
    }
}

/// An EndpointSlice or an Endpoints object as the pods of this node say it is. `others_too` says that pods that are not ready are
/// published as well. Names the pods of this node that it is about.
pub(super) fn corrected(
    object: &Value,
    namespace: &Arc<str>,
    pods: &LocalPods,
    others_too: bool,
) -> (Value, Vec<Name>) {
    let mut new = object.clone();
    let mut about = Vec::new();
    let mut find = |endpoint: &Value| {
        let target = &endpoint["targetRef"];
        let name = target["name"].as_str().filter(|_| target["kind"] == "Pod")?;
        let name: Name = (namespace.clone(), name.into());
        let pod = pods.get(&name)?;
        about.push(name);
        Some(pod)
    };
    if let Some(endpoints) = new.get_mut("endpoints").and_then(Value::as_array_mut) {
        let v6 = object["addressType"] == "IPv6";
        endpoints.retain_mut(|endpoint| match find(endpoint) {
            Some(pod) => slice_entry(endpoint, pod, v6, others_too),
            None => true,
        });
    }
    let subsets = new.get_mut("subsets").and_then(Value::as_array_mut);
    for subset in subsets.into_iter().flatten() {
        let (mut ready, mut waiting) = (Vec::new(), Vec::new());
        for (list, was_ready) in [("addresses", true), ("notReadyAddresses", false)] {
            let entries = subset
                .get_mut(list)
                .and_then(Value::as_array_mut)
                .map(std::mem::take);
            for mut entry in entries.into_iter().flatten() {
                let is_ready = match find(&entry) {
                    None => was_ready,
                    Some(pod) => {
                        let v6 = entry["ip"].as_str().is_some_and(|ip| ip.contains(':'));
                        let Some(address) = pod.address(v6) else { continue };
                        entry["ip"] = address.into();
                        others_too || (pod.ready && !pod.terminating)
                    }
                };
                if is_ready { &mut ready } else { &mut waiting }.push(entry);
            }
        }
        for (list, entries) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            let subset = subset.as_object_mut();
            match (subset, entries.is_empty()) {
                (Some(subset), true) => drop(subset.remove(list)),
                (Some(subset), false) => drop(subset.insert(list.into(), entries.into())),
                (None, _) => {}
            }
        }
    }
    (new, about)
}

/// Whether the endpoint stays.
fn slice_entry(endpoint: &mut Value, pod: &LocalPod, v6: bool, others_too: bool) -> bool {
    let Some(address) = pod.address(v6) else {
        return false;
    };
    endpoint["addresses"] = json!([address]);
    let conditions = [
        ("ready", others_too || (pod.ready && !pod.terminating)),
        ("serving", pod.ready),
        ("terminating", pod.terminating),
    ];
    for (condition, is) in conditions {
        // What was never said need not be said where it is what silence means.
        let said = endpoint["conditions"][condition].as_bool();
        if said.unwrap_or(condition != "terminating") != is {
            endpoint["conditions"][condition] = is.into();
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Value) -> Value {
        json!({ "metadata": { "name": "web" }, "spec": { "nodeName": "edge-1" }, "status": status })
    }

    fn ready(addresses: &[&str]) -> Value {
        let all: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        pod(
            json!({ "phase": "Running", "podIPs": all, "conditions": [{ "type": "Ready", "status": "True" }] }),
        )
    }

    fn pods(web: &Value) -> LocalPods {
        let web = LocalPod::parse(web.to_string().as_bytes(), "edge-1").unwrap();
        [(("shop".into(), "web".into()), web)].into()
    }

    fn after(object: &Value, web: &Value, others_too: bool) -> Value {
        corrected(object, &"shop".into(), &pods(web), others_too).0
    }

    fn slice(family: &str, address: &str) -> Value {
        let entry = |name: &str, address: &str| {
            json!({ "addresses": [address], "conditions": { "ready": true, "serving": true, "terminating": false },
                "targetRef": { "kind": "Pod", "name": name, "namespace": "shop" } })
        };
        json!({ "addressType": family, "endpoints": [entry("other", "10.9.0.1"), entry("web", address)] })
    }

    #[test]
    fn a_slice_that_agrees_is_left_as_it_is() {
        let slice = slice("IPv4", "10.0.0.5");
        assert_eq!(after(&slice, &ready(&["10.0.0.5"]), false), slice);
        let silent = json!({ "addressType": "IPv4", "endpoints": [{ "addresses": ["10.0.0.5"],
            "targetRef": { "kind": "Pod", "name": "web" } }] });
        assert_eq!(after(&silent, &ready(&["10.0.0.5"]), false), silent);
    }

    #[test]
    fn a_pod_with_another_address_moves_in_the_slices_of_that_family_only() {
        let web = ready(&["10.0.0.9", "fd00::9"]);
        let new = after(&slice("IPv4", "10.0.0.5"), &web, false);
        assert_eq!(new["endpoints"][1]["addresses"], json!(["10.0.0.9"]));
        assert_eq!(new["endpoints"][0]["addresses"], json!(["10.9.0.1"]), "another's");
        let new = after(&slice("IPv6", "fd00::5"), &web, false);
        assert_eq!(new["endpoints"][1]["addresses"], json!(["fd00::9"]));
        let new = after(&slice("IPv6", "fd00::5"), &ready(&["10.0.0.9"]), false);
        assert_eq!(new["endpoints"].as_array().unwrap().len(), 1, "it has none");
    }

    #[test]
    fn readiness_and_an_end_are_those_of_the_pod() {
        let slice = slice("IPv4", "10.0.0.5");
        let mut web = ready(&["10.0.0.5"]);
        web["status"]["conditions"][0]["status"] = "False".into();
        let conditions =
            |web: &Value, others| after(&slice, web, others)["endpoints"][1]["conditions"].clone();
        let said = |ready, serving, terminating| json!({ "ready": ready, "serving": serving, "terminating": terminating });
        assert_eq!(conditions(&web, false), said(false, false, false));
        assert_eq!(conditions(&web, true), said(true, false, false));
        web["status"]["conditions"][0]["status"] = "True".into();
        web["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(conditions(&web, false), said(false, true, true));
        web["status"]["phase"] = "Failed".into();
        assert_eq!(
            after(&slice, &web, true)["endpoints"].as_array().unwrap().len(),
            1
        );
    }

    #[test]
    fn endpoints_of_the_older_kind_move_between_their_lists() {
        let entry = |name: &str, ip: &str| json!({ "ip": ip, "targetRef": { "kind": "Pod", "name": name } });
        let old = json!({ "subsets": [{ "addresses": [entry("other", "10.9.0.1"), entry("web", "10.0.0.5")], "ports": [{ "port": 80 }] }] });
        let mut web = ready(&["10.0.0.9"]);
        let new = after(&old, &web, false);
        assert_eq!(new["subsets"][0]["addresses"][1]["ip"], "10.0.0.9");
        web["status"]["conditions"] = json!([]);
        let new = after(&new, &web, false);
        assert_eq!(new["subsets"][0]["addresses"].as_array().unwrap().len(), 1);
        assert_eq!(
            new["subsets"][0]["notReadyAddresses"],
            json!([entry("web", "10.0.0.9")])
        );
        let old = json!({ "subsets": [{ "notReadyAddresses": [entry("web", "10.0.0.9")], "ports": [] }] });
        let new = after(&old, &ready(&["10.0.0.9"]), false);
        assert_eq!(
            new,
            json!({ "subsets": [{ "addresses": [entry("web", "10.0.0.9")], "ports": [] }] })
        );
    }
}
