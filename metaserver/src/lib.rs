//! A small, correct Kubernetes API server over a replicated store, for a node that may be alone.
//!
//! ```text
//!  kubectl, agents, pods                 what the store surely knows is answered from it,
//!        │ HTTP :10550                   with the cloud or without it
//!  ┌─────▼──────┐  reads, watches  ┌───────┐
//!  │ MetaServer ├─────────────────►│ store │◄── the edge hub, from the tunnel
//!  └─────┬──────┘                  └───▲───┘
//!        │ all else, and writes        │ what comes back is kept, and subscribed to
//!        ▼                             │
//!    upstream ─────────────────────────┘
//! ```
//!
//! It never lies: no 404 for what is merely not here, no DELETED for what was not deleted, no success for a write that did not
//! happen, or is not safe on the disk to be told to the cloud later. A client sees the revisions of one store, which only grow; versions in writes are translated for the cloud.
//!
//! ```
//! use hub_core::api::{ApiRequest, UpstreamError};
//! use hub_core::registry::Registry;
//! use hub_core::store::{MemoryStore, StoreLimits};
//! use http_body_util::{BodyExt, Empty};
//! use metaserver::MetaServer;
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new(StoreLimits::default(), Registry::builtin());
//! let no_cloud = service_fn(async |_: ApiRequest| Err(UpstreamError::Unreachable));
//! let meta = MetaServer::new(store, no_cloud);
//!
//! // `meta.serve("127.0.0.1:10550").await` would listen; it is an ordinary service too.
//! let request = http::Request::get("/api/v1/pods").body(Empty::<bytes::Bytes>::new())?;
//! let answer = meta.service().oneshot(request).await?;
//! assert_eq!(answer.status(), 503, "not held here, and there is no cloud to ask");
//! let body = answer.into_body().collect().await?.to_bytes();
//! assert!(String::from_utf8_lossy(&body).contains("CloudUnreachable"));
//! # Ok(())
//! # }
//! ```

mod accept;
mod api;
mod auth;
mod body;
mod clause;
mod client;
mod cloud;
mod conditional;
mod config;
mod decode;
mod documents;
mod duration;
mod encode;
mod explain;
mod extension;
mod fault;
mod fit;
mod gzip;
mod health;
mod listen;
mod metrics;
mod openapi;
mod options;
mod overlay;
mod page;
mod read;
mod reply;
mod request;
mod server;
mod serving;
mod stall;
mod watch;
mod websocket;
mod write;

pub use auth::{AuthConfig, CallerIs, Callers, StaticTokens};
pub use body::{Body, Slices};
pub use config::{MetaConfig, Revisions};
pub use explain::{CloudReport, HeldBackReport, LocalAnswer, ScopeReport, Scopes, WatchReport, Why};
pub use listen::Listen;
pub use server::{MetaServer, MetaService};
pub use serving::{Serving, ServingConfig, ServingError};
pub use write::local::{
    LocalClass, LocalJournal, LocalRule, LocalWrites, PendingWrite, Whose, Winner, WriteConflict,
};
