//! What our tests are made of, and yours may be: conformance suites, certificates, and worlds with a bad wire.

mod apt;
pub mod child;
pub mod client_go;
mod disk;
pub mod fuzz;
mod pki;
pub mod store;
pub mod tools;
mod wire;
pub mod world;

pub use disk::{on_small_disk, small_disk};
pub use pki::TestCa;
pub use wire::{Wire, WireConditions};
