//! A part of an object.

use hub_core::api::{ApiResponse, Reason, Status};
use hub_core::apply::Applied;
use hub_core::object::ObjectKey;
use hub_core::registry::ResourceKind;
use hub_core::strategic;
use serde_json::Value;

use super::managed::{self, Written};
use super::patch_operations::{self, Rejected};
use super::{create, update};
use crate::cluster::embedded::call::{Call, meta};
use crate::cluster::embedded::draft::New;
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::kinds::{conform, fields, validate};
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::go_value;

pub(in crate::cluster::embedded) fn patch(state: &mut State, call: &Call<'_>) -> Result<ApiResponse, Status> {
    let kind = &*call.kind;
    let key = call.named()?;
    check_media_type(call)?;
    if call.is_apply() {
        return server_side(state, call, &key);
    }
    let Some(old) = state.value(&key)? else {
        return Err(fault::not_found(kind, &key.name));
    };
    let mut new = old.clone();
    apply(call, (&call.api_version(), &kind.kind), &mut new)?;
    if kind.custom {
        validate::types(kind, &mut new)?;
    }
    if let Err(why) = fields::read_patched(call, &mut new) {
        // What was read of it is not as it was any more.
        let mut patched = old;
        apply(call, (&call.api_version(), &kind.kind), &mut patched)?;
        return Err(spoiled(call, &patched, &why));
    }
    update::same_name(&mut new, &key.name)?;
    create::set_namespace(call, &mut new)?;
    same_uid(kind, &old, &new)?;
    let body = update::replace(state, call, &old, new, Written::Directly)?;
    Ok(ApiResponse::json(200, body))
}

/// Server-side apply: the body says which fields its manager wants. An object that is not there is made.
fn server_side(state: &mut State, call: &Call<'_>, key: &ObjectKey) -> Result<ApiResponse, Status> {
    let kind = &*call.kind;
    let old = state.value(key)?;
    if old.is_none() && call.subresource.is_some() {
        return Err(fault::not_found(kind, &key.name));
    }
    let Applied {
        object: mut new,
        managed,
    } = managed::apply(call, old.as_ref())?;
    if kind.custom {
        validate::types(kind, &mut new)?;
    }
    fields::read_applied(call, &mut new)?;
    let Some(old) = old else {
        if !meta(&new, "uid").is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                meta(&new, "uid")
            );
            return Err(fault::conflict(kind, &key.name, &why));
        }
        update::same_name(&mut new, &key.name)?;
        let new = New::of(call, new, Written::Owned(managed))?;
        let object = create::insert(state, call, new)?;
        return create::created(call, object);
    };
    update::same_name(&mut new, &key.name)?;
    create::set_namespace(call, &mut new)?;
    same_uid(kind, &old, &new)?;
    let body = update::replace(state, call, &old, new, Written::Owned(managed))?;
    Ok(ApiResponse::json(200, body))
}

/// What a patch has made of an object is none of its kind.
pub(in crate::cluster::embedded) fn spoiled(call: &Call<'_>, patched: &Value, why: &str) -> Status {
    let patch: Value = serde_json::from_slice(&call.request.body).unwrap_or_default();
    let error = if call.media_type() == STRATEGIC {
        // A strategic patch is never written out as JSON.
        FieldError::invalid(
            "patch",
            &go_value::shown(&go_value::carried_out(&patch)).into(),
            &go_value::not_restored(why),
        )
    } else {
        FieldError::invalid(
            "patch",
            &go_value::patched(patched, call.kind.custom, &patch).into(),
            why,
        )
    };
    fault::invalid_named("", "", "", &[error])
}

fn same_uid(kind: &ResourceKind, old: &Value, new: &Value) -> Result<(), Status> {
    if meta(new, "uid") == meta(old, "uid") || meta(new, "uid").is_empty() {
        return Ok(());
    }
    let error = FieldError::invalid("metadata.uid", &new["metadata"]["uid"], "field is immutable");
    // A real server looks twice.
    Err(fault::invalid(kind, meta(old, "name"), &[error.clone(), error]))
}

/// Changes a value as the patch says. `of` is its version and kind.
pub(in crate::cluster::embedded) fn apply(
    call: &Call<'_>,
    of: (&str, &str),
    value: &mut Value,
) -> Result<(), Status> {
    check_media_type(call)?;
    let body = &call.request.body;
    match call.media_type().as_str() {
        JSON => json(value, body)?,
        MERGE => json_patch::merge(value, &document(body)?),
        _ => {
            let patch = document(body).map_err(|mut status| {
                // Here Kubernetes says no more than its decoder.
                status.message = status.message.replacen("error decoding patch: ", "", 1);
                status
            })?;
            strategic::apply(of.0, of.1, value, &patch)
                .map_err(|error| fault::internal(error.to_string()))?;
        }
    }
    same_kind(call, of, value)
}

/// A patch may do much to an object, but not make another kind of it.
fn same_kind(call: &Call<'_>, (api_version, kind): (&str, &str), value: &mut Value) -> Result<(), Status> {
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    let (given_version, given_kind) = (text("apiVersion"), text("kind"));
    if (given_version, given_kind) == (api_version, kind) {
        return Ok(());
    }
    let name = call.name.unwrap_or_default();
    if value.get("metadata").is_none() || given_version.is_empty() || given_kind.is_empty() {
        return Err(update::nameless(name));
    }
    if call.kind.custom && kind == &*call.kind.kind {
        let (field, given, must) = if given_kind == kind {
            ("apiVersion", given_version, api_version)
        } else {
            ("kind", given_kind, kind)
        };
        let error = FieldError::invalid(field, &given.into(), &format!("must be {must}"));
        let group = given_version.split_once('/').map_or("", |(group, _)| group);
        return Err(fault::invalid_named(group, given_kind, name, &[error]));
    }
    let why = fault::not_registered(given_version, given_kind);
    Err(spoiled(call, value, &why))
}

fn check_media_type(call: &Call<'_>) -> Result<(), Status> {
    let (kind, media_type) = (&*call.kind, call.media_type());
    let accepted = match media_type.as_str() {
        JSON | MERGE | APPLY => true,
        STRATEGIC => !kind.custom,
        _ => false,
    };
    if !accepted {
        return Err(match media_type.as_str() {
            STRATEGIC => fault::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ),
            _ => Status::failure(Reason::UnsupportedMediaType, "415: Unsupported Media Type"),
        });
    }
    Ok(())
}

fn document(body: &[u8]) -> Result<Value, Status> {
    let decoding = |why: String| fault::bad_request(format!("error decoding patch: {why}"));
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(Value::Null) => Err(fault::bad_request("Invalid JSON Patch")),
        Ok(other) => {
            let found = conform::found(&other);
            Err(decoding(format!(
                "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
            )))
        }
        Err(error) => Err(decoding(create::json_error(body, &error))),
    }
}

/// RFC 6902.
fn json(value: &mut Value, body: &[u8]) -> Result<(), Status> {
    let rejected = || {
        Status::failure(
            Reason::Invalid,
            "the server rejected our request due to an error in our request",
        )
    };
    let operations: Vec<Value> = match serde_json::from_slice(body) {
        Ok(Value::Array(operations)) => operations,
        Ok(other) => {
            let found = conform::found(&other);
            return Err(fault::bad_request(format!(
                "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
            )));
        }
        Err(error) => {
            return Err(fault::bad_request(format!(
                "error decoding patch: {}",
                create::json_error(body, &error)
            )));
        }
    };
    if operations.len() > OPERATIONS_MAX {
        let message = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        );
        return Err(Status::failure(Reason::RequestEntityTooLarge, message));
    }
    for operation in operations {
        let operation = operation.as_object().ok_or_else(rejected)?;
        patch_operations::apply(value, operation).map_err(|Rejected| rejected())?;
    }
    Ok(())
}

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
/// JSON is YAML too, and a metaServer has made JSON of what was not.
const APPLY: &str = "application/apply-patch+yaml";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// As a kube-apiserver has it.
const OPERATIONS_MAX: usize = 10_000;
