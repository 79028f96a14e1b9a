//! The devices beside a node: what they should be, what they are, and what the cloud hears of them.
//!
//! ```text
//!   cloud ── Devices, models ──► store ──► ┌────────┐ ◄── update, state ── applications (MQTT), mappers
//!         ── membership, twins ──────────► │ keeper │ ──► changes: deltas, documents, devices that come and go
//!         ◄── reports ── uplink ◄── owing ─└───┬────┘
//!                                              ▼
//!                                        store: one record a device
//! ```
//!
//! A [`TwinHub`] does the work; everybody else holds its [`Twins`]. A device is here while its Device is bound to this node, or while a
//! membership message of an older cloud says so. [`Device`] is the twin itself, a plain value.
//!
//! What a device says is written before it is answered, and told to the cloud until the cloud confirms it: the newest of each
//! property, however long the cloud was away (weak spot L8). Nothing that a cloud does not answer is repeated for ever (L9).
//!
//! ```no_run
//! use std::sync::Arc;
//! use edgehub::store::EdgeStore;
//! use edgehub::twin::{DeviceId, TwinConfig, TwinHub, Value};
//! use edgehub::{EdgeHub, EdgeHubConfig};
//! use hub_core::node::NodeId;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let node = NodeId::new("edge-1")?;
//! let store = EdgeStore::open("/var/lib/kubeedge/edge.db")?;
//! let devices = TwinHub::new(TwinConfig::new(node.clone()), Arc::new(store.clone()));
//! let twins = devices.handle();
//! let hub = EdgeHub::with_store(EdgeHubConfig::new(node), store).with_routes(twins.routes()).build();
//! tokio::spawn(devices.run(hub.handle()));
//!
//! let sensor = DeviceId::parse("default/thermometer")?;
//! twins.report(&sensor, [("temperature", Value::new("21"))]).await?;
//! # Ok(())
//! # }
//! ```

mod change;
mod device;
mod keeper;
mod kinds;
mod metrics;
mod mqtt;
mod name;
mod owed;
mod owing;
mod plan;
mod property;
mod record;
mod report;
mod routes;
pub mod shape;
mod spec;
mod stage;
#[cfg(test)]
mod tests;
mod uplink;

use std::sync::Arc;
use std::time::Duration;

use hub_core::clock::{Clock, SystemClock};
use hub_core::node::NodeId;
use hub_core::object::ObjectKey;
use hub_core::store::{ObjectStore, Stored};
use prometheus_client::registry::Registry;
use tokio::sync::{broadcast, mpsc, oneshot};

pub use change::{Change, Changes, TwinChange};
pub use device::{Device, Rejected, Updated};
pub use keeper::{Changed, TwinError, Which};
pub(crate) use kinds::learn;
pub use kinds::{devices, models};
pub use metrics::BrokerState;
pub use mqtt::{InvalidBroker, MqttConfig, MqttTls, Quality, serve_mqtt};
pub use name::{DeviceId, DeviceState, InvalidName, ValueType};
pub use owed::Owed;
pub use property::{Property, Side, Version};
pub use shape::Value;

use crate::handle::EdgeHandle;
use keeper::{Command, FromCloud, Keeper};
use metrics::Metrics;
use owing::Owing;

/// The limits of a node's twins.
#[derive(Debug, Clone)]
pub struct TwinConfig {
    /// Whose devices these are.
    pub node: NodeId,
    /// Devices that membership messages alone may tell of. Those with a Device count among the store's objects.
    pub devices_max: usize,
    /// Properties of a device, those that were deleted among them.
    pub properties_max: usize,
    /// Changes that wait for the disk; more wait at the door.
    pub queue_max: usize,
    /// Changes that are written together.
    pub group_max: usize,
    /// Changes that a follower may be behind before it has missed some.
    pub changes_max: usize,
    /// Reports under way to the cloud at once.
    pub reports_max: usize,
    /// Devices in one report, where the cloud is ours.
    pub batch_max: usize,
    /// How long a report may wait for its confirmation.
    pub confirm_within: Duration,
    /// How often a report is sent that nobody answers. After that it waits for the device's next change, or for the next connection.
    pub attempts_max: u32,
    /// The pauses before a report that the cloud could not take is sent again, and before a disk that refused is asked again.
    pub backoff: hub_core::backoff::Backoff,
}

impl TwinConfig {
    /// The defaults.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            devices_max: 20_000,
            properties_max: 256,
            queue_max: 1024,
            group_max: 256,
            changes_max: 4096,
            reports_max: 32,
            batch_max: 64,
            confirm_within: Duration::from_secs(10),
            attempts_max: 3,
            backoff: hub_core::backoff::Backoff {
                first: Duration::from_secs(1),
                max: Duration::from_secs(60),
            },
        }
    }
}

/// The twins of a node. [`run`](Self::run) does the work.
pub struct TwinHub {
    keeper: Keeper,
    twins: Twins,
}

/// Everybody's way to the twins of a node. Cheap to clone. Reads never wait for a disk.
#[derive(Clone)]
pub struct Twins {
    config: Arc<TwinConfig>,
    store: Arc<dyn ObjectStore>,
    commands: mpsc::Sender<Command>,
    told: broadcast::Sender<Change>,
    owing: Arc<Owing>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

impl TwinHub {
    /// The twins in a node's store.
    pub fn new(config: TwinConfig, store: Arc<dyn ObjectStore>) -> Self {
        Self::with_clock(config, store, Arc::new(SystemClock))
    }

    /// The same with another clock. Values carry its time; nothing is decided by it.
    pub fn with_clock(config: TwinConfig, store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        let config = Arc::new(config);
        let (commands, queue) = mpsc::channel(config.queue_max.max(1));
        let told = broadcast::Sender::new(config.changes_max.max(1));
        let twins = Twins {
            config: config.clone(),
            store: store.clone(),
            commands,
            told: told.clone(),
            owing: Arc::default(),
            metrics: Metrics::default(),
            clock: clock.clone(),
        };
        let keeper = Keeper {
            config,
            store,
            clock,
            commands: queue,
            told,
            owing: twins.owing.clone(),
            metrics: twins.metrics.clone(),
        };
        Self { keeper, twins }
    }

    /// What everybody else holds.
    pub fn handle(&self) -> Twins {
        self.twins.clone()
    }

    /// Adds the numbers of the twins and of the broker to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.twins.metrics.register(registry);
    }

    /// Keeps the twins, and tells the cloud through the node's hub. Runs until it is dropped.
    pub async fn run(self, edge: EdgeHandle) {
        let Self { keeper, twins } = self;
        tokio::join!(keeper.run(), uplink::run(&twins, &edge));
    }
}

impl Twins {
    /// Whose devices these are.
    pub fn node(&self) -> &NodeId {
        &self.config.node
    }

    /// The twins of all devices of this node, by name.
    pub fn list(&self) -> Vec<Device> {
        stage::known(&*self.store).collect()
    }

    /// The twin of a device; None where it is none of this node's.
    pub fn get(&self, id: &DeviceId) -> Option<Device> {
        stage::held(&*self.store, id)
    }

    /// The device that somebody means.
    pub fn find(&self, which: &Which) -> Result<Device, TwinError> {
        self.get(&which.resolve(&*self.store)?).ok_or(TwinError::NoDevice)
    }

    /// The Device as the cloud has it; None where the cloud told of it in a membership message only.
    pub fn object(&self, id: &DeviceId) -> Option<Arc<Stored>> {
        self.get(id)?;
        self.store.get(&id.key())
    }

    /// The DeviceModels that are here.
    pub fn models(&self) -> Vec<Arc<Stored>> {
        self.store.list(models(), None).objects
    }

    /// A DeviceModel.
    pub fn model(&self, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.store
            .get(&ObjectKey::new(models().clone(), Some(namespace), name))
    }

    /// How many devices have something that the cloud has not heard.
    pub fn owing(&self) -> usize {
        self.owing.len()
    }

    /// When the oldest value came that the cloud has not heard: Unix time in milliseconds.
    pub fn owing_since_ms(&self) -> Option<i64> {
        self.owing.since_ms()
    }

    /// Whether the MQTT broker is there; None where none is wanted, or none was tried yet.
    pub fn broker(&self) -> Option<BrokerState> {
        self.metrics.broker()
    }

    /// Brings the metrics up to date that are only taken when somebody asks.
    pub fn sample(&self) {
        let age = self
            .owing_since_ms()
            .map_or(0, |since| self.clock.unix_ms() - since);
        self.metrics.owe(self.owing(), age.max(0));
    }

    /// Follows what happens from now on.
    pub fn changes(&self) -> Changes {
        Changes::new(self.told.subscribe())
    }

    /// What a device is, as its mapper measured it. Once this resolves it is on the disk and will reach the cloud.
    pub async fn report<'a>(
        &self,
        id: &DeviceId,
        values: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Result<Changed, TwinError> {
        let twin = values.into_iter().map(|(name, value)| {
            let twin = shape::Twin {
                actual: Some(value),
                ..shape::Twin::default()
            };
            (name.to_owned(), Some(twin))
        });
        self.update(&Which::Id(id.clone()), "", twin.collect()).await
    }

    /// Any change of properties made on this node: expected and actual values, new properties, deletions. All of it or nothing.
    /// `event_id` comes back in the [`Change`] that followers get.
    pub async fn update(
        &self,
        which: &Which,
        event_id: &str,
        twin: shape::Twins,
    ) -> Result<Changed, TwinError> {
        self.begin_update(which, event_id, twin).await.await
    }

    /// Whether a device is there, as its mapper says.
    pub async fn set_state(&self, which: &Which, state: DeviceState) -> Result<Arc<Device>, TwinError> {
        self.begin_state(which, state).await.await
    }

    /// [`update`](Self::update) in two steps: once this resolves, the change has its place before all later ones.
    async fn begin_update(
        &self,
        which: &Which,
        event_id: &str,
        twin: shape::Twins,
    ) -> impl Future<Output = Result<Changed, TwinError>> + Send + use<> {
        let (which, event_id) = (which.clone(), event_id.into());
        self.begin(move |reply| Command::Update {
            which,
            event_id,
            twin,
            reply,
        })
        .await
    }

    /// [`set_state`](Self::set_state) in two steps.
    async fn begin_state(
        &self,
        which: &Which,
        state: DeviceState,
    ) -> impl Future<Output = Result<Arc<Device>, TwinError>> + Send + use<> {
        let which = which.clone();
        self.begin(move |reply| Command::State { which, state, reply })
            .await
    }

    async fn said(&self, said: FromCloud) -> Result<(), TwinError> {
        self.ask(|reply| Command::FromCloud(said, reply)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, TwinError>>) -> Command,
    ) -> Result<T, TwinError> {
        self.begin(command).await.await
    }

    async fn begin<T: Send + 'static, C>(
        &self,
        command: C,
    ) -> impl Future<Output = Result<T, TwinError>> + Send + use<T, C>
    where
        C: FnOnce(oneshot::Sender<Result<T, TwinError>>) -> Command,
    {
        let (reply, answer) = oneshot::channel();
        // A closed queue drops the command, and the reply with it.
        let _ = self.commands.send(command(reply)).await;
        async move { answer.await.unwrap_or(Err(TwinError::Stopped)) }
    }
}

impl std::fmt::Debug for Twins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Twins")
            .field("node", self.node())
            .field("owing", &self.owing())
            .finish_non_exhaustive()
    }
}
