//! What the recordings do not show.

use std::collections::HashSet;

use cloudhub::cluster::Cluster;
use futures::future::join_all;
use hub_core::api::{ApiRequest, Target, User, Verb};
use hub_core::object::GroupVersionResource;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{World, parse, request};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({"metadata":{"name":name},"spec":{"containers":[{"name":"c","image":"i"}]}});
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

#[tokio::test]
async fn a_new_cluster_has_its_namespaces_each_with_an_account() {
    let world = World::new();
    let namespaces = world.ok("GET", "/api/v1/namespaces", ()).await;
    let names: Vec<_> = namespaces["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| &n["metadata"]["name"])
        .collect();
    assert_eq!(
        names,
        ["default", "kube-node-lease", "kube-public", "kube-system"]
    );
    world
        .ok(
            "GET",
            "/api/v1/namespaces/kube-system/serviceaccounts/default",
            (),
        )
        .await;
    let (code, status) = world
        .call(
            "POST",
            "/api/v1/namespaces/absent/configmaps",
            json!({"metadata":{"name":"a"}}),
        )
        .await;
    assert_eq!(
        (code, &status["message"]),
        (404, &json!("namespaces \"absent\" not found"))
    );
}

#[tokio::test]
async fn many_writers_of_one_object_lose_no_update() {
    let world = World::new();
    world
        .ok(
            "POST",
            CONFIG_MAPS,
            json!({"metadata":{"name":"n"},"data":{"n":"0"}}),
        )
        .await;
    let path = format!("{CONFIG_MAPS}/n");
    let add = async || loop {
        let mut value = world.ok("GET", &path, ()).await;
        let n: u32 = value["data"]["n"].as_str().unwrap().parse().unwrap();
        value["data"]["n"] = (n + 1).to_string().into();
        match world.call("PUT", &path, value).await {
            (200, _) => return,
            (409, status) => assert_eq!(status["reason"], "Conflict"),
            other => panic!("{other:?}"),
        }
    };
    join_all((0..8).map(|_| async {
        for _ in 0..5 {
            add().await;
        }
    }))
    .await;
    assert_eq!(world.ok("GET", &path, ()).await["data"]["n"], "40");
}

#[tokio::test]
async fn the_status_and_the_rest_have_doors_of_their_own() {
    let world = World::new();
    world.ok("POST", PODS, pod("p", None)).await;
    let path = format!("{PODS}/p");
    let patch = json!({"metadata":{"labels":{"a":"b"}},"spec":{"activeDeadlineSeconds":9},"status":{"phase":"Running"}});
    let main = world.ok("PATCH", &path, ("merge-patch", patch.clone())).await;
    assert_eq!(
        (&main["status"]["phase"], &main["spec"]["activeDeadlineSeconds"]),
        (&json!("Pending"), &json!(9))
    );
    assert_eq!(main["metadata"]["generation"], 2);
    let patch = json!({"spec":{"activeDeadlineSeconds":5},"status":{"phase":"Running"}});
    let status = world
        .ok(
            "PATCH",
            &format!("{path}/status"),
            ("strategic-merge-patch", patch),
        )
        .await;
    assert_eq!(
        (
            &status["status"]["phase"],
            &status["spec"]["activeDeadlineSeconds"]
        ),
        (&json!("Running"), &json!(9))
    );
    assert_eq!(status["metadata"]["generation"], 2);
    let version = status["metadata"]["resourceVersion"].clone();
    let same = world.ok("PATCH", &path, ("merge-patch", json!({}))).await;
    assert_eq!(
        same["metadata"]["resourceVersion"], version,
        "no change is no new version"
    );
}

#[tokio::test]
async fn a_running_pod_goes_when_its_kubelet_says_so() {
    let world = World::new();
    world.ok("POST", PODS, pod("p", None)).await;
    let binding = json!({"metadata":{"name":"p"},"target":{"kind":"Node","name":"edge-1"}});
    world.ok("POST", &format!("{PODS}/p/binding"), binding).await;
    let path = format!("{PODS}/p");
    let going = world.ok("DELETE", &path, json!({"gracePeriodSeconds":7})).await;
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 7);
    let (code, held) = world.get(&path).await;
    assert_eq!(
        (code, &held["metadata"]["deletionTimestamp"]),
        (200, &going["metadata"]["deletionTimestamp"])
    );
    world.ok("DELETE", &path, json!({"gracePeriodSeconds":0})).await;
    assert_eq!(world.get(&path).await.0, 404);
}

#[tokio::test]
async fn a_namespace_goes_with_its_content_and_not_before_it() {
    let world = World::new();
    world
        .ok("POST", "/api/v1/namespaces", json!({"metadata":{"name":"shop"}}))
        .await;
    let inside = |path: &str| format!("/api/v1/namespaces/shop/{path}");
    world
        .ok("POST", &inside("configmaps"), json!({"metadata":{"name":"free"}}))
        .await;
    world
        .ok(
            "POST",
            &inside("configmaps"),
            json!({"metadata":{"name":"held","finalizers":["a.io/b"]}}),
        )
        .await;
    world.ok("POST", &inside("pods"), pod("p", Some("edge-1"))).await;
    let going = world.ok("DELETE", "/api/v1/namespaces/shop", ()).await;
    assert_eq!(going["status"]["phase"], "Terminating");
    assert_eq!(world.get(&inside("configmaps/free")).await.0, 404);
    let (code, status) = world
        .call("POST", &inside("configmaps"), json!({"metadata":{"name":"late"}}))
        .await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["reason"]),
        (403, &json!("NamespaceTerminating"))
    );
    world
        .ok(
            "PATCH",
            &inside("configmaps/held"),
            ("merge-patch", json!({"metadata":{"finalizers":null}})),
        )
        .await;
    assert_eq!(world.get(&inside("configmaps/held")).await.0, 404);
    assert_eq!(
        world.get("/api/v1/namespaces/shop").await.0,
        200,
        "the pod still runs"
    );
    world
        .ok("DELETE", &inside("pods/p"), json!({"gracePeriodSeconds":0}))
        .await;
    assert_eq!(world.get("/api/v1/namespaces/shop").await.0, 404);
    assert_eq!(
        world.ok("GET", &inside("serviceaccounts"), ()).await["items"],
        json!([])
    );
}

#[tokio::test]
async fn custom_kinds_come_and_go_with_their_definition() {
    let world = World::new();
    let widgets = "/apis/g.io/v1/namespaces/default/widgets";
    assert_eq!(world.get(widgets).await.0, 404);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({"metadata":{"name":"widgets.g.io"},"spec":{"group":"g.io","scope":"Namespaced",
        "names":{"plural":"widgets","kind":"Widget"},"versions":[{"name":"v1","served":true,"storage":true,
            "schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}});
    world.ok("POST", definitions, definition.clone()).await;
    let made = world.get(&format!("{definitions}/widgets.g.io")).await.1;
    let established = |c: &Value| c["type"] == "Established" && c["status"] == "True";
    assert!(
        made["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .any(established),
        "{made}"
    );
    assert_eq!(made["status"]["acceptedNames"]["listKind"], "WidgetList");
    let widget = json!({"kind":"Widget","apiVersion":"g.io/v1","metadata":{"name":"w"},"spec":{"n":1}});
    let made = world.ok("POST", widgets, widget).await;
    assert_eq!(made["metadata"]["generation"], 1);
    let changed = world
        .ok(
            "PATCH",
            &format!("{widgets}/w"),
            ("merge-patch", json!({"spec":{"n":2}})),
        )
        .await;
    assert_eq!(changed["metadata"]["generation"], 2);
    world
        .ok("DELETE", &format!("{definitions}/widgets.g.io"), ())
        .await;
    assert_eq!(world.get(widgets).await.0, 404);
    world.ok("POST", definitions, definition).await;
    assert_eq!(
        world.ok("GET", widgets, ()).await["items"],
        json!([]),
        "the old objects are gone"
    );
}

#[tokio::test]
async fn services_get_addresses_of_their_own_for_life() {
    let world = World::new();
    let services = "/api/v1/namespaces/default/services";
    let mut addresses = HashSet::new();
    for n in 0..20 {
        let service = json!({"metadata":{"name":format!("s{n}")},"spec":{"ports":[{"port":80}]}});
        let made = world.ok("POST", services, service).await;
        assert!(addresses.insert(made["spec"]["clusterIP"].as_str().unwrap().to_owned()));
    }
    let held = world.ok("GET", &format!("{services}/s0"), ()).await;
    let service = json!({"metadata":{"name":"s0"},"spec":{"ports":[{"port":81}]}});
    let kept = world.ok("PUT", &format!("{services}/s0"), service).await;
    assert_eq!(kept["spec"]["clusterIP"], held["spec"]["clusterIP"]);
    let taken = &held["spec"]["clusterIP"];
    let second = json!({"metadata":{"name":"second"},"spec":{"clusterIP":taken,"ports":[{"port":80}]}});
    let (code, refused) = world.call("POST", services, second.clone()).await;
    let why = "provided IP is already allocated";
    assert_eq!(code, 422);
    assert!(refused["message"].as_str().unwrap().ends_with(why), "{refused}");
    world.ok("DELETE", &format!("{services}/s0"), ()).await;
    // What was given back can be had.
    world.ok("POST", services, second).await;
    let headless = json!({"metadata":{"name":"h"},"spec":{"clusterIP":"None"}});
    assert_eq!(
        world.ok("POST", services, headless).await["spec"]["clusterIPs"],
        json!(["None"])
    );
    let patch = ("merge-patch", json!({"spec":{"clusterIP":"10.96.7.7"}}));
    assert_eq!(world.call("PATCH", &format!("{services}/s1"), patch).await.0, 422);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let world = World::new();
    world
        .ok(
            "POST",
            CONFIG_MAPS,
            json!({"metadata":{"name":"a"},"data":{"k":"1"}}),
        )
        .await;
    let before = world.ok("GET", "/api/v1/configmaps", ()).await;
    world
        .ok(
            "POST",
            &format!("{CONFIG_MAPS}?dryRun=All"),
            json!({"metadata":{"name":"b"}}),
        )
        .await;
    world
        .ok(
            "PATCH",
            &format!("{CONFIG_MAPS}/a?dryRun=All"),
            ("merge-patch", json!({"data":null})),
        )
        .await;
    world
        .ok("DELETE", &format!("{CONFIG_MAPS}/a?dryRun=All"), ())
        .await;
    world
        .ok("DELETE", &format!("{CONFIG_MAPS}/a"), json!({"dryRun":["All"]}))
        .await;
    world.ok("DELETE", &format!("{CONFIG_MAPS}?dryRun=All"), ()).await;
    assert_eq!(world.ok("GET", "/api/v1/configmaps", ()).await, before);
}

#[tokio::test]
async fn a_review_is_answered_about_who_asks() {
    let world = World::new();
    let ask = async |user: Option<User>, kind: &str, group: &str, spec: Value| {
        let resource = GroupVersionResource::new(group, "v1", format!("{}s", kind.to_lowercase()));
        let target = Target::Resource {
            resource,
            namespace: None,
            name: None,
            subresource: None,
        };
        let body = json!({"kind":kind,"apiVersion":format!("{group}/v1"),"spec":spec}).to_string();
        let request = ApiRequest {
            user,
            ..ApiRequest::new(Verb::Create, target).with_body("application/json", body)
        };
        let answer = world.cluster.execute(request).await.unwrap();
        assert_eq!(answer.code, 201, "{answer:?}");
        parse(&answer)["status"].clone()
    };
    let node = User {
        name: "system:node:edge-1".into(),
        groups: vec!["system:nodes".into()],
        ..User::default()
    };
    let who = ask(
        Some(node.clone()),
        "SelfSubjectReview",
        "authentication.k8s.io",
        json!({}),
    )
    .await;
    assert_eq!(who["userInfo"]["username"], "system:node:edge-1");
    let all = json!({ "resourceAttributes": { "verb": "*", "group": "*", "resource": "*" } });
    let may = |user| {
        ask(
            user,
            "SelfSubjectAccessReview",
            "authorization.k8s.io",
            all.clone(),
        )
    };
    assert_eq!(may(None).await["allowed"], true);
    assert_eq!(may(Some(node)).await["allowed"], false);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let world = World::new();
    let large = vec![b' '; (3 << 20) + 1];
    let large = request("POST", CONFIG_MAPS, "application/json", large.into());
    assert_eq!(world.cluster.execute(large).await.unwrap().code, 413);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever bytes come, by whatever door: an answer, and the cluster lives on.
    #[test]
    fn no_request_can_make_it_panic(
        bodies in prop::collection::vec((any::<prop::sample::Index>(), json()), 1..12),
        raw: Vec<u8>,
    ) {
        let doors = [
            ("POST", CONFIG_MAPS, "application/json"),
            ("PUT", "/api/v1/namespaces/default/configmaps/a", "application/json"),
            ("PATCH", "/api/v1/namespaces/default/pods/p", "application/strategic-merge-patch+json"),
            ("PATCH", "/api/v1/namespaces/default/pods/p", "application/merge-patch+json"),
            ("PATCH", "/api/v1/namespaces/default/pods/p/status", "application/strategic-merge-patch+json"),
            ("PATCH", "/api/v1/namespaces/default/pods/p", "application/json-patch+json"),
            ("POST", PODS, "application/json"),
            ("POST", "/api/v1/namespaces/default/services", "application/json"),
            ("POST", "/api/v1/namespaces/default/secrets", "application/json"),
            ("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "application/json"),
            ("POST", "/api/v1/namespaces/default/pods/p/binding", "application/json"),
            ("POST", "/api/v1/namespaces/default/pods/p/eviction", "application/json"),
            ("DELETE", "/api/v1/namespaces/default/pods/p", "application/json"),
            ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "application/json"),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            world.ok("POST", PODS, pod("p", None)).await;
            for (door, body) in bodies {
                let (method, path, media_type) = doors[door.index(doors.len())];
                for bytes in [body.to_string().into_bytes(), raw.clone()] {
                    let answer = world.cluster.execute(request(method, path, media_type, bytes.into())).await;
                    prop_assert!(answer.is_ok());
                }
            }
            world.ok("POST", CONFIG_MAPS, json!({"metadata":{"generateName":"alive-"}})).await;
            Ok(())
        })?;
    }
}

/// JSON that looks like objects and patches.
fn json() -> impl Strategy<Value = Value> {
    let words = "(metadata|name|namespace|labels|finalizers|spec|status|phase|conditions|type|containers|ports|data|stringData|names|plural|group|versions|clusterIP|target|op|path|value|\\$patch|\\$retainKeys|\\$setElementOrder/conditions|nodeName|a)";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(a|p|delete|replace|add|remove|/spec|/metadata/name|default|[a-z]{1,3})".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 4, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => prop::collection::btree_map(words, inner, 0..5)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

#[tokio::test]
async fn paths_that_a_node_passes_through_are_answered() {
    let world = World::new();
    let get = async |path: &str| {
        let request = ApiRequest::new(Verb::Get, Target::Path(path.into()));
        world.cluster.execute(request).await.unwrap()
    };
    assert_eq!(parse(&get("/version").await)["major"], "1");
    assert_eq!(&*get("/healthz").await.body, b"ok");
    assert_eq!(parse(&get("/api").await)["versions"][0], "v1");
    assert_eq!(parse(&get("/apis/apps/v1").await)["kind"], "APIResourceList");
    assert!(parse(&get("/openapi/v3").await)["paths"]["apis/apps/v1"].is_object());
    assert_eq!(get("/metrics").await.code, 404);
}
