//! What the spec of a pod must be, wherever it stands (Kubernetes `pkg/apis/core/validation`, `ValidatePodSpec`).

use std::net::IpAddr;

use serde_json::Value;

use super::workload::requirement;
use super::{Sources, container, list, one_of, one_of_or_none, sole, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::kinds::validate;
use crate::cluster::embedded::values::names;

type Errors = Vec<FieldError>;

/// Adds what is wrong with a spec at a path.
pub(super) fn spec(spec: &Value, path: &str, policies: &[&str], errors: &mut Errors) {
    if !spec.is_object() {
        return;
    }
    let volumes = volumes(spec, path, errors);
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
    affinity(&spec["affinity"], &format!("{path}.affinity"), errors);
    name_servers(spec, path, errors);
    for (index, gate) in list(&spec["readinessGates"]).enumerate() {
        let kind = &gate["conditionType"];
        for detail in names::qualified(text(kind)) {
            let path = format!("{path}.readinessGates[{index}].conditionType");
            errors.push(FieldError::invalid(path, kind, &detail));
        }
    }
    spread(spec, path, errors);
    named(spec, path, errors);
    tolerations(spec, path, errors);
    for (index, alias) in list(&spec["hostAliases"]).enumerate() {
        address(&alias["ip"], &format!("{path}.hostAliases[{index}].ip"), errors);
    }
    if let Some(os) = spec.get("os") {
        one_of_or_none(&os["name"], &format!("{path}.os"), &["linux", "windows"], errors);
    }
}

fn volumes<'v>(spec: &'v Value, path: &str, errors: &mut Errors) -> Vec<&'v str> {
    let mut seen = Vec::new();
    for (index, volume) in list(&spec["volumes"]).enumerate() {
        let path = format!("{path}.volumes[{index}]");
        source(volume, &path, errors);
        let name = text(&volume["name"]);
        let at = format!("{path}.name");
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if seen.contains(&name) {
            errors.push(FieldError::duplicate(at, &volume["name"]));
        } else {
            for detail in names::label(name) {
                errors.push(FieldError::invalid(at.as_str(), &volume["name"], &detail));
            }
        }
        seen.push(name);
    }
    seen
}

/// Where the files of a volume come from: exactly one source, with what it needs.
fn source(volume: &Value, path: &str, errors: &mut Errors) {
    sole(
        volume,
        path,
        SOURCES,
        "volume",
        errors,
        |kind, source, path, errors| match kind {
            "hostPath" => {
                host_path(&source["path"], &format!("{path}.path"), errors);
                one_of(&source["type"], &format!("{path}.type"), HOST_PATHS, errors);
            }
            "emptyDir" if text(&source["sizeLimit"]).starts_with('-') => {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::forbidden(format!("{path}.sizeLimit"), detail));
            }
            "configMap" | "secret" => files(source, path, errors),
            _ => {}
        },
    );
}

fn files(source: &Value, path: &str, errors: &mut Errors) {
    let mode = |value: &Value, path: String, errors: &mut Errors| {
        if value.as_i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
            let detail = "must be a number between 0 and 0777 (octal), both inclusive";
            errors.push(FieldError::invalid(path, value, detail));
        }
    };
    mode(&source["defaultMode"], format!("{path}.defaultMode"), errors);
    for (index, item) in list(&source["items"]).enumerate() {
        let path = format!("{path}.items[{index}]");
        if text(&item["key"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.key"), ""));
        }
        let at = format!("{path}.path");
        match text(&item["path"]) {
            "" => errors.push(FieldError::required(at, "")),
            absolute if absolute.starts_with('/') => {
                errors.push(FieldError::invalid(at, &item["path"], "must be a relative path"));
            }
            _ => host_path(&item["path"], &at, errors),
        }
        mode(&item["mode"], format!("{path}.mode"), errors);
    }
}

/// No step back.
pub(super) fn host_path(value: &Value, path: &str, errors: &mut Errors) {
    if text(value).split('/').any(|step| step == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
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

fn affinity(affinity: &Value, path: &str, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let node = &affinity["nodeAffinity"][REQUIRED];
    if node.is_object() {
        let path = format!("{path}.nodeAffinity.{REQUIRED}.nodeSelectorTerms");
        let terms: Vec<&Value> = list(&node["nodeSelectorTerms"]).collect();
        if terms.is_empty() {
            errors.push(FieldError::required(
                path.as_str(),
                "must have at least one node selector term",
            ));
        }
        for (index, term) in terms.iter().enumerate() {
            for (at, expression) in list(&term["matchExpressions"]).enumerate() {
                let path = format!("{path}[{index}].matchExpressions[{at}]");
                requirement(expression, &path, true, errors);
            }
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        for (index, term) in list(&affinity[kind][REQUIRED]).enumerate() {
            let at = format!("{path}.{kind}.{REQUIRED}[{index}].topologyKey");
            let key = text(&term["topologyKey"]);
            if key.is_empty() {
                errors.push(FieldError::required(at.as_str(), "can not be empty"));
            }
            for detail in names::qualified(key) {
                errors.push(FieldError::invalid(at.as_str(), &key.into(), &detail));
            }
        }
    }
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

fn spread(spec: &Value, path: &str, errors: &mut Errors) {
    for (index, constraint) in list(&spec["topologySpreadConstraints"]).enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{index}]");
        let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            let detail = "must be greater than zero";
            errors.push(FieldError::invalid(
                format!("{path}.maxSkew"),
                &skew.into(),
                detail,
            ));
        }
        if text(&constraint["topologyKey"]).is_empty() {
            errors.push(FieldError::required(
                format!("{path}.topologyKey"),
                "can not be empty",
            ));
        }
        let ways = ["DoNotSchedule", "ScheduleAnyway"];
        one_of_or_none(
            &constraint["whenUnsatisfiable"],
            &format!("{path}.whenUnsatisfiable"),
            &ways,
            errors,
        );
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

fn tolerations(spec: &Value, path: &str, errors: &mut Errors) {
    for (index, toleration) in list(&spec["tolerations"]).enumerate() {
        let path = format!("{path}.tolerations[{index}]");
        let (key, operator) = (text(&toleration["key"]), text(&toleration["operator"]));
        let at = format!("{path}.operator");
        if !key.is_empty() {
            for detail in names::qualified(key) {
                errors.push(FieldError::invalid(
                    format!("{path}.key"),
                    &toleration["key"],
                    &detail,
                ));
            }
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(at.as_str(), &operator.into(), detail));
        }
        match operator {
            "Exists" if !text(&toleration["value"]).is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(at, &toleration["value"], detail));
            }
            _ => one_of(&toleration["operator"], &at, &["Equal", "Exists"], errors),
        }
        if !text(&toleration["effect"]).is_empty() {
            one_of(&toleration["effect"], &format!("{path}.effect"), EFFECTS, errors);
        }
    }
}

/// An address of either family.
pub(super) fn address(value: &Value, path: &str, errors: &mut Errors) {
    if text(value).parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid(path, &text(value).into(), ADDRESS));
    }
}

pub(super) const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
pub(super) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// What can be mounted, in the order in which Kubernetes looks, and what each cannot do without.
const SOURCES: Sources = &[
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("configMap", &["name"]),
    ("downwardAPI", &[]),
    ("projected", &[]),
    ("csi", &["driver"]),
    ("ephemeral", &[]),
];
const HOST_PATHS: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
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
    fn a_node_is_selected_by_rows_that_say_as_many_values_as_their_operator_takes() {
        let selecting = |operator: &str, values: Value| {
            let row = json!({"key": "zone", "operator": operator, "values": values});
            let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [row]}]});
            let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
            with("affinity", json!({"nodeAffinity": required}))
        };
        for (operator, values) in [("In", json!(["a"])), ("Exists", json!([])), ("Gt", json!(["1"]))] {
            assert!(selecting(operator, values).is_empty(), "{operator}");
        }
        for (operator, values, expected) in [
            ("NotIn", json!([]), "Required value: must be specified when"),
            ("Exists", json!(["a"]), "Forbidden: may not be specified when"),
            (
                "Lt",
                json!(["1", "2"]),
                "Required value: must be specified single value",
            ),
        ] {
            let told = selecting(operator, values);
            let [told] = &told[..] else {
                panic!("{operator}: {told:?}")
            };
            assert!(
                told.contains(&format!("matchExpressions[0].values: {expected}")),
                "{told}"
            );
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
