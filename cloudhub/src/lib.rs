//! The cloud half of the edge tunnel.

pub mod cluster;
