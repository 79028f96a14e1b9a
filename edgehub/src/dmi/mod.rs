//! KubeEdge's device mapper interface (DMI), v1beta1: the programs that speak to devices, and what the node and they tell each other.
//!
//! ```text
//!   mapper ── registers, reports values and states ──► Service ──► twins
//!     ▲                                                   │ who, where
//!     └── models, devices, what changed ◄── Worker ◄──────┘
//!                                             ▲ devices and models, as the cloud and local clients have them
//!                                           store
//! ```
//!
//! Both ways are gRPC over a Unix socket: the node's ([`DmiConfig::socket`]), and the one a mapper names when it registers. Mappers built
//! with KubeEdge's `mapper-framework` find here what they find at a KubeEdge edgecore (`edge/pkg/devicetwin/{dmiserver,dmiclient}`).
//! There, what a mapper misses while it is away is lost, as is a device that comes before its model, or before its mapper.

mod authority;
mod catalogue;
mod client;
mod config;
mod convert;
mod limit;
mod listen;
mod metrics;
mod plan;
mod registrations;
mod service;
mod twins;
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, reason = "generated")]
pub mod v1beta1;
mod worker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use hub_core::node::NodeId;
use hub_core::socket::{Access, BindError, Socket};
use hub_core::store::{ObjectStore, StoreError};
use tokio::sync;
use tokio_util::sync::CancellationToken;

pub use config::DmiConfig;
pub use metrics::DmiMetrics;

use limit::Rate;
use plan::Told;
use registrations::{Mapper, Registrations};
use worker::Worker;

/// Where what mappers report goes.
pub trait Reports: Send + Sync + 'static {
    /// New values of a device's properties: name and value. All of them, or none.
    fn values<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        values: Vec<(String, String)>,
    ) -> BoxFuture<'a, Result<(), ReportError>>;

    /// Whether a device is there.
    fn state<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        state: String,
    ) -> BoxFuture<'a, Result<(), ReportError>>;
}

/// A report was not taken. The mapper hears why.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReportError {
    /// It never will be. The mapper's move.
    #[error("{0}")]
    Invalid(String),
    /// Another time it may be.
    #[error("{0}")]
    Unavailable(String),
}

/// The node's side of the interface.
pub struct Dmi {
    shared: Arc<Shared>,
    socket: Socket,
}

struct Shared {
    config: Arc<DmiConfig>,
    node: NodeId,
    store: Arc<dyn ObjectStore>,
    reports: Arc<dyn Reports>,
    registrations: Registrations,
    rate: Mutex<Rate>,
    workers: sync::Mutex<HashMap<Arc<str>, Running>>,
}

/// A mapper could not be registered.
#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error("this node knows {0} mappers already")]
    TooMany(usize),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Dmi {
    /// Binds the socket. Nobody is answered before [`run`](Self::run).
    pub async fn bind(
        config: DmiConfig,
        node: NodeId,
        store: Arc<dyn ObjectStore>,
        reports: Arc<dyn Reports>,
    ) -> Result<Self, BindError> {
        let socket = Socket::bind(&config.socket, Access::GROUP).await?;
        let rate = Rate::new(config.calls_per_second, config.calls_burst, Instant::now());
        Ok(Self {
            shared: Arc::new(Shared {
                config: Arc::new(config),
                node,
                registrations: Registrations::new(store.clone()),
                store,
                reports,
                rate: Mutex::new(rate),
                workers: sync::Mutex::default(),
            }),
            socket,
        })
    }

    /// Serves mappers until told to stop. Those of before a restart are known from the start.
    pub async fn run(self, stop: CancellationToken) {
        let Self { shared, socket } = self;
        for mapper in shared.registrations.all() {
            let running = shared.start(mapper.clone(), Duration::ZERO);
            shared.workers.lock().await.insert(mapper.protocol, running);
        }
        let known = shared.workers.lock().await.len();
        shared.config.metrics.mappers.set(known as i64);
        listen::serve(&socket, service::Service(shared.clone()), stop).await;
        for (_, running) in shared.workers.lock().await.drain() {
            running.stop().await;
        }
    }
}

impl Shared {
    /// Keeps a mapper and begins to tell it of its devices, in the place of all that has its name or its protocol.
    async fn register(&self, mapper: Mapper, took: Told) -> Result<(), RegisterError> {
        let mut workers = self.workers.lock().await;
        let same = |known: &Mapper| known.name == mapper.name || known.protocol == mapper.protocol;
        let others = workers.values().filter(|running| !same(&running.mapper)).count();
        if others >= self.config.mappers_max {
            return Err(RegisterError::TooMany(others));
        }
        let replaced: Vec<_> = workers.extract_if(|_, running| same(&running.mapper)).collect();
        for (_, running) in replaced {
            if running.mapper.name != mapper.name {
                let (old, new, protocol) = (&running.mapper.name, &mapper.name, &*mapper.protocol);
                tracing::warn!(
                    old,
                    new,
                    protocol,
                    "a mapper takes the devices of another of its protocol"
                );
            }
            // It must not note anything about its successor.
            running.stop().await;
        }
        self.registrations.register(&mapper, &took).await?;
        let running = self.start(mapper.clone(), self.config.settle);
        workers.insert(mapper.protocol, running);
        self.config.metrics.mappers.set(workers.len() as i64);
        Ok(())
    }

    fn start(&self, mapper: Mapper, settle: Duration) -> Running {
        let stop = CancellationToken::new();
        let worker = Worker::new(
            mapper.clone(),
            self.node.clone(),
            self.config.clone(),
            self.store.clone(),
        );
        let until = stop.clone();
        let task = tokio::spawn(async move {
            let work = async {
                tokio::time::sleep(settle).await;
                worker.run().await;
            };
            until.run_until_cancelled(work).await;
        });
        Running { mapper, stop, task }
    }
}

/// A worker in its task.
struct Running {
    mapper: Mapper,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        // When the whole program ends, its tasks are taken away in any order.
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!(mapper = self.mapper.name, %error, "the task of a mapper ended badly");
        }
    }
}
