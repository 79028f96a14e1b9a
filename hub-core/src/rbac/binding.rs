//! Who has a role, and where.

use std::fmt;

use serde::Deserialize;

use crate::api::User;

/// A RoleBinding or a ClusterRoleBinding.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    /// Where it holds; none for everywhere.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// Namespace, empty for cluster roles, and name.
    pub(super) role: (String, String),
    pub(super) subjects: Vec<Subject>,
}

/// Somebody with a role.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    User(String),
    Group(String),
    /// Namespace and name.
    ServiceAccount(String, String),
}

impl Binding {
    /// None for what is no binding.
    pub(super) fn parse(namespace: Option<&str>, name: &str, body: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(body).ok()?;
        let within = match &*body.role_ref.kind {
            "ClusterRole" => String::new(),
            _ => namespace.unwrap_or_default().to_owned(),
        };
        let subject = |subject: Reference| match &*subject.kind {
            "User" => Some(Subject::User(subject.name)),
            "Group" => Some(Subject::Group(subject.name)),
            "ServiceAccount" => {
                let of = subject.namespace.filter(|of| !of.is_empty());
                let of = of.or_else(|| namespace.map(str::to_owned));
                Some(Subject::ServiceAccount(of.unwrap_or_default(), subject.name))
            }
            _ => None,
        };
        Some(Self {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            role: (within, body.role_ref.name),
            subjects: body
                .subjects
                .unwrap_or_default()
                .into_iter()
                .filter_map(subject)
                .collect(),
        })
    }
}

impl Subject {
    /// All that a user is.
    pub(super) fn of(user: &User) -> impl Iterator<Item = Self> {
        let account = user
            .service_account()
            .map(|(namespace, name)| Self::ServiceAccount(namespace.into(), name.into()));
        [Self::User(user.name.clone())]
            .into_iter()
            .chain(account)
            .chain(user.groups.iter().cloned().map(Self::Group))
    }
}

/// As a kube-apiserver names it in its reasons.
impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            None => write!(f, "ClusterRoleBinding {:?}", self.name)?,
            Some(namespace) => write!(f, "RoleBinding {:?}", format!("{}/{namespace}", self.name))?,
        }
        let kind = if self.role.0.is_empty() {
            "ClusterRole"
        } else {
            "Role"
        };
        write!(f, " of {kind} {:?}", self.role.1)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "User {name:?}"),
            Self::Group(name) => write!(f, "Group {name:?}"),
            Self::ServiceAccount(namespace, name) => {
                write!(f, "ServiceAccount {:?}", format!("{name}/{namespace}"))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    role_ref: Reference,
    #[serde(default)]
    subjects: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}
