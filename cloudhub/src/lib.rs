//! The cloud half of the edge tunnel: certificates, admission, sessions, and what each node needs.

mod admit;
mod authorize;
pub mod cluster;
mod complaints;
mod config;
mod downstream;
mod error;
mod hub;
mod metered;
mod metrics;
pub mod pki;
mod policy;
mod readiness;
pub mod records;
mod sessions;
mod source;
mod sync;
mod upstream;

pub use config::{AuthorizationConfig, CloudHubConfig, DownstreamConfig, SourceConfig};
pub use error::{ConfigError, ServeError};
pub use hub::{CloudHub, Serve};
pub use readiness::Readiness;
pub use sessions::{CONNECTION, ConnectedNode, HubEvent, NodeReport, Trouble};
