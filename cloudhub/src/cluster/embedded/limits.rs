//! What a namespace's LimitRanges give a pod that says nothing itself, and where its node stands.

use hub_core::object::{GroupVersionResource, ObjectKey};
use serde_json::{Map, Value, json};

use super::call::meta;
use super::defaults::default;
use super::state::State;

/// Fills in the requests and limits of containers (Kubernetes `plugin/pkg/admission/limitranger`).
pub(super) fn apply(state: &State, pod: &mut Value) {
    let ranges = GroupVersionResource::core("limitranges");
    let namespace = meta(pod, "namespace").to_owned();
    let (mut limits, mut requests) = (Map::new(), Map::new());
    for range in state.list(&ranges, Some(&namespace)) {
        let Ok(range) = serde_json::from_slice::<Value>(&range.body) else {
            continue;
        };
        let items = range["spec"]["limits"].as_array().into_iter().flatten();
        for item in items.filter(|item| item["type"] == "Container") {
            // Where only a limit is given by default, it is requested too.
            let fields = [
                (&mut limits, &["default"][..]),
                (&mut requests, &["defaultRequest", "default"][..]),
            ];
            for (all, fields) in fields {
                for (resource, amount) in fields.iter().filter_map(|f| item[*f].as_object()).flatten() {
                    if !all.contains_key(resource) {
                        all.insert(resource.clone(), amount.clone());
                    }
                }
            }
        }
    }
    let mut given = Vec::new();
    for (list, what) in [("initContainers", "init container"), ("containers", "container")] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, word, all) in [("requests", "request", &requests), ("limits", "limit", &limits)] {
                for (resource, amount) in all {
                    let resources = &mut container["resources"];
                    if !resources[field][resource].is_null() {
                        continue;
                    }
                    default(resources, field, json!({}));
                    default(&mut resources[field], resource, amount.clone());
                    given.push(format!("{resource} {word} for {what} {name}"));
                }
            }
        }
    }
    if !given.is_empty() {
        let text = format!("LimitRanger plugin set: {}", given.join("; "));
        default(&mut pod["metadata"], "annotations", json!({}));
        pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"] = text.into();
    }
}

/// Labels a pod that is bound with the zone and region of its node (Kubernetes `plugin/pkg/admission/podtopologylabels`).
pub(super) fn place(state: &State, pod: &mut Value) {
    let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) else {
        return;
    };
    let key = ObjectKey::new(GroupVersionResource::core("nodes"), None, node);
    let Ok(Some(node)) = state.value(&key) else { return };
    for label in ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"] {
        if let Some(place) = node["metadata"]["labels"].get(label) {
            default(&mut pod["metadata"], "labels", json!({}));
            pod["metadata"]["labels"][label] = place.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use hub_core::registry::Registry;

    use super::*;

    #[test]
    fn a_pod_is_given_what_its_namespace_says_and_the_place_of_its_node() {
        let mut state = State::new(Registry::builtin(), [], 1, 10, 10_000);
        let mut range = json!({"metadata": {"name": "l", "namespace": "d"}, "spec": {"limits": [
            {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}}]}});
        state
            .put(&GroupVersionResource::core("limitranges"), &mut range)
            .unwrap();
        let mut node = json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z0"}}});
        state
            .put(&GroupVersionResource::core("nodes"), &mut node)
            .unwrap();
        let mut pod = json!({"metadata": {"name": "p", "namespace": "d"},
            "spec": {"nodeName": "n", "containers": [{"name": "c"}, {"name": "own", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}]}});
        apply(&state, &mut pod);
        place(&state, &mut pod);
        let annotations = &pod["metadata"]["annotations"];
        assert_eq!(
            annotations["kubernetes.io/limit-ranger"],
            "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
        );
        assert_eq!(pod["metadata"]["labels"]["topology.kubernetes.io/zone"], "z0");
        let first = &pod["spec"]["containers"][0]["resources"];
        assert_eq!(
            *first,
            json!({"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}})
        );
        assert_eq!(pod["spec"]["containers"][1]["resources"]["limits"]["cpu"], "2");
    }
}
