//! What holds of owners, whoever writes in which order.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A kind, an object of it, and who owns it.
struct World {
    of: Type<'static>,
    api_version: &'static str,
    empty: Value,
    live: Value,
    managed: Managed,
    seconds: u32,
}

impl World {
    fn new(api_version: &'static str, kind: &str) -> Self {
        let empty = json!({"apiVersion": api_version, "kind": kind, "metadata": {}});
        let of = Type::of_kind(api_version, kind).unwrap();
        Self {
            of,
            api_version,
            live: empty.clone(),
            empty,
            managed: Managed::default(),
            seconds: 0,
        }
    }

    fn owners<T>(&self, then: impl FnOnce(&Owners<'_>) -> T) -> T {
        let now = format!("2026-08-01T10:00:{:02}Z", self.seconds);
        let (subresource, reset) = (None, Reset::Nothing);
        then(&Owners {
            of: self.of,
            api_version: self.api_version,
            subresource,
            reset,
            empty: &self.empty,
            now: &now,
        })
    }

    fn apply(&mut self, name: &str, wanted: &Value, force: bool) -> Result<(), ApplyError> {
        self.seconds += 1;
        let wanted = self.typed(wanted);
        let managed = self.managed.clone();
        let applied = self.owners(|owners| owners.apply(&self.live, &wanted, managed, name, force))?;
        self.live = applied.object;
        self.managed = applied.managed;
        Ok(())
    }

    fn update(&mut self, name: &str, new: &Value) {
        self.seconds += 1;
        let (new, managed) = (self.typed(new), self.managed.clone());
        self.managed = self
            .owners(|owners| owners.update(&self.live, &new, managed, name))
            .unwrap();
        self.live = new;
    }

    fn typed(&self, value: &Value) -> Value {
        let mut value = value.clone();
        value["apiVersion"] = self.empty["apiVersion"].clone();
        value["kind"] = self.empty["kind"].clone();
        value
    }

    fn owned(&self, name: &str) -> Value {
        let entries = self.managed.to_json();
        let owns = |entry: &&Value| entry["manager"] == name;
        entries
            .as_array()
            .unwrap()
            .iter()
            .find(owns)
            .map_or(Value::Null, |entry| entry["fieldsV1"].clone())
    }
}

#[test]
fn what_is_given_up_goes_unless_another_wants_it_too() {
    let mut world = World::new("v1", "ConfigMap");
    world
        .apply("one", &json!({"data": {"a": "1", "b": "1"}}), false)
        .unwrap();
    world
        .apply("two", &json!({"data": {"b": "1", "c": "1"}}), false)
        .unwrap();
    world.apply("one", &json!({"data": {}}), false).unwrap();
    assert_eq!(world.live["data"], json!({"b": "1", "c": "1"}));
    assert_eq!(world.owned("one"), json!({"f:data": {}}));
    assert_eq!(world.owned("two"), json!({"f:data": {"f:b": {}, "f:c": {}}}));
}

#[test]
fn to_change_what_another_owns_is_a_conflict_that_may_be_forced() {
    let mut world = World::new("apps/v1", "Deployment");
    world.update("kubectl-create", &json!({"spec": {"replicas": 1}}));
    world
        .apply("one", &json!({"spec": {"replicas": 2, "paused": true}}), true)
        .unwrap();
    world.update("scaler", &json!({"spec": {"replicas": 3, "paused": true}}));
    let refused = world
        .apply("one", &json!({"spec": {"replicas": 2, "paused": true}}), false)
        .unwrap_err();
    let ApplyError::Conflicts(conflicts) = refused else {
        panic!("{refused}")
    };
    assert_eq!(
        conflicts.to_string(),
        "Apply failed with 1 conflict: conflict with \"scaler\" using apps/v1: .spec.replicas"
    );
    let status: Value = serde_json::from_slice(&conflicts.to_status().to_json()).unwrap();
    let cause = json!({"reason": "FieldManagerConflict", "field": ".spec.replicas",
        "message": "conflict with \"scaler\" using apps/v1"});
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(409), &json!("Conflict"))
    );
    assert_eq!(status["details"], json!({"causes": [cause]}));
    world
        .apply("one", &json!({"spec": {"replicas": 2}}), true)
        .unwrap();
    assert_eq!(world.live["spec"], json!({"replicas": 2}));
    assert_eq!(world.owned("scaler"), Value::Null);
}

#[test]
fn several_conflicts_are_told_by_manager() {
    let mut world = World::new("v1", "ConfigMap");
    world
        .apply("two", &json!({"data": {"a": "1", "b": "1"}}), false)
        .unwrap();
    world.apply("three", &json!({"data": {"c": "1"}}), false).unwrap();
    let refused = world
        .apply("one", &json!({"data": {"a": "2", "b": "2", "c": "2"}}), false)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"three\":\n- .data.c\nconflicts with \"two\":\n- .data.a\n- .data.b"
    );
}

#[test]
fn lists_are_merged_by_the_keys_that_the_kind_gives_them() {
    let mut world = World::new("v1", "Pod");
    let main = json!({"name": "main", "image": "i:1", "ports": [{"containerPort": 80}]});
    world
        .apply("one", &json!({"spec": {"containers": [main]}}), false)
        .unwrap();
    world
        .apply(
            "two",
            &json!({"spec": {"containers": [{"name": "side", "image": "s"}]}}),
            false,
        )
        .unwrap();
    let names = |world: &World| -> Vec<Value> {
        world.live["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].clone())
            .collect()
    };
    assert_eq!(names(&world), ["main", "side"]);
    let ports = &world.owned("one")["f:spec"]["f:containers"]["k:{\"name\":\"main\"}"]["f:ports"];
    assert_eq!(
        *ports,
        json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}),
        "a key that is left out has its default"
    );
    world
        .apply("one", &json!({"spec": {"containers": []}}), false)
        .unwrap();
    assert_eq!(names(&world), ["side"]);
    let twice = json!({"spec": {"containers": [{"name": "x"}, {"name": "x"}]}});
    let refused = world.apply("one", &twice, false).unwrap_err().to_string();
    assert!(
        refused.ends_with(".spec.containers: duplicate entries for key [name=\"x\"]"),
        "{refused}"
    );
    let nameless = json!({"spec": {"containers": [{"image": "x"}]}});
    let refused = world.apply("one", &nameless, false).unwrap_err().to_string();
    assert!(
        refused.contains("element 0: associative list with keys has an element that omits all key fields"),
        "{refused}"
    );
}

#[test]
fn what_was_there_before_the_first_apply_has_an_owner_then() {
    let mut world = World::new("v1", "ConfigMap");
    world.live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"uid": "u"}, "data": {"a": "1", "b": "1"}});
    world.update("nobody", &json!({"metadata": {"uid": "u"}, "data": {"a": "1"}}));
    assert!(world.managed.is_empty(), "nobody looked yet");
    let refused = world
        .apply("one", &json!({"data": {"a": "2"}}), false)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );
}

#[test]
fn kubectl_takes_over_what_it_wrote_in_its_older_way() {
    let mut world = World::new("v1", "ConfigMap");
    let text =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"annotations": {}}, "data": {"a": "1"}});
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let older =
        json!({"metadata": {"annotations": {annotation: text.to_string()}}, "data": {"a": "1", "b": "1"}});
    world.update("kubectl-client-side-apply", &older);
    let refused = world
        .apply("kubectl", &json!({"data": {"a": "2", "b": "2"}}), false)
        .unwrap_err();
    let owner = "conflict with \"kubectl-client-side-apply\" using v1";
    assert_eq!(
        refused.to_string(),
        format!("Apply failed with 1 conflict: {owner}: .data.b")
    );
    world
        .apply("kubectl", &json!({"data": {"a": "2"}}), false)
        .unwrap();
    assert_eq!(world.live["data"], json!({"a": "2", "b": "1"}));
    let last: Value = serde_json::from_str(
        world.live["metadata"]["annotations"][annotation]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(last["data"], json!({"a": "2"}));
    assert_eq!(last.pointer("/metadata/annotations"), None, "{last}");
}

#[test]
fn of_many_who_write_the_oldest_become_one() {
    let mut world = World::new("v1", "ConfigMap");
    let mut data = serde_json::Map::new();
    for n in 0..14 {
        data.insert(format!("k{n}"), "1".into());
        world.update(&format!("m{n}"), &json!({ "data": data }));
    }
    assert_eq!(world.managed.managers().count(), UPDATE_MANAGERS_MAX);
    assert_eq!(world.owned("m4"), Value::Null);
    let ancient = world.owned("ancient-changes");
    assert_eq!(
        ancient["f:data"].as_object().unwrap().len(),
        6,
        "five keys and the map that the first made: {ancient}"
    );
}

#[test]
fn what_a_schema_says_of_lists_and_maps_holds() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
            "items": {"type": "object", "properties": {"id": {"type": "integer"}, "x": {"type": "string"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "list": {"type": "array", "items": {"type": "string"}},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
    }}}});
    let value = json!({"apiVersion": "e/v1", "kind": "W", "metadata": {"labels": {"a": "b"}}, "spec": {
        "tags": ["p"], "whole": {"a": "b"}, "parts": [{"id": 1, "x": "y"}], "free": {"a": {"b": [1]}}, "list": ["x"],
        "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"finalizers": ["f"]}, "spec": {"a": 1}}}});
    let of = Type::of_schema(&schema);
    check(of, &value, false).unwrap();
    assert_eq!(
        field_set(of, &value).to_json(),
        json!({"f:apiVersion": {}, "f:kind": {}, "f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {
            "f:tags": {"v:\"p\"": {}}, "f:whole": {}, "f:list": {},
            "f:parts": {"k:{\"id\":1}": {".": {}, "f:id": {}, "f:x": {}}},
            "f:free": {"f:a": {".": {}, "f:b": {}}},
            "f:template": {"f:apiVersion": {}, "f:kind": {}, "f:metadata": {"f:finalizers": {"v:\"f\"": {}}},
                "f:spec": {".": {}, "f:a": {}}}}})
    );
    let odd = json!({"spec": {"tags": ["p", "p"], "odd": 1}});
    let errors = check(of, &odd, false).unwrap_err().to_string();
    assert_eq!(
        errors,
        "errors:\n  .spec.odd: field not declared in schema".replace("errors:\n  ", "")
    );
    let wrong = json!({"metadata": {"labels": {"x": true}}});
    assert_eq!(
        check(of, &wrong, false).unwrap_err().to_string(),
        ".metadata.labels.x: expected string, got &value.valueUnstructured{Value:true}"
    );
}

fn wanted() -> impl Strategy<Value = Value> {
    let text = || prop_oneof![Just("1"), Just("2")];
    let data = prop::collection::btree_map(prop_oneof![Just("a"), Just("b"), Just("c")], text(), 0..3);
    let names = prop::collection::btree_set(prop_oneof![Just("x"), Just("y"), Just("z")], 0..3);
    (data, names, text()).prop_map(|(annotations, names, image)| {
        let containers: Vec<Value> = names.into_iter().map(|name| json!({"name": name, "image": image})).collect();
        json!({"metadata": {"annotations": annotations, "finalizers": [image]}, "spec": {"containers": containers}})
    })
}

proptest! {
    #[test]
    fn to_apply_twice_is_to_apply_once(first in wanted(), second in wanted()) {
        let mut world = World::new("v1", "Pod");
        world.apply("one", &first, false).unwrap();
        world.apply("two", &second, true).unwrap();
        let (live, managed) = (world.live.clone(), world.managed.clone());
        world.apply("two", &second, false).unwrap();
        prop_assert_eq!((world.live, world.managed), (live, managed));
    }

    #[test]
    fn who_forces_owns_all_it_wants_and_nothing_else(before in prop::collection::vec(wanted(), 0..4), last in wanted()) {
        let mut world = World::new("v1", "Pod");
        for (n, wanted) in before.iter().enumerate() {
            if n % 2 == 0 { world.update("writer", wanted) } else { world.apply("other", wanted, true).unwrap() }
        }
        world.apply("one", &last, true).unwrap();
        let own = field_set(world.of, &last).to_json();
        let own = FieldSet::from_json(&own).unwrap().difference(&FieldSet::of_fields(&[&["metadata"]]));
        let owned = world.managed.fields(&Manager::new("one", Operation::Apply, "v1", None)).cloned().unwrap_or_default();
        prop_assert_eq!(&owned, &own);
        let (live, texts) = (&world.live, &last["metadata"]["annotations"]);
        for (name, text) in texts.as_object().unwrap() {
            prop_assert_eq!(&live["metadata"]["annotations"][name], text);
        }
        for container in last["spec"]["containers"].as_array().unwrap() {
            prop_assert!(live["spec"]["containers"].as_array().unwrap().contains(container), "{}", live);
        }
    }

    #[test]
    fn what_nobody_applies_any_more_is_gone(wanted in prop::collection::vec(wanted(), 1..5)) {
        let mut world = World::new("v1", "Pod");
        for (n, wanted) in wanted.iter().enumerate() {
            world.apply(&format!("m{}", n % 2), wanted, true).unwrap();
        }
        for name in ["m0", "m1"] {
            world.apply(name, &json!({"metadata": {}}), true).unwrap();
        }
        let left = field_set(world.of, &world.live).difference(&FieldSet::of_fields(
            &[&["apiVersion"], &["kind"], &["metadata"], &["spec"], &["metadata", "annotations"],
              &["metadata", "finalizers"], &["spec", "containers"]],
        ));
        prop_assert!(left.is_empty(), "{}", world.live);
        // Where nobody owned anything any more, what an object is made of anyway came to an owner of its own.
        prop_assert!(world.managed.managers().all(|manager| manager.name == "before-first-apply"));
    }

    #[test]
    fn nobody_owns_what_is_not_there(steps in prop::collection::vec((0..3_u8, wanted()), 1..6)) {
        let mut world = World::new("v1", "Pod");
        for (who, wanted) in &steps {
            match who {
                0 => world.update("writer", wanted),
                1 => world.apply("one", wanted, true).unwrap(),
                // A conflict changes nothing.
                _ => drop(world.apply("two", wanted, false)),
            }
        }
        let again = Managed::from_json(&world.managed.to_json()).unwrap();
        prop_assert_eq!(again, world.managed);
    }
}
