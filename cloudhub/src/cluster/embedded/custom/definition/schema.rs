//! The schema of a version, as far as it is not only about being structural: what may be said in it, defaults, and rules.

mod lists;
mod rules;

use serde_json::Value;

use super::{Found, each, structural, text};
use crate::cluster::embedded::custom::cel::Type;
use crate::cluster::embedded::custom::structural::defaults;
use crate::cluster::embedded::fault::FieldError;

/// Looks at the schema of a version, or of all of them.
pub(super) fn check(validation: &Value, has_status: bool, path: &str, found: &mut Found) {
    let Some(schema) = validation
        .get("openAPIV3Schema")
        .filter(|schema| schema.is_object())
    else {
        return;
    };
    let path = format!("{path}.openAPIV3Schema");
    let before = found.errors.len();
    let of = text(schema, "type");
    let odd = schema
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, _)| field.as_str());
    let odd = odd.filter(|field| !AT_ROOT.contains(field)).count();
    if has_status && !of.is_empty() && of != "object" {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        found.invalid(format!("{path}.type"), &of.into(), detail);
    } else if has_status && odd > 0 {
        let detail = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            AT_ROOT_SHOWN
        );
        found.invalid(&path, schema, &detail);
    }
    if schema["nullable"] == true {
        found.forbidden(format!("{path}.nullable"), "nullable cannot be true at the root");
    }
    let first = found.errors.len();
    structural::check(schema, &path, found);
    if found.errors.len() == first {
        found.errors.extend(defaults::check(schema, &path));
    }
    let mut walk = Walk {
        found,
        rules: Found::default(),
        with_rules: false,
    };
    walk.with_rules = walk.found.errors.len() == before;
    walk.node(
        schema,
        &path,
        &Place {
            root: true,
            ..Place::default()
        },
    );
    let rules = std::mem::take(&mut walk.rules);
    found.errors.extend(rules.errors);
    found.warnings.extend(rules.warnings);
}

/// What is around a schema.
#[derive(Clone, Default)]
struct Place {
    root: bool,
    in_metadata: bool,
    /// Why nothing may have a default here.
    no_defaults: Option<String>,
    /// Something above whose elements cannot be found again after a change.
    uncorrelatable: Option<String>,
    /// In `allOf` and the like.
    nested: bool,
}

struct Walk<'f> {
    found: &'f mut Found,
    rules: Found,
    with_rules: bool,
}

impl Walk<'_> {
    fn node(&mut self, schema: &Value, path: &str, place: &Place) {
        let before = self.found.errors.len();
        plain(schema, path, place, self.found);
        if schema["uniqueItems"] == true {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.found.forbidden(format!("{path}.uniqueItems"), detail);
        }
        self.children(schema, path, place);
        lists::check(schema, path, self.found);
        let rules = each(schema, "x-kubernetes-validations");
        if rules.size_hint().0 == 0 && rules.count() == 0 {
            return;
        }
        rules::texts(schema, path, self.found);
        if self.with_rules && !place.nested && self.found.errors.len() == before {
            let embedded = schema["x-kubernetes-embedded-resource"] == true;
            match Type::of(schema, place.root || embedded, "object") {
                Some(of) => {
                    let above = place.uncorrelatable.as_deref();
                    rules::compile(schema, &of, above, path, &mut self.rules);
                }
                None => {
                    let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
                    let path = format!("{path}.x-kubernetes-validations");
                    self.rules.errors.push(FieldError::internal(path, why));
                }
            }
        }
    }

    fn children(&mut self, schema: &Value, path: &str, place: &Place) {
        let inner = Place {
            root: false,
            ..place.clone()
        };
        let properties = schema["properties"].as_object();
        let more = &schema["additionalProperties"];
        if !more.is_null() {
            let path = format!("{path}.additionalProperties");
            if properties.is_some_and(|properties| !properties.is_empty()) && *more != true {
                let detail = "additionalProperties and properties are mutual exclusive";
                self.found.forbidden(&path, detail);
            }
            let mut inner = inner.clone();
            if inner.in_metadata {
                inner.no_defaults = Some("inside additionalProperties applying to object metadata".into());
            }
            if more.is_object() {
                self.node(more, &path, &inner);
            }
        }
        for (name, below) in properties.into_iter().flatten() {
            let mut inner = inner.clone();
            let granular = matches!(
                schema["x-kubernetes-map-type"].as_str(),
                None | Some("granular" | "atomic")
            );
            if !granular {
                inner.uncorrelatable.get_or_insert_with(|| path.to_owned());
            }
            let embedded = schema["x-kubernetes-embedded-resource"] == true;
            if (place.root || embedded) && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
                inner.in_metadata = true;
                if place.root {
                    inner.no_defaults = Some(format!("in top-level {name}"));
                }
            }
            self.node(below, &format!("{path}.properties[{name}]"), &inner);
        }
        let nested = Place {
            nested: true,
            ..inner.clone()
        };
        if schema["not"].is_object() {
            self.node(&schema["not"], &format!("{path}.not"), &nested);
        }
        for field in ["allOf", "oneOf", "anyOf"] {
            for (index, below) in each(schema, field) {
                self.node(below, &format!("{path}.{field}[{index}]"), &nested);
            }
        }
        for (name, below) in schema["definitions"].as_object().into_iter().flatten() {
            self.node(below, &format!("{path}.definitions[{name}]"), &inner);
        }
        let items = &schema["items"];
        let mut inner = inner;
        if schema["x-kubernetes-list-type"] != "map" {
            inner.uncorrelatable.get_or_insert_with(|| path.to_owned());
        }
        if items.is_object() {
            self.node(items, &format!("{path}.items"), &inner);
        }
        for (index, below) in items.as_array().into_iter().flatten().enumerate() {
            self.node(below, &format!("{path}.items[{index}]"), &inner);
        }
    }
}

/// What no schema may say.
fn plain(schema: &Value, path: &str, place: &Place, found: &mut Found) {
    let of = text(schema, "type");
    if !of.is_empty() && !TYPES.contains(&of) {
        found.unsupported(format!("{path}.type"), &of.into(), TYPES);
    }
    if let (Some(why), false) = (&place.no_defaults, schema["default"].is_null()) {
        found.forbidden(format!("{path}.default"), &format!("must not be set {why}"));
    }
    for field in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        let given = &schema[field];
        let empty = given.as_object().is_some_and(serde_json::Map::is_empty) && field != "dependencies";
        if !given.is_null() && given != "" && !empty {
            found.forbidden(format!("{path}.{field}"), &format!("{field} is not supported"));
        }
    }
    if of == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        found.forbidden(format!("{path}.type"), detail);
    }
    if schema["items"].as_array().is_some_and(|items| !items.is_empty()) {
        found.forbidden(
            format!("{path}.items"),
            "items must be a schema object and not an array",
        );
    }
    if place.in_metadata && schema["x-kubernetes-embedded-resource"] == true {
        let path = format!("{path}.x-kubernetes-embedded-resource");
        found.forbidden(path, "must not be used inside of resource meta");
    }
}

/// What the root of a schema may have where the status has a door of its own; as a schema names it, and as Go does.
const AT_ROOT: &[&str] = &[
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];
const AT_ROOT_SHOWN: &str = "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations";
const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
