//! Questions about who somebody is and what they may do: created, answered, and never stored.
//!
//! Authorization is decided before a request comes here. Of its own, the embedded cluster knows one rule: its administrators may do
//! everything. Of others it answers that it does not know.

use hub_core::api::{ApiResponse, Status, User};
use hub_core::registry::ResourceKind;
use serde_json::{Value, json};

use super::call::Call;
use super::{clock, create, fault};

pub(super) fn is_review(kind: &ResourceKind) -> bool {
    matches!(
        &*kind.resource.group,
        "authentication.k8s.io" | "authorization.k8s.io"
    )
}

pub(super) fn answer(call: &Call<'_>) -> Result<ApiResponse, Status> {
    let mut review = create::read_body(call)?;
    let user = &*call.user;
    review["status"] = match &*call.kind.kind {
        "SelfSubjectReview" => {
            review["metadata"]["creationTimestamp"] = clock::now().into();
            json!({"userInfo": {"username": user.name, "groups": user.groups}})
        }
        "SelfSubjectAccessReview" => access(is_administrator(user)),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => access(is_administrator(&subject(&review))),
        "SelfSubjectRulesReview" if is_administrator(user) => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        "SelfSubjectRulesReview" => json!({"resourceRules": [], "nonResourceRules": [], "incomplete": true}),
        other => return Err(fault::not_implemented(other)),
    };
    Ok(ApiResponse::json(201, review.to_string()))
}

fn access(allowed: bool) -> Value {
    if allowed {
        json!({"allowed": true, "reason": "an administrator of the embedded cluster"})
    } else {
        json!({"allowed": false, "reason": "the embedded cluster knows its administrators only"})
    }
}

fn subject(review: &Value) -> User {
    let groups = review["spec"]["groups"].as_array().into_iter().flatten();
    User {
        name: review["spec"]["user"].as_str().unwrap_or_default().to_owned(),
        groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

fn is_administrator(user: &User) -> bool {
    user.groups.iter().any(|group| group == "system:masters")
}
