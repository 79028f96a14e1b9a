//! ClusterRoles that are made of others get the rules of those, whenever one of them changes.

use hub_core::object::{GroupVersionResource, Object};
use hub_core::rbac;
use hub_core::store::Change;
use serde_json::Value;

use crate::cluster::embedded::state::State;

/// Whether a change may be one of what such a role is made of.
pub(in crate::cluster::embedded) fn is_one(change: &Change) -> bool {
    let key = match change {
        Change::Put(object) | Change::Refresh(object) => &object.key,
        Change::Delete { key, .. } => key,
        Change::Want(_) | Change::Complete(_) | Change::Drop(_) => return false,
    };
    key.resource == resource()
}

/// Gives each of them its rules. One may be made of another.
pub(in crate::cluster::embedded) fn agree(state: &mut State) {
    let resource = resource();
    for _ in 0..DEPTH_MAX {
        let parsed = |object: &Object| serde_json::from_slice::<Value>(&object.body).ok();
        let all: Vec<Value> = state.list(&resource, None).filter_map(parsed).collect();
        let mut changed = false;
        for role in &all {
            let Some(rules) = rbac::aggregated(role, &all) else {
                continue;
            };
            let mut role = role.clone();
            role["rules"] = rules;
            match state.put(&resource, &mut role) {
                Ok(_) => changed = true,
                Err(status) => {
                    tracing::warn!(why = status.message, "a role made of others could not be kept")
                }
            }
        }
        if !changed {
            return;
        }
    }
}

fn resource() -> GroupVersionResource {
    GroupVersionResource::new(rbac::GROUP, "v1", "clusterroles")
}

/// `admin` is made of `edit`, which is made of `view`. Roles that are made of each other would never end.
const DEPTH_MAX: usize = 8;
