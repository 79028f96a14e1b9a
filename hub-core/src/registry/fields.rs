//! What the fields of Kubernetes' messages are called and hold: a text of facts, read message by message as they are met.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

/// The messages by group and version, and name.
#[derive(Debug)]
pub struct Table {
    messages: HashMap<&'static str, HashMap<&'static str, Message>>,
}

/// One message.
#[derive(Debug)]
pub struct Message {
    group_version: &'static str,
    line: &'static str,
    fields: OnceLock<Vec<Field>>,
    names: OnceLock<Vec<Name>>,
    /// The places of the names, in the order of the names.
    sorted: OnceLock<Vec<usize>>,
}

/// A field by the name that it has in the JSON of its message.
#[derive(Debug)]
pub struct Name {
    /// In JSON.
    pub name: &'static str,
    /// May be one of a message that stands in this one.
    pub field: &'static Field,
}

/// One field of a message.
#[derive(Debug)]
pub struct Field {
    /// In protobuf.
    pub number: u32,
    /// As in JSON. Empty when the fields of its message stand in the message around it.
    pub name: &'static str,
    /// Whether it is a pointer in Go: there may be none of it, and a zero is something.
    pub pointer: bool,
    /// Whether a zero is shown in JSON: it is a pointer in Go, or has no `omitempty`.
    pub keeps_zero: bool,
    /// Whether its fields stand in the message around it.
    pub inline: bool,
    /// How many of it.
    pub repeated: Repeated,
    /// What each is.
    pub kind: Kind,
    message: OnceLock<Option<&'static Message>>,
}

/// How many values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// One.
    Once,
    /// A list of them.
    List,
    /// A map of them, with texts for keys.
    Map,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// A text.
    Text,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339, in seconds.
    Time,
    /// RFC 3339, in microseconds.
    MicroTime,
    /// `100m`, `1Gi`.
    Quantity,
    /// A whole number or a text.
    IntOrString,
    /// JSON in bytes: RawExtension, FieldsV1, JSON of a schema.
    Raw,
    /// A list of texts in a message of its own, so that a map can hold it.
    Texts,
    /// A schema, or a list of them.
    SchemaOrArray,
    /// A schema, or whether anything is allowed.
    SchemaOrBool,
    /// A schema, or a list of texts.
    SchemaOrStrings,
    /// Group and version, and name.
    Message(&'static str, &'static str),
}

impl Table {
    /// The messages of the built-in kinds.
    pub fn builtin() -> &'static Self {
        static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(include_str!("fields.txt")));
        &TABLE
    }

    fn new(text: &'static str) -> Self {
        let (mut messages, mut group_version) = (HashMap::<_, HashMap<_, _>>::new(), "");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                group_version = section;
                continue;
            }
            let (name, line) = line.split_once(' ').unwrap_or((line, ""));
            let message = Message {
                group_version,
                line,
                fields: OnceLock::new(),
                names: OnceLock::new(),
                sorted: OnceLock::new(),
            };
            messages.entry(group_version).or_default().insert(name, message);
        }
        Self { messages }
    }

    /// A message that a field names.
    pub fn known(group_version: &str, name: &str) -> &'static Message {
        Self::builtin()
            .message(group_version, name)
            .expect("a test looks every message of a field up")
    }

    /// A message by its group and version (`v1`, `apps/v1`) and name.
    pub fn message(&self, group_version: &str, name: &str) -> Option<&Message> {
        self.messages.get(group_version)?.get(name)
    }
}

impl Message {
    /// Its fields in the order of Go's struct, which is that of JSON.
    pub fn fields(&self) -> &[Field] {
        self.fields.get_or_init(|| {
            let fields = self.line.split_ascii_whitespace();
            fields
                .map(|text| Field::parse(text, self.group_version).expect("a test reads the whole table"))
                .collect()
        })
    }

    /// All fields that its JSON has, those of messages that stand in it among them, in the order of JSON.
    pub fn names(&'static self) -> &'static [Name] {
        self.names.get_or_init(|| {
            let mut names = Vec::new();
            for field in self.fields() {
                match field.kind {
                    Kind::Message(group_version, name) if field.inline => {
                        let inner = Table::known(group_version, name).names();
                        names.extend(inner.iter().map(|inner| Name { ..*inner }));
                    }
                    _ => names.push(Name {
                        name: field.name,
                        field,
                    }),
                }
            }
            names
        })
    }

    /// The field that its JSON has by this name.
    pub fn named(&'static self, name: &str) -> Option<&'static Name> {
        let names = self.names();
        let sorted = self.sorted.get_or_init(|| {
            let mut sorted: Vec<usize> = (0..names.len()).collect();
            sorted.sort_by_key(|place| names[*place].name);
            sorted
        });
        let found = sorted
            .binary_search_by_key(&name, |place| names[*place].name)
            .ok()?;
        Some(&names[sorted[found]])
    }
}

impl Field {
    /// The message that each value is, where it is one.
    pub fn message(&self) -> Option<&'static Message> {
        *self.message.get_or_init(|| match self.kind {
            Kind::Message(group_version, name) => Table::builtin().message(group_version, name),
            _ => None,
        })
    }

    fn parse(text: &'static str, group_version: &'static str) -> Option<Self> {
        let (name, rest) = text.split_once(':')?;
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, rest) = rest.split_at(end);
        let (pointer, rest) = flag(rest, "*");
        let (shown, rest) = flag(rest, "!");
        let (inline, rest) = flag(rest, "~");
        let (list, rest) = flag(rest, "[]");
        let (map, rest) = flag(rest, "{}");
        Some(Self {
            number: number.parse().ok()?,
            name,
            pointer,
            keeps_zero: pointer || shown,
            inline,
            repeated: match (list, map) {
                (true, _) => Repeated::List,
                (_, true) => Repeated::Map,
                _ => Repeated::Once,
            },
            kind: match rest {
                "bool" => Kind::Bool,
                "int" => Kind::Int,
                "double" => Kind::Double,
                "string" => Kind::Text,
                "bytes" => Kind::Bytes,
                "Time" => Kind::Time,
                "MicroTime" => Kind::MicroTime,
                "Quantity" => Kind::Quantity,
                "IntOrString" => Kind::IntOrString,
                "Raw" => Kind::Raw,
                "Strings" => Kind::Texts,
                "SchemaOrArray" => Kind::SchemaOrArray,
                "SchemaOrBool" => Kind::SchemaOrBool,
                "SchemaOrStrings" => Kind::SchemaOrStrings,
                message => {
                    let (group_version, message) =
                        message.rsplit_once('.').unwrap_or((group_version, message));
                    Kind::Message(group_version, message)
                }
            },
            message: OnceLock::new(),
        })
    }
}

fn flag<'a>(text: &'a str, flag: &str) -> (bool, &'a str) {
    text.strip_prefix(flag).map_or((false, text), |rest| (true, rest))
}

#[cfg(test)]
mod tests {
    use crate::registry::Registry;

    use super::*;

    #[test]
    fn every_message_of_a_field_is_in_the_table() {
        let table = Table::builtin();
        let all = table.messages.iter().flat_map(|(group_version, messages)| {
            messages
                .iter()
                .map(move |(name, message)| (group_version, name, message))
        });
        for (group_version, name, message) in all {
            let mut numbers = Vec::new();
            for field in message.fields() {
                let shown = format!("{group_version}.{name} {}", field.name);
                if let Kind::Message(group_version, message) = field.kind {
                    assert!(table.message(group_version, message).is_some(), "{shown}");
                }
                assert_eq!(
                    field.message().is_some(),
                    matches!(field.kind, Kind::Message(..)),
                    "{shown}"
                );
                assert_eq!(field.name.is_empty(), field.inline, "{shown}");
                assert!(!numbers.contains(&field.number), "{shown}");
                numbers.push(field.number);
            }
            for field in message.names() {
                assert_eq!(
                    message.named(field.name).map(|found| found.name),
                    Some(field.name)
                );
            }
            assert!(message.named("none of this name").is_none());
        }
    }

    #[test]
    fn every_built_in_kind_and_every_body_of_a_subresource_is_in_the_table() {
        let table = Table::builtin();
        assert!(table.message("meta.k8s.io/v1", "DeleteOptions").is_some());
        for kind in Registry::builtin().all() {
            let api_version = kind.resource.api_version();
            assert!(
                table.message(&api_version, &kind.kind).is_some(),
                "{api_version} {}",
                kind.kind
            );
            for below in &kind.subresources {
                let (api_version, kind) = kind.body(Some(&below.name));
                assert!(
                    table.message(&api_version, &kind).is_some(),
                    "{api_version} {kind}"
                );
            }
        }
    }
}
