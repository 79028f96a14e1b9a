//! What a connection to an API server keeps in memory, by its own count.

use std::time::Duration;

use cloudhub::cluster::KubeCluster;
use hub_core::api::Verb;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use prometheus_client::registry::Registry;
use serde_json::json;

use crate::server::Server;
use crate::view::{View, within};

/// The numbers of a cluster's memory.
struct Memory(Registry);

impl Memory {
    fn of(cluster: &KubeCluster) -> Self {
        let mut registry = Registry::default();
        cluster.register_metrics(&mut registry);
        Self(registry)
    }

    fn number(&self, name: &str) -> usize {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0).unwrap();
        let mut lines = text.lines();
        let line = lines.find_map(|line| {
            line.strip_prefix("cluster_")?
                .strip_prefix(name)?
                .strip_prefix(' ')
        });
        line.unwrap().parse().unwrap()
    }

    /// Watches, objects and their bytes.
    fn held(&self) -> (usize, usize, usize) {
        (
            self.number("watches"),
            self.number("objects_held"),
            self.number("held_bytes"),
        )
    }
}

fn config_maps() -> Scope {
    Scope::all(GroupVersionResource::core("configmaps"))
}

fn bytes(view: &View) -> usize {
    view.objects.values().map(|object| object.body.len()).sum()
}

const LARGE: usize = 20_000;

#[tokio::test]
async fn what_is_wanted_is_held_once_without_the_owners_of_its_fields_and_goes_when_nobody_wants_it() {
    let server = Server::new();
    let text = "x".repeat(LARGE);
    for at in 0..20 {
        server.put(&format!("m{at:02}"), "x", &text).await;
        let secret = json!({ "kind": "Secret", "apiVersion": "v1", "stringData": { "a": text },
            "metadata": { "name": format!("s{at}"), "namespace": "default" } });
        server.change(Verb::Create, "secrets", "", secret).await;
    }
    let cluster = server.cluster();
    let memory = Memory::of(&cluster);
    assert_eq!(memory.held(), (0, 0, 0), "nobody asked for anything");

    let mut view = View::of(&cluster, config_maps());
    view.synced().await;
    let all = (1, view.objects.len(), bytes(&view));
    assert!(all.1 >= 20 && all.2 > 20 * LARGE && all.2 < 21 * LARGE, "{all:?}");
    assert_eq!(memory.held(), all, "and no Secrets");
    for object in view.objects.values() {
        let body = String::from_utf8_lossy(&object.body);
        assert!(!body.contains("managedFields"), "{body}");
    }
    let mut parts = Vec::new();
    for at in 0..20 {
        let key = ObjectKey::new(config_maps().resource, Some("default"), &format!("m{at:02}"));
        let mut part = View::of(&cluster, Scope::object(&key));
        part.synced().await;
        parts.push(part);
    }
    assert_eq!(memory.held(), all, "a part is held with the whole");

    drop((view, parts));
    within("the end of the watch", async {
        while memory.held() != (0, 0, 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_changes_all_the_time_is_not_held_in_all_its_states_and_who_reads_slowly_sees_the_end() {
    let server = Server::new();
    let most = 5 * LARGE;
    let cluster = server.cluster_with(|config| config.history_bytes_max = most);
    let memory = Memory::of(&cluster);
    let mut quick = View::of(&cluster, config_maps());
    quick.synced().await;
    let mut slow = View::of(&cluster, config_maps());
    slow.synced().await;
    for round in 0..60 {
        let text = format!("{round} {}", "x".repeat(LARGE));
        for name in ["a", "b"] {
            server.put(name, "x", &text).await;
        }
        let newest = format!("{round} x");
        quick
            .until("the change", |view| {
                let of_this_round = |name: &str| {
                    let mut objects = view.objects.values();
                    let object = objects.find(|object| &*object.key.name == name);
                    object.is_some_and(|object| String::from_utf8_lossy(&object.body).contains(&newest))
                };
                of_this_round("a") && of_this_round("b")
            })
            .await;
        let held = memory.number("history_bytes");
        assert!(held <= most, "{held} after round {round}");
    }
    assert!(memory.number("history_bytes") > most / 2);
    assert_eq!(memory.held(), (1, quick.objects.len(), bytes(&quick)));
    slow.until("the end", |view| view.objects == quick.objects).await;
    assert_eq!((slow.restarts, quick.restarts), (1, 0));
}
