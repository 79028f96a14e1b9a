//! What a new object gets here: its place, its name, a uid and its time.

use hub_core::api::{Reason, Status};
use hub_core::object::ObjectKey;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::apply::{self, Birth};
use crate::api::Asked;

/// Where an object that is to be created goes; its name is made here when only its beginning is given.
pub(super) fn created_key(asked: &Asked, body: &[u8]) -> Result<ObjectKey, Status> {
    let new = apply::object(body)?;
    let namespace = asked.namespace.as_deref().filter(|_| asked.kind.namespaced);
    let (name, prefix) = (apply::text(&new, "name"), apply::text(&new, "generateName"));
    let name = match (name, prefix) {
        ("", "") => {
            return Err(Status::failure(
                Reason::Invalid,
                format!(
                    "{} \"\" is invalid: metadata.name: Required value: name or generateName is required",
                    asked.kind.kind
                ),
            ));
        }
        ("", prefix) => {
            let random = uuid::Uuid::new_v4().simple().to_string();
            format!("{prefix}{}", &random[..5])
        }
        (name, _) => name.to_owned(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:@+=".contains(c);
    if name.len() > 253 || !name.chars().all(plain) {
        return Err(Status::failure(
            Reason::Invalid,
            format!(
                "{} {name:?} is invalid: metadata.name: Invalid value",
                asked.kind.kind
            ),
        ));
    }
    Ok(ObjectKey::new(asked.kind.resource.clone(), namespace, &name))
}

/// The uid is this node's until the cloud gives its own.
pub(super) fn birth(now_ms: i64) -> Birth {
    Birth {
        uid: uuid::Uuid::new_v4().to_string(),
        now: now_text(now_ms),
    }
}

pub(super) fn now_text(now_ms: i64) -> String {
    let now = OffsetDateTime::from_unix_timestamp(now_ms / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    now.format(&Rfc3339).unwrap_or_default()
}
