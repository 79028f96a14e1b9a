//! The one thread that decides and writes.
//!
//! Requests that arrive while the disk is busy are decided one after the other, written together, and answered together.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use hub_core::api::{ApiRequest, ApiResponse, Status, UpstreamError};
use hub_core::object::{Object, ObjectKey, Revision};
use hub_core::rbac::{self, Rbac};
use hub_core::store::{Change, MemoryStore, StoreError};
use tokio::sync::{mpsc, oneshot};

use super::controllers::{authority, roles};
use super::decide::decide;
use super::draft::Draft;
use super::fault;
use super::identity::issuer::Issuer;
use super::kinds::{validate, versions};
use super::log::Log;
use super::state::State;

/// Work for the writer.
pub(super) enum Job {
    /// A request that is no read.
    Request {
        request: Box<ApiRequest>,
        /// What it says, if that was read already.
        draft: Option<Draft>,
        answer: oneshot::Sender<Result<ApiResponse, UpstreamError>>,
    },
    /// Objects to be taken over, or forgotten, without asking any rule.
    Changes(Vec<Change>, oneshot::Sender<Result<Revision, StoreError>>),
    /// The certificate by which pods know the API.
    Authority(Arc<str>, oneshot::Sender<Result<(), UpstreamError>>),
    /// Finds out whether the disk takes anything again.
    Probe,
}

/// Why the disk took nothing the last time; none while it takes everything.
pub(super) type Trouble = Arc<ArcSwapOption<String>>;

/// An answer that waits for the disk.
enum Answer {
    Request(ApiResponse, oneshot::Sender<Result<ApiResponse, UpstreamError>>),
    Authority(
        Result<(), UpstreamError>,
        oneshot::Sender<Result<(), UpstreamError>>,
    ),
    Changes(
        Result<Revision, StoreError>,
        oneshot::Sender<Result<Revision, StoreError>>,
    ),
}

pub(super) struct Writer {
    pub(super) state: State,
    /// What the roles and bindings say, as far as they are durable.
    pub(super) rules: Arc<ArcSwap<Rbac>>,
    pub(super) log: Log,
    pub(super) issuer: Arc<Issuer>,
    pub(super) memory: MemoryStore,
    pub(super) trouble: Trouble,
    pub(super) group_max: usize,
}

impl Writer {
    /// Works until nobody can bring more.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut answers: Vec<Answer> = self.prepare(first).into_iter().collect();
            while answers.len() < self.group_max
                && let Ok(job) = jobs.try_recv()
            {
                answers.extend(self.prepare(job));
            }
            let durable = self.commit();
            for answer in answers {
                answer.give(durable.as_ref().err());
            }
        }
    }

    /// Makes the prepared steps durable, then visible. On an error they never were.
    pub(super) fn commit(&mut self) -> Result<(), rusqlite::Error> {
        let (definitions, roles) = self.commit_steps()?;
        for definition in &definitions {
            // The registry knows its versions only now.
            versions::agree(&mut self.state, definition);
        }
        if roles {
            roles::agree(&mut self.state);
        }
        if !definitions.is_empty() || roles {
            self.commit_steps()?;
        }
        Ok(())
    }

    /// Commits, and answers with the definitions of custom kinds that were among the steps, and whether roles were.
    fn commit_steps(&mut self) -> Result<(Vec<Object>, bool), rusqlite::Error> {
        if self.state.changes().next().is_none() {
            return Ok((Vec::new(), false));
        }
        if let Err(error) = self.log.append(self.state.changes(), self.state.revision()) {
            self.trouble.store(Some(Arc::new(error.to_string())));
            tracing::error!(%error, "the embedded cluster could not write; free or repair its disk");
            self.state.roll_back_all();
            return Err(error);
        }
        self.works();
        let changes = self.state.settle();
        if changes.iter().any(is_about_rules) {
            self.rules.store(Arc::new(self.state.rules()));
        }
        let definitions = changes.iter().filter_map(versions::definition).cloned().collect();
        let roles = changes.iter().any(roles::is_one);
        if let Err(error) = self.memory.apply_now(changes) {
            // Its limits are above ours.
            tracing::error!(%error, "the embedded cluster's memory refused what is durable already");
        }
        Ok((definitions, roles))
    }

    fn works(&self) {
        if self.trouble.load().is_some() {
            tracing::info!("the embedded cluster's disk takes changes again");
            self.trouble.store(None);
        }
    }

    fn prepare(&mut self, job: Job) -> Option<Answer> {
        Some(match job {
            Job::Request {
                request,
                draft,
                answer,
            } => Answer::Request(decide(&mut self.state, &self.issuer, &request, draft), answer),
            Job::Changes(changes, answer) => Answer::Changes(self.take_over(changes), answer),
            Job::Authority(pem, answer) => {
                let mark = self.state.mark();
                let published = authority::publish(&mut self.state, &pem).map_err(|status| {
                    self.state.roll_back(mark);
                    tracing::error!(
                        why = status.message,
                        "the cluster's authority is not in every namespace"
                    );
                    UpstreamError::Overloaded
                });
                Answer::Authority(published, answer)
            }
            Job::Probe => {
                match self.log.probe() {
                    Ok(()) => self.works(),
                    Err(error) => self.trouble.store(Some(Arc::new(error.to_string()))),
                }
                return None;
            }
        })
    }

    fn take_over_one(&mut self, key: &ObjectKey, value: &mut serde_json::Value) -> Result<(), Status> {
        if let Some(kind) = self.state.registry.by_resource(&key.resource) {
            validate::types(&kind, value)?;
        }
        self.state.put(&key.resource, value).map(drop)
    }

    fn take_over_body(&mut self, object: &Object) -> Result<(), Status> {
        let mut value =
            serde_json::from_slice(&object.body).map_err(|error| fault::bad_request(error.to_string()))?;
        self.take_over_one(&object.key, &mut value)
    }

    fn take_over(&mut self, changes: Vec<Change>) -> Result<Revision, StoreError> {
        let mark = self.state.mark();
        for change in changes {
            let taken = match change {
                Change::Put(object) => self.take_over_body(&object),
                Change::Refresh(object) => match self.state.get(&object.key) {
                    Some(held) if held.uid == object.uid => self.take_over_body(&object),
                    _ => Ok(()),
                },
                Change::Delete { key, uid, .. } => {
                    let held = self.state.get(&key);
                    if held.is_some_and(|held| uid.is_none_or(|uid| uid == held.uid)) {
                        self.state.remove(&key);
                    }
                    Ok(())
                }
                Change::Want(_) | Change::Complete(_) | Change::Drop(_) => Ok(()),
            };
            if let Err(status) = taken {
                self.state.roll_back(mark);
                return Err(StoreError::Disk(status.message));
            }
        }
        // They are taken as they are, dependents with no owner too.
        self.state.garbage.clear();
        Ok(Revision(self.state.revision()))
    }
}

fn is_about_rules(change: &Change) -> bool {
    match change {
        Change::Put(object) | Change::Refresh(object) => &*object.key.resource.group == rbac::GROUP,
        Change::Delete { key, .. } => &*key.resource.group == rbac::GROUP,
        Change::Want(_) | Change::Complete(_) | Change::Drop(_) => false,
    }
}

impl Answer {
    /// Whoever asked may have gone; then nobody needs the answer.
    fn give(self, failure: Option<&rusqlite::Error>) {
        match self {
            Self::Request(answer, to) => {
                let failed =
                    |error| fault::internal(format!("the embedded cluster could not write: {error}")).into();
                let _ = to.send(Ok(failure.map_or(answer, failed)));
            }
            Self::Authority(answer, to) => {
                let _ = to.send(failure.map_or(answer, |_| Err(UpstreamError::Unreachable)));
            }
            Self::Changes(answer, to) => {
                let failed = |error: &rusqlite::Error| Err(StoreError::Disk(error.to_string()));
                let _ = to.send(failure.map_or(answer, failed));
            }
        }
    }
}
