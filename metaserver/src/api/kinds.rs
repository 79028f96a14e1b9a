//! Which kind a path speaks of, and how custom kinds come to be known.

use std::sync::{Arc, PoisonError};

use hub_core::api::{ApiRequest, Status, UpstreamError, Verb};
use hub_core::object::GroupVersionResource;
use hub_core::registry::ResourceKind;
use hub_core::scope::Scope;
use tokio::time::Instant;

use super::{Api, away};
use crate::fault;

impl Api {
    /// The kind in a collection. `None` where there can be none: an unknown group, or an unknown kind of a custom one.
    pub(super) async fn kind(
        &self,
        resource: &GroupVersionResource,
    ) -> Result<Option<Arc<ResourceKind>>, Status> {
        let registry = self.store.registry();
        if let Some(kind) = registry.by_resource(resource) {
            return Ok(Some(kind));
        }
        let of_group = |kind: &Arc<ResourceKind>| !kind.custom && kind.resource.group == resource.group;
        if registry.all().iter().any(of_group) {
            return Err(fault::no_resource());
        }
        self.learn_kinds()
            .await
            .map_err(|error| away(&error, Verb::List, &definitions(self), None))?;
        Ok(registry.by_resource(resource))
    }

    /// Makes sure that the definitions of custom kinds are held, if the cloud can be asked. Asks at most once a pause.
    pub(crate) async fn learn_kinds(&self) -> Result<(), UpstreamError> {
        let scope = Scope::all(definitions(self).resource.clone());
        if self.holds(&scope) {
            return Ok(());
        }
        {
            let mut asked = self.kinds_asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.is_some_and(|asked| asked.elapsed() < self.config.cloud_pause) {
                // They are on their way, or the cloud has just been found away.
                return if self.cloud.away().is_some() {
                    Err(UpstreamError::Unreachable)
                } else {
                    Ok(())
                };
            }
            *asked = Some(Instant::now());
        }
        let request = ApiRequest::resource(Verb::List, scope.resource.clone(), None, None);
        let response = self.cloud.call(request).await?;
        if response.is_success() {
            // A full store or a disk that refuses must not keep clients from the kinds that are known.
            self.keep_list(&definitions(self), scope, &response.body).await;
        }
        Ok(())
    }
}

/// The kind of CustomResourceDefinitions.
pub(crate) fn definitions(api: &Api) -> Arc<ResourceKind> {
    let resource = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    api.store
        .registry()
        .by_resource(&resource)
        .expect("a registry begins with the built-in kinds")
}
