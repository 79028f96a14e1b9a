//! How the rest of the hub speaks to the downstream task.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use hub_core::catch_up::{Buckets, Differ, Have, Refused, ScopeText, Versions};
use hub_core::handle::SessionHandle;
use hub_core::node::NodeId;
use hub_core::object::{Object, ObjectKey};
use hub_core::scope::Scope;
use hub_core::transport::Capabilities;

use super::listed::Shown;
use crate::sessions::SessionId;

/// A scope that a node wants and may have, with the words in which it asked.
pub(crate) type Wanted = (ScopeText, Scope);

pub(crate) enum Command {
    Attach {
        node: NodeId,
        session: SessionId,
        handle: SessionHandle,
        capabilities: Capabilities,
    },
    Gone {
        node: NodeId,
        session: SessionId,
    },
    Have {
        node: NodeId,
        have: Have,
        wanted: Vec<Wanted>,
        refused: Vec<Refused>,
        answer: oneshot::Sender<Differ>,
    },
    Buckets {
        node: NodeId,
        buckets: Buckets,
        answer: oneshot::Sender<Differ>,
    },
    Versions {
        node: NodeId,
        versions: Versions,
        answer: oneshot::Sender<()>,
    },
    Shown {
        node: NodeId,
        shown: Shown,
    },
    Given {
        node: NodeId,
        key: ObjectKey,
        uid: Arc<str>,
    },
    Watch {
        node: NodeId,
        watch: Watch,
        answer: oneshot::Sender<Result<(), String>>,
    },
    WatchSync {
        node: NodeId,
        wanted: Vec<Watch>,
        answer: oneshot::Sender<Vec<(String, String)>>,
    },
    Afresh {
        node: NodeId,
    },
    Drop {
        node: NodeId,
        object: Object,
    },
    Registered {
        nodes: Vec<NodeId>,
        answer: oneshot::Sender<Vec<Option<Arc<Object>>>>,
    },
    Accounts {
        node: NodeId,
        answer: oneshot::Sender<BTreeSet<ObjectKey>>,
    },
    Ask {
        node: NodeId,
        question: Question,
        answer: oneshot::Sender<bool>,
    },
}

/// What a watch application asks for.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    /// The application's id.
    pub(crate) id: String,
    pub(crate) scope: Scope,
    /// The version from which its client watches on, where it named one.
    pub(crate) since: Option<Arc<str>>,
}

/// What is asked about a node's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// Does one reference this ConfigMap or Secret?
    References(ObjectKey),
    /// Is this one of them, or one that does not exist?
    Runs(ObjectKey),
    /// Does one use this claim?
    Claims(ObjectKey),
    /// Does one run as this service account?
    RunsAs(ObjectKey),
}

/// The downstream task is gone: the hub stops.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the hub is stopping")]
pub(crate) struct Stopping;

/// Speaks to the downstream task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client(mpsc::Sender<Command>);

impl Client {
    pub(crate) fn new(commands_max: usize) -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(commands_max.max(1));
        (Self(sender), receiver)
    }

    /// A session of the node has a connection from now on.
    pub(crate) async fn attach(
        &self,
        node: NodeId,
        session: SessionId,
        handle: SessionHandle,
        capabilities: Capabilities,
    ) {
        let _ = self
            .0
            .send(Command::Attach {
                node,
                session,
                handle,
                capabilities,
            })
            .await;
    }

    /// A session of the node is over.
    pub(crate) async fn gone(&self, node: NodeId, session: SessionId) {
        let _ = self.0.send(Command::Gone { node, session }).await;
    }

    pub(crate) async fn have(
        &self,
        node: NodeId,
        have: Have,
        wanted: Vec<Wanted>,
        refused: Vec<Refused>,
    ) -> Result<Differ, Stopping> {
        self.ask(|answer| Command::Have {
            node,
            have,
            wanted,
            refused,
            answer,
        })
        .await
    }

    pub(crate) async fn buckets(&self, node: NodeId, buckets: Buckets) -> Result<Differ, Stopping> {
        self.ask(|answer| Command::Buckets {
            node,
            buckets,
            answer,
        })
        .await
    }

    pub(crate) async fn versions(&self, node: NodeId, versions: Versions) -> Result<(), Stopping> {
        self.ask(|answer| Command::Versions {
            node,
            versions,
            answer,
        })
        .await
    }

    /// A client of a stock edge is about to be shown a list.
    pub(crate) async fn shown(&self, node: NodeId, shown: Shown) {
        let _ = self.0.send(Command::Shown { node, shown }).await;
    }

    /// A stock edge is about to be given an object that it asked for by name, and keeps it.
    pub(crate) async fn given(&self, node: NodeId, key: ObjectKey, uid: Arc<str>) {
        let _ = self.0.send(Command::Given { node, key, uid }).await;
    }

    pub(crate) async fn watch(&self, node: NodeId, watch: Watch) -> Result<Result<(), String>, Stopping> {
        self.ask(|answer| Command::Watch { node, watch, answer }).await
    }

    pub(crate) async fn watch_sync(
        &self,
        node: NodeId,
        wanted: Vec<Watch>,
    ) -> Result<Vec<(String, String)>, Stopping> {
        self.ask(|answer| Command::WatchSync { node, wanted, answer })
            .await
    }

    /// The node may have lost what it held.
    pub(crate) async fn afresh(&self, node: NodeId) {
        let _ = self.0.send(Command::Afresh { node }).await;
    }

    /// The node holds an object that does not exist: it is told to delete it.
    pub(crate) async fn drop_object(&self, node: NodeId, object: Object) {
        let _ = self.0.send(Command::Drop { node, object }).await;
    }

    pub(crate) async fn holds(&self, node: &NodeId, question: Question) -> Result<bool, Stopping> {
        let node = node.clone();
        self.ask(|answer| Command::Ask {
            node,
            question,
            answer,
        })
        .await
    }

    /// The service accounts as which the pods of a node run.
    pub(crate) async fn accounts(&self, node: &NodeId) -> Result<BTreeSet<ObjectKey>, Stopping> {
        let node = node.clone();
        self.ask(|answer| Command::Accounts { node, answer }).await
    }

    /// The Node objects of these nodes, in their order, as far as they are known.
    pub(crate) async fn registered(&self, nodes: Vec<NodeId>) -> Result<Vec<Option<Arc<Object>>>, Stopping> {
        self.ask(|answer| Command::Registered { nodes, answer }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopping> {
        let (answer, received) = oneshot::channel();
        self.0.send(command(answer)).await.map_err(|_| Stopping)?;
        received.await.map_err(|_| Stopping)
    }
}
