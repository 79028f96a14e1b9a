//! What the kinds of objects do to what clients send: fields, scales, the ends of pods.

use hub_core::object::GroupVersionResource;
use hub_core::store::{EventKind, ObjectStore};
use serde_json::{Value, json};

use crate::{World, request};
use cloudhub::cluster::Cluster;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

#[tokio::test]
async fn an_unknown_field_falls_away_and_the_client_is_warned_as_it_wants_it() {
    let world = World::new();
    let ask = async |name: &str, validation: &str| {
        let body = json!({"metadata": {"name": name, "labels": {}}, "data": {}, "bogus": 1}).to_string();
        let path = format!("{CONFIG_MAPS}?fieldValidation={validation}");
        let request = request("POST", &path, "application/json", body.into());
        world.cluster.execute(request).await.unwrap()
    };
    let warned = ask("a", "").await;
    assert_eq!(
        (warned.code, warned.warnings),
        (201, vec!["unknown field \"bogus\"".to_owned()])
    );
    let quiet = ask("b", "Ignore").await;
    assert_eq!((quiet.code, quiet.warnings.len()), (201, 0));
    let stored: Value = serde_json::from_slice(&quiet.body).unwrap();
    assert!(
        stored.get("bogus").is_none() && stored.get("data").is_none(),
        "{stored}"
    );
    assert!(stored["metadata"].get("labels").is_none(), "{stored}");
    assert_eq!(ask("c", "Strict").await.code, 400);
    let patch = ("merge-patch", json!({"bogus": 1}));
    let (code, status) = world
        .call("PATCH", &format!("{CONFIG_MAPS}/a?fieldValidation=Strict"), patch)
        .await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["field"]),
        (422, &json!("patch"))
    );
}

#[tokio::test]
async fn a_scale_is_read_and_written_in_one_form() {
    let world = World::new();
    let body = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    world.ok("POST", DEPLOYMENTS, body).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = world.ok("GET", &path, ()).await;
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["spec"], json!({"replicas": 3}));
    assert_eq!(scale["status"], json!({"replicas": 0, "selector": "app=web"}));
    let stale = scale.clone();
    scale["spec"]["replicas"] = 5.into();
    assert_eq!(world.ok("PUT", &path, scale).await["spec"]["replicas"], 5);
    assert_eq!(world.call("PUT", &path, stale).await.0, 409);
    let patch = ("merge-patch", json!({"spec": {"replicas": 2}}));
    world.ok("PATCH", &path, patch).await;
    let web = world.ok("GET", &format!("{DEPLOYMENTS}/web"), ()).await;
    assert_eq!(
        (&web["spec"]["replicas"], &web["metadata"]["generation"]),
        (&json!(2), &json!(3))
    );
}

#[tokio::test]
async fn a_pod_is_seen_to_be_on_its_way_before_it_is_gone() {
    let world = World::new();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    world.ok("POST", PODS, pod).await;
    let pods = GroupVersionResource::core("pods");
    let after = world.cluster.revision();
    world.ok("DELETE", &format!("{PODS}/p"), ()).await;
    let events = ObjectStore::watch(&world.cluster, &pods, after)
        .unwrap()
        .available(usize::MAX)
        .unwrap();
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Modified, EventKind::Deleted]);
}

#[tokio::test]
async fn a_job_finds_its_pods_by_labels_of_its_own() {
    let world = World::new();
    let body = json!({"metadata": {"name": "once"}, "spec": {"template": {"metadata": {"labels": {"app": "once"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let job = world
        .ok("POST", "/apis/batch/v1/namespaces/default/jobs", body)
        .await;
    let label = "batch.kubernetes.io/controller-uid";
    assert_eq!(
        job["spec"]["selector"]["matchLabels"][label],
        job["metadata"]["uid"]
    );
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"],
        job["metadata"]["labels"]
    );
    assert_eq!(job["metadata"]["labels"]["job-name"], "once");
}

/// What a program in Go sends that set next to nothing: fields it left alone are written as zeros and empty texts.
#[tokio::test]
async fn what_a_go_program_left_alone_counts_as_not_said() {
    let world = World::new();
    let service = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort", "sessionAffinity": "ClientIP", "ports": [
        {"name": "a", "port": 80, "targetPort": 0}, {"name": "b", "port": 81, "targetPort": ""}, {"name": "c", "port": 82, "nodePort": 30_082}]},
        "status": {"loadBalancer": {}}});
    let mut made = world.ok("POST", SERVICES, service).await;
    let ports = made["spec"]["ports"].as_array().unwrap().clone();
    let targets: Vec<_> = ports.iter().map(|port| port["targetPort"].clone()).collect();
    assert_eq!(targets, [json!(80), json!(81), json!(82)]);
    assert_eq!(ports[2]["nodePort"], 30_082);
    assert!((30_000..32_768).contains(&ports[0]["nodePort"].as_u64().unwrap()));
    assert_eq!(made["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(
        made["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
        10_800
    );
    // Written again without them, it keeps its ports; nobody else gets one of them.
    for port in made["spec"]["ports"].as_array_mut().unwrap() {
        port.as_object_mut().unwrap().remove("nodePort");
    }
    let path = format!("{SERVICES}/web");
    let kept = world.ok("PUT", &path, made.clone()).await;
    assert_eq!(kept["spec"]["ports"], json!(ports));
    let thief = json!({"metadata": {"name": "thief"}, "spec": {"type": "NodePort", "ports": [{"port": 1, "nodePort": 30_082}]}});
    let (code, status) = world.call("POST", SERVICES, thief).await;
    let words = "Service \"thief\" is invalid: spec.ports[0].nodePort: Invalid value: 30082: provided port is already allocated";
    assert_eq!((code, &status["message"]), (422, &json!(words)));
    let inner = ("merge-patch", json!({"spec": {"type": "ClusterIP"}}));
    let (_, inside) = world.call("PATCH", &path, inner).await;
    assert!(inside["spec"]["ports"][2].get("nodePort").is_none(), "{inside}");

    let set = json!({"metadata": {"name": "db"}, "spec": {"serviceName": "", "updateStrategy": {}, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i", "resources": {}}]}}}});
    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let set = world.ok("POST", sets, set).await;
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
    assert_eq!(set["spec"]["updateStrategy"], strategy);
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "default"}]});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let binding = world.ok("POST", bindings, binding).await;
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert!(binding["subjects"][1].get("apiGroup").is_none());
    let range =
        json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}});
    let range = world
        .ok("POST", "/api/v1/namespaces/default/limitranges", range)
        .await;
    assert_eq!(range["spec"]["limits"][0]["defaultRequest"], json!({"cpu": "2"}));
}

#[tokio::test]
async fn what_the_server_adds_and_what_it_shows_of_nothing_is_as_on_a_kube_apiserver() {
    let world = World::new();
    let class = |name: &str, default: &str| {
        json!({"metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default}},
            "provisioner": "d.io"})
    };
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    world.ok("POST", classes, class("slow", "false")).await;
    world.ok("POST", classes, class("usual", "true")).await;
    let claim = |more: Value| {
        let mut spec =
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({ "spec": spec })
    };
    let devices = json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "d"}}]});
    for (path, body, places) in [
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
            json!({"rules": []}),
            &[("/rules", json!(null))][..],
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            json!({"addressType": "IPv4", "endpoints": [], "ports": []}),
            &[("/endpoints", json!(null)), ("/ports", json!(null))],
        ),
        (
            "/api/v1/namespaces/default/limitranges",
            json!({"spec": {"limits": []}}),
            &[("/spec/limits", json!(null))],
        ),
        (
            "/api/v1/namespaces/default/persistentvolumeclaims",
            claim(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "z"}})),
            &[
                ("/spec/storageClassName", json!("usual")),
                (
                    "/spec/dataSourceRef",
                    json!({"apiGroup": null, "kind": "PersistentVolumeClaim", "name": "z"}),
                ),
            ],
        ),
        (
            "/api/v1/namespaces/default/persistentvolumeclaims",
            claim(json!({"storageClassName": ""})),
            &[("/spec/storageClassName", json!(""))],
        ),
        (
            SERVICES,
            json!({"spec": {"clusterIP": "None"}}),
            &[
                ("/spec/ipFamilyPolicy", json!("RequireDualStack")),
                ("/spec/ipFamilies", json!(["IPv4", "IPv6"])),
            ],
        ),
        (
            SERVICES,
            json!({"spec": {"clusterIP": "None", "selector": {"a": "b"}}}),
            &[("/spec/ipFamilyPolicy", json!("SingleStack"))],
        ),
        (
            "/apis/resource.k8s.io/v1/deviceclasses",
            json!({"spec": {}}),
            &[("/metadata/generation", json!(1))],
        ),
        (
            "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims",
            json!({"spec": {"devices": devices}}),
            &[("/spec/devices/requests/0/exactly/count", json!(1))],
        ),
    ] {
        let mut body = body;
        body["metadata"] = json!({"generateName": "it-"});
        let stored = world.ok("POST", path, body).await;
        for (place, expected) in places {
            assert_eq!(stored.pointer(place), Some(expected), "{path} {place}");
        }
    }
    let volumes = "/api/v1/persistentvolumes";
    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "nfs": {"path": "/", "server": "s"}}});
    let mut volume = world.ok("POST", volumes, volume).await;
    volume["status"] = json!({"phase": "Available"});
    let volume = world.ok("PUT", &format!("{volumes}/v/status"), volume).await;
    assert!(
        volume["status"]["lastPhaseTransitionTime"].is_string(),
        "{volume}"
    );
}
