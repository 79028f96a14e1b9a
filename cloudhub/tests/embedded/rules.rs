//! Rules in CEL, and what of an object is looked at again when it changes.

use serde_json::{Value, json};

use super::World;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GEARS: &str = "/apis/example.com/v1/namespaces/default/gears";

fn definition(spec: Value) -> Value {
    json!({"metadata": {"name": "gears.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "gears", "kind": "Gear"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

fn gear(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Gear", "metadata": {"name": name}, "spec": spec})
}

fn said(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["message"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_rule_refuses_what_does_not_hold_and_says_why() {
    let world = World::new();
    let spec = json!({"type": "object", "x-kubernetes-validations": [
            {"rule": "self.least <= self.most", "messageExpression": "'%d is more than %d'.format([self.least, self.most])"},
            {"rule": "self.most >= oldSelf.most", "message": "cannot shrink", "fieldPath": ".most", "reason": "FieldValueForbidden"}],
        "properties": {"least": {"type": "integer"}, "most": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('t')"}]}}}});
    world.ok("POST", DEFINITIONS, definition(spec)).await;
    let refused = world
        .call(
            "POST",
            GEARS,
            gear("g", json!({"least": 3, "most": 2, "tags": ["t", "x"]})),
        )
        .await;
    assert_eq!(
        said(&refused),
        (
            422,
            "Gear.example.com \"g\" is invalid: [spec: Invalid value: 3 is more than 2, spec.tags[1]: Invalid value: \"x\": failed rule: self.startsWith('t')]"
        )
    );
    world
        .ok("POST", GEARS, gear("g", json!({"least": 1, "most": 2})))
        .await;
    let path = format!("{GEARS}/g");
    let shrunk = world
        .call("PATCH", &path, ("merge-patch", json!({"spec": {"most": 1}})))
        .await;
    assert_eq!(
        said(&shrunk),
        (
            422,
            "Gear.example.com \"g\" is invalid: spec.most: Forbidden: cannot shrink"
        )
    );
    world
        .ok("PATCH", &path, ("merge-patch", json!({"spec": {"most": 4}})))
        .await;
}

#[tokio::test]
async fn what_was_wrong_before_is_not_held_against_a_change_of_something_else() {
    let world = World::new();
    let spec = |rules: Value| {
        json!({"type": "object", "properties": {"other": {"type": "string"},
            "name": {"type": "string", "x-kubernetes-validations": rules}}})
    };
    world.ok("POST", DEFINITIONS, definition(spec(json!([])))).await;
    world
        .ok("POST", GEARS, gear("g", json!({"name": "long", "other": "a"})))
        .await;
    let held = world.get(&format!("{DEFINITIONS}/gears.example.com")).await.1;
    let mut stricter = definition(spec(json!([{"rule": "self.size() < 3"}])));
    stricter["metadata"]["resourceVersion"] = held["metadata"]["resourceVersion"].clone();
    world
        .ok("PUT", &format!("{DEFINITIONS}/gears.example.com"), stricter)
        .await;
    let path = format!("{GEARS}/g");
    world
        .ok("PATCH", &path, ("merge-patch", json!({"spec": {"other": "b"}})))
        .await;
    world
        .ok(
            "PATCH",
            &format!("{path}/status"),
            ("merge-patch", json!({"status": {"seen": true}})),
        )
        .await;
    let longer = world
        .call(
            "PATCH",
            &path,
            ("merge-patch", json!({"spec": {"name": "longer"}})),
        )
        .await;
    assert_eq!(
        said(&longer),
        (
            422,
            "Gear.example.com \"g\" is invalid: spec.name: Invalid value: \"longer\": failed rule: self.size() < 3"
        )
    );
}

#[tokio::test]
async fn a_rule_that_never_ends_is_stopped_and_the_writer_goes_on() {
    let world = World::new();
    let rule =
        "self.all(a, self.all(b, self.all(c, self.all(d, a + b + c + d >= 0 && self.all(e, e >= 0)))))";
    let spec = json!({"type": "object", "properties": {"numbers": {"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": rule}]}}});
    world.ok("POST", DEFINITIONS, definition(spec)).await;
    let numbers: Vec<u32> = (0..1000).collect();
    let refused = world
        .call("POST", GEARS, gear("g", json!({"numbers": numbers})))
        .await;
    let (code, text) = said(&refused);
    assert_eq!(code, 422);
    assert!(
        text.contains("no further validation rules will be run due to call cost exceeds limit"),
        "{text}"
    );
    world
        .ok("POST", GEARS, gear("small", json!({"numbers": [1, 2]})))
        .await;
}

#[tokio::test]
async fn versions_in_which_objects_were_stored_stay_known() {
    let world = World::new();
    let mut next = definition(json!({"type": "object"}));
    world.ok("POST", DEFINITIONS, next.clone()).await;
    let path = format!("{DEFINITIONS}/gears.example.com");
    let held = world.get(&path).await.1;
    next["metadata"]["resourceVersion"] = held["metadata"]["resourceVersion"].clone();
    let versions = next["spec"]["versions"].as_array_mut().unwrap();
    let mut second = versions[0].clone();
    second["name"] = "v2".into();
    versions[0]["storage"] = false.into();
    versions.push(second);
    let made = world.ok("PUT", &path, next.clone()).await;
    assert_eq!(made["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(made["status"]["conditions"], held["status"]["conditions"]);
    next["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    next["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let refused = world.call("PUT", &path, next).await;
    assert!(
        said(&refused)
            .1
            .contains("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"),
        "{refused:?}"
    );
}
