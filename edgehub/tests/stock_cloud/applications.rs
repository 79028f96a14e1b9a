//! metaServer's requests through the tunnel: applications, watches, and lists for what watches lose.

use std::time::Duration;

use hub_core::api::{ApiRequest, Target, UpstreamError, Verb};
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::store::{Change, Coverage, ObjectStore};
use serde_json::{Value, json};

use crate::peer::{StockCloud, decoded};
use crate::world::{Edge, config, config_map, config_maps, key, within};

const NEVER: Duration = Duration::from_secs(3600);

/// An edge whose clients want all config maps.
async fn wanting(cloud: &StockCloud, relist: Duration) -> Edge {
    let (mut config, directory) = config(cloud);
    config.prefetch = vec![config_maps()];
    config.relist = relist;
    let edge = Edge::start(config, directory);
    edge.up().await;
    edge
}

impl Edge {
    async fn complete(&self, scope: &Scope) {
        let mut changed = self.store.scopes_changed();
        let complete = async {
            while self.store.coverage(scope) != Coverage::Complete {
                changed.changed().await.unwrap();
            }
        };
        within("a complete scope", complete).await;
    }
}

fn request(verb: Verb, name: Option<&str>) -> ApiRequest {
    ApiRequest::resource(verb, GroupVersionResource::core("configmaps"), Some("shop"), name)
}

fn document(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[tokio::test]
async fn every_verb_is_executed_and_answered() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let ask = |request: ApiRequest| edge.handle.request(request);
    let body = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "a", "namespace": "shop" }, "data": { "a": "é<1>" } });
    let created = ask(request(Verb::Create, None).with_body("application/json", body.to_string()))
        .await
        .unwrap();
    assert_eq!(
        (created.code, &document(&created.body)["data"]["a"]),
        (201, &json!("é<1>"))
    );
    let got = ask(request(Verb::Get, Some("a"))).await.unwrap();
    assert_eq!(
        (got.code, &document(&got.body)["data"]["a"]),
        (200, &json!("é<1>"))
    );
    let listed = ask(request(Verb::List, None)).await.unwrap();
    assert_eq!(document(&listed.body)["items"].as_array().unwrap().len(), 1);
    let mut new = document(&got.body);
    new["data"]["a"] = "2".into();
    let updated = ask(request(Verb::Update, Some("a")).with_body("application/json", new.to_string()))
        .await
        .unwrap();
    assert_eq!(document(&updated.body)["data"]["a"], "2");
    let patch =
        request(Verb::Patch, Some("a")).with_body("application/merge-patch+json", r#"{"data":{"b":"3"}}"#);
    let patched = ask(patch).await.unwrap();
    assert_eq!(document(&patched.body)["data"], json!({ "a": "2", "b": "3" }));
    let deleted = ask(request(Verb::Delete, Some("a"))).await.unwrap();
    assert!(deleted.is_success());
    for (verb, code) in [(Verb::Get, 404), (Verb::Delete, 404)] {
        assert_eq!(ask(request(verb, Some("a"))).await.unwrap().code, code);
    }
    let version = ask(ApiRequest::new(Verb::Get, Target::Path("/version".into())))
        .await
        .unwrap();
    assert_eq!(document(&version.body)["major"], "1");
}

#[tokio::test]
async fn an_application_has_the_form_that_the_cloud_reads() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let patch = request(Verb::Patch, Some("a")).with_body("application/merge-patch+json", "{}");
    let _ = edge.handle.request(patch).await;
    let message = cloud
        .until("the patch", |state| {
            let found = state
                .heard
                .iter()
                .find(|heard| heard.message["content"]["Verb"] == "patch");
            found.map(|heard| heard.message.clone())
        })
        .await;
    assert_eq!(
        message["route"],
        json!({ "source": "metaserver", "group": "dynamiccontroller", "operation": "null", "resource": "null" })
    );
    let application = &message["content"];
    let fields: Vec<_> = application
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = [
        "ID",
        "Key",
        "Verb",
        "Nodename",
        "Option",
        "ReqBody",
        "Subresource",
        "RespBody",
        "Status",
        "Reason",
        "Error",
        "Timestamp",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected, "nothing that a stock cloud does not know");
    assert_eq!(application["Key"], "/core/v1/configmaps/shop/a");
    let patch = decoded(&application["Option"]);
    assert_eq!(
        (&patch["Name"], &patch["PatchType"]),
        (&json!("a"), &json!("application/merge-patch+json"))
    );
    assert_eq!(application["ID"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn what_an_api_server_denies_inside_a_list_is_a_denial_and_no_fault() {
    let cloud = StockCloud::start().await;
    let edge = Edge::join(&cloud).await;
    let unknown = GroupVersionResource::new("example.com", "v1", "gadgets");
    let list = ApiRequest::resource(Verb::List, unknown, None, None);
    assert_eq!(edge.handle.request(list).await.unwrap().code, 404);
    cloud.mood(|moods| moods.forbids_lists = true);
    assert_eq!(
        edge.handle.request(request(Verb::List, None)).await.unwrap().code,
        403
    );
}

#[tokio::test]
async fn t9_requests_are_under_way_together_though_they_are_answered_one_after_another() {
    let cloud = StockCloud::start().await;
    cloud.state().api.put("shop/configmap/a", config_map("x"));
    let edge = Edge::join(&cloud).await;
    let asks = (0..50).map(|_| edge.handle.request(request(Verb::Get, Some("a"))));
    let answers = within("all answers", futures::future::join_all(asks)).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().code == 200));
}

#[tokio::test]
async fn without_a_link_a_request_fails_at_once() {
    let cloud = StockCloud::start().await;
    let (mut config, directory) = config(&cloud);
    config.websocket = vec![crate::world::nobody().await];
    let edge = Edge::start(config, directory);
    let error = edge
        .handle
        .request(request(Verb::Get, Some("a")))
        .await
        .unwrap_err();
    assert!(matches!(error, UpstreamError::Unreachable), "{error}");
}

#[tokio::test]
async fn watch_events_arrive_and_are_acknowledged() {
    let cloud = StockCloud::start().await;
    let edge = wanting(&cloud, NEVER).await;
    edge.complete(&config_maps()).await;
    cloud.until("a watch", watches("configmaps")).await;
    cloud.change("shop/configmap/a", Some(config_map("1")));
    edge.has(&key("configmaps", "a"), "a", "1").await;
    cloud.change("shop/configmap/a", Some(config_map("2")));
    edge.has(&key("configmaps", "a"), "a", "2").await;
    cloud.change("shop/configmap/a", None);
    edge.lacks(&key("configmaps", "a")).await;
    cloud.delivered().await;
}

/// Whether the cloud has a watch of this resource.
fn watches(resource: &'static str) -> impl FnMut(&crate::peer::State) -> Option<()> {
    move |state| {
        let mut keys = state
            .listeners
            .values()
            .filter_map(|application| application["Key"].as_str());
        keys.any(|key| crate::peer::api::part(key, 3) == resource)
            .then_some(())
    }
}

#[tokio::test]
async fn l10_the_watches_are_named_again_on_every_connection() {
    let cloud = StockCloud::start().await;
    let edge = wanting(&cloud, NEVER).await;
    for n in 0..3 {
        cloud.until("a watch", watches("configmaps")).await;
        cloud.hear_nth(n, "null", "watchapp/sync").await;
        let value = n.to_string();
        cloud.change("shop/configmap/a", Some(config_map(&value)));
        edge.has(&key("configmaps", "a"), "a", &value).await;
        cloud.restart();
    }
}

#[tokio::test]
async fn what_was_deleted_while_the_node_was_away_goes_and_what_is_there_stays() {
    let cloud = StockCloud::start().await;
    for name in ["a", "b"] {
        cloud
            .state()
            .api
            .put(&format!("shop/configmap/{name}"), config_map("x"));
    }
    let edge = wanting(&cloud, NEVER).await;
    edge.has(&key("configmaps", "b"), "a", "x").await;
    // These have no sync record: nothing but a list can tell.
    cloud.mood(|moods| moods.loses_events = true);
    cloud.change("shop/configmap/a", None);
    cloud.restart();
    edge.lacks(&key("configmaps", "a")).await;
    edge.has(&key("configmaps", "b"), "a", "x").await;
}

#[tokio::test]
async fn events_that_the_cloud_loses_are_found_by_lists_that_come_now_and_then() {
    let cloud = StockCloud::start().await;
    cloud.state().api.put("shop/configmap/a", config_map("x"));
    let edge = wanting(&cloud, Duration::from_millis(100)).await;
    edge.has(&key("configmaps", "a"), "a", "x").await;
    cloud.mood(|moods| moods.loses_events = true);
    cloud.change("shop/configmap/a", None);
    cloud.change("shop/configmap/b", Some(config_map("y")));
    edge.lacks(&key("configmaps", "a")).await;
    edge.has(&key("configmaps", "b"), "a", "y").await;
    assert_eq!(cloud.state().upgrades.len(), 1);
    // No storm: between two lists of a scope there is at least half of the pause, and not always the same.
    let lists = cloud
        .until("ten lists", |state| {
            let list = |heard: &&crate::peer::Heard| {
                let content = &heard.message["content"];
                content["Verb"] == "list" && content["Key"] == "/core/v1/configmaps/null/null"
            };
            let at: Vec<_> = state.heard.iter().filter(list).map(|heard| heard.at).collect();
            (at.len() >= 10).then_some(at)
        })
        .await;
    let nine = *lists.last().unwrap() - lists[0];
    assert!(nine >= Duration::from_millis(9 * 45), "{nine:?}");
}

#[tokio::test]
async fn a_repair_without_kind_and_version_is_understood_by_its_route() {
    let cloud = StockCloud::start().await;
    let definition = json!({
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
        "status": { "acceptedNames": { "plural": "widgets", "kind": "Widget" }, "storedVersions": ["v1"] },
    });
    cloud
        .state()
        .api
        .put("null/customresourcedefinition/widgets.example.com", definition);
    cloud
        .state()
        .api
        .put("shop/widget/w", json!({ "spec": { "size": 1 } }));
    let edge = Edge::join(&cloud).await;
    let widgets = Scope::all(GroupVersionResource::new("example.com", "v1", "widgets"));
    edge.store
        .apply(vec![Change::Want(widgets.clone())])
        .await
        .unwrap();
    edge.complete(&widgets).await;
    cloud.until("a watch", watches("widgets")).await;
    cloud.change("shop/widget/w", Some(json!({ "spec": { "size": 2 } })));
    let widget = hub_core::object::ObjectKey::new(widgets.resource.clone(), Some("shop"), "w");
    let size =
        |n: u64| move |w: Option<&Value>| w.is_some_and(|w| w["spec"]["size"] == n && w["kind"] == "Widget");
    edge.holds(&widget, size(2)).await;
    cloud.delivered().await;
    // Now it has a sync record, and changes while the node is away.
    cloud.cut();
    cloud
        .state()
        .api
        .put("shop/widget/w", json!({ "spec": { "size": 3 } }));
    edge.holds(&widget, size(3)).await;
    cloud.cut();
    cloud.state().api.delete("shop/widget/w");
    edge.lacks(&widget).await;
    cloud.delivered().await;
    assert_eq!(cloud.state().given_up, [""; 0]);
}

#[tokio::test]
async fn what_the_configuration_wants_is_asked_for_until_the_cloud_gives_it() {
    let cloud = StockCloud::start().await;
    cloud.state().api.put("shop/configmap/a", config_map("x"));
    cloud.mood(|moods| moods.forbids_lists = true);
    let edge = wanting(&cloud, Duration::from_millis(100)).await;
    cloud
        .until("two lists", |state| {
            let list = |heard: &&crate::peer::Heard| {
                heard.message["content"]["Key"] == "/core/v1/configmaps/null/null"
            };
            (state.heard.iter().filter(list).count() >= 2).then_some(())
        })
        .await;
    assert_eq!(edge.store.coverage(&config_maps()), Coverage::Loading);
    cloud.mood(|moods| moods.forbids_lists = false);
    edge.has(&key("configmaps", "a"), "a", "x").await;
    edge.complete(&config_maps()).await;
}
