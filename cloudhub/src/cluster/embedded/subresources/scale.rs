//! The `scale` subresource: how many replicas an object wants and has, in one form for every kind (`autoscaling/v1`).

use hub_core::api::{ApiResponse, Reason, Status, Verb};
use hub_core::apply::{Managed, Owners, Reset, SCALE_VERSION, Type};
use hub_core::registry::ResourceKind;
use hub_core::store::{MemoryStore, ObjectStore};
use serde_json::{Value, json};

use crate::cluster::embedded::call::{Call, is, meta};
use crate::cluster::embedded::custom::structural::{self, Definition};
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::kinds::conform;
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::clock;
use crate::cluster::embedded::verbs::managed::{self, Written};
use crate::cluster::embedded::verbs::{create, patch, update};

/// The scale of an object, out of memory.
pub(in crate::cluster::embedded) fn get(store: &MemoryStore, call: &Call<'_>) -> Result<ApiResponse, Status> {
    let key = call.named()?;
    let missing = || fault::not_found(&call.kind, &key.name);
    let stored = store.get(&key).ok_or_else(missing)?;
    let value: Value = serde_json::from_slice(&stored.served).map_err(|_| missing())?;
    let definition = || {
        let stored = store.get(&Definition::key(&call.kind))?;
        Definition::new(serde_json::from_slice(&stored.served).ok()?, &call.kind)
    };
    let places = Places::of(&call.kind, definition);
    if call.kind.custom && structural::at(&value, &places.spec()).is_null() {
        let why = format!(
            "the spec replicas field {:?} does not exist",
            format!(".{}", places.spec().join("."))
        );
        let message = format!("Internal error occurred: {why}");
        return Err(Status::failure(Reason::InternalError, message).cause("", &why, ""));
    }
    Ok(ApiResponse::json(200, scale(&places, &value).to_string()))
}

/// Changes how many replicas are wanted.
pub(in crate::cluster::embedded) fn write(state: &mut State, call: &Call<'_>) -> Result<ApiResponse, Status> {
    let kind = &*call.kind;
    let key = call.named()?;
    let old = state
        .value(&key)?
        .ok_or_else(|| fault::not_found(kind, &key.name))?;
    let places = Places::of(kind, || call.definition.clone());
    let held = scale(&places, &old);
    let managed = Managed::from_json(&old["metadata"]["managedFields"]).unwrap_or_default();
    let before = managed.of_scale(&places.spec());
    let (now, manager) = (clock::now(), managed::manager(call));
    let owners = Owners {
        of: Type::of_kind(SCALE_VERSION, "Scale").unwrap_or(Type::Deduced),
        api_version: SCALE_VERSION,
        subresource: call.subresource,
        reset: Reset::Nothing,
        empty: &Value::Null,
        now: &now,
    };
    let (mut wanted, mut owned) = (held.clone(), None);
    if call.is_apply() {
        let applied = managed::applied(call, SCALE_VERSION, "Scale")?;
        let done = owners.apply(&held, &applied, before.clone(), manager, managed::is_forced(call));
        let done = done.map_err(|error| managed::refused(&error))?;
        (wanted, owned) = (done.object, Some(done.managed));
    } else if call.verb == Verb::Patch {
        patch::apply(call, ("autoscaling/v1", "Scale"), &mut wanted)?;
    } else {
        wanted = serde_json::from_slice(&call.request.body)
            .map_err(|error| fault::bad_request(create::json_error(&call.request.body, &error)))?;
        create::same_type(("autoscaling", "v1", "Scale"), &wanted)?;
        update::same_name(&mut wanted, &key.name)?;
    }
    let replicas = match &wanted["spec"]["replicas"] {
        Value::Null => 0,
        given => match given.as_i64().filter(|number| i32::try_from(*number).is_ok()) {
            Some(number) => number,
            None => {
                let found = match given {
                    Value::Number(number) => format!("number {number}"),
                    other => conform::found(other).to_owned(),
                };
                let why = format!(
                    "json: cannot unmarshal {found} into Go struct field ScaleSpec.spec.replicas of type int32"
                );
                return Err(if call.verb == Verb::Patch {
                    patch::spoiled(call, &wanted, &why)
                } else {
                    fault::bad_request(format!(
                        "Scale in version \"v1\" cannot be handled as a Scale: {why}"
                    ))
                });
            }
        },
    };
    if replicas < 0 && !kind.custom {
        let error = FieldError::invalid(
            "spec.replicas",
            &replicas.into(),
            "must be greater than or equal to 0",
        );
        return Err(fault::invalid_named("autoscaling", "Scale", &key.name, &[error]));
    }
    let (given, uid) = (meta(&wanted, "uid"), meta(&old, "uid"));
    if !given.is_empty() && given != uid {
        return Err(fault::other_uid(kind, &old, given));
    }
    let mut new = old.clone();
    new["metadata"]["resourceVersion"] = meta(&wanted, "resourceVersion").into();
    structural::put(&mut new, &places.spec(), replicas.into());
    // Whoever wrote a scale that is none owns nothing of it.
    let owned = owned.or_else(|| {
        let named = call.parameter("fieldManager")?;
        owners.update(&held, &wanted, before, named).ok()
    });
    let managed = match owned {
        Some(owned) => managed.with_scale(owned, &places.spec(), &call.api_version()),
        None => managed,
    };
    let body = update::replace(state, call, &old, new, Written::Owned(managed))?;
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(ApiResponse::json(200, scale(&places, &value).to_string()))
}

/// Where a kind keeps the parts of its scale.
struct Places {
    definition: Option<Definition>,
    /// Whether the selector is a map of labels, as the oldest kind has it.
    plain_selector: bool,
}

impl Places {
    fn of(kind: &ResourceKind, definition: impl FnOnce() -> Option<Definition>) -> Self {
        Self {
            definition: kind.custom.then(definition).flatten(),
            plain_selector: is(kind, "", "replicationcontrollers"),
        }
    }

    fn custom(&self, path: &str) -> Option<Vec<&str>> {
        self.definition.as_ref()?.scale(path)
    }

    fn spec(&self) -> Vec<&str> {
        self.custom("specReplicasPath")
            .unwrap_or_else(|| vec!["spec", "replicas"])
    }

    fn status(&self) -> Vec<&str> {
        self.custom("statusReplicasPath")
            .unwrap_or_else(|| vec!["status", "replicas"])
    }

    fn selector(&self, value: &Value) -> String {
        if let Some(definition) = &self.definition {
            let path = definition.scale("labelSelectorPath").unwrap_or_default();
            return structural::at(value, &path)
                .as_str()
                .unwrap_or_default()
                .to_owned();
        }
        let selector = &value["spec"]["selector"];
        let labels = if self.plain_selector {
            selector
        } else {
            &selector["matchLabels"]
        };
        let mut terms: Vec<String> = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
            .collect();
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default();
            let values = expression["values"].as_array().into_iter().flatten();
            let mut values: Vec<&str> = values.filter_map(Value::as_str).collect();
            values.sort_unstable();
            let values = values.join(",");
            terms.push(match expression["operator"].as_str().unwrap_or_default() {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "DoesNotExist" => format!("!{key}"),
                _ => key.to_owned(),
            });
        }
        terms.sort();
        terms.join(",")
    }
}

fn scale(places: &Places, value: &Value) -> Value {
    let metadata: serde_json::Map<String, Value> =
        ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
            .into_iter()
            .filter_map(|field| Some((field.to_owned(), value["metadata"].get(field)?.clone())))
            .collect();
    let replicas = structural::at(value, &places.spec()).as_i64().unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {},
        "status": { "replicas": structural::at(value, &places.status()).as_i64().unwrap_or(0) },
    });
    if replicas != 0 {
        scale["spec"]["replicas"] = replicas.into();
    }
    let selector = places.selector(value);
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}
