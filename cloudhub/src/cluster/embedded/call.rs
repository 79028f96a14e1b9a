//! A request, taken apart: which kind, which object, which options.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use hub_core::api::{ApiRequest, Status, Target, User, Verb};
use hub_core::object::ObjectKey;
use hub_core::registry::{Registry, ResourceKind};
use hub_core::selector::{FieldSelector, LabelSelector};
use serde_json::Value;

use super::custom::structural::Definition;
use super::fault::{self, FieldError};
use super::values::go_value;

/// A request about a kind that exists, with a verb that the kind has.
pub(super) struct Call<'a> {
    pub(super) request: &'a ApiRequest,
    pub(super) verb: Verb,
    pub(super) kind: Arc<ResourceKind>,
    /// Of a custom kind, unless it has gone.
    pub(super) definition: Option<Definition>,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) subresource: Option<&'a str>,
    pub(super) user: Cow<'a, User>,
    /// Validate and answer, but change nothing.
    pub(super) dry_run: bool,
    /// What the answer is to warn of.
    warnings: RefCell<Vec<String>>,
    query: Vec<(String, String)>,
}

impl<'a> Call<'a> {
    pub(super) fn new(request: &'a ApiRequest, registry: &Registry) -> Result<Self, Status> {
        let Target::Resource {
            resource,
            namespace,
            name,
            subresource,
        } = &request.target
        else {
            return Err(fault::no_such_resource());
        };
        let kind = registry
            .by_resource(resource)
            .ok_or_else(fault::no_such_resource)?;
        let (namespace, name) = (namespace.as_deref(), name.as_deref());
        // Namespaces are themselves not in one, though their paths read so.
        let namespace = namespace.filter(|_| kind.namespaced || !is_namespaces(&kind));
        if namespace.is_some() && !kind.namespaced {
            return Err(fault::no_such_resource());
        }
        let verbs = match subresource.as_deref() {
            None => &kind.verbs,
            Some(wanted) => {
                // Behind `proxy` stands a path.
                let wanted = match wanted.split_once('/') {
                    Some(("proxy", _)) => "proxy",
                    _ => wanted,
                };
                let found = kind
                    .subresources
                    .iter()
                    .find(|subresource| &*subresource.name == wanted);
                &found.ok_or_else(fault::no_such_resource)?.verbs
            }
        };
        let allowed = verbs.iter().any(|verb| &**verb == request.verb.as_str());
        let everywhere = matches!(request.verb, Verb::List | Verb::Watch);
        if !allowed || (kind.namespaced && namespace.is_none() && !everywhere) {
            return Err(fault::method_not_allowed());
        }
        let collection = matches!(
            request.verb,
            Verb::List | Verb::Watch | Verb::DeleteCollection | Verb::Create
        );
        if name.is_none() && (!collection || subresource.is_some()) {
            return Err(fault::bad_request("name must be provided"));
        }
        let query: Vec<(String, String)> = form_urlencoded::parse(request.query.as_bytes())
            .into_owned()
            .collect();
        let mut call = Self {
            request,
            verb: request.verb,
            namespace,
            name,
            subresource: subresource.as_deref(),
            // Requests without an identity are the embedding program's own.
            user: request
                .user
                .as_ref()
                .map_or_else(|| Cow::Owned(administrator()), Cow::Borrowed),
            dry_run: false,
            warnings: RefCell::default(),
            kind,
            definition: None,
            query,
        };
        call.dry_run = call.check_options()?;
        Ok(call)
    }

    /// A query parameter; None when it is absent or empty.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Warns the client with the answer.
    pub(super) fn warn(&self, warning: String) {
        self.warnings.borrow_mut().push(warning);
    }

    pub(super) fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }

    pub(super) fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(self.kind.resource.clone(), self.namespace, name)
    }

    /// The key of the object that the path names.
    pub(super) fn named(&self) -> Result<ObjectKey, Status> {
        let name = self
            .name
            .ok_or_else(|| fault::bad_request("name must be provided"))?;
        Ok(self.key(name))
    }

    pub(super) fn api_version(&self) -> String {
        self.kind.resource.api_version()
    }

    pub(super) fn selectors(&self) -> Result<(LabelSelector, FieldSelector), Status> {
        selectors(
            &self.kind,
            self.parameter("labelSelector").unwrap_or_default(),
            self.parameter("fieldSelector").unwrap_or_default(),
        )
    }

    /// The media type of the body, without parameters, in lower case.
    pub(super) fn media_type(&self) -> String {
        let media_type = self.request.content_type.split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }

    fn check_options(&self) -> Result<bool, Status> {
        let kind = match self.verb {
            Verb::Create => "CreateOptions",
            Verb::Update => "UpdateOptions",
            Verb::Patch => "PatchOptions",
            Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
            Verb::Get | Verb::List | Verb::Watch => return Ok(false),
        };
        let refuse = |error| Err(fault::invalid_named("meta.k8s.io", kind, "", &[error]));
        match self.parameter("fieldValidation") {
            None | Some("Ignore" | "Strict" | "Warn") => {}
            Some(other) => {
                let supported = r#""", "Ignore", "Strict", "Warn""#;
                return refuse(FieldError::unsupported(
                    "fieldValidation",
                    &format!("{other:?}"),
                    supported,
                ));
            }
        }
        if self.verb == Verb::Patch && self.parameter("force").is_some() && !self.is_apply() {
            return refuse(FieldError::forbidden(
                "force",
                "may not be specified for non-apply patch",
            ));
        }
        let manager = self.parameter("fieldManager").unwrap_or_default();
        if self.is_apply() && manager.is_empty() {
            return refuse(FieldError::required(
                "fieldManager",
                "is required for apply patch",
            ));
        }
        if manager.len() > FIELD_MANAGER_BYTES_MAX {
            return refuse(FieldError::too_long("fieldManager", FIELD_MANAGER_BYTES_MAX));
        }
        if let Some((at, odd)) = manager.char_indices().find(|(_, letter)| letter.is_control()) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(odd));
            let shown = go_value::quoted(manager);
            return refuse(FieldError::invalid_shown("fieldManager", &shown, &detail));
        }
        let given = self.query.iter().find(|(key, _)| key == "dryRun");
        match given.map(|(_, value)| value.as_str()) {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => refuse(FieldError::unsupported(
                "dryRun",
                &format!("[{other:?}]"),
                r#""All""#,
            )),
        }
    }

    pub(super) fn is_apply(&self) -> bool {
        self.media_type().starts_with("application/apply-patch+")
    }
}

/// Parses selectors and checks that the kind has the fields they name.
pub(super) fn selectors(
    kind: &ResourceKind,
    labels: &str,
    fields: &str,
) -> Result<(LabelSelector, FieldSelector), Status> {
    let bad = |error: hub_core::selector::InvalidSelector| fault::bad_request(error.0);
    let labels = LabelSelector::parse(labels).map_err(bad)?;
    let fields = FieldSelector::parse(fields).map_err(bad)?;
    let known = |field: &str| {
        field == "metadata.name"
            || (kind.namespaced && field == "metadata.namespace")
            || kind.selectable_fields.iter().any(|known| &**known == field)
    };
    if let Some(unknown) = fields.fields().find(|field| !known(field)) {
        let mut own = kind.selectable_fields.iter();
        let some = kind.custom || own.any(|field| !field.starts_with("metadata."));
        return Err(fault::bad_request(if some {
            format!("field label not supported: {unknown}")
        } else {
            format!(
                "{unknown:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )
        }));
    }
    Ok((labels, fields))
}

/// Whether objects of this kind carry a `metadata.generation`.
pub(super) fn has_generation(kind: &ResourceKind) -> bool {
    kind.custom || WITH_GENERATION.contains(&(&*kind.resource.group, &*kind.resource.resource))
}

pub(super) fn has_status(kind: &ResourceKind) -> bool {
    kind.subresources
        .iter()
        .any(|subresource| &*subresource.name == "status")
}

pub(super) fn is_namespaces(kind: &ResourceKind) -> bool {
    is(kind, "", "namespaces")
}

pub(super) fn is(kind: &ResourceKind, group: &str, resource: &str) -> bool {
    &*kind.resource.group == group && &*kind.resource.resource == resource
}

/// A text of the metadata; empty when it is not there.
pub(super) fn meta<'v>(value: &'v Value, field: &str) -> &'v str {
    value["metadata"][field].as_str().unwrap_or_default()
}

/// Kubernetes `apimachinery/pkg/apis/meta/v1/validation`.
const FIELD_MANAGER_BYTES_MAX: usize = 128;

fn administrator() -> User {
    User {
        name: "system:admin".into(),
        groups: vec!["system:masters".into(), "system:authenticated".into()],
        ..User::default()
    }
}

/// The built-in kinds whose objects a kube-apiserver 1.36 gives a generation.
const WITH_GENERATION: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "podtemplates"),
    ("", "replicationcontrollers"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
    ),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
    ("discovery.k8s.io", "endpointslices"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
    ("networking.k8s.io", "ingressclasses"),
    ("networking.k8s.io", "ingresses"),
    ("networking.k8s.io", "networkpolicies"),
    ("policy", "poddisruptionbudgets"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceslices"),
    ("scheduling.k8s.io", "priorityclasses"),
];
