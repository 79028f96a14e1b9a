//! A real API server: whatever `KUBECONFIG` names, with the rights of an administrator.
//!
//! `KUBECONFIG=… cargo test -p examples --test kubernetes -- --ignored` runs them against your own;
//! `examples/kubernetes/apiserver run cargo test -p examples --test kubernetes -- --ignored` provides one. What that is too old for is in
//! `recent.rs`, and held by the scripted server's tests too.

mod following;
mod kinds;
mod rights;

use cloudhub::cluster::{Cluster, Credentials, KubeCluster, KubeClusterConfig};
use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::Registry;
use serde_json::{Value, json};

use crate::world::until;

/// An administrator of the cluster that `KUBECONFIG` names, with a namespace of its own.
pub(crate) struct Admin {
    pub(crate) cluster: KubeCluster,
    pub(crate) namespace: String,
}

impl Admin {
    pub(crate) async fn new(purpose: &str) -> Self {
        let cluster = KubeCluster::connect(Credentials::Inferred, KubeClusterConfig::default())
            .await
            .unwrap();
        let namespace = format!("{purpose}-{:x}", unique());
        let admin = Self { cluster, namespace };
        admin
            .create("namespaces", json!({ "metadata": { "name": admin.namespace } }))
            .await;
        // Pods need it, and a controller makes it.
        let account = admin.key("serviceaccounts", "default");
        let path = ApiRequest::resource(
            Verb::Create,
            account.resource.clone(),
            Some(&admin.namespace),
            None,
        )
        .with_body(
            "application/json",
            json!({ "metadata": { "name": "default" } }).to_string(),
        );
        let made = admin.cluster.execute(path).await.unwrap();
        assert!(matches!(made.code, 201 | 409), "{made:?}");
        // A controller makes the tokens too, in its own time; no pod here needs one.
        admin
            .merge(
                "serviceaccounts",
                "default",
                json!({ "automountServiceAccountToken": false }),
            )
            .await;
        admin.settled().await;
        admin
    }

    /// Waits for the namespace that every server makes for itself, a moment after it says that it is ready.
    async fn settled(&self) {
        until("the default namespace", async || {
            let key = ObjectKey::new(GroupVersionResource::core("namespaces"), None, "default");
            self.cluster.get(key).await.unwrap().map(drop)
        })
        .await;
    }

    pub(crate) fn key(&self, resource: &str, name: &str) -> ObjectKey {
        let resource = GroupVersionResource::core(resource);
        let kind = Registry::builtin().by_resource(&resource).unwrap();
        ObjectKey::new(resource, kind.namespaced.then_some(&self.namespace), name)
    }

    pub(crate) fn request(&self, verb: Verb, resource: &str, name: Option<&str>) -> ApiRequest {
        let key = self.key(resource, name.unwrap_or_default());
        ApiRequest::resource(verb, key.resource, key.namespace.as_deref(), name)
    }

    pub(crate) async fn create(&self, resource: &str, object: Value) -> Value {
        let request = self
            .request(Verb::Create, resource, None)
            .with_body("application/json", object.to_string());
        self.done(request).await
    }

    pub(crate) async fn merge(&self, resource: &str, name: &str, patch: Value) -> Value {
        let request = self
            .request(Verb::Patch, resource, Some(name))
            .with_body("application/merge-patch+json", patch.to_string());
        self.done(request).await
    }

    pub(crate) async fn delete(&self, resource: &str, name: &str) {
        let request = self.request(Verb::Delete, resource, Some(name));
        let answer = self.cluster.execute(request).await.unwrap();
        assert!(answer.is_success() || answer.code == 404, "{answer:?}");
    }

    pub(crate) async fn read(&self, resource: &str, name: &str) -> Option<Value> {
        let found = self.cluster.get(self.key(resource, name)).await.unwrap()?;
        Some(serde_json::from_slice(&found.body).unwrap())
    }

    /// Executes what must succeed.
    pub(crate) async fn done(&self, request: ApiRequest) -> Value {
        let answer = self.cluster.execute(request.clone()).await.unwrap();
        assert!(answer.is_success(), "{request:?}: {}", text(&answer));
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub(crate) async fn end(self) {
        for resource in ["clusterroles", "clusterrolebindings"] {
            let resource = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", resource);
            let delete = ApiRequest::resource(Verb::Delete, resource, None, Some(&self.namespace));
            let _ = self.cluster.execute(delete).await;
        }
        self.delete("namespaces", &self.namespace).await;
    }
}

fn text(answer: &ApiResponse) -> String {
    format!("{} {}", answer.code, String::from_utf8_lossy(&answer.body))
}

/// A token of the pod's account for the API server: since Kubernetes 1.33 a node may only ask for tokens that a pod names so.
pub(crate) fn token_volume() -> Value {
    json!({ "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "token", "expirationSeconds": 600 } }] } })
}

fn unique() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) >> 24
}
