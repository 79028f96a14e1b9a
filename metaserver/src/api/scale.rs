//! The scale of an object, in the form that the client wants.

use std::sync::Arc;

use bytes::Bytes;
use hub_core::api::{Status, Verb};
use hub_core::object::GroupVersionResource;
use hub_core::registry::ResourceKind;

use super::{Api, Asked, away};
use crate::accept::Offer;
use crate::encode::View;
use crate::read::included;
use crate::reply::{self, Reply, Source};

impl Api {
    /// The scale of an object, in the form that the client wants.
    pub(super) async fn scale(&self, asked: &Asked) -> Result<Reply, Status> {
        let form = asked.form(Offer::Object)?;
        let include = included(asked, form.shape)?;
        let answer = self.cloud.call(asked.request(Verb::Get, Bytes::new())).await;
        let response = answer.map_err(|error| away(&error, Verb::Get, &asked.kind, asked.name.as_deref()))?;
        if !response.is_success() {
            return Ok(reply::passed(response, asked.client.status_form()));
        }
        let kind = Arc::new(scale_of(&asked.kind));
        form.suits(&kind, false)?;
        let view = View::new(kind, form, include, self.encoded.clone());
        let body = view.object(&response.body, None);
        Ok(reply::from(reply::encoded(200, body, form), Source::Cloud))
    }
}

/// The kind that answers below objects of a kind.
fn scale_of(kind: &ResourceKind) -> ResourceKind {
    ResourceKind {
        resource: GroupVersionResource::new("autoscaling", "v1", "scales"),
        kind: "Scale".into(),
        columns: kind.custom.then(|| SCALE_COLUMNS.into()),
        ..kind.clone()
    }
}

/// As the server of custom kinds prints a scale.
const SCALE_COLUMNS: &str = r#"[
    {"name":"Desired","type":"integer","description":"Number of desired replicas","jsonPath":".spec.replicas"},
    {"name":"Available","type":"integer","description":"Number of actual replicas","jsonPath":".status.replicas"},
    {"name":"Age","type":"date","description":"CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata","jsonPath":".metadata.creationTimestamp"}]"#;
