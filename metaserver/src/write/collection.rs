//! What was deleted of a collection, in the form that the client wants.

use std::sync::Arc;

use hub_core::api::{ApiResponse, Status};
use hub_core::object::{Object, Revision};
use hub_core::store::Stored;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::accept::{Form, Shape};
use crate::api::Asked;
use crate::encode::{Page, View};
use crate::options::ListOptions;
use crate::page::PageToken;
use crate::read::typed;
use crate::reply::{self, Reply, Source};

/// Refuses options that no list has: what is deleted is listed first.
pub(super) fn check(asked: &Asked) -> Result<(), Status> {
    let namespace = asked.namespace.as_deref().filter(|_| asked.kind.namespaced);
    let options = ListOptions::parse(&asked.query, &asked.kind, namespace, None, false)?;
    match &options.token {
        Some(token) => PageToken::decode(token).map(drop),
        None => Ok(()),
    }
}

/// The answer to a deletion, as a table or as the metadata alone where that is wanted. What is deleted is deleted, whether or not there is
/// such a form of it.
pub(super) fn answer(asked: &Asked, response: ApiResponse, form: Form, view: &View) -> Result<Reply, Status> {
    if !response.is_success() || matches!(form.shape, Shape::Object) {
        return Ok(reply::passed(response, form));
    }
    form.suits(&asked.kind, true)?;
    let Some((page, objects)) = listed(asked, &response.body) else {
        return Ok(reply::passed(response, form));
    };
    let answer = reply::encoded(response.code, view.list(&page, &objects), form);
    Ok(reply::from(
        reply::warned(answer, &response.warnings),
        Source::Cloud,
    ))
}

/// The objects of a list. None for what is none.
fn listed(asked: &Asked, body: &[u8]) -> Option<(Page, Vec<Arc<Stored>>)> {
    let list: List<'_> = serde_json::from_slice(body).ok()?;
    let revision = Revision(list.metadata.resource_version.parse().ok()?);
    let shown = |item: &RawValue| {
        let served = typed(&asked.kind, item.get().as_bytes())?;
        let object = Object::from_body(asked.kind.resource.clone(), served.clone()).ok()?;
        Some(Arc::new(Stored {
            object,
            revision,
            served,
        }))
    };
    let page = Page {
        revision,
        next: list.metadata.next,
        remaining: list.metadata.remaining,
    };
    Some((page, list.items.into_iter().map(shown).collect::<Option<_>>()?))
}

#[derive(Deserialize)]
struct List<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
    #[serde(default, rename = "remainingItemCount")]
    remaining: Option<usize>,
}
