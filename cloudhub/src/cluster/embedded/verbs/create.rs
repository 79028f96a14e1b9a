//! New objects.

use hub_core::api::{ApiResponse, Status};
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::registry::{Registry, ResourceKind};
use serde_json::{Value, json};

use super::{generated_name, managed};
use crate::cluster::embedded::admission::{certificate, escalation, limits, quota};
use crate::cluster::embedded::call::{Call, is, is_namespaces, meta};
use crate::cluster::embedded::custom::definition;
use crate::cluster::embedded::draft::{Draft, New};
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::kinds::{conform, content, defaults, fields, validate, versions};
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::{clock, go_json};

pub(in crate::cluster::embedded) fn create(
    state: &mut State,
    call: &Call<'_>,
    draft: Option<Draft>,
) -> Result<ApiResponse, Status> {
    let object = insert(state, call, Draft::new_object(draft, call)?)?;
    created(call, object)
}

/// The answer to a request that made an object.
pub(super) fn created(call: &Call<'_>, object: Object) -> Result<ApiResponse, Status> {
    if call.dry_run {
        // What was never stored has no version.
        let mut value: Value = serde_json::from_slice(&object.body).unwrap_or_default();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        return Ok(ApiResponse::json(201, value.to_string()));
    }
    Ok(ApiResponse::json(201, object.body))
}

/// Stores a new object with what depends on what else there is.
pub(super) fn insert(state: &mut State, call: &Call<'_>, new: New) -> Result<Object, Status> {
    let kind = &*call.kind;
    let New {
        mut value,
        owners,
        base,
    } = new;
    if let Some(base) = base {
        generated_name::settle(state, call, &base, &mut value)?;
    }
    let name = meta(&value, "name").to_owned();
    if let Some(namespace) = call.namespace {
        needs_namespace(state, kind, namespace, &name)?;
    }
    escalation::admit(state, call, None, &value)?;
    if kind.custom {
        definition::takes_new(state, kind, &name)?;
    }
    defaults::on_create(state, kind, &mut value)?;
    certificate::create(call, &mut value)?;
    fields::complete(kind, &mut value);
    if versions::is_definitions(&kind.resource) {
        definition::begin(&mut value);
    }
    validate::object(kind, None, &value)?;
    fields::check(state, call, None, &value)?;
    limits::enforce(state, kind, &value)?;
    quota::admit(state, call, None, &value)?;
    too_long(kind, &value)?;
    if let Some(held) = state.value(&call.key(&name))? {
        return Err(fault::already_exists(kind, &held));
    }
    managed::keep(&mut value, owners);
    let warnings = if kind.custom {
        content::warn::finalizers(None, &value)
    } else {
        content::warn::of(kind, &value)
    };
    warnings.into_iter().for_each(|warning| call.warn(warning));
    let object = state.put(&kind.resource, &mut value)?;
    if is_namespaces(kind) {
        add_default_account(state, &name)?;
    }
    Ok(object)
}

/// The body of a create or update as JSON, with the kind that the path says.
pub(in crate::cluster::embedded) fn read_body(call: &Call<'_>) -> Result<Value, Status> {
    if !matches!(call.media_type().as_str(), "" | "application/json") {
        return Err(fault::unsupported_media_type("application/json"));
    }
    let kind = &call.kind;
    let unrecognized = |why: String| {
        let kind = &kind.kind;
        fault::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why}"
        ))
    };
    let body = &call.request.body;
    let unreadable = |why: String| {
        unrecognized(format!(
            "couldn't get version/kind; json parse error: {why} ({})",
            excerpt(body)
        ))
    };
    let mut value: Value =
        serde_json::from_slice(body).map_err(|error| unreadable(json_error(body, &error)))?;
    if value.is_null() && !kind.custom {
        value = json!({});
    }
    let Value::Object(fields) = &mut value else {
        return Err(unreadable(no_type_meta(&value)));
    };
    for field in ["kind", "apiVersion"] {
        if let Some(given) = fields
            .get(field)
            .filter(|given| !given.is_null() && !given.is_string())
        {
            let found = conform::found(given);
            return Err(unreadable(format!(
                "json: cannot unmarshal {found} into Go struct field .{field} of type string"
            )));
        }
    }
    let given = |field: &str| {
        fields
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (given_version, given_kind) = (given("apiVersion"), given("kind"));
    let version = call.api_version();
    if kind.custom {
        if given_kind.is_empty() {
            let text = String::from_utf8_lossy(body);
            return Err(unrecognized(format!(
                "Object 'Kind' is missing in '{text}' ({})",
                excerpt(body)
            )));
        }
        if given_version != version {
            return Err(other_version(&given_version, &version));
        }
        if given_kind != *kind.kind {
            let detail = format!("must be {}", kind.kind);
            let error = FieldError::invalid("kind", &given_kind.as_str().into(), &detail);
            let name = meta(&value, "name").to_owned();
            return Err(fault::invalid_named(
                &kind.resource.group,
                &given_kind,
                &name,
                &[error],
            ));
        }
    } else {
        let given_version = if given_version.is_empty() {
            &version
        } else {
            &given_version
        };
        let given_kind = if given_kind.is_empty() {
            &*kind.kind
        } else {
            &given_kind
        };
        if (given_version, given_kind) != (&version, &kind.kind) {
            return Err(of_another_kind(kind, given_version, given_kind));
        }
    }
    fields.insert("kind".into(), (*kind.kind).into());
    fields.insert("apiVersion".into(), version.into());
    validate::types(kind, &mut value)?;
    Ok(value)
}

/// The namespace of the path; a body may name it too, but no other.
pub(in crate::cluster::embedded) fn set_namespace(call: &Call<'_>, value: &mut Value) -> Result<(), Status> {
    let given = meta(value, "namespace");
    if !given.is_empty() && call.namespace != Some(given) {
        return Err(fault::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    match call.namespace {
        Some(namespace) => value["metadata"]["namespace"] = namespace.into(),
        None => {
            if let Some(metadata) = value["metadata"].as_object_mut() {
                metadata.remove("namespace");
            }
        }
    }
    Ok(())
}

/// No object may be larger than etcd would take.
pub(super) fn too_long(kind: &ResourceKind, value: &Value) -> Result<(), Status> {
    let name = meta(value, "name");
    if is(kind, "", "configmaps") || is(kind, "", "secrets") {
        let bytes = |field: &str, encoded: bool| -> usize {
            let values = value[field].as_object().into_iter().flatten();
            let texts = values.filter_map(|(_, value)| value.as_str());
            texts
                .map(|text| if encoded { decoded_len(text) } else { text.len() })
                .sum()
        };
        let size =
            bytes("data", is(kind, "", "secrets")) + bytes("binaryData", true) + bytes("stringData", false);
        if size > DATA_BYTES_MAX {
            let detail = format!("Too long: may not be more than {DATA_BYTES_MAX} bytes");
            let shown = fault::invalid(kind, name, &[]);
            let message = format!("{} {name:?} is invalid: []: {detail}", kind.kind);
            return Err(Status { message, ..shown }.cause("FieldValueTooLong", &detail, "[]"));
        }
    }
    Ok(())
}

/// How many bytes a text in Base64 stands for.
fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn needs_namespace(state: &State, kind: &ResourceKind, namespace: &str, name: &str) -> Result<(), Status> {
    let key = ObjectKey::new(GroupVersionResource::core("namespaces"), None, namespace);
    let Some(found) = state.value(&key)? else {
        return Err(Status::not_found("", "namespaces", namespace));
    };
    if meta(&found, "deletionTimestamp").is_empty() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let message = format!("namespace {namespace} is being terminated");
    Err(fault::forbidden(kind, name, &why).cause("NamespaceTerminating", &message, "metadata.namespace"))
}

/// Every namespace has an account named `default`, which pods use that name no other.
fn add_default_account(state: &mut State, namespace: &str) -> Result<(), Status> {
    let mut account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {
            "name": "default", "namespace": namespace,
            "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": clock::now(),
        },
    });
    state.put(&GroupVersionResource::core("serviceaccounts"), &mut account)?;
    Ok(())
}

/// A body of a type that is no kind of objects, by its group, version and name.
pub(in crate::cluster::embedded) fn read_typed(body: &[u8], of: (&str, &str, &str)) -> Result<Value, Status> {
    let value = read_any(body, of.2)?;
    same_type(of, &value)?;
    Ok(value)
}

/// A body that is an object, whatever it says of itself.
pub(in crate::cluster::embedded) fn read_any(body: &[u8], expected: &str) -> Result<Value, Status> {
    let unreadable = |why: String| {
        fault::bad_request(format!(
            "the object provided is unrecognized (must be of type {expected}): couldn't get version/kind; json parse error: {why} ({})",
            excerpt(body)
        ))
    };
    let value: Value = serde_json::from_slice(body).map_err(|error| unreadable(json_error(body, &error)))?;
    if !value.is_object() {
        return Err(unreadable(no_type_meta(&value)));
    }
    Ok(value)
}

/// That a body says of itself that it is of this type, or nothing.
pub(in crate::cluster::embedded) fn same_type(
    (group, version, kind): (&str, &str, &str),
    value: &Value,
) -> Result<(), Status> {
    let named = GroupVersionResource::new(group, version, "");
    let expected = named.api_version();
    let given = |field: &str, expected: &str| match value[field].as_str() {
        None | Some("") => expected.to_owned(),
        Some(given) => given.to_owned(),
    };
    let (given_version, given_kind) = (given("apiVersion", &expected), given("kind", kind));
    if (&*given_version, &*given_kind) == (&*expected, kind) {
        return Ok(());
    }
    Err(of_another(&named, kind, &given_version, &given_kind))
}

/// A body that says of itself that it is something else than the path does.
fn of_another_kind(kind: &ResourceKind, given_version: &str, given_kind: &str) -> Status {
    of_another(&kind.resource, &kind.kind, given_version, given_kind)
}

fn of_another(resource: &GroupVersionResource, kind: &str, given_version: &str, given_kind: &str) -> Status {
    let known = Registry::builtin()
        .all()
        .into_iter()
        .any(|known| known.resource.api_version() == given_version && *known.kind == *given_kind)
        || (given_version, given_kind) == ("extensions/v1beta1", kind);
    let expected = resource.api_version();
    if known && *kind == *given_kind {
        return other_version(given_version, &expected);
    }
    let version = given_version.rsplit('/').next().unwrap_or_default();
    let why = if known {
        format!(
            "converting ({version}.{given_kind}) to ({}.{kind}): unknown conversion",
            package(&resource.group)
        )
    } else {
        fault::not_registered(given_version, given_kind)
    };
    fault::bad_request(format!(
        "{given_kind} in version {version:?} cannot be handled as a {kind}: {why}"
    ))
}

fn other_version(given: &str, expected: &str) -> Status {
    fault::bad_request(format!(
        "the API version in the data ({given}) does not match the expected API version ({expected})"
    ))
}

/// The Go package that holds the types of a group (Kubernetes `pkg/apis`).
fn package(group: &str) -> &str {
    match group.split('.').next().unwrap_or_default() {
        "" | "events" => "core",
        package => package,
    }
}

/// As Go's decoder says it.
pub(in crate::cluster::embedded) fn json_error(body: &[u8], error: &serde_json::Error) -> String {
    go_json::syntax_error(body).unwrap_or_else(|| error.to_string())
}

/// Why JSON that is no object says nothing of its kind.
pub(super) fn no_type_meta(value: &Value) -> String {
    let found = conform::found(value);
    format!(
        r#"json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }}"#
    )
}

/// The beginning of a body; of one that is no object, in hexadecimal digits.
fn excerpt(body: &[u8]) -> String {
    let shown = &body[..body.len().min(EXCERPT_BYTES)];
    let text = match body.first() {
        None => return "<empty>".into(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if body.len() > EXCERPT_BYTES {
        format!("{text} ...")
    } else {
        text
    }
}

/// Kubernetes `apiserver/pkg/endpoints/handlers`: what is shown of a body that cannot be read.
const EXCERPT_BYTES: usize = 30;
/// Kubernetes `pkg/apis/core/validation`: the total size of a ConfigMap's or Secret's data.
const DATA_BYTES_MAX: usize = 1 << 20;
