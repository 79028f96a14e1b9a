//! The cells of built-in kinds, in the order of `columns.json` (Kubernetes `pkg/printers/internalversion`).

use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::text::{NONE, UNSET, at, first, items, join, labels, number, plain, selector, text, text_or};
use super::{age, pod};

/// The kind whose columns all others have that kube-apiserver has no printer for: name and time of creation.
pub(super) const DEFAULT: &str = "v1/limitranges";

/// The cells of an object.
pub(super) fn cells(resource: &GroupVersionResource, object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let o = object;
    let name = json!(text(o, "metadata.name"));
    let age = json!(age::since(at(o, "metadata.creationTimestamp"), now));
    match (&*resource.group, &*resource.resource) {
        ("", "pods") => pod::cells(o, now),
        ("", "nodes") => node(o, name, age),
        ("", "services") => service(o, name, age),
        ("", "namespaces") => vec![name, text(o, "status.phase").into(), age],
        ("", "endpoints") => vec![name, endpoints(o).into(), age],
        ("", "configmaps") => vec![name, (count(o, "data") + count(o, "binaryData")).into(), age],
        ("", "secrets") => vec![name, text(o, "type").into(), count(o, "data").into(), age],
        ("", "serviceaccounts") => vec![name, age],
        ("" | "events.k8s.io", "events") => event(o, name, now),
        ("", "persistentvolumes") => persistent_volume(o, name, age),
        ("", "persistentvolumeclaims") => claim(o, name, age),
        ("", "podtemplates") => {
            let [containers, images] = containers(at(o, "template.spec"));
            vec![
                name,
                containers,
                images,
                labels(at(o, "template.metadata.labels")).into(),
            ]
        }
        ("", "resourcequotas") => quota(o, name, age),
        ("", "componentstatuses") => component(o, name),
        ("", "replicationcontrollers") | ("apps", "replicasets") => {
            let chosen = at(o, "spec.selector");
            let chosen = if resource.group.is_empty() {
                labels(chosen)
            } else {
                selector(chosen)
            };
            let counts = ["spec.replicas", "status.replicas", "status.readyReplicas"]
                .map(|path| number(o, path).into());
            let [containers, images] = containers(at(o, "spec.template.spec"));
            [
                vec![name],
                counts.into(),
                vec![age, containers, images, chosen.into()],
            ]
            .concat()
        }
        ("apps", "deployments") => {
            let ready = format!(
                "{}/{}",
                number(o, "status.readyReplicas"),
                number(o, "spec.replicas")
            );
            let [containers, images] = containers(at(o, "spec.template.spec"));
            vec![
                name,
                ready.into(),
                number(o, "status.updatedReplicas").into(),
                number(o, "status.availableReplicas").into(),
                age,
                containers,
                images,
                selector(at(o, "spec.selector")).into(),
            ]
        }
        ("apps", "statefulsets") => {
            let ready = format!(
                "{}/{}",
                number(o, "status.readyReplicas"),
                number(o, "spec.replicas")
            );
            let [containers, images] = containers(at(o, "spec.template.spec"));
            vec![name, ready.into(), age, containers, images]
        }
        ("apps", "daemonsets") => {
            let counts = ["desired", "current", "numberReady", "updated", "numberAvailable"].map(|count| {
                let path = match count {
                    "desired" | "current" | "updated" => format!("status.{count}NumberScheduled"),
                    other => format!("status.{other}"),
                };
                number(o, &path).into()
            });
            let [containers, images] = containers(at(o, "spec.template.spec"));
            let nodes = labels(at(o, "spec.template.spec.nodeSelector"));
            let chosen = selector(at(o, "spec.selector"));
            [
                vec![name],
                counts.into(),
                vec![nodes.into(), age, containers, images, chosen.into()],
            ]
            .concat()
        }
        ("apps", "controllerrevisions") => {
            let owner = items(o, "metadata.ownerReferences")
                .iter()
                .find(|owner| owner["controller"] == true);
            let owner = owner.map_or(NONE.into(), |owner| {
                let (group, _) = text(owner, "apiVersion").split_once('/').unwrap_or(("", ""));
                let kind = text(owner, "kind").to_lowercase();
                let dot = if group.is_empty() { "" } else { "." };
                format!("{kind}{dot}{group}/{}", text(owner, "name"))
            });
            vec![name, owner.into(), number(o, "revision").into(), age]
        }
        ("batch", "jobs") => job(o, name, age, now),
        ("batch", "cronjobs") => cron_job(o, name, age, now),
        ("coordination.k8s.io", "leases") => vec![name, text(o, "spec.holderIdentity").into(), age],
        ("discovery.k8s.io", "endpointslices") => endpoint_slice(o, name, age),
        ("networking.k8s.io", "networkpolicies") => {
            vec![name, selector(at(o, "spec.podSelector")).into(), age]
        }
        ("networking.k8s.io", "ingresses") => ingress(o, name, age),
        ("networking.k8s.io", "ingressclasses") => {
            let parameters = match text(o, "spec.parameters.kind") {
                "" => NONE.into(),
                kind => {
                    let group = text(o, "spec.parameters.apiGroup");
                    let dot = if group.is_empty() { "" } else { "." };
                    format!("{kind}{dot}{group}/{}", text(o, "spec.parameters.name"))
                }
            };
            vec![name, text(o, "spec.controller").into(), parameters.into(), age]
        }
        ("networking.k8s.io", "ipaddresses") => {
            let parts = ["resource", "namespace", "name"].map(|part| text(at(o, "spec.parentRef"), part));
            let parent: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            vec![name, parent.join("/").into(), age]
        }
        ("networking.k8s.io", "servicecidrs") => {
            let ranges: Vec<&str> = items(o, "spec.cidrs").iter().filter_map(Value::as_str).collect();
            vec![name, ranges.join(",").into(), age]
        }
        ("storage.k8s.io", "storageclasses") => {
            let name = if is_default_class(o) {
                format!("{} (default)", text(o, "metadata.name")).into()
            } else {
                name
            };
            vec![
                name,
                text(o, "provisioner").into(),
                text_or(o, "reclaimPolicy", "Delete").into(),
                text_or(o, "volumeBindingMode", "Immediate").into(),
                (at(o, "allowVolumeExpansion") == true).into(),
                age,
            ]
        }
        ("storage.k8s.io", "csidrivers") => csi_driver(o, name, age),
        ("storage.k8s.io", "csinodes") => vec![name, items(o, "spec.drivers").len().into(), age],
        ("storage.k8s.io", "volumeattachments") => vec![
            name,
            text(o, "spec.attacher").into(),
            text(o, "spec.source.persistentVolumeName").into(),
            text(o, "spec.nodeName").into(),
            (at(o, "status.attached") == true).into(),
            age,
        ],
        ("node.k8s.io", "runtimeclasses") => vec![name, text(o, "handler").into(), age],
        ("scheduling.k8s.io", "priorityclasses") => vec![
            name,
            number(o, "value").into(),
            (at(o, "globalDefault") == true).into(),
            age,
            text(o, "preemptionPolicy").into(),
        ],
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            let role = format!("{}/{}", text(o, "roleRef.kind"), text(o, "roleRef.name"));
            let subjects = |kind: &str| -> Value {
                let names = items(o, "subjects")
                    .iter()
                    .filter(|subject| text(subject, "kind") == kind);
                let shown = names.map(|subject| match kind {
                    "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
                    _ => text(subject, "name").into(),
                });
                shown.collect::<Vec<_>>().join(", ").into()
            };
            vec![
                name,
                role.into(),
                age,
                subjects("User"),
                subjects("Group"),
                subjects("ServiceAccount"),
            ]
        }
        ("policy", "poddisruptionbudgets") => {
            let or = |path| match at(o, path) {
                Value::Null => "N/A".into(),
                value => plain(value),
            };
            vec![
                name,
                or("spec.minAvailable").into(),
                or("spec.maxUnavailable").into(),
                number(o, "status.disruptionsAllowed").into(),
                age,
            ]
        }
        ("autoscaling", "horizontalpodautoscalers") => autoscaler(o, name, age),
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations" | "mutatingwebhookconfigurations",
        ) => {
            vec![name, items(o, "webhooks").len().into(), age]
        }
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => {
            let dangling =
                condition(o, "Dangling").map_or("?", |condition| text_or(condition, "status", "?"));
            vec![
                name,
                text(o, "spec.priorityLevelConfiguration.name").into(),
                number(o, "spec.matchingPrecedence").into(),
                text_or(o, "spec.distinguisherMethod.type", NONE).into(),
                age,
                dangling.into(),
            ]
        }
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            let or = |path| match at(o, path) {
                Value::Null => NONE.into(),
                value => value.clone(),
            };
            let queuing = "spec.limited.limitResponse.queuing";
            vec![
                name,
                text(o, "spec.type").into(),
                or("spec.limited.nominalConcurrencyShares"),
                or(&format!("{queuing}.queues")),
                or(&format!("{queuing}.handSize")),
                or(&format!("{queuing}.queueLengthLimit")),
                age,
            ]
        }
        ("apiregistration.k8s.io", "apiservices") => {
            let service = match text(o, "spec.service.name") {
                "" => "Local".into(),
                service => format!("{}/{service}", text(o, "spec.service.namespace")),
            };
            let available = match condition(o, "Available") {
                None => "Unknown".into(),
                Some(state) if text(state, "status") == "True" => "True".into(),
                Some(state) => format!("{} ({})", text(state, "status"), text(state, "reason")),
            };
            vec![name, service.into(), available.into(), age]
        }
        _ => vec![name, text(o, "metadata.creationTimestamp").into()],
    }
}

fn count(object: &Value, path: &str) -> usize {
    at(object, path).as_object().map_or(0, serde_json::Map::len)
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "status.conditions")
        .iter()
        .find(|condition| text(condition, "type") == kind)
}

fn containers(spec: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| join(spec, "containers", field).into())
}

fn node(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let mut status = match condition(o, "Ready") {
        Some(ready) if text(ready, "status") == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".into(),
        None => "Unknown".into(),
    };
    if at(o, "spec.unschedulable") == true {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = at(o, "metadata.labels")
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role).filter(|role| !role.is_empty()),
                None => Some(key)
                    .filter(|key| *key == "kubernetes.io/role")
                    .and(value.as_str()),
            },
        )
        .collect();
    roles.sort_unstable();
    roles.dedup();
    let roles = if roles.is_empty() {
        NONE.into()
    } else {
        roles.join(",")
    };
    let address = |kind: &str| {
        let found = items(o, "status.addresses")
            .iter()
            .find(|address| text(address, "type") == kind);
        found.map_or(NONE, |address| text(address, "address"))
    };
    let or = |path| text_or(o, path, "<unknown>");
    let kernel = match text(o, "status.nodeInfo.architecture") {
        "" => or("status.nodeInfo.kernelVersion").to_owned(),
        architecture => format!("{} ({architecture})", or("status.nodeInfo.kernelVersion")),
    };
    vec![
        name,
        status.into(),
        roles.into(),
        age,
        text(o, "status.nodeInfo.kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        or("status.nodeInfo.osImage").into(),
        kernel.into(),
        or("status.nodeInfo.containerRuntimeVersion").into(),
    ]
}

fn service(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let kind = text(o, "spec.type");
    let own = items(o, "spec.externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned);
    let external = match kind {
        "ExternalName" => text_or(o, "spec.externalName", NONE).to_owned(),
        "LoadBalancer" => {
            let given = items(o, "status.loadBalancer.ingress")
                .iter()
                .map(|ingress| text_or(ingress, "ip", text(ingress, "hostname")).to_owned());
            let all: Vec<String> = given.chain(own).filter(|address| !address.is_empty()).collect();
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",")
            }
        }
        _ => {
            let all: Vec<String> = own.collect();
            if all.is_empty() {
                NONE.into()
            } else {
                all.join(",")
            }
        }
    };
    let ports: Vec<String> = items(o, "spec.ports")
        .iter()
        .map(|port| {
            let protocol = text_or(port, "protocol", "TCP");
            match number(port, "nodePort") {
                0 => format!("{}/{protocol}", number(port, "port")),
                node_port => format!("{}:{node_port}/{protocol}", number(port, "port")),
            }
        })
        .collect();
    let ports = if ports.is_empty() {
        NONE.into()
    } else {
        ports.join(",")
    };
    let address = match items(o, "spec.clusterIPs").first().and_then(Value::as_str) {
        Some(first) => first,
        None => text_or(o, "spec.clusterIP", NONE),
    };
    vec![
        name,
        kind.into(),
        if kind == "ExternalName" { NONE } else { address }.into(),
        external.into(),
        ports.into(),
        age,
        labels(at(o, "spec.selector")).into(),
    ]
}

fn endpoints(o: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(o, "subsets") {
        let ports = items(subset, "ports");
        for address in items(subset, "addresses") {
            let host = text(address, "ip");
            if ports.is_empty() {
                all.push(host.to_owned());
            }
            all.extend(ports.iter().map(|port| {
                let port = number(port, "port");
                if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                }
            }));
        }
    }
    first(&all, 3, NONE)
}

fn endpoint_slice(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let ports: Vec<String> = items(o, "ports")
        .iter()
        .map(|port| match number(port, "port") {
            0 => "*".into(),
            number => number.to_string(),
        })
        .collect();
    let addresses: Vec<String> = items(o, "endpoints")
        .iter()
        .flat_map(|endpoint| items(endpoint, "addresses"))
        .map(plain)
        .collect();
    vec![
        name,
        text(o, "addressType").into(),
        first(&ports, 3, UNSET).into(),
        first(&addresses, 3, UNSET).into(),
        age,
    ]
}

fn event(o: &Value, name: Value, now: OffsetDateTime) -> Vec<Value> {
    let pick = |core: &str, new: &str| {
        if at(o, core).is_null() {
            at(o, new).clone()
        } else {
            at(o, core).clone()
        }
    };
    let time = |value: &Value| age::since(value, now);
    let since = pick("firstTimestamp", "deprecatedFirstTimestamp");
    let last = pick("lastTimestamp", "deprecatedLastTimestamp");
    let seen = if since.is_null() {
        at(o, "eventTime")
    } else {
        &since
    };
    let (last_seen, count) = match at(o, "series") {
        Value::Null => {
            let count = pick("count", "deprecatedCount").as_i64().unwrap_or_default();
            (if last.is_null() { seen } else { &last }, count.max(1))
        }
        series => (at(series, "lastObservedTime"), number(series, "count")),
    };
    let about = pick("involvedObject", "regarding");
    let object = match (text(&about, "kind").to_lowercase(), text(&about, "name")) {
        (kind, "") => kind,
        (kind, name) => format!("{kind}/{name}"),
    };
    let source = pick("source", "deprecatedSource");
    let reporter = pick("reportingComponent", "reportingController");
    let component = text_or(&source, "component", reporter.as_str().unwrap_or_default());
    let instance = match text(&source, "host") {
        "" => text(o, "reportingInstance"),
        host => host,
    };
    let from = if instance.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {instance}")
    };
    vec![
        time(last_seen).into(),
        text(o, "type").into(),
        text(o, "reason").into(),
        object.into(),
        text(&about, "fieldPath").into(),
        from.into(),
        pick("message", "note").as_str().unwrap_or_default().trim().into(),
        time(seen).into(),
        count.into(),
        name,
    ]
}

fn modes(o: &Value, path: &str) -> String {
    let short = items(o, path)
        .iter()
        .filter_map(Value::as_str)
        .map(|mode| match mode {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            "ReadWriteOncePod" => "RWOP",
            other => other,
        });
    short.collect::<Vec<_>>().join(",")
}

fn phase(o: &Value) -> Value {
    if text(o, "metadata.deletionTimestamp").is_empty() {
        text(o, "status.phase")
    } else {
        "Terminating"
    }
    .into()
}

fn class(o: &Value) -> &str {
    let old = &at(o, "metadata.annotations")["volume.beta.kubernetes.io/storage-class"];
    old.as_str().unwrap_or_else(|| text(o, "spec.storageClassName"))
}

fn persistent_volume(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let claim = match text(o, "spec.claimRef.name") {
        "" => String::new(),
        claim => format!("{}/{claim}", text(o, "spec.claimRef.namespace")),
    };
    vec![
        name,
        plain(at(o, "spec.capacity.storage")).into(),
        modes(o, "spec.accessModes").into(),
        text(o, "spec.persistentVolumeReclaimPolicy").into(),
        phase(o),
        claim.into(),
        class(o).into(),
        text_or(o, "spec.volumeAttributesClassName", UNSET).into(),
        text(o, "status.reason").into(),
        age,
        text_or(o, "spec.volumeMode", UNSET).into(),
    ]
}

fn claim(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let bound = !text(o, "spec.volumeName").is_empty();
    let (capacity, access) = if bound {
        (
            plain(at(o, "status.capacity.storage")),
            modes(o, "status.accessModes"),
        )
    } else {
        Default::default()
    };
    vec![
        name,
        phase(o),
        text(o, "spec.volumeName").into(),
        capacity.into(),
        access.into(),
        class(o).into(),
        text_or(o, "spec.volumeAttributesClassName", UNSET).into(),
        age,
        text_or(o, "spec.volumeMode", UNSET).into(),
    ]
}

fn quota(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in at(o, "status.hard").as_object().into_iter().flatten() {
        let used = plain(&at(o, "status.used")[resource]);
        let used = if used.is_empty() { "0".into() } else { used };
        let shown = format!("{resource}: {used}/{}", plain(hard));
        if resource.starts_with("limits.") {
            limits.push(shown)
        } else {
            requests.push(shown)
        }
    }
    requests.sort();
    limits.sort();
    vec![name, requests.join(", ").into(), limits.join(", ").into(), age]
}

fn component(o: &Value, name: Value) -> Vec<Value> {
    let healthy = items(o, "conditions")
        .iter()
        .find(|condition| text(condition, "type") == "Healthy");
    let (status, message, error) = match healthy {
        Some(state) => {
            let status = if text(state, "status") == "True" {
                "Healthy"
            } else {
                "Unhealthy"
            };
            (status, text(state, "message"), text(state, "error"))
        }
        None => ("Unhealthy", "", ""),
    };
    vec![name, status.into(), message.into(), error.into()]
}

fn job(o: &Value, name: Value, age: Value, now: OffsetDateTime) -> Vec<Value> {
    let holds = |kind| condition(o, kind).is_some_and(|condition| text(condition, "status") == "True");
    let status = match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if !text(o, "metadata.deletionTimestamp").is_empty() => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    let done = number(o, "status.succeeded");
    let completions = match (at(o, "spec.completions").as_i64(), number(o, "spec.parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    };
    let duration = age::parse(at(o, "status.startTime")).map_or_else(String::new, |start| {
        let end = age::parse(at(o, "status.completionTime")).unwrap_or(now);
        age::human((end - start).whole_seconds())
    });
    let [containers, images] = containers(at(o, "spec.template.spec"));
    vec![
        name,
        status.into(),
        completions.into(),
        duration.into(),
        age,
        containers,
        images,
        selector(at(o, "spec.selector")).into(),
    ]
}

fn cron_job(o: &Value, name: Value, age: Value, now: OffsetDateTime) -> Vec<Value> {
    let last = match at(o, "status.lastScheduleTime") {
        Value::Null => NONE.into(),
        last => age::since(last, now),
    };
    let [containers, images] = containers(at(o, "spec.jobTemplate.spec.template.spec"));
    vec![
        name,
        text(o, "spec.schedule").into(),
        text_or(o, "spec.timeZone", NONE).into(),
        if at(o, "spec.suspend") == true {
            "True"
        } else {
            "False"
        }
        .into(),
        items(o, "status.active").len().into(),
        last.into(),
        age,
        containers,
        images,
        selector(at(o, "spec.jobTemplate.spec.selector")).into(),
    ]
}

fn ingress(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let rules = items(o, "spec.rules");
    let hosts: Vec<String> = rules
        .iter()
        .map(|rule| text(rule, "host").to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    let addresses: Vec<&str> = items(o, "status.loadBalancer.ingress")
        .iter()
        .map(|ingress| text_or(ingress, "ip", text(ingress, "hostname")))
        .collect();
    vec![
        name,
        text_or(o, "spec.ingressClassName", NONE).into(),
        first(&hosts, 3, "*").into(),
        addresses.join(",").into(),
        if items(o, "spec.tls").is_empty() {
            "80"
        } else {
            "80, 443"
        }
        .into(),
        age,
    ]
}

fn is_default_class(o: &Value) -> bool {
    let annotations = at(o, "metadata.annotations");
    [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ]
    .iter()
    .any(|annotation| annotations[annotation] == "true")
}

fn csi_driver(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let audiences: Vec<&str> = items(o, "spec.tokenRequests")
        .iter()
        .map(|token| text(token, "audience"))
        .collect();
    let modes: Vec<&str> = items(o, "spec.volumeLifecycleModes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    vec![
        name,
        (at(o, "spec.attachRequired") != false).into(),
        (at(o, "spec.podInfoOnMount") == true).into(),
        (at(o, "spec.storageCapacity") == true).into(),
        if audiences.is_empty() {
            UNSET.to_owned()
        } else {
            audiences.join(",")
        }
        .into(),
        (at(o, "spec.requiresRepublish") == true).into(),
        if modes.is_empty() {
            NONE.to_owned()
        } else {
            modes.join(",")
        }
        .into(),
        age,
    ]
}

fn autoscaler(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let target = format!(
        "{}/{}",
        text(o, "spec.scaleTargetRef.kind"),
        text(o, "spec.scaleTargetRef.name")
    );
    let known = |value: &Value| {
        if value.is_null() {
            "<unknown>".to_owned()
        } else {
            plain(value)
        }
    };
    let mut metrics: Vec<String> = Vec::new();
    // Version 1 knows the one metric only.
    if let Some(percent) = at(o, "spec.targetCPUUtilizationPercentage").as_i64() {
        let current = at(o, "status.currentCPUUtilizationPercentage");
        let current = if current.is_null() {
            known(current)
        } else {
            format!("{current}%")
        };
        metrics.push(format!("cpu: {current}/{percent}%"));
    }
    for (index, metric) in items(o, "spec.metrics").iter().enumerate() {
        let kind = text(metric, "type");
        let field = kind[..1.min(kind.len())].to_lowercase() + kind.get(1..).unwrap_or_default();
        let current = &items(o, "status.currentMetrics")
            .get(index)
            .unwrap_or(&Value::Null)[&field]["current"];
        let target = &metric[&field]["target"];
        let label = match text(&metric[&field], "name") {
            "" => String::new(),
            name => format!("{name}: "),
        };
        metrics.push(match at(target, "averageUtilization") {
            Value::Null => {
                let which = if target["averageValue"].is_null() {
                    "value"
                } else {
                    "averageValue"
                };
                format!("{label}{}/{}", known(&current[which]), plain(&target[which]))
            }
            percent => {
                let current = &current["averageUtilization"];
                let current = if current.is_null() {
                    known(current)
                } else {
                    format!("{current}%")
                };
                format!("{label}{current}/{percent}%")
            }
        });
    }
    let smallest = match at(o, "spec.minReplicas") {
        Value::Null => UNSET.into(),
        value => plain(value),
    };
    vec![
        name,
        target.into(),
        first(&metrics, 2, NONE).into(),
        smallest.into(),
        number(o, "spec.maxReplicas").into(),
        number(o, "status.currentReplicas").into(),
        age,
    ]
}
