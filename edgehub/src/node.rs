//! Speaks for this node where no kubelet does: registers it, renews its lease, and reports it ready.
//!
//! ```text
//!   insert null/node/<n>                  409: it exists, query it
//!   query kube-node-lease/lease/<n>       404: insert it
//!   update kube-node-lease/lease/<n>      every lease interval
//!   patch null/nodepatch/<n>              at once, every status interval, and with the lease where the cluster takes the node for dead;
//!                                         404: it was deleted
//! ```
//!
//! The messages are those of a stock edge (tunnel specification §6.3). An old cloud that has no answer to one of them gets
//! `insert` and `update` of `null/nodestatus/<n>`, as edges before v1.14 said it. Nothing here goes through the journal: a lease or a
//! status of the past helps nobody, so on a new connection the present one is sent.
//!
//! **A node that was deleted in the cluster.** A stock cloud drops the connection and lets the next one in as if nothing had happened.
//! KubeEdge's edges then speak of a node that is not there until somebody starts them again. This one learns of it from the answer
//! to its status, and registers again after [`register_again`](NodeAgentConfig::register_again).

mod describe;

use std::time::Duration;

use hub_core::message::{Content, Operation, Resource};
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::store::Change;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::config::NodeAgentConfig;
use crate::handle::Shared;
use crate::kubelet::AskError;
use crate::object_response;

/// Runs for ever; does nothing without an agent.
pub(crate) async fn run(shared: &Shared) {
    let Some(config) = &shared.config.agent else {
        return std::future::pending().await;
    };
    let mut agent = Agent {
        shared,
        config,
        uid: None,
        lease: None,
        old: false,
        ready_since: describe::now(),
    };
    let mut number = 0;
    loop {
        number = shared.board.attached(number + 1).await.attached;
        agent.give_up_lease().await;
        tokio::select! {
            () = shared.board.gone(number) => {}
            () = agent.speak() => {}
        }
        agent.keep_lease().await;
    }
}

struct Agent<'a> {
    shared: &'a Shared,
    config: &'a NodeAgentConfig,
    /// The uid of the Node, once it is registered; empty where the cloud does not say it.
    uid: Option<String>,
    /// The lease as the cloud has it.
    lease: Option<Value>,
    /// The cloud does not answer what edges say since v1.14.
    old: bool,
    /// Since when the node is ready, as far as it knows.
    ready_since: String,
}

impl Agent<'_> {
    /// Speaks on one connection. Ends only by being dropped.
    async fn speak(&mut self) {
        // The next connection may lead to a newer cloud.
        if std::mem::take(&mut self.old) {
            self.uid = None;
        }
        loop {
            self.register().await;
            self.report().await;
            let Some(pause) = self.config.register_again else {
                tracing::error!(
                    "this node was deleted in the cluster; start the program again to register it anew"
                );
                return std::future::pending().await;
            };
            tracing::warn!(registers_in = ?pause, "this node was deleted in the cluster; it will register again");
            tokio::time::sleep(pause).await;
            (self.uid, self.lease) = (None, None);
        }
    }

    /// Registers the node, however often that takes.
    async fn register(&mut self) {
        let mut attempt = 0;
        while self.uid.is_none() {
            match self.try_register().await {
                Ok(()) => tracing::info!("this node is registered in the cluster"),
                Err(error) => {
                    let pause = self.shared.config.backoff.pause(attempt, u64::MAX / 2);
                    attempt += 1;
                    tracing::warn!(%error, retry_in = ?pause, "this node could not be registered yet");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Renews the lease and reports the status, until the node turns out to be deleted.
    async fn report(&mut self) {
        let (mut lease_due, mut status_due) = (Instant::now(), Instant::now());
        loop {
            sleep_until(lease_due.min(status_due)).await;
            if lease_due <= Instant::now() {
                let renewed = self.renew_lease().await;
                lease_due = next("the lease", renewed, self.config.lease_interval);
                if self.is_taken_for_dead() {
                    status_due = Instant::now();
                }
            }
            if status_due <= Instant::now() {
                let reported = self.report_status().await;
                if matches!(&reported, Err(AskError::Denied(denied)) if denied.code == 404) {
                    return;
                }
                // An old cloud may know no leases: then the status is all that shows life.
                let interval = self.config.status_interval;
                let interval = if self.old {
                    interval.min(self.config.lease_interval)
                } else {
                    interval
                };
                status_due = next("the status", reported, interval);
            }
        }
    }

    /// Whether the cluster says that this node is not ready, as far as it is known here. Its controllers do that to a node of which they
    /// heard nothing, because the API server, or the cloud's way to it, was away; a lease alone does not change their mind.
    fn is_taken_for_dead(&self) -> bool {
        let key = ObjectKey::new(
            GroupVersionResource::core("nodes"),
            None,
            self.shared.config.node.as_str(),
        );
        let Some(held) = self.shared.store.get(&key) else {
            return false;
        };
        let node: Value = serde_json::from_slice(&held.object.body).unwrap_or_default();
        let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] != "True")
    }

    async fn try_register(&mut self) -> Result<(), AskError> {
        let name = self.shared.config.node.as_str();
        let node = describe::node(name, self.config, &self.ready_since);
        let inserted = self
            .ask(Operation::Insert, None, "node", Content::encode(&node))
            .await;
        let object = match inserted {
            Err(AskError::Denied(denied)) if denied.code == 409 => self.take_up(&node).await,
            // That takes a node that exists for a success.
            Err(AskError::TimedOut) => {
                self.ask(Operation::Insert, None, "nodestatus", Content::encode(&node))
                    .await?;
                self.old = true;
                self.take_up(&node).await
            }
            object => object?,
        };
        let uid = |object: Value| object["metadata"]["uid"].as_str().map(str::to_owned);
        self.uid = Some(object.and_then(uid).unwrap_or_default());
        Ok(())
    }

    /// The Node that is there already, from another life of this one. It gets the labels and annotations that it lacks; what
    /// somebody gave another value stays as it is.
    async fn take_up(&self, node: &Value) -> Option<Value> {
        let name = self.shared.config.node.as_str();
        let resource = Resource::object(None, "node", name);
        let asked = self
            .shared
            .ask(Operation::Query, resource.clone(), Content::null())
            .await;
        let known = asked.and_then(|answer| Ok(object_response::document(&answer)?));
        let known: Value = match known.map(|document| serde_json::from_slice(&document)) {
            Ok(Ok(known)) => known,
            other => {
                tracing::debug!(?other, "the node exists, and the cloud does not show it");
                return None;
            }
        };
        let lacks = describe::lacking(&known, node);
        if let Some(lacks) = lacks {
            let updated = self
                .shared
                .ask(Operation::Update, resource, Content::encode(&lacks))
                .await;
            if let Err(error) = updated.and_then(|answer| Ok(object_response::parse(&answer).map(drop)?)) {
                tracing::warn!(%error, "the labels of this node could not be updated");
            }
        }
        Some(known)
    }

    async fn renew_lease(&mut self) -> Result<(), AskError> {
        match self.write_lease().await {
            // Somebody changed or deleted it: go on from what is there.
            Err(AskError::Denied(denied)) if matches!(denied.code, 404 | 409) => {
                self.lease = None;
                self.write_lease().await
            }
            written => written,
        }
    }

    async fn write_lease(&mut self) -> Result<(), AskError> {
        if self.lease.is_none() {
            let known = self
                .ask(Operation::Query, Some(LEASES), "lease", Content::null())
                .await;
            self.lease = match known {
                Err(AskError::Denied(denied)) if matches!(denied.code, 0 | 404) => None,
                known => known?.filter(Value::is_object),
            };
        }
        let uid = self.uid.as_deref().unwrap_or_default();
        let name = self.shared.config.node.as_str();
        let (operation, lease) = match &self.lease {
            None => (Operation::Insert, describe::lease(name, uid, self.config)),
            Some(known) => (
                Operation::Update,
                describe::renewed(known.clone(), name, uid, self.config),
            ),
        };
        let written = self
            .ask(operation, Some(LEASES), "lease", Content::encode(&lease))
            .await?;
        // What the cloud made of it carries the version that the next update must name.
        self.lease = written.filter(Value::is_object).or(Some(lease));
        Ok(())
    }

    /// While the cloud is away, its last word on the lease is held here, for whoever describes the node. With the cloud there it is asked,
    /// so a renewal costs no second message.
    async fn keep_lease(&self) {
        let Some(mut lease) = self.lease.clone() else {
            return;
        };
        lease["kind"] = "Lease".into();
        lease["apiVersion"] = "coordination.k8s.io/v1".into();
        let object = Object::from_body(self.lease_key().resource, lease.to_string().into());
        let Ok(object) = object.inspect_err(|error| tracing::debug!(%error, "the lease cannot be kept"))
        else {
            return;
        };
        self.change(Change::Put(object)).await;
    }

    /// From now on the cloud has newer ones; whoever follows them is told.
    async fn give_up_lease(&self) {
        let key = self.lease_key();
        let scopes = self.shared.store.scopes();
        if !scopes.iter().any(|(scope, _)| scope.contains_key(&key)) && self.shared.store.get(&key).is_some()
        {
            let (uid, version) = (None, None);
            self.change(Change::Delete { key, uid, version }).await;
        }
    }

    async fn change(&self, change: Change) {
        if let Err(error) = self.shared.store.apply(vec![change]).await {
            tracing::debug!(%error, "what is known of the lease could not be noted");
        }
    }

    fn lease_key(&self) -> ObjectKey {
        let leases = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
        ObjectKey::new(leases, Some(LEASES), self.shared.config.node.as_str())
    }

    async fn report_status(&mut self) -> Result<(), AskError> {
        let name = self.shared.config.node.as_str();
        let status = describe::status(name, self.config, &self.ready_since);
        if self.old {
            let uid = self.uid.as_deref().unwrap_or_default();
            let status = json!({ "UID": uid, "Status": status, "ExtendResources": null });
            return self
                .ask(Operation::Update, None, "nodestatus", Content::encode(&status))
                .await
                .map(drop);
        }
        let status = json!({ "status": status });
        // The patch travels as text, as a stock edge sends it.
        let patch = Content::string(&status.to_string());
        self.ask(Operation::Patch, None, "nodepatch", patch)
            .await
            .map(drop)
    }

    /// Asks about something that has the node's name, and is answered with an `ObjectResp`.
    async fn ask(
        &self,
        operation: Operation,
        namespace: Option<&str>,
        kind: &str,
        content: Content,
    ) -> Result<Option<Value>, AskError> {
        let resource = Resource::object(namespace, kind, self.shared.config.node.as_str());
        let answer = self.shared.ask(operation, resource, content).await?;
        let object = object_response::parse(&answer)?;
        Ok(object.and_then(|object| serde_json::from_str(object.get()).ok()))
    }
}

fn next(what: &str, done: Result<(), AskError>, interval: Duration) -> Instant {
    let pause = match done {
        Ok(()) => interval,
        Err(error) => {
            tracing::warn!(%error, "{what} of this node could not be renewed");
            interval.min(RETRY)
        }
    };
    Instant::now() + pause
}

const LEASES: &str = "kube-node-lease";
/// When to try again at the latest after a failure.
const RETRY: Duration = Duration::from_secs(10);
