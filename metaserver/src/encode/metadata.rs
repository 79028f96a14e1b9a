//! `PartialObjectMetadata`: an object without its spec and status.

use std::sync::Arc;

use bytes::Bytes;
use hub_core::store::Stored;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Page;
use crate::body::Slices;

/// A list of them.
pub(crate) fn metadata_list(page: &Page, objects: &[Arc<Stored>], beta: bool) -> Slices {
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
        slices.push(metadata(&stored.served, beta));
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
