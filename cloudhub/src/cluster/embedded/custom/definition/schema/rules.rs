//! The rules of a schema, before there is an object.

use serde_json::Value;

use super::super::hoist::in_order;
use super::super::versions::field_path;
use super::super::{Found, each, text};
use crate::cluster::embedded::custom::cel::{Program, Refused, Type};
use crate::cluster::embedded::fault::FieldError;

/// What a rule must say, and may not.
pub(super) fn texts(schema: &Value, path: &str, found: &mut Found) {
    for (index, rule) in each(schema, "x-kubernetes-validations") {
        let path = format!("{path}.x-kubernetes-validations[{index}]");
        let at = |field: &str| format!("{path}.{field}");
        let given = |field: &str| text(rule, field);
        let (of, message) = (given("rule").trim(), given("message").trim());
        if of.is_empty() {
            found.required(at("rule"), "rule is not specified");
        } else if !given("message").is_empty() && message.is_empty() {
            found.invalid(at("message"), &rule["message"], "must be non-empty if specified");
        } else if message.contains('\n') {
            found.invalid(at("message"), &rule["message"], "must not contain line breaks");
        } else if of.contains('\n') && message.is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            found.required(at("message"), detail);
        }
        if !given("messageExpression").is_empty() && given("messageExpression").trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            found.required(at("messageExpression"), detail);
        }
        if !rule["reason"].is_null() && !REASONS.contains(&given("reason")) {
            found.unsupported(at("reason"), &rule["reason"], REASONS);
        }
        let field = given("fieldPath");
        if !field.is_empty() && field.trim().is_empty() {
            found.invalid(at("fieldPath"), &field.into(), "must be non-empty if specified");
        }
        if field.contains('\n') {
            found.invalid(at("fieldPath"), &field.into(), "must not contain line breaks");
        }
        if !field.is_empty() && field_path(field, schema, true).is_err() {
            found.invalid(at("fieldPath"), &field.into(), "must be a valid path");
        }
    }
}

/// Whether each can be evaluated. One that only a kube-apiserver could is taken with a warning.
pub(super) fn compile(
    schema: &Value,
    of: &Type,
    uncorrelatable: Option<&str>,
    path: &str,
    found: &mut Found,
) {
    for (index, rule) in each(schema, "x-kubernetes-validations") {
        let path = format!("{path}.x-kubernetes-validations[{index}]");
        let at = |field: &str| format!("{path}.{field}");
        let optional = rule["optionalOldSelf"] == true;
        let wrong = |field: &str, detail: &str, found: &mut Found| {
            let error = FieldError::invalid_shown(at(field), &shown(rule), detail);
            found.errors.push(error);
        };
        let unknown = |name: &str, found: &mut Found| {
            found.warnings.push(format!(
                "{path}: this cluster does not know {name}(): the rule is kept, and not evaluated"
            ));
        };
        let uses_old = match Program::new(text(rule, "rule"), of, optional, &Type::Bool) {
            Ok(program) => program.uses_old,
            Err(Refused::Wrong(why)) => {
                wrong("rule", &format!("compilation failed: {why}"), found);
                false
            }
            Err(Refused::OtherType) => {
                wrong("rule", "cel expression must evaluate to a bool", found);
                false
            }
            Err(Refused::Unknown(name)) => {
                unknown(name, found);
                continue;
            }
        };
        let refused = found.errors.iter().any(|error| error.field() == at("rule"));
        let message = text(rule, "messageExpression");
        if !message.is_empty() && !refused {
            match Program::new(message, of, optional, &Type::Text) {
                Ok(_) => {}
                Err(Refused::Wrong(why)) => {
                    let detail = format!("messageExpression compilation failed: {why}");
                    wrong("messageExpression", &detail, found);
                }
                Err(Refused::OtherType) => {
                    wrong(
                        "messageExpression",
                        "messageExpression must evaluate to a string",
                        found,
                    );
                }
                Err(Refused::Unknown(name)) => unknown(name, found),
            }
        }
        match (uses_old, uncorrelatable) {
            (true, Some(above)) => {
                let detail = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {above}"
                );
                found.invalid(at("rule"), &rule["rule"], &detail);
            }
            (false, _) if !rule["optionalOldSelf"].is_null() => found.invalid(
                at("optionalOldSelf"),
                &rule["optionalOldSelf"],
                "may not be set if oldSelf is not used in rule",
            ),
            _ => {}
        }
    }
}

/// A rule as Kubernetes' own types show it in messages.
fn shown(rule: &Value) -> String {
    in_order(&serde_json::json!([
        ["Rule", text(rule, "rule")],
        ["Message", text(rule, "message")],
        ["MessageExpression", text(rule, "messageExpression")],
        ["Reason", rule["reason"]],
        ["FieldPath", text(rule, "fieldPath")],
        ["OptionalOldSelf", rule["optionalOldSelf"]],
    ]))
}

const REASONS: &[&str] = &[
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];
