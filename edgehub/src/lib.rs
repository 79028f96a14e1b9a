//! The node half of the edge tunnel: enrolment, the link, the durable store and the journal.
//!
//! ```text
//!   cloud ──► dial ──► Driver (one session) ──► apply ──► store ──► readers, watches
//!     ▲                    ▲        ▲
//!     └── subscribe ───────┘        └── replay ◄── journal ◄── report
//!         what the node wants           what must reach the cloud
//! ```
//!
//! [`EdgeHub::run`] keeps the node connected for as long as it lives. Everybody else holds an [`EdgeHandle`].
//!
//! ```no_run
//! use edgehub::store::EdgeStore;
//! use edgehub::{EdgeHub, EdgeHubConfig};
//! use hub_core::node::NodeId;
//! use hub_core::transport::Endpoint;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = EdgeHubConfig::new(NodeId::new("edge-1")?);
//! config.websocket.extend(Endpoint::parse("cloud.example:10000"));
//! config.enroll.http_servers.extend(Endpoint::parse("cloud.example:10002"));
//! config.enroll.token = Some(std::fs::read_to_string("token")?);
//!
//! let hub = EdgeHub::new(config, EdgeStore::open("/var/lib/kubeedge/edge.db")?)?;
//! let handle = hub.handle(); // requests to the cloud's API, reports, the state of the link
//! hub.run().await?;
//! # Ok(())
//! # }
//! ```

mod apply;
mod config;
pub mod dial;
#[cfg(feature = "dmi")]
pub mod dmi;
mod doubt;
pub mod enroll;
mod error;
mod handle;
mod hub;
mod identity;
mod kubelet;
mod link;
mod metrics;
mod node;
mod object_response;
mod replay;
mod source;
pub mod store;
mod subscribe;
mod token;
pub mod twin;
mod upstream;

pub use config::{EdgeHubConfig, NodeAgentConfig, Taint, TransportConfig};
pub use doubt::MassDeletion;
pub use error::{ReportError, RunError};
pub use handle::{EdgeHandle, Report};
pub use hub::{EdgeHub, EdgeHubBuilder};
pub use kubelet::AskError;
pub use link::Link;
pub use object_response::Denied;
pub use token::{KeptToken, TokenConfig};
