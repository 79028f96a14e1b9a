//! How a kube-apiserver says no (`apiserver/pkg/endpoints/handlers/responsewriters/errors.go`).

use crate::api::{Reason, Status, User};

use super::{About, Attributes};

/// The answer to who may not have what they want. `why` follows the sentence; empty for nothing more to say.
pub fn denial(user: &User, wanted: &Attributes<'_>, why: &str) -> Status {
    let (who, verb) = (&user.name, wanted.verb);
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    };
    let About::Resource {
        group,
        resource,
        subresource,
        namespace,
        name,
    } = wanted.object
    else {
        let About::Path(path) = wanted.object else {
            return Status::failure(Reason::Forbidden, "forbidden");
        };
        let text = format!("forbidden: User {who:?} cannot {verb} path {path:?}{why}");
        return Status::failure(Reason::Forbidden, text).about("", "", "");
    };
    let shown = if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    };
    let name = name.unwrap_or_default();
    let about = if name.is_empty() {
        shown
    } else {
        format!("{shown} {name:?}")
    };
    let what = match subresource {
        Some(subresource) => format!("{resource}/{subresource}"),
        None => resource.to_owned(),
    };
    let place = match namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let text = format!(
        "{about} is forbidden: User {who:?} cannot {verb} resource {what:?} in API group {group:?} {place}{why}"
    );
    Status::failure(Reason::Forbidden, text).about(group, resource, name)
}
