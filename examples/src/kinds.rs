//! KubeEdge's own kinds, which a cluster without a server of Kubernetes's has from the start: what `kubectl apply -f
//! examples/kubernetes/crds` would make.

use cloudhub::cluster::{Cluster, EmbeddedCluster};
use hub_core::api::{ApiRequest, Verb};
use hub_core::object::{GroupVersionResource, ObjectKey};
use serde_json::Value;

/// Makes the definitions that are not there. One that is there stays as it is.
pub async fn define(cluster: &EmbeddedCluster) -> Result<(), String> {
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    for text in DEFINITIONS {
        let definition: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        let key = ObjectKey::new(definitions.clone(), None, name);
        if cluster.get(key).await.is_ok_and(|found| found.is_some()) {
            continue;
        }
        let create = ApiRequest::resource(Verb::Create, definitions.clone(), None, None)
            .with_body("application/json", definition.to_string());
        let answer = cluster.execute(create).await.map_err(|error| error.to_string())?;
        if !answer.is_success() {
            let said = String::from_utf8_lossy(&answer.body);
            return Err(format!("cannot define {name}: {said}"));
        }
    }
    Ok(())
}

const DEFINITIONS: [&str; 3] = [
    include_str!("../kubernetes/crds/devices.yaml"),
    include_str!("../kubernetes/crds/devicemodels.yaml"),
    include_str!("../kubernetes/crds/devicestatuses.yaml"),
];

#[cfg(test)]
mod tests {
    use cloudhub::cluster::EmbeddedConfig;
    use serde_json::json;

    use super::*;

    async fn create(cluster: &EmbeddedCluster, resource: &str, object: Value) -> u16 {
        let resource = GroupVersionResource::new("devices.kubeedge.io", "v1beta1", resource);
        let create = ApiRequest::resource(Verb::Create, resource, Some("default"), None)
            .with_body("application/json", object.to_string());
        cluster.execute(create).await.unwrap().code
    }

    #[tokio::test]
    async fn devices_have_schemas_and_a_second_start_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = EmbeddedCluster::open(&folder.path().join("c.db"), EmbeddedConfig::default()).unwrap();
        define(&cluster).await.unwrap();
        let model = |kind: &str| {
            json!({ "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": { "name": kind.to_lowercase() },
                "spec": { "protocol": "p", "properties": [{ "name": "t", "type": kind, "accessMode": "ReadOnly" }] } })
        };
        assert_eq!(create(&cluster, "devicemodels", model("FLOAT")).await, 201);
        assert_eq!(create(&cluster, "devicemodels", model("COLOUR")).await, 422);
        let before = hub_core::store::ObjectStore::revision(&cluster);
        define(&cluster).await.unwrap();
        assert_eq!(hub_core::store::ObjectStore::revision(&cluster), before);
    }
}
