//! A node alone: it answers, it does not lie, and its watches live on.

use std::time::{Duration, Instant};

use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hyper::StatusCode;
use serde_json::json;

use crate::world::{
    CONFIGMAPS, CloudHalf, EdgeHalf, NODE, PODS, SECRETS, SERVICES, Tunnel, config_map, over_both, pod,
    secret, service, until,
};

async fn shop(tunnel: Tunnel) -> (CloudHalf, EdgeHalf) {
    let cloud = CloudHalf::start(tunnel).await;
    let api = cloud.api;
    api.create(CONFIGMAPS, config_map("web", "1")).await;
    api.create(SECRETS, secret("web")).await;
    api.create(PODS, pod("web", Some(NODE), "web", "web")).await;
    for name in ["doomed", "kept", "web"] {
        api.create(SERVICES, service(name)).await;
    }
    let edge = cloud.edge(NODE, &["services"]).await;
    edge.complete(&Scope::all(GroupVersionResource::core("services")))
        .await;
    until("the pod's Secret", async || edge.held("secrets", "web")).await;
    (cloud, edge)
}

over_both!(a_cut_link_is_no_hindrance_to_readers_and_watches_go_on_where_they_were);
async fn a_cut_link_is_no_hindrance_to_readers_and_watches_go_on_where_they_were(tunnel: Tunnel) {
    let (cloud, edge) = shop(tunnel).await;
    let mut watch = edge.api.watch(&format!("{SERVICES}?watch=true")).await;
    assert_eq!(watch.told(3).await, ["ADDED doomed", "ADDED kept", "ADDED web"]);
    edge.cut().await;

    let answer = edge.api.get(OWN_PODS).await;
    assert_eq!(
        (
            answer.status,
            answer.header("x-edge-cache").starts_with("stale;age=")
        ),
        (StatusCode::OK, true)
    );
    edge.api.read(&format!("{SECRETS}/web")).await;
    assert_eq!(edge.api.names(SERVICES).await, ["doomed", "kept", "web"]);
    never_a_lie(&edge).await;

    let api = cloud.api;
    api.delete(&format!("{SERVICES}/doomed")).await;
    api.create(SERVICES, service("new")).await;
    let label = |text: &str| json!({ "metadata": { "labels": { "tier": text } } });
    api.merge(&format!("{SERVICES}/web"), label("back")).await;
    api.merge(&format!("{SERVICES}/web"), label("front")).await;
    edge.restore().await;

    // Each change once, the newest only, and nothing of what did not change.
    let mut told = Vec::new();
    for _ in 0..3 {
        let (said, object) = watch.next().await;
        if said == "MODIFIED web" {
            assert_eq!(object["metadata"]["labels"]["tier"], "front");
        }
        told.push(said);
    }
    told.sort();
    assert_eq!(told, ["ADDED new", "DELETED doomed", "MODIFIED web"]);
    api.create(SERVICES, service("after")).await;
    assert_eq!(watch.told(1).await, ["ADDED after"]);
    edge.end().await;
    cloud.end().await;
}

over_both!(a_frozen_link_costs_nobody_three_seconds);
async fn a_frozen_link_costs_nobody_three_seconds(tunnel: Tunnel) {
    let (cloud, edge) = shop(tunnel).await;
    edge.wire.stall();
    // Nobody knows yet that the link is dead.
    edge.api.read(OWN_PODS).await;
    never_a_lie(&edge).await;
    let write = async {
        let start = Instant::now();
        let content_type = "application/merge-patch+json";
        let patch = json!({ "metadata": { "labels": { "a": "b" } } }).to_string();
        let path = format!("/api/v1/nodes/{NODE}");
        let answer = edge
            .api
            .send(hyper::Method::PATCH, &path, content_type, patch)
            .await;
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
        assert!(answer.status.is_server_error(), "{}", answer.body);
    };
    write.await;
    edge.link(false).await;
    never_a_lie(&edge).await;
    assert_eq!(edge.api.names(OWN_PODS).await, ["web"]);
    cloud.api.create(SERVICES, service("new")).await;
    edge.wire.set(hub_core::testing::WireConditions::default());
    until("the change after it thawed", async || {
        let names = edge.api.names(SERVICES).await;
        names.contains(&"new".to_owned()).then_some(())
    })
    .await;
    edge.end().await;
    cloud.end().await;
}

/// What is not held may well exist: 503 with a time to come back, soon, and never 404.
async fn never_a_lie(edge: &EdgeHalf) {
    for path in [
        "/apis/apps/v1/deployments",
        "/apis/apps/v1/namespaces/shop/deployments/web",
        "/api/v1/pods",
        "/api/v1/secrets",
        "/api/v1/namespaces/shop/secrets/other",
    ] {
        let start = Instant::now();
        let answer = edge.api.get(path).await;
        assert!(start.elapsed() < PROMPT, "{path}: {:?}", start.elapsed());
        assert_eq!(
            answer.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{path}: {}",
            answer.body
        );
        assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0, "{path}");
        assert_eq!(answer.body["kind"], "Status", "{path}");
    }
    // What surely does not exist is another matter: the node holds all services.
    let gone = edge.api.get(&format!("{SERVICES}/never")).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    // And all definitions: a kind that nobody defined is none.
    let kind = edge.api.get("/apis/nobody.example.com/v1/things").await;
    assert_eq!(kind.status, StatusCode::NOT_FOUND);
}

/// What every node holds unasked.
const OWN_PODS: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1";
const PROMPT: Duration = Duration::from_secs(3);
