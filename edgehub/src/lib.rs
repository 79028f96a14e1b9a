//! The node half of the edge tunnel: enrolment, the link, the durable store and the journal.

pub mod enroll;
pub mod store;
