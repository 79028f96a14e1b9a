//! `pods/eviction`: a deletion that asks the pod's disruption budget first (Kubernetes `pkg/registry/core/pod/storage/eviction.go`).
//!
//! A budget whose status somebody keeps (`observedGeneration`) is taken at its word, and pays. There is no controller here that would
//! keep it, so where nobody does the pods are counted at that moment.

use hub_core::api::{ApiResponse, Reason, Status};
use hub_core::object::{GroupVersionResource, ObjectKey};
use serde_json::{Value, json};

use crate::cluster::embedded::call::{Call, meta};
use crate::cluster::embedded::fault;
use crate::cluster::embedded::kinds::workload;
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::clock;
use crate::cluster::embedded::values::set::default;
use crate::cluster::embedded::verbs::{create, delete, delete_options};

pub(in crate::cluster::embedded) fn evict(state: &mut State, call: &Call<'_>) -> Result<ApiResponse, Status> {
    // Both versions of it are the same.
    let mut eviction = create::read_any(&call.request.body, "Eviction")?;
    if eviction["apiVersion"] == "policy/v1beta1" {
        eviction["apiVersion"] = "policy/v1".into();
    }
    create::same_type(("policy", "v1", "Eviction"), &eviction)?;
    let options = match eviction.get("deleteOptions") {
        None | Some(Value::Null) => delete_options::DeleteOptions::default(),
        Some(options) => delete_options::read_options(options.clone())?,
    };
    let key = call.named()?;
    if meta(&eviction, "name") != &*key.name {
        return Err(fault::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mark = state.mark();
    let pod = state
        .value(&key)?
        .ok_or_else(|| fault::not_found(&call.kind, &key.name))?;
    if let Some((budget, value)) = budget(state, &pod)? {
        pay(state, &budget, value, &pod)?;
    }
    delete::one(state, &call.kind, &key, &options)?;
    if let Some(mut pod) = state.value(&key)? {
        // It is given time, and what watches it is told why it goes.
        disrupted(&mut pod);
        state.put(&call.kind.resource, &mut pod)?;
    }
    if options.is_dry_run() {
        state.roll_back(mark);
    }
    let status = Status {
        code: 201,
        ..Status::success()
    };
    Ok(status.into())
}

fn disrupted(pod: &mut Value) {
    default(&mut pod["status"], "conditions", json!([]));
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != "DisruptionTarget");
        conditions.push(json!({
            "type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": clock::now(),
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        }));
    }
}

/// The budget that has a say. Pods that do no work need nobody's leave.
fn budget(state: &State, pod: &Value) -> Result<Option<(ObjectKey, Value)>, Status> {
    let idle = matches!(
        pod["status"]["phase"].as_str(),
        Some("Pending" | "Succeeded" | "Failed")
    );
    if idle || !meta(pod, "deletionTimestamp").is_empty() {
        return Ok(None);
    }
    let budgets = GroupVersionResource::new("policy", "v1", "poddisruptionbudgets");
    let mut found = Vec::new();
    for budget in state.list(&budgets, Some(meta(pod, "namespace"))) {
        let value: Value = serde_json::from_slice(&budget.body).unwrap_or_default();
        if covers(&value, &pod["metadata"]["labels"]) {
            found.push((budget.key.clone(), value));
        }
    }
    if found.len() > 1 {
        return Err(fault::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    Ok(found.pop())
}

/// Takes a disruption from a budget that has one left.
fn pay(state: &mut State, key: &ObjectKey, mut budget: Value, pod: &Value) -> Result<(), Status> {
    let kept = budget["status"]["observedGeneration"].as_i64() >= budget["metadata"]["generation"].as_i64();
    if !kept {
        let counted = count(state, &budget);
        for (field, value) in counted {
            budget["status"][field] = value.into();
        }
    }
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let (allowed, healthy, desired) = (
        number("disruptionsAllowed"),
        number("currentHealthy"),
        number("desiredHealthy"),
    );
    if !is_ready(pod) {
        let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        if always || (desired > 0 && healthy >= desired) {
            return Ok(());
        }
    }
    if allowed <= 0 {
        let name = meta(&budget, "name");
        let why =
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
        return Err(Status::failure(
            Reason::TooManyRequests,
            "Cannot evict pod as it would violate the pod's disruption budget.",
        )
        .cause("DisruptionBudget", &why, ""));
    }
    if kept {
        budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
        let name = meta(pod, "name");
        if !budget["status"]["disruptedPods"].is_object() {
            budget["status"]["disruptedPods"] = json!({});
        }
        budget["status"]["disruptedPods"][name] = clock::now().into();
        state.put(&key.resource, &mut budget)?;
    }
    Ok(())
}

/// What a disruption controller would say of a budget.
fn count(state: &State, budget: &Value) -> [(&'static str, i64); 4] {
    let pods = GroupVersionResource::core("pods");
    let (mut expected, mut healthy) = (0_i64, 0_i64);
    for pod in state.list(&pods, Some(meta(budget, "namespace"))) {
        let pod: Value = serde_json::from_slice(&pod.body).unwrap_or_default();
        if covers(budget, &pod["metadata"]["labels"]) {
            expected += 1;
            healthy += i64::from(is_ready(&pod) && meta(&pod, "deletionTimestamp").is_empty());
        }
    }
    let spec = &budget["spec"];
    let desired = match (&spec["minAvailable"], &spec["maxUnavailable"]) {
        (Value::Null, Value::Null) => 0,
        (Value::Null, most) => (expected - scaled(most, expected)).max(0),
        (least, _) => scaled(least, expected),
    };
    [
        ("expectedPods", expected),
        ("currentHealthy", healthy),
        ("desiredHealthy", desired),
        ("disruptionsAllowed", (healthy - desired).max(0)),
    ]
}

/// A number, or a part of all in per cent, rounded up.
fn scaled(value: &Value, all: i64) -> i64 {
    let percent = value
        .as_str()
        .and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    match percent {
        Some(percent) => (all * percent.clamp(0, 100) + 99) / 100,
        None => value.as_i64().unwrap_or(0),
    }
}

fn covers(budget: &Value, labels: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    !selector.is_null() && workload::selects(selector, labels)
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
