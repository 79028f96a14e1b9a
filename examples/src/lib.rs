//! What the ready programs share: the two halves, KubeEdge's configuration files, logs and metrics.

pub mod admin;
pub mod api;
pub mod cloud;
pub mod config;
pub mod edge;
pub mod fleet;
mod http1;
pub mod kinds;
pub mod logging;
pub mod mappers;
mod meta;
pub mod metrics;
pub mod pods;
mod port;
pub mod show;
pub mod signal;
pub mod thermometer;
