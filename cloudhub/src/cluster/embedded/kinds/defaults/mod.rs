//! What the server adds to the built-in kinds, as far as clients need it: enough to print, to wait and to run.

mod behavior;
mod kinds;
mod pod;
mod rules;

pub(in crate::cluster::embedded) use pod::quality_of_service;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub_core::api::Status;
use hub_core::registry::ResourceKind;
use serde_json::{Map, Value, json};

use super::fields;
use crate::cluster::embedded::admission::{
    account, claim, limits, node, node_ports, priority, quota, service,
};
use crate::cluster::embedded::call::{is, is_namespaces, meta};
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::clock;
use crate::cluster::embedded::values::set::default;

/// What every object of a version says where its writer did not: it counts as if the writer had said it.
pub(in crate::cluster::embedded) fn of_version(kind: &ResourceKind, value: &mut Value) {
    if is_namespaces(kind) {
        name_label(value);
    } else if is(kind, "", "pods") {
        pod::of_version(value);
    } else if is(kind, "", "services") {
        service::of_version(&mut value["spec"]);
    } else if is(kind, "apps", "daemonsets") {
        count_templates(value, 1);
    }
    both(kind, value);
}

/// Completes a new object that has the defaults of its version: what the server adds of its own.
pub(in crate::cluster::embedded) fn on_create(
    state: &State,
    kind: &ResourceKind,
    value: &mut Value,
) -> Result<(), Status> {
    if is_namespaces(kind) {
        namespace(value);
    } else if is(kind, "", "pods") {
        limits::apply(state, value);
        limits::place(state, value);
        account::admit(state, kind, value)?;
        priority::admit(state, kind, value)?;
        pod::pod(value);
        value["status"] = json!({"phase": "Pending", "qosClass": pod::quality_of_service(value)});
        if value["spec"]["schedulingGates"]
            .as_array()
            .is_some_and(|gates| !gates.is_empty())
        {
            let since = meta(value, "creationTimestamp").to_owned();
            value["status"]["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": since,
                "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
    } else if is(kind, "", "services") {
        service::complete(state, kind, value)?;
        node_ports::complete(state, kind, None, value)?;
        value["status"] = json!({"loadBalancer": {}});
    } else if is(kind, "", "nodes") {
        node::taint(value);
        node::settle(value);
    } else if is(kind, "", "resourcequotas") {
        quota::begin(state, value);
    } else if is(kind, "batch", "jobs") {
        own_pods(value);
    } else if is(kind, "", "persistentvolumes") {
        protect(value, "kubernetes.io/pv-protection");
        let since = meta(value, "creationTimestamp").to_owned();
        value["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": since});
    } else if is(kind, "", "persistentvolumeclaims") {
        protect(value, "kubernetes.io/pvc-protection");
        claim::complete(state, value);
        value["status"] = json!({"phase": "Pending"});
    } else if is(kind, "networking.k8s.io", "ingresses") {
        claim::ingress(state, value);
    } else if is(kind, "discovery.k8s.io", "endpointslices") {
        for endpoint in value["endpoints"].as_array_mut().into_iter().flatten() {
            if let Some(fields) = endpoint.as_object_mut() {
                // Only slices from before this version have it.
                fields.remove("deprecatedTopology");
            }
        }
    } else if is(kind, "apps", "deployments")
        || is(kind, "apps", "replicasets")
        || is(kind, "apps", "statefulsets")
    {
        value["status"] = json!({});
    } else if is(kind, "apiregistration.k8s.io", "apiservices") {
        available(value);
    } else if is(kind, "scheduling.k8s.io", "priorityclasses") {
        priority::check(state, kind, value)?;
    } else if is(kind, "apps", "daemonsets") {
        value["status"] = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0});
    }
    Ok(())
}

/// What the version says of an object that came by the door of its status.
pub(in crate::cluster::embedded) fn of_status(kind: &ResourceKind, old: &Value, new: &mut Value) {
    if is(kind, "", "pods") {
        first_of(&mut new["status"], "podIP", "podIPs", Some("ip"));
        let class = old["status"]["qosClass"].clone();
        default(&mut new["status"], "qosClass", class);
    } else if is(kind, "", "persistentvolumes") {
        let (held, given) = (&old["status"], &new["status"]);
        let unsaid = given[PHASE_SINCE].is_null() || given[PHASE_SINCE] == held[PHASE_SINCE];
        if given["phase"] != held["phase"] && unsaid {
            new["status"][PHASE_SINCE] = clock::now().into();
        }
    } else if is(kind, "", "services") && new["spec"]["type"] == "LoadBalancer" {
        let places = new["status"]["loadBalancer"]["ingress"].as_array_mut();
        for place in places.into_iter().flatten() {
            if place["ip"].as_str().is_some_and(|address| !address.is_empty()) {
                default(place, "ipMode", "VIP".into());
            }
        }
    }
}

/// Completes a new state of an object.
pub(in crate::cluster::embedded) fn on_update(
    state: &State,
    kind: &ResourceKind,
    old: &Value,
    new: &mut Value,
) -> Result<(), Status> {
    if is_namespaces(kind) {
        name_label(new);
    } else if is(kind, "", "pods") {
        pod::again(old, new);
    } else if is(kind, "", "nodes") {
        node::settle(new);
    } else if is(kind, "", "services") {
        service::keep_address(kind, old, new)?;
        if old["spec"]["type"] == "LoadBalancer" && new["spec"]["type"] != "LoadBalancer" {
            new["status"]["loadBalancer"] = json!({});
        }
        service::of_version(&mut new["spec"]);
        node_ports::complete(state, kind, Some(old), new)?;
        if old["spec"]["type"] == "ExternalName" && new["spec"]["type"] != "ExternalName" {
            service::complete(state, kind, new)?;
        }
    } else if is(kind, "", "secrets") {
        default(new, "type", "Opaque".into());
        if new["type"] != old["type"] {
            let error = FieldError::invalid("type", &new["type"], "field is immutable");
            return Err(fault::invalid(kind, meta(new, "name"), &[error]));
        }
    }
    both(kind, new);
    if is(kind, "apps", "daemonsets") {
        let held = old["metadata"]["annotations"][TEMPLATES].as_str();
        let held = held.and_then(|held| held.parse().ok()).unwrap_or(1_u64);
        let changed = old["spec"]["template"] != new["spec"]["template"];
        count_templates(new, held + u64::from(changed));
    } else if is(kind, "scheduling.k8s.io", "priorityclasses") {
        priority::check(state, kind, new)?;
    }
    Ok(())
}

/// How many templates a DaemonSet has had stands in an annotation since it has no field of its own any more.
fn count_templates(value: &mut Value, count: u64) {
    default(&mut value["metadata"], "annotations", json!({}));
    value["metadata"]["annotations"][TEMPLATES] = count.to_string().into();
}

/// A DaemonSet that comes without the count of its templates, as a real server sees it until it has counted: its writer owns the count.
pub(in crate::cluster::embedded) fn uncounted(kind: &ResourceKind, value: &Value) -> Option<Value> {
    if value["metadata"]["annotations"][TEMPLATES].is_string() {
        return None;
    }
    let mut value = value.clone();
    of_version(kind, &mut value);
    fields::complete(kind, &mut value);
    count_templates(&mut value, 0);
    Some(value)
}

/// What is in use does not go (Kubernetes `plugin/pkg/admission/storage/storageobjectinuseprotection`).
fn protect(value: &mut Value, finalizer: &str) {
    default(&mut value["metadata"], "finalizers", json!([]));
    if let Some(finalizers) = value["metadata"]["finalizers"].as_array_mut()
        && !finalizers.iter().any(|held| held == finalizer)
    {
        finalizers.push(finalizer.into());
    }
}

fn both(kind: &ResourceKind, value: &mut Value) {
    if is(kind, "batch", "jobs") && value["spec"]["parallelism"].is_null() {
        default(&mut value["spec"], "completions", json!(1));
    }
    rules::apply(value, kinds::of(kind));
    if let Some(path) = kinds::pod_spec(kind) {
        rules::each(value, path, &mut pod::spec);
    }
    if is(kind, "", "nodes") {
        first_of(&mut value["spec"], "podCIDR", "podCIDRs", None);
        let capacity = value["status"]["capacity"].clone();
        if capacity.is_object() {
            default(&mut value["status"], "allocatable", capacity);
        }
    } else if is(kind, "autoscaling", "horizontalpodautoscalers") && &*kind.resource.version == "v2" {
        metrics(value);
        behavior::complete(&mut value["spec"]);
    }
    if is(kind, "networking.k8s.io", "networkpolicies") {
        policy_types(value);
    } else if is(kind, "", "limitranges") {
        limit_range(value);
    } else if is(kind, "", "replicationcontrollers") {
        labels_of_template(value);
    } else if is(kind, "rbac.authorization.k8s.io", "rolebindings")
        || is(kind, "rbac.authorization.k8s.io", "clusterrolebindings")
    {
        subjects(value);
    } else if is(kind, "", "secrets") {
        secret(value);
    }
}

/// A job finds its pods by labels that no other job has, unless it says how it finds them.
fn own_pods(job: &mut Value) {
    let (uid, name) = (meta(job, "uid").to_owned(), meta(job, "name").to_owned());
    let spec = &mut job["spec"];
    if spec["manualSelector"] != true {
        for (label, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            default(&mut spec["template"]["metadata"], "labels", json!({}));
            default(
                &mut spec["template"]["metadata"]["labels"],
                label,
                value.as_str().into(),
            );
        }
        let label = "batch.kubernetes.io/controller-uid";
        default(spec, "selector", json!({}));
        default(&mut spec["selector"], "matchLabels", json!({}));
        default(&mut spec["selector"]["matchLabels"], label, uid.into());
    }
    let labels = spec["template"]["metadata"]["labels"].clone();
    let own = &job["metadata"]["labels"];
    if own.as_object().is_none_or(Map::is_empty) {
        job["metadata"]["labels"] = labels;
    }
}

/// An API that this server serves itself is there; one of another server is not asked for, and nobody says so.
fn available(value: &mut Value) {
    if value["spec"]["service"].is_object() {
        return;
    }
    let since = meta(value, "creationTimestamp").to_owned();
    value["status"] = json!({"conditions": [{
        "type": "Available", "status": "True", "lastTransitionTime": since,
        "reason": "Local", "message": "Local APIServices are always available",
    }]});
}

/// A policy speaks of what it has rules for, and of what comes in anyway.
fn policy_types(value: &mut Value) {
    let egress = value["spec"]["egress"]
        .as_array()
        .is_some_and(|rules| !rules.is_empty());
    let types = if egress {
        json!(["Ingress", "Egress"])
    } else {
        json!(["Ingress"])
    };
    default(&mut value["spec"], "policyTypes", types);
}

/// The most that a container may have is what it gets, what it gets is what it asks for, and the least otherwise.
fn limit_range(value: &mut Value) {
    let limits = value["spec"]["limits"].as_array_mut();
    for item in limits.into_iter().flatten() {
        if item["type"] != "Container" {
            continue;
        }
        for (from, to) in [
            ("max", "default"),
            ("default", "defaultRequest"),
            ("min", "defaultRequest"),
        ] {
            let given = item[from].as_object().cloned().unwrap_or_default();
            for (resource, amount) in given {
                default(item, to, json!({}));
                default(&mut item[to], &resource, amount);
            }
        }
    }
}

fn labels_of_template(value: &mut Value) {
    let labels = value["spec"]["template"]["metadata"]["labels"].clone();
    for (part, field) in [("spec", "selector"), ("metadata", "labels")] {
        if value[part][field].as_object().is_none_or(Map::is_empty) && labels.is_object() {
            value[part][field] = labels.clone();
        }
    }
}

/// Users and groups are of the group of roles.
fn subjects(value: &mut Value) {
    for subject in value["subjects"].as_array_mut().into_iter().flatten() {
        if (subject["kind"] == "User" || subject["kind"] == "Group")
            && subject["apiGroup"].as_str().unwrap_or_default().is_empty()
        {
            subject["apiGroup"] = "rbac.authorization.k8s.io".into();
        }
    }
}

/// An autoscaler that does not say what it looks at looks at processors.
fn metrics(value: &mut Value) {
    let spec = &mut value["spec"];
    if !spec.is_object() {
        return;
    }
    let some = spec["metrics"]
        .as_array()
        .is_some_and(|metrics| !metrics.is_empty());
    if !some {
        spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}}]);
    }
}

fn name_label(value: &mut Value) {
    let name = meta(value, "name").to_owned();
    default(&mut value["metadata"], "labels", json!({}));
    value["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
}

fn namespace(value: &mut Value) {
    value["spec"] = json!({"finalizers": ["kubernetes"]});
    value["status"] = json!({"phase": "Active"});
}

/// `stringData` is for writing only: it becomes `data`.
fn secret(value: &mut Value) {
    default(value, "type", "Opaque".into());
    let given = value
        .as_object_mut()
        .and_then(|object| object.remove("stringData"));
    if let Some(Value::Object(texts)) = given {
        default(value, "data", json!({}));
        for (key, text) in texts {
            value["data"][key] = BASE64.encode(text.as_str().unwrap_or_default()).into();
        }
    }
}

/// A list of addresses and the first of them, which older clients know alone. Where they disagree, the first is right.
fn first_of(holder: &mut Value, one: &str, all: &str, within: Option<&str>) {
    let Some(fields) = holder.as_object() else {
        return;
    };
    if !fields.contains_key(one) && !fields.contains_key(all) {
        return;
    }
    let first = |value: &Value| match within {
        Some(field) => value[field].clone(),
        None => value.clone(),
    };
    let (given, listed) = (holder[one].clone(), first(&holder[all][0]));
    let said = given.as_str().is_some_and(|given| !given.is_empty());
    if said && given != listed {
        holder[all] = match within {
            Some(field) => json!([{ field: given }]),
            None => json!([given]),
        };
    } else if !said && listed.is_string() {
        holder[one] = listed;
    }
}

/// When a volume came into its phase.
const PHASE_SINCE: &str = "lastPhaseTransitionTime";
/// Where a DaemonSet counts its templates.
const TEMPLATES: &str = "deprecated.daemonset.template.generation";
