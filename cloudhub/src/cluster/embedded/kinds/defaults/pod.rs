//! What every pod gets: the defaults of its spec, and what admission adds.

use serde_json::{Value, json};

use super::rules::{self, Rule, each};
use crate::cluster::embedded::values::set::default;

/// Of a pod's spec, wherever it stands (Kubernetes `pkg/apis/core/v1/defaults.go`).
const SPEC: &[Rule] = &[
    ("restartPolicy", "\"Always\""),
    ("terminationGracePeriodSeconds", "30"),
    ("dnsPolicy", "\"ClusterFirst\""),
    ("securityContext", "{}"),
    ("schedulerName", "\"default-scheduler\""),
    ("volumes[].secret.defaultMode", "420"),
    ("volumes[].configMap.defaultMode", "420"),
    ("volumes[].downwardAPI.defaultMode", "420"),
    ("volumes[].projected.defaultMode", "420"),
    ("volumes[].downwardAPI.items[].fieldRef.apiVersion", "\"v1\""),
    (
        "volumes[].projected.sources[].downwardAPI.items[].fieldRef.apiVersion",
        "\"v1\"",
    ),
    (
        "volumes[].projected.sources[].serviceAccountToken.expirationSeconds",
        "3600",
    ),
    ("volumes[].hostPath.type", "\"\""),
    (
        "volumes[].ephemeral.volumeClaimTemplate.spec.volumeMode",
        "\"Filesystem\"",
    ),
    ("volumes[].iscsi.iscsiInterface", "\"default\""),
    ("volumes[].rbd.pool", "\"rbd\""),
    ("volumes[].rbd.user", "\"admin\""),
    ("volumes[].rbd.keyring", "\"/etc/ceph/keyring\""),
];

/// Of one container.
const CONTAINER: &[Rule] = &[
    ("terminationMessagePath", "\"/dev/termination-log\""),
    ("terminationMessagePolicy", "\"File\""),
    ("resources", "{}"),
    ("ports[].protocol", "\"TCP\""),
    ("env[].valueFrom.fieldRef.apiVersion", "\"v1\""),
    ("lifecycle.postStart.httpGet.path", "\"/\""),
    ("lifecycle.postStart.httpGet.scheme", "\"HTTP\""),
    ("lifecycle.preStop.httpGet.path", "\"/\""),
    ("lifecycle.preStop.httpGet.scheme", "\"HTTP\""),
];

/// Of one probe of a container.
const PROBE: &[Rule] = &[
    ("timeoutSeconds", "1"),
    ("periodSeconds", "10"),
    ("successThreshold", "1"),
    ("failureThreshold", "3"),
    ("httpGet.path", "\"/\""),
    ("httpGet.scheme", "\"HTTP\""),
    ("grpc.service", "\"\""),
];

const CONTAINERS: [&str; 3] = ["containers[]", "initContainers[]", "ephemeralContainers[]"];

/// Seconds that a pod stays on a node that does not answer (Kubernetes `plugin/pkg/admission/defaulttolerationseconds`).
const TOLERATION_SECONDS: u32 = 300;

/// Completes the spec of a pod, or of a template.
pub(super) fn spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    each(spec, &["volumes[]"], &mut |volume| {
        // A volume of nothing but a name is an empty folder.
        if volume.as_object().is_some_and(|fields| fields.len() == 1) {
            default(volume, "emptyDir", json!({}));
        }
    });
    rules::apply(spec, SPEC);
    for list in CONTAINERS {
        each(spec, &[list], &mut container);
    }
    // The older name of the field, for who knows it alone.
    if spec["serviceAccountName"].as_str().is_none_or(str::is_empty)
        && spec["serviceAccount"]
            .as_str()
            .is_some_and(|account| !account.is_empty())
    {
        spec["serviceAccountName"] = spec["serviceAccount"].clone();
    }
    if spec["serviceAccountName"].is_string() {
        spec["serviceAccount"] = spec["serviceAccountName"].clone();
    }
}

/// Completes a pod itself, which gets more than a template: defaults, and what the admission of every cluster adds.
pub(super) fn pod(value: &mut Value) {
    let pod = &mut value["spec"];
    if !pod.is_object() {
        return;
    }
    default(pod, "priority", json!(0));
    default(pod, "preemptionPolicy", json!("PreemptLowerPriority"));
    tolerate(pod);
    if pod["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds < 0)
    {
        pod["terminationGracePeriodSeconds"] = json!(1);
    }
    of_version(value);
}

/// Completes a new state of a pod. What admission gave it once stays; whoever leaves out the rest takes it away, and is told so.
pub(super) fn again(old: &Value, new: &mut Value) {
    let pod = &mut new["spec"];
    if !pod.is_object() || *pod == old["spec"] {
        return;
    }
    for field in ["priority", "preemptionPolicy"] {
        default(pod, field, old["spec"][field].clone());
    }
    tolerate(pod);
    of_version(new);
}

/// The defaults of a pod itself.
pub(super) fn of_version(value: &mut Value) {
    let pod = &mut value["spec"];
    if !pod.is_object() {
        return;
    }
    default(pod, "enableServiceLinks", json!(true));
    let host_network = pod["hostNetwork"] == true;
    for list in ["containers[]", "initContainers[]"] {
        each(pod, &[list], &mut requests);
        if host_network {
            each(pod, &[list, "ports[]"], &mut |port| {
                let number = port["containerPort"].clone();
                default(port, "hostPort", number);
            });
        }
    }
    spec(pod);
}

/// How a pod is treated when its node is short of memory (Kubernetes `pkg/apis/core/v1/helper/qos`).
pub(in crate::cluster::embedded) fn quality_of_service(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let containers: Vec<&Value> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten())
        .collect();
    let amounts = |of: &str, resource: &str| {
        containers
            .iter()
            .map(|container| container["resources"][of][resource].clone())
            .filter(|amount| !amount.is_null())
            .collect::<Vec<_>>()
    };
    let asked = |resource: &str| (amounts("requests", resource), amounts("limits", resource));
    let (cpu, memory) = (asked("cpu"), asked("memory"));
    let guaranteed = |(requests, limits): &(Vec<Value>, Vec<Value>)| {
        limits.len() == containers.len() && requests == limits
    };
    if guaranteed(&cpu) && guaranteed(&memory) {
        "Guaranteed"
    } else if [&cpu, &memory]
        .iter()
        .all(|(requests, limits)| requests.is_empty() && limits.is_empty())
    {
        "BestEffort"
    } else {
        "Burstable"
    }
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    // A tag stands behind the last slash; a digest pins the image.
    let last = image.rsplit('/').next().unwrap_or_default();
    let floating = !last.contains('@') && matches!(last.split_once(':'), None | Some((_, "latest")));
    let policy = if floating { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", policy.into());
    rules::apply(container, CONTAINER);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        each(container, &[probe], &mut |probe| rules::apply(probe, PROBE));
    }
}

/// Who names only limits asks for as much.
fn requests(container: &mut Value) {
    let limits = container["resources"]["limits"].clone();
    for (resource, amount) in limits.as_object().into_iter().flatten() {
        default(&mut container["resources"]["requests"], resource, amount.clone());
    }
}

fn tolerate(spec: &mut Value) {
    let mut tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |toleration: &Value| {
            let text = |field: &str| toleration[field].as_str().unwrap_or_default();
            let any_key = text("key").is_empty() && text("operator") == "Exists";
            (text("key") == key || any_key) && matches!(text("effect"), "" | "NoExecute")
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
    spec["tolerations"] = tolerations.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_the_mode_without_which_a_kubelet_does_not_mount_it() {
        let mut given = json!({"volumes": [
            {"name": "a", "secret": {"secretName": "s"}},
            {"name": "b", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            {"name": "c"},
        ]});
        spec(&mut given);
        assert_eq!(given["volumes"][0]["secret"]["defaultMode"], 420);
        assert_eq!(given["volumes"][1]["projected"]["defaultMode"], 420);
        let source = &given["volumes"][1]["projected"]["sources"][0];
        assert_eq!(source["serviceAccountToken"]["expirationSeconds"], 3600);
        assert_eq!(given["volumes"][2]["emptyDir"], json!({}));
    }

    #[test]
    fn a_pod_tolerates_a_node_that_is_away_once_and_not_twice() {
        let mut given = json!({"spec": {"containers": [], "tolerations": [{"operator": "Exists"}]}});
        pod(&mut given);
        assert_eq!(given["spec"]["tolerations"], json!([{"operator": "Exists"}]));
        let mut given = json!({"spec": {"containers": []}});
        pod(&mut given);
        pod(&mut given);
        assert_eq!(given["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn the_quality_of_service_follows_what_the_containers_ask_for() {
        let of = |resources: Value| {
            let mut given = json!({"spec": {"containers": [{"resources": resources}]}});
            pod(&mut given);
            quality_of_service(&given)
        };
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
        assert_eq!(of(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    }
}
