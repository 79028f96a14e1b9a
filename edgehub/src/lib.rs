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

mod apply;
mod config;
pub mod dial;
pub mod enroll;
mod error;
mod handle;
mod hub;
mod identity;
mod link;
mod metrics;
mod node;
mod object_response;
mod replay;
pub mod store;
mod subscribe;
mod upstream;

pub use config::{EdgeHubConfig, NodeAgentConfig, TransportConfig};
pub use error::{ReportError, RunError};
pub use handle::{EdgeHandle, Report};
pub use hub::{EdgeHub, EdgeHubBuilder};
pub use link::Link;
