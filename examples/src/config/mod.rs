//! KubeEdge's YAML files, over KubeEdge's defaults.
//!
//! ```text
//!   recorded/ ──► defaults ─┐
//!   catalogue ──────────────┼─► load ──► CloudCore, EdgeCore   what is in effect
//!   file, environment ──────┘        ──► words, mistakes       what an operator is told
//! ```
//!
//! The catalogue knows every key of KubeEdge and what becomes of it here. A file that KubeEdge takes is taken.

mod callers;
mod catalogue;
mod cloudcore;
mod defaults;
#[cfg(test)]
mod document;
mod edgecore;
mod given;
mod host;
mod kind;
mod load;
mod mistake;
mod offline_writes;
mod start;
#[cfg(test)]
mod tests;
mod words;

pub use callers::Callers;
pub use catalogue::{Catalogue, Fate, Key, Keys, Run};
pub use cloudcore::{
    Authorization, CloudCore, CloudHubModule, EdgeTunnel, KubeApiConfig, Listen, Standalone, SyncRecords,
    SyncRecordsMode,
};
pub use edgecore::{
    EdgeCore, EdgeHubModule, Edged, Endpoints, FeatureGates as EdgeFeatureGates, Kubelet, MetaServerModule,
};
pub(crate) use host::Host;
pub use kind::Kind;
pub(crate) use kind::{duration, https};
pub use load::{Configuration, Loaded, load};
pub use mistake::ConfigError;
pub use offline_writes::{collection, rules as offline_rules};
pub use start::{ExampleArguments, LogArguments, bootstrap_token, of_process, to_yaml};
