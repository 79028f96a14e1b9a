//! The names of custom kinds: whoever comes first has them, and a definition says whether it has its own
//! (`apiextensions-apiserver/pkg/controller/status`, `…/establish`).

use std::collections::BTreeSet;

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey};
use serde_json::{Value, json};

use crate::cluster::embedded::kinds::versions::is_definitions;
use crate::cluster::embedded::state::{Mark, State};
use crate::cluster::embedded::values::clock;
use crate::cluster::embedded::verbs::managed;

/// Brings the status of definitions up to date with those that came or went since the mark: of all of their groups, since a name that
/// goes is free for others.
pub(in crate::cluster::embedded) fn follow(state: &mut State, mark: Mark) -> Result<(), Status> {
    let groups: BTreeSet<String> = state
        .steps_since(mark)
        .filter(|(key, ..)| is_definitions(&key.resource))
        .filter_map(|(key, ..)| Some(key.name.split_once('.')?.1.to_owned()))
        .collect();
    if groups.is_empty() {
        return Ok(());
    }
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let keys: Vec<ObjectKey> = state
        .list(&definitions, None)
        .filter(|definition| {
            let group = definition.key.name.split_once('.').map_or("", |(_, group)| group);
            groups.contains(group)
        })
        .map(|definition| definition.key.clone())
        .collect();
    for key in &keys {
        let Some(mut value) = state.value(key)? else {
            continue;
        };
        if value["metadata"]["deletionTimestamp"].is_string() {
            continue;
        }
        let mut taken = Taken::default();
        for other in keys.iter().filter(|other| *other != key) {
            taken.add(&state.value(other)?.unwrap_or_default()["status"]["acceptedNames"]);
        }
        let held = value["status"].clone();
        settle(&mut value, &taken);
        if value["status"] != held {
            let types = ["NamesAccepted", "Established"];
            managed::note_condition(&mut value, ("kube-apiserver", "Update"), &types);
            state.put(&key.resource, &mut value)?;
        }
    }
    Ok(())
}

/// What other definitions of a group have.
#[derive(Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn add(&mut self, names: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let short = names["shortNames"].as_array().into_iter().flatten();
        let resources = [&names["plural"], &names["singular"]].into_iter().chain(short);
        self.resources
            .extend(resources.map(text).filter(|name| !name.is_empty()));
        let kinds = [&names["kind"], &names["listKind"]].into_iter();
        self.kinds.extend(kinds.map(text).filter(|name| !name.is_empty()));
    }
}

fn settle(value: &mut Value, taken: &Taken) {
    let wanted = value["spec"]["names"].clone();
    let mut accepted = value["status"]["acceptedNames"].clone();
    let mut conflict = None;
    for (field, reason, others) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
        ("categories", "", &taken.kinds),
    ] {
        let names: Vec<&str> = match &wanted[field] {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            name => name.as_str().into_iter().collect(),
        };
        let used: Vec<String> = names
            .iter()
            .filter(|name| !reason.is_empty() && accepted[field] != wanted[field] && others.contains(**name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        if used.is_empty() {
            match wanted.get(field) {
                Some(wanted) => accepted[field] = wanted.clone(),
                None => drop(accepted.as_object_mut().map(|accepted| accepted.remove(field))),
            }
        } else {
            // The last one is told.
            let message = if used.len() == 1 {
                used[0].clone()
            } else {
                format!("[{}]", used.join(", "))
            };
            conflict = Some((reason, message));
        }
    }
    value["status"]["acceptedNames"] = accepted;
    match conflict {
        Some((reason, message)) => set(value, "NamesAccepted", "False", reason, &message),
        None => set(
            value,
            "NamesAccepted",
            "True",
            "NoConflicts",
            "no conflicts found",
        ),
    }
    let has = |value: &Value, kind: &str, status: &str| {
        let mut all = value["status"]["conditions"].as_array().into_iter().flatten();
        all.any(|condition| condition["type"] == kind && condition["status"] == status)
    };
    // Once it is served it stays.
    if has(value, "Established", "True") {
        return;
    }
    if has(value, "NamesAccepted", "True") {
        let message = "the initial names have been accepted";
        set(value, "Established", "True", "InitialNamesAccepted", message);
    } else {
        set(
            value,
            "Established",
            "False",
            "NotAccepted",
            "not all names are accepted",
        );
    }
}

/// Sets a condition; what stands there already keeps its time.
pub(in crate::cluster::embedded) fn set(
    value: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
) {
    let conditions = &mut value["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let new = json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": clock::now()});
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    match conditions.iter_mut().find(|held| held["type"] == kind) {
        Some(held) if held["status"] == status && held["reason"] == reason && held["message"] == message => {}
        Some(held) => *held = new,
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use hub_core::registry::Registry;

    use super::*;
    use crate::cluster::embedded::EmbeddedConfig;

    #[test]
    fn a_name_is_whose_it_was_first_and_free_when_that_one_goes() {
        let mut state = State::new(Registry::builtin(), [], 1, &EmbeddedConfig::default());
        let definitions =
            GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let define = |state: &mut State, plural: &str| {
            let mark = state.mark();
            let mut value = json!({"metadata": {"name": format!("{plural}.x.io")},
                "spec": {"group": "x.io", "names": {"plural": plural, "singular": plural, "kind": "Same", "listKind": "SameList"}}});
            state.put(&definitions, &mut value).unwrap();
            follow(state, mark).unwrap();
        };
        let said = |state: &State, plural: &str| {
            let key = ObjectKey::new(definitions.clone(), None, &format!("{plural}.x.io"));
            let value = state.value(&key).unwrap().unwrap();
            let all = value["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let shown = all
                .iter()
                .map(|one| format!("{}={} {}", one["type"], one["status"], one["message"]).replace('"', ""));
            shown.collect::<Vec<_>>()
        };
        let good = [
            "NamesAccepted=True no conflicts found",
            "Established=True the initial names have been accepted",
        ];
        define(&mut state, "firsts");
        define(&mut state, "seconds");
        assert_eq!(said(&state, "firsts"), good);
        assert_eq!(
            said(&state, "seconds"),
            [
                "NamesAccepted=False \\SameList\\ is already in use",
                "Established=False not all names are accepted"
            ]
        );
        let mark = state.mark();
        state.remove(&ObjectKey::new(definitions.clone(), None, "firsts.x.io"));
        follow(&mut state, mark).unwrap();
        assert_eq!(said(&state, "seconds"), good);
    }
}
