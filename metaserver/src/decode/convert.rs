//! Messages written as JSON, as Go would write the same object: fields in its order, zeros where it shows them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::protobuf::{DecodeError, Envelope, VALUES_MAX, text};
use super::wire::{Reader, Wire};
use hub_core::registry::fields::{Field, Kind, Message, Repeated, Table};

/// Writes one body.
#[derive(Debug, Default)]
pub(super) struct Converter {
    pub(super) out: Vec<u8>,
    /// Fields that the table does not know.
    pub(super) skipped: u64,
    values: usize,
}

/// What a written value is to a field that may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    Null,
    Zero,
    Something,
}

impl Converter {
    pub(super) fn object(&mut self, envelope: &Envelope<'_>, depth: usize) -> Result<(), DecodeError> {
        let (api_version, kind) = (envelope.api_version, envelope.kind);
        // These are the same in every group that a client speaks them in.
        let home = if kind == "DeleteOptions" {
            "meta.k8s.io/v1"
        } else {
            api_version
        };
        let message = Table::builtin()
            .message(home, kind)
            .ok_or_else(|| DecodeError::Kind {
                api_version: api_version.into(),
                kind: kind.into(),
            })?;
        self.out.push(b'{');
        self.name("kind");
        self.text(kind);
        self.name("apiVersion");
        self.text(api_version);
        self.fields(message, envelope.raw, depth)?;
        self.out.push(b'}');
        Ok(())
    }

    pub(super) fn message(
        &mut self,
        group_version: &str,
        name: &str,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(), DecodeError> {
        self.out.push(b'{');
        self.fields(Table::known(group_version, name), bytes, depth)?;
        self.out.push(b'}');
        Ok(())
    }

    /// The fields of a message, between braces that are there already.
    fn fields(&mut self, message: &Message, bytes: &[u8], depth: usize) -> Result<(), DecodeError> {
        let depth = depth.checked_sub(1).ok_or(DecodeError::Depth)?;
        let fields = message.fields();
        let mut found = Vec::new();
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            self.count()?;
            match fields.iter().position(|field| field.number == number) {
                Some(place) => found.push((place, wire)),
                None => self.skipped += 1,
            }
        }
        // Stable: the values of a list stay in their order.
        found.sort_by_key(|(place, _)| *place);
        for group in found.chunk_by(|one, other| one.0 == other.0) {
            self.field(&fields[group[0].0], group, depth)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, group: &[(usize, Wire<'_>)], depth: usize) -> Result<(), DecodeError> {
        let mut wires = group.iter().map(|(_, wire)| *wire);
        let start = self.out.len();
        if let Kind::Message(group_version, name) = field.kind
            && field.repeated == Repeated::Once
        {
            // In parts it would be legal, but nobody writes it so, and joining them would cost memory at every level.
            let [(_, wire)] = group else {
                return Err(DecodeError::Parts(field.number));
            };
            let bytes = bytes(*wire)?;
            return if field.inline {
                self.fields(Table::known(group_version, name), bytes, depth)
            } else {
                self.name(field.name);
                self.message(group_version, name, bytes, depth)
            };
        }
        self.name(field.name);
        match field.repeated {
            Repeated::Once => {
                // Of several the last holds.
                let Some(wire) = wires.next_back() else {
                    return Ok(());
                };
                let wrote = self.value(field.kind, wire, depth)?;
                if wrote == Wrote::Null || wrote == Wrote::Zero && !field.keeps_zero {
                    self.out.truncate(start);
                }
            }
            Repeated::List => {
                self.out.push(b'[');
                for wire in wires {
                    match (field.kind, wire) {
                        (Kind::Bool | Kind::Int, Wire::Bytes(packed)) => {
                            let mut packed = Reader::new(packed);
                            while let Some(number) = packed.next_packed()? {
                                self.count()?;
                                self.comma();
                                self.value(field.kind, Wire::Varint(number), depth)?;
                            }
                        }
                        (kind, wire) => {
                            self.comma();
                            self.value(kind, wire, depth)?;
                        }
                    }
                }
                self.out.push(b']');
            }
            Repeated::Map => {
                let mut entries = BTreeMap::new();
                for wire in wires {
                    let entry = bytes(wire)?;
                    let key = last(entry, 1)?.map_or(Ok(""), text)?;
                    entries.insert(key, last(entry, 2)?.unwrap_or(zero(field.kind)));
                }
                self.out.push(b'{');
                for (key, wire) in entries {
                    self.name(key);
                    self.value(field.kind, wire, depth)?;
                }
                self.out.push(b'}');
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: Kind, wire: Wire<'_>, depth: usize) -> Result<Wrote, DecodeError> {
        let zero = match (kind, wire) {
            (Kind::Bool, Wire::Varint(number)) => {
                self.plain(number != 0);
                number == 0
            }
            (Kind::Int, Wire::Varint(number)) => {
                // Negative numbers are their two's complement.
                self.plain(number as i64);
                number == 0
            }
            (Kind::Double, Wire::Fixed64(bits)) => {
                let number = f64::from_bits(bits);
                self.double(number)?;
                number == 0.0
            }
            (Kind::Text, wire) => {
                let text = text(wire)?;
                self.text(text);
                text.is_empty()
            }
            (Kind::Bytes, wire) => {
                let bytes = bytes(wire)?;
                self.text(&STANDARD.encode(bytes));
                bytes.is_empty()
            }
            (Kind::Message(group_version, name), wire) => {
                self.message(group_version, name, bytes(wire)?, depth)?;
                false
            }
            (Kind::Bool | Kind::Int | Kind::Double, _) => return Err(DecodeError::WireType("number")),
            (special, wire) => return self.special(special, bytes(wire)?, depth),
        };
        Ok(if zero { Wrote::Zero } else { Wrote::Something })
    }

    /// A whole number as one, as Go writes it.
    fn double(&mut self, number: f64) -> Result<(), DecodeError> {
        if number.fract() == 0.0 && number.abs() < 1e15 {
            self.plain(number as i64);
            return Ok(());
        }
        let number = serde_json::Number::from_f64(number).ok_or(DecodeError::Number)?;
        self.plain(number);
        Ok(())
    }

    pub(super) fn count(&mut self) -> Result<(), DecodeError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(DecodeError::Values);
        }
        Ok(())
    }

    pub(super) fn plain(&mut self, value: impl ToString) {
        self.out.extend_from_slice(value.to_string().as_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        serde_json::to_writer(&mut self.out, text).expect("any text has a form in JSON, and memory takes it");
    }

    pub(super) fn comma(&mut self) {
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    fn name(&mut self, name: &str) {
        self.comma();
        self.text(name);
        self.out.push(b':');
    }
}

/// A value that is not on the wire.
fn zero(kind: Kind) -> Wire<'static> {
    match kind {
        Kind::Bool | Kind::Int => Wire::Varint(0),
        Kind::Double => Wire::Fixed64(0),
        _ => Wire::Bytes(b""),
    }
}

pub(super) fn bytes(wire: Wire<'_>) -> Result<&[u8], DecodeError> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(DecodeError::WireType("message")),
    }
}

/// The last value with a number, which is the one that holds.
pub(super) fn last(message: &[u8], wanted: u32) -> Result<Option<Wire<'_>>, DecodeError> {
    let (mut reader, mut last) = (Reader::new(message), None);
    while let Some((number, wire)) = reader.next()? {
        if number == wanted {
            last = Some(wire);
        }
    }
    Ok(last)
}
