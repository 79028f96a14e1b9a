//! What people change with kubectl: on the embedded cluster, on a node with the cloud, and on a node with its cable pulled.

use serde_json::{Value, json};

use crate::clients::allow_nodes;
use crate::kubectl::Kubectl;
use crate::world::{CONFIGMAPS, CloudHalf, NODE, Tunnel, config_map, pod, until};

/// Commands, and what must be in what they say. `!` before a command: it is refused, and says so.
const CLUSTER: &[(&str, &str)] = &[
    ("apply -f web.json", "deployment.apps/web created"),
    ("get deployments -A -o wide", "web:1"),
    ("diff -f web.json", ""),
    ("scale deployment web -n shop --replicas 4", "scaled"),
    ("get deployment web -n shop -o jsonpath={.spec.replicas}", "4"),
    ("set image deployment/web main=web:2 -n shop", "image updated"),
    ("label deployment web -n shop tier=front", "labeled"),
    ("annotate deployment web -n shop note=1", "annotated"),
    ("edit deployment web -n shop", "edited"),
    (
        "get deployment web -n shop -o jsonpath={.spec.template.spec.containers[0].image}",
        "web:edited",
    ),
    ("rollout restart deployment web -n shop", "restarted"),
    ("!rollout status deployment web -n shop --timeout 1s", "timed out"),
    ("rollout history deployment web -n shop", "web"),
    ("describe deployment web -n shop", "web:edited"),
    ("explain deployment.spec.strategy", "DeploymentStrategy"),
    ("explain pods.spec.containers.image", "<string>"),
    (
        "wait deployment/web -n shop --for=jsonpath={.spec.replicas}=4 --timeout 5s",
        "condition met",
    ),
    (
        "autoscale deployment web -n shop --min 1 --max 3 --cpu-percent 50",
        "autoscaled",
    ),
    ("get hpa -n shop", "<unknown>/50%"),
    (
        "get horizontalpodautoscalers.v1.autoscaling web -n shop -o jsonpath={.spec.targetCPUUtilizationPercentage}",
        "50",
    ),
    ("expose deployment web -n shop --port 80", "exposed"),
    ("get services -n shop -o wide", "app=web"),
    (
        "create poddisruptionbudget web -n shop --selector app=web --min-available 1",
        "created",
    ),
    (
        "create cronjob beat -n shop --image i --schedule=@hourly",
        "created",
    ),
    ("create token default -n shop", "."),
    ("auth can-i create pods -n shop", "yes"),
    ("auth whoami", "system:admin"),
    ("apply -f pod.json", "pod/one created"),
    // No node has it, so it has said nothing: a kube-apiserver answers with nothing too.
    ("logs one -n shop", ""),
    ("!exec one -n shop -- ls", "pods/exec"),
    ("!cp web.json shop/one:/x", "pods/exec"),
    ("replace --force -f web.json", "replaced"),
    ("get deployment web -n shop -o jsonpath={.spec.replicas}", "2"),
    ("delete deployment web -n shop --cascade=foreground", "deleted"),
    ("!get deployment web -n shop", "NotFound"),
    ("apply -f web.json", "created"),
    ("delete deployment web -n shop --cascade=orphan", "deleted"),
    ("get componentstatuses", "Healthy"),
    ("get all -n shop", "pod/one"),
    ("delete namespace shop", "deleted"),
    ("!get namespace shop", "NotFound"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_cluster_takes_what_people_type() {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let kubectl = Kubectl::at(cloud.api).await;
    let labels = json!({"app": "web"});
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": "web:1"}]}}}});
    for (name, object) in [("web.json", &web), ("pod.json", &pod("one", None, "a", "b"))] {
        std::fs::write(kubectl.path(name), object.to_string()).unwrap();
    }
    transcript(&kubectl, CLUSTER).await;
    cloud.end().await;
}

/// Says each line, and looks at the answer.
async fn transcript(kubectl: &Kubectl, lines: &[(&str, &str)]) {
    for (line, wanted) in lines {
        let (refused, line) = match line.strip_prefix('!') {
            Some(line) => (true, line),
            None => (false, *line),
        };
        let (good, said) = kubectl.say(line).await;
        assert!(good != refused, "kubectl {line}:\n{said}");
        assert!(said.contains(wanted), "kubectl {line}: no {wanted} in\n{said}");
    }
}

/// Every kind that lists, as people list it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_can_be_listed_wide() {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let kubectl = Kubectl::at(cloud.api).await;
    let kinds = kubectl.run("api-resources --verbs=list -o name").await;
    assert!(kinds.lines().count() > 50, "{kinds}");
    let kinds: Vec<&str> = kinds.lines().collect();
    for some in kinds.chunks(16) {
        let (good, said) = kubectl.say(&format!("get {} -A -o wide", some.join(","))).await;
        assert!(good, "{said}");
    }
    cloud.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reads_on_takes_what_is_its_own_and_refuses_the_rest_with_its_cable_pulled() {
    let cloud = CloudHalf::start(Tunnel::WebSocket).await;
    let nodes = "/api/v1/nodes";
    allow_nodes(&cloud).await;
    cloud.api.create(CONFIGMAPS, config_map("a", "1")).await;
    let edge = cloud.edge(NODE, &["configmaps", "nodes", "events"]).await;
    until("the node itself", async || {
        cloud
            .api
            .names(nodes)
            .await
            .contains(&NODE.to_owned())
            .then_some(())
    })
    .await;
    let kubectl = Kubectl::at(edge.api).await;
    let own =
        format!("get node {NODE} -o jsonpath={{.metadata.annotations.mine}}/{{.metadata.annotations.ours}}");
    // With the cloud there, a change goes through the node and is read back from it at once.
    kubectl.run("label configmap a -n shop tier=front").await;
    assert_eq!(
        kubectl
            .run("get configmap a -n shop -o jsonpath={.metadata.labels.tier}")
            .await,
        "front"
    );
    kubectl.run(&format!("annotate node {NODE} ours=before")).await;
    let reads = [
        "get configmaps -n shop",
        "get configmap a -n shop -o yaml",
        "describe configmap a -n shop",
    ];
    let mut online = Vec::new();
    for read in reads {
        online.push(without_age(&kubectl.run(read).await));
    }
    kubectl.run("get events -n shop").await;
    until("all that was asked for", async || {
        let scopes = hub_core::store::ObjectStore::scopes(&edge.store);
        let complete = |scope: &(_, _)| scope.1 == hub_core::store::Coverage::Complete;
        scopes.iter().all(complete).then_some(())
    })
    .await;

    edge.cut().await;
    for (read, online) in reads.iter().zip(&online) {
        assert_eq!(&without_age(&kubectl.run(read).await), online, "{read}");
    }
    let (_, said) = kubectl.say("get configmaps -n shop").await;
    assert!(
        said.contains("Warning: "),
        "people are told how old it is: {said}"
    );

    let patch = json!({"metadata": {"labels": {"tier": "back"}}}).to_string();
    let refused = edge
        .api
        .send(
            hyper::Method::PATCH,
            &format!("{CONFIGMAPS}/a"),
            "application/merge-patch+json",
            patch,
        )
        .await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.body["details"]["causes"][0]["reason"], "CloudUnreachable");
    // kubectl tries again as long as it is told to come back; in the end it says why.
    let (good, said) = kubectl
        .say("label configmap a -n shop tier=back --request-timeout 2s")
        .await;
    assert!(!good, "{said}");

    kubectl
        .run(&format!("annotate node {NODE} mine=1 ours=here --overwrite"))
        .await;
    assert_eq!(kubectl.run(&own).await, "1/here", "it is visible at once");
    let (_, said) = kubectl.say(&format!("get node {NODE} -o name")).await;
    assert!(said.contains("has not been told"), "{said}");
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "shop"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "shop"}, "reason": "Noticed", "message": "seen here", "type": "Normal"});
    kubectl.run(&format!("create -f {}", kubectl.file(&event))).await;
    assert!(kubectl.run("get events -n shop").await.contains("seen here"));
    kubectl
        .run(&format!("create -f {}", kubectl.file(&named(event.clone(), "f"))))
        .await;
    kubectl.run("delete event f -n shop").await;
    assert!(!kubectl.run("get events -n shop").await.contains("f "));

    // Somebody changes one of the same fields in the cloud.
    let theirs = json!({"metadata": {"annotations": {"ours": "there"}}});
    cloud.api.merge(&format!("{nodes}/{NODE}"), theirs).await;
    edge.restore().await;
    let annotations =
        async || cloud.api.read(&format!("{nodes}/{NODE}")).await["metadata"]["annotations"].clone();
    until("the replay", async || {
        (annotations().await["mine"] == "1").then_some(())
    })
    .await;
    assert_eq!(annotations().await["ours"], "there", "the cloud's value stands");
    until("the node's own copy", async || {
        (kubectl.run(&own).await == "1/there").then_some(())
    })
    .await;
    until("the conflict", async || {
        let (_, said) = kubectl.say(&format!("get node {NODE} -o name")).await;
        said.contains("was not taken by the cloud").then_some(())
    })
    .await;
    until("the event", async || {
        let events = cloud.api.names("/api/v1/namespaces/shop/events").await;
        (events.contains(&"e".into()) && !events.contains(&"f".into())).then_some(())
    })
    .await;
    kubectl
        .run("label configmap a -n shop tier=back --overwrite")
        .await;
    edge.end().await;
    cloud.end().await;
}

fn named(mut object: Value, name: &str) -> Value {
    object["metadata"]["name"] = name.into();
    object
}

/// An age grows while one looks.
fn without_age(said: &str) -> String {
    let is_age = |word: &&str| {
        let digits = word.trim_end_matches(['s', 'm']);
        !digits.is_empty() && digits.len() < word.len() && digits.chars().all(|c| c.is_ascii_digit())
    };
    said.split_whitespace()
        .filter(|word| !is_age(word))
        .collect::<Vec<_>>()
        .join(" ")
}
