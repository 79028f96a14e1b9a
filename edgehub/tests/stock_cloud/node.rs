//! The node agent: registration, lease, status, and a node that is deleted.

use edgehub::{NodeAgentConfig, Taint};
use serde_json::{Value, json};

use crate::peer::StockCloud;
use crate::world::{Edge, LEASE_ROUTE, NODE, NODE_ROUTE, agent, config};

const PATCH: &str = "null/nodepatch/edge-1";

fn start(cloud: &StockCloud, agent: NodeAgentConfig) -> Edge {
    let (mut config, directory) = config(cloud);
    config.agent = Some(agent);
    Edge::start(config, directory)
}

#[tokio::test]
async fn a_new_node_registers_takes_a_lease_and_is_ready() {
    let cloud = StockCloud::start().await;
    let taint = Taint {
        key: "site".into(),
        value: "shop".into(),
        effect: "NoSchedule".into(),
    };
    let _edge = start(
        &cloud,
        NodeAgentConfig {
            labels: [("zone".to_owned(), "north".to_owned())].into(),
            annotations: [("owner".to_owned(), "anna".to_owned())].into(),
            taints: vec![taint],
            pod_cidr: Some("10.244.7.0/24".into()),
            ..agent()
        },
    );
    cloud.hear_nth(2, "update", LEASE_ROUTE).await;
    cloud.hear_nth(1, "patch", PATCH).await;
    let state = cloud.state();
    let said: Vec<_> = state
        .heard
        .iter()
        .filter(|heard| {
            [NODE_ROUTE, LEASE_ROUTE].contains(&heard.resource()) && heard.operation() != "response"
        })
        .filter(|heard| heard.message["route"]["source"] == "edged")
        .map(|heard| heard.operation().to_owned())
        .take(4)
        .collect();
    assert_eq!(said, ["insert", "query", "insert", "update"]);
    let node = &state.api.objects[NODE_ROUTE];
    assert_eq!(node["metadata"]["labels"]["zone"], "north");
    assert_eq!(node["metadata"]["annotations"]["owner"], "anna");
    assert_eq!(
        node["spec"]["taints"],
        json!([{ "key": "site", "value": "shop", "effect": "NoSchedule" }])
    );
    assert_eq!(node["spec"]["podCIDR"], "10.244.7.0/24");
    let lease = &state.api.objects[LEASE_ROUTE];
    assert_eq!(lease["spec"]["holderIdentity"], NODE);
    assert_eq!(
        lease["metadata"]["ownerReferences"][0]["uid"],
        node["metadata"]["uid"]
    );
}

#[tokio::test]
async fn a_node_that_exists_is_taken_up_with_its_lease_and_gets_the_labels_it_lacks() {
    let cloud = StockCloud::start().await;
    let known = json!({ "metadata": { "labels": { "zone": "south" } }, "spec": {}, "status": {} });
    let known = cloud.state().api.put(NODE_ROUTE, known);
    cloud
        .state()
        .api
        .put(LEASE_ROUTE, json!({ "spec": { "holderIdentity": NODE } }));
    let labels = [("zone", "north"), ("floor", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let _edge = start(
        &cloud,
        NodeAgentConfig {
            labels: labels.into(),
            ..agent()
        },
    );
    cloud.hear("query", NODE_ROUTE).await;
    let update = cloud.hear("update", NODE_ROUTE).await.message;
    assert_eq!(update["content"]["metadata"]["labels"]["floor"], "2");
    cloud.hear_nth(1, "update", LEASE_ROUTE).await;
    let state = cloud.state();
    let labels = &state.api.objects[NODE_ROUTE]["metadata"]["labels"];
    assert_eq!(
        (&labels["zone"], &labels["floor"]),
        (&json!("south"), &json!("2")),
        "what somebody gave another value stays"
    );
    assert_eq!(
        state.api.objects[LEASE_ROUTE]["metadata"]["ownerReferences"][0]["uid"],
        known["metadata"]["uid"]
    );
}

#[tokio::test]
async fn a_node_that_was_deleted_in_the_cluster_registers_again() {
    let cloud = StockCloud::start().await;
    let _edge = start(&cloud, agent());
    cloud.hear("patch", PATCH).await;
    cloud.hear("update", LEASE_ROUTE).await;
    let before = cloud.state().api.objects[NODE_ROUTE]["metadata"]["uid"].clone();
    // The end of the connection is all that the edge sees of it.
    cloud.delete_node(NODE);
    cloud.hear_nth(1, "insert", NODE_ROUTE).await;
    cloud
        .until("a lease of the new node", |state| {
            let node = state.api.objects.get(NODE_ROUTE)?["metadata"]["uid"].clone();
            let owner = &state.api.objects.get(LEASE_ROUTE)?["metadata"]["ownerReferences"][0]["uid"];
            (node != before && *owner == node).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_node_that_may_not_come_back_stays_away() {
    let cloud = StockCloud::start().await;
    let _edge = start(
        &cloud,
        NodeAgentConfig {
            register_again: None,
            ..agent()
        },
    );
    cloud.hear("patch", PATCH).await;
    cloud.delete_node(NODE);
    cloud
        .until("a new connection", |state| {
            (state.upgrades.len() == 2).then_some(())
        })
        .await;
    // On each connection it asks once.
    for connection in 2..5 {
        cloud
            .until("a status", |state| {
                let said =
                    |heard: &&crate::peer::Heard| heard.connection == connection && heard.is("patch", PATCH);
                state.heard.iter().find(said).map(|_| ())
            })
            .await;
        cloud.cut();
    }
    assert!(!cloud.state().api.objects.contains_key(NODE_ROUTE));
}

#[tokio::test]
async fn a_status_goes_on_over_outages_with_the_lease_that_the_cloud_has() {
    let cloud = StockCloud::start().await;
    let _edge = start(&cloud, agent());
    for n in 0..3 {
        cloud.hear_nth(n * 3 + 1, "update", LEASE_ROUTE).await;
        // Somebody else changes the lease meanwhile: its version is another.
        let lease: Value = cloud.state().api.objects[LEASE_ROUTE].clone();
        cloud.state().api.put(LEASE_ROUTE, lease);
        cloud.cut();
    }
    cloud.hear_nth(12, "update", LEASE_ROUTE).await;
}

#[tokio::test]
async fn an_old_cloud_hears_of_the_node_in_the_old_way() {
    let cloud = StockCloud::start().await;
    cloud.mood(|moods| moods.old = true);
    let (mut config, directory) = config(&cloud);
    config.agent = Some(agent());
    config.write_timeout = std::time::Duration::from_millis(100);
    let _edge = Edge::start(config, directory);
    cloud.hear("insert", "null/nodestatus/edge-1").await;
    let status = cloud
        .hear_nth(2, "update", "null/nodestatus/edge-1")
        .await
        .message;
    let uid = cloud.state().api.objects[NODE_ROUTE]["metadata"]["uid"].clone();
    assert_eq!(status["content"]["UID"], uid);
    assert_eq!(status["content"]["Status"]["conditions"][3]["type"], "Ready");
    // After an upgrade of the cloud, in the new one.
    cloud.mood(|moods| moods.old = false);
    cloud.restart();
    cloud.hear("patch", PATCH).await;
    cloud.hear("update", LEASE_ROUTE).await;
}

#[tokio::test]
async fn a_node_that_the_cluster_takes_for_dead_says_with_its_next_lease_that_it_is_not() {
    let cloud = StockCloud::start().await;
    let _edge = start(
        &cloud,
        NodeAgentConfig {
            // Nobody waits for that.
            status_interval: std::time::Duration::from_secs(3600),
            ..agent()
        },
    );
    cloud.hear_nth(2, "update", LEASE_ROUTE).await;
    let patches = |state: &crate::peer::State| {
        let heard = state.heard.iter();
        heard.filter(|heard| heard.is("patch", PATCH)).count()
    };
    assert_eq!(
        patches(&cloud.state()),
        1,
        "all is well, and nothing is said of it"
    );

    let mut node = cloud.state().api.objects[NODE_ROUTE].clone();
    node["status"]["conditions"] =
        json!([{ "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown" }]);
    cloud.apply(NODE_ROUTE, node.clone());
    cloud
        .until("another status", |state| (patches(state) > 1).then_some(()))
        .await;
    node["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    cloud.apply(NODE_ROUTE, node);
    cloud.delivered().await;
    let said = patches(&cloud.state());
    let heard = cloud.state().heard.len();
    cloud
        .until("more leases", |state| {
            (state.heard.len() > heard + 10).then_some(())
        })
        .await;
    assert!(patches(&cloud.state()) <= said + 1, "it is believed");
}
