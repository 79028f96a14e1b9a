//! What stands where a definition says that the scale of an object is
//! (`apiextensions-apiserver/pkg/registry/customresource/validator.go`).

use serde_json::Value;

use super::Definition;
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::go_value;

/// Adds what is wrong with the numbers and the selector of an object's scale.
pub(super) fn check(definition: &Definition, value: &Value, errors: &mut Vec<FieldError>) {
    for (path, number) in [
        ("specReplicasPath", true),
        ("statusReplicasPath", true),
        ("labelSelectorPath", false),
    ] {
        let Some(steps) = definition.scale(path) else {
            continue;
        };
        let path = format!(".{}", steps.join("."));
        let (nothing, wanted) = if number {
            (Value::from(0), "int64")
        } else {
            (Value::from(""), "string")
        };
        let mut found = Some(value);
        for (at, step) in steps.iter().enumerate() {
            let Some(held) = found else { break };
            if at > 0 && !held.is_object() {
                errors.push(FieldError::invalid(&*path, &nothing, &accessor(&path, held, MAP)));
                return;
            }
            found = held.get(*step).filter(|held| !held.is_null());
        }
        let Some(found) = found else { continue };
        match found.as_i64() {
            Some(given) if number && given < 0 => {
                errors.push(FieldError::invalid(
                    path,
                    found,
                    "should be a non-negative integer",
                ));
            }
            Some(given) if number && given > i64::from(i32::MAX) => {
                let detail = format!("should be less than or equal to {}", i32::MAX);
                errors.push(FieldError::invalid(path, found, &detail));
            }
            None if number => errors.push(FieldError::invalid(
                &*path,
                &nothing,
                &accessor(&path, found, wanted),
            )),
            _ if !number && !found.is_string() => {
                errors.push(FieldError::invalid(
                    &*path,
                    &nothing,
                    &accessor(&path, found, wanted),
                ));
            }
            _ => {}
        }
    }
}

fn accessor(path: &str, found: &Value, wanted: &str) -> String {
    let of = match found {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => MAP,
    };
    let wanted = wanted.replace("interface {}", "interface{}");
    format!(
        "{path} accessor error: {} is of the type {of}, expected {wanted}",
        go_value::shown(found)
    )
}

const MAP: &str = "map[string]interface {}";
