//! A request to a Kubernetes API and its answer, as data.
//!
//! The metaServer makes requests of what its clients ask, EdgeHub carries them through the tunnel (KubeEdge's
//! *applications*), CloudHub executes them on the cluster with the rights of the node. On the cloud side the same requests
//! go straight to the embedded cluster. So all four speak of requests in these words.

mod status;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tower::util::BoxCloneSyncService;

pub use status::{Reason, Status};

use crate::object::GroupVersionResource;
use crate::scope::HeldBack;

/// What a request does (Kubernetes, "Request verbs").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// A collection.
    List,
    /// Changes of a collection.
    Watch,
    /// A new object.
    Create,
    /// A whole object in place of another.
    Update,
    /// A part of an object.
    Patch,
    /// One object away.
    Delete,
    /// A selection of a collection away.
    DeleteCollection,
}

impl Verb {
    /// The verb as Kubernetes' authorization spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether the request changes nothing.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A collection or an object of it.
    Resource {
        /// The collection.
        resource: GroupVersionResource,
        /// None for cluster-scoped resources and for all namespaces.
        namespace: Option<Arc<str>>,
        /// None for the collection.
        name: Option<Arc<str>>,
        /// `status`, `scale`, `log`, …
        subresource: Option<Arc<str>>,
    },
    /// A path that is no resource, such as `/version`.
    Path(Arc<str>),
}

/// On whose behalf a request is made. The receiver decides what that identity may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct User {
    /// The user name, such as `system:node:edge-1`.
    pub name: String,
    /// The groups, such as `system:nodes`.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The uid, where it is known: that of a service account tells it from an earlier one of the same name. Empty otherwise.
    #[serde(default)]
    pub uid: String,
    /// What else an authenticator said, such as `authentication.kubernetes.io/pod-name`.
    #[serde(default)]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The service account's, with the groups that every one of them is in.
    pub fn of_service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("{SERVICE_ACCOUNT}{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                AUTHENTICATED.into(),
            ],
            ..Self::default()
        }
    }

    /// Who said nothing of themselves.
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.into(),
            groups: vec![UNAUTHENTICATED.into()],
            ..Self::default()
        }
    }

    /// Namespace and name, if it is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.name.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
        (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
    }
}

/// The name of who said nothing of themselves.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of all that are known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of those who said nothing of themselves.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// What the name of a service account begins with.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRequest {
    /// What to do.
    pub verb: Verb,
    /// With what.
    pub target: Target,
    /// The query string without `?`, as it came: selectors, `resourceVersion`, `limit`, options of writes.
    pub query: String,
    /// The media type of the body; for a patch it names the kind of patch. Empty without a body.
    pub content_type: String,
    /// What the client accepts, for paths that are passed through. Empty for JSON.
    pub accept: String,
    /// The body as it came.
    pub body: Bytes,
    /// Who asks. None where the receiver knows it from the connection.
    pub user: Option<User>,
}

impl ApiRequest {
    /// A request without query and body.
    pub fn new(verb: Verb, target: Target) -> Self {
        Self {
            verb,
            target,
            query: String::new(),
            content_type: String::new(),
            accept: String::new(),
            body: Bytes::new(),
            user: None,
        }
    }

    /// A request about an object or, without a name, about a collection.
    pub fn resource(
        verb: Verb,
        resource: GroupVersionResource,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Self {
        let target = Target::Resource {
            resource,
            namespace: namespace.map(Into::into),
            name: name.map(Into::into),
            subresource: None,
        };
        Self::new(verb, target)
    }

    /// The same with a JSON body of the given media type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.content_type = content_type.into();
        self.body = body.into();
        self
    }

    /// The same about a subresource.
    #[must_use]
    pub fn with_subresource(mut self, name: &str) -> Self {
        if let Target::Resource { subresource, .. } = &mut self.target {
            *subresource = Some(name.into());
        }
        self
    }
}

/// One answer. A failure is an answer too: a body that holds a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiResponse {
    /// The HTTP status code.
    pub code: u16,
    /// The media type of the body.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
    /// What people should be told beside it (`Warning` headers, RFC 7234 section 5.5, code 299).
    pub warnings: Vec<String>,
}

impl ApiResponse {
    /// A JSON answer.
    pub fn json(code: u16, body: impl Into<Bytes>) -> Self {
        Self {
            code,
            content_type: "application/json".into(),
            body: body.into(),
            warnings: Vec::new(),
        }
    }

    /// Whether the request succeeded.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// What a `Warning` header with code 299 says.
pub fn warning(header: &str) -> Option<String> {
    let text = header.strip_prefix("299 ")?.split_once(' ')?.1.trim();
    let text = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// A `Warning` header that says a text to people.
pub fn warning_header(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("299 - \"{escaped}\"")
}

impl From<Status> for ApiResponse {
    fn from(status: Status) -> Self {
        Self::json(status.code, status.to_json())
    }
}

/// The request could not be put to the API server at all. Not an answer: nothing is known of the outcome of a write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// There is no link to the cloud. The request was not sent.
    #[error("the cloud cannot be reached")]
    Unreachable,
    /// No answer came in time. A write may or may not have happened.
    #[error("the cloud did not answer in time")]
    Timeout,
    /// Too many requests are under way. The request was not sent.
    #[error("too many requests are waiting for the cloud")]
    Overloaded,
    /// What came back is no answer to the request.
    #[error("the cloud's answer makes no sense: {0}")]
    Protocol(String),
}

/// Whoever carries requests and may know, without trying, whether the cloud is there.
///
/// The metaServer asks its upstream once, and then follows: offline answers come at once and say how old they are.
pub trait Reach {
    /// Whether the cloud is there, as it changes. None where only trying tells.
    fn connected(&self) -> Option<tokio::sync::watch::Receiver<bool>> {
        None
    }

    /// The deletions that are not believed yet, as they change: what is held in their scopes may be gone. None where all are believed.
    fn held_back(&self) -> Option<tokio::sync::watch::Receiver<Arc<[HeldBack]>>> {
        None
    }

    /// Since when the cluster behind the cloud is silent, as it changes: the cloud is there, and what it sent is not live. None where
    /// nobody says so.
    fn silent_since(&self) -> Option<tokio::sync::watch::Receiver<Option<std::time::Instant>>> {
        None
    }
}

impl<F> Reach for tower::util::ServiceFn<F> {}

impl Reach for Upstream {}

/// Where requests go that cannot be answered from a local store: through the tunnel, or to the embedded cluster.
pub type Upstream = BoxCloneSyncService<ApiRequest, ApiResponse, UpstreamError>;
