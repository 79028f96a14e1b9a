//! What our tests are made of, and yours may be: conformance suites, and worlds with a bad wire.

pub mod store;
