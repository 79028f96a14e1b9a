//! The rules of a custom kind in CEL (`x-kubernetes-validations`), held against its objects
//! (`apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::below;
use crate::cluster::embedded::custom::cel::{Budget, Fault, Old, Program, Refused, Type};
use crate::cluster::embedded::fault::FieldError;

/// The rules of a schema and of those below it.
pub(super) struct Rules {
    of: Type,
    /// What messages name it.
    shown: String,
    rules: Vec<Rule>,
    properties: BTreeMap<String, Rules>,
    items: Option<Box<Rules>>,
    more: Option<Box<Rules>>,
    /// Held against the same value.
    all_of: Vec<Rules>,
    /// What tells the elements of a list apart from one version to the next.
    keys: Option<Vec<String>>,
}

struct Rule {
    program: Result<Program, Refused>,
    text: String,
    message: Option<String>,
    message_text: Option<Program>,
    reason: String,
    field: String,
    optional_old: bool,
}

/// A value with what it was before.
#[derive(Clone, Copy)]
struct Pair<'v> {
    new: &'v Value,
    old: Option<&'v Value>,
    /// It, or something around it, is what it was.
    unchanged: bool,
}

/// What rules found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) errors: Vec<FieldError>,
    /// What was so before already.
    pub(super) warnings: Vec<String>,
}

impl Rules {
    /// Of the schema of a kind. None where it has no rules.
    pub(super) fn new(schema: &Value) -> Option<Self> {
        if !super::has_rules(schema) {
            return None;
        }
        Self::of(schema, schema, Type::of(schema, true, "object")?)
    }

    /// `rules` is the schema with the rules, `schema` that of the value: the same, but within `allOf`.
    fn of(rules: &Value, schema: &Value, of: Type) -> Option<Self> {
        if !super::has_rules(rules) {
            return None;
        }
        let below = |rules: &Value, schema: &Value| {
            let embedded = schema["x-kubernetes-embedded-resource"] == true;
            Self::of(rules, schema, Type::of(schema, embedded, "object")?)
        };
        let properties = rules["properties"].as_object().into_iter().flatten();
        let properties = properties.filter_map(|(name, rules)| {
            let schema = schema["properties"].get(name)?;
            Some((name.clone(), below(rules, schema)?))
        });
        let (items, more) = (&rules["items"], &rules["additionalProperties"]);
        let all_of = rules["allOf"].as_array().into_iter().flatten();
        let keys = (schema["x-kubernetes-list-type"] == "map").then(|| {
            let keys = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten();
            keys.filter_map(Value::as_str).map(str::to_owned).collect()
        });
        Some(Self {
            properties: properties.collect(),
            items: below(items, &schema["items"]).map(Box::new),
            more: below(more, &schema["additionalProperties"]).map(Box::new),
            all_of: all_of
                .filter_map(|rules| Self::of(rules, schema, of.clone()))
                .collect(),
            rules: Rule::all(rules, &of),
            shown: schema["type"].as_str().unwrap_or_default().to_owned(),
            keys,
            of,
        })
    }

    /// Holds the rules against an object, which was there before or is new.
    pub(super) fn check(&self, new: &Value, old: Option<&Value>, budget: Budget) -> Found {
        let mut walk = Walk {
            found: Found::default(),
            budget,
        };
        let unchanged = false;
        let _spent = walk.node(self, "", Pair { new, old, unchanged }, true);
        walk.found
    }
}

impl Rule {
    fn all(schema: &Value, of: &Type) -> Vec<Self> {
        let rules = schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten();
        let text = |rule: &Value, field: &str| {
            let text = rule[field].as_str().map(str::trim).unwrap_or_default();
            Some(text.to_owned()).filter(|text| !text.is_empty())
        };
        let rules = rules.filter_map(|rule| {
            let optional_old = rule["optionalOldSelf"] == true;
            let message_text = text(rule, "messageExpression");
            Some(Self {
                program: Program::new(rule["rule"].as_str()?, of, optional_old, &Type::Bool),
                message_text: message_text
                    .and_then(|message| Program::new(&message, of, optional_old, &Type::Text).ok()),
                text: text(rule, "rule")?,
                message: text(rule, "message"),
                reason: rule["reason"].as_str().unwrap_or_default().to_owned(),
                field: rule["fieldPath"]
                    .as_str()
                    .unwrap_or_default()
                    .trim_start_matches('.')
                    .replace("['", "[")
                    .replace("']", "]"),
                optional_old,
            })
        });
        rules.collect()
    }

    fn shown(&self) -> &str {
        self.message.as_deref().unwrap_or(&self.text)
    }

    /// As its reason says.
    fn error(&self, field: String, value: Option<&Value>, detail: &str) -> FieldError {
        match (&*self.reason, value) {
            ("FieldValueForbidden", _) => FieldError::forbidden(field, detail),
            ("FieldValueRequired", _) => FieldError::required(field, detail),
            ("FieldValueDuplicate", Some(value)) => FieldError::duplicate(field, value),
            ("FieldValueDuplicate", None) => FieldError::duplicate_of_something(field),
            (_, Some(value)) => FieldError::invalid(field, value, detail),
            (_, None) => FieldError::invalid_something(field, detail),
        }
    }
}

struct Walk {
    found: Found,
    budget: Budget,
}

/// The budget is spent: nothing more is looked at.
struct Spent;

impl Walk {
    fn node(&mut self, rules: &Rules, path: &str, pair: Pair<'_>, comparable: bool) -> Result<(), Spent> {
        if pair.new.is_null() {
            return Ok(());
        }
        // Before what is below it, as a real server does.
        for rule in &rules.rules {
            self.rule(rule, rules, path, pair)?;
        }
        for rules in &rules.all_of {
            let unchanged = pair.unchanged && comparable;
            self.node(rules, path, Pair { unchanged, ..pair }, comparable)?;
        }
        match pair.new {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let old = pair
                        .old
                        .and_then(|old| old.get(name))
                        .filter(|old| !old.is_null());
                    let known = rules.properties.get(name).map(|rules| (rules, below(path, name)));
                    let more = rules.more.as_deref();
                    let more = more.map(|rules| (rules, format!("{path}[{name}]")));
                    if let Some((rules, path)) = known.or(more) {
                        self.node(rules, &path, pair.below(field, old), true)?;
                    }
                }
            }
            Value::Array(elements) => {
                let Some(items) = rules.items.as_deref() else {
                    return Ok(());
                };
                let held = pair.old.and_then(Value::as_array);
                for (index, element) in elements.iter().enumerate() {
                    let old = rules.keys.as_ref().and_then(|keys| {
                        let mut held = held?.iter();
                        held.find(|held| keys.iter().all(|key| held[key.as_str()] == element[key.as_str()]))
                    });
                    let path = format!("{path}[{index}]");
                    self.node(items, &path, pair.below(element, old), true)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rule(&mut self, rule: &Rule, rules: &Rules, path: &str, pair: Pair<'_>) -> Result<(), Spent> {
        let place = if path.is_empty() { "<nil>" } else { path };
        let shown = Value::from(rules.shown.as_str());
        let wrong = |detail: &str| FieldError::invalid(place, &shown, detail);
        let program = match &rule.program {
            Ok(program) => program,
            // It was warned about when its definition came.
            Err(Refused::Unknown(_)) => return Ok(()),
            Err(_) => {
                let detail = format!("rule compile error: {}", rule.text);
                self.found.errors.push(wrong(&detail));
                return Ok(());
            }
        };
        if program.uses_old && pair.old.is_none() && !rule.optional_old {
            return Ok(());
        }
        let old = match rule.optional_old {
            true => Old::Perhaps(pair.old),
            false => Old::Is(pair.old.unwrap_or(pair.new)),
        };
        if self.budget.steps == 0 {
            self.found.errors.push(wrong(SPENT));
            return Err(Spent);
        }
        match program.holds(&rules.of, pair.new, old, &mut self.budget) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(Fault::Failed(why)) => {
                let rule = rule.shown();
                let detail = match &*why {
                    "no such overload" => format!(
                        "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {rule}"
                    ),
                    why => format!("{why} evaluating rule: {rule}"),
                };
                self.found.errors.push(wrong(&detail));
                return Ok(());
            }
            Err(Fault::TooDear) => {
                let detail = format!(
                    "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                    rule.shown()
                );
                self.found.errors.push(wrong(&detail));
                return Err(Spent);
            }
            Err(Fault::Spent) => {
                self.found.errors.push(wrong(SPENT));
                return Err(Spent);
            }
        }
        let made = rule.message_text.as_ref().and_then(|message| {
            let made = message.text(&rules.of, pair.new, old, &mut self.budget).ok()?;
            let made = made.trim().to_owned();
            (!made.is_empty() && !made.contains('\n') && made.len() <= MESSAGE_BYTES_MAX).then_some(made)
        });
        let detail = made.unwrap_or_else(|| match &rule.message {
            Some(message) => message.clone(),
            None => format!("failed rule: {}", rule.text),
        });
        let value = Some(pair.new).filter(|value| !value.is_object() && !value.is_array());
        let field = match (path, &*rule.field) {
            (path, "") => if path.is_empty() { "<nil>" } else { path }.to_owned(),
            (path, field) => below(path, field),
        };
        let error = rule.error(field, value, &detail);
        if !program.uses_old && pair.is_unchanged() {
            self.found.warnings.push(error.to_string());
        } else {
            self.found.errors.push(error);
        }
        Ok(())
    }
}

impl<'v> Pair<'v> {
    fn is_unchanged(&self) -> bool {
        self.unchanged || self.old == Some(self.new)
    }

    /// Something within it. What cannot be found again is as unchanged as what it is in.
    fn below(&self, new: &'v Value, old: Option<&'v Value>) -> Self {
        let unchanged = old.is_none() && self.is_unchanged();
        Pair { new, old, unchanged }
    }
}

const SPENT: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
/// Of a message that an expression makes.
const MESSAGE_BYTES_MAX: usize = 5 << 10;
