//! What a node reports and asks.

use hub_core::api::{ApiRequest, Verb};
use hub_core::application::Application;
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::node::NodeId;
use hub_core::object::GroupVersionResource;
use hub_core::transport::Capabilities;
use serde_json::{Value, json};

use crate::world::{World, config, node, pod, secret, service};

fn content(value: Value) -> Content {
    Content::encode(&value)
}

fn parsed(message: &Message) -> Value {
    message.content.decode("an answer").unwrap()
}

#[tokio::test]
async fn a_node_joins_as_it_was_recorded_with_a_stock_cloud() {
    let world = World::new();
    let mut edge = world.stock("edge1").await;
    let answer = edge
        .edged(Operation::Insert, "null/node/edge1", content(node("edge1")))
        .await;
    assert_eq!(
        (&*answer.route.source, &*answer.route.group),
        ("edgecontroller", "resource")
    );
    assert_eq!(answer.route.operation, Operation::Response);
    let body = parsed(&answer);
    assert_eq!(body["Err"], Value::Null);
    assert_eq!(body["Object"]["metadata"]["labels"]["kubernetes.io/os"], "linux");
    assert!(body["Object"].get("kind").is_none() && body["Object"].get("apiVersion").is_none());

    let again = edge
        .edged(Operation::Insert, "null/node/edge1", content(node("edge1")))
        .await;
    let body = parsed(&again);
    assert_eq!(body["Err"]["ErrStatus"]["reason"], "AlreadyExists");
    assert_eq!(body["Object"]["metadata"], json!({ "creationTimestamp": null }));
    assert_eq!(
        body["Object"]["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"],
        0
    );

    let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }).to_string();
    let answer = edge
        .edged(Operation::Patch, "null/nodepatch/edge1", Content::string(&status))
        .await;
    assert_eq!(
        parsed(&answer)["Object"]["status"]["conditions"][0]["type"],
        "Ready"
    );
    assert!(answer.header.resource_version.is_some());

    let lease = "kube-node-lease/lease/edge1";
    let absent = parsed(&edge.edged(Operation::Query, lease, Content::null()).await);
    assert_eq!(
        (&absent["Object"], &absent["Err"]["ErrStatus"]["code"]),
        (&Value::Null, &json!(404))
    );
    let new = json!({ "metadata": { "name": "edge1", "namespace": "kube-node-lease", "creationTimestamp": null },
        "spec": { "holderIdentity": "edge1", "leaseDurationSeconds": 40, "renewTime": "2026-11-22T05:29:26.210596Z" } });
    let made = parsed(&edge.edged(Operation::Insert, lease, content(new)).await);
    assert_eq!(made["Err"], Value::Null, "{made}");
    let mut renewed = made["Object"].clone();
    renewed["spec"]["renewTime"] = "2026-11-22T05:29:36.581893Z".into();
    let renewed = parsed(&edge.edged(Operation::Update, lease, content(renewed)).await);
    assert_eq!(
        renewed["Object"]["spec"]["renewTime"], "2026-11-22T05:29:36.581893Z",
        "{renewed}"
    );
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_does_not_make_the_next_one_fail() {
    let world = World::new();
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    let lease = "kube-node-lease/lease/edge-1";
    let new = json!({ "metadata": { "name": "edge-1", "namespace": "kube-node-lease" },
        "spec": { "holderIdentity": "edge-1", "leaseDurationSeconds": 40, "renewTime": "2026-11-22T05:29:26.210596Z" } });
    let made = parsed(&edge.edged(Operation::Insert, lease, content(new)).await);
    let renew = |time: &str| {
        let mut lease = made["Object"].clone();
        lease["spec"]["renewTime"] = time.into();
        content(lease)
    };
    let mut versions = Vec::new();
    for time in ["2026-11-22T05:29:36.000001Z", "2026-11-22T05:29:46.000001Z"] {
        // Both name the version that was made at first: the answer to the first was not heard.
        let renewed = parsed(&edge.edged(Operation::Update, lease, renew(time)).await);
        assert_eq!(renewed["Object"]["spec"]["renewTime"], time, "{renewed}");
        versions.push(renewed["Object"]["metadata"]["resourceVersion"].clone());
    }
    assert_ne!(versions[0], versions[1]);
    // A stock edge reads the lease again by itself.
    let mut stock = world.stock("edge-1").await;
    let refused = parsed(
        &stock
            .edged(Operation::Update, lease, renew("2026-11-22T05:29:56.000001Z"))
            .await,
    );
    assert_eq!(refused["Err"]["ErrStatus"]["code"], 409, "{refused}");
}

#[tokio::test]
async fn a_node_touches_only_what_is_its_own() {
    let world = World::new();
    world.create("nodes", node("edge-2")).await;
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    world.create("secrets", secret("other")).await;
    world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    world.create("pods", pod("far", "edge-2", "blue", "other")).await;
    let mut edge = world.stock("edge-1").await;
    for (operation, resource, content) in [
        (Operation::Patch, "null/nodepatch/edge-2", Content::string("{}")),
        (Operation::Query, "default/secret/other", Content::null()),
        (Operation::Query, "kube-node-lease/lease/edge-2", Content::null()),
        (Operation::Delete, "default/pod/far", Content::null()),
        (Operation::Patch, "default/podpatch/far", Content::string("{}")),
        (
            Operation::Query,
            "default/serviceaccounttoken/robot",
            Content::null(),
        ),
    ] {
        let answer = edge.edged(operation.clone(), resource, content).await;
        assert_eq!(&*answer.route.group, "resource", "an edge drops others");
        let said = match answer.route.operation {
            Operation::Error => answer.content.as_string().unwrap(),
            _ => parsed(&answer)["Err"]["ErrStatus"]["message"].to_string(),
        };
        assert!(said.contains("edge-1 may not"), "{operation} {resource}: {said}");
    }
    let answer = edge
        .edged(Operation::Query, "default/secret/door", Content::null())
        .await;
    let body = parsed(&answer);
    assert_eq!(
        (body["kind"].as_str(), body["metadata"]["name"].as_str()),
        (Some("Secret"), Some("door"))
    );
    assert!(answer.header.resource_version.is_some());
}

#[tokio::test]
async fn a_query_for_what_is_absent_is_an_error_that_no_edge_takes_for_an_object() {
    let world = World::new();
    world.create("secrets", secret("door")).await;
    world
        .create("pods", pod("web", "edge-1", "missing", "door"))
        .await;
    let mut edge = world.stock("edge-1").await;
    edge.until(|held| held.contains_key("default/pod/web")).await;
    let answer = edge
        .edged(Operation::Query, "default/configmap/missing", Content::null())
        .await;
    assert_eq!(answer.route.operation, Operation::Error);
    assert!(answer.content.as_string().unwrap().contains("not found"));
}

/// An error would be told again for ever.
#[tokio::test]
async fn what_an_edge_of_ours_may_not_report_is_denied_for_good() {
    let world = World::new();
    world.create("pods", pod("far", "edge-2", "blue", "other")).await;
    let mut edge = world.connect("edge-1", Capabilities::ALL).await;
    for (operation, resource) in [
        (Operation::Patch, "default/podpatch/far"),
        (Operation::Patch, "null/nodepatch/edge-2"),
        (Operation::Delete, "default/pod/far"),
        (Operation::Update, "kube-node-lease/lease/edge-2"),
        (Operation::Query, "default/secret/other"),
    ] {
        let answer = edge.edged(operation.clone(), resource, content(json!({}))).await;
        assert_eq!(
            answer.route.operation,
            Operation::Response,
            "{operation} {resource}"
        );
        let said = parsed(&answer);
        let status = [&said["ErrStatus"], &said["Err"]["ErrStatus"]];
        assert!(
            status.iter().any(|status| status["code"] == 403),
            "{operation} {resource}: {said}"
        );
    }
    let mut registry = prometheus_client::registry::Registry::default();
    world.hub.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "cloudhub_denied_reports_total{kind=\"podpatch\",code=\"403\"} 1",
        "cloudhub_denied_reports_total{kind=\"nodepatch\",code=\"403\"} 1",
        "cloudhub_denied_reports_total{kind=\"pod\",code=\"403\"} 1",
        "cloudhub_denied_reports_total{kind=\"lease\",code=\"403\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(
        !text.contains("kind=\"other\""),
        "a question is no report: {text}"
    );
}

#[tokio::test]
async fn the_life_of_a_pod_ends_with_the_edges_word() {
    let world = World::new();
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    let created = world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    let uid = created["metadata"]["uid"].as_str().unwrap();
    let mut edge = world.stock("edge-1").await;
    edge.until(|held| held.len() == 3).await;
    let status = json!({ "metadata": { "uid": uid }, "status": { "phase": "Running" } }).to_string();
    let answer = edge
        .edged(Operation::Patch, "default/podpatch/web", Content::string(&status))
        .await;
    assert_eq!(parsed(&answer)["Object"]["status"]["phase"], "Running");
    let options = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } });
    let answer = edge
        .edged(Operation::Delete, "default/pod/web", content(options.clone()))
        .await;
    assert!(answer.content.is_ok(), "{:?}", answer.content);
    edge.until(|held| held.is_empty()).await;
    let again = edge
        .edged(Operation::Delete, "default/pod/web", content(options))
        .await;
    assert!(again.content.is_ok(), "gone is gone");
    // It reports a pod that nobody has: it is told that it is gone.
    edge.edged(Operation::Patch, "default/podpatch/web", Content::string(&status))
        .await;
    edge.seen.clear();
    let told = edge
        .edged(Operation::Patch, "default/podpatch/web", Content::string(&status))
        .await;
    assert_eq!(parsed(&told)["Err"]["ErrStatus"]["reason"], "NotFound");
    while edge.next().await.route.operation != Operation::Delete {}
}

#[tokio::test]
async fn requests_to_the_api_are_executed_as_the_node() {
    let world = World::new();
    world.create("services", service("shop")).await;
    let mut edge = world.stock("edge-1").await;
    let node = edge.node.clone();
    let services = GroupVersionResource::core("services");
    let get = ApiRequest::resource(Verb::Get, services.clone(), Some("default"), Some("shop"));
    let answer = edge
        .ask(
            Application {
                tunnel: None,
                ..Application::request(&node, &get)
            }
            .to_message(),
        )
        .await;
    assert_eq!(
        (&*answer.route.source, answer.route.resource.as_str()),
        ("dynamiccontroller", "ignore/Application/ignore")
    );
    assert_eq!(answer.route.operation, Operation::ApplicationResponse);
    let response = Application::from_content(&answer.content).unwrap().to_response();
    assert_eq!(response.code, 200);

    let delete = ApiRequest::resource(Verb::Delete, services.clone(), Some("default"), Some("shop"));
    let answer = edge.ask(Application::request(&node, &delete).to_message()).await;
    let response = Application::from_content(&answer.content).unwrap().to_response();
    assert_eq!(response.code, 403);
    assert!(String::from_utf8_lossy(&response.body).contains("system:node:edge-1"));

    let watch = ApiRequest::resource(Verb::Watch, services, Some("default"), None);
    let watch = Application {
        tunnel: None,
        ..Application::request(&node, &watch)
    };
    let answer = edge.ask(watch.to_message()).await;
    assert_eq!(
        Application::from_content(&answer.content).unwrap().status,
        "Approved"
    );
    let message = edge.next().await;
    assert_eq!(
        (&*message.route.source, message.route.resource.as_str()),
        ("dynamiccontroller", "default/service/shop")
    );
    // No watch is wanted any more.
    let mut sync = watch.to_message();
    sync.route.resource = "watchapp/sync".into();
    sync.content = content(json!({}));
    let answer = edge.ask(sync).await;
    assert_eq!(
        (answer.route.resource.as_str(), answer.content.bytes().as_ref()),
        ("watchapp/sync", b"{}".as_slice())
    );
    assert_eq!(edge.told(1).await, ["delete default/service/shop"]);
}

#[tokio::test]
async fn what_nobody_serves_is_an_error_and_never_silence() {
    let world = World::new();
    let mut edge = world.stock("edge-1").await;
    for (source, group, operation, resource) in [
        ("edged", "meta", Operation::Query, "default/service/x"),
        ("edged", "meta", Operation::Query, "default/teapot/x"),
        ("edged", "meta", "dance".into(), "default/configmap/x"),
        ("bus", "user", Operation::Upload, "a/topic/of/theirs"),
        (
            "websocket",
            "hub",
            Operation::UpdateNodeActionStatus,
            "task/7/node/edge-1",
        ),
    ] {
        let route = Route::new(source, group, operation, resource);
        let answer = edge.ask(Message::new(route, Content::null())).await;
        assert_eq!(answer.route.operation, Operation::Error, "{resource}");
        assert_ne!(&*answer.route.group, "meta", "an edge drops these");
    }
    let route = Route::new("twin", "resource", Operation::Get, "membership/detail");
    let answer = edge.ask(Message::new(route, Content::string("{}"))).await;
    assert!(answer.content.is_ok(), "else a stock edge asks for ever");
}

#[tokio::test]
async fn a_role_that_is_bound_to_the_nodes_opens_what_their_own_rules_do_not() {
    let world = World::new();
    let mut edge = world.stock("edge1").await;
    let write = ApiRequest::resource(
        Verb::Create,
        GroupVersionResource::core("configmaps"),
        Some("default"),
        None,
    )
    .with_body(
        "application/json",
        json!({"metadata": {"name": "from-the-node"}}).to_string(),
    );
    let ask = Application::request(&NodeId::new("edge1").unwrap(), &write).to_message();
    let code = |answer: Message| {
        Application::from_content(&answer.content)
            .unwrap()
            .to_response()
            .code
    };
    assert_eq!(code(edge.ask(ask.clone()).await), 403);

    let rbac = |kind: &str, object: Value| {
        let resource = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", kind);
        ApiRequest::resource(Verb::Create, resource, None, None)
            .with_body("application/json", object.to_string())
    };
    let role = json!({"metadata": {"name": "writer"},
        "rules": [{"verbs": ["create"], "apiGroups": [""], "resources": ["configmaps"]}]});
    let binding = json!({"metadata": {"name": "writer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]});
    assert_eq!(world.execute(rbac("clusterroles", role)).await.code, 201);
    assert_eq!(
        world.execute(rbac("clusterrolebindings", binding)).await.code,
        201
    );
    let again = Application::request(&NodeId::new("edge1").unwrap(), &write).to_message();
    assert_eq!(code(edge.ask(again).await), 201);
}
