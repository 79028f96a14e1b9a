//! Several hubs over one cluster, and nodes that land on any of them.

mod drain;
mod failure;
mod fleet;
mod newest;
mod schedule;
mod silent;
mod way;
