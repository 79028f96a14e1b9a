//! Claims that want more than they have (Kubernetes `plugin/pkg/admission/storage/persistentvolume/resize`).

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::ResourceKind;
use serde_json::Value;

use crate::cluster::embedded::call::{is, meta};
use crate::cluster::embedded::fault;
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::quantity;

/// 403 for a claim that is to grow, unless its class says that it may.
pub(in crate::cluster::embedded) fn admit_growth(
    state: &State,
    kind: &ResourceKind,
    old: &Value,
    new: &Value,
) -> Result<(), Status> {
    if !is(kind, "", "persistentvolumeclaims") {
        return Ok(());
    }
    let storage = |claim: &Value| quantity::amount(&claim["spec"]["resources"]["requests"]["storage"]);
    if storage(new) <= storage(old) {
        return Ok(());
    }
    let refuse = |why: &str| Err(fault::forbidden(kind, meta(new, "name"), why));
    if old["status"]["phase"] != "Bound" {
        return refuse("Only bound persistent volume claims can be expanded");
    }
    let class = new["spec"]["storageClassName"].as_str().unwrap_or_default();
    let classes = GroupVersionResource::new("storage.k8s.io", "v1", "storageclasses");
    let class = state.value(&ObjectKey::new(classes, None, class))?;
    if old["spec"]["storageClassName"] == new["spec"]["storageClassName"]
        && class.is_some_and(|class| class["allowVolumeExpansion"] == true)
    {
        return Ok(());
    }
    refuse(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    )
}
