//! What is let pass, with a warning to whoever brings it (Kubernetes `pkg/api/pod/warnings.go` and its neighbours).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub_core::registry::ResourceKind;
use serde_json::Value;

use super::{list, text};
use crate::cluster::embedded::values::names;

/// What to warn of in an object that was made, or whose spec has changed.
pub(in crate::cluster::embedded) fn of(kind: &ResourceKind, value: &Value) -> Vec<String> {
    let spec = &value["spec"];
    let mut warnings = Vec::new();
    match (&*kind.resource.group, &*kind.resource.resource) {
        ("", "pods") => {
            let name = names::label(text(&value["metadata"]["name"]));
            if !name.is_empty() {
                warnings.push(format!(
                    "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                    name.join(" ")
                ));
            }
            pod(spec, "spec", &mut warnings);
        }
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets")
        | ("batch", "jobs") => pod(&spec["template"]["spec"], "spec.template.spec", &mut warnings),
        ("batch", "cronjobs") => {
            let spec = &spec["jobTemplate"]["spec"]["template"]["spec"];
            pod(spec, "spec.jobTemplate.spec.template.spec", &mut warnings);
        }
        ("", "secrets") if value["type"] == "kubernetes.io/tls" && !has_pem(&value["data"]["tls.crt"]) => {
            warnings.push("tls: failed to find any PEM data in certificate input".into());
        }
        ("", "services") if !text(&spec["externalName"]).is_empty() && spec["type"] != "ExternalName" => {
            warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
        }
        ("", "services") if spec["trafficDistribution"] == "PreferClose" => warnings.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into(),
        ),
        ("", "persistentvolumes") if spec["persistentVolumeReclaimPolicy"] == "Recycle" => warnings.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into(),
        ),
        ("discovery.k8s.io", "endpointslices") if value["addressType"] == "FQDN" => {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".into());
        }
        ("networking.k8s.io", "ingresses")
            if value["metadata"]["annotations"]["kubernetes.io/ingress.class"].is_string()
                && value["spec"]["ingressClassName"].is_null() =>
        {
            warnings.push("annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead".into());
        }
        _ => {}
    }
    warnings
}

fn has_pem(data: &Value) -> bool {
    let text = BASE64.decode(text(data)).unwrap_or_default();
    memchr::memmem::find(&text, b"-----BEGIN ").is_some()
}

/// What to warn of in the finalizers that a custom object is given: names that others may choose too.
pub(in crate::cluster::embedded) fn finalizers(old: Option<&Value>, new: &Value) -> Vec<String> {
    let held = |finalizer: &Value| {
        old.is_some_and(|old| list(&old["metadata"]["finalizers"]).any(|held| held == finalizer))
    };
    let given = list(&new["metadata"]["finalizers"]).filter(|finalizer| !held(finalizer));
    let plain = given
        .map(text)
        .filter(|name| !name.contains('/') && !STANDARD.contains(name));
    plain
        .map(|name| {
            format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"
            )
        })
        .collect()
}

const STANDARD: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];

fn pod(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for (key, _) in spec["nodeSelector"].as_object().into_iter().flatten() {
        if let Some((_, since)) = OLD_LABELS.iter().find(|(old, _)| old == key) {
            warnings.push(format!("{path}.nodeSelector[{key}]: {since}"));
        }
    }
    for (index, volume) in list(&spec["volumes"]).enumerate() {
        if volume["gitRepo"].is_object() {
            warnings.push(format!(
                "{path}.volumes[{index}].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"
            ));
        }
    }
    for (index, constraint) in list(&spec["topologySpreadConstraints"]).enumerate() {
        if constraint["labelSelector"].is_null() {
            warnings.push(format!(
                "{path}.topologySpreadConstraints[{index}].labelSelector: a null labelSelector results in matching no pod"
            ));
        }
    }
    for (index, secret) in list(&spec["imagePullSecrets"]).enumerate() {
        if text(&secret["name"]).is_empty() {
            warnings.push(format!(
                "{path}.imagePullSecrets[{index}].name: invalid empty name \"\""
            ));
        }
    }
    for field in ["containers", "initContainers"] {
        for (index, container) in list(&spec[field]).enumerate() {
            let mut seen = Vec::new();
            for (at, variable) in list(&container["env"]).enumerate() {
                let name = text(&variable["name"]);
                if seen.contains(&name) {
                    warnings.push(format!(
                        "{path}.{field}[{index}].env[{at}]: hides previous definition of {name:?}, which may be dropped when using apply"
                    ));
                }
                seen.push(name);
            }
        }
    }
    ports(spec, path, warnings);
}

/// Ports that are there twice, in whichever containers.
fn ports(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    let mut places: Vec<(Value, String)> = Vec::new();
    let mut named: Vec<(&str, String)> = Vec::new();
    for (index, container) in list(&spec["containers"]).enumerate() {
        for (at, port) in list(&container["ports"]).enumerate() {
            let here = format!("{path}.containers[{index}].ports[{at}]");
            let name = text(&port["name"]);
            if !name.is_empty() {
                match named.iter().find(|(other, _)| *other == name) {
                    Some((_, there)) => warnings.push(format!(
                        "{here}: duplicate port name {name:?} with {there}, services and probes that select ports by name will use {there}"
                    )),
                    None => named.push((name, here.clone())),
                }
            }
            let place: Value = ["containerPort", "protocol", "hostIP", "hostPort"]
                .iter()
                .map(|field| port[*field].clone())
                .collect();
            match places.iter().find(|(other, _)| *other == place) {
                Some((_, there)) => warnings.push(format!("{here}: duplicate port definition with {there}")),
                None => places.push((place, here)),
            }
        }
    }
}

const OLD_LABELS: &[(&str, &str)] = &[
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_there_twice_is_warned_of() {
        let port = json!({"containerPort": 80, "protocol": "TCP"});
        let spec = json!({"containers": [{"ports": [port], "env": [{"name": "A"}, {"name": "A"}]}, {"ports": [port]}]});
        let mut warnings = Vec::new();
        pod(&spec, "spec", &mut warnings);
        assert_eq!(
            warnings,
            [
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
            ]
        );
    }
}
