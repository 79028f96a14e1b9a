//! KubeEdge's JSON document, as its Go programs write and read it (tunnel specification §2.2, §3.1).
//!
//! Written: fields in Go's order, empty ones omitted as Go omits them, `<`, `>`, `&`, U+2028 and U+2029 escaped, a newline at
//! the end. Read: the first JSON value of the frame, field names in any case, unknown fields ignored. The content is neither
//! parsed nor copied on the way in: it is a slice of the frame.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{CodecLimits, DecodeError, EncodeError};
use crate::message::{Content, Header, Message, MessageId, Operation, Route};

pub(super) fn encode(message: &Message, limits: &CodecLimits) -> Result<Bytes, EncodeError> {
    let Message {
        header,
        route,
        content,
    } = message;
    let content = content.bytes();
    if content.len() > limits.message_max {
        return Err(EncodeError::TooLarge {
            size: content.len(),
            limit: limits.message_max,
        });
    }
    if serde_json::from_slice::<IgnoredAny>(content).is_err() {
        return Err(EncodeError::NotJson);
    }

    let mut out = Vec::with_capacity(content.len() + 320);
    out.extend_from_slice(b"{\"header\":{\"msg_id\":");
    string(&mut out, &header.id.to_string());
    if let Some(parent) = &header.parent_id {
        text_field(&mut out, "parent_msg_id", &parent.to_string());
    }
    out.extend_from_slice(b",\"timestamp\":");
    out.extend_from_slice(header.timestamp_ms.to_string().as_bytes());
    text_field(
        &mut out,
        "resourceversion",
        header.resource_version.as_ref().map_or("", |v| v.as_str()),
    );
    if header.sync {
        out.extend_from_slice(b",\"sync\":true");
    }
    text_field(&mut out, "type", &header.kind);

    out.extend_from_slice(b"},\"route\":{");
    let start = out.len();
    text_field(&mut out, "source", &route.source);
    text_field(&mut out, "destination", &route.destination);
    text_field(&mut out, "group", &route.group);
    text_field(&mut out, "operation", route.operation.as_str());
    text_field(&mut out, "resource", route.resource.as_str());
    if out.len() > start {
        out.remove(start); // The comma before the first field.
    }

    out.extend_from_slice(b"},\"content\":");
    escape_html(&mut out, content);
    out.extend_from_slice(b"}\n");
    if out.len() > limits.message_max {
        return Err(EncodeError::TooLarge {
            size: out.len(),
            limit: limits.message_max,
        });
    }
    Ok(out.into())
}

pub(super) fn decode(frame: Bytes) -> Result<Message, DecodeError> {
    let Ok(text) = std::str::from_utf8(&frame) else {
        // Go reads what is not UTF-8 as U+FFFD.
        return decode(String::from_utf8_lossy(&frame).into_owned().into());
    };
    let error = |e: serde_json::Error| DecodeError::Json(e.to_string());
    // `end` is not called: KubeEdge ignores what follows the first value.
    let document = Document::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(error)?;

    let HeaderFields {
        id,
        parent_id,
        timestamp_ms,
        resource_version,
        sync,
        kind,
    } = document.header;
    let RouteFields {
        source,
        destination,
        group,
        operation,
        resource,
    } = document.route;
    let some = |text: Cow<'_, str>| (!text.is_empty()).then(|| text.into_owned());
    Ok(Message {
        header: Header {
            id: MessageId::from(&*id),
            parent_id: some(parent_id).map(|t| MessageId::from(t.as_str())),
            timestamp_ms,
            resource_version: some(resource_version).map(Into::into),
            sync,
            kind: (&*kind).into(),
        },
        route: Route {
            source: (&*source).into(),
            destination: (&*destination).into(),
            group: (&*group).into(),
            operation: Operation::from(&*operation),
            resource: (&*resource).into(),
        },
        content: document.content.map_or(Content::null(), |raw| {
            Content::from_json(frame.slice_ref(raw.get().as_bytes()))
        }),
    })
}

/// `,"name":"text"`, unless the text is empty.
fn text_field(out: &mut Vec<u8>, name: &str, text: &str) {
    if !text.is_empty() {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        string(out, text);
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    // A string always serialises.
    let json = serde_json::to_vec(text).unwrap_or_default();
    escape_html(out, &json);
}

/// Copies JSON text, escaping what Go's encoder escapes. The five characters stand in JSON only inside strings.
fn escape_html(out: &mut Vec<u8>, json: &[u8]) {
    let mut copied = 0;
    let mut at = 0;
    while at < json.len() {
        let (escaped, length): (&[u8], usize) = match json[at] {
            b'<' => (b"\\u003c", 1),
            b'>' => (b"\\u003e", 1),
            b'&' => (b"\\u0026", 1),
            0xE2 if json[at..].starts_with("\u{2028}".as_bytes()) => (b"\\u2028", 3),
            0xE2 if json[at..].starts_with("\u{2029}".as_bytes()) => (b"\\u2029", 3),
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(&json[copied..at]);
        out.extend_from_slice(escaped);
        at += length;
        copied = at;
    }
    out.extend_from_slice(&json[copied..]);
}

/// Declares a struct that reads its fields as Go does: names in any case, null leaves the default, unknown fields ignored,
/// the last of equal names wins.
macro_rules! go_struct {
    ($name:ident<$lt:lifetime> { $($field:ident: $ty:ty = $json:literal),+ $(,)? }) => {
        #[derive(Default)]
        struct $name<$lt> { $($field: $ty,)+ }

        impl<$lt> Deserialize<$lt> for $name<$lt> {
            fn deserialize<D: Deserializer<$lt>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<$lt> Visitor<$lt> for Fields {
                    type Value = $name<$lt>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("an object with ", $($json, " "),+))
                    }

                    fn visit_map<M: MapAccess<$lt>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                        let mut value = $name::default();
                        while let Some(Name(name)) = map.next_key()? {
                            $(if name.eq_ignore_ascii_case($json) {
                                value.$field = map.next_value::<Option<Field<$ty>>>()?.map(|f| f.0).unwrap_or_default();
                                continue;
                            })+
                            map.next_value::<IgnoredAny>()?;
                        }
                        Ok(value)
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
    };
}

go_struct!(Document<'de> {
    header: HeaderFields<'de> = "header",
    route: RouteFields<'de> = "route",
    content: Option<&'de RawValue> = "content",
});

go_struct!(HeaderFields<'de> {
    id: Cow<'de, str> = "msg_id",
    parent_id: Cow<'de, str> = "parent_msg_id",
    timestamp_ms: i64 = "timestamp",
    resource_version: Cow<'de, str> = "resourceversion",
    sync: bool = "sync",
    kind: Cow<'de, str> = "type",
});

go_struct!(RouteFields<'de> {
    source: Cow<'de, str> = "source",
    destination: Cow<'de, str> = "destination",
    group: Cow<'de, str> = "group",
    operation: Cow<'de, str> = "operation",
    resource: Cow<'de, str> = "resource",
});

/// A field's value; texts are borrowed where they hold no escapes.
struct Field<T>(T);
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Borrowed<'b>(#[serde(borrow)] Cow<'b, str>);
        Borrowed::deserialize(deserializer).map(|b| Self(b.0))
    }
}

macro_rules! field {
    ($($ty:ty),+) => {$(
        impl<'de> Deserialize<'de> for Field<$ty> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$ty>::deserialize(deserializer).map(Field)
            }
        }
    )+};
}

field!(
    i64,
    bool,
    HeaderFields<'de>,
    RouteFields<'de>,
    Option<&'de RawValue>
);

impl<'de> Deserialize<'de> for Field<Cow<'de, str>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Name::deserialize(deserializer).map(|name| Field(name.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) {
        let message = decode(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let out = encode(&message, &CodecLimits::default()).unwrap();
        assert_eq!(std::str::from_utf8(&out).unwrap(), text);
    }

    #[test]
    fn what_go_wrote_is_written_again_byte_for_byte() {
        round_trip(
            "{\"header\":{\"msg_id\":\"f9c7ef19-81d4-4a1f-b149-a08d4647724d\",\"timestamp\":1795325356182},\"route\":{\"source\":\"websocket\",\"group\":\"resource\",\"operation\":\"keepalive\",\"resource\":\"node\"},\"content\":\"ping\"}\n",
        );
        round_trip(
            "{\"header\":{\"msg_id\":\"\",\"parent_msg_id\":\"x\",\"timestamp\":-1,\"resourceversion\":\"7\",\"sync\":true,\"type\":\"t\"},\"route\":{},\"content\":{\"a\":\"\\u003c\\u2028\"}}\n",
        );
        round_trip(
            "{\"header\":{\"msg_id\":\"a\",\"timestamp\":0},\"route\":{\"destination\":\"d\"},\"content\":null}\n",
        );
    }

    #[test]
    fn names_match_in_any_case_and_what_follows_the_document_is_ignored() {
        let odd = r#" {"Content":"c","ROUTE":{"Operation":"insert","x":[{}]},"new":{},"header":{"MSG_ID":"a","timestamp":null}} {"#;
        let message = decode(odd.into()).unwrap();
        assert_eq!(
            (message.header.id.to_string(), message.route.operation),
            ("a".into(), Operation::Insert)
        );
        assert_eq!(message.content, Content::string("c"));
    }

    #[test]
    fn a_missing_content_is_null_and_a_missing_document_an_error() {
        assert!(decode("{}".into()).unwrap().content.is_null());
        assert!(
            decode(r#"{"header":null,"content":null}"#.into())
                .unwrap()
                .content
                .is_null()
        );
        for bad in [
            "",
            " \n",
            "[]",
            "{",
            "\"a\"",
            r#"{"header":{"msg_id":7}}"#,
            r#"{"content":}"#,
        ] {
            assert!(decode(Bytes::copy_from_slice(bad.as_bytes())).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_become_the_replacement_character() {
        let message = decode(Bytes::from_static(b"{\"content\":\"\xff\"}")).unwrap();
        assert_eq!(message.content.as_string().unwrap(), "\u{fffd}");
    }

    #[test]
    fn a_content_that_is_not_json_is_not_sent() {
        let message = Message::new(
            Route::new("s", "g", Operation::Insert, "r"),
            Content::from_json(Bytes::from_static(b"{\"a\":")),
        );
        assert_eq!(
            encode(&message, &CodecLimits::default()),
            Err(EncodeError::NotJson)
        );
    }

    #[test]
    fn html_is_escaped_as_go_does() {
        let message = Message::new(
            Route::new("<", "g", Operation::Insert, "r"),
            Content::from_json(Bytes::from("{\"a\":\"x && y\u{2029}\"}")),
        );
        let text = String::from_utf8(encode(&message, &CodecLimits::default()).unwrap().into()).unwrap();
        assert!(
            text.contains("\\u003c") && text.contains("x \\u0026\\u0026 y\\u2029"),
            "{text}"
        );
    }
}
