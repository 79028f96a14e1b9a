//! The kinds of a real API server, and what is no object there.

use std::time::Duration;

use cloudhub::cluster::Cluster;
use hub_core::api::{ApiRequest, Target, Verb};
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use serde_json::json;

use super::{Admin, text};
use crate::view::{View, within};

#[tokio::test]
#[ignore = "needs an API server: see real/mod.rs"]
async fn the_kinds_are_those_that_the_server_has() {
    let admin = Admin::new("kinds").await;
    within("discovery", async {
        while admin.cluster.registry().generation() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let registry = admin.cluster.registry();
    let pods = registry.by_resource(&GroupVersionResource::core("pods")).unwrap();
    let subresources: Vec<_> = pods.subresources.iter().map(|s| &*s.name).collect();
    assert!(
        ["status", "log", "exec", "eviction"]
            .iter()
            .all(|name| subresources.contains(name)),
        "{subresources:?}"
    );
    assert!(pods.namespaced && !pods.custom && &*pods.singular == "pod" && pods.short_names == ["po".into()]);
    assert!(registry.by_kind("apps/v1", "Deployment").is_some());

    let group = format!("{}.example.com", admin.namespace);
    let widgets = GroupVersionResource::new(&*group, "v1", "widgets");
    let name = format!("widgets.{group}");
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let definition = json!({ "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": { "name": name }, "spec": {
        "group": group, "scope": "Namespaced", "names": { "plural": "widgets", "kind": "Widget" },
        "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] } });
    let create = ApiRequest::resource(Verb::Create, definitions.clone(), None, None)
        .with_body("application/json", definition.to_string());
    admin.done(create).await;
    let known = async |wanted| {
        while registry.by_resource(&widgets).is_some() != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("the custom kind", known(true)).await;
    assert!(registry.by_resource(&widgets).unwrap().custom);
    let widget = json!({ "apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": { "name": "a" }, "spec": { "size": 1 } });
    let create = ApiRequest::resource(Verb::Create, widgets.clone(), Some(&admin.namespace), None)
        .with_body("application/json", widget.to_string());
    admin.done(create).await;
    let mut view = View::of(&admin.cluster, Scope::all(widgets.clone()));
    view.synced().await;
    assert_eq!(view.names(), ["a"]);
    admin
        .done(ApiRequest::resource(Verb::Delete, definitions, None, Some(&name)))
        .await;
    view.until("the end of all widgets", |view| view.objects.is_empty())
        .await;
    within("the end of the kind", known(false)).await;
    admin.end().await;
}

#[tokio::test]
#[ignore = "needs an API server: see real/mod.rs"]
async fn what_is_no_object_passes_with_its_headers() {
    let admin = Admin::new("paths").await;
    let get = |path: &str, accept: &str| {
        let mut request = ApiRequest::new(Verb::Get, Target::Path(path.into()));
        request.accept = accept.into();
        let cluster = admin.cluster.clone();
        async move { cluster.execute(request).await.unwrap() }
    };
    let version = get("/version", "").await;
    assert!(text(&version).contains("gitVersion"), "{}", text(&version));
    let groups = get(
        "/apis",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    )
    .await;
    assert!(
        groups.content_type.starts_with("application/json"),
        "{}",
        groups.content_type
    );
    let openapi = get(
        "/openapi/v2",
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    )
    .await;
    assert!(
        openapi.code == 200 && !openapi.content_type.contains("json"),
        "{}",
        openapi.content_type
    );
    let table = ApiRequest {
        accept: "application/json;as=Table;g=meta.k8s.io;v=v1".into(),
        ..admin.request(Verb::List, "configmaps", None)
    };
    assert_eq!(admin.done(table).await["kind"], "Table");
    let apply = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "applied" }, "data": { "a": "1" } });
    let mut apply = admin
        .request(Verb::Patch, "configmaps", Some("applied"))
        .with_body("application/apply-patch+yaml", apply.to_string());
    apply.query = "fieldManager=test&force=true".into();
    let applied = admin.done(apply).await;
    assert_eq!(
        applied["metadata"]["managedFields"][0]["operation"], "Apply",
        "{applied}"
    );
    admin.end().await;
}
