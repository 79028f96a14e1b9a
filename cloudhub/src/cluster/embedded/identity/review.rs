//! Questions about who somebody is and what they may do: created, answered, and never stored.
//!
//! Administrators (`system:masters`) may do everything; of others the roles and bindings of the cluster speak.

use hub_core::api::{ApiResponse, Status};
use hub_core::rbac::review::{access, rules, subject, wanted, whoami};
use hub_core::registry::ResourceKind;
use serde_json::Value;

use super::issuer::Issuer;
use super::token;
use crate::cluster::embedded::call::Call;
use crate::cluster::embedded::fault;
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::clock;
use crate::cluster::embedded::verbs::create;
use crate::cluster::embedded::verbs::managed::{self, Written};

pub(in crate::cluster::embedded) fn is_review(kind: &ResourceKind) -> bool {
    matches!(
        &*kind.resource.group,
        "authentication.k8s.io" | "authorization.k8s.io"
    )
}

pub(in crate::cluster::embedded) fn answer(
    state: &State,
    issuer: &Issuer,
    call: &Call<'_>,
) -> Result<ApiResponse, Status> {
    let mut asked = create::read_body(call)?;
    let user = &*call.user;
    let owned = managed::of_new(call, &asked, &Value::Null, Written::Directly);
    asked["status"] = match &*call.kind.kind {
        "SelfSubjectReview" => return Ok(created(&whoami(user, &clock::now()))),
        "SelfSubjectRulesReview" => return Ok(created(&rules(&state.rules(), user, &asked)?)),
        "TokenReview" => token::review(state, issuer, &asked)?,
        "SelfSubjectAccessReview" => access(&state.rules(), user, &wanted(&asked, None)?),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let user = subject(&asked)?;
            access(&state.rules(), &user, &wanted(&asked, call.namespace)?)
        }
        other => return Err(fault::not_implemented(other)),
    };
    managed::keep(&mut asked, managed::shown(&owned));
    Ok(created(&asked))
}

fn created(review: &Value) -> ApiResponse {
    ApiResponse::json(201, review.to_string())
}
