//! What the cluster answers when it cannot do what was asked, in the words of a kube-apiserver.

use std::fmt;

use hub_core::api::{Reason, Status};
use hub_core::registry::ResourceKind;

/// One thing that is wrong with an object.
#[derive(Clone)]
pub(super) struct FieldError {
    reason: &'static str,
    field: String,
    detail: String,
}

impl FieldError {
    pub(super) fn invalid(field: impl Into<String>, value: &serde_json::Value, detail: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            detail: format!("Invalid value: {value}: {detail}"),
        }
    }

    /// The same where the value is too great to be shown.
    pub(super) fn invalid_something(field: impl Into<String>, detail: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            detail: format!("Invalid value: {detail}"),
        }
    }

    /// The same with a value as Kubernetes' own types show it.
    pub(super) fn invalid_shown(field: impl Into<String>, shown: &str, detail: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            detail: format!("Invalid value: {shown}: {detail}"),
        }
    }

    pub(super) fn required(field: impl Into<String>, detail: &str) -> Self {
        let detail = match detail {
            "" => "Required value".into(),
            detail => format!("Required value: {detail}"),
        };
        Self {
            reason: "FieldValueRequired",
            field: field.into(),
            detail,
        }
    }

    /// The value is of another type.
    pub(super) fn of_type(field: impl Into<String>, detail: &str) -> Self {
        Self {
            reason: "FieldValueTypeInvalid",
            field: field.into(),
            detail: detail.into(),
        }
    }

    /// It could not be looked at.
    pub(super) fn internal(field: impl Into<String>, why: &str) -> Self {
        Self {
            reason: "InternalError",
            field: field.into(),
            detail: format!("Internal error: {why}"),
        }
    }

    /// Whether it is of a list that has something twice.
    pub(super) fn is_duplicate(&self) -> bool {
        self.reason == "FieldValueDuplicate"
    }

    /// A list has it already.
    pub(super) fn duplicate(field: impl Into<String>, value: &serde_json::Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            detail: format!("Duplicate value: {value}"),
        }
    }

    /// The same where the value is too great to be shown.
    pub(super) fn duplicate_of_something(field: impl Into<String>) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            detail: "Duplicate value".into(),
        }
    }

    /// The same with a value as Kubernetes' own types show it.
    pub(super) fn duplicate_shown(field: impl Into<String>, shown: &str) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            detail: format!("Duplicate value: {shown}"),
        }
    }

    /// It has more bytes than it may have.
    pub(super) fn too_long(field: impl Into<String>, bytes_max: usize) -> Self {
        Self {
            reason: "FieldValueTooLong",
            field: field.into(),
            detail: format!("Too long: may not be more than {bytes_max} bytes"),
        }
    }

    /// It has more elements than it may have.
    pub(super) fn too_many(field: impl Into<String>, found: u64, most: u64) -> Self {
        Self {
            reason: "FieldValueTooMany",
            field: field.into(),
            detail: format!("Too many: {found}: must have at most {most} items"),
        }
    }

    /// The same of a part of an object, whose paths begin there: `phase in body`, for `status.phase`.
    pub(super) fn within(mut self, part: &str) -> Self {
        self.detail = self.detail.replacen(&format!(" {part}."), " ", 1);
        self
    }

    /// The same of a value that stands at a path itself.
    pub(super) fn under(mut self, path: &str) -> Self {
        self.field = match &*self.field {
            "" => path.to_owned(),
            field if field.starts_with('[') => format!("{path}{field}"),
            field => format!("{path}.{field}"),
        };
        self
    }

    /// It names something that is not there.
    pub(super) fn not_found(field: impl Into<String>, value: &serde_json::Value) -> Self {
        Self {
            reason: "FieldValueNotFound",
            field: field.into(),
            detail: format!("Not found: {value}"),
        }
    }

    /// Where it is.
    pub(super) fn field(&self) -> &str {
        &self.field
    }

    /// Whether Kubernetes looks no further once it has found this.
    pub(super) fn hides_others(&self) -> bool {
        matches!(
            self.reason,
            "FieldValueRequired"
                | "FieldValueTypeInvalid"
                | "FieldValueNotSupported"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
        )
    }

    pub(super) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            detail: format!("Forbidden: {detail}"),
        }
    }

    pub(super) fn unsupported(field: impl Into<String>, value: &str, supported: &str) -> Self {
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            detail: format!("Unsupported value: {value}: supported values: {supported}"),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

/// 422: the object itself is wrong.
pub(super) fn invalid(kind: &ResourceKind, name: &str, errors: &[FieldError]) -> Status {
    invalid_named(&kind.resource.group, &kind.kind, name, errors)
}

/// The same, where Kubernetes names another kind than the object's, or the collection.
pub(super) fn invalid_named(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
    let mut texts: Vec<String> = Vec::new();
    for text in errors.iter().map(FieldError::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let text = match &texts[..] {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let shown = qualified(kind, group);
    let status = Status::failure(Reason::Invalid, format!("{shown} {name:?} is invalid: {text}"));
    errors.iter().fold(status.about(group, kind, name), |status, e| {
        status.cause(e.reason, &e.detail, &e.field)
    })
}

pub(super) fn not_found(kind: &ResourceKind, name: &str) -> Status {
    Status::not_found(&kind.resource.group, &kind.resource.resource, name)
}

/// 409 on a creation, with the object that is there.
pub(super) fn already_exists(kind: &ResourceKind, held: &serde_json::Value) -> Status {
    let (shown, name) = (
        collection(kind),
        held["metadata"]["name"].as_str().unwrap_or_default(),
    );
    let going = held["metadata"]["deletionTimestamp"].is_string();
    let going = if going { "object is being deleted: " } else { "" };
    let message = format!("{going}{shown} {name:?} already exists");
    about(kind, name, Status::failure(Reason::AlreadyExists, message))
}

/// What Kubernetes' registry of types says of a kind that it does not have.
pub(super) fn not_registered(api_version: &str, kind: &str) -> String {
    format!("no kind {kind:?} is registered for version {api_version:?} in scheme {SCHEME:?}")
}

/// 409 on a write that names another object by its uid than the one that is there.
pub(super) fn other_uid(kind: &ResourceKind, held: &serde_json::Value, given: &str) -> Status {
    precondition(kind, held, ("UID", "uid"), given)
}

/// 409 on a write that was meant for another version of the object, where the storage itself looks.
pub(super) fn other_version(kind: &ResourceKind, held: &serde_json::Value, given: &str) -> Status {
    precondition(kind, held, ("ResourceVersion", "resourceVersion"), given)
}

fn precondition(
    kind: &ResourceKind,
    held: &serde_json::Value,
    (shown, field): (&str, &str),
    given: &str,
) -> Status {
    let text = |field: &str| held["metadata"][field].as_str().unwrap_or_default();
    // Services and their endpoints are stored side by side.
    let place = match (&*kind.resource.group, &*kind.resource.resource) {
        ("", "services") => "services/specs",
        ("", "endpoints") => "services/endpoints",
        ("", "nodes") => "minions",
        (_, resource) => resource,
    };
    let group = if kind.custom { &*kind.resource.group } else { "" };
    let key = [group, place, text("namespace"), text("name")];
    let key: Vec<&str> = key.into_iter().filter(|part| !part.is_empty()).collect();
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {shown} in precondition: {given}, {shown} in object meta: {}",
        key.join("/"),
        text(field)
    );
    conflict(kind, text("name"), &why)
}

/// Where a kube-apiserver's registry of types was made, as it says itself.
const SCHEME: &str = "pkg/runtime/scheme.go:111";

pub(super) fn conflict(kind: &ResourceKind, name: &str, why: &str) -> Status {
    let shown = collection(kind);
    let message = format!("Operation cannot be fulfilled on {shown} {name:?}: {why}");
    about(kind, name, Status::failure(Reason::Conflict, message))
}

pub(super) fn forbidden(kind: &ResourceKind, name: &str, why: &str) -> Status {
    let shown = collection(kind);
    about(
        kind,
        name,
        Status::failure(Reason::Forbidden, format!("{shown} {name:?} is forbidden: {why}")),
    )
}

pub(super) fn bad_request(message: impl Into<String>) -> Status {
    Status::failure(Reason::BadRequest, message)
}

pub(super) fn no_such_resource() -> Status {
    Status::failure(
        Reason::NotFound,
        "the server could not find the requested resource",
    )
}

pub(super) fn method_not_allowed() -> Status {
    Status::failure(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
}

pub(super) fn unsupported_media_type(accepted: &str) -> Status {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    );
    Status::failure(Reason::UnsupportedMediaType, message)
}

pub(super) fn too_large(limit: usize) -> Status {
    Status::failure(
        Reason::RequestEntityTooLarge,
        format!("Request entity too large: limit is {limit}"),
    )
}

/// 500 without a reason, as a kube-apiserver answers where its own code gave a plain error.
pub(super) fn internal(message: impl Into<String>) -> Status {
    Status {
        reason: None,
        ..Status::failure(Reason::InternalError, message)
    }
}

/// 500 with its reason, as a kube-apiserver answers where it knows that the fault is its own.
pub(super) fn internal_error(why: &str) -> Status {
    let message = format!("Internal error occurred: {why}");
    Status::failure(Reason::InternalError, message).cause("", why, "")
}

/// 501: a later issue brings it.
pub(super) fn not_implemented(what: &str) -> Status {
    Status {
        code: 501,
        reason: None,
        ..Status::failure(
            Reason::InternalError,
            format!("the embedded cluster has no {what} yet"),
        )
    }
}

fn about(kind: &ResourceKind, name: &str, status: Status) -> Status {
    status.about(&kind.resource.group, &kind.resource.resource, name)
}

/// `deployments.apps`, `configmaps`.
pub(super) fn collection(kind: &ResourceKind) -> String {
    qualified(&kind.resource.resource, &kind.resource.group)
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

pub(super) const RULES_NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
