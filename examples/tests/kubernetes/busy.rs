//! A real API server that refuses with 429 whatever our cloud and its node ask: its own priority and fairness do that.

use std::io;
use std::path::Path;

use bytes::Bytes;
use cloudhub::cluster::{Cluster, Credentials, KubeCluster, KubeClusterConfig};
use edgehub::Report;
use http_body_util::StreamBody;
use hub_core::api::{ApiRequest, Verb};
use hub_core::message::{Content, Message, Operation, Route};
use hub_core::object::GroupVersionResource;
use hub_core::session::Lane;
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use crate::real::Admin;
use crate::recent::is_since;
use crate::tunnel::{cloud, edge, is_ready};
use crate::world::{until, within};

/// A priority level with one place, and a request that takes it and never ends.
struct Busy {
    admin: Admin,
    hog: Option<AbortOnDropHandle<()>>,
}

impl Busy {
    /// For these users.
    async fn new(admin: Admin, users: [&str; 2]) -> Self {
        let level = json!({ "type": "Limited", "limited": { "nominalConcurrencyShares": 0, "lendablePercent": 0,
            "borrowingLimitPercent": 0, "limitResponse": { "type": "Reject" } } });
        let subjects = users.map(|user| json!({ "kind": "User", "user": { "name": user } }));
        let all = json!(["*"]);
        let rule = json!({ "subjects": subjects, "nonResourceRules": [{ "verbs": all, "nonResourceURLs": all }],
            "resourceRules": [{ "verbs": all, "apiGroups": all, "resources": all, "namespaces": all, "clusterScope": true }] });
        let schema = json!({ "priorityLevelConfiguration": { "name": admin.namespace }, "matchingPrecedence": 100, "rules": [rule] });
        for (resource, spec) in [("prioritylevelconfigurations", level), ("flowschemas", schema)] {
            let object = json!({ "metadata": { "name": admin.namespace }, "spec": spec });
            let create = ApiRequest::resource(Verb::Create, flow(resource), None, None);
            admin
                .done(create.with_body("application/json", object.to_string()))
                .await;
        }
        Self { admin, hog: None }
    }

    /// Takes the one place, as this user, whose requests are refused from now on.
    async fn begin(&mut self, user: &str, refused: &KubeCluster) {
        let config = kube::Config::infer().await.unwrap();
        let tls = config.rustls_https_connector().unwrap();
        let client = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().unwrap())
            .map_err(BoxError::from)
            .service(Client::builder(TokioExecutor::new()).build(tls))
            .boxed_clone();
        let path = format!("/api/v1/namespaces/{}/configmaps", self.admin.namespace);
        let user = user.to_owned();
        self.hog = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            // The server gives up on it after a minute.
            loop {
                let endless = StreamBody::new(futures::stream::pending::<io::Result<Frame<Bytes>>>());
                let request = hyper::Request::post(&path)
                    .header("content-type", "application/json")
                    .header("impersonate-user", &user)
                    .body(endless);
                let _ = client.clone().oneshot(request.unwrap()).await;
            }
        })));
        until("a refusal", async || {
            let request = self.admin.request(Verb::List, "pods", None);
            let answer = refused.execute(request).await.ok()?;
            (answer.code == 429).then_some(())
        })
        .await;
    }

    fn end(&mut self) {
        self.hog = None;
    }

    async fn remove(self) {
        for resource in ["flowschemas", "prioritylevelconfigurations"] {
            let delete =
                ApiRequest::resource(Verb::Delete, flow(resource), None, Some(&self.admin.namespace));
            self.admin.done(delete).await;
        }
        self.admin.end().await;
    }
}

fn flow(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new("flowcontrol.apiserver.k8s.io", "v1", resource)
}

/// Our cloud's account, asking for itself, that waits for no busy server.
async fn account_of(kubeconfig: &Path) -> KubeCluster {
    let credentials = Credentials::File {
        path: kubeconfig.to_owned(),
        server: None,
    };
    let config = KubeClusterConfig {
        busy_retries_max: 0,
        ..KubeClusterConfig::default()
    };
    KubeCluster::connect(credentials, config).await.unwrap()
}

fn event(namespace: &str, number: usize) -> Report {
    let name = format!("told-{number}");
    let event = json!({ "kind": "Event", "apiVersion": "v1", "metadata": { "name": name, "namespace": namespace }, "count": number,
        "involvedObject": { "kind": "Pod", "namespace": namespace, "name": "web" }, "reason": "Tested", "type": "Normal",
        "source": { "component": "kubelet" } });
    let route = Route::new(
        "edged",
        "meta",
        Operation::Insert,
        format!("{namespace}/event/{name}").as_str(),
    );
    Report {
        key: name.into(),
        lane: Lane::Bulk,
        message: Message::new(route, Content::encode(&event)),
    }
}

const EVENTS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an API server: see real.rs"]
async fn a_server_that_is_too_busy_for_us_loses_no_report_and_no_node() {
    let admin = Admin::new("busy").await;
    // Before, a level has one place at least, and lends and borrows as it likes.
    if !is_since(&admin, 29).await {
        return admin.end().await;
    }
    let name = format!("edge-{}", admin.namespace);
    let (kubeconfig, account) = admin.account().await;
    admin.bind(&account, "").await;
    let (cloud, addresses, token) = cloud(kubeconfig.path()).await;
    let edge = edge(&name, &addresses, &token).await;
    until("a ready node", async || {
        admin.read("nodes", &name).await.filter(is_ready)
    })
    .await;
    let pod = json!({ "metadata": { "name": "web" }, "spec": { "nodeName": name, "containers": [{ "name": "main", "image": "example.com/main:1",
        "envFrom": [{ "configMapRef": { "name": "settings" } }] }] } });
    let settings = |value: &str| json!({ "metadata": { "name": "settings" }, "data": { "a": value } });
    admin.create("configmaps", settings("1")).await;
    admin.create("pods", pod).await;
    until("the pod and its settings", async || {
        let settings = edge.held(&admin.key("configmaps", "settings"));
        edge.held(&admin.key("pods", "web")).and(settings)
    })
    .await;
    let link = edge.handle.link().borrow().clone();

    let poor = account_of(kubeconfig.path()).await;
    let node = format!("system:node:{name}");
    let mut busy = Busy::new(admin, [&account, &node]).await;
    busy.begin(&account, &poor).await;
    let (admin, namespace) = (&busy.admin, busy.admin.namespace.clone());
    for number in 1..=EVENTS {
        edge.handle.report(event(&namespace, number)).await.unwrap();
    }
    // What stands goes on: the watches of the cloud are older.
    let changed = json!({ "data": { "a": "2" } });
    admin.merge("configmaps", "settings", changed).await;
    until("the change", async || {
        (edge.held(&admin.key("configmaps", "settings"))?["data"]["a"] == "2").then_some(())
    })
    .await;
    let told = async |admin: &Admin| -> Vec<Value> {
        let events = admin.done(admin.request(Verb::List, "events", None)).await;
        let events = events["items"].as_array().unwrap().iter();
        events
            .filter(|event| event["reason"] == "Tested")
            .cloned()
            .collect()
    };
    until("reports that wait", async || {
        (edge.waiting() >= EVENTS).then_some(())
    })
    .await;
    assert_eq!(told(admin).await, Vec::<Value>::new(), "the server took nothing");
    assert_eq!(*edge.handle.link().borrow(), link, "the node did not notice");

    busy.end();
    within("the reports", async {
        while told(&busy.admin).await.len() < EVENTS {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let ready = busy.admin.read("nodes", &name).await.unwrap();
    assert!(is_ready(&ready), "{ready}");
    assert_eq!(*edge.handle.link().borrow(), link);

    edge.half.end().await;
    busy.admin.delete("nodes", &name).await;
    cloud.end().await;
    busy.remove().await;
}
