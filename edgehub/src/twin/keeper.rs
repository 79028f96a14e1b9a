//! The one task that changes twins: it takes what is waiting, makes it durable in one go, tells of it, and answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_core::clock::Clock;
use hub_core::object::ObjectKey;
use hub_core::store::{Compacted, Event, EventKind, ObjectStore, StoreError, Watch};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;

use super::TwinConfig;
use super::change::Change;
use super::device::{Device, Rejected, Updated};
use super::kinds::{self, devices, models, twins};
use super::metrics::Metrics;
use super::name::{DeviceId, DeviceState, InvalidName};
use super::owed::Marks;
use super::owing::Owing;
use super::shape;
use super::stage::{Stage, keys, known};

/// Which device somebody means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The device of this name.
    Id(DeviceId),
    /// The one device of this name in whichever namespace: edges before KubeEdge 1.15 knew no namespaces.
    Name(Arc<str>),
}

/// A twin was not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TwinError {
    /// The change makes no sense. The sender's move.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The device is none of this node's. The sender's move.
    #[error("update rejected due to the device is not existed")]
    NoDevice,
    /// Several devices have this name. The sender's move: name the namespace.
    #[error("several devices are named {0}; name the namespace too")]
    SeveralDevices(Arc<str>),
    /// The disk refused, or is full.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The twins are over.
    #[error("the device twins are stopping")]
    Stopped,
}

/// A twin was changed, and is on the disk.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The device after the change.
    pub device: Arc<Device>,
    /// What changed.
    pub updated: Arc<Updated>,
    /// When: Unix time in milliseconds.
    pub timestamp_ms: i64,
}

/// What KubeEdge's cloud says of devices beside the Devices themselves.
#[derive(Debug, Clone)]
pub(super) enum FromCloud {
    /// `device/<id>/twin/cloud_updated`.
    Twin(Which, shape::TwinMessage),
    /// `device/<id>`, operation `updated`.
    Attributes(Which, BTreeMap<String, Option<shape::Attribute>>),
    /// `membership`.
    Membership {
        added: Vec<shape::Device>,
        removed: Vec<shape::Device>,
    },
    /// `membership/detail`: all of them.
    Detail(Vec<shape::Device>),
}

/// What the handles ask for.
pub(super) enum Command {
    Update {
        which: Which,
        event_id: Arc<str>,
        twin: shape::Twins,
        reply: oneshot::Sender<Result<Changed, TwinError>>,
    },
    State {
        which: Which,
        state: DeviceState,
        reply: oneshot::Sender<Result<Arc<Device>, TwinError>>,
    },
    FromCloud(FromCloud, oneshot::Sender<Result<(), TwinError>>),
    Settle(Vec<(DeviceId, Marks)>, oneshot::Sender<Result<(), TwinError>>),
}

/// Who waits for the disk, and for what.
enum Waiting {
    Update(oneshot::Sender<Result<Changed, TwinError>>, Changed),
    State(oneshot::Sender<Result<Arc<Device>, TwinError>>, Arc<Device>),
    Nothing(oneshot::Sender<Result<(), TwinError>>),
}

pub(super) struct Keeper {
    pub(super) config: Arc<TwinConfig>,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) told: broadcast::Sender<Change>,
    pub(super) owing: Arc<Owing>,
    pub(super) metrics: Metrics,
}

impl Which {
    pub(super) fn resolve(&self, store: &dyn ObjectStore) -> Result<DeviceId, TwinError> {
        let name = match self {
            Self::Id(id) => return Ok(id.clone()),
            Self::Name(name) => name,
        };
        let all = store.list(twins(), None).objects;
        let mut named = all.iter().filter(|stored| stored.object.key.name == *name);
        let first = named.next().ok_or(TwinError::NoDevice)?;
        match named.next() {
            Some(_) => Err(TwinError::SeveralDevices(name.clone())),
            None => DeviceId::of(&first.object.key).ok_or(TwinError::NoDevice),
        }
    }
}

impl TwinError {
    /// KubeEdge's code for it: 400, 404, 409 or 500.
    pub fn code(&self) -> u16 {
        match self {
            Self::Rejected(Rejected::NotOptional(_)) | Self::SeveralDevices(_) => 409,
            Self::Rejected(Rejected::NoProperty(_)) | Self::NoDevice => 404,
            Self::Rejected(_) => 400,
            Self::Store(_) | Self::Stopped => 500,
        }
    }
}

impl From<InvalidName> for TwinError {
    fn from(invalid: InvalidName) -> Self {
        Self::Rejected(invalid.into())
    }
}

impl Keeper {
    /// Runs until nobody can ask any more.
    pub(super) async fn run(mut self) {
        for device in known(&*self.store) {
            self.owing.note(&device.id, Some(&device));
        }
        for (collection, kind) in [(devices(), "device"), (models(), "devicemodel")] {
            if self.store.resources().contains(collection) {
                kinds::learn(self.store.registry(), kind);
            }
        }
        let mut watches = self.watches();
        // Whether all Devices are to be looked at, and when; how often the disk refused what followed from that.
        let (mut behind, mut refused) = (Some(Instant::now()), 0);
        let mut batch = Vec::new();
        let max = self.config.group_max;
        loop {
            let (of_devices, of_models) = &mut watches;
            let followed = if behind.is_some_and(|at| at <= Instant::now()) {
                behind = None;
                self.look().await
            } else {
                let look = behind.unwrap_or_else(Instant::now);
                // First what devices there are: what is said of one that has come is not refused.
                tokio::select! {
                    biased;
                    events = of_devices.next_batch(max) => self.follow(events).await,
                    events = of_models.next_batch(max) => self.tell_models(events),
                    () = tokio::time::sleep_until(look), if behind.is_some() => continue,
                    taken = self.commands.recv_many(&mut batch, max) => {
                        if taken == 0 {
                            return;
                        }
                        self.carry_out(std::mem::take(&mut batch)).await;
                        continue;
                    }
                }
            };
            match followed {
                Ok(()) => refused = 0,
                Err(Lost::History) => {
                    watches = self.watches();
                    behind = Some(Instant::now());
                }
                Err(Lost::Disk) => {
                    behind = Some(Instant::now() + self.config.backoff.pause(refused, u64::MAX));
                    refused += 1;
                }
            }
        }
    }

    fn watches(&self) -> (Watch, Watch) {
        loop {
            let revision = self.store.revision();
            let watch = |collection| self.store.watch(collection, revision);
            // Only a flood of changes in this very instant makes it begin again.
            if let (Ok(devices), Ok(models)) = (watch(devices()), watch(models())) {
                return (devices, models);
            }
        }
    }

    /// Brings the twins in line with all Devices.
    async fn look(&self) -> Result<(), Lost> {
        for keys in keys(&*self.store).chunks(self.config.group_max) {
            self.bring_in_line(keys).await?;
        }
        Ok(())
    }

    async fn follow(&self, events: Result<Vec<Arc<Event>>, Compacted>) -> Result<(), Lost> {
        let keys: Vec<_> = events?
            .iter()
            .map(|event| event.stored.object.key.clone())
            .collect();
        self.bring_in_line(&keys).await
    }

    async fn bring_in_line(&self, keys: &[ObjectKey]) -> Result<(), Lost> {
        let mut stage = self.stage();
        for key in keys {
            stage.follow(key);
        }
        let told = self.commit(stage).await.map_err(|error| {
            tracing::error!(%error, "the twins of new devices could not be written; it is tried again");
            Lost::Disk
        })?;
        self.tell(told);
        Ok(())
    }

    fn tell_models(&self, events: Result<Vec<Arc<Event>>, Compacted>) -> Result<(), Lost> {
        for event in events? {
            let key = &event.stored.object.key;
            let (namespace, name) = (key.namespace.clone().unwrap_or_default(), key.name.clone());
            let change = match event.kind {
                EventKind::Deleted => Change::ModelRemoved { namespace, name },
                EventKind::Added | EventKind::Modified => Change::Model { namespace, name },
            };
            let _ = self.told.send(change);
        }
        Ok(())
    }

    async fn carry_out(&self, commands: Vec<Command>) {
        let mut stage = self.stage();
        let mut waiting = Vec::new();
        for command in commands {
            match command {
                Command::Update {
                    which,
                    event_id,
                    twin,
                    reply,
                } => match stage.update(&which, &event_id, &twin) {
                    Ok(changed) => waiting.push(Waiting::Update(reply, changed)),
                    Err(error) => {
                        self.metrics.refused(error.cause());
                        drop(reply.send(Err(error)));
                    }
                },
                Command::State { which, state, reply } => match stage.state(&which, state) {
                    Ok(device) => waiting.push(Waiting::State(reply, device)),
                    Err(error) => {
                        self.metrics.refused(error.cause());
                        drop(reply.send(Err(error)));
                    }
                },
                Command::FromCloud(said, reply) => {
                    stage.take_from_cloud(&said);
                    waiting.push(Waiting::Nothing(reply));
                }
                Command::Settle(settled, reply) => {
                    for (id, marks) in settled {
                        stage.settle(&id, &marks);
                    }
                    waiting.push(Waiting::Nothing(reply));
                }
            }
        }
        let committed = self.commit(stage).await;
        let (told, ended) = match committed {
            Ok(told) => (told, Ok(())),
            Err(error) => {
                tracing::error!(%error, "twins could not be written");
                waiting.iter().for_each(|_| self.metrics.refused("disk"));
                (Vec::new(), Err(error))
            }
        };
        // Whoever made a change hears of it first.
        for waiting in waiting {
            waiting.end(&ended);
        }
        self.tell(told);
    }

    /// Writes, and returns what is to be told.
    async fn commit(&self, stage: Stage<'_>) -> Result<Vec<Change>, StoreError> {
        let outcome = stage.finish();
        (0..outcome.rejected).for_each(|_| self.metrics.refused("wish"));
        if !outcome.writes.is_empty() {
            self.store.apply(outcome.writes).await?;
        }
        for (id, device) in &outcome.devices {
            self.owing.note(id, device.as_ref());
        }
        Ok(outcome.told)
    }

    fn tell(&self, told: Vec<Change>) {
        for change in told {
            // Nobody may be following.
            let _ = self.told.send(change);
        }
    }

    fn stage(&self) -> Stage<'_> {
        Stage::new(&*self.store, &self.config, self.clock.unix_ms())
    }
}

impl Waiting {
    fn end(self, committed: &Result<(), StoreError>) {
        let failed = |error: &StoreError| TwinError::from(error.clone());
        // Whoever does not wait any more does no harm by that.
        match self {
            Self::Update(reply, changed) => {
                drop(reply.send(committed.as_ref().map(|()| changed).map_err(failed)));
            }
            Self::State(reply, device) => {
                drop(reply.send(committed.as_ref().map(|()| device).map_err(failed)));
            }
            Self::Nothing(reply) => drop(reply.send(committed.as_ref().copied().map_err(failed))),
        }
    }
}

/// Not every Device has been followed.
enum Lost {
    /// Some changes are not kept any more.
    History,
    /// The disk refused.
    Disk,
}

impl From<Compacted> for Lost {
    fn from(_: Compacted) -> Self {
        Self::History
    }
}
