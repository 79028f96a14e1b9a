//! Who somebody is and what they may do: tokens of service accounts, and reviews. No user is kept here, and no password.

pub(super) mod issuer;
pub(super) mod review;
pub(super) mod token;
