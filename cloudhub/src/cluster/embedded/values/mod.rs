//! How Go and Kubernetes read and write values: texts, numbers, times, quantities, names. Knows of no object and no request.

pub(super) mod clock;
pub(super) mod go_json;
pub(super) mod go_shape;
pub(super) mod go_value;
pub(super) mod names;
pub(super) mod quantity;
pub(super) mod set;
