//! What the account of the hub may not do, but should: said by name, with the rule that is missing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub_core::api::{ApiRequest, Target};
use hub_core::node::NODES_GROUP;
use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};

use super::door::Door;

/// A rule of a ClusterRole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The resource, with its subresource after a slash.
    pub resource: Cow<'static, str>,
    /// The verbs.
    pub verbs: Vec<&'static str>,
}

impl Right {
    /// Not a right, but the lack of all: the API server does not know who we are.
    pub(super) const CREDENTIALS: Self = Self {
        group: Cow::Borrowed(""),
        resource: Cow::Borrowed(""),
        verbs: Vec::new(),
    };

    /// To read a collection and to follow it.
    pub(super) fn watch(resource: &GroupVersionResource) -> Self {
        Self {
            group: resource.group.to_string().into(),
            resource: resource.resource.to_string().into(),
            verbs: vec!["get", "list", "watch"],
        }
    }

    fn of(group: &'static str, resource: &'static str, verbs: &[&'static str]) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
            verbs: verbs.to_vec(),
        }
    }

    /// Without these nothing works: what every node needs, and to act as a node.
    pub(super) fn needed() -> Vec<Self> {
        let read = &["get", "list", "watch"];
        vec![
            Self::of("", "configmaps", read),
            Self::of("", "nodes", &["create", "get", "list", "patch", "watch"]),
            Self::of("", "pods", read),
            Self::of("", "secrets", read),
            Self::of("", "users", &["impersonate"]),
            Self::of("", "groups", &["impersonate"]),
            Self::of("apiextensions.k8s.io", "customresourcedefinitions", read),
            Self::of("authorization.k8s.io", "subjectaccessreviews", &["create"]),
        ]
    }

    /// What a request of the hub itself needs. None for a path that is no resource.
    pub(super) fn of_request(request: &ApiRequest) -> Option<Self> {
        let Target::Resource {
            resource,
            subresource,
            ..
        } = &request.target
        else {
            return None;
        };
        let name = match subresource {
            Some(subresource) => format!("{}/{subresource}", resource.resource),
            None => resource.resource.to_string(),
        };
        Some(Self {
            group: resource.group.to_string().into(),
            resource: name.into(),
            verbs: vec![request.verb.as_str()],
        })
    }

    /// The right that is missing where somebody could not be impersonated (Kubernetes
    /// `apiserver/pkg/endpoints/filters/impersonation.go`).
    pub(super) fn of_impersonation(message: &str) -> Option<Self> {
        // Since Kubernetes 1.36 it is the request that is named, not the one to be impersonated.
        if message.contains("cannot impersonate-on:") {
            return Some(Self::of("", "users", &["impersonate"]));
        }
        let (_, rest) = message.split_once("cannot impersonate resource \"")?;
        let resource = rest.split('"').next()?;
        let group = if resource.starts_with("userextras") || resource == "uids" {
            "authentication.k8s.io"
        } else {
            ""
        };
        Some(Self {
            group: group.into(),
            resource: resource.to_owned().into(),
            verbs: vec!["impersonate"],
        })
    }
}

/// The rule as YAML, to be put into a ClusterRole.
impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::CREDENTIALS {
            return f.write_str("valid credentials");
        }
        write!(
            f,
            "- {{apiGroups: [{:?}], resources: [{:?}], verbs: {:?}}}",
            self.group, self.resource, self.verbs
        )
    }
}

/// The rights that were found missing.
#[derive(Debug, Default)]
pub(super) struct Rights {
    missing: Mutex<BTreeMap<Right, Missing>>,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    said: Instant,
    seen: Instant,
}

impl Rights {
    /// It was missing just now. Said in the log at first, and from time to time.
    pub(super) fn report(&self, right: Right, answer: &str) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let known = missing.get_mut(&right).map(|known| {
            known.seen = now;
            known.said
        });
        if known.is_some_and(|said| now.duration_since(said) < SAY_AGAIN) {
            return;
        }
        // Names come from requests, too: those that do not fit are not remembered, but said.
        if known.is_some() || missing.len() < MISSING_MAX {
            missing.insert(right.clone(), Missing { said: now, seen: now });
        }
        if right == Right::CREDENTIALS {
            tracing::error!(answer, "the credentials for the API server are refused");
        } else {
            tracing::error!(%right, answer, "a right is missing; add the rule to the ClusterRole of this account");
        }
    }

    /// It is there (again).
    pub(super) fn granted(&self, right: &Right) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.remove(right).is_none() {
            return;
        }
        if *right == Right::CREDENTIALS {
            tracing::info!("the API server accepts the credentials again");
        } else {
            tracing::info!(%right, "a right that was missing is there");
        }
    }

    /// Those that were missing not long ago: what stays missing is missed again.
    pub(super) fn missing(&self) -> Vec<Right> {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        missing.retain(|_, known| now.duration_since(known.seen) < FORGOTTEN);
        missing.keys().cloned().collect()
    }
}

/// Asks once, at the start, for what nothing works without: better all in one log than one after the other.
pub(super) async fn review(door: &Door) {
    for right in Right::needed() {
        for verb in &right.verbs {
            let review = json!({
                "kind": "SelfSubjectAccessReview",
                "apiVersion": "authorization.k8s.io/v1",
                "spec": { "resourceAttributes": attributes(&right, verb) },
            });
            // Where nobody answers now, the first use will tell.
            if super::review::ask(door, "selfsubjectaccessreviews", &review).await == Some(false) {
                door.rights.report(right.clone(), &format!("may not {verb}"));
                break;
            }
        }
    }
}

fn attributes(right: &Right, verb: &str) -> Value {
    // Impersonation is granted by name (the API server asks for each name).
    let name = if right.resource == "groups" {
        NODES_GROUP
    } else {
        ""
    };
    json!({ "group": right.group, "resource": right.resource, "verb": verb, "name": name })
}

/// How often a right that stays missing is named.
const SAY_AGAIN: Duration = Duration::from_secs(300);
/// A right that nobody missed for so long is not missing any more.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// Missing rights that are remembered.
const MISSING_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_a_rule_to_add() {
        let rights = Rights::default();
        let secrets = Right::watch(&GroupVersionResource::core("secrets"));
        rights.report(secrets.clone(), "no");
        rights.report(secrets.clone(), "no");
        let rules: Vec<_> = rights.missing().iter().map(ToString::to_string).collect();
        assert_eq!(
            rules,
            [r#"- {apiGroups: [""], resources: ["secrets"], verbs: ["get", "list", "watch"]}"#]
        );
        rights.granted(&secrets);
        assert_eq!(rights.missing(), []);
    }

    #[test]
    fn a_refused_impersonation_names_what_is_missing() {
        let right = |message| Right::of_impersonation(message).map(|right| right.to_string());
        assert_eq!(
            right(r#"users "system:node:a" is forbidden: User "cloud" cannot impersonate resource "users" in API group "" at the cluster scope"#).unwrap(),
            r#"- {apiGroups: [""], resources: ["users"], verbs: ["impersonate"]}"#
        );
        assert!(
            right(r#"cannot impersonate resource "uids" in"#)
                .unwrap()
                .contains("authentication.k8s.io")
        );
        assert_eq!(
            right(r#"pods "a" is forbidden: User "b" cannot get resource "pods""#),
            None
        );
    }
}
