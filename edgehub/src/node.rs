//! Speaks for this node where no kubelet does: registers it once, renews its lease, and reports it ready.
//!
//! The messages are those of a stock edge (tunnel specification §6.3). Nothing here goes through the journal: a lease or a
//! status of the past helps nobody, so on a new connection the present one is sent.

mod describe;

use std::time::Duration;

use hub_core::handle::CallError;
use hub_core::message::{Content, Message, Operation, Resource, Route};
use hub_core::session::Lane;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::config::NodeAgentConfig;
use crate::handle::Shared;
use crate::object_response::{self, Denied};

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
        deleted: false,
        ready_since: describe::now(),
    };
    let mut number = 0;
    loop {
        number = shared.board.attached(number + 1).await.attached;
        tokio::select! {
            () = shared.board.gone(number) => {}
            () = agent.speak() => {}
        }
    }
}

struct Agent<'a> {
    shared: &'a Shared,
    config: &'a NodeAgentConfig,
    /// The uid of the Node, once it is registered.
    uid: Option<String>,
    /// The lease as the cloud has it.
    lease: Option<Value>,
    /// The Node was deleted after it was registered: for this run that is final, as with a kubelet.
    deleted: bool,
    /// Since when the node is ready, as far as it knows.
    ready_since: String,
}

/// The cloud did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl Agent<'_> {
    /// Speaks on one connection. Ends only by being dropped.
    async fn speak(&mut self) {
        let mut attempt = 0;
        while self.uid.is_none() {
            match self.register().await {
                Ok(()) => tracing::info!("this node is registered in the cluster"),
                Err(error) => {
                    let pause = self.shared.config.backoff.pause(attempt, u64::MAX / 2);
                    attempt += 1;
                    tracing::warn!(%error, retry_in = ?pause, "this node could not be registered yet");
                    tokio::time::sleep(pause).await;
                }
            }
        }
        let (mut lease_due, mut status_due) = (Instant::now(), Instant::now());
        while !self.deleted {
            sleep_until(lease_due.min(status_due)).await;
            if lease_due <= Instant::now() {
                let renewed = self.renew_lease().await;
                lease_due = self.next("the lease", renewed, self.config.lease_interval);
            }
            if status_due <= Instant::now() {
                let reported = self.report_status().await;
                status_due = self.next("the status", reported, self.config.status_interval);
            }
        }
        std::future::pending().await
    }

    fn next(&mut self, what: &str, done: Result<(), AgentError>, interval: Duration) -> Instant {
        let pause = match done {
            Ok(()) => interval,
            Err(error) => {
                if self.deleted {
                    tracing::error!(
                        "this node was deleted in the cluster; start the program again to register it anew"
                    );
                } else {
                    tracing::warn!(%error, "{what} of this node could not be renewed");
                }
                interval.min(RETRY)
            }
        };
        Instant::now() + pause
    }

    async fn register(&mut self) -> Result<(), AgentError> {
        let name = self.shared.config.node.as_str();
        let node = describe::node(name, self.config, &self.ready_since);
        let object = match self
            .ask(Operation::Insert, None, "node", Content::encode(&node))
            .await
        {
            Err(AgentError::Denied(denied)) if denied.code == 409 => None,
            answer => answer?,
        };
        let uid = |object: Value| object["metadata"]["uid"].as_str().map(str::to_owned);
        self.uid = Some(object.and_then(uid).unwrap_or_default());
        Ok(())
    }

    async fn renew_lease(&mut self) -> Result<(), AgentError> {
        match self.write_lease().await {
            // Another life of this node left one, or somebody changed or deleted it: go on from what is there.
            Err(AgentError::Denied(denied)) if matches!(denied.code, 404 | 409) => {
                let known = self
                    .ask(Operation::Query, Some(LEASES), "lease", Content::null())
                    .await?;
                self.lease = known.filter(Value::is_object);
                self.write_lease().await
            }
            written => written,
        }
    }

    async fn write_lease(&mut self) -> Result<(), AgentError> {
        let uid = self.uid.as_deref().unwrap_or_default();
        let name = self.shared.config.node.as_str();
        let (operation, lease) = match &self.lease {
            None => (Operation::Insert, describe::lease(name, uid, self.config)),
            Some(known) => {
                let mut lease = known.clone();
                lease["spec"]["renewTime"] = describe::micro_time().into();
                (Operation::Update, lease)
            }
        };
        let written = self
            .ask(operation, Some(LEASES), "lease", Content::encode(&lease))
            .await?;
        // What the cloud made of it carries the version that the next update must name.
        self.lease = written.filter(Value::is_object).or(Some(lease));
        Ok(())
    }

    async fn report_status(&mut self) -> Result<(), AgentError> {
        let name = self.shared.config.node.as_str();
        let status = json!({ "status": describe::status(name, self.config, &self.ready_since) });
        // The patch travels as text, as a stock edge sends it.
        let reported = self
            .ask(
                Operation::Patch,
                None,
                "nodepatch",
                Content::string(&status.to_string()),
            )
            .await;
        if let Err(AgentError::Denied(denied)) = &reported {
            self.deleted = denied.code == 404;
        }
        reported.map(drop)
    }

    async fn ask(
        &self,
        operation: Operation,
        namespace: Option<&str>,
        kind: &str,
        content: Content,
    ) -> Result<Option<Value>, AgentError> {
        let config = &self.shared.config;
        let resource = Resource::object(namespace, kind, config.node.as_str());
        let route = Route {
            resource,
            ..Route::new("edged", "meta", operation, "")
        };
        let answer = self
            .shared
            .session
            .call(Message::new(route, content), Lane::Urgent, config.write_timeout)
            .await?;
        let object = object_response::parse(&answer)?;
        Ok(object.and_then(|object| serde_json::from_str(object.get()).ok()))
    }
}

const LEASES: &str = "kube-node-lease";
/// When to try again at the latest after a failure.
const RETRY: Duration = Duration::from_secs(10);
