//! The format between our own ends: a tag, a bincode 2 envelope (standard configuration), then the content bytes verbatim or
//! as a zstd frame.
//!
//! | tag | rest of the frame |
//! |---|---|
//! | 0 | 16 bytes: the id of the message that is acknowledged |
//! | 1 | length of the envelope as u16 LE, envelope, content |
//! | 2 | the same, content as a zstd frame; its size is in the envelope |
//! | 3 | the same, content as a zstd frame against the base named in the envelope |
//!
//! Nothing else names the bincode crate, so that the format, not the crate, is what we depend on
//! (`docs/decisions/0002-bincode.md`).

use std::borrow::Cow;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{BorrowDecode, Encode};
use bytes::Bytes;

use super::patch::{content_hash, pack, unpack};
use super::{CodecLimits, DecodeError, EncodeError, Patch};
use crate::message::{Content, Header, Message, MessageId, Operation, Route};
use crate::transport::Received;

pub(super) fn encode(
    message: &Message,
    base: Option<&Bytes>,
    zstd: bool,
    limits: &CodecLimits,
) -> Result<Bytes, EncodeError> {
    if let Some(parent) = acknowledged(message) {
        let mut out = Vec::with_capacity(17);
        out.push(TAG_ACK);
        out.extend_from_slice(parent);
        return Ok(out.into());
    }

    let content = message.content.bytes();
    let too_large = |size| EncodeError::TooLarge {
        size,
        limit: limits.message_max,
    };
    if content.len() > limits.message_max {
        return Err(too_large(content.len()));
    }
    let packed = (zstd && content.len() >= limits.compress_min)
        .then(|| pack(content, base))
        .flatten();
    let (tag, body) = match &packed {
        None => (TAG_PLAIN, content),
        Some(packed) if base.is_none() => (TAG_ZSTD, packed),
        Some(packed) => (TAG_PATCH, packed),
    };

    let envelope = Envelope {
        id: Id::from(&message.header.id),
        parent_id: message.header.parent_id.as_ref().map(Id::from),
        timestamp_ms: message.header.timestamp_ms,
        resource_version: message
            .header
            .resource_version
            .as_ref()
            .map(|v| Version::from(v.as_str())),
        sync: message.header.sync,
        kind: Word::from(&*message.header.kind),
        source: Word::from(&*message.route.source),
        destination: Word::from(&*message.route.destination),
        group: Word::from(&*message.route.group),
        operation: Word::from(message.route.operation.as_str()),
        resource: Cow::Borrowed(message.route.resource.as_str()),
        size: if tag == TAG_PLAIN { 0 } else { content.len() as u64 },
        base: base.filter(|_| tag == TAG_PATCH).map_or(0, |b| content_hash(b)),
    };
    let mut out = Vec::with_capacity(body.len() + 128);
    out.extend_from_slice(&[tag, 0, 0]);
    bincode::encode_into_std_write(envelope, &mut out, CONFIG).map_err(|_| too_large(usize::MAX))?;
    let length = u16::try_from(out.len() - ENVELOPE_AT)
        .ok()
        .filter(|&length| usize::from(length) <= ENVELOPE_MAX)
        .ok_or_else(|| too_large(out.len()))?;
    out[1..ENVELOPE_AT].copy_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    if out.len() > limits.message_max {
        return Err(too_large(out.len()));
    }
    Ok(out.into())
}

pub(super) fn decode(frame: Bytes, limits: &CodecLimits) -> Result<Received, DecodeError> {
    let bad = DecodeError::Binary;
    let tag = *frame.first().ok_or(bad("an empty frame"))?;
    if tag == TAG_ACK {
        let parent = frame[1..]
            .try_into()
            .map_err(|_| bad("an acknowledgement of the wrong length"))?;
        return Ok(Received::Whole(acknowledgement(parent)));
    }
    if !matches!(tag, TAG_PLAIN | TAG_ZSTD | TAG_PATCH) {
        return Err(bad("an unknown tag"));
    }
    let length = frame
        .get(1..ENVELOPE_AT)
        .ok_or(bad("a frame without an envelope"))?;
    let content_at = ENVELOPE_AT + usize::from(u16::from_le_bytes([length[0], length[1]]));
    let envelope = frame
        .get(ENVELOPE_AT..content_at)
        .ok_or(bad("a truncated envelope"))?;
    let (envelope, read): (Envelope<'_>, usize) =
        bincode::borrow_decode_from_slice(envelope, CONFIG).map_err(|_| bad("a malformed envelope"))?;
    if ENVELOPE_AT + read != content_at {
        return Err(bad("an envelope of the wrong length"));
    }
    let size = usize::try_from(envelope.size).unwrap_or(usize::MAX);
    if size > limits.message_max {
        return Err(DecodeError::TooLarge {
            size,
            limit: limits.message_max,
        });
    }
    let base = envelope.base;
    let mut message = envelope.into_message()?;
    let body = frame.slice(content_at..);
    match tag {
        TAG_PLAIN => message.content = Content::from_json(body),
        TAG_ZSTD => {
            let content = unpack(&body, None, size).ok_or(bad("a damaged zstd frame"))?;
            message.content = Content::from_json(content);
        }
        _ => {
            return Ok(Received::Patched(
                message,
                Patch {
                    base,
                    size,
                    frame: body,
                },
            ));
        }
    }
    Ok(Received::Whole(message))
}

/// The id that is acknowledged, when the message says nothing but that.
fn acknowledged(message: &Message) -> Option<&[u8; 16]> {
    let parent = message.header.parent_id.as_ref()?.as_uuid()?;
    (message.content.is_ok() && *message == acknowledgement(*parent)).then_some(parent)
}

/// The message that says nothing but "your message is settled".
fn acknowledgement(parent: [u8; 16]) -> Message {
    let mut message = Message::new(Route::new("", "", Operation::Response, ""), Content::ok());
    message.header.parent_id = Some(MessageId::from_uuid(parent));
    message
}

/// Everything but the content.
#[derive(Encode, BorrowDecode)]
struct Envelope<'a> {
    id: Id<'a>,
    parent_id: Option<Id<'a>>,
    timestamp_ms: i64,
    resource_version: Option<Version<'a>>,
    sync: bool,
    kind: Word<'a>,
    source: Word<'a>,
    destination: Word<'a>,
    group: Word<'a>,
    operation: Word<'a>,
    resource: Cow<'a, str>,
    size: u64,
    base: u64,
}

impl Envelope<'_> {
    fn into_message(self) -> Result<Message, DecodeError> {
        let header = Header {
            id: self.id.into(),
            parent_id: self.parent_id.map(Into::into),
            timestamp_ms: self.timestamp_ms,
            resource_version: self.resource_version.map(|v| match v {
                Version::Number(number) => number.to_string().into(),
                Version::Text(text) => text.into(),
            }),
            sync: self.sync,
            kind: self.kind.text()?.into(),
        };
        let route = Route {
            source: self.source.text()?.into(),
            destination: self.destination.text()?.into(),
            group: self.group.text()?.into(),
            operation: self.operation.text()?.into(),
            resource: (&*self.resource).into(),
        };
        Ok(Message {
            header,
            route,
            content: Content::null(),
        })
    }
}

#[derive(Encode, BorrowDecode)]
enum Id<'a> {
    Uuid([u8; 16]),
    Text(Cow<'a, str>),
}

impl From<&MessageId> for Id<'_> {
    fn from(id: &MessageId) -> Self {
        match id.as_uuid() {
            Some(bytes) => Self::Uuid(*bytes),
            None => Self::Text(id.to_string().into()),
        }
    }
}

impl From<Id<'_>> for MessageId {
    fn from(id: Id<'_>) -> Self {
        match id {
            Id::Uuid(bytes) => Self::from_uuid(bytes),
            Id::Text(text) => Self::from(&*text),
        }
    }
}

#[derive(Encode, BorrowDecode)]
enum Version<'a> {
    Number(u64),
    Text(&'a str),
}

impl<'a> From<&'a str> for Version<'a> {
    fn from(text: &'a str) -> Self {
        match text.parse::<u64>() {
            Ok(number) if number.to_string() == text => Self::Number(number),
            _ => Self::Text(text),
        }
    }
}

/// A text that is often one of a few.
#[derive(Encode, BorrowDecode)]
enum Word<'a> {
    Known(u8),
    Text(&'a str),
}

impl<'a> From<&'a str> for Word<'a> {
    fn from(text: &'a str) -> Self {
        match WORDS.iter().position(|&word| word == text) {
            Some(at) => Self::Known(at as u8),
            None => Self::Text(text),
        }
    }
}

impl<'a> Word<'a> {
    fn text(self) -> Result<&'a str, DecodeError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Known(at) => WORDS
                .get(usize::from(at))
                .copied()
                .ok_or(DecodeError::Binary("an unknown word")),
        }
    }
}

/// Part of the format: append, never reorder.
const WORDS: &[&str] = &[
    "",
    "resource",
    "meta",
    "twin",
    "user",
    "hub",
    "func",
    "edgecontroller",
    "dynamiccontroller",
    "devicecontroller",
    "policycontroller",
    "synccontroller",
    "cloudhub",
    "edged",
    "metaserver",
    "metamanager",
    "websocket",
    "edgehub",
    "insert",
    "update",
    "delete",
    "query",
    "patch",
    "response",
    "error",
    "null",
    "applicationResponse",
    "keepalive",
    "get",
];

const TAG_ACK: u8 = 0;
const TAG_PLAIN: u8 = 1;
const TAG_ZSTD: u8 = 2;
const TAG_PATCH: u8 = 3;
const ENVELOPE_AT: usize = 3;
/// The largest envelope: texts are names and paths, so this is generous. Also bincode's limit while decoding.
const ENVELOPE_MAX: usize = 16 << 10;
const CONFIG: Configuration<LittleEndian, Varint, Limit<ENVELOPE_MAX>> =
    bincode::config::standard().with_limit::<ENVELOPE_MAX>();

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CodecLimits = CodecLimits {
        message_max: 1 << 20,
        compress_min: 200,
    };

    fn pod_push() -> Message {
        let body = format!(r#"{{"kind":"Pod","spec":"{}"}}"#, "container ".repeat(50));
        let mut message = Message::new(
            Route::new(
                "edgecontroller",
                "resource",
                Operation::Insert,
                "default/pod/web-0",
            ),
            Content::from_json(body.into()),
        );
        message.header.id = MessageId::from_random([7; 16]);
        message.header.timestamp_ms = 1_795_325_356_182;
        message.header.resource_version = Some("1234".into());
        message
    }

    fn round_trip(message: &Message, zstd: bool) -> usize {
        let frame = encode(message, None, zstd, &LIMITS).unwrap();
        let size = frame.len();
        match decode(frame, &LIMITS).unwrap() {
            Received::Whole(back) => assert_eq!(back, *message),
            Received::Patched(..) => panic!("no base was given"),
        }
        size
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let mut message = pod_push();
        assert!(round_trip(&message, true) < round_trip(&message, false));
        message.header.parent_id = Some("not a uuid".into());
        message.header.resource_version = Some("007".into());
        message.route.source = "somebody-new".into();
        message.route.operation = "something-new".into();
        message.content = Content::null();
        round_trip(&message, true);
    }

    #[test]
    fn an_acknowledgement_is_seventeen_bytes() {
        assert_eq!(round_trip(&acknowledgement([9; 16]), true), 17);
        let mut with_a_time = acknowledgement([9; 16]);
        with_a_time.header.timestamp_ms = 1;
        assert!(round_trip(&with_a_time, true) > 17);
    }

    #[test]
    fn a_difference_is_told_against_the_base() {
        let message = pod_push();
        let base = Bytes::from([b"x", message.content.bytes().as_ref()].concat());
        let frame = encode(&message, Some(&base), true, &LIMITS).unwrap();
        assert!(frame.len() < 120, "{}", frame.len());
        let Received::Patched(back, patch) = decode(frame, &LIMITS).unwrap() else {
            panic!("a difference")
        };
        assert_eq!(patch.apply(&base).unwrap(), *message.content.bytes());
        assert_eq!((back.header, back.route), (message.header, message.route));
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        let mut message = pod_push();
        let tight = CodecLimits {
            message_max: 300,
            compress_min: 200,
        };
        let frame = encode(&message, None, true, &LIMITS).unwrap();
        assert!(matches!(decode(frame, &tight), Err(DecodeError::TooLarge { .. })));
        message.route.resource = "x".repeat(20_000).into();
        assert!(matches!(
            encode(&message, None, true, &LIMITS),
            Err(EncodeError::TooLarge { .. })
        ));
    }

    #[test]
    fn every_truncation_is_an_error_and_none_a_panic() {
        let frame = encode(&pod_push(), None, true, &LIMITS).unwrap();
        for end in 0..frame.len() {
            let _ = decode(frame.slice(..end), &LIMITS);
            assert!(decode(frame.slice(..end.min(60)), &LIMITS).is_err());
        }
    }

    #[test]
    fn the_format_is_written_down_in_bytes() {
        let frame = encode(&pod_push(), None, false, &LIMITS).unwrap();
        let envelope: String = frame[..56].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            envelope,
            "013f00000707070707074707870707070707070700fd2cd17503440300000100fbd20400000000070000000100121164656661756c742f70"
        );
    }
}
