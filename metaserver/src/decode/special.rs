//! Messages whose JSON is not an object: times, quantities, raw JSON, either-or.

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::convert::{Converter, Wrote, bytes, last};
use super::protobuf::{DecodeError, Envelope, PREFIX, text};
use super::wire::{Reader, Wire};
use hub_core::registry::fields::Kind;

impl Converter {
    pub(super) fn special(&mut self, kind: Kind, message: &[u8], depth: usize) -> Result<Wrote, DecodeError> {
        match kind {
            Kind::Time | Kind::MicroTime => match time(message, kind == Kind::MicroTime)? {
                Some(time) => self.text(&time),
                None => return Ok(self.null()),
            },
            Kind::Quantity => {
                let quantity = last(message, 1)?.map_or(Ok(""), text)?;
                self.text(if quantity.is_empty() { "0" } else { quantity });
            }
            Kind::IntOrString => match int(message, 1)? {
                0 => self.plain(int(message, 2)?),
                1 => self.text(last(message, 3)?.map_or(Ok(""), text)?),
                _ => return Err(DecodeError::Number),
            },
            Kind::Texts => {
                self.out.push(b'[');
                self.each(message, 1, |converter, wire| {
                    converter.text(text(wire)?);
                    Ok(())
                })?;
                self.out.push(b']');
            }
            Kind::SchemaOrArray | Kind::SchemaOrStrings if last(message, 2)?.is_some() => {
                self.out.push(b'[');
                self.each(message, 2, |converter, wire| match kind {
                    Kind::SchemaOrArray => converter.schema(bytes(wire)?, depth),
                    _ => {
                        converter.text(text(wire)?);
                        Ok(())
                    }
                })?;
                self.out.push(b']');
            }
            Kind::SchemaOrArray | Kind::SchemaOrStrings => match last(message, 1)? {
                Some(schema) => self.schema(bytes(schema)?, depth)?,
                None => return Ok(self.null()),
            },
            Kind::SchemaOrBool => match last(message, 2)? {
                Some(schema) => self.schema(bytes(schema)?, depth)?,
                None => self.plain(int(message, 1)? != 0),
            },
            _ => {
                let raw = last(message, 1)?.map_or(Ok(&[][..]), bytes)?;
                if raw.is_empty() {
                    return Ok(self.null());
                }
                self.raw(raw, depth)?;
            }
        }
        Ok(Wrote::Something)
    }

    /// JSON, or an object in an envelope of its own.
    fn raw(&mut self, raw: &[u8], depth: usize) -> Result<(), DecodeError> {
        if raw.starts_with(PREFIX) {
            let depth = depth.checked_sub(1).ok_or(DecodeError::Depth)?;
            return self.object(&Envelope::read(raw)?, depth);
        }
        let json: &RawValue = serde_json::from_slice(raw).map_err(|_| DecodeError::Raw)?;
        self.out.extend_from_slice(json.get().as_bytes());
        Ok(())
    }

    fn schema(&mut self, schema: &[u8], depth: usize) -> Result<(), DecodeError> {
        self.message("apiextensions.k8s.io/v1", "JSONSchemaProps", schema, depth)
    }

    fn each(
        &mut self,
        message: &[u8],
        wanted: u32,
        mut write: impl FnMut(&mut Self, Wire<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(message);
        while let Some((number, wire)) = reader.next()? {
            if number == wanted {
                self.count()?;
                self.comma();
                write(self, wire)?;
            }
        }
        Ok(())
    }

    fn null(&mut self) -> Wrote {
        self.out.extend_from_slice(b"null");
        Wrote::Null
    }
}

/// RFC 3339 in whole seconds, or in microseconds. None where there is no time at all.
fn time(message: &[u8], micro: bool) -> Result<Option<String>, DecodeError> {
    if message.is_empty() {
        return Ok(None);
    }
    let time = OffsetDateTime::from_unix_timestamp(int(message, 1)?).map_err(|_| DecodeError::Time)?;
    if !(0..=9999).contains(&time.year()) {
        return Err(DecodeError::Time);
    }
    let nanos = u32::try_from(int(message, 2)?).map_err(|_| DecodeError::Time)?;
    let time = time.replace_nanosecond(nanos).map_err(|_| DecodeError::Time)?;
    let (date, (hour, minute, second)) = (time.date(), time.time().as_hms());
    let fraction = if micro {
        format!(".{:06}", time.microsecond())
    } else {
        String::new()
    };
    Ok(Some(format!(
        "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
    )))
}

fn int(message: &[u8], number: u32) -> Result<i64, DecodeError> {
    match last(message, number)? {
        None => Ok(0),
        Some(Wire::Varint(number)) => Ok(number as i64),
        Some(_) => Err(DecodeError::WireType("number")),
    }
}
