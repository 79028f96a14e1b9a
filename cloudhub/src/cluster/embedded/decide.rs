//! Which code answers which request. Everything here runs in the writer, one request after the other.

use hub_core::api::{ApiRequest, ApiResponse, Status, Verb};

use super::admission::{certificate, quota};
use super::call::{Call, is};
use super::controllers::{authority, flow, garbage};
use super::custom::definition;
use super::custom::structural::Definition;
use super::draft::Draft;
use super::fault;
use super::identity::issuer::Issuer;
use super::identity::{review, token};
use super::state::{Mark, State};
use super::subresources::{binding, evict, parts, scale};
use super::verbs::{create, delete, delete_collection, patch, update};

/// Carries out a request that is no read. A failure leaves the state as it was, and so does a dry run.
pub(super) fn decide(
    state: &mut State,
    issuer: &Issuer,
    request: &ApiRequest,
    draft: Option<Draft>,
) -> ApiResponse {
    let mark = state.mark();
    let answer = Call::new(request, &state.registry).map(|mut call| {
        if call.kind.custom {
            call.definition = Definition::of(state, &call.kind);
        }
        let carried = carry_out(state, issuer, &call, draft);
        let carried = carried.and_then(|answer| flow::follow(state, &call.kind).map(|()| answer));
        let answer = carried.map(|answer| ApiResponse {
            warnings: call.take_warnings(),
            ..answer
        });
        let refusal = |status: Status| ApiResponse {
            warnings: call.take_warnings(),
            ..ApiResponse::from(status)
        };
        if call.dry_run || answer.is_err() {
            state.roll_back(mark);
            state.garbage.clear();
        }
        garbage::collect(state);
        follow(state, mark);
        tracing::debug!(
            user = call.user.name,
            verb = %call.verb,
            kind = %call.kind.resource,
            namespace = call.namespace,
            name = call.name,
            subresource = call.subresource,
            code = answer.as_ref().map_or_else(|status| status.code, |response| response.code),
            "the embedded cluster carried out a request"
        );
        answer.unwrap_or_else(refusal)
    });
    answer.unwrap_or_else(ApiResponse::from)
}

/// What a real cluster's controllers do about the steps since the mark, some moments after the answer.
fn follow(state: &mut State, mark: Mark) {
    for (follow, what) in [
        (
            authority::follow as fn(&mut State, Mark) -> Result<(), Status>,
            "authority",
        ),
        (definition::names::follow, "definitions"),
        (quota::follow, "quotas"),
    ] {
        let before = state.mark();
        if let Err(status) = follow(state, mark) {
            state.roll_back(before);
            tracing::warn!(why = status.message, what, "what follows a write was not done");
        }
    }
}

fn carry_out(
    state: &mut State,
    issuer: &Issuer,
    call: &Call<'_>,
    draft: Option<Draft>,
) -> Result<ApiResponse, Status> {
    match (call.verb, call.subresource) {
        (Verb::Create, None) if review::is_review(&call.kind) => review::answer(state, issuer, call),
        (Verb::Create, None) if is(&call.kind, "", "bindings") => binding::bind(state, call),
        (Verb::Create, None) => create::create(state, call, draft),
        (Verb::Create, Some("binding")) => binding::bind(state, call),
        (Verb::Create, Some("eviction")) => evict::evict(state, call),
        (Verb::Create, Some("token")) => token::issue(state, issuer, call),
        (Verb::Update, None | Some("status")) => update::update(state, call, draft),
        (Verb::Update, Some(part)) if parts::concerns(&call.kind, part) => update::update(state, call, draft),
        (Verb::Patch, Some(part)) if parts::concerns(&call.kind, part) => patch::patch(state, call),
        (Verb::Update | Verb::Patch, Some("scale")) => scale::write(state, call),
        (Verb::Patch, None | Some("status")) => patch::patch(state, call),
        // A signer's approval is written where other kinds have their status.
        (Verb::Update, Some("approval")) if certificate::concerns(&call.kind) => {
            update::update(state, call, draft)
        }
        (Verb::Patch, Some("approval")) if certificate::concerns(&call.kind) => patch::patch(state, call),
        (Verb::Delete, None) => delete::delete(state, call),
        (Verb::DeleteCollection, None) => delete_collection::delete_collection(state, call),
        (_, Some(subresource)) => Err(fault::not_implemented(&format!(
            "{}/{subresource}",
            call.kind.resource.resource
        ))),
        (Verb::Get | Verb::List | Verb::Watch, None) => Err(fault::method_not_allowed()),
    }
}
