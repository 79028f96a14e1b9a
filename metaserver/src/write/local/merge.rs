//! Two ends have changed one object: what each changed, and what becomes of both.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::policy::Winner;

/// A field that both ends changed to different values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Clash {
    /// Where, as a JSON pointer.
    pub pointer: String,
    /// What this node wrote; null where it removed the field.
    pub local: Value,
    /// What the cloud has; null where it has none.
    pub cloud: Value,
    /// Whose value stands now.
    pub won: Winner,
}

/// The cloud's object with the changes from `base` to `local` made in it too, and what both had changed.
///
/// Lists are single values. Null is as good as absent. What only a server writes in the metadata is the cloud's. `own` are states to
/// which this node may itself have brought the cloud's object: where the cloud has what one of them has, nobody else changed it.
pub(super) fn merged(
    base: &Value,
    cloud: &Value,
    local: &Value,
    wins: Winner,
    own: &[Value],
) -> (Value, Vec<Clash>) {
    let mut clashes = Vec::new();
    let own: Vec<_> = own.iter().map(Some).collect();
    let merged = merge(Some(base), Some(cloud), Some(local), &own, "", wins, &mut clashes);
    (merged.unwrap_or_default(), clashes)
}

fn merge(
    base: Option<&Value>,
    cloud: Option<&Value>,
    local: Option<&Value>,
    own: &[Option<&Value>],
    pointer: &str,
    wins: Winner,
    clashes: &mut Vec<Clash>,
) -> Option<Value> {
    let [base, cloud, local] = [base, cloud, local].map(|value| value.filter(|value| !value.is_null()));
    if SERVER_WRITTEN.contains(&pointer) || local == base || local == cloud {
        return cloud.cloned();
    }
    let by_us = || own.iter().any(|own| own.filter(|own| !own.is_null()) == cloud);
    if !(is_map(cloud) && is_map(local)) && (cloud == base || by_us()) {
        return local.cloned();
    }
    if let (Some(Value::Object(cloud)), Some(Value::Object(local))) = (cloud, local) {
        let nothing = Map::new();
        let base = base.and_then(Value::as_object).unwrap_or(&nothing);
        let mut whole = Map::new();
        let fields: BTreeSet<&String> = cloud.keys().chain(local.keys()).chain(base.keys()).collect();
        for field in fields {
            let below = format!("{pointer}/{}", escaped(field));
            let [base, cloud, local] = [base, cloud, local].map(|map| map.get(field));
            let own: Vec<_> = own.iter().map(|own| own.and_then(|own| own.get(field))).collect();
            if let Some(value) = merge(base, cloud, local, &own, &below, wins, clashes) {
                whole.insert(field.clone(), value);
            }
        }
        return Some(Value::Object(whole));
    }
    let of_status = pointer == "/status" || pointer.starts_with("/status/");
    let won = if of_status { Winner::Local } else { wins };
    clashes.push(Clash {
        pointer: pointer.to_owned(),
        local: local.cloned().unwrap_or_default(),
        cloud: cloud.cloned().unwrap_or_default(),
        won,
    });
    match won {
        Winner::Cloud => cloud.cloned(),
        Winner::Local => local.cloned(),
    }
}

/// The merge patch (RFC 7386) that makes `to` of `from`; None where there is nothing to do.
pub(super) fn patch(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        return (from != to).then(|| to.clone());
    };
    let mut changes = Map::new();
    for (field, value) in new.iter().filter(|(_, value)| !value.is_null()) {
        match old.get(field).filter(|value| !value.is_null()) {
            Some(old) => {
                if let Some(change) = patch(old, value) {
                    changes.insert(field.clone(), change);
                }
            }
            None => {
                changes.insert(field.clone(), value.clone());
            }
        }
    }
    for (field, value) in old {
        if !value.is_null() && new.get(field).is_none_or(Value::is_null) {
            changes.insert(field.clone(), Value::Null);
        }
    }
    (!changes.is_empty()).then_some(Value::Object(changes))
}

/// Where two states of an object differ, as JSON pointers; what only a server writes does not count.
pub(super) fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differ(Some(old), Some(new), "", &mut found);
    found
}

/// Whether this node itself brought the cloud's object from `base` to what it is: all that differs is so in one of its own states.
pub(super) fn is_own(base: &Value, cloud: &Value, own: &[Value]) -> bool {
    let own: Vec<_> = own.iter().map(Some).collect();
    !own.is_empty() && is_made_here(Some(base), Some(cloud), &own, "")
}

fn is_made_here(base: Option<&Value>, cloud: Option<&Value>, own: &[Option<&Value>], pointer: &str) -> bool {
    let [base, cloud] = [base, cloud].map(|value| value.filter(|value| !value.is_null()));
    let by_us = || own.iter().any(|own| own.filter(|own| !own.is_null()) == cloud);
    if SERVER_WRITTEN.contains(&pointer) || cloud == base || by_us() {
        return true;
    }
    let Some(Value::Object(cloud)) = cloud else {
        return false;
    };
    let nothing = Map::new();
    let base = base.and_then(Value::as_object).unwrap_or(&nothing);
    let fields: BTreeSet<&String> = cloud.keys().chain(base.keys()).collect();
    fields.into_iter().all(|field| {
        let below = format!("{pointer}/{}", escaped(field));
        let own: Vec<_> = own.iter().map(|own| own.and_then(|own| own.get(field))).collect();
        is_made_here(base.get(field), cloud.get(field), &own, &below)
    })
}

fn differ(old: Option<&Value>, new: Option<&Value>, pointer: &str, found: &mut Vec<String>) {
    let [old, new] = [old, new].map(|value| value.filter(|value| !value.is_null()));
    if old == new || SERVER_WRITTEN.contains(&pointer) {
        return;
    }
    let nothing = Map::new();
    let (old, new) = match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => (old, new),
        (None, Some(Value::Object(new))) if !new.is_empty() => (&nothing, new),
        (Some(Value::Object(old)), None) if !old.is_empty() => (old, &nothing),
        _ => return found.push(pointer.to_owned()),
    };
    let fields: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for field in fields {
        let below = format!("{pointer}/{}", escaped(field));
        differ(old.get(field), new.get(field), &below, found);
    }
}

fn is_map(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_object)
}

/// RFC 6901.
fn escaped(field: &str) -> String {
    field.replace('~', "~0").replace('/', "~1")
}

/// A server gives these; no client changes them by writing them.
const SERVER_WRITTEN: [&str; 8] = [
    "/metadata/resourceVersion",
    "/metadata/uid",
    "/metadata/creationTimestamp",
    "/metadata/generation",
    "/metadata/managedFields",
    "/metadata/selfLink",
    "/metadata/deletionTimestamp",
    "/metadata/deletionGracePeriodSeconds",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_one_end_changed_is_in_the_outcome_and_what_both_did_is_told() {
        let base = json!({"spec": {"a": 1, "b": 1, "c": 1, "gone": 1}, "status": {"s": 1}});
        let cloud = json!({"spec": {"a": 2, "b": 1, "c": 2, "gone": 1}, "status": {"s": 2}});
        let local = json!({"spec": {"a": 1, "b": 3, "c": 3}, "status": {"s": 3}});
        let (outcome, clashes) = merged(&base, &cloud, &local, Winner::Cloud, &[]);
        assert_eq!(
            outcome,
            json!({"spec": {"a": 2, "b": 3, "c": 2}, "status": {"s": 3}})
        );
        let told: Vec<_> = clashes.iter().map(|clash| (&*clash.pointer, clash.won)).collect();
        assert_eq!(told, [("/spec/c", Winner::Cloud), ("/status/s", Winner::Local)]);
        let (outcome, _) = merged(&base, &cloud, &local, Winner::Local, &[]);
        assert_eq!(outcome["spec"]["c"], 3);
    }

    #[test]
    fn differences_are_named_where_they_are() {
        let old = json!({"metadata": {"resourceVersion": "1", "name": "a"}, "spec": {"x": null}});
        let new = json!({"metadata": {"resourceVersion": "2", "name": "a", "annotations": {"a/b": "c"}}, "spec": {}});
        assert_eq!(differences(&old, &new), ["/metadata/annotations/a~1b"]);
    }

    fn state() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![(0..3i32).prop_map(|n| json!(n)), Just(json!([1]))];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop::collection::btree_map("[abc]", inner, 0..3).prop_map(|map| json!(map))
        })
    }

    fn object() -> impl Strategy<Value = Value> {
        prop::collection::btree_map("[abc]", state(), 0..4).prop_map(|map| json!(map))
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_one_of_the_other(from in object(), to in object()) {
            let mut patched = from.clone();
            if let Some(patch) = patch(&from, &to) {
                json_patch::merge(&mut patched, &patch);
            }
            prop_assert_eq!(patched, to);
        }

        #[test]
        fn merging_again_changes_nothing(base in object(), cloud in object(), local in object()) {
            for wins in [Winner::Cloud, Winner::Local] {
                let (once, _) = merged(&base, &cloud, &local, wins, &[]);
                let (twice, _) = merged(&base, &once, &local, wins, &[]);
                prop_assert_eq!(&once, &twice);
            }
        }

        #[test]
        fn where_only_one_end_changed_its_state_is_the_outcome(base in object(), changed in object()) {
            let (ours, clashes) = merged(&base, &base, &changed, Winner::Cloud, &[]);
            prop_assert_eq!((ours, clashes.len()), (changed.clone(), 0));
            let (theirs, clashes) = merged(&base, &changed, &base, Winner::Cloud, &[]);
            prop_assert_eq!((theirs, clashes.len()), (changed, 0));
        }
    }
}
