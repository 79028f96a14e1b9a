//! What the ready programs share: KubeEdge's configuration files, and logs.

pub mod api;
pub mod config;
pub mod fleet;
pub mod logging;
