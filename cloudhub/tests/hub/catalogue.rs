//! What a stock edge reports and asks beyond pods, nodes and leases (tunnel specification §6.3, §9).

use hub_core::message::{Content, Message, Operation, Route};
use serde_json::{Value, json};

use crate::world::{Edge, World, config, pod, secret};

fn parsed(message: &Message) -> Value {
    message.content.decode("an answer").unwrap()
}

async fn twin(edge: &mut Edge, operation: Operation, resource: &str, content: Content) -> Message {
    edge.ask(Message::new(
        Route::new("twin", "resource", operation, resource),
        content,
    ))
    .await
}

fn definition(kind: &str, plural: &str) -> Value {
    json!({
        "metadata": { "name": format!("{plural}.devices.kubeedge.io") },
        "spec": { "group": "devices.kubeedge.io", "scope": "Namespaced", "names": { "kind": kind, "plural": plural },
            "versions": [{ "name": "v1beta1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] },
    })
}

fn device(name: &str, node: &str) -> Value {
    json!({
        "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "deviceModelRef": { "name": "m" }, "nodeName": node, "properties": [{ "name": "temp" }, { "name": "power" }] },
    })
}

async fn devices(world: &World, with_statuses: bool) {
    let definitions = "apiextensions.k8s.io/v1/customresourcedefinitions";
    world
        .post(definitions, None, definition("Device", "devices"))
        .await;
    if with_statuses {
        world
            .post(definitions, None, definition("DeviceStatus", "devicestatuses"))
            .await;
    }
    for device in [device("sensor", "edge-1"), device("far", "edge-2")] {
        world
            .post("devices.kubeedge.io/v1beta1/devices", Some("default"), device)
            .await;
    }
}

fn report(value: &str) -> Content {
    Content::encode(&json!({ "event_id": "e", "timestamp": 7, "twin": {
        "temp": { "actual": { "value": value, "metadata": { "timestamp": 7 } }, "metadata": { "type": "int" } },
        "unknown": { "actual": { "value": "x" } }, "gone": null } }))
}

#[tokio::test]
async fn a_devices_report_is_patched_into_its_status_and_confirmed() {
    let world = World::new();
    devices(&world, true).await;
    let mut edge = world.stock("edge-1").await;
    let resource = "device/default/sensor/twin/edge_updated";
    let answer = twin(&mut edge, Operation::Update, resource, report("21")).await;
    let route = &answer.route;
    assert_eq!(
        (
            &*route.source,
            &*route.group,
            route.resource.as_str(),
            route.operation.clone()
        ),
        ("devicecontroller", "twin", "twin", Operation::Response)
    );
    assert!(answer.content.is_ok(), "{:?}", answer.content);
    let state = json!({ "event_id": "e", "timestamp": 8,
        "device": { "name": "sensor", "state": "online", "lastOnlineTime": "2026-11-22T05:30:18Z" } });
    let state = Content::string(&state.to_string());
    let answer = twin(
        &mut edge,
        Operation::Update,
        "device/default/sensor/state/update",
        state,
    )
    .await;
    assert!(answer.content.is_ok(), "{:?}", answer.content);

    let status = world
        .read(
            "devices.kubeedge.io/v1beta1/devicestatuses",
            Some("default"),
            "sensor",
        )
        .await;
    assert_eq!(
        status["status"],
        json!({ "state": "online", "lastOnlineTime": "2026-11-22T05:30:18Z", "twins": [{ "propertyName": "temp",
            "reported": { "value": "21", "metadata": { "timestamp": "7", "type": "int" } }, "observedDesired": { "value": "" } }] })
    );
    assert_eq!(status["metadata"]["ownerReferences"][0]["kind"], "Device");
}

#[tokio::test]
async fn clusters_and_edges_from_before_are_served_too() {
    let world = World::new();
    devices(&world, false).await;
    let mut edge = world.stock("edge-1").await;
    // Before 1.15 devices had no namespace, and before 1.23 their status was their own.
    let answer = twin(
        &mut edge,
        Operation::Update,
        "device/sensor/twin/edge_updated",
        report("22"),
    )
    .await;
    assert!(answer.content.is_ok(), "{:?}", answer.content);
    let device = world
        .read("devices.kubeedge.io/v1beta1/devices", Some("default"), "sensor")
        .await;
    assert_eq!(device["status"]["twins"][0]["reported"]["value"], "22");
}

#[tokio::test]
async fn a_node_reports_of_its_own_devices_only_and_a_refusal_ends_the_asking() {
    let world = World::new();
    let mut edge = world.stock("edge-1").await;
    let far = "device/default/far/twin/edge_updated";
    let without_kinds = twin(&mut edge, Operation::Update, far, report("1")).await;
    devices(&world, true).await;
    let of_another = twin(&mut edge, Operation::Update, far, report("1")).await;
    let absent = twin(
        &mut edge,
        Operation::Update,
        "device/default/absent/twin/edge_updated",
        report("1"),
    )
    .await;
    let malformed = Content::string("no report");
    let malformed = twin(
        &mut edge,
        Operation::Update,
        "device/default/sensor/twin/edge_updated",
        malformed,
    )
    .await;
    for answer in [without_kinds, of_another, absent, malformed] {
        assert_eq!(
            (&answer.route.operation, &*answer.route.group),
            (&Operation::Error, "twin"),
            "only an answer of this group ends the asking of a stock edge"
        );
    }
}

#[tokio::test]
async fn s5_of_many_devices_at_once_a_node_reports_its_own_only_and_hears_which_were_not() {
    let world = World::new();
    devices(&world, true).await;
    let mut edge = world.stock("edge-1").await;
    let line = |id: &str| json!({ "id": id, "twin": { "temp": { "actual": { "value": "5" } } }, "device": { "state": "ok" } });
    let all = ["default/sensor", "default/far", "default/absent", "sensor"].map(line);
    let reports = Content::encode(&json!({ "event_id": "e", "timestamp": 7, "devices": all }));
    let answer = twin(&mut edge, Operation::Update, "twin/reports", reports).await;
    assert_eq!(&*answer.route.group, "twin");
    let answer: serde_json::Value = answer.content.decode("what was not taken").unwrap();
    let refused: Vec<_> = answer["refused"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(refused, ["default/absent", "default/far", "sensor"]);
    assert_eq!(answer["failed"], json!({}));
    let statuses = "devices.kubeedge.io/v1beta1/devicestatuses";
    let status = world.read(statuses, Some("default"), "sensor").await;
    assert_eq!(status["status"]["state"], "ok");
    assert_eq!(status["status"]["twins"][0]["reported"]["value"], "5");
    let mine = Content::encode(&json!({ "devices": [line("default/sensor")] }));
    let answer = twin(&mut edge, Operation::Update, "twin/reports", mine).await;
    assert!(answer.content.is_ok(), "{:?}", answer.content);
}

#[tokio::test]
async fn a_node_that_connects_is_told_of_all_its_devices() {
    let world = World::new();
    devices(&world, true).await;
    let mut edge = world.stock("edge-1").await;
    let asked = json!({ "event_type": "group_membership_event", "event_id": "e", "operation": "detail", "group_id": "edge-1" });
    let asked = Content::string(&asked.to_string());
    let answer = twin(&mut edge, Operation::Get, "membership/detail", asked).await;
    assert!(answer.content.is_ok() && &*answer.route.group == "twin");
    let detail = loop {
        let message = edge.next().await;
        if message.route.resource.as_str() == "membership/detail" {
            break message;
        }
    };
    assert_eq!(
        (&*detail.route.source, &*detail.route.group),
        ("devicecontroller", "twin")
    );
    assert_eq!(detail.header.parent_id, None, "an edge looks into no answer");
    assert_eq!(
        parsed(&detail)["devices"],
        json!([{ "id": "default/sensor", "name": "sensor", "twin": {} }])
    );
}

#[tokio::test]
async fn volumes_are_attached_and_read_by_their_node_only() {
    let world = World::new();
    let mut edge = world.stock("edge-1").await;
    let attachment = |name: &str, node: &str| {
        Content::encode(
            &json!({ "metadata": { "name": name }, "spec": { "attacher": "a", "nodeName": node,
            "source": { "persistentVolumeName": "v" } } }),
        )
    };
    for (operation, name, content, fine) in [
        (Operation::Insert, "mine", attachment("mine", "edge-1"), true),
        (Operation::Insert, "theirs", attachment("theirs", "edge-2"), false),
        (Operation::Insert, "mine", attachment("other", "edge-1"), false),
        (Operation::Query, "mine", Content::null(), true),
        (Operation::Delete, "mine", Content::null(), true),
        (Operation::Delete, "mine", Content::null(), true),
        (Operation::Query, "mine", Content::null(), false),
    ] {
        let resource = format!("default/volumeattachment/{name}");
        let answer = edge.edged(operation.clone(), &resource, content).await;
        let expected = if fine {
            Operation::Response
        } else {
            Operation::Error
        };
        assert_eq!(
            answer.route.operation, expected,
            "{operation} {name}: {:?}",
            answer.content
        );
        assert_eq!(&*answer.route.group, "resource");
    }
    let theirs = json!({ "kind": "VolumeAttachment", "metadata": { "name": "theirs" },
        "spec": { "attacher": "a", "nodeName": "edge-2", "source": { "persistentVolumeName": "v" } } });
    world
        .post("storage.k8s.io/v1/volumeattachments", None, theirs)
        .await;
    let free = json!({ "metadata": { "name": "free" }, "spec": { "accessModes": ["ReadWriteOnce"],
        "capacity": { "storage": "1Gi" }, "hostPath": { "path": "/data" } } });
    world.post("v1/persistentvolumes", None, free).await;
    for (operation, resource) in [
        (Operation::Query, "default/volumeattachment/theirs"),
        (Operation::Delete, "default/volumeattachment/theirs"),
        (Operation::Query, "null/persistentvolume/free"),
    ] {
        let answer = edge.edged(operation, resource, Content::null()).await;
        assert_eq!(answer.route.operation, Operation::Error, "{resource}");
    }
}

#[tokio::test]
async fn a_pod_gets_a_token_through_its_node() {
    let world = World::new();
    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    let created = world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    let mut edge = world.stock("edge-1").await;
    edge.until(|held| held.contains_key("default/pod/web")).await;
    let request = |uid: &Value| {
        Content::encode(
            &json!({ "metadata": { "creationTimestamp": null }, "status": { "token": "", "expirationTimestamp": null },
            "spec": { "audiences": null, "expirationSeconds": 3607,
                "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": uid } } }),
        )
    };
    let resource = "default/serviceaccounttoken/default";
    let answer = edge
        .edged(Operation::Query, resource, request(&created["metadata"]["uid"]))
        .await;
    let body = parsed(&answer);
    assert_eq!(
        (
            &answer.route.operation,
            body["kind"].as_str(),
            &body["spec"]["expirationSeconds"]
        ),
        (&Operation::Response, Some("TokenRequest"), &json!(3607))
    );
    let token = body["status"]["token"].as_str().unwrap();
    let review = json!({ "spec": { "token": token } });
    let reviewed = world
        .post("authentication.k8s.io/v1/tokenreviews", None, review)
        .await;
    assert_eq!(reviewed["status"]["authenticated"], true, "{reviewed}");
    let refused = edge
        .edged(Operation::Query, resource, request(&json!("another")))
        .await;
    assert_eq!(
        refused.route.operation,
        Operation::Error,
        "an edge would keep it for a token"
    );
}

#[tokio::test]
async fn no_answer_about_the_authority_is_ever_kept_for_a_certificate() {
    let world = World::new();
    let mut edge = world.stock("edge-1").await;
    let ask = || {
        Message::new(
            Route::new("metamanager", "meta", Operation::Query, "k8s/ca.crt"),
            Content::null(),
        )
    };
    let unknown = edge.ask(ask()).await;
    assert_eq!(
        (&unknown.route.operation, &*unknown.route.group),
        (&Operation::Error, "cloudhub"),
        "a stock edge keeps any answer of the group resource"
    );
    let published = json!({ "metadata": { "name": "kube-root-ca.crt", "namespace": "kube-system" }, "data": { "ca.crt": "PEM" } });
    world.create("configmaps", published).await;
    let known = edge.ask(ask()).await;
    assert_eq!(
        (known.content.as_string().as_deref(), &*known.route.group),
        (Some("PEM"), "resource")
    );
}

#[tokio::test]
async fn edges_of_former_days_register_and_report_in_their_words() {
    let world = World::new();
    let mut edge = world.stock("edge-1").await;
    let resource = "default/nodestatus/edge-1";
    for _ in 0..2 {
        let node = Content::encode(&crate::world::node("edge-1"));
        let answer = edge.edged(Operation::Insert, resource, node).await;
        assert!(answer.content.is_ok(), "{:?}", answer.content);
        assert_eq!(answer.route.resource.as_str(), "default/node/edge-1");
    }
    let status = |ready: &str| {
        Content::encode(
            &json!({ "UID": "u", "ExtendResources": { "nvidia.com/gpu": [{ "name": "0" }] },
            "Status": { "phase": ready, "conditions": [{ "type": "Ready", "status": ready }] } }),
        )
    };
    for ready in ["False", "True"] {
        let answer = edge.edged(Operation::Update, resource, status(ready)).await;
        assert!(answer.content.is_ok(), "{:?}", answer.content);
    }
    let node = world.read("v1/nodes", None, "edge-1").await;
    let never = Value::Null;
    assert_eq!(
        node["status"]["conditions"],
        json!([{ "type": "Ready", "status": "True", "lastHeartbeatTime": never, "lastTransitionTime": never }])
    );
    for odd in [
        json!({ "Status": "x" }),
        json!({ "Status": { "daemonEndpoints": 7 } }),
        json!([]),
    ] {
        edge.edged(Operation::Update, resource, Content::encode(&odd))
            .await;
    }

    world.create("configmaps", config("blue", "blue")).await;
    world.create("secrets", secret("door")).await;
    let created = world.create("pods", pod("web", "edge-1", "blue", "door")).await;
    edge.until(|held| held.contains_key("default/pod/web")).await;
    let report =
        |uid: &Value, phase: &str| json!({ "UID": uid, "Name": "web", "Status": { "phase": phase } });
    let uid = &created["metadata"]["uid"];
    let answer = edge
        .edged(
            Operation::Update,
            "default/podstatus/web",
            Content::encode(&report(uid, "Running")),
        )
        .await;
    assert!(answer.content.is_ok(), "{:?}", answer.content);
    let many = Content::encode(&json!([
        report(uid, "Failed"),
        report(&json!("other"), "Running")
    ]));
    let answer = edge.edged(Operation::Update, "default/podstatus", many).await;
    assert!(answer.content.is_ok(), "{:?}", answer.content);
    // What it was before is deleted by its uid; what is there stays.
    assert_eq!(
        world.read("v1/pods", Some("default"), "web").await["status"]["phase"],
        "Failed"
    );
    let answer = edge
        .edged(Operation::Delete, "default/pod/web", Content::string("other"))
        .await;
    assert!(answer.content.is_ok(), "the pod of that uid is gone");
    let uid = Content::string(uid.as_str().unwrap());
    let answer = edge.edged(Operation::Delete, "default/pod/web", uid).await;
    assert!(answer.content.is_ok(), "{:?}", answer.content);
}
