//! What the service accounts of the edge's pods may do, kept as ServiceAccountAccess objects in the cluster.
//!
//! As KubeEdge's policy controller, which runs where the feature gate `requireAuthorization` is on: one object for each account that a
//! pod on an edge node runs as, with the rules that its bindings grant. [`downstream`](crate::downstream) tells the nodes.
//!
//! ```text
//!   pods · nodes · accounts · roles · bindings ──► Rules ──► a difference ──► create · update · delete
//! ```

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use hub_core::api::{ApiRequest, Verb};
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::scope::Scope;

use crate::cluster::{Cluster, ClusterEvent};
use crate::downstream::{ScopeId, Scopes, accesses};
use rules::{Name, Rules, text, without_nulls};

/// Keeps the objects right, until it is dropped.
pub(crate) async fn run(cluster: Arc<dyn Cluster>) {
    let mut kinds = cluster.registry().changes();
    while cluster.registry().by_resource(&accesses()).is_none() {
        tracing::warn!("the cluster has no ServiceAccountAccess: apply its CustomResourceDefinition");
        if kinds.changed().await.is_err() {
            return;
        }
    }
    Policy::new(cluster).run().await;
}

struct Policy {
    cluster: Arc<dyn Cluster>,
    scopes: Scopes,
    watched: BTreeMap<ScopeId, What>,
    synced: BTreeSet<ScopeId>,
    /// What is known of each scope, to find what a new listing does not name.
    known: BTreeMap<ScopeId, BTreeSet<ObjectKey>>,
    edges: BTreeSet<String>,
    /// The account and node of each pod.
    pods: BTreeMap<Name, (Name, String)>,
    accounts: BTreeMap<Name, Value>,
    rules: Rules,
    /// The objects in the cluster.
    held: BTreeMap<Name, Value>,
    /// What was written, and what the cluster made of it: a definition may keep less than was said.
    written: BTreeMap<Name, (Value, Value)>,
    /// Whether something changed that decides.
    changed: bool,
}

/// What a scope is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Nodes,
    Pods,
    Accounts,
    Roles,
    Bindings,
    Accesses,
}

impl Policy {
    fn new(cluster: Arc<dyn Cluster>) -> Self {
        let rbac = |resource: &str| GroupVersionResource::new("rbac.authorization.k8s.io", "v1", resource);
        let wanted = [
            (GroupVersionResource::core("nodes"), What::Nodes),
            (GroupVersionResource::core("pods"), What::Pods),
            (GroupVersionResource::core("serviceaccounts"), What::Accounts),
            (rbac("roles"), What::Roles),
            (rbac("clusterroles"), What::Roles),
            (rbac("rolebindings"), What::Bindings),
            (rbac("clusterrolebindings"), What::Bindings),
            (accesses(), What::Accesses),
        ];
        let mut scopes = Scopes::new(cluster.clone(), wanted.len());
        let watched = wanted
            .into_iter()
            .filter_map(|(resource, what)| Some((scopes.open(&Scope::all(resource))?, what)));
        let watched = watched.collect();
        Self {
            cluster,
            scopes,
            watched,
            synced: BTreeSet::new(),
            known: BTreeMap::new(),
            edges: BTreeSet::new(),
            pods: BTreeMap::new(),
            accounts: BTreeMap::new(),
            rules: Rules::default(),
            held: BTreeMap::new(),
            written: BTreeMap::new(),
            changed: true,
        }
    }

    async fn run(mut self) {
        let mut ended = BTreeSet::new();
        let mut again = false;
        loop {
            tokio::select! {
                (scope, event) = self.scopes.next() => {
                    let mut next = Some((scope, event));
                    while let Some((scope, event)) = next {
                        match event {
                            Some(event) => self.event(scope, event),
                            None => drop(ended.insert(scope)),
                        }
                        next = self.scopes.next_now();
                    }
                }
                () = tokio::time::sleep(PAUSE), if again || !ended.is_empty() => {
                    for scope in std::mem::take(&mut ended) {
                        self.scopes.reopen(scope);
                    }
                }
            }
            if self.synced.len() == self.watched.len() && (again || std::mem::take(&mut self.changed)) {
                again = !self.settle().await;
            }
        }
    }

    fn event(&mut self, scope: ScopeId, event: ClusterEvent) {
        let Some(&what) = self.watched.get(&scope) else {
            return;
        };
        match event {
            ClusterEvent::Applied { object, .. } => {
                self.scopes.saw(scope, &object.key);
                self.known.entry(scope).or_default().insert(object.key.clone());
                self.applied(what, &object);
            }
            ClusterEvent::Deleted { object } => self.gone(scope, what, &object.key),
            ClusterEvent::Restarted => self.scopes.restarted(scope),
            ClusterEvent::Synced { .. } => {
                if let Some(seen) = self.scopes.synced(scope) {
                    let known = self.known.get(&scope).into_iter().flatten();
                    let gone: Vec<_> = known.filter(|key| !seen.contains(*key)).cloned().collect();
                    for key in gone {
                        self.gone(scope, what, &key);
                    }
                }
                self.synced.insert(scope);
            }
            ClusterEvent::Refused(status) => {
                tracing::error!(
                    ?what,
                    reason = status.message,
                    "the cluster refuses what decides about service accounts; give the hub the right to list and watch it"
                );
            }
        }
    }

    fn applied(&mut self, what: What, object: &Object) {
        let Ok(mut value) = serde_json::from_slice::<Value>(&object.body) else {
            return;
        };
        let name = name(&object.key);
        // Most changes are of a status, and decide nothing here.
        let changed = match what {
            What::Nodes if value["metadata"]["labels"].get(EDGE_ROLE).is_some() => self.edges.insert(name.1),
            What::Nodes => self.edges.remove(&name.1),
            What::Pods => {
                let account = value["spec"]["serviceAccountName"]
                    .as_str()
                    .filter(|name| !name.is_empty());
                let account = (name.0.clone(), account.unwrap_or("default").to_owned());
                match value["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
                    Some(node) => put(&mut self.pods, name, (account, node.to_owned())),
                    None => self.pods.remove(&name).is_some(),
                }
            }
            What::Accounts => put(&mut self.accounts, name, value),
            What::Roles => put(&mut self.rules.roles, name, value["rules"].take()),
            What::Bindings => put(&mut self.rules.bindings, name, value),
            // An answer to a write of ours may have told of a newer state already.
            What::Accesses if self.held.get(&name).is_some_and(|held| is_newer(held, object)) => false,
            What::Accesses => put(&mut self.held, name, value),
        };
        self.changed |= changed;
    }

    fn gone(&mut self, scope: ScopeId, what: What, key: &ObjectKey) {
        if let Some(known) = self.known.get_mut(&scope) {
            known.remove(key);
        }
        let name = name(key);
        self.changed = true;
        match what {
            What::Nodes => drop(self.edges.remove(&name.1)),
            What::Pods => drop(self.pods.remove(&name)),
            What::Accounts => drop(self.accounts.remove(&name)),
            What::Roles => drop(self.rules.roles.remove(&name)),
            What::Bindings => drop(self.rules.bindings.remove(&name)),
            What::Accesses => drop(self.held.remove(&name)),
        }
    }

    /// Makes the objects in the cluster as they should be. Whether they are.
    async fn settle(&mut self) -> bool {
        let mut wanted: BTreeMap<Name, BTreeSet<String>> = BTreeMap::new();
        for (account, node) in self.pods.values() {
            if self.edges.contains(node) && self.accounts.contains_key(account) {
                wanted.entry(account.clone()).or_default().insert(node.clone());
            }
        }
        let mut settled = true;
        let surplus: Vec<_> = self
            .held
            .keys()
            .filter(|name| !wanted.contains_key(*name))
            .cloned()
            .collect();
        for name in surplus {
            settled &= self.delete(&name).await;
        }
        for (name, nodes) in wanted {
            settled &= self.put(&name, nodes).await;
        }
        settled
    }

    async fn put(&mut self, name: &Name, nodes: BTreeSet<String>) -> bool {
        let Some(account) = self.accounts.get(name) else {
            return true;
        };
        let spec = without_nulls(self.rules.access(account));
        let nodes = json!(nodes);
        let held = self.held.get(name);
        let written = self.written.get(name);
        let is_right = |held: &Value| {
            without_nulls(held["spec"].clone()) == spec
                || written.is_some_and(|(said, kept)| *said == spec && *kept == held["spec"])
        };
        if !held.is_some_and(is_right) {
            let (verb, object, mut value) = match held {
                Some(held) => (Verb::Update, Some(&*name.1), held.clone()),
                None => {
                    let metadata = json!({ "name": name.1, "namespace": name.0 });
                    let value = json!({ "kind": "ServiceAccountAccess", "apiVersion": accesses().api_version(), "metadata": metadata });
                    (Verb::Create, None, value)
                }
            };
            value["spec"] = spec.clone();
            let request = ApiRequest::resource(verb, accesses(), Some(&name.0), object)
                .with_body("application/json", value.to_string());
            if !self.write(name, request).await {
                return false;
            }
            if let Some(held) = self.held.get(name) {
                self.written.insert(name.clone(), (spec, held["spec"].clone()));
            }
        }
        // Other instances, Go ones too, find here whom to tell that it is gone.
        if self
            .held
            .get(name)
            .is_some_and(|held| held["status"]["nodeList"] == nodes)
        {
            return true;
        }
        let request = ApiRequest::resource(Verb::Patch, accesses(), Some(&name.0), Some(&name.1))
            .with_subresource("status")
            .with_body(
                "application/merge-patch+json",
                json!({ "status": { "nodeList": nodes } }).to_string(),
            );
        self.write(name, request).await
    }

    async fn delete(&mut self, name: &Name) -> bool {
        let uid = self.held.get(name).map(|held| text(held, "uid").to_owned());
        let request = ApiRequest::resource(Verb::Delete, accesses(), Some(&name.0), Some(&name.1)).with_body(
            "application/json",
            json!({ "preconditions": { "uid": uid } }).to_string(),
        );
        let deleted = self.write(name, request).await;
        if deleted {
            self.held.remove(name);
            self.written.remove(name);
        }
        deleted
    }

    /// Executes it, and knows the object as the cluster answers it. Whether there is nothing more to do now: who was late for a change
    /// by others hears of it from the watch.
    async fn write(&mut self, name: &Name, request: ApiRequest) -> bool {
        let is_delete = request.verb == Verb::Delete;
        match self.cluster.execute(request).await {
            Ok(response) if response.is_success() => {
                if let Ok(value) = serde_json::from_slice(&response.body)
                    && !is_delete
                {
                    self.held.insert(name.clone(), value);
                }
                true
            }
            Ok(response) if matches!(response.code, 404 | 409) => is_delete,
            Ok(response) => {
                let why = String::from_utf8_lossy(&response.body)
                    .chars()
                    .take(SHOWN)
                    .collect::<String>();
                tracing::warn!(
                    namespace = name.0,
                    account = name.1,
                    why,
                    "cannot keep what a service account may do"
                );
                false
            }
            Err(error) => {
                tracing::warn!(namespace = name.0, account = name.1, %error, "cannot keep what a service account may do");
                false
            }
        }
    }
}

fn is_newer(held: &Value, object: &Object) -> bool {
    let version = text(held, "resourceVersion").parse::<u64>().ok();
    text(held, "uid") == &*object.uid && version > object.version.number()
}

/// Whether that changed anything.
fn put<T: PartialEq>(map: &mut BTreeMap<Name, T>, name: Name, value: T) -> bool {
    let changed = map.get(&name) != Some(&value);
    map.insert(name, value);
    changed
}

fn name(key: &ObjectKey) -> Name {
    let namespace = key.namespace.as_deref().unwrap_or_default();
    (namespace.to_owned(), key.name.to_string())
}

/// The label of edge nodes (KubeEdge `common/constants/default.go`).
const EDGE_ROLE: &str = "node-role.kubernetes.io/edge";
/// Before what failed is tried again.
const PAUSE: Duration = Duration::from_secs(5);
/// Characters of a failure that are logged.
const SHOWN: usize = 300;
