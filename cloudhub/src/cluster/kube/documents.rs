//! What an API server says of itself and of its kinds, in the newer form and in that of always.

use kube::core::discovery::v2::{
    APIGroupDiscoveryList, APIResourceDiscovery, APISubresourceDiscovery, GroupVersionKind,
};
use serde::Deserialize;

/// `/version`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct Version {
    major: String,
    minor: String,
    pub(super) git_version: String,
}

impl Version {
    /// On by default since 1.32 (Kubernetes, feature gate WatchList); a server that has it switched off says so when it is asked.
    pub(super) fn streams_lists(&self) -> bool {
        let number = |text: &str| {
            text.trim_end_matches(|c: char| !c.is_ascii_digit())
                .parse::<u32>()
                .unwrap_or(0)
        };
        (number(&self.major), number(&self.minor)) >= (1, 32)
    }
}

/// What `/api` and `/apis` answer: what they were asked for, or what they always did.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Root {
    Groups { groups: Vec<Group> },
    Core { versions: Vec<String> },
    Aggregated(APIGroupDiscoveryList),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    pub(super) versions: Vec<GroupVersion>,
    #[serde(default)]
    pub(super) preferred_version: GroupVersion,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupVersion {
    pub(super) group_version: String,
}

/// An `APIResourceList`.
#[derive(Deserialize)]
pub(super) struct Resources {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    name: String,
    #[serde(default)]
    singular_name: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
    kind: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
}

impl Resources {
    /// In the newer form: subresources with their resource.
    pub(super) fn join(self) -> Vec<APIResourceDiscovery> {
        let (subresources, resources): (Vec<_>, Vec<_>) = self
            .resources
            .into_iter()
            .partition(|resource| resource.name.contains('/'));
        let mut joined: Vec<_> = resources
            .into_iter()
            .map(|resource| APIResourceDiscovery {
                scope: Some(
                    if resource.namespaced {
                        "Namespaced"
                    } else {
                        "Cluster"
                    }
                    .to_owned(),
                ),
                response_kind: Some(resource.shown()),
                resource: Some(resource.name),
                singular_resource: Some(resource.singular_name),
                verbs: resource.verbs,
                short_names: resource.short_names,
                categories: resource.categories,
                subresources: Vec::new(),
            })
            .collect();
        for subresource in subresources {
            let Some((parent, name)) = subresource.name.split_once('/') else {
                continue;
            };
            let found = joined
                .iter_mut()
                .find(|resource| resource.resource.as_deref() == Some(parent));
            if let Some(found) = found {
                found.subresources.push(APISubresourceDiscovery {
                    subresource: Some(name.to_owned()),
                    response_kind: Some(subresource.shown()),
                    accepted_types: Vec::new(),
                    verbs: subresource.verbs,
                });
            }
        }
        joined
    }
}

impl Resource {
    fn shown(&self) -> GroupVersionKind {
        GroupVersionKind {
            group: Some(self.group.clone()),
            version: Some(self.version.clone()),
            kind: Some(self.kind.clone()),
        }
    }
}
