//! One rule of a role, and what it covers.

use serde::{Deserialize, Serialize};

use super::{About, Attributes};

/// A rule (`PolicyRule`): all that its lists name together. `*` names everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What may be done.
    #[serde(default)]
    pub verbs: Vec<String>,
    /// In which API groups; empty text is the core.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// With which plurals: `pods`, `pods/status`, `*/scale`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// With which objects; none named is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// On which paths; a `*` at the end stands for any rest.
    #[serde(default, rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// Whether this rule alone allows what is wanted.
    pub fn covers(&self, wanted: &Attributes<'_>) -> bool {
        if !names(&self.verbs, wanted.verb) {
            return false;
        }
        match wanted.object {
            About::Path(path) => self
                .non_resource_urls
                .iter()
                .any(|url| url == path || url.strip_suffix('*').is_some_and(|start| path.starts_with(start))),
            About::Resource {
                group,
                resource,
                subresource,
                name,
                ..
            } => {
                names(&self.api_groups, group)
                    && self
                        .resources
                        .iter()
                        .any(|text| covers_resource(text, resource, subresource))
                    && (self.resource_names.is_empty()
                        || name.is_some_and(|name| self.resource_names.iter().any(|known| known == name)))
            }
        }
    }
}

fn names(list: &[String], wanted: &str) -> bool {
    list.iter().any(|text| text == "*" || text == wanted)
}

fn covers_resource(text: &str, resource: &str, subresource: Option<&str>) -> bool {
    if text == "*" {
        return true;
    }
    match (text.split_once('/'), subresource) {
        (None, None) => text == resource,
        (Some((of, sub)), Some(wanted)) => (of == "*" || of == resource) && sub == wanted,
        _ => false,
    }
}
