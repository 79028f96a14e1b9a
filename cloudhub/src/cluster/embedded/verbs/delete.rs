//! Objects away: at once, or when their finalizers, their grace period or their content let them go.

use hub_core::api::{ApiResponse, Reason, Status};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::ResourceKind;
use serde_json::{Value, json};

use super::delete_options::{DeleteOptions, options};
use crate::cluster::embedded::admission::priority;
use crate::cluster::embedded::call::{Call, has_generation, is, is_namespaces, meta};
use crate::cluster::embedded::controllers::garbage::Garbage;
use crate::cluster::embedded::controllers::propagation::{
    FOREGROUND, ORPHAN, Propagation, has_finalizer, keep_for_dependents,
};
use crate::cluster::embedded::controllers::{in_use, namespace};
use crate::cluster::embedded::custom::definition;
use crate::cluster::embedded::fault;
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::clock;
use crate::cluster::embedded::values::set::default;

pub(in crate::cluster::embedded) fn delete(
    state: &mut State,
    call: &Call<'_>,
) -> Result<ApiResponse, Status> {
    let options = options(call)?;
    if options.propagation().is_none() && is(&call.kind, "batch", "jobs") {
        call.warn(PODS_STAY.into());
    }
    let mark = state.mark();
    let answer = one(state, &call.kind, &call.named()?, &options)?;
    if options.dry_run.is_some() {
        state.roll_back(mark);
    }
    Ok(answer)
}

/// A deletion as if a client had asked for it: of an evicted pod, of a dependent.
pub(in crate::cluster::embedded) fn cascade(
    state: &mut State,
    kind: &ResourceKind,
    key: &ObjectKey,
    propagation: Option<Propagation>,
) -> Result<(), Status> {
    let policy = propagation.map(|propagation| format!("{propagation:?}"));
    let options = DeleteOptions {
        propagation_policy: policy,
        ..DeleteOptions::default()
    };
    one(state, kind, key, &options).map(drop)
}

/// Lets an object go that is being deleted, once nothing holds it; and what waited for it.
pub(in crate::cluster::embedded) fn finish(state: &mut State, key: &ObjectKey) -> Result<(), Status> {
    let Some(value) = state.value(key)? else {
        return Ok(());
    };
    if meta(&value, "deletionTimestamp").is_empty() {
        return Ok(());
    }
    if is_held(state, key, &value) {
        return namespace::report(state, key, value);
    }
    state.remove(key);
    for waiting in waiting_for(state, key) {
        finish(state, &waiting)?;
    }
    Ok(())
}

pub(in crate::cluster::embedded) fn one(
    state: &mut State,
    kind: &ResourceKind,
    key: &ObjectKey,
    options: &DeleteOptions,
) -> Result<ApiResponse, Status> {
    let Some(mut value) = state.value(key)? else {
        return Err(fault::not_found(kind, &key.name));
    };
    check_preconditions(kind, &value, options)?;
    if is_namespaces(kind) && PROTECTED_NAMESPACES.contains(&&*key.name) {
        return Err(fault::forbidden(
            kind,
            &key.name,
            "this namespace may not be deleted",
        ));
    }
    if priority::is_system(kind, &key.name) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(fault::forbidden(kind, &key.name, why));
    }
    let before = value.clone();
    let mut marked = mark_deleted(kind, &mut value, options);
    marked |= keep_for_dependents(kind, &mut value, options.propagation());
    delete_content(state, kind, key)?;
    if is_held(state, key, &value) {
        if is_namespaces(kind) {
            marked |= namespace::set_conditions(state, key, &mut value);
        }
        let body = match (marked, state.get(key)) {
            (false, Some(object)) => object.body.clone(),
            _ => state.put(&kind.resource, &mut value)?.body,
        };
        if options.is_dry_run() {
            keep_version(&mut value, &before);
            return Ok(ApiResponse::json(200, value.to_string()));
        }
        if marked && is_definition(key) {
            // Its objects are on their way by now.
            let message = "CustomResource deletion is in progress";
            definition::names::set(
                &mut value,
                "Terminating",
                "True",
                "InstanceDeletionInProgress",
                message,
            );
            state.put(&kind.resource, &mut value)?;
        }
        if has_finalizer(&value, ORPHAN) || has_finalizer(&value, FOREGROUND) {
            state.garbage.push_back(Garbage::Held(key.clone()));
        }
        return Ok(ApiResponse::json(200, body));
    }
    let protected = in_use::is_protected(&value) || has_finalizer(&value, CLEANUP);
    if marked && (is(kind, "", "pods") || protected) {
        // Watchers see that it is on its way before it is gone, however short the way is.
        state.put(&kind.resource, &mut value)?;
    }
    state.remove(key);
    let gone = state.revision();
    for waiting in waiting_for(state, key) {
        finish(state, &waiting)?;
    }
    let resource = &kind.resource;
    let named = (&*resource.group, &*resource.resource);
    if SHOWN.contains(&named) && !protected && !is(kind, "", "pods") && !is_namespaces(kind) {
        // It went at once, so it never was on its way; its last version is that of its deletion.
        value = before.clone();
        value["metadata"]["resourceVersion"] = gone.to_string().into();
    }
    if options.is_dry_run() {
        keep_version(&mut value, &before);
    }
    if protected || SHOWN.contains(&named) {
        return Ok(ApiResponse::json(200, value.to_string()));
    }
    let mut status = Status::success().about(&resource.group, &resource.resource, &key.name);
    status.uid = meta(&value, "uid").to_owned();
    Ok(status.into())
}

/// What is not written has no version of its own.
fn keep_version(value: &mut Value, before: &Value) {
    value["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
}

/// Writes down that the object is to go, and when. False when that stands there already.
fn mark_deleted(kind: &ResourceKind, value: &mut Value, options: &DeleteOptions) -> bool {
    if is(kind, DEFINITIONS.0, DEFINITIONS.1) {
        return mark_definition(value);
    }
    let grace = if is(kind, "", "pods") {
        grace_of_pod(value, options)
    } else {
        0
    };
    let metadata = &mut value["metadata"];
    let running = metadata["deletionTimestamp"]
        .is_string()
        .then(|| metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0));
    if running.is_some_and(|running| running <= grace) {
        return false;
    }
    metadata["deletionTimestamp"] = clock::after(grace).into();
    if !is_namespaces(kind) {
        metadata["deletionGracePeriodSeconds"] = grace.into();
    }
    if has_generation(kind) && running.is_none() {
        metadata["generation"] = (metadata["generation"].as_u64().unwrap_or_default() + 1).into();
    }
    if is_namespaces(kind) {
        value["status"]["phase"] = "Terminating".into();
    }
    true
}

/// A definition waits for its objects, and says so.
fn mark_definition(value: &mut Value) -> bool {
    if value["metadata"]["deletionTimestamp"].is_string() {
        return false;
    }
    value["metadata"]["deletionTimestamp"] = clock::now().into();
    default(&mut value["metadata"], "finalizers", json!([]));
    if let Some(finalizers) = value["metadata"]["finalizers"].as_array_mut() {
        finalizers.push(CLEANUP.into());
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    definition::names::set(value, "Terminating", "True", "InstanceDeletionPending", message);
    true
}

/// A pod that runs somewhere is given time; its kubelet confirms the end by deleting it with no grace.
fn grace_of_pod(pod: &Value, options: &DeleteOptions) -> i64 {
    let bound = pod["spec"]["nodeName"]
        .as_str()
        .is_some_and(|node| !node.is_empty());
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !bound || ended {
        return 0;
    }
    let own = || pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    match options.grace_period_seconds.or_else(own).unwrap_or(30) {
        negative if negative < 0 => 1,
        grace => grace,
    }
}

/// What goes with the object: the content of a namespace, the objects of a definition.
fn delete_content(state: &mut State, kind: &ResourceKind, key: &ObjectKey) -> Result<(), Status> {
    let content = if is_namespaces(kind) {
        state.in_namespace(&key.name)
    } else if is(kind, DEFINITIONS.0, DEFINITIONS.1) {
        instances(state, key)
    } else {
        return Ok(());
    };
    for key in content {
        if let (Some(kind), true) = (
            state.registry.by_resource(&key.resource),
            state.get(&key).is_some(),
        ) {
            one(state, &kind, &key, &DeleteOptions::default())?;
        }
    }
    Ok(())
}

fn is_held(state: &State, key: &ObjectKey, value: &Value) -> bool {
    let metadata = &value["metadata"];
    metadata["finalizers"].as_array().is_some_and(|all| {
        all.iter()
            .any(|held| !in_use::is_protection(held) && held != CLEANUP)
    }) || in_use::is_used(state, key, value)
        || metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0
        || (key.resource == GroupVersionResource::core("namespaces") && holds_namespace(state, key, value))
        || (is_definition(key) && !instances(state, key).is_empty())
}

/// Kubernetes itself holds a namespace until its content is gone; others, until they say so. Whoever takes Kubernetes out of the list
/// does not wait for the content.
fn holds_namespace(state: &State, key: &ObjectKey, value: &Value) -> bool {
    let holders = || value["spec"]["finalizers"].as_array().into_iter().flatten();
    holders().any(|holder| holder != "kubernetes")
        || (holders().any(|holder| holder == "kubernetes") && !state.in_namespace(&key.name).is_empty())
}

/// Who may be waiting for an object to be gone.
fn waiting_for(state: &State, gone: &ObjectKey) -> Vec<ObjectKey> {
    let namespace = gone
        .namespace
        .as_deref()
        .map(|namespace| ObjectKey::new(GroupVersionResource::core("namespaces"), None, namespace));
    let custom = state
        .registry
        .by_resource(&gone.resource)
        .filter(|kind| kind.custom);
    let definition = custom.map(|kind| {
        let name = format!("{}.{}", kind.resource.resource, kind.resource.group);
        ObjectKey::new(definitions(), None, &name)
    });
    let claims = in_use::waiting_for(state, gone);
    claims.into_iter().chain(namespace).chain(definition).collect()
}

/// The objects that a CustomResourceDefinition brought, of all its versions.
fn instances(state: &State, definition: &ObjectKey) -> Vec<ObjectKey> {
    let Some((plural, group)) = definition.name.split_once('.') else {
        return Vec::new();
    };
    let custom = |kind: &&std::sync::Arc<ResourceKind>| {
        kind.custom && &*kind.resource.resource == plural && &*kind.resource.group == group
    };
    let kinds = state.registry.all();
    let kinds = kinds.iter().filter(custom);
    kinds
        .flat_map(|kind| state.list(&kind.resource, None))
        .map(|object| object.key.clone())
        .collect()
}

fn is_definition(key: &ObjectKey) -> bool {
    (&*key.resource.group, &*key.resource.resource) == DEFINITIONS
}

fn definitions() -> GroupVersionResource {
    GroupVersionResource::new(DEFINITIONS.0, "v1", DEFINITIONS.1)
}

fn check_preconditions(kind: &ResourceKind, value: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let Some(wanted) = &options.preconditions else {
        return Ok(());
    };
    let (name, uid, version) = (
        meta(value, "name"),
        meta(value, "uid"),
        meta(value, "resourceVersion"),
    );
    let resource = &kind.resource;
    let conflict = |why: String| {
        // Here Kubernetes names the kind, not the collection.
        let group = if resource.group.is_empty() {
            String::new()
        } else {
            format!(".{}", resource.group)
        };
        let message = format!(
            "Operation cannot be fulfilled on {}{group} {name:?}: {why}",
            kind.kind
        );
        Err(Status::failure(Reason::Conflict, message).about(&resource.group, &kind.kind, name))
    };
    match (&wanted.uid, &wanted.resource_version) {
        // A namespace looks for itself, in other words.
        (Some(wanted), _) if wanted != uid && is_namespaces(kind) => {
            let why =
                format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
            Err(fault::conflict(kind, name, &why))
        }
        (Some(wanted), _) if wanted != uid => conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )),
        (_, Some(wanted)) if wanted != version => conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        )),
        _ => Ok(()),
    }
}

/// Kinds whose last state is the answer to their deletion (`ReturnDeletedObject`).
const SHOWN: &[(&str, &str)] = &[
    ("", "namespaces"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "devicetaintrules"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
];
const PODS_STAY: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
/// By which a definition waits for the objects that it brought.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");
const PROTECTED_NAMESPACES: &[&str] = &["default", "kube-system", "kube-public"];
