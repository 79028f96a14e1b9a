//! What can be wrong with a request, in the words of a real API server.

use hub_core::api::{Reason, Status, UpstreamError, Verb};
use hub_core::object::{GroupVersionResource, Revision};
use hub_core::registry::ResourceKind;
use hub_core::store::StoreError;

use crate::encode::EncodeError;

/// There is no such collection in a group that exists.
pub(crate) fn no_resource() -> Status {
    Status::failure(
        Reason::NotFound,
        "the server could not find the requested resource",
    )
}

pub(crate) fn not_allowed() -> Status {
    Status::failure(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
}

/// What the server of custom kinds says to a verb that means nothing there, and to a method that is no verb.
pub(crate) fn unsupported(kind: &ResourceKind, verb: &str) -> Status {
    let resource = &kind.resource;
    let shown = format!("{}.{}", resource.resource, resource.group);
    let message = format!("{verb} is not supported on resources of kind {shown:?}");
    Status::failure(Reason::MethodNotAllowed, message).about(&resource.group, &resource.resource, "")
}

/// A name that would mean another path to whoever reads it next.
pub(crate) fn bad_name(name: &str) -> Status {
    let wrong = match name {
        "." | ".." => format!("be '{name}'"),
        _ => "contain '%'".into(),
    };
    bad(format!("Name parameter invalid: {name:?}: may not {wrong}"))
}

pub(crate) fn no_watch(kind: &ResourceKind) -> Status {
    let resource = &kind.resource;
    Status::failure(
        Reason::MethodNotAllowed,
        format!(
            "watch is not supported on resources of kind \"{}\"",
            resource.resource
        ),
    )
    .about(&resource.group, &resource.resource, "")
}

pub(crate) fn not_found(resource: &GroupVersionResource, name: &str) -> Status {
    // The one kind that a real server asks itself about, by its singular.
    let shown = match (&*resource.group, &*resource.resource) {
        ("", "componentstatuses") => "componentstatus",
        (_, plural) => plural,
    };
    Status::not_found(&resource.group, shown, name)
}

pub(crate) fn bad(message: impl Into<String>) -> Status {
    Status::failure(Reason::BadRequest, message)
}

pub(crate) fn unparsed_integer(text: &str) -> Status {
    bad(format!(
        "strconv.ParseInt: parsing {text:?}: {}",
        wrong_number(text)
    ))
}

/// Go's word for a text that is no number.
fn wrong_number(text: &str) -> &'static str {
    let digits = text.trim_start_matches(['+', '-']);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with("+-") {
        "value out of range"
    } else {
        "invalid syntax"
    }
}

/// A list says 400, a get and a watch 500 without a reason.
pub(crate) fn unparsed_version(text: &str, list: bool) -> Status {
    // A version has no sign.
    let wrong = match text.starts_with(['+', '-']) {
        true => "invalid syntax",
        false => wrong_number(text),
    };
    let message =
        format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {wrong}");
    if list {
        return bad(format!("invalid resource version: {message}"));
    }
    let mut status = Status::failure(Reason::InternalError, message);
    status.reason = None;
    status
}

pub(crate) fn version_too_large(asked: u64, current: Revision) -> Status {
    Status::failure(
        Reason::Timeout,
        format!("Timeout: Too large resource version: {asked}, current: {current}"),
    )
    .cause("ResourceVersionTooLarge", "Too large resource version", "")
    .retry_after(1)
}

pub(crate) fn version_too_old(asked: u64, oldest: Revision) -> Status {
    Status::failure(
        Reason::Expired,
        format!("too old resource version: {asked} ({oldest})"),
    )
}

/// Nothing is heard of what a watch is about any more. Its client lists again, and then hears from the cloud itself why.
pub(crate) fn followed_no_more() -> Status {
    Status::failure(
        Reason::Expired,
        "the cloud does not give this node these objects any more, list them again",
    )
}

pub(crate) fn list_too_old() -> Status {
    Status::failure(
        Reason::Expired,
        "The resourceVersion for the provided list is too old.",
    )
}

/// The page token is older than the history; `next` goes on at the same place, in the present.
pub(crate) fn page_too_old(next: String) -> Status {
    let mut status = Status::failure(
        Reason::Expired,
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.continue_token = next;
    status
}

/// Each cause: reason, message, field.
pub(crate) fn invalid_options(causes: &[(&str, String, &str)]) -> Status {
    let shown: Vec<String> = causes
        .iter()
        .map(|(_, message, field)| format!("{field}: {message}"))
        .collect();
    let shown = match &shown[..] {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let status = Status::failure(
        Reason::Invalid,
        format!("ListOptions.meta.k8s.io \"\" is invalid: {shown}"),
    )
    .about("meta.k8s.io", "ListOptions", "");
    causes.iter().fold(status, |status, (reason, message, field)| {
        status.cause(reason, message, field)
    })
}

/// Metadata of a list was asked for where there is one object, or the other way round. A real server names its own types.
pub(crate) fn other_shape(kind: &ResourceKind, is_list: bool) -> Status {
    let group = match &*kind.resource.group {
        "" | "events.k8s.io" => "core",
        group => group.split('.').next().unwrap_or_default(),
    };
    let is_scale = &*kind.kind == "Scale";
    if kind.custom && !is_list && !is_scale {
        let mut status = Status::failure(Reason::InternalError, "content is not a list");
        status.reason = None;
        return status;
    }
    let (asked, is, suffix) = match is_list {
        true => ("", "a list", "List"),
        false => ("List", "not a list", ""),
    };
    let found = match kind.custom {
        true if is_scale => "*v1.Scale".into(),
        true => format!("*unstructured.Unstructured{suffix}"),
        false => format!("*{group}.{}{suffix}", kind.kind),
    };
    Status::failure(
        Reason::NotAcceptable,
        format!("you requested PartialObjectMetadata{asked}, but the requested object is {is} ({found})"),
    )
}

/// The label that a field selector names is not one of the kind.
pub(crate) fn unknown_field(kind: &ResourceKind, field: &str) -> Status {
    bad(match &*kind.kind {
        "ResourceSlice" if !kind.custom => {
            let version = kind.resource.api_version();
            format!("field label not supported for {version}, Kind=ResourceSlice: {field}")
        }
        "Job" if !kind.custom => format!("field label {field:?} not supported for Job"),
        _ if kind.custom
            || kind
                .selectable_fields
                .iter()
                .any(|field| !field.starts_with("metadata.")) =>
        {
            format!("field label not supported: {field}")
        }
        _ => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
    })
}

/// What a client is told when the cloud could not be asked.
pub(crate) fn away(error: &UpstreamError, verb: Verb, kind: &ResourceKind, name: Option<&str>) -> Status {
    let status = match (error, verb.is_read()) {
        (UpstreamError::Overloaded, _) => busy("requests are waiting for the cloud"),
        (UpstreamError::Protocol(_), _) => Status::failure(Reason::InternalError, error.to_string()),
        (UpstreamError::Timeout, false) => outcome_unknown(),
        (_, true) => cloud_away(&error.to_string()),
        (_, false) => cannot_write(&error.to_string()),
    };
    status.about(
        &kind.resource.group,
        &kind.resource.resource,
        name.unwrap_or_default(),
    )
}

/// Not held here, and the cloud is away. Never a 404: the object may well exist.
pub(crate) fn cloud_away(why: &str) -> Status {
    Status::failure(
        Reason::ServiceUnavailable,
        format!("{why}, and this node does not hold what was asked for"),
    )
    .cause("CloudUnreachable", why, "")
    .retry_after(COME_AGAIN)
}

/// The cloud answers lists of these objects, and will not have this node follow them.
pub(crate) fn not_followed(resource: &GroupVersionResource) -> Status {
    let why = format!("the cloud does not let this node follow {resource}");
    Status::failure(
        Reason::ServiceUnavailable,
        format!("{why}, they can be listed and not watched here"),
    )
    .cause("ScopeRefused", &why, "")
    .retry_after(COME_AGAIN)
}

/// The cloud is away, and only the cloud may change the object.
pub(crate) fn cannot_write(why: &str) -> Status {
    Status::failure(Reason::ServiceUnavailable, format!("{why}, nothing was changed"))
        .cause("CloudUnreachable", why, "")
        .retry_after(COME_AGAIN)
}

/// The request went out and no answer came: it may have been carried out.
pub(crate) fn outcome_unknown() -> Status {
    Status::failure(
        Reason::Timeout,
        "the cloud did not answer in time, whether the change was made is not known",
    )
    .cause("CloudTimeout", "the cloud did not answer in time", "")
}

/// What is stored cannot be written in the form that the client wants.
pub(crate) fn not_encoded(error: &EncodeError) -> Status {
    Status::failure(Reason::InternalError, format!("Internal error occurred: {error}"))
}

pub(crate) fn too_large(limit: usize) -> Status {
    Status::failure(
        Reason::RequestEntityTooLarge,
        format!("Request entity too large: limit is {limit}"),
    )
}

pub(crate) fn busy(what: &str) -> Status {
    Status::failure(
        Reason::TooManyRequests,
        format!("too many {what}, please try again later"),
    )
    .retry_after(1)
}

/// The node's own disk or its limits refuse (what HTTP calls 507, in the words that clients of Kubernetes understand).
pub(crate) fn no_room(error: &StoreError, what: &str) -> Status {
    Status::failure(Reason::ServiceUnavailable, format!("{what}: {error}"))
        .cause("InsufficientStorage", &error.to_string(), "")
        .retry_after(COME_AGAIN)
}

/// A bug of ours; the log has its place.
pub(crate) fn panicked() -> Status {
    Status::failure(
        Reason::InternalError,
        "Internal error occurred: this server made a mistake, which its log tells; other requests go on",
    )
}

/// Seconds after which a client should ask again while the cloud is away or the disk is full. client-go asks ten times by itself, in every
/// call that is refused with such a pause, and only then tells its caller: five seconds would hold an agent up for fifty.
const COME_AGAIN: u32 = 1;
