//! JSON patches.

use hub_core::api::{Reason, Status};
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::Value;

use crate::fault;

/// RFC 6902, with Kubernetes' leniency: replacing a member that is not there adds it.
pub(super) fn operations(value: &mut Value, body: &[u8]) -> Result<(), Status> {
    let rejected = || {
        Status::failure(
            Reason::Invalid,
            "the server rejected our request due to an error in our request",
        )
    };
    let Patch(mut operations) =
        serde_json::from_slice(body).map_err(|error| fault::bad(format!("error decoding patch: {error}")))?;
    if operations.len() > OPERATIONS_MAX {
        return Err(Status::failure(
            Reason::RequestEntityTooLarge,
            format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
                operations.len()
            ),
        ));
    }
    for operation in &mut operations {
        if let PatchOperation::Replace(replace) = operation
            && value.pointer(replace.path.as_str()).is_none()
        {
            *operation = PatchOperation::Add(AddOperation {
                path: replace.path.clone(),
                value: replace.value.take(),
            });
        }
        json_patch::patch_unsafe(value, std::slice::from_ref(operation)).map_err(|_| rejected())?;
    }
    match value["metadata"] {
        Value::Object(_) => Ok(()),
        _ => Err(rejected()),
    }
}

/// As a kube-apiserver has it.
const OPERATIONS_MAX: usize = 10_000;
