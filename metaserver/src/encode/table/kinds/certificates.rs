//! `certificates.k8s.io`.

use serde_json::Value;

use super::super::age;
use super::super::text::{NONE, at, condition, text, text_or};

/// The cells of an object, if there is a printer for its kind.
pub(super) fn cells(resource: &str, o: &Value, name: Value, age: Value) -> Option<Vec<Value>> {
    if resource != "certificatesigningrequests" {
        return None;
    }
    let duration = at(o, "spec.expirationSeconds").as_i64();
    let mut state = match (condition(o, "Denied"), condition(o, "Approved")) {
        (Some(_), _) => "Denied",
        (None, Some(_)) => "Approved",
        (None, None) => "Pending",
    }
    .to_owned();
    if condition(o, "Failed").is_some() {
        state.push_str(",Failed");
    }
    if !text(o, "status.certificate").is_empty() {
        state.push_str(",Issued");
    }
    Some(vec![
        name,
        age,
        text_or(o, "spec.signerName", NONE).into(),
        text(o, "spec.username").into(),
        duration.map_or(NONE.into(), age::human).into(),
        state.into(),
    ])
}
