//! What a body says of whose the object is, where its name does not tell.

use serde::Deserialize;
use serde_json::Value;

use hub_core::api::{ApiRequest, Verb};
use hub_core::node::NodeId;
use hub_core::object::Metadata;

/// Whether a pod is to run on this node.
pub(super) fn is_bound_to(node: &NodeId, pod: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Pod {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        node_name: String,
    }
    serde_json::from_slice::<Pod>(pod).is_ok_and(|pod| pod.spec.node_name == node.as_str())
}

pub(super) fn body_name(body: &[u8]) -> Option<String> {
    Metadata::parse(body)
        .ok()
        .map(|metadata| metadata.name.into_owned())
}

/// Whether this is the image of a pod that the node runs by its own manifest (NodeRestriction).
pub(super) fn is_own_mirror_pod(node: &NodeId, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Pod {
        metadata: Annotated,
    }
    #[derive(Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: std::collections::BTreeMap<String, String>,
    }
    let is_mirror = |pod: Pod| {
        pod.metadata
            .annotations
            .contains_key("kubernetes.io/config.mirror")
    };
    is_bound_to(node, body) && serde_json::from_slice::<Pod>(body).is_ok_and(is_mirror)
}

/// Whether a device that is the node's is so after a change. An apply could make a new one.
pub(super) fn keeps_device(node: &NodeId, request: &ApiRequest) -> bool {
    if request.content_type.starts_with("application/apply-patch") {
        return false;
    }
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return false;
    };
    let of_object = |body: &Value| match (&body["spec"], request.verb) {
        (Value::Object(spec), verb) => match spec.get("nodeName") {
            Some(named) => *named == node.as_str(),
            None => verb == Verb::Patch,
        },
        (_, verb) => verb == Verb::Patch && body.get("spec").is_none(),
    };
    match &body {
        Value::Array(steps) => steps.iter().all(|step| {
            let path = step["path"].as_str().unwrap_or_default();
            let below = |place: &str| path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
            // A step out of a place takes it away there.
            let from_spec = step["from"]
                .as_str()
                .is_some_and(|from| from.starts_with("/spec"));
            !from_spec && (below("/metadata") || below("/spec/properties") || below("/spec/methods"))
        }),
        Value::Object(_) => of_object(&body),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use hub_core::object::GroupVersionResource;

    use super::*;

    #[test]
    fn a_node_says_what_its_devices_should_do_and_not_whose_they_are() {
        let keeps = |verb, body: &'static str| {
            let devices = GroupVersionResource::new("devices.kubeedge.io", "v1beta1", "devices");
            let request = ApiRequest::resource(verb, devices, Some("d"), Some("x"));
            keeps_device(
                &NodeId::new("edge-1").unwrap(),
                &request.with_body("application/json", body),
            )
        };
        for (verb, body) in [
            (Verb::Update, r#"{"spec":{"nodeName":"edge-1","properties":[]}}"#),
            (Verb::Patch, r#"{"spec":{"properties":[]}}"#),
            (Verb::Patch, r#"{"metadata":{"labels":{"a":"b"}}}"#),
            (
                Verb::Patch,
                r#"[{"op":"replace","path":"/spec/properties/0/desired/value","value":"1"}]"#,
            ),
        ] {
            assert!(keeps(verb, body), "{body}");
        }
        for (verb, body) in [
            (Verb::Update, r#"{"spec":{"nodeName":"edge-2"}}"#),
            (Verb::Update, r#"{"spec":{}}"#),
            (Verb::Update, "{}"),
            (Verb::Patch, r#"{"spec":{"nodeName":"edge-2"}}"#),
            (Verb::Patch, r#"{"spec":{"nodeName":null}}"#),
            (Verb::Patch, r#"{"spec":null}"#),
            (
                Verb::Patch,
                r#"[{"op":"replace","path":"/spec/nodeName","value":"edge-2"}]"#,
            ),
            (Verb::Patch, r#"[{"op":"remove","path":"/spec"}]"#),
            (
                Verb::Patch,
                r#"[{"op":"move","from":"/spec/nodeName","path":"/metadata/labels/a"}]"#,
            ),
            (Verb::Patch, "no json"),
        ] {
            assert!(!keeps(verb, body), "{body}");
        }
    }
}
