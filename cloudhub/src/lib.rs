//! The cloud half of the edge tunnel: certificates, admission, sessions, and what each node needs.

pub mod cluster;
pub mod pki;
