//! What a namespace's LimitRanges give a pod that says nothing itself, and where its node stands.

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::ResourceKind;
use serde_json::{Map, Value, json};

use super::quota;
use crate::cluster::embedded::call::{is, meta};
use crate::cluster::embedded::fault;
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::quantity;
use crate::cluster::embedded::values::set::default;

/// Fills in the requests and limits of containers (Kubernetes `plugin/pkg/admission/limitranger`).
pub(in crate::cluster::embedded) fn apply(state: &State, pod: &mut Value) {
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
    for (list, what) in CONTAINERS {
        for container in pod["spec"][*list].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, word, all) in [("requests", "request", &requests), ("limits", "limit", &limits)] {
                let mut set = Vec::new();
                for (resource, amount) in all {
                    let resources = &mut container["resources"];
                    if !resources[field][resource].is_null() {
                        continue;
                    }
                    default(resources, field, json!({}));
                    default(&mut resources[field], resource, amount.clone());
                    set.push(resource.as_str());
                }
                if !set.is_empty() {
                    given.push(format!("{} {word} for {what} {name}", set.join(", ")));
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

/// 403 for a new pod whose containers take more, or less, than a LimitRange of its namespace lets them; and for such a claim.
pub(in crate::cluster::embedded) fn enforce(
    state: &State,
    kind: &ResourceKind,
    value: &Value,
) -> Result<(), Status> {
    let (pod, claim) = (is(kind, "", "pods"), is(kind, "", "persistentvolumeclaims"));
    if !pod && !claim {
        return Ok(());
    }
    let ranges = GroupVersionResource::core("limitranges");
    for range in state.list(&ranges, Some(meta(value, "namespace"))) {
        let range: Value = serde_json::from_slice(&range.body).unwrap_or_default();
        let mut faults = Vec::new();
        for item in range["spec"]["limits"].as_array().into_iter().flatten() {
            if claim && item["type"] == "PersistentVolumeClaim" {
                let only = json!({"requests": value["spec"]["resources"]["requests"]});
                bounds(item, &only, "PersistentVolumeClaim", &mut faults);
            } else if pod && item["type"] == "Container" {
                for (list, _) in CONTAINERS {
                    for container in value["spec"][*list].as_array().into_iter().flatten() {
                        bounds(item, &container["resources"], "Container", &mut faults);
                        ratios(item, &container["resources"], "Container", &mut faults);
                    }
                }
            } else if pod && item["type"] == "Pod" {
                let whole = quota::of_pod(&value["spec"]);
                bounds(item, &whole, "Pod", &mut faults);
                ratios(item, &whole, "Pod", &mut faults);
            }
        }
        let why = match &faults[..] {
            [] => continue,
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        return Err(fault::forbidden(kind, meta(value, "name"), &why));
    }
    Ok(())
}

/// What is asked for and what is the most, against the least and the most of a LimitRange.
fn bounds(item: &Value, resources: &Value, of: &str, faults: &mut Vec<String>) {
    let shown = |amount: &Value| amount.as_str().unwrap_or_default().to_owned();
    for (side, least) in [("min", true), ("max", false)] {
        let word = if least { "minimum" } else { "maximum" };
        for (resource, bound) in item[side].as_object().into_iter().flatten() {
            let (request, limit) = (&resources["requests"][resource], &resources["limits"][resource]);
            let beyond = |amount: &Value| match (quantity::amount(amount), quantity::amount(bound)) {
                (Some(amount), Some(bound)) if least => amount < bound,
                (Some(amount), Some(bound)) => amount > bound,
                _ => false,
            };
            let told = format!("{word} {resource} usage per {of} is {}", shown(bound));
            // The most is a matter of limits first; claims have none.
            let by_limit = !least && of != "PersistentVolumeClaim";
            let (first, second) = if by_limit {
                (("limit", limit), ("request", request))
            } else {
                (("request", request), ("limit", limit))
            };
            if first.1.is_null() {
                faults.push(format!("{told}.  No {} is specified", first.0));
            } else if let Some((what, amount)) =
                [first, second].into_iter().find(|(_, amount)| beyond(amount))
            {
                faults.push(format!("{told}, but {what} is {}", shown(amount)));
            }
        }
    }
}

/// How many times what is asked for may be taken at most.
fn ratios(item: &Value, resources: &Value, of: &str, faults: &mut Vec<String>) {
    for (resource, most) in item["maxLimitRequestRatio"].as_object().into_iter().flatten() {
        let told = format!(
            "{resource} max limit to request ratio per {of} is {}",
            most.as_str().unwrap_or_default()
        );
        let given = |side: &str| quantity::amount(&resources[side][resource]).filter(|amount| *amount != 0.0);
        let why = match (given("requests"), given("limits"), quantity::amount(most)) {
            (None, ..) => "no request is specified or request is 0".to_owned(),
            (_, None, _) => "no limit is specified or limit is 0".to_owned(),
            (Some(request), Some(limit), Some(most)) if limit / request > most => {
                format!("provided ratio is {:.6}", limit / request)
            }
            _ => continue,
        };
        faults.push(format!("{told}, but {why}"));
    }
}

/// Labels a pod that is bound with the zone and region of its node (Kubernetes `plugin/pkg/admission/podtopologylabels`).
pub(in crate::cluster::embedded) fn place(state: &State, pod: &mut Value) {
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

const CONTAINERS: &[(&str, &str)] = &[("containers", "container"), ("initContainers", "init container")];

#[cfg(test)]
mod tests {
    use hub_core::registry::Registry;

    use super::*;
    use crate::cluster::embedded::EmbeddedConfig;

    #[test]
    fn a_pod_is_given_what_its_namespace_says_and_the_place_of_its_node() {
        let mut state = State::new(Registry::builtin(), [], 1, &EmbeddedConfig::default());
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

    #[test]
    fn who_takes_too_much_is_told_in_the_words_of_a_real_server() {
        let mut state = State::new(Registry::builtin(), [], 1, &EmbeddedConfig::default());
        let mut range = json!({"metadata": {"name": "l", "namespace": "d"}, "spec": {"limits": [
            {"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "100m"}}]}});
        let resource = GroupVersionResource::core("limitranges");
        state.put(&resource, &mut range).unwrap();
        let pods = state
            .registry
            .by_resource(&GroupVersionResource::core("pods"))
            .unwrap();
        let said = |resources: Value| {
            let pod = json!({"metadata": {"name": "p", "namespace": "d"},
                "spec": {"containers": [{"name": "c", "resources": resources}]}});
            enforce(&state, &pods, &pod).map_err(|status| status.message)
        };
        let both =
            |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        assert_eq!(said(both("200m", "1")), Ok(()));
        assert_eq!(
            said(both("200m", "2")).unwrap_err(),
            "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
        );
        assert_eq!(
            said(both("10m", "1")).unwrap_err(),
            "pods \"p\" is forbidden: minimum cpu usage per Container is 100m, but request is 10m"
        );
        assert_eq!(
            said(json!({})).unwrap_err(),
            "pods \"p\" is forbidden: [minimum cpu usage per Container is 100m.  No request is specified, maximum cpu usage per Container is 1.  No limit is specified]"
        );
    }
}
