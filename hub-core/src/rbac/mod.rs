//! Who may do what, by the cluster's own roles and bindings.
//!
//! [`Rbac`] is built of `Role`, `ClusterRole`, `RoleBinding` and `ClusterRoleBinding` objects and answers as a kube-apiserver does
//! (Kubernetes `plugin/pkg/auth/authorizer/rbac`): rules only add, nothing denies, and what no rule names is not allowed.
//!
//! ```
//! use hub_core::api::User;
//! use hub_core::object::{GroupVersionResource, Object};
//! use hub_core::rbac::{Attributes, Rbac};
//!
//! let object = |resource: &str, body: serde_json::Value| {
//!     let resource = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", resource);
//!     Object::from_body(resource, body.to_string().into()).unwrap()
//! };
//! let rbac = Rbac::new(&[
//!     object("clusterroles", serde_json::json!({
//!         "metadata": {"name": "flannel"},
//!         "rules": [{"verbs": ["patch"], "apiGroups": [""], "resources": ["nodes/status"]}],
//!     })),
//!     object("clusterrolebindings", serde_json::json!({
//!         "metadata": {"name": "flannel"},
//!         "roleRef": {"kind": "ClusterRole", "name": "flannel"},
//!         "subjects": [{"kind": "Group", "name": "system:nodes"}],
//!     })),
//! ]);
//! let node = User { name: "system:node:edge-1".into(), groups: vec!["system:nodes".into()], ..User::default() };
//! let patch = Attributes::resource("patch", "", "nodes", Some("status"));
//! assert!(rbac.allows(&node, &patch));
//! assert!(!rbac.allows(&node, &Attributes::resource("delete", "", "nodes", None)));
//! ```

mod aggregate;
mod binding;
mod bootstrap;
mod denial;
mod escalation;
mod people;
pub mod review;
mod rule;

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use crate::api::{ApiRequest, Target, User, Verb};
use crate::object::Object;
use crate::selector::{FieldSelector, LabelSelector};

pub use aggregate::aggregated;
use binding::{Binding, Subject};
pub use bootstrap::bootstrap;
pub use denial::denial;
pub use rule::Rule;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, `create`, …
    pub verb: &'a str,
    /// With what.
    pub object: About<'a>,
}

/// What a wish is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About<'a> {
    /// Kubernetes objects.
    Resource {
        /// The API group; empty for the core.
        group: &'a str,
        /// The plural.
        resource: &'a str,
        /// Such as `status`.
        subresource: Option<&'a str>,
        /// Absent for cluster-scoped kinds and for all namespaces.
        namespace: Option<&'a str>,
        /// Absent for collections and for new objects.
        name: Option<&'a str>,
    },
    /// A URL that is no resource.
    Path(&'a str),
}

impl<'a> Attributes<'a> {
    /// About a kind everywhere.
    pub fn resource(verb: &'a str, group: &'a str, resource: &'a str, subresource: Option<&'a str>) -> Self {
        let object = About::Resource {
            group,
            resource,
            subresource,
            namespace: None,
            name: None,
        };
        Self { verb, object }
    }

    /// What a request wants. `selected` is the one name that its field selector asks for: see [`selected_name`].
    pub fn of(request: &'a ApiRequest, selected: Option<&'a str>) -> Self {
        let object = match &request.target {
            Target::Path(path) => About::Path(path),
            Target::Resource {
                resource,
                namespace,
                name,
                subresource,
            } => About::Resource {
                group: &resource.group,
                resource: &resource.resource,
                subresource: subresource.as_deref(),
                namespace: namespace.as_deref(),
                name: name.as_deref().or(selected),
            },
        };
        Self {
            verb: request.verb.as_str(),
            object,
        }
    }
}

impl<'a> Attributes<'a> {
    /// Where it is wanted; None for everywhere, and for paths.
    pub fn namespace(&self) -> Option<&'a str> {
        match self.object {
            About::Resource { namespace, .. } => namespace,
            About::Path(_) => None,
        }
    }
}

/// Whether nothing is denied to a user: an administrator by group, whatever the roles say (Kubernetes,
/// `pkg/authorizer/authorizerfactory`, privileged groups).
pub fn is_administrator(user: &User) -> bool {
    user.groups.iter().any(|group| group == ADMINISTRATORS)
}

/// The group of administrators.
pub const ADMINISTRATORS: &str = "system:masters";

/// The one name that the field selector of a list or watch asks for: roles that name objects cover such a request.
pub fn selected_name(request: &ApiRequest) -> Option<String> {
    if !matches!(request.verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
        return None;
    }
    let mut query = form_urlencoded::parse(request.query.as_bytes());
    let (_, text) = query.find(|(name, _)| name == "fieldSelector")?;
    let selector = FieldSelector::parse(&text).ok()?;
    selector.required("metadata.name").map(str::to_owned)
}

/// All roles and bindings of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Rbac {
    /// By namespace, empty for cluster roles, and name.
    roles: HashMap<(String, String), Role>,
    /// Those of the whole cluster first, each by name: the order in which they are looked through.
    bindings: Vec<Binding>,
    /// Which bindings name a subject.
    by_subject: HashMap<Subject, Vec<usize>>,
}

#[derive(Debug, Clone, Default)]
struct Role {
    labels: BTreeMap<String, String>,
    rules: Vec<Rule>,
    /// The roles whose rules it has too.
    aggregates: Vec<LabelSelector>,
}

impl Rbac {
    /// The rules of these objects. Objects of other kinds, and damaged ones, add nothing.
    pub fn new<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let mut rbac = Self::default();
        for object in objects {
            if &*object.key.resource.group != GROUP {
                continue;
            }
            let namespace = object.key.namespace.as_deref();
            let name = &*object.key.name;
            match &*object.key.resource.resource {
                "roles" | "clusterroles" => rbac.add_role(namespace, name, &object.body),
                "rolebindings" | "clusterrolebindings" => {
                    rbac.bindings
                        .extend(Binding::parse(namespace, name, &object.body));
                }
                _ => {}
            }
        }
        rbac.bindings
            .sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        for (place, binding) in rbac.bindings.iter().enumerate() {
            for subject in &binding.subjects {
                rbac.by_subject.entry(subject.clone()).or_default().push(place);
            }
        }
        rbac
    }

    /// Whether a rule allows it.
    pub fn allows(&self, user: &User, wanted: &Attributes<'_>) -> bool {
        self.grants(user, wanted.namespace())
            .any(|(_, _, rule)| rule.covers(wanted))
    }

    /// Which binding allows it, in the words of a kube-apiserver; None where none does.
    pub fn reason(&self, user: &User, wanted: &Attributes<'_>) -> Option<String> {
        let mut grants = self.grants(user, wanted.namespace());
        let (binding, subject, _) = grants.find(|(_, _, rule)| rule.covers(wanted))?;
        Some(format!("RBAC: allowed by {binding} to {subject}"))
    }

    /// Who may, one sentence a binding, those of the whole cluster first.
    pub fn who_may(&self, wanted: &Attributes<'_>) -> impl Iterator<Item = String> {
        let within = wanted.namespace();
        let here =
            move |binding: &&Binding| binding.namespace.is_none() || binding.namespace.as_deref() == within;
        let bindings = self.bindings.iter().filter(here);
        bindings
            .filter(|binding| !binding.subjects.is_empty())
            .filter(|binding| {
                self.rules_of(&binding.role)
                    .into_iter()
                    .any(|rule| rule.covers(wanted))
            })
            .map(|binding| {
                let subjects: Vec<String> = binding.subjects.iter().map(ToString::to_string).collect();
                format!("{} by {binding}", subjects.join(", "))
            })
    }

    /// The rules that a user has in a namespace, those of the whole cluster first.
    pub fn rules(&self, user: &User, namespace: Option<&str>) -> impl Iterator<Item = &Rule> {
        self.grants(user, namespace).map(|(_, _, rule)| rule)
    }

    fn grants(
        &self,
        user: &User,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = (&Binding, &Subject, &Rule)> {
        let mut found: Vec<(usize, &Subject)> = Subject::of(user)
            .filter_map(|subject| self.by_subject.get_key_value(&subject))
            .flat_map(|(subject, places)| places.iter().map(move |place| (*place, subject)))
            .collect();
        found.sort_by_key(|(place, _)| *place);
        found.dedup_by_key(|(place, _)| *place);
        let namespace = namespace.map(str::to_owned);
        found
            .into_iter()
            .map(|(place, subject)| (&self.bindings[place], subject))
            .filter(move |(binding, _)| binding.namespace.is_none() || binding.namespace == namespace)
            .flat_map(|(binding, subject)| {
                let rules = self.rules_of(&binding.role);
                rules.into_iter().map(move |rule| (binding, subject, rule))
            })
    }

    fn rules_of(&self, role: &(String, String)) -> Vec<&Rule> {
        let Some(role) = self.roles.get(role) else {
            return Vec::new();
        };
        let mut rules: Vec<&Rule> = role.rules.iter().collect();
        for selector in &role.aggregates {
            let chosen = self
                .roles
                .iter()
                .filter(|((namespace, _), _)| namespace.is_empty())
                .filter(|(_, other)| {
                    let labels = other.labels.iter();
                    selector.matches(&labels.map(|(key, value)| (key.into(), value.into())).collect())
                });
            rules.extend(chosen.flat_map(|(_, other)| &other.rules));
        }
        rules
    }

    fn add_role(&mut self, namespace: Option<&str>, name: &str, body: &[u8]) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            metadata: Labelled,
            #[serde(default)]
            rules: Option<Vec<Rule>>,
            #[serde(default)]
            aggregation_rule: Option<Aggregation>,
        }
        #[derive(Default, Deserialize)]
        struct Labelled {
            #[serde(default)]
            labels: Option<BTreeMap<String, String>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Aggregation {
            #[serde(default)]
            cluster_role_selectors: Vec<Value>,
        }
        let Ok(body) = serde_json::from_slice::<Body>(body) else {
            return;
        };
        let selectors = body
            .aggregation_rule
            .into_iter()
            .flat_map(|rule| rule.cluster_role_selectors);
        let role = Role {
            labels: body.metadata.labels.unwrap_or_default(),
            rules: body.rules.unwrap_or_default(),
            aggregates: selectors
                .filter_map(|selector| label_selector(&selector))
                .collect(),
        };
        self.roles
            .insert((namespace.unwrap_or_default().to_owned(), name.to_owned()), role);
    }
}

/// A selector as objects hold it (`matchLabels`, `matchExpressions`).
fn label_selector(selector: &Value) -> Option<LabelSelector> {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut parts: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str()?;
        let values = expression["values"].as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    LabelSelector::parse(&parts.join(",")).ok()
}

#[cfg(test)]
mod tests;
