//! One change of one record, as requests to the cluster.

use std::sync::Arc;

use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::node::NodeId;
use hub_core::object::{Metadata, ObjectKey, ResourceVersion};

use super::object::{document, place, status};
use crate::cluster::Cluster;
use crate::records::pending::Change;
use crate::records::{Recorded, RecordsError};

/// How a change ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The record is there, with this version.
    There(Option<ResourceVersion>),
    /// The record is there, and nobody looked what it says.
    Kept,
    /// The record is not there.
    Gone,
    /// Not written: to be tried again.
    Again(RecordsError),
    /// Not written, and trying again would not help.
    Never(RecordsError),
}

/// Writes a change. What somebody else did already is no failure.
pub(super) async fn write(
    cluster: Arc<dyn Cluster>,
    node: NodeId,
    object: Recorded,
    change: Change,
) -> Outcome {
    let record = Record {
        cluster: &*cluster,
        place: place(&node, &object),
        object: &object,
    };
    match record.write(&change).await {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

struct Record<'a> {
    cluster: &'a dyn Cluster,
    place: ObjectKey,
    object: &'a Recorded,
}

impl Record<'_> {
    async fn write(&self, change: &Change) -> Result<Outcome, Outcome> {
        match change {
            Change::Intend => {
                if !self.create().await? {
                    return Ok(Outcome::Kept);
                }
                self.set_status(None).await?;
                Ok(Outcome::There(None))
            }
            Change::Renew => {
                self.create().await?;
                self.set_status(None).await?;
                Ok(Outcome::There(None))
            }
            Change::Acked(version) => {
                if !self.set_status(Some(version)).await? {
                    self.create().await?;
                    self.set_status(Some(version)).await?;
                }
                Ok(Outcome::There(Some(version.clone())))
            }
            Change::Forget => {
                let response = self
                    .execute(Verb::Delete, Some(&self.place.name), None, None)
                    .await?;
                match response.code {
                    404 => Ok(Outcome::Gone),
                    _ if response.is_success() => Ok(Outcome::Gone),
                    _ => Err(self.failed(&response)),
                }
            }
        }
    }

    /// False when it was there.
    async fn create(&self) -> Result<bool, Outcome> {
        let body = ("application/json", document(&self.place, self.object));
        let response = self.execute(Verb::Create, None, None, Some(body)).await?;
        match response.code {
            409 => Ok(false),
            _ if response.is_success() => Ok(true),
            _ => Err(self.failed(&response)),
        }
    }

    /// False when it is not there. A patch knows no conflicts.
    async fn set_status(&self, version: Option<&ResourceVersion>) -> Result<bool, Outcome> {
        let body = ("application/merge-patch+json", status(version));
        let name = Some(&*self.place.name);
        let response = self
            .execute(Verb::Patch, name, Some("status"), Some(body))
            .await?;
        match response.code {
            404 => Ok(false),
            _ if response.is_success() => Ok(true),
            _ => Err(self.failed(&response)),
        }
    }

    async fn execute(
        &self,
        verb: Verb,
        name: Option<&str>,
        subresource: Option<&str>,
        body: Option<(&str, String)>,
    ) -> Result<ApiResponse, Outcome> {
        let ObjectKey {
            resource, namespace, ..
        } = &self.place;
        let mut request = ApiRequest::resource(verb, resource.clone(), namespace.as_deref(), name);
        if let Some(subresource) = subresource {
            request = request.with_subresource(subresource);
        }
        if let Some((content_type, body)) = body {
            request = request.with_body(content_type, body);
        }
        let unreachable = |error: hub_core::api::UpstreamError| RecordsError::Unreachable(error.to_string());
        let answer = self.cluster.execute(request).await;
        let answer = answer.map_err(|error| Outcome::Again(unreachable(error)))?;
        let is_about_it = verb == Verb::Delete
            || Metadata::parse(&answer.body).is_ok_and(|metadata| metadata.name == *self.place.name);
        if answer.is_success() && !is_about_it {
            // A record that is only believed to be there is worse than none.
            let error = "it answers with something else".to_owned();
            return Err(Outcome::Again(RecordsError::Unreachable(error)));
        }
        Ok(answer)
    }

    fn failed(&self, response: &ApiResponse) -> Outcome {
        let reason: String = String::from_utf8_lossy(&response.body)
            .chars()
            .take(200)
            .collect();
        let reason = format!("{}: {reason}", response.code);
        let is_defined = self
            .cluster
            .registry()
            .by_resource(&self.place.resource)
            .is_some();
        match response.code {
            409 | 429 | 500.. => Outcome::Again(RecordsError::Unreachable(reason)),
            // The definitions may still come.
            404 if !is_defined => Outcome::Again(RecordsError::Refused(format!(
                "it has no {}: install KubeEdge's definitions of ObjectSync and ClusterObjectSync",
                self.place.resource
            ))),
            _ => Outcome::Never(RecordsError::Refused(reason)),
        }
    }
}
