//! Objects of a collection away, all of them or a page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use hub_core::api::{ApiResponse, Status};
use hub_core::object::{Metadata, Object};
use serde_json::{Value, json};

use super::{delete, delete_options};
use crate::cluster::embedded::call::Call;
use crate::cluster::embedded::fault;
use crate::cluster::embedded::reads::read;
use crate::cluster::embedded::state::State;

pub(in crate::cluster::embedded) fn delete_collection(
    state: &mut State,
    call: &Call<'_>,
) -> Result<ApiResponse, Status> {
    let options = delete_options::options(call)?;
    let (labels, fields) = call.selectors()?;
    let (mark, revision) = (state.mark(), state.revision());
    let chosen = |object: &&Object| {
        (labels.is_empty()
            || Metadata::parse(&object.body).is_ok_and(|metadata| labels.matches(&metadata.labels)))
            && fields.matches(&object.body)
    };
    let mut chosen: Vec<_> = state
        .list(&call.kind.resource, call.namespace)
        .filter(chosen)
        .cloned()
        .collect();
    let all = chosen.len();
    chosen.truncate(limit(call)?);
    for object in &chosen {
        // An earlier deletion may have taken this one along.
        if state.get(&object.key).is_some() {
            delete::one(state, &call.kind, &object.key, &options)?;
        }
    }
    let items: Vec<Bytes> = chosen
        .iter()
        .map(|object| read::item(&call.kind, &object.body))
        .collect();
    let mut list = read::list_body(&call.kind, revision, items.iter());
    if let Some(last) = chosen.last().filter(|_| chosen.len() < all) {
        let mut value: Value = serde_json::from_slice(&list).unwrap_or_default();
        let start = format!("/{}\0", last.key.name);
        let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
        value["metadata"]["continue"] = BASE64.encode(token.to_string()).into();
        // Who selects is not told how many there are.
        if labels.is_empty() && fields.is_empty() {
            value["metadata"]["remainingItemCount"] = (all - chosen.len()).into();
        }
        list = value.to_string().into_bytes();
    }
    if options.is_dry_run() {
        state.roll_back(mark);
    }
    Ok(ApiResponse::json(200, list))
}

/// How many are to go; all, where nobody says.
fn limit(call: &Call<'_>) -> Result<usize, Status> {
    let Some(given) = call.parameter("limit") else {
        return Ok(usize::MAX);
    };
    let limit: i64 = given
        .parse()
        .map_err(|_| fault::bad_request(format!("strconv.ParseInt: parsing {given:?}: invalid syntax")))?;
    Ok(usize::try_from(limit)
        .ok()
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX))
}
