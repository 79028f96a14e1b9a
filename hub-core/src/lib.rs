//! The message, the session, the wire and the store that CloudHub, EdgeHub and metaServer share.

pub mod api;
pub mod application;
pub mod backoff;
pub mod catch_up;
pub mod clock;
pub mod codec;
pub mod credentials;
pub mod driver;
pub mod handle;
pub mod message;
pub mod node;
pub mod object;
pub mod registry;
pub mod scope;
pub mod selector;
pub mod service;
pub mod session;
pub mod store;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod transport;
