//! `PartialObjectMetadata`: an object without its spec and status.

use std::sync::Arc;

use bytes::Bytes;
use hub_core::object::GroupVersionResource;
use hub_core::registry::ResourceKind;
use hub_core::store::Stored;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Page;
use crate::body::Slices;

/// A list of them.
pub(crate) fn metadata_list(kind: &ResourceKind, page: &Page, objects: &[Arc<Stored>], beta: bool) -> Slices {
    let version = if beta { "v1beta1" } else { "v1" };
    let mut slices = Slices::default();
    if objects.is_empty() {
        // Go writes a list that was never begun as null.
        slices.push(format!(
            "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{},\"items\":null}}\n",
            page.metadata(false),
        ));
        return slices;
    }
    slices.push(format!(
        r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/{version}","metadata":{},"items":["#,
        page.metadata(false),
    ));
    for (index, stored) in objects.iter().enumerate() {
        if index > 0 {
            slices.push(Bytes::from_static(b","));
        }
        slices.push(metadata(&internal(kind, &stored.served), beta));
    }
    slices.push(Bytes::from_static(b"]}\n"));
    slices
}

/// The metadata of an object, its bytes as they are.
pub(crate) fn metadata(served: &[u8], beta: bool) -> Bytes {
    #[derive(Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        metadata: Option<&'a RawValue>,
    }
    let document: Option<Document<'_>> = serde_json::from_slice(served).ok();
    let metadata = document
        .and_then(|document| document.metadata)
        .map_or("{}", RawValue::get);
    let version = if beta { "v1beta1" } else { "v1" };
    format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}","metadata":{metadata}}}"#
    )
    .into()
}

/// The object as a real server has it before it is converted to the version that was asked for.
pub(crate) fn internal(kind: &ResourceKind, served: &Bytes) -> Bytes {
    let annotations = converted(kind);
    if annotations.is_empty() {
        return served.clone();
    }
    let Ok(mut object) = serde_json::from_slice::<Value>(served) else {
        return served.clone();
    };
    if let Some(metadata) = object["metadata"].as_object_mut()
        && let Some(Value::Object(all)) = metadata.get_mut("annotations")
    {
        all.retain(|name, _| !annotations.contains(&name.as_str()));
        if all.is_empty() {
            metadata.remove("annotations");
        }
    }
    object.to_string().into()
}

/// The annotations that only the served version of a kind has, and not the form that a real server takes metadata and rows from.
fn converted(kind: &ResourceKind) -> &'static [&'static str] {
    let GroupVersionResource {
        group,
        version,
        resource,
    } = &kind.resource;
    match (&**group, &**version, &**resource) {
        ("apps", "v1", "daemonsets") => &["deprecated.daemonset.template.generation"],
        ("autoscaling", "v1", "horizontalpodautoscalers") => &[
            "autoscaling.alpha.kubernetes.io/behavior",
            "autoscaling.alpha.kubernetes.io/conditions",
            "autoscaling.alpha.kubernetes.io/current-metrics",
            "autoscaling.alpha.kubernetes.io/metrics",
        ],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_and_status_are_left_out() {
        assert_eq!(
            metadata(
                br#"{"kind":"Pod","metadata":{"name":"a", "x":1},"spec":{}}"#,
                false
            ),
            r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a", "x":1}}"#
        );
        assert!(metadata(b"no json", true).ends_with(br#"v1beta1","metadata":{}}"#));
    }
}
