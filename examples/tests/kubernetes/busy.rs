//! A real API server that refuses with 429 whatever our cloud and its node ask: its own priority and fairness do that.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cloudhub::cluster::{Cluster, Credentials, KubeCluster, KubeClusterConfig};
use edgehub::Report;
use http_body_util::StreamBody;
use hub_core::api::{ApiRequest, User, Verb};
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
        let users = users.into_iter().chain([&*admin.namespace]);
        let subjects = users.map(|user| json!({ "kind": "User", "user": { "name": user } }));
        let subjects: Vec<_> = subjects.collect();
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
        // The server says so once it goes by it.
        until("the schema to be in force", async || {
            let read = ApiRequest::resource(Verb::Get, flow("flowschemas"), None, Some(&admin.namespace));
            let schema = admin.done(read).await;
            let mut conditions = schema["status"]["conditions"].as_array()?.iter();
            let is_whole =
                |condition: &Value| condition["type"] == "Dangling" && condition["status"] == "False";
            conditions.any(is_whole).then_some(())
        })
        .await;
        // Nobody is exempt but administrators: so it is somebody else who takes the place, and may.
        let group = "rbac.authorization.k8s.io";
        let role = json!({ "metadata": { "name": "hog" }, "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"] }] });
        let binding = json!({ "metadata": { "name": "hog" }, "roleRef": { "apiGroup": group, "kind": "Role", "name": "hog" },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": admin.namespace }] });
        for (resource, object) in [("roles", role), ("rolebindings", binding)] {
            let resource = GroupVersionResource::new(group, "v1", resource);
            let create = ApiRequest::resource(Verb::Create, resource, Some(&admin.namespace), None);
            admin
                .done(create.with_body("application/json", object.to_string()))
                .await;
        }
        Self { admin, hog: None }
    }

    /// Takes the one place. Who asks with this is refused from now on.
    async fn begin(&mut self, refused: &KubeCluster) {
        let config = kube::Config::infer().await.unwrap();
        let tls = config.rustls_https_connector().unwrap();
        let client = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().unwrap())
            .map_err(BoxError::from)
            .service(Client::builder(TokioExecutor::new()).build(tls))
            .boxed_clone();
        let path = format!("/api/v1/namespaces/{}/configmaps", self.admin.namespace);
        let user = self.admin.namespace.clone();
        until("the right to take the place", async || {
            let object = json!({ "metadata": { "name": "hog" } });
            let mut create = self.admin.request(Verb::Create, "configmaps", None);
            create = create.with_body("application/json", object.to_string());
            create.query = "dryRun=All".into();
            create.user = Some(User {
                name: user.clone(),
                ..User::default()
            });
            self.admin
                .cluster
                .execute(create)
                .await
                .ok()?
                .is_success()
                .then_some(())
        })
        .await;
        let hog = || {
            let (client, path, user) = (client.clone(), path.clone(), user.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                // The server gives up on it after a minute.
                loop {
                    let endless = StreamBody::new(futures::stream::pending::<io::Result<Frame<Bytes>>>());
                    let request = hyper::Request::post(&path)
                        .header("content-type", "application/json")
                        .header("impersonate-user", &user)
                        .body(endless);
                    let _ = client.clone().oneshot(request.unwrap()).await;
                }
            }))
        };
        // A server that learnt of the schema a moment after the request keeps it in another level.
        within("refusals", async {
            loop {
                self.hog = Some(hog());
                if self.is_refused(refused).await {
                    break;
                }
            }
        })
        .await;
    }

    /// One may be refused because of any other that is under way; so many only because of the one that never ends.
    async fn is_refused(&self, asker: &KubeCluster) -> bool {
        let mut refusals = 0;
        for _ in 0..50 {
            let request = self.admin.request(Verb::List, "pods", None);
            let answer = asker.execute(request).await;
            let is_refused = answer.is_ok_and(|answer| answer.code == 429);
            refusals = if is_refused { refusals + 1 } else { 0 };
            if refusals == 10 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
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
#[ignore = "needs an API server: see real/mod.rs"]
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
    busy.begin(&poor).await;
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
            tokio::time::sleep(Duration::from_millis(50)).await;
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
