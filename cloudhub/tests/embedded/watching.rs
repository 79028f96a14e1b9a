//! What a watch of the cluster says.

use cloudhub::cluster::{Cluster, ClusterEvent, EmbeddedCluster, EmbeddedConfig};
use futures::StreamExt;
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::store::LogLimits;
use serde_json::json;

use crate::World;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_maps() -> GroupVersionResource {
    GroupVersionResource::core("configmaps")
}

/// `+name` applied, `~name` applied over a known body, `-name` deleted.
async fn next(events: &mut (impl futures::Stream<Item = ClusterEvent> + Unpin)) -> String {
    let event = tokio::time::timeout(std::time::Duration::from_secs(10), events.next()).await;
    match event.expect("an event in time") {
        Some(ClusterEvent::Applied { object, previous }) => {
            format!(
                "{}{}",
                if previous.is_some() { '~' } else { '+' },
                object.key.name
            )
        }
        Some(ClusterEvent::Deleted { object }) => format!("-{}", object.key.name),
        Some(ClusterEvent::Synced { .. }) => "synced".into(),
        Some(ClusterEvent::Restarted) => "restarted".into(),
        Some(ClusterEvent::Refused(status)) => format!("refused: {}", status.message),
        None => "end".into(),
    }
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_goes_on_with_what_changes() {
    let world = World::new();
    let create = async |name: &str| {
        world
            .ok("POST", CONFIG_MAPS, json!({"metadata":{"name":name}}))
            .await
    };
    create("a").await;
    let mut events = world.cluster.watch(Scope::namespaced(config_maps(), "default"));
    assert_eq!(next(&mut events).await, "+a");
    assert_eq!(next(&mut events).await, "synced");
    create("b").await;
    world
        .ok(
            "PATCH",
            &format!("{CONFIG_MAPS}/a"),
            ("merge-patch", json!({"data":{"k":"v"}})),
        )
        .await;
    world.ok("DELETE", &format!("{CONFIG_MAPS}/b"), ()).await;
    for expected in ["+b", "~a", "-b"] {
        assert_eq!(next(&mut events).await, expected);
    }
    drop(world);
    assert_eq!(next(&mut events).await, "end");
}

#[tokio::test]
async fn who_leaves_a_selector_is_deleted_for_it_and_a_bad_selector_is_refused() {
    let world = World::new();
    let scope = Scope {
        labels: "app=web".into(),
        ..Scope::all(config_maps())
    };
    let mut events = world.cluster.watch(scope.clone());
    assert_eq!(next(&mut events).await, "synced");
    let label = async |name: &str, app: &str| {
        let patch = ("merge-patch", json!({"metadata":{"labels":{"app":app}}}));
        world.ok("PATCH", &format!("{CONFIG_MAPS}/{name}"), patch).await
    };
    for name in ["a", "b"] {
        world
            .ok("POST", CONFIG_MAPS, json!({"metadata":{"name":name}}))
            .await;
    }
    label("b", "web").await;
    label("b", "db").await;
    label("a", "web").await;
    for expected in ["+b", "-b", "+a"] {
        assert_eq!(next(&mut events).await, expected);
    }
    let fields = |fields: &str| Scope {
        fields: fields.into(),
        ..scope.clone()
    };
    let mut refused = world.cluster.watch(fields("spec.color=red"));
    assert_eq!(
        next(&mut refused).await,
        "refused: \"spec.color\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    assert_eq!(next(&mut refused).await, "end");
}

#[tokio::test]
async fn a_watch_that_fell_behind_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        history: LogLimits {
            events_max: 2,
            bytes_max: 1 << 20,
        },
        ..EmbeddedConfig::default()
    };
    let cluster = EmbeddedCluster::open(&folder.path().join("cluster.db"), config).unwrap();
    let world = World { cluster, folder };
    let mut events = world.cluster.watch(Scope::all(config_maps()));
    assert_eq!(next(&mut events).await, "synced");
    for name in ["a", "b", "c", "d"] {
        world
            .ok("POST", CONFIG_MAPS, json!({"metadata":{"name":name}}))
            .await;
    }
    world.ok("DELETE", &format!("{CONFIG_MAPS}/a"), ()).await;
    for expected in ["restarted", "+b", "+c", "+d", "synced"] {
        assert_eq!(next(&mut events).await, expected);
    }
}
