//! What a pod or a device needs beside itself: ConfigMaps and Secrets, claims, a service account; a device model.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;

use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, Object, ObjectKey};

use super::kinds::{Kind, accesses, kind, models};

/// The facts of a pod or device that decide who gets what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `spec.nodeName`, where it is one.
    pub(crate) node: Option<NodeId>,
    /// What its node must hold for its sake.
    pub(crate) needs: BTreeSet<ObjectKey>,
    /// The PersistentVolumeClaims it references.
    pub(crate) claims: BTreeSet<ObjectKey>,
    /// A pod's service account.
    pub(crate) service_account: Option<ObjectKey>,
}

impl Facts {
    /// Reads them out of an object; nothing else of it is looked at. None where the kind has none. `policy`: whether the node must
    /// know what a pod's service account may do.
    pub(crate) fn of(object: &Object, policy: bool) -> Option<Self> {
        match kind(&object.key) {
            Kind::Pod => {
                let mut facts = Self::of_pod(&object.key, &object.body);
                if let Some(account) = facts.service_account.as_ref().filter(|_| policy) {
                    let access = ObjectKey::new(accesses(), account.namespace.as_deref(), &account.name);
                    facts.needs.insert(access);
                }
                Some(facts)
            }
            Kind::Device => Some(Self::of_device(&object.key, &object.body)),
            _ => None,
        }
    }

    fn of_device(device: &ObjectKey, body: &[u8]) -> Self {
        let Ok(Device { spec }) = serde_json::from_slice(body) else {
            return Self::default();
        };
        let model = spec.device_model_ref.and_then(|model| model.name);
        let model = model.filter(|name| !name.is_empty());
        Self {
            node: spec.node_name.and_then(|name| NodeId::new(&name).ok()),
            needs: model
                .map(|name| ObjectKey::new(models(), device.namespace.as_deref(), &name))
                .into_iter()
                .collect(),
            ..Self::default()
        }
    }

    /// What is no pod has no facts.
    fn of_pod(pod: &ObjectKey, body: &[u8]) -> Self {
        let Ok(Pod { spec }) = serde_json::from_slice(body) else {
            return Self::default();
        };
        let mut facts = Self {
            node: spec.node_name.and_then(|name| NodeId::new(&name).ok()),
            ..Self::default()
        };
        let key = |resource: &str, name: &str| {
            ObjectKey::new(
                GroupVersionResource::core(resource),
                pod.namespace.as_deref(),
                name,
            )
        };
        let mut configs = BTreeSet::new();
        let mut config = |reference: Option<Name<'_>>, resource: &str| {
            if let Some(name) = reference.and_then(|r| r.name).filter(|name| !name.is_empty()) {
                configs.insert(key(resource, &name));
            }
        };
        for volume in spec.volumes.unwrap_or_default() {
            config(volume.config_map, CONFIGMAPS);
            if let Some(name) = volume.secret.and_then(|s| s.secret_name) {
                config(Some(Name { name: Some(name) }), SECRETS);
            }
            for source in volume.projected.and_then(|p| p.sources).unwrap_or_default() {
                config(source.config_map, CONFIGMAPS);
                config(source.secret, SECRETS);
            }
            if let Some(name) = volume.persistent_volume_claim.and_then(|c| c.claim_name) {
                facts.claims.insert(key("persistentvolumeclaims", &name));
            }
        }
        for containers in [spec.containers, spec.init_containers, spec.ephemeral_containers] {
            for container in containers.unwrap_or_default() {
                for from in container.env_from.unwrap_or_default() {
                    config(from.config_map_ref, CONFIGMAPS);
                    config(from.secret_ref, SECRETS);
                }
                for from in container
                    .env
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|env| env.value_from)
                {
                    config(from.config_map_key_ref, CONFIGMAPS);
                    config(from.secret_key_ref, SECRETS);
                }
            }
        }
        for secret in spec.image_pull_secrets.unwrap_or_default() {
            config(Some(secret), SECRETS);
        }
        facts.needs = configs;
        let account = spec.service_account_name.filter(|name| !name.is_empty());
        facts.service_account = Some(key("serviceaccounts", account.as_deref().unwrap_or("default")));
        facts
    }
}

const CONFIGMAPS: &str = "configmaps";
const SECRETS: &str = "secrets";

/// Text that is copied only where it has escapes.
type Text<'a> = Cow<'a, str>;

#[derive(Deserialize)]
struct Device<'a> {
    #[serde(borrow, default)]
    spec: DeviceSpec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeviceSpec<'a> {
    #[serde(borrow)]
    node_name: Option<Text<'a>>,
    #[serde(borrow)]
    device_model_ref: Option<Name<'a>>,
}

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow, default)]
    spec: Spec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec<'a> {
    #[serde(borrow)]
    node_name: Option<Text<'a>>,
    #[serde(borrow)]
    service_account_name: Option<Text<'a>>,
    #[serde(borrow)]
    volumes: Option<Vec<Volume<'a>>>,
    #[serde(borrow)]
    containers: Option<Vec<Container<'a>>>,
    #[serde(borrow)]
    init_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow)]
    ephemeral_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow)]
    image_pull_secrets: Option<Vec<Name<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume<'a> {
    #[serde(borrow)]
    config_map: Option<Name<'a>>,
    #[serde(borrow)]
    secret: Option<SecretVolume<'a>>,
    #[serde(borrow)]
    projected: Option<Projected<'a>>,
    #[serde(borrow)]
    persistent_volume_claim: Option<Claim<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume<'a> {
    #[serde(borrow)]
    secret_name: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Claim<'a> {
    #[serde(borrow)]
    claim_name: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Projected<'a> {
    #[serde(borrow)]
    sources: Option<Vec<Source<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Source<'a> {
    #[serde(borrow)]
    config_map: Option<Name<'a>>,
    #[serde(borrow)]
    secret: Option<Name<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container<'a> {
    #[serde(borrow)]
    env: Option<Vec<Env<'a>>>,
    #[serde(borrow)]
    env_from: Option<Vec<EnvFrom<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Env<'a> {
    #[serde(borrow)]
    value_from: Option<ValueFrom<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom<'a> {
    #[serde(borrow)]
    config_map_key_ref: Option<Name<'a>>,
    #[serde(borrow)]
    secret_key_ref: Option<Name<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EnvFrom<'a> {
    #[serde(borrow)]
    config_map_ref: Option<Name<'a>>,
    #[serde(borrow)]
    secret_ref: Option<Name<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Name<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
}

#[cfg(test)]
mod tests {
    use super::super::kinds::devices;
    use super::*;

    fn facts(spec: &str) -> Facts {
        let pod = ObjectKey::new(GroupVersionResource::core("pods"), Some("shop"), "web");
        Facts::of_pod(
            &pod,
            format!(r#"{{"kind":"Pod","metadata":{{"name":"web"}},"spec":{spec}}}"#).as_bytes(),
        )
    }

    #[test]
    fn every_way_to_name_a_config_is_found() {
        let found = facts(
            r#"{"nodeName":"edge-1","serviceAccountName":"robot","imagePullSecrets":[{"name":"pull"}],
            "volumes":[{"name":"a","configMap":{"name":"cm-volume"}},{"secret":{"secretName":"sec-volume"}},
              {"projected":{"sources":[{"configMap":{"name":"cm-projected"}},{"secret":{"name":"sec-projected"}},
                 {"serviceAccountToken":{"path":"token"}},{"downwardAPI":{}}]}},
              {"persistentVolumeClaim":{"claimName":"data"}},{"emptyDir":{}}],
            "containers":[{"name":"c","env":[{"name":"A","value":"x"},{"name":"B","valueFrom":{"configMapKeyRef":{"name":"cm-env","key":"k"}}},
              {"name":"C","valueFrom":{"secretKeyRef":{"name":"sec-env","key":"k"}}},{"name":"D","valueFrom":{"fieldRef":{"fieldPath":"x"}}}],
              "envFrom":[{"configMapRef":{"name":"cm-from"}},{"secretRef":{"name":"sec-\u0066rom"}}]}],
            "initContainers":[{"envFrom":[{"configMapRef":{"name":"cm-init"}}]}],
            "ephemeralContainers":[{"envFrom":[{"configMapRef":{"name":"cm-debug"}}]}]}"#,
        );
        let names: Vec<_> = found
            .needs
            .iter()
            .map(|k| format!("{}/{}", k.resource.resource, k.name))
            .collect();
        assert_eq!(
            names,
            [
                "configmaps/cm-debug",
                "configmaps/cm-env",
                "configmaps/cm-from",
                "configmaps/cm-init",
                "configmaps/cm-projected",
                "configmaps/cm-volume",
                "secrets/pull",
                "secrets/sec-env",
                "secrets/sec-from",
                "secrets/sec-projected",
                "secrets/sec-volume"
            ]
        );
        assert!(found.needs.iter().all(|k| k.namespace.as_deref() == Some("shop")));
        assert_eq!(found.node.as_ref().map(NodeId::as_str), Some("edge-1"));
        assert_eq!(
            found.claims.iter().map(|k| &*k.name).collect::<Vec<_>>(),
            ["data"]
        );
        assert_eq!(&*found.service_account.unwrap().name, "robot");
    }

    #[test]
    fn a_device_needs_its_model_and_a_pod_the_rights_of_its_account_where_they_are_kept() {
        let object = |resource: GroupVersionResource, spec: &str| {
            let body = format!(r#"{{"metadata":{{"name":"x","namespace":"shop"}},"spec":{spec}}}"#);
            Object::from_body(resource, body.into()).unwrap()
        };
        let spec =
            r#"{"nodeName":"edge-1","deviceModelRef":{"name":"thermometer"},"properties":[{"name":"t"}]}"#;
        let facts = Facts::of(&object(devices(), spec), false).unwrap();
        assert_eq!(facts.node.as_ref().map(NodeId::as_str), Some("edge-1"));
        assert_eq!(
            facts.needs,
            [ObjectKey::new(models(), Some("shop"), "thermometer")].into()
        );
        for spec in [
            "null",
            "{}",
            r#"{"deviceModelRef":null,"nodeName":""}"#,
            r#"{"deviceModelRef":7}"#,
        ] {
            assert_eq!(
                Facts::of(&object(devices(), spec), true),
                Some(Facts::default()),
                "{spec}"
            );
        }
        let pod = object(
            GroupVersionResource::core("pods"),
            r#"{"serviceAccountName":"robot"}"#,
        );
        assert!(Facts::of(&pod, false).unwrap().needs.is_empty());
        let access = ObjectKey::new(accesses(), Some("shop"), "robot");
        assert_eq!(Facts::of(&pod, true).unwrap().needs, [access].into());
    }

    #[test]
    fn odd_pods_have_no_facts_and_do_not_panic() {
        for spec in [
            "null",
            "7",
            r#"{"volumes":[null]}"#,
            r#"{"nodeName":7}"#,
            r#"{"volumes":{}}"#,
        ] {
            assert_eq!(facts(spec), Facts::default(), "{spec}");
        }
        let bare = facts(r#"{"nodeName":"NOT A NODE","volumes":null,"containers":null}"#);
        assert_eq!((bare.node, bare.needs.len()), (None, 0));
        assert_eq!(&*bare.service_account.unwrap().name, "default");
    }
}
