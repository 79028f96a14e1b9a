//! Who owns which fields of an object: kept with every write, as [`hub_core::apply`] has it.
//!
//! An object is watched from its creation on when whoever made it has a name (`fieldManager`, which a metaServer puts in for its
//! clients), and otherwise from its first apply on. What the hub writes for its nodes names nobody: leases, events and the status of
//! nodes and pods own nothing, and cost nearly what they cost without owners.

use hub_core::api::Status;
use hub_core::apply::{Applied, ApplyError, FieldSet, Managed, Owners, Reset, Type};
use hub_core::registry::ResourceKind;
use serde_json::{Value, json};

use crate::cluster::embedded::call::{Call, has_status, is};
use crate::cluster::embedded::custom::structural::Definition;
use crate::cluster::embedded::fault;
use crate::cluster::embedded::kinds::conform::{self, Fill};
use crate::cluster::embedded::kinds::fields;
use crate::cluster::embedded::values::clock;

/// How a new state of an object came to be.
pub(in crate::cluster::embedded) enum Written {
    /// Somebody wrote it, and owns what changed.
    Directly,
    /// It is settled who owns what.
    Owned(Managed),
}

/// Takes what a client says of owners out of its object. Null where it says nothing.
pub(in crate::cluster::embedded) fn given(value: &mut Value) -> Value {
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
    metadata
        .and_then(|metadata| metadata.remove(FIELD))
        .unwrap_or_default()
}

/// Who owns what of a new object that has the defaults of its version, and nothing of what the server will add. Nobody, where it is not
/// watched.
pub(in crate::cluster::embedded) fn of_new(
    call: &Call<'_>,
    value: &Value,
    given: &Value,
    written: Written,
) -> Managed {
    if let Written::Owned(managed) = written {
        return managed;
    }
    let Some(name) = call.parameter("fieldManager") else {
        return Managed::default();
    };
    let managed = Managed::from_json(given).unwrap_or_default();
    let mut new = value.clone();
    fields::complete(&call.kind, &mut new);
    // It is not there yet, whatever its metadata says.
    with(call, |owners| owners.update(owners.empty, &new, managed, name)).unwrap_or_else(|error| {
        tracing::debug!(%error, kind = %call.kind.kind, "nobody can own the fields of a new object");
        Managed::default()
    })
}

/// Writes into a new state of an object who owns what now. What was `said` counts, where the server has changed it since. What `given` says holds, if it says anything that makes sense.
pub(super) fn of_changed(
    call: &Call<'_>,
    old: &Value,
    said: Option<&Value>,
    new: &mut Value,
    given: &Value,
    written: Written,
) {
    let held = &old["metadata"][FIELD];
    self::given(new);
    let managed = match written {
        Written::Owned(managed) => managed,
        Written::Directly => match changed(call, old, said.unwrap_or(new), given) {
            Some(managed) => managed,
            None => {
                if !held.is_null() {
                    new["metadata"][FIELD] = held.clone();
                }
                return;
            }
        },
    };
    keep(new, shown(&managed));
    // A change of nothing but times is none.
    if same_but_for_times(held, &new["metadata"][FIELD]) {
        let changed = std::mem::replace(&mut new["metadata"][FIELD], held.clone());
        if new != old {
            new["metadata"][FIELD] = changed;
        }
    }
}

/// Who owns what after a write that is no apply. None where that stays as it was.
fn changed(call: &Call<'_>, old: &Value, new: &Value, given: &Value) -> Option<Managed> {
    // Who has no name owns nothing, and takes nothing from others.
    let name = call.parameter("fieldManager")?;
    let before = before(call, &old["metadata"][FIELD], given);
    let managed = with(call, |owners| owners.update(old, new, before, name));
    managed
        .inspect_err(|error| tracing::debug!(%error, kind = %call.kind.kind, "who owns the fields of an object stays as it was"))
        .ok()
}

/// As it stands in the metadata; null where nobody owns anything.
pub(in crate::cluster::embedded) fn shown(managed: &Managed) -> Value {
    if managed.is_empty() {
        Value::Null
    } else {
        managed.to_json()
    }
}

/// Writes into an object that its server itself set conditions of its status, where anybody's fields are known at all.
pub(in crate::cluster::embedded) fn note_condition(
    value: &mut Value,
    (manager, operation): (&str, &str),
    types: &[&str],
) {
    let version = value["apiVersion"].clone();
    // Looked for by its path: an index would put a null where nothing is.
    let Some(entries) = value
        .pointer_mut("/metadata/managedFields")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    entries.retain(|entry| entry["manager"] != manager || entry["subresource"] != "status");
    let fields: serde_json::Map<String, Value> =
        ["lastTransitionTime", "message", "reason", "status", "type"]
            .iter()
            .map(|field| (format!("f:{field}"), json!({})))
            .chain([(".".to_owned(), json!({}))])
            .collect();
    let conditions: serde_json::Map<String, Value> = types
        .iter()
        .map(|of| (format!("k:{{\"type\":\"{of}\"}}"), fields.clone().into()))
        .collect();
    let mut status = json!({"f:conditions": conditions});
    if operation == "Update" {
        let names: serde_json::Map<String, Value> = value["status"]["acceptedNames"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(field, _)| (format!("f:{field}"), json!({})))
            .collect();
        status["f:acceptedNames"] = names.into();
    }
    let entry = json!({"manager": manager, "operation": operation, "apiVersion": version, "time": clock::now(),
        "fieldsType": "FieldsV1", "fieldsV1": {"f:status": status}, "subresource": "status"});
    if let Some(entries) = value["metadata"][FIELD].as_array_mut() {
        entries.push(entry);
    }
}

/// Writes into an object who owns what.
pub(in crate::cluster::embedded) fn keep(value: &mut Value, owners: Value) {
    if !owners.is_null() {
        value["metadata"][FIELD] = owners;
    }
}

/// Applies what the body of a request wants of an object. `live` is None where there is none yet.
pub(super) fn apply(call: &Call<'_>, live: Option<&Value>) -> Result<Applied, Status> {
    let applied = applied(call, &call.api_version(), &call.kind.kind)?;
    let held = live.map_or(&Value::Null, |live| &live["metadata"][FIELD]);
    let managed = Managed::from_json(held)
        .map_err(|error| fault::internal(format!("failed to decode managed fields: {error}")))?;
    with(call, |owners| {
        owners.apply(
            live.unwrap_or(owners.empty),
            &applied,
            managed,
            manager(call),
            is_forced(call),
        )
    })
    .map_err(|error| refused(&error))
}

/// The body of an apply, which says of which kind it is.
pub(in crate::cluster::embedded) fn applied(
    call: &Call<'_>,
    api_version: &str,
    kind: &str,
) -> Result<Value, Status> {
    let applied: Value = serde_json::from_slice(&call.request.body)
        .map_err(|error| fault::bad_request(format!("error decoding YAML: {error}")))?;
    if !applied.is_object() && !applied.is_null() {
        let found = conform::found(&applied);
        return Err(fault::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    }
    let text = |field: &str| applied[field].as_str().unwrap_or_default();
    if (text("apiVersion"), text("kind")) != (api_version, kind) {
        let version = text("apiVersion");
        let slash = if version.contains('/') { "" } else { "/" };
        return Err(fault::bad_request(format!(
            "invalid object type: {slash}{version}, Kind={}",
            text("kind")
        )));
    }
    if applied["metadata"][FIELD].is_array() {
        return Err(fault::bad_request("metadata.managedFields must be nil"));
    }
    Ok(applied)
}

pub(in crate::cluster::embedded) fn refused(error: &ApplyError) -> Status {
    match error {
        ApplyError::Conflicts(conflicts) => conflicts.to_status(),
        error => fault::internal(error.to_string()),
    }
}

/// Who writes; nobody applies without a name.
pub(in crate::cluster::embedded) fn manager<'c>(call: &'c Call<'_>) -> &'c str {
    call.parameter("fieldManager").unwrap_or_default()
}

pub(in crate::cluster::embedded) fn is_forced(call: &Call<'_>) -> bool {
    matches!(
        call.parameter("force"),
        Some("true" | "1" | "True" | "TRUE" | "t" | "T")
    )
}

fn before(call: &Call<'_>, held: &Value, given: &Value) -> Managed {
    let held = || Managed::from_json(held).unwrap_or_default();
    if call.subresource.is_some() {
        return held();
    }
    if Managed::is_reset(given) {
        return Managed::default();
    }
    match Managed::from_json(given) {
        Ok(managed) if !managed.is_empty() => managed,
        _ => held(),
    }
}

/// The rules of the kind and the door that a request goes through.
fn with<T>(call: &Call<'_>, then: impl FnOnce(&Owners<'_>) -> T) -> T {
    let kind = &*call.kind;
    let (api_version, now) = (call.api_version(), clock::now());
    let mut empty = json!({"apiVersion": api_version, "kind": &*kind.kind});
    let schema = call.definition.as_ref().and_then(Definition::schema);
    let of = match schema {
        Some(schema) => Type::of_schema(schema),
        None => Type::of_kind(&api_version, &kind.kind).unwrap_or(Type::Deduced),
    };
    if !kind.custom {
        // An object of nothing has no field that could be of another type.
        let _ = conform::conform(&api_version, &kind.kind, &mut empty, Fill::Zeros);
    }
    then(&Owners {
        of,
        api_version: &api_version,
        subresource: call.subresource,
        reset: reset(kind, call.subresource),
        empty: &empty,
        now: &now,
    })
}

/// What a door does not write (`GetResetFields` of the strategies in Kubernetes `pkg/registry`).
fn reset(kind: &ResourceKind, subresource: Option<&str>) -> Reset {
    match subresource {
        None if has_status(kind) => Reset::Fields(FieldSet::of_fields(&[&["status"]])),
        None => Reset::Nothing,
        Some("status") if kind.custom || is(kind, "apiextensions.k8s.io", "customresourcedefinitions") => {
            Reset::AllBut("status")
        }
        Some("ephemeralcontainers" | "resize") if is(kind, "", "pods") => Reset::AllBut("spec"),
        Some("finalize") => Reset::Fields(FieldSet::of_fields(&[&["status"]])),
        Some(_) if is(kind, "", "pods") => Reset::Fields(FieldSet::of_fields(&[
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ])),
        Some(_) if is(kind, "apps", "deployments") => {
            Reset::Fields(FieldSet::of_fields(&[&["spec"], &["metadata", "labels"]]))
        }
        Some(_) => Reset::Fields(FieldSet::of_fields(&[&["spec"]])),
    }
}

fn same_but_for_times(held: &Value, now: &Value) -> bool {
    let (Some(held), Some(now)) = (held.as_array(), now.as_array()) else {
        return false;
    };
    let timeless = |entry: &Value| {
        let mut entry = entry.clone();
        entry.as_object_mut().map(|entry| entry.remove("time"));
        entry
    };
    held.len() == now.len()
        && held
            .iter()
            .zip(now)
            .all(|(held, now)| timeless(held) == timeless(now))
}

const FIELD: &str = "managedFields";
