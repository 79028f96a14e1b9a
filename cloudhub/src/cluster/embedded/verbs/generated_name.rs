//! Names that the server makes for objects that come with the beginning of one (`generateName`).

use hub_core::api::Status;
use serde_json::{Value, json};

use crate::cluster::embedded::call::{Call, meta};
use crate::cluster::embedded::fault;
use crate::cluster::embedded::kinds::defaults;
use crate::cluster::embedded::state::State;

/// Names an object that has no name. The beginning of its name, if it was for this to make.
pub(in crate::cluster::embedded) fn give(value: &mut Value) -> Option<String> {
    if !meta(value, "name").is_empty() || meta(value, "generateName").is_empty() {
        return None;
    }
    let base: String = meta(value, "generateName").chars().take(BASE_MAX).collect();
    value["metadata"]["name"] = made_of(&base).into();
    Some(base)
}

/// Gives an object another name, as long as its name is one that another has.
pub(in crate::cluster::embedded) fn settle(
    state: &State,
    call: &Call<'_>,
    base: &str,
    value: &mut Value,
) -> Result<(), Status> {
    for _ in 0..ATTEMPTS {
        if state.get(&call.key(meta(value, "name"))).is_none() {
            return Ok(());
        }
        value["metadata"]["name"] = made_of(base).into();
        // A namespace says its name in a label too.
        defaults::of_version(&call.kind, value);
    }
    let named = json!({"metadata": {"name": base}});
    Err(fault::already_exists(&call.kind, &named))
}

fn made_of(base: &str) -> String {
    format!("{base}{}", suffix())
}

/// Five letters and digits that make no words (Kubernetes `apimachinery/pkg/util/rand`).
pub(in crate::cluster::embedded) fn suffix() -> String {
    let random = uuid::Uuid::new_v4();
    // The first bytes of a version 4 UUID are all random.
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    random.as_bytes()[..5].iter().map(letter).collect()
}

/// A name of 63 characters, less the random ones (Kubernetes `apiserver/pkg/storage/names`).
const BASE_MAX: usize = 58;
const ATTEMPTS: usize = 8;
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
