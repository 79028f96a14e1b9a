use serde_json::{Value, json};

use super::*;

/// A definition whose kind has one field, `spec.a`.
fn definition(field: Value) -> Value {
    json!({"metadata": {"name": "widgets.example.io", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {
        "group": "example.io", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "properties": {"a": field}}}}}}]}})
}

fn said(old: Option<&Value>, mut value: Value) -> Vec<String> {
    let kind = hub_core::registry::Registry::builtin()
        .by_resource(&hub_core::object::GroupVersionResource::new(
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
        ))
        .unwrap();
    match complete(&kind, old, &mut value) {
        Ok(warnings) => warnings,
        Err(status) => {
            let part = "spec.validation.openAPIV3Schema.properties[spec].properties[a]";
            let causes = status.causes.iter();
            causes
                .map(|(_, message, field)| {
                    format!("{}: {message}", field.strip_prefix(part).unwrap_or(field))
                })
                .collect()
        }
    }
}

#[test]
fn a_rule_is_read_with_its_definition() {
    let rule = |rule: Value| json!({"type": "integer", "x-kubernetes-validations": [rule]});
    let shown = |text: &str| {
        format!(
            "{{\"Rule\":\"{text}\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}"
        )
    };
    assert_eq!(
        said(None, definition(rule(json!({"rule": "self.x > 1"})))),
        [format!(
            ".x-kubernetes-validations[0].rule: Invalid value: {}: compilation failed: ERROR: <input>:1:5: type 'int' does not support field selection\n | self.x > 1\n | ....^",
            shown("self.x \\u003e 1")
        )]
    );
    assert_eq!(
        said(None, definition(rule(json!({"rule": "self"})))),
        [format!(
            ".x-kubernetes-validations[0].rule: Invalid value: {}: cel expression must evaluate to a bool",
            shown("self")
        )]
    );
    assert_eq!(
        said(None, definition(rule(json!({"rule": " "})))),
        [".x-kubernetes-validations[0].rule: Required value: rule is not specified"]
    );
    assert_eq!(
        said(None, definition(rule(json!({"rule": "isSemver(string(self))"})))),
        [
            "spec.validation.openAPIV3Schema.properties[spec].properties[a].x-kubernetes-validations[0]: this cluster does not know isSemver(): the rule is kept, and not evaluated"
        ]
    );
    let list = json!({"type": "array", "items": rule(json!({"rule": "self == oldSelf"}))});
    assert_eq!(
        said(None, definition(list)),
        [
            ".items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[spec].properties[a]"
        ]
    );
}

#[test]
fn a_schema_that_is_none_is_refused_in_the_words_of_a_real_server() {
    for (field, wrong) in [
        (
            json!({}),
            ".type: Required value: must not be empty for specified object fields",
        ),
        (
            json!({"type": "array"}),
            ".items: Required value: must be specified",
        ),
        (
            json!({"type": "string", "pattern": "("}),
            ".pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`",
        ),
        (
            json!({"type": "string", "anyOf": [{"type": "string"}]}),
            ".anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            ".x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
        (
            json!({"type": "integer", "default": "x"}),
            ".default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "object", "default": {"b": 1}}),
            ".default: Invalid value: {\"b\":1}: must not have unknown fields",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map"}),
            ".x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            json!({"type": "foo"}),
            ".type: Unsupported value: \"foo\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ),
    ] {
        assert_eq!(said(None, definition(field.clone()))[0], wrong, "{field}");
    }
    assert!(
        said(
            None,
            definition(json!({"type": "string", "default": "x", "nullable": true}))
        )
        .is_empty()
    );
}

#[test]
fn versions_and_names_are_looked_at_and_what_clients_rely_on_stays() {
    let changed = |change: fn(&mut Value)| {
        let mut value = definition(json!({"type": "string"}));
        change(&mut value);
        value
    };
    for (value, wrong) in [
        (
            changed(|value| value["spec"]["versions"][0]["storage"] = false.into()),
            vec![
                "spec.versions: Invalid value: [{\"Name\":\"v1\",\"Served\":true,\"Storage\":false,\"Deprecated\":false,\"DeprecationWarning\":null,\"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\"SelectableFields\":null}]: must have exactly one version marked as storage version",
                "status.storedVersions: Invalid value: null: must have at least one stored version",
            ],
        ),
        (
            changed(|value| {
                value["spec"]["versions"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("schema");
            }),
            vec!["spec.versions[0].schema.openAPIV3Schema: Required value"],
        ),
        (
            changed(|value| {
                value["spec"]["versions"][0]["subresources"] =
                    json!({"scale": {"specReplicasPath": ".a", "statusReplicasPath": ".status.b"}})
            }),
            vec![
                "spec.subresources.scale.specReplicasPath: Invalid value: \".a\": should be a json path under .spec",
            ],
        ),
        (
            changed(|value| {
                value["spec"]["versions"][0]["additionalPrinterColumns"] =
                    json!([{"name": "a", "type": "x", "jsonPath": ".a"}])
            }),
            vec![
                "spec.additionalPrinterColumns[0].type: Invalid value: \"x\": must be one of boolean,date,integer,number,string",
            ],
        ),
        (
            changed(|value| value["spec"]["group"] = "k8s.io".into()),
            vec![
                "metadata.name: Invalid value: \"widgets.example.io\": must be spec.names.plural+\".\"+spec.group",
            ],
        ),
    ] {
        assert_eq!(said(None, value), wrong);
    }
    let mut old = definition(json!({"type": "string"}));
    old["status"] = json!({"storedVersions": ["v1"], "conditions": []});
    let renamed = changed(|value| value["spec"]["names"]["kind"] = "Gadget".into());
    assert_eq!(
        said(Some(&old), renamed),
        ["spec.names.kind: Invalid value: \"Gadget\": field is immutable"]
    );
    let moved = changed(|value| value["spec"]["versions"][0]["name"] = "v2".into());
    assert!(
        said(Some(&old), moved)[0]
            .starts_with("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions")
    );
}
