//! The fields of an object as its kind has them, whether the kind is built in or comes of a definition.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use hub_core::api::Status;
use hub_core::registry::ResourceKind;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::conform::{self, Fill};
use crate::cluster::embedded::call::Call;
use crate::cluster::embedded::fault;
use crate::cluster::embedded::state::State;

/// Makes a whole object from a client what its kind is. Fields that the kind does not know are taken out, and told of as the
/// client wants it (`fieldValidation`).
pub(in crate::cluster::embedded) fn read(call: &Call<'_>, value: &mut Value) -> Result<(), Status> {
    let refused = |why: String| {
        let kind = &call.kind;
        fault::bad_request(format!(
            "{name} in version {:?} cannot be handled as a {name}: {why}",
            kind.resource.version,
            name = kind.kind
        ))
    };
    let unknown = shape(call, value).map_err(refused)?;
    tell(call, Some(&call.request.body), unknown).map_err(refused)
}

/// The same with what a patch has made of an object. What is wrong is for the caller to put into words: it is the patch that is to blame.
pub(in crate::cluster::embedded) fn read_patched(call: &Call<'_>, value: &mut Value) -> Result<(), String> {
    let unknown = shape(call, value)?;
    tell(call, None, unknown)
}

/// The same with what an apply has made of an object: the types of its fields are known to be right.
pub(in crate::cluster::embedded) fn read_applied(call: &Call<'_>, value: &mut Value) -> Result<(), Status> {
    let refused =
        |why: String| fault::internal(format!("failed to convert new typed object to object: {why}"));
    if !call.kind.custom {
        return shape(call, value).map_err(refused).map(drop);
    }
    conform::metadata(value).map_err(refused)?;
    if let Some(definition) = &call.definition {
        definition.fill(value);
    }
    Ok(())
}

/// Puts what Kubernetes writes for nothing where there is nothing.
pub(in crate::cluster::embedded) fn complete(kind: &ResourceKind, value: &mut Value) {
    if kind.custom {
        return;
    }
    if let Err(why) = conform::conform(&kind.resource.api_version(), &kind.kind, value, Fill::Zeros) {
        // It was read before, and only our own defaults came to it since.
        tracing::error!(kind = %kind.kind, why, "a default is of another type than its field");
    }
}

/// Checks an object against the schema of its kind, but for what was so in the object before.
pub(in crate::cluster::embedded) fn check(
    state: &State,
    call: &Call<'_>,
    old: Option<&Value>,
    value: &Value,
) -> Result<(), Status> {
    let kind = &*call.kind;
    let Some(definition) = &call.definition else {
        return Ok(());
    };
    let (mut errors, warnings) = definition.errors(value, old, state.budget);
    for warning in warnings {
        call.warn(warning);
    }
    if call.subresource == Some("status") {
        errors = errors.into_iter().map(|error| error.within("status")).collect();
    }
    if errors.is_empty() {
        return Ok(());
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    Err(fault::invalid(kind, name, &errors))
}

fn shape(call: &Call<'_>, value: &mut Value) -> Result<Vec<String>, String> {
    let kind = &*call.kind;
    if !kind.custom {
        return conform::conform(&kind.resource.api_version(), &kind.kind, value, Fill::Nothing);
    }
    let mut unknown = conform::metadata(value)?;
    if let Some(definition) = &call.definition {
        unknown.extend(definition.shape(value));
    }
    Ok(unknown)
}

fn tell(call: &Call<'_>, body: Option<&[u8]>, unknown: Vec<String>) -> Result<(), String> {
    let validation = call.parameter("fieldValidation").unwrap_or("Warn");
    if validation == "Ignore" {
        return Ok(());
    }
    let patch = &call.request.body;
    let mut odd = match (body, &*call.media_type()) {
        (Some(body), _) => duplicates(body),
        (None, "application/merge-patch+json") => duplicates(patch),
        (None, "application/json-patch+json") => {
            let found = duplicates(patch).into_iter();
            found.map(|duplicate| format!("json patch {duplicate}")).collect()
        }
        (None, _) => Vec::new(),
    };
    let mut unknown = unknown;
    if let Some(body) = body.filter(|_| unknown.len() > 1 && !call.kind.custom) {
        // As they come in the body.
        let text = String::from_utf8_lossy(body);
        unknown.sort_by_key(|path| {
            let name = path.rsplit('.').next().unwrap_or_default();
            text.find(&format!("\"{name}\""))
        });
    }
    odd.extend(unknown.iter().map(|field| format!("unknown field {field:?}")));
    if odd.is_empty() {
        return Ok(());
    }
    if validation == "Strict" {
        return Err(format!("strict decoding error: {}", odd.join(", ")));
    }
    for odd in odd {
        call.warn(odd);
    }
    Ok(())
}

/// Which fields stand twice in an object of a JSON text.
fn duplicates(body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let seed = Duplicates {
        at: &Place::Top,
        found: &mut found,
    };
    // Whoever comes here has read the text as JSON before.
    let _ = seed.deserialize(&mut serde_json::Deserializer::from_slice(body));
    found
}

/// Where in a text, said only where there is something to say: nearly all bodies have nothing twice.
enum Place<'a> {
    Top,
    Field(&'a Place<'a>, &'a str),
    Element(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Field(Place::Top, name) => f.write_str(name),
            Self::Field(above, name) => write!(f, "{above}.{name}"),
            Self::Element(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

struct Duplicates<'a> {
    at: &'a Place<'a>,
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Duplicates<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Duplicates<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(Name(name)) = map.next_key()? {
            let at = Place::Field(self.at, &name);
            if seen.contains(&name) {
                let duplicate = format!("duplicate field {:?}", at.to_string());
                if !self.found.contains(&duplicate) {
                    self.found.push(duplicate);
                }
            }
            map.next_value_seed(Duplicates {
                at: &at,
                found: self.found,
            })?;
            seen.insert(name);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            let seed = Duplicates {
                at: &Place::Element(self.at, index),
                found: self.found,
            };
            if elements.next_element_seed(seed)?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A name of a field, as it stands in the text where nothing in it is escaped.
#[derive(serde::Deserialize)]
struct Name<'n>(#[serde(borrow)] Cow<'n, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_stands_twice_is_named_with_its_path() {
        let body = br#"{"data":{"a":"1","a":"2","a":"3"},"l":[{"x":null,"x":1.5}],"t":true}"#;
        assert_eq!(
            duplicates(body),
            [r#"duplicate field "data.a""#, r#"duplicate field "l[0].x""#]
        );
        assert!(duplicates(b"{").is_empty());
    }
}
