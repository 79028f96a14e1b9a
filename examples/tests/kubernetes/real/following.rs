//! A scope of a real API server is followed, through cut connections and restarts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use cloudhub::cluster::{Credentials, KubeCluster, KubeClusterConfig};
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::testing::{Wire, WireConditions};
use serde_json::{Value, json};

use super::Admin;
use crate::view::View;

#[tokio::test]
#[ignore = "needs an API server: see real/mod.rs"]
async fn a_scope_is_followed_through_cut_connections() {
    let admin = Admin::new("follow").await;
    let kubeconfig = PathBuf::from(std::env::var_os("KUBECONFIG").unwrap());
    let wire = Wire::tcp(address(&kubeconfig)).await.unwrap();
    let through = Credentials::File {
        path: kubeconfig,
        server: Some(format!("https://127.0.0.1:{}", wire.address().port())),
    };
    let config = KubeClusterConfig {
        page_objects: 3,
        ..KubeClusterConfig::default()
    };
    let cluster = KubeCluster::connect(through, config).await.unwrap();
    for at in 0..10 {
        admin
            .create("configmaps", admin.config_map(&format!("m{at}"), "x", "1"))
            .await;
    }
    let mut view = View::of(&cluster, admin.here());
    let mut labelled = View::of(
        &cluster,
        Scope {
            labels: "app=y".into(),
            ..admin.here()
        },
    );
    view.synced().await;
    labelled.synced().await;
    assert_eq!((named(&view).len(), named(&labelled).len()), (10, 0));
    let body: Value = serde_json::from_slice(&view.objects.values().last().unwrap().body).unwrap();
    assert_eq!(
        (&body["kind"], &body["apiVersion"]),
        (&json!("ConfigMap"), &json!("v1"))
    );
    assert!(body["metadata"]["managedFields"].is_null() && body["metadata"]["uid"].is_string());

    for round in 0..3 {
        wire.stall();
        wire.cut();
        admin
            .merge(
                "configmaps",
                "m0",
                json!({ "metadata": { "labels": { "app": "y" } }, "data": { "value": round.to_string() } }),
            )
            .await;
        admin.delete("configmaps", &format!("m{}", 9 - round)).await;
        admin
            .create("configmaps", admin.config_map(&format!("n{round}"), "x", "1"))
            .await;
        wire.set(WireConditions::default());
        wire.cut();
        let (gone, new) = (format!("m{}", 9 - round), format!("n{round}"));
        view.until("what was missed", |view| {
            !view.names().contains(&&*gone) && view.names().contains(&&*new)
        })
        .await;
    }
    labelled.until("m0", |view| view.names() == ["m0"]).await;
    assert_eq!((view.gone.len(), view.restarts), (3, 0), "{:?}", view.gone);
    admin.end().await;
}

#[tokio::test]
#[ignore = "needs an API server: see real/mod.rs"]
async fn a_restart_of_the_server_deletes_nothing() {
    // One of its own, so that nobody else sees it go.
    let folder = tempfile::tempdir().unwrap();
    if std::env::var_os("APISERVER_FOLDER").is_none() {
        eprintln!("needs a server that may be stopped: `examples/kubernetes/apiserver run …`");
        return;
    }
    let script = async |what: &'static str| {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes/apiserver");
        let folder = folder.path().to_owned();
        let run = move || {
            Command::new(program)
                .arg(what)
                .arg(folder)
                .env("CONTROLLERS", "0")
                .status()
        };
        assert!(
            tokio::task::spawn_blocking(run).await.unwrap().unwrap().success(),
            "{what}"
        );
    };
    script("start").await;
    let credentials = Credentials::File {
        path: folder.path().join("admin.kubeconfig"),
        server: None,
    };
    let cluster = KubeCluster::connect(credentials, KubeClusterConfig::default())
        .await
        .unwrap();
    let admin = Admin {
        cluster,
        namespace: "default".into(),
    };
    admin.settled().await;
    for at in 0..20 {
        admin
            .create("configmaps", admin.config_map(&format!("m{at:02}"), "x", "1"))
            .await;
    }
    let mut views: BTreeMap<_, _> = ["configmaps", "namespaces", "clusterroles"]
        .map(|name| {
            let group = if name == "clusterroles" {
                "rbac.authorization.k8s.io"
            } else {
                ""
            };
            (
                name,
                View::of(
                    &admin.cluster,
                    Scope::all(GroupVersionResource::new(group, "v1", name)),
                ),
            )
        })
        .into();
    for view in views.values_mut() {
        view.synced().await;
    }
    script("stop").await;
    script("start").await;
    admin
        .create("configmaps", admin.config_map("new", "x", "1"))
        .await;
    admin
        .merge("configmaps", "m00", json!({ "data": { "value": "2" } }))
        .await;
    let maps = views.get_mut("configmaps").unwrap();
    maps.until("the new one", |view| {
        view.names().contains(&"new") && view.names().contains(&"m19")
    })
    .await;
    for (name, mut view) in views {
        view.read_now();
        assert_eq!(view.gone.len(), 0, "{name}: {:?}", view.gone);
    }
    script("stop").await;
}

impl Admin {
    fn config_map(&self, name: &str, label: &str, value: &str) -> Value {
        json!({ "metadata": { "name": name, "namespace": self.namespace, "labels": { "app": label } }, "data": { "value": value } })
    }

    fn here(&self) -> Scope {
        Scope::namespaced(GroupVersionResource::core("configmaps"), &self.namespace)
    }
}

fn named(view: &View) -> Vec<&str> {
    view.names()
        .into_iter()
        // Controllers put authorities of their own into every namespace.
        .filter(|name| !name.contains("ca"))
        .collect()
}

/// The address of the server that a kubeconfig names.
fn address(kubeconfig: &std::path::Path) -> std::net::SocketAddr {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let server = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: https://"))
        .unwrap();
    server
        .trim_end_matches('/')
        .parse()
        .expect("an address of numbers")
}
