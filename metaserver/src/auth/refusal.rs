//! Why nobody is let in, in the words of a kube-apiserver.

use hub_core::api::{Reason, Status};

/// Whoever this is could not show it.
pub(super) fn unauthorized() -> Status {
    Status::failure(Reason::Unauthorized, "Unauthorized")
}

/// It cannot be decided here and now; later it can.
pub(super) fn unknown(why: &str) -> Status {
    Status::failure(Reason::ServiceUnavailable, why)
        .cause("CloudUnreachable", why, "")
        .retry_after(1)
}
