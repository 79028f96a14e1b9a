//! The collections that devices are in.

use std::sync::LazyLock;

use hub_core::object::GroupVersionResource;
use hub_core::registry::Registry;
use hub_core::store::NODE_ONLY;

/// Devices, as the cloud has them.
pub fn devices() -> &'static GroupVersionResource {
    static DEVICES: LazyLock<GroupVersionResource> = LazyLock::new(|| of(PLURALS[0].0));
    &DEVICES
}

/// The models of devices.
pub fn models() -> &'static GroupVersionResource {
    static MODELS: LazyLock<GroupVersionResource> = LazyLock::new(|| of(PLURALS[1].0));
    &MODELS
}

/// The twins, which no client sees.
pub(super) fn twins() -> &'static GroupVersionResource {
    static TWINS: LazyLock<GroupVersionResource> =
        LazyLock::new(|| GroupVersionResource::new(NODE_ONLY, "v1", "devicetwins"));
    &TWINS
}

/// Makes the kinds of KubeEdge's devices known where a message brings one and no definition did. A stock cloud sends devices to nodes
/// that have no way to its definitions: the controller that lists them is off by default.
///
/// A definition that comes later takes the place of this one.
pub(crate) fn learn(registry: &Registry, lower_kind: &str) {
    for (plural, kind) in PLURALS {
        let known = || registry.by_kind(&devices().api_version(), kind).is_some();
        if kind.eq_ignore_ascii_case(lower_kind) && !known() {
            let definition = serde_json::json!({
                "metadata": { "name": format!("{plural}.{GROUP}") },
                "spec": {
                    "group": GROUP,
                    "scope": "Namespaced",
                    "names": { "plural": plural, "kind": kind },
                    "versions": [{ "name": VERSION, "served": true, "storage": true, "subresources": { "status": {} } }],
                },
            });
            if let Err(error) = registry.apply_definition(definition.to_string().as_bytes()) {
                tracing::error!(kind, %error, "a kind of KubeEdge's could not be learnt");
            }
        }
    }
}

fn of(plural: &str) -> GroupVersionResource {
    GroupVersionResource::new(GROUP, VERSION, plural)
}

const GROUP: &str = "devices.kubeedge.io";
const VERSION: &str = "v1beta1";
const PLURALS: [(&str, &str); 2] = [("devices", "Device"), ("devicemodels", "DeviceModel")];
