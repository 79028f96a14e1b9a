//! What a pod must be. Here its spec, wherever it stands (Kubernetes `pkg/apis/core/validation`, `ValidatePodSpec`).

mod container;
mod scheduling;
pub(super) mod status;
pub(super) mod update;
mod volume;

use std::net::IpAddr;

use serde_json::Value;

use super::{list, one_of, one_of_or_none, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::kinds::validate;
use crate::cluster::embedded::values::names;

pub(super) use scheduling::EFFECTS;
pub(super) use volume::host_path;

type Errors = Vec<FieldError>;

/// Adds what is wrong with a spec at a path.
pub(super) fn spec(spec: &Value, path: &str, policies: &[&str], errors: &mut Errors) {
    if !spec.is_object() {
        return;
    }
    let volumes = volume::volumes(spec, path, errors);
    if list(&spec["containers"]).next().is_none() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut names = Vec::new();
    for field in ["containers", "initContainers"] {
        for (index, value) in list(&spec[field]).enumerate() {
            let path = format!("{path}.{field}[{index}]");
            container::check(value, &path, &volumes, field == "containers", errors);
            let name = text(&value["name"]);
            if !name.is_empty() && names.contains(&name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &value["name"]));
            }
            names.push(name);
        }
    }
    for (index, value) in list(&spec["ephemeralContainers"]).enumerate() {
        let path = format!("{path}.ephemeralContainers[{index}]");
        let name = text(&value["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        for detail in names::label(name).into_iter().filter(|_| !name.is_empty()) {
            errors.push(FieldError::invalid(
                format!("{path}.name"),
                &value["name"],
                &detail,
            ));
        }
        if text(&value["image"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.image"), ""));
        }
        if names.contains(&name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &value["name"]));
        }
        names.push(name);
        not_ephemeral(value, &path, errors);
        let target = &value["targetContainerName"];
        let runs = |container: &Value| container["name"] == *target;
        let mut others = list(&spec["containers"]).chain(list(&spec["initContainers"]));
        if !text(target).is_empty() && !others.any(runs) {
            errors.push(FieldError::not_found(
                format!("{path}.targetContainerName"),
                target,
            ));
        }
    }
    host_ports(spec, path, errors);
    one_of(
        &spec["restartPolicy"],
        &format!("{path}.restartPolicy"),
        policies,
        errors,
    );
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(&spec["dnsPolicy"], &format!("{path}.dnsPolicy"), &dns, errors);
    validate::labels(&spec["nodeSelector"], &format!("{path}.nodeSelector"), errors);
    security(spec, path, errors);
    scheduling::affinity(&spec["affinity"], &format!("{path}.affinity"), errors);
    name_servers(spec, path, errors);
    for (index, gate) in list(&spec["readinessGates"]).enumerate() {
        let kind = &gate["conditionType"];
        for detail in names::qualified(text(kind)) {
            let path = format!("{path}.readinessGates[{index}].conditionType");
            errors.push(FieldError::invalid(path, kind, &detail));
        }
    }
    scheduling::spread(spec, path, errors);
    named(spec, path, errors);
    scheduling::tolerations(spec, path, errors);
    for (index, alias) in list(&spec["hostAliases"]).enumerate() {
        address(&alias["ip"], &format!("{path}.hostAliases[{index}].ip"), errors);
    }
    if let Some(os) = spec.get("os") {
        one_of_or_none(&os["name"], &format!("{path}.os"), &["linux", "windows"], errors);
    }
}

fn host_ports(spec: &Value, path: &str, errors: &mut Errors) {
    let mut taken = Vec::new();
    for (index, value) in list(&spec["containers"]).enumerate() {
        for (at, port) in list(&value["ports"]).enumerate() {
            let Some(number) = port["hostPort"].as_i64().filter(|number| *number != 0) else {
                continue;
            };
            let path = format!("{path}.containers[{index}].ports[{at}].hostPort");
            let place = format!("{}/{}/{number}", text(&port["protocol"]), text(&port["hostIP"]));
            if spec["hostNetwork"] == true && port["hostPort"] != port["containerPort"] {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(path.as_str(), &port["hostPort"], detail));
            }
            if taken.contains(&place) {
                errors.push(FieldError::duplicate(path, &place.as_str().into()));
            }
            taken.push(place);
        }
    }
}

fn security(spec: &Value, path: &str, errors: &mut Errors) {
    let (context, path) = (&spec["securityContext"], format!("{path}.securityContext"));
    container::id(&context["fsGroup"], &format!("{path}.fsGroup"), errors);
    for (index, control) in list(&context["sysctls"]).enumerate() {
        if text(&control["name"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.sysctls[{index}].name"), ""));
        }
    }
    for field in ["runAsUser", "runAsGroup"] {
        container::id(&context[field], &format!("{path}.{field}"), errors);
    }
    if spec["shareProcessNamespace"] == true && spec["hostPID"] == true {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(
            format!("{path}.shareProcessNamespace"),
            &true.into(),
            detail,
        ));
    }
    container::seccomp(context, &path, errors);
}

fn name_servers(spec: &Value, path: &str, errors: &mut Errors) {
    let servers: Vec<&Value> = list(&spec["dnsConfig"]["nameservers"]).collect();
    if spec["dnsPolicy"] == "None" {
        if spec["dnsConfig"].is_null() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(format!("{path}.dnsConfig"), detail));
            return;
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(FieldError::required(
                format!("{path}.dnsConfig.nameservers"),
                detail,
            ));
            return;
        }
    }
    for (index, server) in servers.into_iter().enumerate() {
        address(server, &format!("{path}.dnsConfig.nameservers[{index}]"), errors);
    }
}

fn named(spec: &Value, path: &str, errors: &mut Errors) {
    let mut check = |field: &str, faults: fn(&str) -> Vec<String>| {
        let name = text(&spec[field]);
        if !name.is_empty() {
            for detail in faults(name) {
                errors.push(FieldError::invalid(
                    format!("{path}.{field}"),
                    &spec[field],
                    &detail,
                ));
            }
        }
    };
    check("serviceAccountName", names::subdomain);
    check("nodeName", names::subdomain);
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64()
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let detail = format!("must be between 1 and {}, inclusive", i32::MAX);
        let path = format!("{path}.activeDeadlineSeconds");
        errors.push(FieldError::invalid(path, &seconds.into(), &detail));
    }
    let mut check = |field: &str| {
        let name = text(&spec[field]);
        if !name.is_empty() {
            for detail in names::label(name) {
                errors.push(FieldError::invalid(
                    format!("{path}.{field}"),
                    &spec[field],
                    &detail,
                ));
            }
        }
    };
    check("hostname");
    check("subdomain");
}

/// An address of either family.
pub(super) fn address(value: &Value, path: &str, errors: &mut Errors) {
    if text(value).parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid(path, &text(value).into(), ADDRESS));
    }
}

pub(super) const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// What others rely on a container for is not for one that comes and goes.
fn not_ephemeral(container: &Value, path: &str, errors: &mut Errors) {
    let mut forbid = |path: String| {
        errors.push(FieldError::forbidden(
            path,
            "cannot be set for an Ephemeral Container",
        ));
    };
    for field in NOT_EPHEMERAL {
        let given = match &container[*field] {
            Value::Null => false,
            Value::Array(all) => !all.is_empty(),
            Value::Object(fields) => !fields.is_empty() || *field != "resources",
            _ => true,
        };
        if given {
            forbid(format!("{path}.{field}"));
        }
    }
    for (index, mount) in list(&container["volumeMounts"]).enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !text(&mount[field]).is_empty() {
                forbid(format!("{path}.volumeMounts[{index}].{field}"));
            }
        }
    }
}

const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(given: Value) -> Vec<String> {
        let mut errors = Vec::new();
        spec(&given, "spec", &["Always", "OnFailure", "Never"], &mut errors);
        errors.iter().map(FieldError::to_string).collect()
    }

    fn with(field: &str, value: Value) -> Vec<String> {
        let mut pod =
            json!({"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", "emptyDir": {}}]});
        pod[field] = value;
        said(pod)
    }

    #[test]
    fn a_pod_is_told_what_is_wrong_in_a_real_servers_words() {
        assert!(with("x", Value::Null).is_empty());
        for (field, value, expected) in [
            (
                "volumes",
                json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
                "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            ),
            (
                "volumes",
                json!([{"name": "v", "configMap": {}}]),
                "spec.volumes[0].configMap.name: Required value",
            ),
            (
                "tolerations",
                json!([{"key": "a", "operator": "Exists", "value": "x"}]),
                "spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
            ),
            (
                "dnsPolicy",
                json!("None"),
                "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
            ),
            (
                "activeDeadlineSeconds",
                json!(0),
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ),
            (
                "hostAliases",
                json!([{"ip": "x"}]),
                "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                "securityContext",
                json!({"runAsUser": -5}),
                "spec.securityContext.runAsUser: Invalid value: -5: must be between 0 and 2147483647, inclusive",
            ),
            (
                "os",
                json!({"name": "x"}),
                "spec.os: Unsupported value: \"x\": supported values: \"linux\", \"windows\"",
            ),
        ] {
            assert_eq!(with(field, value), [expected]);
        }
    }

    #[test]
    fn ports_of_the_node_are_taken_once() {
        let port = json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"});
        let pod = json!({"containers": [{"name": "c", "image": "i", "ports": [port, port]}]});
        assert_eq!(
            said(pod),
            ["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""]
        );
    }
}
