//! What a simulated edge says of its node: that it is there, that it lives, that it is ready. As an edge without a kubelet says it.

use std::time::Duration;

use hub_core::handle::SessionHandle;
use hub_core::message::{Content, Message, Operation, Resource, Route};
use hub_core::session::Lane;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep_until};

/// Registers the node, renews its lease every [`LEASE`] and reports its status every [`STATUS`], until the connection is gone.
pub(super) async fn speak(handle: SessionHandle, name: String, edge: usize) {
    let speaker = Speaker { handle, name };
    let node = speaker.node();
    // There is one already where the fleet was here before.
    let uid = match speaker.ask(Operation::Insert, None, "node", node.clone()).await {
        Some(answer) if answer["Err"].is_null() => answer["Object"]["metadata"]["uid"].clone(),
        Some(_) => match speaker.ask(Operation::Query, None, "node", Value::Null).await {
            Some(node) => node["metadata"]["uid"].clone(),
            None => return,
        },
        None => return,
    };
    let Some(mut lease) = speaker.lease(&uid).await else {
        return;
    };
    // Machines are switched on at all times, however short the time is in which a fleet connects.
    let mut lease_due = Instant::now() + Duration::from_millis((edge as u64).wrapping_mul(7919) % 10_000);
    let mut status_due = Instant::now();
    loop {
        sleep_until(lease_due.min(status_due)).await;
        if status_due <= Instant::now() {
            let patch = json!({ "status": node["status"] }).to_string();
            let patched = speaker
                .ask(Operation::Patch, None, "nodepatch", patch.into())
                .await;
            if patched.is_none() {
                return;
            }
            status_due = Instant::now() + STATUS;
        }
        if lease_due <= Instant::now() {
            lease["spec"]["renewTime"] = micro_time().into();
            let renewed = speaker.ask(Operation::Update, Some(LEASES), "lease", lease.clone());
            match renewed.await {
                Some(answer) if answer["Err"].is_null() => lease = answer["Object"].clone(),
                Some(_) => match speaker.lease(&uid).await {
                    Some(known) => lease = known,
                    None => return,
                },
                None => return,
            }
            lease_due = Instant::now() + LEASE;
        }
    }
}

struct Speaker {
    handle: SessionHandle,
    name: String,
}

impl Speaker {
    /// The lease as the cluster has it, created if need be. None once the connection is gone.
    async fn lease(&self, uid: &Value) -> Option<Value> {
        loop {
            let known = self
                .ask(Operation::Query, Some(LEASES), "lease", Value::Null)
                .await?;
            if known["Err"].is_null() && known["Object"].is_object() {
                return Some(known["Object"].clone());
            }
            let lease = json!({
                "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
                "metadata": { "name": self.name, "namespace": LEASES,
                    "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": self.name, "uid": uid }] },
                "spec": { "holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": micro_time() },
            });
            let made = self.ask(Operation::Insert, Some(LEASES), "lease", lease).await?;
            if made["Err"].is_null() {
                return Some(made["Object"].clone());
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// A Node of the size that kubelets make: images are most of it.
    fn node(&self) -> Value {
        let now = now();
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({ "type": kind, "status": status, "reason": reason, "message": "the fleet says so",
                "lastHeartbeatTime": now, "lastTransitionTime": now })
        };
        let images: Vec<_> = (0..50)
            .map(|image| json!({ "names": [format!("registry.example.com/app-{image}:1.0")], "sizeBytes": 1 << 26 }))
            .collect();
        let resources = json!({ "cpu": "4", "memory": "8000000Ki", "pods": "110" });
        json!({
            "kind": "Node", "apiVersion": "v1",
            "metadata": { "name": self.name, "labels": { "kubernetes.io/hostname": self.name,
                "kubernetes.io/os": "linux", "node-role.kubernetes.io/edge": "" } },
            "status": {
                "capacity": resources, "allocatable": resources, "images": images,
                "conditions": [condition("MemoryPressure", "False", "Calm"), condition("DiskPressure", "False", "Calm"),
                    condition("PIDPressure", "False", "Calm"), condition("Ready", "True", "Fleet")],
                "addresses": [{ "type": "Hostname", "address": self.name }],
            },
        })
    }

    /// The answer of the cloud to a word about something that has the node's name; `Null` where it makes no sense. None once the
    /// connection is gone.
    async fn ask(
        &self,
        operation: Operation,
        namespace: Option<&str>,
        kind: &str,
        body: Value,
    ) -> Option<Value> {
        let route = Route {
            resource: Resource::object(namespace, kind, &self.name),
            ..Route::new("edged", "meta", operation, "")
        };
        loop {
            let message = Message::new(route.clone(), Content::encode(&body));
            match self.handle.call(message, Lane::Urgent, PATIENCE).await {
                Ok(answer) if answer.route.operation != Operation::Error => {
                    return Some(serde_json::from_slice(&answer.content.document()).unwrap_or_default());
                }
                // The cluster decides nothing for now.
                Ok(_) => tokio::time::sleep(RETRY).await,
                Err(_) if self.handle.is_over() => return None,
                Err(_) => {}
            }
        }
    }
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0)
        .unwrap_or(now)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// `metav1.MicroTime` of now.
fn micro_time() -> String {
    let micros = OffsetDateTime::now_utc().microsecond();
    format!("{}.{micros:06}Z", now().trim_end_matches('Z'))
}

const LEASES: &str = "kube-node-lease";
/// As a kubelet's (`nodeLeaseDurationSeconds` 40, a quarter of it).
const LEASE: Duration = Duration::from_secs(10);
/// As a kubelet's (`nodeStatusReportFrequency`).
const STATUS: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
