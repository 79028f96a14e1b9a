//! The account that a new pod runs as, and the account's token among the pod's files (Kubernetes `plugin/pkg/admission/serviceaccount`).
//!
//! A token is mounted beside the certificate of the API, which stands in a ConfigMap of every namespace (`controllers::authority`).
//! Where nobody published it nothing is mounted: the pod would wait for it for ever.

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::registry::ResourceKind;
use serde_json::{Value, json};

use crate::cluster::embedded::call::meta;
use crate::cluster::embedded::controllers::authority;
use crate::cluster::embedded::fault;
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::set::default;
use crate::cluster::embedded::verbs::generated_name;

/// Completes a new pod with what its account has. 403 where there is no such account.
pub(in crate::cluster::embedded) fn admit(
    state: &State,
    kind: &ResourceKind,
    pod: &mut Value,
) -> Result<(), Status> {
    let refuse = |pod: &Value, why: &str| Err(fault::forbidden(kind, meta(pod, "name"), why));
    if pod["metadata"]["annotations"][MIRROR].is_string() {
        return match beyond_a_mirror(&pod["spec"]) {
            Some(why) => refuse(pod, why),
            None => Ok(()),
        };
    }
    let namespace = meta(pod, "namespace").to_owned();
    if pod["spec"]["serviceAccountName"]
        .as_str()
        .is_none_or(str::is_empty)
    {
        pod["spec"]["serviceAccountName"] = DEFAULT.into();
    }
    let name = pod["spec"]["serviceAccountName"]
        .as_str()
        .unwrap_or(DEFAULT)
        .to_owned();
    let accounts = GroupVersionResource::core("serviceaccounts");
    let account = state.value(&ObjectKey::new(accounts, Some(&namespace), &name))?;
    if account.is_none() && name != DEFAULT {
        let why =
            format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return refuse(pod, &why);
    }
    let account = account.unwrap_or_default();
    let said = [&pod["spec"], &account]
        .into_iter()
        .find_map(|holder| holder["automountServiceAccountToken"].as_bool());
    if said.unwrap_or(true) && authority::is_published(state, &namespace) {
        mount(&mut pod["spec"]);
    }
    let own = pod["spec"]["imagePullSecrets"].as_array();
    if own.is_none_or(Vec::is_empty) && account["imagePullSecrets"].is_array() {
        pod["spec"]["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    Ok(())
}

/// A pod that only shows what a node runs by itself uses nothing of the cluster.
fn beyond_a_mirror(spec: &Value) -> Option<&'static str> {
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    if text(&spec["serviceAccountName"]) {
        return Some("a mirror pod may not reference service accounts");
    }
    let mut volumes = spec["volumes"].as_array().into_iter().flatten();
    let all = spec.to_string();
    if [
        "\"secretName\":\"",
        "\"secretRef\":{",
        "\"secretKeyRef\":{",
        "\"secret\":{",
    ]
    .iter()
    .any(|reference| all.contains(reference))
    {
        return Some("a mirror pod may not reference secrets");
    }
    let has_token = |volume: &Value| {
        let mut sources = volume["projected"]["sources"].as_array().into_iter().flatten();
        sources.any(|source| source["serviceAccountToken"].is_object())
    };
    volumes
        .any(has_token)
        .then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

/// Mounts the account's token into every container that has nothing at its place.
fn mount(spec: &mut Value) {
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let held = volumes
        .filter_map(|volume| volume["name"].as_str())
        .find(|name| name.starts_with(VOLUME))
        .map(str::to_owned);
    let name = held
        .clone()
        .unwrap_or_else(|| format!("{VOLUME}{}", generated_name::suffix()));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            if mounts.into_iter().any(|mount| mount["mountPath"] == PLACE) {
                continue;
            }
            needed = true;
            default(container, "volumeMounts", json!([]));
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": PLACE}));
            }
        }
    }
    if held.is_some() || !needed {
        return;
    }
    default(spec, "volumes", json!([]));
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(json!({"name": name, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": authority::NAME, "items": [{"key": authority::KEY, "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

const MIRROR: &str = "kubernetes.io/config.mirror";
const DEFAULT: &str = "default";
const VOLUME: &str = "kube-api-access-";
const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour and some, by which a server knows who still reads a token as if it never ended (`WarnOnlyBoundTokenExpirationSeconds`).
const TOKEN_SECONDS: u32 = 3607;

#[cfg(test)]
mod tests {
    use hub_core::registry::Registry;

    use super::*;
    use crate::cluster::embedded::EmbeddedConfig;

    fn state(objects: &[(&str, Value)]) -> State {
        let mut state = State::new(Registry::builtin(), [], 1, &EmbeddedConfig::default());
        for (resource, object) in objects {
            let mut object = object.clone();
            object["metadata"]["namespace"] = "d".into();
            state
                .put(&GroupVersionResource::core(resource), &mut object)
                .unwrap();
        }
        state
    }

    fn admitted(state: &State, spec: Value) -> Result<Value, String> {
        let kind = state
            .registry
            .by_resource(&GroupVersionResource::core("pods"))
            .unwrap();
        let mut pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": spec});
        admit(state, &kind, &mut pod).map_err(|status| status.message)?;
        Ok(pod["spec"].take())
    }

    #[test]
    fn a_pod_finds_its_token_where_the_certificate_for_it_is() {
        let published = ("configmaps", json!({"metadata": {"name": "kube-root-ca.crt"}}));
        let account = |name: &str, mounts: bool| {
            let account = json!({"metadata": {"name": name}, "automountServiceAccountToken": mounts,
                "imagePullSecrets": [{"name": "reg"}]});
            ("serviceaccounts", account)
        };
        let state = self::state(&[published, account("rob", true), account("shy", false)]);
        let spec = |account: &str| {
            let own = json!([{"name": "own", "mountPath": PLACE}]);
            json!({"serviceAccountName": account, "containers": [{"name": "a"}, {"name": "b", "volumeMounts": own}]})
        };
        let given = admitted(&state, spec("rob")).unwrap();
        let volume = &given["volumes"][0];
        assert_eq!(given["containers"][0]["volumeMounts"][0]["name"], volume["name"]);
        assert_eq!(
            given["containers"][1]["volumeMounts"].as_array().map(Vec::len),
            Some(1)
        );
        assert_eq!(
            volume["projected"]["sources"][1]["configMap"]["name"],
            "kube-root-ca.crt"
        );
        assert_eq!(given["imagePullSecrets"], json!([{"name": "reg"}]));
        assert!(admitted(&state, spec("shy")).unwrap()["volumes"].is_null());
        let mut own = spec("shy");
        own["automountServiceAccountToken"] = true.into();
        assert!(admitted(&state, own).unwrap()["volumes"].is_array());
        assert_eq!(
            admitted(&state, spec("nobody")).unwrap_err(),
            "pods \"p\" is forbidden: error looking up service account d/nobody: serviceaccount \"nobody\" not found"
        );
        let unpublished = self::state(&[account("rob", true)]);
        assert!(admitted(&unpublished, spec("rob")).unwrap()["volumes"].is_null());
    }

    #[test]
    fn a_pod_that_shows_what_a_node_runs_has_no_account() {
        let state = self::state(&[]);
        let kind = state
            .registry
            .by_resource(&GroupVersionResource::core("pods"))
            .unwrap();
        let admitted = |spec: Value| {
            let mut pod = json!({"metadata": {"name": "p", "namespace": "d", "annotations": {MIRROR: "x"}}, "spec": spec});
            admit(&state, &kind, &mut pod).map_err(|status| status.message)?;
            Ok::<_, String>(pod["spec"]["serviceAccountName"].clone())
        };
        assert_eq!(admitted(json!({})), Ok(Value::Null));
        assert!(admitted(json!({"serviceAccountName": "rob"})).is_err());
        assert!(admitted(json!({"volumes": [{"secret": {"secretName": "s"}}]})).is_err());
    }
}
