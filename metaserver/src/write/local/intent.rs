//! Server-side apply without the cloud: worked out here over what is held here, and told to the cloud as it was said, so that the
//! cloud's owners are those of the cloud.

use hub_core::api::{Reason, Status, Verb};
use hub_core::apply::{ApplyError, FieldSet, Managed, Owners, Reset, Type};
use hub_core::object::ObjectKey;
use hub_core::registry::ResourceKind;
use serde_json::{Value, json};

use super::apply::{Birth, Write, has_status, metadata, object, text};
use super::ask::{Asked, request, request_get};
use super::note::{Intent, Pending};
use super::replay::Told;
use crate::api::{Api, definitions};
use crate::fault;
use crate::request::{encode, query};

impl Intent {
    /// What a request applies.
    pub(super) fn of(query_text: &str, status: bool, body: &[u8]) -> Result<Self, Status> {
        let mut body = object(body)?;
        let value = |name: &str| {
            query(query_text)
                .find(|(key, _)| key == name)
                .map(|(_, value)| value)
        };
        let manager = value("fieldManager").unwrap_or_default().into_owned();
        if manager.is_empty() {
            let why = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
            return Err(Status::failure(Reason::Invalid, why).cause(
                "FieldValueRequired",
                "Required value: is required for apply patch",
                "fieldManager",
            ));
        }
        if body["metadata"]["managedFields"].is_array() {
            return Err(fault::bad("metadata.managedFields must be nil"));
        }
        metadata(&mut body);
        let force =
            value("force").is_some_and(|force| matches!(&*force, "true" | "1" | "True" | "TRUE" | "t" | "T"));
        Ok(Self {
            manager,
            force,
            status,
            body,
        })
    }

    /// As it is put to the cloud: the versions in it are this node's, and what was deleted there is not to come back.
    fn for_cloud(&self, base: &Value) -> Value {
        let mut body = self.body.clone();
        let metadata = metadata(&mut body);
        metadata.remove("resourceVersion");
        metadata.remove("uid");
        if !base.is_null() {
            metadata.insert("uid".into(), text(base, "uid").into());
        }
        body
    }
}

impl Write<'_> {
    /// The object after the apply.
    pub(super) fn applied(
        &self,
        intent: &Intent,
        current: Option<&Value>,
        birth: Birth,
    ) -> Result<Value, Status> {
        let api_version = self.kind.resource.api_version();
        let said = |field: &str| intent.body[field].as_str().unwrap_or_default();
        if (said("apiVersion"), said("kind")) != (&*api_version, &*self.kind.kind) {
            let why = format!(
                "invalid object type: {}, Kind={}",
                said("apiVersion"),
                said("kind")
            );
            return Err(fault::bad(why));
        }
        let empty = json!({ "apiVersion": api_version, "kind": &*self.kind.kind, "metadata": {} });
        let mut live = current.cloned().unwrap_or_else(|| empty.clone());
        let held = metadata(&mut live).remove("managedFields").unwrap_or_default();
        let managed = Managed::from_json(&held).unwrap_or_default();
        let of = match self.schema {
            Some(schema) => Type::of_schema(schema),
            None => Type::of_kind(&api_version, &self.kind.kind).unwrap_or(Type::Deduced),
        };
        let owners = Owners {
            of,
            api_version: &api_version,
            subresource: self.status.then_some("status"),
            reset: reset(self.kind, self.status),
            empty: &empty,
            now: &birth.now,
        };
        let applied = owners.apply(&live, &intent.body, managed, &intent.manager, intent.force);
        let applied = applied.map_err(|error| match error {
            ApplyError::Conflicts(conflicts) => conflicts.to_status(),
            error => Status::failure(Reason::InternalError, error.to_string()),
        })?;
        let mut new = match current {
            None if !text(&applied.object, "uid").is_empty() => {
                return Err(self.conflict(&format!(
                    "uid mismatch: the provided object specified uid {}, and no existing object was found",
                    text(&applied.object, "uid")
                )));
            }
            None => self.born(applied.object, birth)?,
            Some(current) => self.replace(current, applied.object)?,
        };
        metadata(&mut new).insert("managedFields".into(), applied.managed.to_json());
        Ok(new)
    }
}

impl Api {
    /// The schema of a custom kind, if its definition is held here.
    pub(super) fn schema(&self, kind: &ResourceKind) -> Option<Value> {
        if !kind.custom {
            return None;
        }
        let name = format!("{}.{}", kind.resource.resource, kind.resource.group);
        let definition = self
            .store
            .get(&ObjectKey::new(definitions(self).resource.clone(), None, &name))?;
        let mut definition: Value = serde_json::from_slice(&definition.object.body).ok()?;
        let versions = definition["spec"]["versions"].as_array_mut()?;
        let version = versions
            .iter_mut()
            .find(|version| version["name"].as_str() == Some(&*kind.resource.version))?;
        let schema = version["schema"]["openAPIV3Schema"].take();
        schema.is_object().then_some(schema)
    }

    /// Applies in the cloud what was applied here.
    pub(super) async fn tell_intent(&self, pending: &Pending, intent: &Intent) -> Told {
        let (key, base) = (&pending.copy.key, &pending.note.base);
        let subresource = intent.status.then_some("status");
        let mut apply = request(key, Verb::Patch, subresource, &intent.for_cloud(base));
        apply.content_type = super::APPLY.into();
        apply.query = format!("fieldManager={}&force={}", encode(&intent.manager), intent.force);
        let why = match self.ask(pending, apply).await {
            Asked::Object(object) => return Told::Done(object, Vec::new()),
            Asked::Later => return Told::Later,
            Asked::Status(404 | 409, why) if !base.is_null() => why,
            Asked::Status(_, why) => return Told::Refused(why),
        };
        // It is gone, or others own what it wants.
        match self.ask(pending, request_get(key)).await {
            Asked::Object(object) if text(&object, "uid") == text(base, "uid") => Told::Refused(why),
            Asked::Object(_) | Asked::Status(404, _) => Told::Gone,
            Asked::Status(..) | Asked::Later => Told::Later,
        }
    }
}

/// What a door does not write (Kubernetes `pkg/registry`, `GetResetFields`).
fn reset(kind: &ResourceKind, status: bool) -> Reset {
    match status {
        false if has_status(kind) => Reset::Fields(FieldSet::of_fields(&[&["status"]])),
        false => Reset::Nothing,
        true if kind.custom => Reset::AllBut("status"),
        true => Reset::Fields(FieldSet::of_fields(&[&["spec"]])),
    }
}
