//! Documents of OpenAPI in protobuf (gnostic `openapiv2/OpenAPIv2.proto`, `openapiv3/OpenAPIv3.proto`).

mod version_2;
mod version_3;

use serde_json::{Map, Value};

pub(super) use version_2::version_2;
pub(super) use version_3::version_3;

fn entries(of: &Value) -> impl Iterator<Item = (&String, &Value)> {
    of.as_object().into_iter().flat_map(Map::iter)
}

fn elements(of: &Value) -> impl Iterator<Item = &Value> {
    of.as_array().into_iter().flatten()
}

/// A message as it grows. What is nothing is left out.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message with nothing but another.
    fn around(number: u32, inner: Message) -> Self {
        let mut message = Self::default();
        message.message(number, inner);
        message
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn key(&mut self, number: u32, wire: u32) {
        self.varint((number << 3 | wire).into());
    }

    fn content(&mut self, number: u32, content: &[u8]) {
        self.key(number, 2);
        self.varint(content.len() as u64);
        self.bytes.extend_from_slice(content);
    }

    fn message(&mut self, number: u32, inner: Message) {
        self.content(number, &inner.bytes);
    }

    /// An entry of a map: its name and its value.
    fn named(&mut self, number: u32, name: &str, value: Message) {
        let mut entry = Message::default();
        entry.content(1, name.as_bytes());
        entry.message(2, value);
        self.message(number, entry);
    }

    fn text(&mut self, number: u32, text: &Value) {
        if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
            self.content(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u32, texts: &Value) {
        for text in elements(texts) {
            self.text(number, text);
        }
    }

    fn flag(&mut self, number: u32, flag: &Value) {
        if *flag == true {
            self.key(number, 0);
            self.varint(1);
        }
    }

    fn whole(&mut self, number: u32, value: &Value) {
        if let Some(value) = value.as_u64().filter(|value| *value != 0) {
            self.key(number, 0);
            self.varint(value);
        }
    }

    fn double(&mut self, number: u32, value: &Value) {
        if let Some(value) = value.as_f64().filter(|value| *value != 0.0) {
            self.key(number, 1);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// A value of any type, as YAML, which JSON is too.
    fn any(&mut self, number: u32, value: &Value) {
        if !value.is_null() {
            let mut any = Message::default();
            any.content(2, value.to_string().as_bytes());
            self.message(number, any);
        }
    }

    /// What is not of the standard: `x-kubernetes-…`.
    fn extensions(&mut self, number: u32, of: &Value) {
        for (name, value) in entries(of).filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Message::default();
            any.content(2, value.to_string().as_bytes());
            self.named(number, name, any);
        }
    }
}
