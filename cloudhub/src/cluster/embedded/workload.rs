//! What pods, and objects that make pods, must be beyond their fields.

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::ResourceKind;
use serde_json::Value;

use super::call::{is, meta};
use super::fault;
use super::state::State;

/// A pod runs as an account that exists; one that only shows what a node runs by itself has none.
pub(super) fn needs_account(state: &State, kind: &ResourceKind, value: &Value) -> Result<(), Status> {
    let (name, namespace) = (meta(value, "name"), meta(value, "namespace"));
    if !is(kind, "", "pods") || value["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Ok(());
    }
    let account = value["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    let accounts = GroupVersionResource::core("serviceaccounts");
    if account == "default"
        || state
            .get(&ObjectKey::new(accounts, Some(namespace), account))
            .is_some()
    {
        return Ok(());
    }
    let why = format!(
        "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
    );
    Err(fault::forbidden(kind, name, &why))
}

/// Whether a LabelSelector selects these labels; an empty one selects all.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let matches = |key: &str, value: &Value| labels.get(key) == Some(value);
    let wanted = selector["matchLabels"].as_object();
    let expressions = selector["matchExpressions"].as_array();
    wanted
        .into_iter()
        .flatten()
        .all(|(key, value)| matches(key, value))
        && expressions.into_iter().flatten().all(|expression| {
            let key = expression["key"].as_str().unwrap_or_default();
            let values = expression["values"].as_array();
            let among = values.into_iter().flatten().any(|value| matches(key, value));
            match expression["operator"].as_str().unwrap_or_default() {
                "In" => among,
                "NotIn" => !among,
                "Exists" => labels.get(key).is_some(),
                "DoesNotExist" => labels.get(key).is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_is_held_against_the_labels_of_the_template() {
        let labels = json!({"app": "web", "tier": "front"});
        for (selector, expected) in [
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["front"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}),
                true,
            ),
        ] {
            assert_eq!(selects(&selector, &labels), expected, "{selector}");
        }
    }
}
