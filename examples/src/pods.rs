//! The pods of a node that runs no containers: each is said to wait for a runtime, and is gone as soon as it is to go.
//!
//! `edgecore` is the tunnel, the store and the API. Without somebody who answers for its pods they would be `Pending` for no reason that
//! anybody could see, and `Terminating` for ever. An embedder with a kubelet does in its place what this does, with the same calls.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use edgehub::store::EdgeStore;
use edgehub::{AskError, EdgeHandle};
use hub_core::node::NodeId;
use hub_core::object::GroupVersionResource;
use hub_core::store::{ObjectStore, Stored};
use serde_json::{Value, json};

/// How long to wait before the cloud is asked again for what it did not do.
const PAUSE: Duration = Duration::from_secs(5);

/// What `kubectl get pods` shows.
const REASON: &str = "NoContainerRuntime";

/// See the [module](self).
pub struct Pods {
    store: EdgeStore,
    edge: EdgeHandle,
    node: NodeId,
    /// What the cloud knows already: the uid of a pod, and whether its end was meant.
    told: HashSet<(String, bool)>,
}

impl Pods {
    /// The pods of `node` in `store`.
    pub fn new(store: EdgeStore, edge: EdgeHandle, node: NodeId) -> Self {
        Self {
            store,
            edge,
            node,
            told: HashSet::new(),
        }
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        let pods = GroupVersionResource::core("pods");
        let mut link = self.edge.link();
        loop {
            link.mark_unchanged();
            let listing = self.store.list(&pods, None);
            let all_told = self.tell(&listing.objects).await;
            let Ok(mut watch) = self.store.watch(&pods, listing.revision) else {
                continue;
            };
            tokio::select! {
                _ = watch.next() => {}
                _ = link.changed() => {}
                () = tokio::time::sleep(PAUSE), if !all_told => {}
            }
        }
    }

    /// Whether the cloud knows of every pod now.
    async fn tell(&mut self, pods: &[Arc<Stored>]) -> bool {
        let mut current = HashSet::new();
        let mut all_told = true;
        for pod in pods {
            let Ok(body) = serde_json::from_slice::<Value>(&pod.object.body) else {
                continue;
            };
            if body["spec"]["nodeName"] != self.node.as_str() {
                continue;
            }
            let ends = !body["metadata"]["deletionTimestamp"].is_null();
            let key = (pod.object.uid.to_string(), ends);
            if !self.told.contains(&key) {
                match self.tell_one(pod, ends).await {
                    Ok(()) => {
                        self.told.insert(key.clone());
                    }
                    Err(error) => {
                        tracing::debug!(pod = %pod.object.key, %error, "the cloud could not be told of a pod");
                        all_told = false;
                    }
                }
            }
            current.insert(key);
        }
        self.told.retain(|key| current.contains(key));
        all_told
    }

    async fn tell_one(&self, pod: &Stored, ends: bool) -> Result<(), AskError> {
        let key = &pod.object.key;
        let (namespace, uid) = (key.namespace.as_deref().unwrap_or_default(), &*pod.object.uid);
        if ends {
            return self.edge.delete_pod(namespace, &key.name, uid).await;
        }
        let waits = |condition: &str| json!({"type": condition, "status": "False", "reason": REASON});
        let patch = json!({
            "metadata": {"uid": uid},
            "status": {
                "phase": "Pending", "reason": REASON,
                "message": "this node has the tunnel and the API, but nothing that runs containers",
                "conditions": [waits("Ready"), waits("ContainersReady")],
            },
        });
        self.edge
            .patch_pod_status(namespace, &key.name, &patch)
            .await
            .map(drop)
    }
}
