//! Whether a user may do what the hub would do for it with an account of its own.

use hub_core::api::{ApiRequest, Target, User, Verb};
use hub_core::object::GroupVersionResource;
use hub_core::rbac::selected_name;
use serde_json::{Value, json};

use super::door::Door;
use super::execute;

/// Asks the API server (`SubjectAccessReview`). Only watches need it: they are shared among nodes and run as the hub. Everything else
/// is executed as the user, and the API server decides then.
pub(super) async fn allows(door: &Door, request: &ApiRequest) -> bool {
    if request.verb != Verb::Watch {
        return true;
    }
    let Some(review) = review(request) else {
        return false;
    };
    let target = Target::Resource {
        resource: GroupVersionResource::new("authorization.k8s.io", "v1", "subjectaccessreviews"),
        namespace: None,
        name: None,
        subresource: None,
    };
    let ask = ApiRequest::new(Verb::Create, target).with_body("application/json", review.to_string());
    let answer = execute::execute(door, ask).await;
    let allowed = |body: &[u8]| {
        serde_json::from_slice::<Value>(body).is_ok_and(|review| review["status"]["allowed"] == true)
    };
    match answer {
        Ok(answer) if answer.is_success() => allowed(&answer.body),
        Ok(answer) => {
            tracing::warn!(
                code = answer.code,
                "the API server does not say what a node may watch; allow cloudcore to create subjectaccessreviews.authorization.k8s.io"
            );
            false
        }
        Err(error) => {
            tracing::debug!(%error, "what a node may watch could not be asked");
            false
        }
    }
}

fn review(request: &ApiRequest) -> Option<Value> {
    let User {
        name,
        groups,
        uid,
        extra,
    } = request.user.as_ref()?;
    let Target::Resource {
        resource,
        namespace,
        name: object,
        subresource,
    } = &request.target
    else {
        return None;
    };
    let selected = selected_name(request);
    Some(json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": name, "groups": groups, "uid": uid, "extra": extra,
            "resourceAttributes": {
                "verb": request.verb.as_str(), "group": resource.group, "version": resource.version,
                "resource": resource.resource, "subresource": subresource, "namespace": namespace,
                "name": object.as_deref().or(selected.as_deref()),
            },
        },
    }))
}
