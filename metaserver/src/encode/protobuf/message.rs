//! Messages out of JSON, byte by byte as Go's generated code writes them: fields in the order of their numbers, values that
//! are no pointers even when they are zero, maps in the order of their keys.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::value::ValueSeed;
use super::wire;
use hub_core::registry::fields::{Field, Kind, Message, Name, Repeated, Table};

/// Writes messages, one after the other and one in the other.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub(super) out: Vec<u8>,
    /// Where the fields of the open messages stand in `out`; nothing yet is an empty range that begins at 0.
    found: Vec<Range<usize>>,
    /// The same for those of them that are complete, with their numbers.
    pieces: Vec<(u32, Range<usize>)>,
}

impl Encoder {
    /// The fields of a message, from the JSON object that has them.
    pub(super) fn fields<'de, A: MapAccess<'de>>(
        &mut self,
        message: &'static Message,
        mut map: A,
    ) -> Result<(), A::Error> {
        let (start, first) = (self.out.len(), self.found.len());
        let names = message.names();
        self.found.resize(first + names.len(), 0..0);
        let mut next = 0;
        while let Some(place) = map.next_key_seed(NameSeed { names, next })? {
            let Some(place) = place else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            next = place + 1;
            let begin = self.out.len();
            let field = names[place].field;
            if map.next_value_seed(FieldSeed { encoder: self, field })? {
                self.found[first + place] = begin..self.out.len();
            } else {
                self.out.truncate(begin);
                self.found[first + place] = 0..0;
            }
        }
        self.finish(message, start, first);
        Ok(())
    }

    /// A message of which nothing is known.
    pub(super) fn empty(&mut self, message: &'static Message) {
        let (start, first) = (self.out.len(), self.found.len());
        self.found.resize(first + message.names().len(), 0..0);
        self.finish(message, start, first);
    }

    fn finish(&mut self, message: &'static Message, start: usize, first: usize) {
        let pieces = self.pieces.len();
        self.collect(message, &mut first.clone());
        self.order(start, pieces);
        self.found.truncate(first);
    }

    /// Notes the fields of a message, and writes what is there without being in the JSON.
    fn collect(&mut self, message: &'static Message, place: &mut usize) {
        for field in message.fields() {
            let begin = self.out.len();
            if let Kind::Message(group_version, name) = field.kind
                && field.inline
            {
                let content = wire::open(&mut self.out, field.number);
                let pieces = self.pieces.len();
                self.collect(Table::known(group_version, name), place);
                self.order(content, pieces);
                wire::close(&mut self.out, content);
                self.pieces.push((field.number, begin..self.out.len()));
                continue;
            }
            let found = self.found[*place].clone();
            *place += 1;
            if found.end > 0 {
                self.pieces.push((field.number, found));
            } else if always(field) {
                self.zero(field.number, field.kind);
                self.pieces.push((field.number, begin..self.out.len()));
            }
        }
    }

    /// Makes the pieces all that stands from `start` on, in the order of their numbers.
    fn order(&mut self, start: usize, first: usize) {
        self.pieces[first..].sort_by_key(|(number, _)| *number);
        let mut end = start;
        let in_order = self.pieces[first..].iter().all(|(_, piece)| {
            let follows = piece.start == end;
            end = piece.end;
            follows
        });
        if !(in_order && end == self.out.len()) {
            let ordered: Vec<u8> = self.pieces[first..]
                .iter()
                .flat_map(|(_, piece)| &self.out[piece.clone()])
                .copied()
                .collect();
            self.out.truncate(start);
            self.out.extend_from_slice(&ordered);
        }
        self.pieces.truncate(first);
    }

    /// What stands for a value that is no pointer and that the JSON does not have.
    pub(super) fn zero(&mut self, number: u32, kind: Kind) {
        let out = &mut self.out;
        match kind {
            Kind::Bool | Kind::Int => wire::int(out, number, 0),
            Kind::Double => {
                wire::tag(out, number, wire::FIXED64);
                out.extend_from_slice(&[0; 8]);
            }
            Kind::Quantity => wire::bytes(out, number, b"\x0a\x010"),
            Kind::IntOrString => wire::bytes(out, number, &[0x08, 0, 0x10, 0, 0x1a, 0]),
            Kind::SchemaOrBool => wire::bytes(out, number, &[0x08, 0]),
            Kind::Message(group_version, name) => {
                let content = wire::open(out, number);
                self.empty(Table::known(group_version, name));
                wire::close(&mut self.out, content);
            }
            _ => wire::bytes(out, number, b""),
        }
    }
}

/// Whether a field is on the wire whatever it is.
fn always(field: &Field) -> bool {
    // A nil slice is nothing, as a nil pointer is.
    let slice = matches!(field.kind, Kind::Bytes | Kind::Texts);
    !field.pointer && !slice && field.repeated == Repeated::Once
}

/// Finds the field of a key.
struct NameSeed {
    names: &'static [Name],
    /// Where it is when the JSON is in the order of Go's struct.
    next: usize,
}

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<usize>, E> {
        let is = |known: &Name| known.name == text;
        let ahead = self.names[self.next..].iter().position(is);
        Ok(ahead
            .map(|place| self.next + place)
            .or_else(|| self.names[..self.next].iter().position(is)))
    }
}

/// Writes a field, however often it occurs. False when there is nothing of it.
struct FieldSeed<'a> {
    encoder: &'a mut Encoder,
    field: &'static Field,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        match self.field.repeated {
            Repeated::Once => ValueSeed {
                encoder: self.encoder,
                kind: self.field.kind,
                number: self.field.number,
            }
            .deserialize(from),
            _ => from.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = if self.field.repeated == Repeated::List {
            "list"
        } else {
            "map"
        };
        write!(f, "a {shape} in {}", self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let Field { kind, number, .. } = *self.field;
        if self.field.repeated != Repeated::List {
            return Err(Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let encoder = self.encoder;
        while let Some(present) = list.next_element_seed(ValueSeed {
            encoder,
            kind,
            number,
        })? {
            if !present {
                encoder.zero(number, kind);
            }
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let Field { kind, number, .. } = *self.field;
        if self.field.repeated != Repeated::Map {
            return Err(Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        let encoder = self.encoder;
        let start = encoder.out.len();
        let mut entries: Vec<(String, Range<usize>)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let begin = encoder.out.len();
            let content = wire::open(&mut encoder.out, number);
            wire::bytes(&mut encoder.out, 1, key.as_bytes());
            if !map.next_value_seed(ValueSeed {
                encoder,
                kind,
                number: 2,
            })? {
                encoder.zero(2, kind);
            }
            wire::close(&mut encoder.out, content);
            entries.push((key, begin..encoder.out.len()));
        }
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            // Of a key that comes again the last value holds.
            entries.reverse();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries.dedup_by(|a, b| a.0 == b.0);
            let sorted: Vec<u8> = entries
                .iter()
                .flat_map(|(_, entry)| &encoder.out[entry.clone()])
                .copied()
                .collect();
            encoder.out.truncate(start);
            encoder.out.extend_from_slice(&sorted);
        }
        Ok(true)
    }
}
