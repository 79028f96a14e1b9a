//! Watches: shared, resumed, healed, closed.

use std::time::Duration;

use cloudhub::cluster::Cluster;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::scope::Scope;
use serde_json::{Value, json};

use crate::server::{Mood, Server};
use crate::view::{View, within};

fn config_maps() -> GroupVersionResource {
    GroupVersionResource::core("configmaps")
}

fn all() -> Scope {
    Scope::all(config_maps())
}

fn lists(server: &Server) -> usize {
    server
        .seen(|line| {
            line.contains("/configmaps?") && (line.contains("limit=") || line.contains("sendInitialEvents"))
        })
        .len()
}

fn watches(server: &Server) -> Vec<String> {
    let seen = server.seen(|line| line.contains("configmaps?") && line.contains("watch=true"));
    seen.into_iter().map(|seen| seen.line).collect()
}

#[tokio::test]
async fn a_server_that_is_back_is_heard_at_once_however_long_the_pause_was_to_be() {
    let server = Server::new();
    server.put("a", "x", "1").await;
    let cluster = server.cluster_with(|config| {
        config.backoff.first = Duration::from_secs(600);
        config.backoff.max = Duration::from_secs(600);
    });
    let mut view = View::of(&cluster, all());
    view.synced().await;
    server.mood(Mood::Away);
    server.cut();
    within("a long silence", async {
        while cluster
            .silence()
            .is_none_or(|silence| silence < Duration::from_secs(4))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    server.mood(Mood::Good);
    server.put("b", "x", "1").await;
    // Whoever is answered: a node that renews its lease, say.
    cluster
        .get(ObjectKey::new(config_maps(), Some("default"), "a"))
        .await
        .unwrap();
    view.until("what came meanwhile", |view| view.names() == ["a", "b"])
        .await;
    assert_eq!((view.restarts, view.gone.len()), (0, 0));
}

#[tokio::test]
async fn what_is_there_and_what_changes_is_told_with_what_it_was_before() {
    let server = Server::new();
    server.put("a", "x", "1").await;
    let mut view = View::of(&server.cluster(), all());
    view.synced().await;
    assert_eq!(view.names(), ["a"]);
    let body: Value = serde_json::from_slice(&view.objects.values().next().unwrap().body).unwrap();
    assert_eq!(
        (&body["kind"], &body["apiVersion"]),
        (&json!("ConfigMap"), &json!("v1"))
    );

    let newer = server.put("a", "x", "2").await;
    let version = newer["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    view.until("the change", |view| {
        view.objects.values().any(|o| o.version.as_str() == version)
    })
    .await;
    server.put("b", "x", "1").await;
    server.delete("a").await;
    view.until("the end of a", |view| view.names() == ["b"]).await;
    assert!(view.gone[0].version.number() > view.objects.values().next().unwrap().version.number());
    assert_eq!(view.restarts, 0);
}

#[tokio::test]
async fn one_watch_serves_all_who_want_a_part_of_it() {
    let server = Server::new();
    let cluster = server.cluster();
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        server.put(name, label, "1").await;
    }
    let mut whole = View::of(&cluster, all());
    whole.synced().await;
    let mut labelled = View::of(
        &cluster,
        Scope {
            labels: "app=x".into(),
            ..all()
        },
    );
    let mut named = View::of(
        &cluster,
        Scope {
            fields: "metadata.name=b".into(),
            ..all()
        },
    );
    let mut one = View::of(
        &cluster,
        Scope::object(&ObjectKey::new(config_maps(), Some("default"), "c")),
    );
    let mut elsewhere = View::of(&cluster, Scope::namespaced(config_maps(), "kube-system"));
    for view in [&mut labelled, &mut named, &mut one, &mut elsewhere] {
        view.synced().await;
    }
    assert_eq!(
        (labelled.names(), named.names(), one.names()),
        (vec!["a", "c"], vec!["b"], vec!["c"])
    );
    assert!(!elsewhere.names().contains(&"a"));
    server.put("a", "y", "2").await;
    labelled.until("a to leave", |view| view.names() == ["c"]).await;
    server.put("b", "x", "2").await;
    labelled
        .until("b to come", |view| view.names() == ["b", "c"])
        .await;
    assert_eq!(watches(&server).len(), 1, "{:?}", watches(&server));
}

#[tokio::test]
async fn few_parts_are_watched_as_parts_and_many_as_a_whole() {
    let server = Server::new();
    let cluster = server.cluster_with(|config| config.narrow_watches_max = 2);
    for name in ["a", "b", "c", "d"] {
        server.put(name, "x", "1").await;
    }
    let part = |name| Scope::object(&ObjectKey::new(config_maps(), Some("default"), name));
    let mut views = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let mut view = View::of(&cluster, part(name));
        view.synced().await;
        assert_eq!(view.names(), [name]);
        views.push(view);
    }
    let seen = watches(&server);
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(
        seen[0].contains("/namespaces/default/configmaps?fieldSelector=metadata.name%3Da"),
        "{seen:?}"
    );
    assert!(seen[2].contains("/api/v1/configmaps?watch"), "{seen:?}");
}

#[tokio::test]
async fn parts_are_watched_where_the_whole_is_forbidden() {
    let server = Server::new();
    let cluster = server.cluster_with(|config| config.narrow_watches_max = 0);
    server.put("a", "x", "1").await;
    server.mood(Mood::Forbids("/api/v1/configmaps?"));
    let mut whole = View::of(&cluster, all());
    whole.until("the refusal", |view| view.refused.is_some()).await;
    assert_eq!(whole.refused.unwrap().code, 403);
    let missing: Vec<_> = cluster.missing_rights().iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        [r#"- {apiGroups: [""], resources: ["configmaps"], verbs: ["get", "list", "watch"]}"#]
    );
    let mut part = View::of(&cluster, Scope::namespaced(config_maps(), "default"));
    part.synced().await;
    assert_eq!(part.names(), ["a"]);
    let mut pods = View::of(&cluster, Scope::all(GroupVersionResource::core("pods")));
    pods.synced().await;

    server.mood(Mood::Good);
    View::of(&cluster, all()).synced().await;
    assert_eq!(cluster.missing_rights(), []);
}

#[tokio::test]
async fn a_broken_watch_goes_on_where_it_was() {
    let server = Server::new();
    server.put("a", "x", "1").await;
    let mut view = View::of(&server.cluster(), all());
    view.synced().await;
    let listed = lists(&server);
    for round in 0..3 {
        server.mood(Mood::Away);
        server.cut();
        server.put("a", "x", &format!("while away {round}")).await;
        server.delete("b").await;
        server.put("b", "x", "1").await;
        server.mood(Mood::Good);
        let text = format!("while away {round}");
        view.until("what was missed", |view| {
            view.names() == ["a", "b"]
                && view
                    .objects
                    .values()
                    .any(|o| String::from_utf8_lossy(&o.body).contains(&text))
        })
        .await;
    }
    assert_eq!(
        (lists(&server), view.restarts),
        (listed, 0),
        "nothing was listed anew"
    );
}

#[tokio::test]
async fn an_expired_version_is_healed_by_a_list_without_false_deletions() {
    let server = Server::new();
    for name in ["a", "b", "c"] {
        server.put(name, "x", "1").await;
    }
    let mut view = View::of(&server.cluster(), all());
    view.synced().await;
    let listed = lists(&server);
    server.mood(Mood::Expired);
    server.cut();
    server.delete("b").await;
    server.put("d", "x", "1").await;
    view.until("the truth", |view| view.names() == ["a", "c", "d"])
        .await;
    assert!(lists(&server) > listed);
    let gone: Vec<_> = view.gone.iter().map(|object| &*object.key.name).collect();
    assert_eq!(gone, ["b"], "told once, and nothing else");
}

#[tokio::test]
async fn nothing_is_deleted_by_garbage_silence_or_refusals() {
    let server = Server::new();
    for name in ["a", "b"] {
        server.put(name, "x", "1").await;
    }
    let cluster = server.cluster_with(|config| config.request_deadline = Duration::from_millis(100));
    let mut view = View::of(&cluster, all());
    view.synced().await;
    for mood in [
        Mood::Garbage("<html>welcome</html>"),
        Mood::Garbage("{}"),
        Mood::Garbage(r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":[]}"#),
        Mood::Garbage(r#"{"kind":"Status","status":"Success"}"#),
        Mood::Garbage("{\"type\":\"DELETED\",\"object\":{}}\n{\"type\":\"ADDED\"}\n"),
        Mood::Cut,
        Mood::Away,
        Mood::Busy,
        Mood::Proxy,
        Mood::Slow(Duration::from_millis(300)),
        Mood::Forbids("configmaps"),
    ] {
        server.mood(mood.clone());
        server.cut();
        let asked = server.seen(|line| line.contains("/configmaps?")).len();
        let again = async {
            while server.seen(|line| line.contains("/configmaps?")).len() < asked + 6 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within(&format!("asking again in {mood:?}"), again).await;
        view.read_now();
        assert_eq!((view.names(), view.gone.len()), (vec!["a", "b"], 0), "{mood:?}");
        let mut late = View::of(&cluster, all());
        late.synced().await;
        assert_eq!(late.names(), ["a", "b"], "what is held is served in {mood:?}");
    }
    server.mood(Mood::Good);
    server.put("c", "x", "1").await;
    view.until("c", |view| view.names() == ["a", "b", "c"]).await;
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_listed_in_pages() {
    let server = Server::new();
    for at in 0..25 {
        server.put(&format!("m{at:02}"), "x", "1").await;
    }
    server.mood(Mood::NoStreams);
    let cluster = server.cluster_with(|config| config.page_objects = 10);
    let mut view = View::of(&cluster, all());
    view.synced().await;
    assert!(view.names().iter().filter(|name| name.starts_with('m')).count() == 25);
    let pages = server.seen(|line| line.contains("/configmaps?") && line.contains("limit=10"));
    assert!(
        pages.len() >= 3 && pages.iter().any(|page| page.line.contains("continue=")),
        "{pages:?}"
    );
    server.put("z", "x", "1").await;
    view.until("z", |view| view.names().contains(&"z")).await;
}

#[tokio::test]
async fn a_streaming_list_takes_one_request() {
    let server = Server::new();
    server.put("a", "x", "1").await;
    let cluster = server.cluster();
    within("discovery", async {
        while server.seen(|line| line.contains("/apis")).is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let mut view = View::of(&cluster, all());
    view.synced().await;
    let seen = watches(&server);
    assert!(
        seen.len() == 1 && seen[0].contains("sendInitialEvents=true"),
        "{seen:?}"
    );
    server.put("b", "x", "1").await;
    view.until("b, on the same stream", |view| view.names().contains(&"b"))
        .await;
    assert_eq!(watches(&server).len(), 1);
}

#[tokio::test]
async fn a_watch_that_nobody_reads_is_closed_after_a_while() {
    let server = Server::new();
    let cluster = server.cluster();
    let mut registry = prometheus_client::registry::Registry::default();
    cluster.register_metrics(&mut registry);
    let watches = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("cluster_watches "));
        line.unwrap().parse::<u32>().unwrap()
    };
    let mut first = View::of(&cluster, all());
    first.synced().await;
    let second = View::of(&cluster, all());
    assert_eq!(watches(), 1);
    drop(second);
    server.put("a", "x", "1").await;
    first.until("a", |view| view.names() == ["a"]).await;
    drop(first);
    within("the end of the watch", async {
        while watches() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut again = View::of(&cluster, all());
    again.synced().await;
    assert_eq!((again.names(), watches()), (vec!["a"], 1));
}

#[tokio::test]
async fn kinds_appear_and_vanish_with_their_definitions() {
    let server = Server::new();
    let cluster = server.cluster();
    let widgets = GroupVersionResource::new("demo.example.com", "v1", "widgets");
    let known = |wanted: bool| {
        let (cluster, widgets) = (cluster.clone(), widgets.clone());
        async move {
            while cluster.registry().by_resource(&widgets).is_some() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let mut early = View::of(&cluster, Scope::all(widgets.clone()));
    early.until("a refusal", |view| view.refused.is_some()).await;
    assert_eq!(early.refused.unwrap().code, 404);
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let definition = json!({
        "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": { "name": "widgets.demo.example.com" },
        "spec": {
            "group": "demo.example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
        },
    });
    let create =
        hub_core::api::ApiRequest::resource(hub_core::api::Verb::Create, definitions.clone(), None, None)
            .with_body("application/json", definition.to_string());
    let answer = server.truth.execute(create).await.unwrap();
    assert_eq!(answer.code, 201, "{answer:?}");
    within("the kind", known(true)).await;
    let kind = cluster.registry().by_resource(&widgets).unwrap();
    assert!(kind.custom && kind.namespaced && &*kind.singular == "widget");
    assert_eq!(
        kind.subresources.iter().map(|s| &*s.name).collect::<Vec<_>>(),
        ["status"]
    );
    let pods = cluster
        .registry()
        .by_resource(&GroupVersionResource::core("pods"))
        .unwrap();
    assert!(!pods.custom && pods.selectable_fields.contains(&"spec.nodeName".into()));
    View::of(&cluster, Scope::all(widgets.clone())).synced().await;

    let delete = hub_core::api::ApiRequest::resource(
        hub_core::api::Verb::Delete,
        definitions,
        None,
        Some("widgets.demo.example.com"),
    );
    server.truth.execute(delete).await.unwrap();
    within("the kind's end", known(false)).await;
}
