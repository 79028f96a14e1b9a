//! An object in place of another.

use hub_core::api::{ApiResponse, Status};
use hub_core::object::Object;
use hub_core::registry::ResourceKind;
use serde_json::{Map, Value};

use super::managed::{self, Written};
use super::{create, delete};
use crate::cluster::embedded::admission::{certificate, escalation, quota, storage};
use crate::cluster::embedded::call::{Call, has_generation, has_status, is, meta};
use crate::cluster::embedded::controllers::garbage::Garbage;
use crate::cluster::embedded::custom::definition;
use crate::cluster::embedded::draft::{Draft, New};
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::kinds::{content, defaults, fields, validate, versions};
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::subresources::parts;
use crate::cluster::embedded::values::set::set;

/// A whole object from the client (PUT).
pub(in crate::cluster::embedded) fn update(
    state: &mut State,
    call: &Call<'_>,
    draft: Option<Draft>,
) -> Result<ApiResponse, Status> {
    let kind = &*call.kind;
    let key = call.named()?;
    let mut value = Draft::whole_object(draft, call)?;
    same_name(&mut value, &key.name)?;
    create::set_namespace(call, &mut value)?;
    let Some(old) = state.value(&key)? else {
        if call.subresource.is_some()
            || !CREATED_BY_UPDATE.contains(&(&*kind.resource.group, &*kind.resource.resource))
        {
            return Err(fault::not_found(kind, &key.name));
        }
        let uid = meta(&value, "uid").to_owned();
        if !uid.is_empty() {
            // Nobody has the uid that it is to have.
            value["metadata"]["uid"] = "".into();
            return Err(fault::other_uid(kind, &value, &uid));
        }
        let new = New::of(call, value, Written::Directly)?;
        let object = create::insert(state, call, new)?;
        return create::created(call, object);
    };
    let version = meta(&value, "resourceVersion");
    if !version.is_empty() && version.parse::<u64>().is_err() {
        return Err(no_version(version));
    }
    let named = (&*kind.resource.group, &*kind.resource.resource);
    if version.is_empty() && (kind.custom || CONDITIONAL.contains(&named)) {
        let error = FieldError::invalid(
            "metadata.resourceVersion",
            &0.into(),
            "must be specified for an update",
        );
        let resource = &kind.resource;
        return Err(fault::invalid_named(
            &resource.group,
            &resource.resource,
            &key.name,
            &[error],
        ));
    }
    let (given, held) = (meta(&value, "uid"), meta(&old, "uid"));
    if !given.is_empty() && given != held {
        return Err(fault::other_uid(kind, &old, given));
    }
    let body = replace(state, call, &old, value, Written::Directly)?;
    Ok(ApiResponse::json(200, body))
}

/// Puts a new state in place of the old one, as the rules of the kind have it. Answers with what is there now, or was last.
pub(in crate::cluster::embedded) fn replace(
    state: &mut State,
    call: &Call<'_>,
    old: &Value,
    mut new: Value,
    written: Written,
) -> Result<bytes::Bytes, Status> {
    let kind = &*call.kind;
    let key = call.named()?;
    escalation::admit(state, call, Some(old), &new)?;
    let version = meta(&new, "resourceVersion");
    if !version.is_empty() && version.parse::<u64>().is_err() {
        return Err(no_version(version));
    }
    if !matches!(version, "" | "0") && version != meta(old, "resourceVersion") {
        return Err(fault::conflict(kind, &key.name, STALE));
    }
    let given = managed::given(&mut new);
    // Who resizes owns what he said of his containers, though no more of it is done than that.
    let resized = (call.subresource == Some("resize")).then(|| new.clone());
    match call.subresource {
        None | Some("scale") => main_only(kind, old, &mut new),
        Some("ephemeralcontainers") => parts::ephemeral_only(old, &mut new),
        Some("resize") => parts::resources_only(old, &mut new),
        // The rest of a namespace may come with it.
        Some("finalize") => set(&mut new, "status", old.get("status")),
        Some(part) => {
            status_only(kind, old, &mut new);
            if part == "status" {
                defaults::of_status(kind, old, &mut new);
            }
        }
    }
    let frozen = deletion_changed(old, &new);
    carry(&mut new, old);
    // Who owns what of a service is settled before it is given addresses and ports, or loses them.
    let said = match call.subresource {
        None if is(kind, "", "services") => Some(said_of_service(kind, &new)),
        None if is(kind, "apps", "daemonsets") => defaults::uncounted(kind, &new),
        _ => resized,
    };
    certificate::restrict(call, old, &mut new)?;
    defaults::on_update(state, kind, old, &mut new)?;
    if versions::is_definitions(&kind.resource) && call.subresource.is_none() {
        let warnings = definition::complete(kind, Some(old), &mut new)?;
        warnings.into_iter().for_each(|warning| call.warn(warning));
    }
    fields::complete(kind, &mut new);
    storage::admit_growth(state, kind, old, &new)?;
    match call.subresource {
        None => validate::object(kind, Some(old), &new)?,
        Some(part) => validate::part(kind, part, old, &new)?,
    }
    if !frozen.is_empty() {
        let times = validate::times(kind, call.subresource);
        return Err(fault::invalid(
            kind,
            &key.name,
            &vec![frozen; times.deletion].concat(),
        ));
    }
    fields::check(state, call, Some(old), &new)?;
    quota::admit(state, call, Some(old), &new)?;
    create::too_long(kind, &new)?;
    no_new_finalizers(kind, old, &new)?;
    if has_generation(kind)
        && (without_bookkeeping(old) != without_bookkeeping(&new)
            || (call.subresource.is_none() && counts_metadata(kind, old, &new)))
    {
        let generation = old["metadata"]["generation"].as_u64().unwrap_or_default();
        new["metadata"]["generation"] = (generation + 1).into();
    }
    new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    managed::of_changed(call, old, said.as_ref(), &mut new, &given, written);
    if new == *old {
        let held: Option<&Object> = state.get(&key);
        return held
            .map(|object| object.body.clone())
            .ok_or_else(|| fault::not_found(kind, &key.name));
    }
    if call.subresource.is_none() {
        if kind.custom {
            content::warn::finalizers(Some(old), &new)
                .into_iter()
                .for_each(|warning| call.warn(warning));
        } else if old["spec"] != new["spec"] && !is(kind, "", "pods") {
            // Pods change too often for that.
            content::warn::of(kind, &new)
                .into_iter()
                .for_each(|warning| call.warn(warning));
        }
    }
    if call.dry_run {
        // Nothing is written, so nothing has a new version.
        return Ok(new.to_string().into());
    }
    let object = state.put(&kind.resource, &mut new)?;
    let (owners, held) = (
        &new["metadata"]["ownerReferences"],
        &old["metadata"]["ownerReferences"],
    );
    if held != owners && !held.is_null() {
        // An owner may have waited for this object only.
        state.garbage.push_back(Garbage::Left(key.clone(), held.clone()));
    }
    delete::finish(state, &key)?;
    if state.get(&key).is_none() {
        // What let it go was never stored by itself, so it has no version of its own.
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        return Ok(new.to_string().into());
    }
    Ok(object.body)
}

fn no_version(given: &str) -> Status {
    fault::internal(format!("strconv.ParseUint: parsing {given:?}: invalid syntax"))
}

fn said_of_service(kind: &ResourceKind, new: &Value) -> Value {
    let mut said = new.clone();
    defaults::of_version(kind, &mut said);
    fields::complete(kind, &mut said);
    said
}

/// The body may leave its name out, but not name another object.
pub(in crate::cluster::embedded) fn same_name(value: &mut Value, name: &str) -> Result<(), Status> {
    match meta(value, "name") {
        given if given == name => Ok(()),
        "" => Err(nameless(name)),
        given => Err(fault::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
    }
}

pub(super) fn nameless(name: &str) -> Status {
    fault::bad_request(format!(
        "the name of the object ({name} based on URL) was undeterminable: name must be provided"
    ))
}

/// Everything but the status, which has its own door.
fn main_only(kind: &ResourceKind, old: &Value, new: &mut Value) {
    if has_status(kind) {
        set(new, "status", old.get("status"));
    }
    if is(kind, "", "namespaces") {
        // Who holds it is said by a door of its own.
        set(new, "spec", old.get("spec"));
    }
}

/// The status and, for built-in kinds, labels and annotations: kubelets annotate their node through its status.
fn status_only(kind: &ResourceKind, old: &Value, new: &mut Value) {
    let metadata = new["metadata"].take();
    let status = new.get("status").cloned();
    *new = old.clone();
    set(new, "status", status.as_ref());
    if kind.custom || STATUS_ONLY.contains(&(&*kind.resource.group, &*kind.resource.resource)) {
        return;
    }
    for field in METADATA {
        // A Deployment's labels are for its own door.
        if !(is(kind, "apps", "deployments") && *field == "labels") {
            set(&mut new["metadata"], field, metadata.get(field));
        }
    }
}

/// When an object goes is for its deletion to say, and for no other write.
fn deletion_changed(old: &Value, new: &Value) -> Vec<FieldError> {
    let fields = ["deletionTimestamp", "deletionGracePeriodSeconds"].into_iter();
    let changed = fields.filter(|field| {
        let (held, given) = (&old["metadata"][*field], &new["metadata"][*field]);
        held.is_null() && !given.is_null()
    });
    changed
        .map(|field| {
            let given = &new["metadata"][field];
            FieldError::invalid(format!("metadata.{field}"), given, "field is immutable")
        })
        .collect()
}

/// What no client can change.
fn carry(new: &mut Value, old: &Value) {
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ] {
        set(&mut new["metadata"], field, old["metadata"].get(field));
    }
    if let Some(metadata) = new["metadata"].as_object_mut() {
        metadata.remove("selfLink");
    }
}

fn no_new_finalizers(kind: &ResourceKind, old: &Value, new: &Value) -> Result<(), Status> {
    if meta(old, "deletionTimestamp").is_empty() {
        return Ok(());
    }
    let held = old["metadata"]["finalizers"].as_array();
    let added: Vec<_> = new["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|finalizer| held.is_none_or(|held| !held.contains(finalizer)))
        .map(Value::to_string)
        .collect();
    if added.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.join(", ")
    );
    let error = FieldError::forbidden("metadata.finalizers", &detail);
    // A real server looks twice.
    Err(fault::invalid(kind, meta(new, "name"), &[error.clone(), error]))
}

/// What a generation counts: neither metadata nor status.
fn without_bookkeeping(value: &Value) -> Map<String, Value> {
    let mut fields = value.as_object().cloned().unwrap_or_default();
    fields.remove("metadata");
    fields.remove("status");
    fields
}

/// Whether a change of an object's metadata counts too, as it does for two kinds.
fn counts_metadata(kind: &ResourceKind, old: &Value, new: &Value) -> bool {
    let changed = |field: &str| old["metadata"][field] != new["metadata"][field];
    (is(kind, "apps", "deployments") && changed("annotations"))
        || (is(kind, "discovery.k8s.io", "endpointslices") && changed("labels"))
}

/// Kinds that nobody may update who does not say which version of the object he read (`AllowUnconditionalUpdate`).
const CONDITIONAL: &[(&str, &str)] = &[
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
    ),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("certificates.k8s.io", "clustertrustbundles"),
    ("coordination.k8s.io", "leasecandidates"),
    ("coordination.k8s.io", "leases"),
    ("node.k8s.io", "runtimeclasses"),
    ("policy", "poddisruptionbudgets"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csistoragecapacities"),
    ("storage.k8s.io", "volumeattachments"),
];
/// Kinds whose status is written without any of the metadata (`ResetObjectMetaForStatus`).
const STATUS_ONLY: &[(&str, &str)] = &[
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
    ("networking.k8s.io", "servicecidrs"),
    ("storage.k8s.io", "volumeattachments"),
];
/// What of the metadata comes with the status of all other built-in kinds.
const METADATA: &[&str] = &["labels", "annotations"];
const STALE: &str =
    "the object has been modified; please apply your changes to the latest version and try again";
/// Kinds whose PUT makes a missing object (their strategies allow it; seen on a kube-apiserver 1.36).
const CREATED_BY_UPDATE: &[(&str, &str)] = &[
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("coordination.k8s.io", "leasecandidates"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
    ("node.k8s.io", "runtimeclasses"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
];
