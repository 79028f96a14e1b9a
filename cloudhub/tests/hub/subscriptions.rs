//! What a node may follow, and what it hears when that ends.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::Notify;

use cloudhub::cluster::{Cluster, ClusterError, ClusterEvent, EmbeddedCluster};
use cloudhub::{CloudHub, CloudHubConfig};
use hub_core::api::{ApiRequest, ApiResponse, Reason, Status, UpstreamError};
use hub_core::catch_up::{LOST, Refused, ScopeText};
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::transport::Capabilities;

use crate::world::{World, config, node, pod, secret, service};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn config_maps(namespace: &str) -> ScopeText {
    ScopeText::from(&Scope::namespaced(
        GroupVersionResource::core("configmaps"),
        namespace,
    ))
}

/// A node, and a pod on it that runs as `agent`.
async fn cluster() -> World {
    let world = World::new();
    world.create("nodes", node("edge-1")).await;
    world.create("nodes", node("edge-2")).await;
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    let account = json!({ "metadata": { "name": "agent", "namespace": "default" } });
    world.create("serviceaccounts", account).await;
    let mut agent = pod("agent-1", "edge-1", "blue", "door");
    agent["spec"]["serviceAccountName"] = "agent".into();
    world.create("pods", agent).await;
    world
}

/// The account may do so much with the ConfigMaps of its namespace.
async fn may(world: &World, verbs: Value) {
    let rules = json!([{ "verbs": verbs, "apiGroups": [""], "resources": ["configmaps"] }]);
    let role = json!({ "metadata": { "name": "reader", "namespace": "default" }, "rules": rules });
    world.post(&format!("{RBAC}/roles"), Some("default"), role).await;
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" });
    let subject = json!({ "kind": "ServiceAccount", "name": "agent", "namespace": "default" });
    let binding = json!({ "metadata": { "name": "agent", "namespace": "default" }, "roleRef": role, "subjects": [subject] });
    world
        .post(&format!("{RBAC}/rolebindings"), Some("default"), binding)
        .await;
}

#[tokio::test]
async fn a_node_follows_what_an_account_of_its_pods_may_follow_and_nothing_beyond() {
    let world = cluster().await;
    world.create("configmaps", config("unused", "red")).await;
    may(&world, json!(["list", "watch"])).await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    let (complete, _) = edge
        .catch_up(vec![config_maps("default"), config_maps("kube-system")])
        .await;
    assert_eq!(complete.scopes, [config_maps("default")]);
    assert_eq!(complete.refused[0].scope, config_maps("kube-system"));
    assert!(edge.held.contains_key("default/configmap/unused"));
    let mut other = world.connect("edge-2", Capabilities::ALL).await;
    let (complete, _) = other.catch_up(vec![config_maps("default")]).await;
    assert_eq!((complete.scopes.len(), complete.refused.len()), (0, 1));

    world.delete("pods", Some("default"), "agent-1").await;
    edge.until(|held| !held.contains_key("default/pod/agent-1")).await;
    let (complete, _) = edge.catch_up(vec![config_maps("default")]).await;
    assert_eq!((complete.scopes.len(), complete.refused.len()), (0, 1));
    assert!(!edge.held.contains_key("default/configmap/unused"));
}

#[tokio::test]
async fn an_account_that_may_only_list_makes_its_node_follow_nothing() {
    let world = cluster().await;
    may(&world, json!(["list", "get"])).await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    let (complete, _) = edge.catch_up(vec![config_maps("default")]).await;
    assert_eq!((complete.scopes.len(), complete.refused.len()), (0, 1));
}

#[tokio::test]
async fn a_subscription_that_the_cluster_ends_later_is_told_to_its_node() {
    let world = cluster().await;
    world.create("services", service("shop")).await;
    let ends = Arc::new(Notify::new());
    let broken = Ending {
        cluster: world.cluster.clone(),
        ends: ends.clone(),
    };
    let world = world
        .killed(CloudHubConfig::default(), |_| {
            CloudHub::new(CloudHubConfig::default(), broken).unwrap()
        })
        .await;
    let services = ScopeText::from(&Scope::all(GroupVersionResource::core("services")));
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    let (complete, _) = edge.catch_up(vec![services.clone()]).await;
    assert_eq!(complete.scopes.len(), 1);
    ends.notify_waiters();
    let lost = edge.next().await;
    assert_eq!(lost.route.resource.as_str(), LOST);
    let lost: Refused = lost.content.decode("what is lost").unwrap();
    assert_eq!((lost.scope, &*lost.reason), (services, "the kind is gone"));
}

/// A cluster whose watches of Services end when they are told to.
struct Ending {
    cluster: EmbeddedCluster,
    ends: Arc<Notify>,
}

impl Cluster for Ending {
    fn watch(&self, scope: Scope) -> BoxStream<'static, ClusterEvent> {
        let is_service = &*scope.resource.resource == "services";
        let events = Cluster::watch(&self.cluster, scope);
        if !is_service {
            return events;
        }
        let ends = self.ends.clone().notified_owned();
        let refusal = Status::failure(Reason::NotFound, "the kind is gone");
        let end = futures::stream::iter([ClusterEvent::Refused(refusal)]);
        events.take_until(ends).chain(end).boxed()
    }

    fn get(&self, key: ObjectKey) -> BoxFuture<'static, Result<Option<Object>, ClusterError>> {
        Cluster::get(&self.cluster, key)
    }

    fn execute(&self, request: ApiRequest) -> BoxFuture<'static, Result<ApiResponse, UpstreamError>> {
        self.cluster.execute(request)
    }

    fn registry(&self) -> &Registry {
        Cluster::registry(&self.cluster)
    }
}
