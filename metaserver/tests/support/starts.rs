//! An agent that has run on a node once, and starts again after the node began anew without its cloud.

#![allow(dead_code, reason = "part of several tests; none uses all of it")]

use serde_json::json;

use crate::agents::{Kind, config, define, offline};
use crate::support::{Mood, Node};

/// One request, and what comes of it.
pub(crate) struct Ask {
    path: &'static str,
    accept: &'static str,
    comes: Comes,
}

#[derive(Clone, Copy)]
pub(crate) enum Comes {
    /// These objects; of a path with `watch=` as events and then a bookmark that ends them.
    All(&'static [&'static str]),
    /// The object, or the document.
    It,
    /// It is known that there is none.
    Missing,
    /// Nobody here can know.
    Unknown,
}
pub(crate) const fn ask(path: &'static str, accept: &'static str, comes: Comes) -> Ask {
    Ask { path, accept, comes }
}

pub(crate) const JSON: &str = "application/json";
/// What client-go asks for built-in kinds with.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf,application/json";
/// What client-go asks for metadata alone with.
pub(crate) const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                        application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
pub(crate) const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A node on which the agent has run, started anew without its cloud.
pub(crate) async fn cold(kinds: &[Kind], asks: &[Ask]) -> Node {
    let node = offline().await;
    define(&node, kinds);
    let kube_system = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}});
    node.cloud.put("namespaces", kube_system);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"port": 80}], "clusterIP": "10.96.0.7"}});
    node.cloud.put("services", service);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop"}, "addressType": "IPv4", "endpoints": [], "ports": []});
    node.cloud.put("endpointslices", slice);
    node.cloud.publish(
        "/version",
        json!({"major": "1", "minor": "36", "gitVersion": "v1.36.2"}),
    );
    node.cloud.mood(Mood::Up);
    for ask in asks {
        if !matches!(ask.comes, Comes::Unknown) {
            drop(node.send("GET", ask.path, &[("accept", ask.accept)], "").await);
        }
    }
    node.settled().await;
    node.cloud.mood(Mood::Unreachable);
    node.restart(config()).await
}

pub(crate) async fn starts(agent: &str, asks: &[Ask]) -> Node {
    starts_with(agent, &[], asks).await
}

/// The same with kinds of its own.
pub(crate) async fn starts_with(agent: &str, kinds: &[Kind], asks: &[Ask]) -> Node {
    let node = cold(kinds, asks).await;
    let before = node.cloud.asked().len();
    for Ask { path, accept, comes } in asks {
        let about = format!("{agent}: {path}");
        if path.contains("watch=true") {
            let Comes::All(names) = comes else {
                panic!("{about}")
            };
            let mut events = node.watch_as(path, &[("accept", accept)]).await;
            for name in *names {
                assert_eq!(events.short().await, format!("ADDED {name}"), "{about}");
            }
            let mark = events.next().await.unwrap();
            assert_eq!(
                mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true",
                "{about}"
            );
            continue;
        }
        let answer = node.ask("GET", path, &[("accept", accept)], "").await;
        let code = answer.code.as_u16();
        match comes {
            Comes::All(names) => {
                assert_eq!(code, 200, "{about}: {:?}", answer.body);
                if accept.starts_with("application/vnd.kubernetes.protobuf") {
                    assert!(answer.body.starts_with(b"k8s\0"), "{about}");
                }
                assert_eq!(node.names(path).await, *names, "{about}");
            }
            Comes::It => assert_eq!(code, 200, "{about}: {:?}", answer.body),
            Comes::Missing => assert_eq!(code, 404, "{about}: {:?}", answer.body),
            Comes::Unknown => assert_eq!((code, answer.header("retry-after")), (503, "1"), "{about}"),
        }
    }
    assert_eq!(
        node.cloud.asked().len(),
        before,
        "{agent} got no answer from the cloud"
    );
    node
}
