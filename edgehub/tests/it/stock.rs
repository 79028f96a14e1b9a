//! A stock KubeEdge cloud: watches, lists, and what they miss.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hub_core::api::{ApiResponse, Reason, Status, Target, Verb};
use hub_core::application::{Application, WATCH_SYNC, answer_watch_sync};
use hub_core::message::Content;
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::service::Reply;
use hub_core::session::Lane;
use hub_core::store::{Change, Coverage, ObjectStore};
use hub_core::transport::Capabilities;

use crate::cloud::{Cloud, CutDialer, Script};
use crate::world::{Edge, config, config_map, config_map_key, config_maps, node, within};

/// What the API server behind the stock cloud has, and what it was asked.
#[derive(Default)]
struct Api {
    /// Config maps by name, with their versions.
    config_maps: BTreeMap<String, u64>,
    version: u64,
    /// Verb, resource and query of each request, and the ids of each sync.
    asked: Vec<String>,
    /// Lists that come out empty, by mistake.
    empty_lists: usize,
    /// Config maps are no kind any more.
    gone: bool,
}

fn stock(api: Arc<Mutex<Api>>) -> Script {
    Arc::new(move |message| {
        let mut api = api.lock().unwrap();
        if message.route.resource.as_str() == WATCH_SYNC {
            let watches: BTreeMap<String, Application> = message.content.decode("watches").unwrap();
            let mut keys: Vec<_> = watches.values().map(|w| w.key.clone()).collect();
            keys.sort();
            api.asked.push(format!("sync {}", keys.join(" ")));
            let failed = Content::from_json("{}".into());
            return Some(Reply::Answer(answer_watch_sync(message, failed), Lane::Urgent));
        }
        let application = Application::from_content(&message.content).unwrap();
        let request = application.to_request().unwrap();
        let Target::Resource { resource, .. } = &request.target else {
            panic!()
        };
        api.asked.push(format!(
            "{} {} {}",
            request.verb, resource.resource, request.query
        ));
        const GONE: &str = "the server could not find the requested resource";
        let response: ApiResponse = match (request.verb, &*resource.resource) {
            (_, "configmaps") if api.gone => Status::failure(Reason::NotFound, GONE).into(),
            (_, "widgets") => Status::failure(
                Reason::NotFound,
                "the server could not find the requested resource",
            )
            .into(),
            (_, "secrets") => Status::failure(Reason::Forbidden, "no").into(),
            (Verb::Watch, _) => ApiResponse::json(200, ""),
            (Verb::Get, _) => Status::not_found("", "nodes", "edge-1").into(),
            (Verb::List, "configmaps") => {
                let empty = api.empty_lists > 0;
                api.empty_lists = api.empty_lists.saturating_sub(1);
                let body = |(name, version): (&String, &u64)| {
                    // Items of lists do not say their kind.
                    config_map(name, *version, "x").replacen(
                        r#""kind":"ConfigMap","apiVersion":"v1","#,
                        "",
                        1,
                    )
                };
                let items: Vec<_> = api.config_maps.iter().filter(|_| !empty).map(body).collect();
                let text = format!(
                    r#"{{"kind":"ConfigMapList","apiVersion":"v1","metadata":{{"resourceVersion":"{}"}},"items":[{}]}}"#,
                    api.version,
                    items.join(",")
                );
                ApiResponse::json(200, text)
            }
            (Verb::List, _) => ApiResponse::json(200, r#"{"metadata":{"resourceVersion":"1"},"items":null}"#),
            other => panic!("{other:?}"),
        };
        Some(Reply::Answer(
            application.answered(&response).to_answer(message),
            Lane::Urgent,
        ))
    })
}

fn with(names: &[&str], version: u64) -> Arc<Mutex<Api>> {
    let config_maps = names.iter().map(|name| ((*name).to_owned(), version)).collect();
    Arc::new(Mutex::new(Api {
        config_maps,
        version,
        ..Api::default()
    }))
}

async fn connected(api: &Arc<Mutex<Api>>, relist: Duration) -> (Cloud, CutDialer, Edge) {
    let (cloud, dialer) = Cloud::start(&node(), Capabilities::NONE, stock(api.clone()));
    let mut config = config();
    config.prefetch = vec![Scope::all(config_maps())];
    config.relist = relist;
    let edge = Edge::start(config, dialer.clone());
    (cloud, dialer, edge)
}

const NEVER: Duration = Duration::from_secs(3600);

async fn asked(api: &Arc<Mutex<Api>>, what: &str) {
    let found = async {
        while !api.lock().unwrap().asked.iter().any(|asked| asked == what) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let result = tokio::time::timeout(Duration::from_secs(10), found).await;
    assert!(
        result.is_ok(),
        "{what} is not among {:?}",
        api.lock().unwrap().asked
    );
}

const WATCH: &str =
    "sync /apiextensions.k8s.io/v1/customresourcedefinitions/null/null /core/v1/configmaps/null/null";

#[tokio::test]
async fn a_scope_is_listed_and_then_watched_and_is_complete() {
    let api = with(&["a", "b"], 5);
    let (_cloud, _, edge) = connected(&api, NEVER).await;
    edge.coverage(&Scope::all(config_maps()), Coverage::Complete)
        .await;
    edge.names(&config_maps(), &["a", "b"]).await;
    let stored = edge.store.get(&config_map_key("a")).unwrap();
    assert_eq!(stored.object.body, config_map("a", 5, "x"), "with its kind");
    asked(&api, WATCH).await;
    let asked = api.lock().unwrap().asked.clone();
    let at = |what: &str| asked.iter().position(|a| a.starts_with(what)).unwrap();
    assert!(at("list configmaps") < at("sync") && at("list pods") < at("list configmaps"));
    assert!(at("list customresourcedefinitions") < at("list configmaps"));
    assert!(
        !asked.iter().any(|a| a.starts_with("watch pods")),
        "these come unasked"
    );
}

#[tokio::test]
async fn what_was_deleted_during_an_outage_goes_and_the_watches_are_named_again() {
    let api = with(&["a", "b"], 5);
    let (_cloud, dialer, edge) = connected(&api, NEVER).await;
    edge.names(&config_maps(), &["a", "b"]).await;
    asked(&api, WATCH).await;
    {
        let mut api = api.lock().unwrap();
        api.config_maps = [("b".to_owned(), 7), ("c".to_owned(), 8)].into();
        api.version = 8;
        api.asked.clear();
    }
    dialer.cut();
    edge.names(&config_maps(), &["b", "c"]).await;
    asked(&api, WATCH).await;
    let asked = api.lock().unwrap().asked.clone();
    let at = |what: &str| asked.iter().position(|a| a.starts_with(what)).unwrap();
    assert!(
        at("list configmaps") < at("sync"),
        "no kind is watched that may be gone: {asked:?}"
    );
}

#[tokio::test]
async fn lists_find_what_watches_lost() {
    let api = with(&["a", "b"], 5);
    let (_cloud, _, edge) = connected(&api, Duration::from_millis(40)).await;
    edge.names(&config_maps(), &["a", "b"]).await;
    {
        let mut api = api.lock().unwrap();
        api.config_maps.remove("a");
        api.version = 9;
    }
    edge.names(&config_maps(), &["b"]).await;
}

#[tokio::test]
async fn an_object_newer_than_the_list_is_not_missed_by_it() {
    let api = with(&["a"], 5);
    let (mut cloud, dialer, edge) = connected(&api, NEVER).await;
    edge.names(&config_maps(), &["a"]).await;
    cloud
        .push(
            "insert",
            "shop/configmap/new",
            Some(9),
            &config_map("new", 9, "x"),
        )
        .await;
    cloud.wait_delivered("shop/configmap/new").await;
    api.lock().unwrap().asked.clear();
    dialer.cut();
    asked(&api, "list configmaps ").await;
    edge.names(&config_maps(), &["a", "new"]).await;
}

#[tokio::test]
async fn an_empty_answer_of_a_broken_cloud_does_not_wipe_the_node() {
    let names: Vec<_> = (0..30).map(|i| format!("o{i:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let api = with(&names, 5);
    let (_cloud, dialer, edge) = connected(&api, NEVER).await;
    edge.names(&config_maps(), &names).await;
    asked(&api, WATCH).await;
    {
        let mut api = api.lock().unwrap();
        api.empty_lists = 3;
        api.asked.clear();
    }
    dialer.cut();
    let lists = |api: &Arc<Mutex<Api>>| {
        api.lock()
            .unwrap()
            .asked
            .iter()
            .filter(|a| a.starts_with("list configmaps"))
            .count()
    };
    let mut held_back = edge.handle.held_back();
    let doubt = within("a doubt", held_back.wait_for(|doubts| !doubts.is_empty())).await;
    assert_eq!(doubt.unwrap()[0].deletions, 30);
    within("three empty lists and a good one", async {
        while lists(&api) < 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let over = within("its end", held_back.wait_for(|doubts| doubts.is_empty())).await;
    assert!(over.is_ok());
    edge.names(&config_maps(), &names).await;
}

#[tokio::test]
async fn an_unknown_kind_is_never_watched_and_a_forbidden_one_is_dropped() {
    let api = with(&[], 5);
    let (_cloud, _, edge) = connected(&api, NEVER).await;
    let widgets = Scope::all(GroupVersionResource::new("example.com", "v1", "widgets"));
    let secrets = Scope::all(GroupVersionResource::core("secrets"));
    for scope in [&widgets, &secrets] {
        edge.store.apply(vec![Change::Want(scope.clone())]).await.unwrap();
    }
    edge.coverage(&secrets, Coverage::Absent).await;
    asked(&api, "list widgets ").await;
    asked(&api, WATCH).await;
    assert_eq!(edge.store.coverage(&widgets), Coverage::Loading);
    assert!(
        !api.lock()
            .unwrap()
            .asked
            .iter()
            .any(|a| a.starts_with("watch widgets") || a.starts_with("watch secrets"))
    );
}

#[tokio::test]
async fn a_scope_that_is_wanted_later_is_listed_and_watched_alone() {
    let api = with(&["a"], 5);
    let (_cloud, _, edge) = connected(&api, NEVER).await;
    asked(&api, WATCH).await;
    api.lock().unwrap().asked.clear();
    let scope = Scope {
        labels: "app=web".into(),
        ..Scope::all(GroupVersionResource::core("services"))
    };
    edge.store.apply(vec![Change::Want(scope)]).await.unwrap();
    let options =
        "labelSelector=app%3Dweb&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true";
    asked(&api, &format!("watch services {options}")).await;
    assert_eq!(api.lock().unwrap().asked.len(), 2);
}

#[tokio::test]
async fn a_kind_that_went_away_during_an_outage_is_not_named_again() {
    let api = with(&["a"], 5);
    let (_cloud, dialer, _edge) = connected(&api, NEVER).await;
    asked(&api, WATCH).await;
    {
        let mut api = api.lock().unwrap();
        api.gone = true;
        api.asked.clear();
    }
    dialer.cut();
    asked(
        &api,
        "sync /apiextensions.k8s.io/v1/customresourcedefinitions/null/null",
    )
    .await;
}

#[tokio::test]
async fn a_scope_nobody_wants_any_more_is_named_no_more() {
    let api = with(&["a"], 5);
    let (_cloud, _, edge) = connected(&api, NEVER).await;
    asked(&api, WATCH).await;
    edge.store
        .apply(vec![Change::Drop(Scope::all(config_maps()))])
        .await
        .unwrap();
    asked(
        &api,
        "sync /apiextensions.k8s.io/v1/customresourcedefinitions/null/null",
    )
    .await;
}
