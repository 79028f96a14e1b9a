//! What a container must be (Kubernetes `pkg/apis/core/validation`, `validateContainerCommon`).

use serde_json::Value;

use super::super::{PROTOCOLS, Sources, in_range, list, not_negative, one_of, sole, text};
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::{names, quantity};

type Errors = Vec<FieldError>;

/// Adds what is wrong with a container at a path. `long` says that it runs as long as its pod does.
pub(super) fn check(container: &Value, path: &str, volumes: &[&str], long: bool, errors: &mut Errors) {
    let name = text(&container["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    } else {
        for detail in names::label(name) {
            errors.push(FieldError::invalid(
                format!("{path}.name"),
                &container["name"],
                &detail,
            ));
        }
    }
    let image = text(&container["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(
            format!("{path}.image"),
            &container["image"],
            detail,
        ));
    }
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(
        &container["terminationMessagePolicy"],
        &format!("{path}.terminationMessagePolicy"),
        &policies,
        errors,
    );
    ports(container, path, errors);
    environment(container, path, errors);
    mounts(container, path, volumes, errors);
    let policies = ["Always", "IfNotPresent", "Never"];
    let at = format!("{path}.imagePullPolicy");
    one_of(&container["imagePullPolicy"], &at, &policies, errors);
    resources(&container["resources"], &format!("{path}.resources"), errors);
    let context = &container["securityContext"];
    let at = format!("{path}.securityContext");
    for field in ["runAsUser", "runAsGroup"] {
        id(&context[field], &format!("{at}.{field}"), errors);
    }
    seccomp(context, &at, errors);
    if !long {
        let policies = ["Always", "Never", "OnFailure"];
        one_of(
            &container["restartPolicy"],
            &format!("{path}.restartPolicy"),
            &policies,
            errors,
        );
        return;
    }
    for moment in ["postStart", "preStop"] {
        let handler = &container["lifecycle"][moment];
        if handler.is_object() {
            self::handler(handler, &format!("{path}.lifecycle.{moment}"), errors);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        self::probe(
            &container[probe],
            &format!("{path}.{probe}"),
            probe != "readinessProbe",
            errors,
        );
    }
}

fn ports(container: &Value, path: &str, errors: &mut Errors) {
    let mut taken = Vec::new();
    for (index, port) in list(&container["ports"]).enumerate() {
        let path = format!("{path}.ports[{index}]");
        let name = text(&port["name"]);
        if !name.is_empty() {
            let faults = names::port(name);
            if faults.is_empty() && taken.contains(&name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &port["name"]));
            }
            for detail in faults {
                errors.push(FieldError::invalid(
                    format!("{path}.name"),
                    &port["name"],
                    &detail,
                ));
            }
            taken.push(name);
        }
        match port["containerPort"].as_i64() {
            None | Some(0) => errors.push(FieldError::required(format!("{path}.containerPort"), "")),
            _ => in_range(&port["containerPort"], &format!("{path}.containerPort"), errors),
        }
        if port["hostPort"].as_i64().is_some_and(|port| port != 0) {
            in_range(&port["hostPort"], &format!("{path}.hostPort"), errors);
        }
        one_of(&port["protocol"], &format!("{path}.protocol"), PROTOCOLS, errors);
    }
}

fn environment(container: &Value, path: &str, errors: &mut Errors) {
    for (index, variable) in list(&container["env"]).enumerate() {
        let path = format!("{path}.env[{index}]");
        let name = text(&variable["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !name.chars().all(|c| matches!(c, ' '..='~') && c != '=') {
            let detail = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.push(FieldError::invalid(
                format!("{path}.name"),
                &variable["name"],
                detail,
            ));
        }
        let (from, path) = (&variable["valueFrom"], format!("{path}.valueFrom"));
        let Some(sources) = from.as_object() else { continue };
        let source = |kind: &str| (&from[kind], format!("{path}.{kind}"));
        let (field, at) = source("fieldRef");
        if field.is_object() {
            let label = text(&field["fieldPath"]);
            let at = format!("{at}.fieldPath");
            if label.is_empty() {
                errors.push(FieldError::required(at, ""));
            } else if !is_field(label) {
                let detail = format!("error converting fieldPath: field label not supported: {label}");
                errors.push(FieldError::invalid(at, &field["fieldPath"], &detail));
            }
        }
        for kind in ["configMapKeyRef", "secretKeyRef"] {
            let (reference, at) = source(kind);
            if !reference.is_object() {
                continue;
            }
            for detail in names::subdomain(text(&reference["name"])) {
                let name = text(&reference["name"]).into();
                errors.push(FieldError::invalid(format!("{at}.name"), &name, &detail));
            }
            let at = format!("{at}.key");
            if text(&reference["key"]).is_empty() {
                errors.push(FieldError::required(at, ""));
            } else {
                for detail in names::config_key(text(&reference["key"])) {
                    errors.push(FieldError::invalid(at.as_str(), &reference["key"], &detail));
                }
            }
        }
        let wrong = if sources.is_empty() {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        } else if !text(&variable["value"]).is_empty() {
            "may not be specified when `value` is not empty"
        } else if sources.len() > 1 {
            "may not have more than one field specified at a time"
        } else {
            continue;
        };
        errors.push(FieldError::invalid(path, &"".into(), wrong));
    }
    for (index, source) in list(&container["envFrom"]).enumerate() {
        let count = ["configMapRef", "secretRef"]
            .iter()
            .filter(|kind| source[**kind].is_object())
            .count();
        let wrong = match count {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        // Kubernetes names the list, not its element.
        let _ = index;
        errors.push(FieldError::invalid(format!("{path}.envFrom"), &"".into(), wrong));
    }
}

fn mounts(container: &Value, path: &str, volumes: &[&str], errors: &mut Errors) {
    let mut taken = Vec::new();
    for (index, mount) in list(&container["volumeMounts"]).enumerate() {
        let at = format!("{path}.volumeMounts[{index}]");
        let name = text(&mount["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        if !volumes.contains(&name) {
            errors.push(FieldError::not_found(format!("{at}.name"), &name.into()));
        }
        let place = text(&mount["mountPath"]);
        if place.is_empty() {
            errors.push(FieldError::required(format!("{at}.mountPath"), ""));
        } else if taken.contains(&place) {
            errors.push(FieldError::invalid(
                format!("{at}.mountPath"),
                &place.into(),
                "must be unique",
            ));
        }
        taken.push(place);
        // Kubernetes names the list, not its element.
        let at = format!("{path}.volumeMounts.subPath");
        super::host_path(&mount["subPath"], &at, errors);
    }
    for (index, device) in list(&container["volumeDevices"]).enumerate() {
        let at = format!("{path}.volumeDevices[{index}].name");
        if text(&device["name"]).is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if !volumes.contains(&text(&device["name"])) {
            errors.push(FieldError::not_found(at, &device["name"]));
        }
    }
}

fn resources(resources: &Value, path: &str, errors: &mut Errors) {
    for field in ["limits", "requests"] {
        for (name, amount) in resources[field].as_object().into_iter().flatten() {
            let at = format!("{path}.{field}[{name}]");
            let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str());
            if !name.contains('/') && !standard && !name.starts_with("hugepages-") {
                for detail in [
                    "must be a standard resource type or fully qualified",
                    "must be a standard resource for containers",
                ] {
                    errors.push(FieldError::invalid(at.as_str(), &name.as_str().into(), detail));
                }
            }
            let number = quantity::amount(amount).unwrap_or(0.0);
            if number < 0.0 {
                errors.push(FieldError::invalid(
                    at.as_str(),
                    amount,
                    "must be greater than or equal to 0",
                ));
            }
            if name.contains('/') && number.fract() != 0.0 {
                errors.push(FieldError::invalid(at, amount, "must be an integer"));
            }
        }
    }
    for (name, asked) in resources["requests"].as_object().into_iter().flatten() {
        let most = &resources["limits"][name];
        let (asked_number, most_number) = (quantity::amount(asked), quantity::amount(most));
        if most.is_null() && name.contains('/') {
            let detail = "Limit must be set for non overcommitable resources";
            errors.push(FieldError::required(format!("{path}.limits"), detail));
        } else if let (Some(asked_number), Some(most_number)) = (asked_number, most_number)
            && asked_number > most_number
        {
            let detail = format!("must be less than or equal to {name} limit of {}", text(most));
            errors.push(FieldError::invalid(format!("{path}.requests"), asked, &detail));
        }
    }
}

fn probe(probe: &Value, path: &str, once: bool, errors: &mut Errors) {
    if !probe.is_object() {
        return;
    }
    handler(probe, path, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        not_negative(&probe[field], &format!("{path}.{field}"), errors);
    }
    if once && probe["successThreshold"].as_i64().is_some_and(|times| times != 1) {
        let at = format!("{path}.successThreshold");
        errors.push(FieldError::invalid(at, &probe["successThreshold"], "must be 1"));
    }
}

/// What is done at a moment, or to see how a container is.
fn handler(handler: &Value, path: &str, errors: &mut Errors) {
    let found = sole(
        handler,
        path,
        HANDLERS,
        "handler",
        errors,
        |kind, action, path, errors| match kind {
            "exec" if list(&action["command"]).next().is_none() => {
                errors.push(FieldError::required(format!("{path}.command"), ""));
            }
            "httpGet" | "tcpSocket" | "grpc" => {
                let at = format!("{path}.port");
                match action["port"].as_str() {
                    Some(name) => {
                        for detail in names::port(name) {
                            errors.push(FieldError::invalid(at.as_str(), &action["port"], &detail));
                        }
                    }
                    None => in_range(&action["port"], &at, errors),
                }
                if kind == "httpGet" {
                    one_of(
                        &action["scheme"],
                        &format!("{path}.scheme"),
                        &["HTTP", "HTTPS"],
                        errors,
                    );
                }
            }
            _ => {}
        },
    );
    if !found {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

/// A user or group of Linux.
pub(super) fn id(value: &Value, path: &str, errors: &mut Errors) {
    if value
        .as_i64()
        .is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id))
    {
        let detail = format!("must be between 0 and {}, inclusive", i32::MAX);
        errors.push(FieldError::invalid(path, value, &detail));
    }
}

pub(super) fn seccomp(context: &Value, path: &str, errors: &mut Errors) {
    let kinds = ["Localhost", "RuntimeDefault", "Unconfined"];
    let at = format!("{path}.seccompProfile.type");
    one_of(&context["seccompProfile"]["type"], &at, &kinds, errors);
}

/// What of a pod its containers may know as a variable (`ConvertDownwardAPIFieldLabel`).
fn is_field(label: &str) -> bool {
    let base = label.split_once('[').map_or(label, |(base, _)| base);
    match base {
        "metadata.annotations" | "metadata.labels" => base != label,
        "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.nodeName"
        | "spec.restartPolicy"
        | "spec.serviceAccountName"
        | "spec.schedulerName"
        | "status.phase"
        | "status.hostIP"
        | "status.hostIPs"
        | "status.podIP"
        | "status.podIPs"
        | "spec.host" => true,
        _ => false,
    }
}

const HANDLERS: Sources = &[
    ("exec", &[]),
    ("httpGet", &[]),
    ("tcpSocket", &[]),
    ("grpc", &[]),
    ("sleep", &[]),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_is_told_what_is_wrong_in_a_real_servers_words() {
        let said = |field: &str, value: Value| -> Vec<String> {
            let mut container = json!({"name": "c", "image": "i"});
            container[field] = value;
            let mut errors = Vec::new();
            check(&container, "c", &["v"], true, &mut errors);
            errors.iter().map(FieldError::to_string).collect()
        };
        for (field, value, expected) in [
            (
                "image",
                json!(" x"),
                "c.image: Invalid value: \" x\": must not have leading or trailing whitespace",
            ),
            (
                "env",
                json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "x"}}}]),
                "c.env[0].valueFrom.secretKeyRef.key: Required value",
            ),
            (
                "envFrom",
                json!([{}]),
                "c.envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            ),
            (
                "resources",
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                "c.resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                "livenessProbe",
                json!({}),
                "c.livenessProbe: Required value: must specify a handler type",
            ),
            (
                "livenessProbe",
                json!({"httpGet": {"port": 80}, "tcpSocket": {"port": 80}}),
                "c.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            ),
            (
                "readinessProbe",
                json!({"exec": {}}),
                "c.readinessProbe.exec.command: Required value",
            ),
            (
                "volumeMounts",
                json!([{"name": "w", "mountPath": "/w"}]),
                "c.volumeMounts[0].name: Not found: \"w\"",
            ),
        ] {
            assert_eq!(said(field, value), [expected]);
        }
        assert!(
            said(
                "env",
                json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}}])
            )
            .is_empty()
        );
        assert!(
            said(
                "livenessProbe",
                json!({"httpGet": {"port": "http"}, "successThreshold": 1})
            )
            .is_empty()
        );
    }
}
