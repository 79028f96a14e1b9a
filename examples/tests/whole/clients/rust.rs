//! The `kube` crate: its reflector, its watcher in both of its modes, and its typed client.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, reflector, watcher};

use super::node;
use crate::client::Api;
use crate::world::{CONFIGMAPS, CloudHalf, Tunnel, config_map, until, within};

fn config_maps(server: Api) -> kube::Api<ConfigMap> {
    let mut config = kube::Config::new(format!("http://{}", server.0).parse().unwrap());
    config.default_namespace = "shop".into();
    kube::Api::default_namespaced(kube::Client::try_from(config).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kube_crate_uses_the_embedded_cluster_as_any_other() {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let api = config_maps(cloud.api);
    let new = |name: &str| ConfigMap {
        data: Some(BTreeMap::from([("v".into(), "1".into())])),
        ..serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).unwrap()
    };
    let made = api.create(&PostParams::default(), &new("a")).await.unwrap();
    let patch = Patch::Merge(serde_json::json!({"data": {"v": "2"}}));
    let patched = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data.unwrap()["v"], "2");
    let stale = api.replace("a", &PostParams::default(), &made).await.unwrap_err();
    let kube::Error::Api(status) = stale else {
        panic!("{stale}")
    };
    assert!(status.is_conflict(), "{status:?}");
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&dry, &new("b")).await.unwrap();
    assert!(api.get_opt("b").await.unwrap().is_none());
    for name in ["c", "d"] {
        api.create(&PostParams::default(), &new(name)).await.unwrap();
    }
    let page = api.list(&ListParams::default().limit(2)).await.unwrap();
    let rest = ListParams::default()
        .limit(2)
        .continue_token(&page.metadata.continue_.unwrap());
    // The fourth is the certificate of the API, which is in every namespace.
    assert_eq!(
        (page.items.len(), api.list(&rest).await.unwrap().items.len()),
        (2, 2)
    );
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    api.delete("a", &foreground).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
    api.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    // The certificate came back at once.
    let left = api.list(&ListParams::default()).await.unwrap().items;
    let left: Vec<_> = left.into_iter().filter_map(|map| map.metadata.name).collect();
    assert_eq!(left, [CERTIFICATE]);
    cloud.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflectors_on_a_node_live_through_a_cut_in_both_modes() {
    let (cloud, edge) = node().await;
    let mut readers = Vec::new();
    let mut tasks = Vec::new();
    for config in [Config::default(), Config::default().streaming_lists()] {
        let (reader, writer) = reflector::store();
        let stream = watcher(config_maps(edge.api), config).reflect(writer);
        tasks.push(tokio::spawn(async move {
            let mut stream = pin!(stream);
            // An error is one that the client had to get over: there must be none.
            while stream.try_next().await.unwrap().is_some() {}
        }));
        within("the first list", reader.wait_until_ready()).await.unwrap();
        readers.push(reader);
    }
    let holds = async |wanted: &[&str]| {
        for reader in &readers {
            until("what the cloud has", async || {
                let mut names: Vec<_> = reader
                    .state()
                    .iter()
                    .filter_map(|map| map.metadata.name.clone())
                    .filter(|name| name != CERTIFICATE)
                    .collect();
                names.sort();
                (names == wanted).then_some(())
            })
            .await;
        }
    };
    holds(&["a"]).await;
    edge.cut().await;
    // One that starts with the cable pulled is ready at once, in the mode that newer clients prefer too.
    let late = watcher(config_maps(edge.api), Config::default().streaming_lists());
    let mut late = pin!(late);
    let mut first = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(10), late.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
        {
            Event::InitApply(map) if map.metadata.name.as_deref() == Some(CERTIFICATE) => {}
            Event::InitApply(map) => first.push(map.metadata.name.unwrap()),
            Event::InitDone => break,
            _ => {}
        }
    }
    assert_eq!(first, ["a"]);
    cloud.api.create(CONFIGMAPS, config_map("b", "1")).await;
    cloud.api.delete(&format!("{CONFIGMAPS}/a")).await;
    edge.restore().await;
    holds(&["b"]).await;
    for task in tasks {
        assert!(!task.is_finished());
        task.abort();
    }
    edge.end().await;
    cloud.end().await;
}

/// What is in every namespace of every cluster.
const CERTIFICATE: &str = "kube-root-ca.crt";
