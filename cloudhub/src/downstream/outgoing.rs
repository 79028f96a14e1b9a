//! The messages that go down (tunnel specification §6.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;

use hub_core::application::SOURCE_CLOUD;
use hub_core::catch_up::{self, Complete, Refused, ScopeText};
use hub_core::message::{Content, Message, Operation, Resource, Route};
use hub_core::object::{GroupVersionResource, Metadata, Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::session::{Delivery, Lane, Outgoing};
use hub_core::store::with_resource_version;

use super::kinds::{Kind, kind};

/// The group of everything that the edge keeps.
pub(crate) const RESOURCE: &str = "resource";

/// The object as it is now. `own` tells a node's own objects from those of its subscriptions.
pub(crate) fn put(
    registry: &Registry,
    object: &Object,
    own: bool,
    fresh: bool,
    previous: Option<Bytes>,
) -> Outgoing {
    let is_secret = &*object.key.resource.resource == "secrets";
    let operation = match kind(&object.key) {
        Kind::Node if own => Operation::Update,
        Kind::Config if own && is_secret => Operation::Update,
        _ if fresh => Operation::Insert,
        _ => Operation::Update,
    };
    let mut outgoing = message(registry, object, own, operation);
    // What the node did not need until now it may have held before, in this very version, and been told to delete.
    outgoing.version = object.version.number().filter(|_| !fresh);
    outgoing.previous = previous;
    outgoing
}

/// The object is to be deleted. It always counts as new: the node may need an object no more that did not change.
pub(crate) fn delete(registry: &Registry, object: &Object, own: bool) -> Outgoing {
    message(registry, object, own, Operation::Delete)
}

/// An object that is known by its record only is to be deleted. A metaServer deletes nothing whose kind it is not told, and its clients
/// hear of no deletion without a version. So both are said, where KubeEdge's cloud leaves them out.
pub(crate) fn delete_by_name(registry: &Registry, named: &Object, newest: u64) -> Outgoing {
    let mut outgoing = delete(registry, named, true);
    outgoing.message.content = Content::from_json(as_of(named, heard_after(newest)).body);
    outgoing
}

/// The version of a deletion of which a stock edge's client surely hears, where its edge holds nothing newer than `newest`: a watch
/// begins one version after that, and hears of what is newer still (`edge/pkg/metamanager/metaserver/kubernetes/storage/sqlite`).
pub(super) fn heard_after(newest: u64) -> u64 {
    match newest {
        0 => 0,
        newest => newest.saturating_add(2),
    }
}

/// The object with another version. Where versions are no numbers none is known: it stays as it is.
pub(super) fn as_of(object: &Object, version: u64) -> Object {
    if version == 0 {
        return object.clone();
    }
    Object {
        version: version.to_string().into(),
        body: with_resource_version(&object.body, version),
        ..object.clone()
    }
}

/// KubeEdge's policy controller sends its objects without kind and apiVersion, and keeps to itself which nodes have them. All others
/// are sent as they are.
pub(crate) fn as_kubeedge_writes(outgoing: &mut Outgoing, kind: Kind) {
    if kind != Kind::Access {
        return;
    }
    let body = outgoing.message.content.bytes().clone();
    let Ok(mut fields) = serde_json::from_slice::<BTreeMap<&str, &RawValue>>(&body) else {
        return;
    };
    fields.retain(|field, _| !matches!(*field, "kind" | "apiVersion"));
    let empty = RawValue::from_string("{}".into());
    if let Ok(empty) = &empty {
        fields.insert("status", empty);
    }
    outgoing.message.content = Content::encode(&fields);
    outgoing.previous = None;
}

/// The end of a catch-up.
pub(crate) fn complete(complete: &Complete) -> Outgoing {
    let route = Route::new(catch_up::SOURCE, RESOURCE, Operation::Update, catch_up::COMPLETE);
    Outgoing {
        key: catch_up::COMPLETE.into(),
        version: None,
        lane: Lane::Own,
        delivery: Delivery::Barrier,
        message: Message::new(route, Content::encode(complete)),
        previous: None,
    }
}

/// The end of a subscription that stood.
pub(crate) fn lost(refused: &Refused) -> Outgoing {
    let route = Route::new(catch_up::SOURCE, RESOURCE, Operation::Update, catch_up::LOST);
    Outgoing {
        key: lost_slot(refused),
        version: None,
        lane: Lane::Own,
        delivery: Delivery::Acked,
        message: Message::new(route, Content::encode(refused)),
        previous: None,
    }
}

/// The place of [`lost`] in a node's outbox: that of its scope.
pub(crate) fn lost_slot(refused: &Refused) -> Arc<str> {
    let ScopeText {
        resource,
        namespace,
        name,
        labels,
        fields,
    } = &refused.scope;
    format!(
        "{} {resource} {namespace:?} {name:?} {labels:?} {fields:?}",
        catch_up::LOST
    )
    .into()
}

/// The place of an object in a node's outbox. An object and its successor of the same name have two places, so that a stock edge
/// is told of the end of the one and the beginning of the other.
pub(crate) fn slot(key: &ObjectKey, uid: &str) -> Arc<str> {
    format!(
        "{}#{uid}",
        key.resource.path(key.namespace.as_deref(), Some(&key.name))
    )
    .into()
}

/// The object whose place this is, and its uid.
pub(crate) fn object_of(slot: &str) -> Option<(ObjectKey, Arc<str>)> {
    let (path, uid) = slot.rsplit_once('#')?;
    let mut parts = path.strip_prefix('/')?.split('/');
    let (group, version) = match parts.next()? {
        "api" => ("", parts.next()?),
        "apis" => (parts.next()?, parts.next()?),
        _ => return None,
    };
    let rest: Vec<_> = parts.collect();
    let (namespace, resource, name) = match rest[..] {
        [resource, name] => (None, resource, name),
        ["namespaces", namespace, resource, name] => (Some(namespace), resource, name),
        _ => return None,
    };
    let resource = GroupVersionResource::new(group, version, resource);
    Some((ObjectKey::new(resource, namespace, name), uid.into()))
}

/// The least that names an object: for deleting what is not known here. None when its kind is not known.
pub(crate) fn minimal(registry: &Registry, key: &ObjectKey, uid: &str) -> Option<Object> {
    let kind = registry.by_resource(&key.resource)?;
    let mut metadata = json!({ "name": &*key.name });
    if let Some(namespace) = &key.namespace {
        metadata["namespace"] = (&**namespace).into();
    }
    if !uid.is_empty() {
        metadata["uid"] = uid.into();
    }
    let body = json!({ "kind": &*kind.kind, "apiVersion": key.resource.api_version(), "metadata": metadata });
    Some(Object {
        key: key.clone(),
        uid: uid.into(),
        version: "".into(),
        body: body.to_string().into(),
    })
}

fn message(registry: &Registry, object: &Object, own: bool, operation: Operation) -> Outgoing {
    let key = &object.key;
    let kind_name = match registry.by_resource(&key.resource) {
        Some(kind) => kind.kind.to_lowercase(),
        None => Metadata::parse(&object.body)
            .map(|m| m.kind.to_lowercase())
            .unwrap_or_default(),
    };
    let resource = Resource::object(key.namespace.as_deref(), &kind_name, &key.name);
    let source = if own { kind(key).source() } else { SOURCE_CLOUD };
    let mut message = Message::new(
        Route::new(source, RESOURCE, operation, resource),
        Content::from_json(object.body.clone()),
    );
    if !object.version.as_str().is_empty() {
        message.header.resource_version = Some(object.version.clone());
    }
    let lane = match &*key.resource.resource {
        _ if own => Lane::Own,
        "events" => Lane::Bulk,
        _ => Lane::Rest,
    };
    Outgoing {
        key: slot(key, &object.uid),
        version: None,
        lane,
        delivery: Delivery::Acked,
        message,
        previous: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_its_object() {
        let widgets = GroupVersionResource::new("example.com", "v1", "widgets");
        for key in [
            ObjectKey::new(GroupVersionResource::core("pods"), Some("d"), "web"),
            ObjectKey::new(GroupVersionResource::core("nodes"), None, "edge-1"),
            ObjectKey::new(GroupVersionResource::core("namespaces"), None, "d"),
            ObjectKey::new(widgets.clone(), Some("d"), "a.b"),
            ObjectKey::new(widgets, None, "c"),
        ] {
            assert_eq!(object_of(&slot(&key, "u-1")), Some((key, "u-1".into())));
        }
        for odd in [
            "",
            "catch-up/complete",
            "/api#u",
            "/api/v1/pods#u",
            "membership#",
            "/x/v1/pods/p#u",
        ] {
            assert_eq!(object_of(odd), None, "{odd}");
        }
    }
}
