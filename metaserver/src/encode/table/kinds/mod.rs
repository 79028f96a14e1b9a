//! The cells of built-in kinds, in the order of `columns.json` (Kubernetes `pkg/printers/internalversion`).

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod core;
mod devices;
mod event;
mod flowcontrol;
mod networking;
mod rbac;
mod storage;
mod volumes;

use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::age;
use super::text::{at, condition, number, plain, text};

/// The kind whose columns all others have that kube-apiserver has no printer for: name and time of creation.
pub(super) const DEFAULT: &str = "v1/limitranges";

/// The cells of an object.
pub(super) fn cells(kind: &GroupVersionResource, object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let (resource, o) = (&*kind.resource, object);
    let name = json!(text(o, "metadata.name"));
    let age = json!(age::since(at(o, "metadata.creationTimestamp"), now));
    let cells = match &*kind.group {
        "" => core::cells(resource, o, name, age, now),
        "events.k8s.io" => Some(event::cells(o, name, now)),
        "apps" => apps::cells(resource, o, name, age),
        "batch" => batch::cells(resource, o, name, age, now),
        "networking.k8s.io" | "discovery.k8s.io" => networking::cells(resource, o, name, age),
        "storage.k8s.io" => storage::cells(resource, o, name, age),
        "autoscaling" => autoscaling::cells(resource, o, name, age),
        "rbac.authorization.k8s.io" => rbac::cells(resource, o, name, age),
        "admissionregistration.k8s.io" => admission::cells(resource, o, name, age),
        "flowcontrol.apiserver.k8s.io" => flowcontrol::cells(resource, o, name, age),
        "certificates.k8s.io" => certificates::cells(resource, o, name, age),
        "resource.k8s.io" => devices::cells(resource, o, name, age),
        group => single(group, resource, o, name, age),
    };
    cells.unwrap_or_else(|| {
        let name = text(o, "metadata.name").into();
        vec![name, text(o, "metadata.creationTimestamp").into()]
    })
}

/// Of groups that have one kind with a printer.
fn single(group: &str, resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    Some(match (group, resource) {
        ("coordination.k8s.io", "leases") => vec![name, text(o, "spec.holderIdentity").into(), age],
        ("node.k8s.io", "runtimeclasses") => vec![name, text(o, "handler").into(), age],
        ("scheduling.k8s.io", "priorityclasses") => vec![
            name,
            number(o, "value").into(),
            (at(o, "globalDefault") == true).into(),
            age,
            text(o, "preemptionPolicy").into(),
        ],
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
        _ => return None,
    })
}
