//! What a write makes of an object, as a kube-apiserver's update strategies have it. Pure: time and names are arguments.

use hub_core::api::{Reason, Status, Verb};
use hub_core::registry::ResourceKind;
use hub_core::strategic;
use serde_json::{Map, Value, json};

use super::note::Intent;
use super::operations::operations;
use super::{merge, remove};
use crate::fault;

/// A write to an object whose kind and name are known.
pub(super) struct Write<'a> {
    pub(super) kind: &'a ResourceKind,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) verb: Verb,
    /// The subresource `status`, else the object itself.
    pub(super) status: bool,
    /// The media type, without its parameters.
    pub(super) media: &'a str,
    pub(super) body: &'a [u8],
    /// Set where the body says what a manager wants.
    pub(super) intent: Option<&'a Intent>,
    /// Of a custom kind, where it is known here.
    pub(super) schema: Option<&'a Value>,
}

/// What a new object gets from its server.
pub(super) struct Birth {
    pub(super) uid: String,
    /// RFC 3339.
    pub(super) now: String,
}

impl Write<'_> {
    /// The object after the write; `current` is the object as clients see it, in this node's versions.
    pub(super) fn apply(&self, current: Option<&Value>, birth: Birth) -> Result<Value, Status> {
        if let Some(intent) = self.intent {
            return self.applied(intent, current, birth);
        }
        match (self.verb, current) {
            (Verb::Create, None) => self.create(birth),
            (Verb::Create, Some(_)) => {
                let (group, resource) = self.about();
                let shown = shown(self.kind);
                let message = format!("{shown} {:?} already exists", self.name);
                Err(Status::failure(Reason::AlreadyExists, message).about(group, resource, self.name))
            }
            (_, None) => Err(fault::not_found(&self.kind.resource, self.name)),
            (Verb::Patch, Some(current)) => {
                let patched = self.patch(current)?;
                self.replace(current, patched)
            }
            (_, Some(current)) => {
                let new = object(self.body)?;
                if self.kind.custom && text(&new, "resourceVersion").is_empty() {
                    return Err(self.invalid(
                        "metadata.resourceVersion",
                        "Invalid value: 0: must be specified for an update",
                    ));
                }
                self.replace(current, new)
            }
        }
    }

    fn create(&self, birth: Birth) -> Result<Value, Status> {
        self.born(object(self.body)?, birth)
    }

    /// A new object, with what its server gives it.
    pub(super) fn born(&self, mut new: Value, birth: Birth) -> Result<Value, Status> {
        self.set_type(&mut new)?;
        self.check_place(&mut new)?;
        if !text(&new, "resourceVersion").is_empty() {
            return Err(fault::bad(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        if has_status(self.kind) {
            fields(&mut new).remove("status");
        }
        let metadata = metadata(&mut new);
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            metadata.remove(field);
        }
        metadata.insert("name".into(), self.name.into());
        metadata.insert("uid".into(), birth.uid.into());
        metadata.insert("creationTimestamp".into(), birth.now.into());
        if self.kind.custom {
            metadata.insert("generation".into(), 1.into());
        }
        Ok(new)
    }

    fn patch(&self, current: &Value) -> Result<Value, Status> {
        let mut patched = current.clone();
        match self.media {
            "application/json-patch+json" => operations(&mut patched, self.body)?,
            "application/merge-patch+json" => json_patch::merge(&mut patched, &object(self.body)?),
            "application/strategic-merge-patch+json" if !self.kind.custom => {
                let api_version = self.kind.resource.api_version();
                strategic::apply(&api_version, &self.kind.kind, &mut patched, &object(self.body)?)
                    .map_err(|error| Status::failure(Reason::InternalError, error.to_string()))?;
            }
            _ => {
                return Err(Status::failure(
                    Reason::UnsupportedMediaType,
                    "415: Unsupported Media Type",
                ));
            }
        }
        Ok(patched)
    }

    /// `new` takes the place of `current`, as far as a client decides.
    pub(super) fn replace(&self, current: &Value, mut new: Value) -> Result<Value, Status> {
        self.set_type(&mut new)?;
        self.check_place(&mut new)?;
        let version = text(&new, "resourceVersion");
        if !version.is_empty() && version != text(current, "resourceVersion") {
            return Err(self.conflict(
                "the object has been modified; please apply your changes to the latest version and try again",
            ));
        }
        let uid = text(&new, "uid");
        if !uid.is_empty() && uid != text(current, "uid") {
            let held = text(current, "uid");
            return Err(self.conflict(&format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {held}"
            )));
        }
        let kept = [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "managedFields",
            "generateName",
        ];
        let old = &current["metadata"];
        let metadata = metadata(&mut new);
        for field in kept {
            match old.get(field) {
                Some(value) => metadata.insert(field.into(), value.clone()),
                None => metadata.remove(field),
            };
        }
        let reported = |field: &str| match (self.status, self.kind.custom) {
            // Through `status` agents annotate nodes and pods, but not custom objects.
            (true, false) => matches!(field, "status" | "metadata"),
            (true, true) => field == "status",
            (false, _) => field != "status" || !has_status(self.kind),
        };
        let mut whole = Map::new();
        for (field, value) in fields(&mut new).iter().filter(|(field, _)| reported(field)) {
            whole.insert(field.clone(), value.clone());
        }
        for (field, value) in current.as_object().into_iter().flatten() {
            if !reported(field) {
                whole.insert(field.clone(), value.clone());
            }
        }
        let mut new = Value::Object(whole);
        self.set_type(&mut new)?;
        let late = remove::added_too_late(current, &new);
        if !late.is_empty() {
            let why = format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {late:?}"
            );
            return Err(self.invalid("metadata.finalizers", &why));
        }
        let specified =
            |pointer: &String| !pointer.starts_with("/metadata") && !pointer.starts_with("/status");
        if let Some(generation) = current["metadata"]["generation"].as_i64()
            && merge::differences(current, &new).iter().any(specified)
        {
            new["metadata"]["generation"] = (generation + 1).into();
        }
        Ok(new)
    }

    fn set_type(&self, new: &mut Value) -> Result<(), Status> {
        let api_version = self.kind.resource.api_version();
        for (field, expected) in [("kind", &*self.kind.kind), ("apiVersion", &*api_version)] {
            match new[field].as_str() {
                None | Some("") => new[field] = expected.into(),
                Some(found) if found == expected => {}
                Some(found) => {
                    return Err(fault::bad(format!(
                        "the {field} in the data ({found}) does not match the expected {field} ({expected})"
                    )));
                }
            }
        }
        Ok(())
    }

    fn check_place(&self, new: &mut Value) -> Result<(), Status> {
        let name = text(new, "name");
        if !name.is_empty() && name != self.name {
            return Err(fault::bad(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.name
            )));
        }
        let namespace = text(new, "namespace");
        let Some(expected) = self.namespace else {
            return Ok(());
        };
        if !namespace.is_empty() && namespace != expected {
            return Err(fault::bad(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        metadata(new).insert("namespace".into(), expected.into());
        Ok(())
    }

    fn about(&self) -> (&str, &str) {
        (&self.kind.resource.group, &self.kind.resource.resource)
    }

    pub(super) fn conflict(&self, why: &str) -> Status {
        let (group, resource) = self.about();
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {why}",
            shown(self.kind),
            self.name
        );
        Status::failure(Reason::Conflict, message).about(group, resource, self.name)
    }

    fn invalid(&self, field: &str, why: &str) -> Status {
        let (group, _) = self.about();
        let kind = &self.kind.kind;
        let message = format!("{} {:?} is invalid: {field}: {why}", kind, self.name);
        Status::failure(Reason::Invalid, message)
            .about(group, kind, self.name)
            .cause("FieldValueInvalid", why, field)
    }
}

/// Whether the state is written apart from the rest.
pub(super) fn has_status(kind: &ResourceKind) -> bool {
    kind.subresources.iter().any(|known| &*known.name == "status")
}

/// A field of the metadata, empty where there is none.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// A JSON object.
pub(super) fn object(body: &[u8]) -> Result<Value, Status> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => match &value["metadata"] {
            Value::Null | Value::Object(_) => Ok(value),
            _ => Err(fault::bad("the metadata is no JSON object")),
        },
        Ok(_) => Err(fault::bad("the body is no JSON object")),
        Err(error) => Err(fault::bad(format!("the body cannot be read: {error}"))),
    }
}

fn fields(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    object.as_object_mut().expect("it was made one")
}

/// The metadata, made where there is none.
pub(super) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    fields(fields(object).entry("metadata").or_insert(Value::Null))
}

pub(super) fn shown(kind: &ResourceKind) -> String {
    let resource = &kind.resource;
    if resource.group.is_empty() {
        resource.resource.to_string()
    } else {
        format!("{}.{}", resource.resource, resource.group)
    }
}

#[cfg(test)]
mod tests {
    use hub_core::object::GroupVersionResource;
    use hub_core::registry::Registry;

    use super::*;

    fn write(verb: Verb, status: bool, media: &str, body: &Value) -> Result<Value, Status> {
        let kind = Registry::builtin()
            .by_resource(&GroupVersionResource::core("nodes"))
            .unwrap();
        let current = json!({"kind": "Node", "apiVersion": "v1",
            "metadata": {"name": "edge-1", "uid": "u", "resourceVersion": "7", "annotations": {"a": "1"}},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}]}});
        let birth = Birth {
            uid: "new".into(),
            now: "2026-01-01T00:00:00Z".into(),
        };
        Write {
            kind: &kind,
            namespace: None,
            name: "edge-1",
            verb,
            status,
            media,
            body: body.to_string().as_bytes(),
            intent: None,
            schema: None,
        }
        .apply(Some(&current), birth)
    }

    #[test]
    fn a_status_patch_merges_conditions_by_type_and_leaves_the_spec() {
        let patch = json!({"spec": {"unschedulable": true}, "metadata": {"annotations": {"b": "2"}},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        let new = write(
            Verb::Patch,
            true,
            "application/strategic-merge-patch+json",
            &patch,
        )
        .unwrap();
        assert_eq!(new["status"]["conditions"].as_array().unwrap().len(), 2);
        assert_eq!(new["status"]["conditions"][0]["status"], "Unknown");
        assert_eq!(new["spec"], json!({"podCIDR": "10.0.0.0/24"}));
        assert_eq!(new["metadata"]["annotations"], json!({"a": "1", "b": "2"}));
        let new = write(Verb::Patch, false, "application/merge-patch+json", &patch).unwrap();
        assert_eq!(new["spec"]["unschedulable"], true);
        assert_eq!(new["status"]["conditions"][0]["status"], "True");
    }

    #[test]
    fn another_version_or_uid_is_a_conflict_whatever_the_form_of_the_write() {
        let refused = |verb, media: &str, body| write(verb, false, media, &body).unwrap_err().code;
        let merge = "application/merge-patch+json";
        assert_eq!(
            refused(Verb::Patch, merge, json!({"metadata": {"resourceVersion": "6"}})),
            409
        );
        assert_eq!(
            refused(Verb::Patch, merge, json!({"metadata": {"uid": "other"}})),
            409
        );
        assert_eq!(
            refused(Verb::Update, "", json!({"metadata": {"resourceVersion": "6"}})),
            409
        );
        let test = json!([{"op": "test", "path": "/metadata/resourceVersion", "value": "6"}]);
        assert_eq!(refused(Verb::Patch, "application/json-patch+json", test), 422);
        assert_eq!(
            refused(Verb::Create, "", json!({"metadata": {"name": "edge-1"}})),
            409
        );
        assert_eq!(
            refused(Verb::Update, "", json!({"metadata": {"name": "other"}})),
            400
        );
        let same = json!({"metadata": {"resourceVersion": "7"}});
        assert!(write(Verb::Update, false, "", &same).is_ok());
    }

    #[test]
    fn what_is_no_object_is_refused_and_no_panic() {
        for media in [
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ] {
            for body in [
                json!([]),
                json!(1),
                json!({"metadata": 1}),
                json!({"metadata": []}),
            ] {
                assert_eq!(write(Verb::Patch, false, media, &body).unwrap_err().code, 400);
            }
        }
        let away = json!([{"op": "remove", "path": "/metadata"}]);
        assert_eq!(
            write(Verb::Patch, false, "application/json-patch+json", &away)
                .unwrap_err()
                .code,
            422
        );
        let whole = json!([{"op": "replace", "path": "", "value": 3}]);
        assert_eq!(
            write(Verb::Patch, false, "application/json-patch+json", &whole)
                .unwrap_err()
                .code,
            422
        );
    }
}
