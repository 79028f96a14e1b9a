//! The API server is away and the links are up: what nodes hold is not live, and they say so.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hub_core::transport::Capabilities;
use hyper::body::Bytes;
use metaserver::MetaServer;
use tower::ServiceExt as _;

use super::fleet::{Fleet, OURS, Ours, STOCK, Stock, node, pod, settled};
use crate::server::Mood;
use crate::world::until;

const PODS: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1";

async fn get(server: &MetaServer, path: &str) -> (hyper::HeaderMap, String) {
    let request = hyper::Request::get(path).header("user-agent", "kubectl/v1.36");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let (head, body) = server.service().oneshot(request).await.unwrap().into_parts();
    assert_eq!(head.status, 200);
    let body = body.collect().await.unwrap().to_bytes();
    (head.headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn mark(server: &MetaServer) -> String {
    let (headers, _) = get(server, PODS).await;
    let mark = headers.get("x-edge-cache");
    mark.map_or_else(|| "none".into(), |mark| mark.to_str().unwrap().into())
}

async fn is_marked(server: &MetaServer, wanted: &str) {
    until(wanted, async || {
        mark(server).await.starts_with(wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_only_the_api_server_is_away_a_node_s_answers_are_not_live() {
    let fleet = Fleet::new(2, |config| {
        config.source.look_every = Duration::from_millis(20);
        config.source.silent_after = Duration::from_millis(100);
    })
    .await;
    assert_eq!(OURS, "edge-1", "the path of the pods");
    for name in [OURS, STOCK] {
        fleet.put("nodes", node(name), "").await;
        let pod = pod(&format!("{name}-p"), name, "blue");
        fleet.put("pods", pod, "").await;
    }
    let ours = Ours::start(&fleet, OURS, None);
    let stock = Stock::start(fleet.way(STOCK), 1);
    settled(&fleet, OURS, || ours.held()).await;
    settled(&fleet, STOCK, || stock.held()).await;
    let server = MetaServer::new(ours.store.clone(), ours.handle.clone());
    is_marked(&server, "live").await;

    for mood in [Mood::Away, Mood::Proxy] {
        let link = ours.handle.link().borrow().clone();
        fleet.server.mood(mood);
        fleet.server.cut();
        is_marked(&server, "stale;age=").await;
        assert_eq!(*ours.handle.link().borrow(), link, "the link is as it was");
        let (headers, body) = get(&server, PODS).await;
        let warning = headers["warning"].to_str().unwrap();
        assert!(warning.contains("nothing of its API server"), "{warning}");
        assert!(body.contains("edge-1-p"));
        let (_, ready) = get(&server, "/readyz?verbose").await;
        assert!(
            ready.contains("[+]cloud ok, its API server silent for"),
            "{ready}"
        );
        let scopes = server.scopes();
        assert!(scopes.cloud.reachable && scopes.cloud.silent_ms.is_some());
        assert!(
            scopes.scopes.iter().all(|scope| scope.state != "live"),
            "{scopes:?}"
        );

        // On another connection, perhaps to another instance, it hears so anew. Stock edges are told nothing that they do not know.
        ours.handle.reconnect();
        let mut connected = ours.handle.link();
        until("another connection", async || {
            (*connected.borrow_and_update() != link).then_some(())
        })
        .await;
        is_marked(&server, "stale;age=").await;
        stock.reconnect(false);

        fleet.server.mood(Mood::Good);
        is_marked(&server, "live").await;
        settled(&fleet, OURS, || ours.held()).await;
        settled(&fleet, STOCK, || stock.held()).await;
        is_marked(&server, "live").await;
    }
    for instance in &fleet.instances {
        for node in instance.hub.nodes().await {
            let takes = node.capabilities == Capabilities::ALL;
            assert_eq!(takes, node.node.as_str() == OURS);
        }
    }
    ours.end().await;
}
