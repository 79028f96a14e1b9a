//! Questions about who somebody is and what they may do: created, answered, and never stored.
//!
//! Administrators (`system:masters`) may do everything; of others the roles and bindings of the cluster speak.

use hub_core::api::{ApiResponse, Status, User};
use hub_core::rbac::{About, Attributes, Rule};
use hub_core::registry::ResourceKind;
use serde_json::{Value, json};

use super::call::Call;
use super::issuer::Issuer;
use super::state::State;
use super::{clock, create, fault, token};

pub(super) fn is_review(kind: &ResourceKind) -> bool {
    matches!(
        &*kind.resource.group,
        "authentication.k8s.io" | "authorization.k8s.io"
    )
}

pub(super) fn answer(state: &State, issuer: &Issuer, call: &Call<'_>) -> Result<ApiResponse, Status> {
    let mut review = create::read_body(call)?;
    let user = &*call.user;
    review["status"] = match &*call.kind.kind {
        "SelfSubjectReview" => {
            review["metadata"]["creationTimestamp"] = clock::now().into();
            json!({"userInfo": {"username": user.name, "groups": user.groups}})
        }
        "TokenReview" => token::review(state, issuer, &review)?,
        "SelfSubjectAccessReview" => access(state, user, &review),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => access(state, &subject(&review), &review),
        "SelfSubjectRulesReview" => rules(state, user, &review),
        other => return Err(fault::not_implemented(other)),
    };
    Ok(ApiResponse::json(201, review.to_string()))
}

fn access(state: &State, user: &User, review: &Value) -> Value {
    if is_administrator(user) {
        return json!({"allowed": true, "reason": "an administrator of the embedded cluster"});
    }
    let text = |of: &'static str, field: &str| review["spec"][of][field].as_str().unwrap_or_default();
    let given = |field: &'static str| Some(text("resourceAttributes", field)).filter(|text| !text.is_empty());
    let wanted = if review["spec"]["nonResourceAttributes"].is_object() {
        Attributes {
            verb: text("nonResourceAttributes", "verb"),
            object: About::Path(text("nonResourceAttributes", "path")),
        }
    } else {
        Attributes {
            verb: text("resourceAttributes", "verb"),
            object: About::Resource {
                group: text("resourceAttributes", "group"),
                resource: text("resourceAttributes", "resource"),
                subresource: given("subresource"),
                namespace: given("namespace"),
                name: given("name"),
            },
        }
    };
    if state.rules().allows(user, &wanted) {
        json!({"allowed": true, "reason": "a role that is bound to the subject"})
    } else {
        json!({"allowed": false})
    }
}

fn rules(state: &State, user: &User, review: &Value) -> Value {
    if is_administrator(user) {
        return json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        });
    }
    let all = state.rules();
    let of_paths = |rule: &&Rule| !rule.non_resource_urls.is_empty();
    let rules = || all.rules(user, review["spec"]["namespace"].as_str());
    json!({
        "resourceRules": rules().filter(|rule| !of_paths(rule)).collect::<Vec<_>>(),
        "nonResourceRules": rules().filter(of_paths).collect::<Vec<_>>(),
        "incomplete": false,
    })
}

fn subject(review: &Value) -> User {
    let groups = review["spec"]["groups"].as_array().into_iter().flatten();
    User {
        name: review["spec"]["user"].as_str().unwrap_or_default().to_owned(),
        groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
        ..User::default()
    }
}

fn is_administrator(user: &User) -> bool {
    user.groups.iter().any(|group| group == "system:masters")
}
