//! Which nodes there are, for `GET /node/{name}`.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, ObjectKey};

use super::http::NodeLookup;
use crate::cluster::Cluster;

/// Asks the cluster. `keadm join` wants to know whether the name is taken.
pub struct ClusterNodes(Arc<dyn Cluster>);

impl ClusterNodes {
    /// The nodes of this cluster.
    pub fn new(cluster: Arc<dyn Cluster>) -> Self {
        Self(cluster)
    }
}

impl NodeLookup for ClusterNodes {
    fn exists(&self, node: NodeId) -> BoxFuture<'_, Result<bool, String>> {
        let key = ObjectKey::new(GroupVersionResource::core("nodes"), None, node.as_str());
        let found = self.0.get(key);
        async move {
            let found = found.await.map_err(|error| error.to_string())?;
            Ok(found.is_some())
        }
        .boxed()
    }
}
