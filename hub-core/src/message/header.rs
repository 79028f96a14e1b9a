//! Who a message is, whom it answers, and how old it is.

use std::fmt;
use std::sync::Arc;

use crate::object::ResourceVersion;

/// The identity of one message, unique over both ends and all time: a UUID v4 in KubeEdge.
///
/// Peers may send any text; what is not a canonical UUID is carried through as it came.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Id);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Id {
    Uuid([u8; 16]),
    Text(Arc<str>),
}

impl MessageId {
    /// The id of a message that nobody will ever answer or acknowledge.
    pub const NIL: Self = Self(Id::Uuid([0; 16]));

    /// A version 4 UUID made of 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(Id::Uuid(
            *uuid::Builder::from_random_bytes(bytes).as_uuid().as_bytes(),
        ))
    }

    /// A fresh random id. Not for the pure parts: they draw from their seed with [`from_random`](Self::from_random).
    pub fn random() -> Self {
        Self(Id::Uuid(*uuid::Uuid::new_v4().as_bytes()))
    }

    /// The 16 bytes, when this is a UUID.
    pub fn as_uuid(&self) -> Option<&[u8; 16]> {
        match &self.0 {
            Id::Uuid(bytes) => Some(bytes),
            Id::Text(_) => None,
        }
    }

    /// The id with just these 16 bytes.
    pub fn from_uuid(bytes: [u8; 16]) -> Self {
        Self(Id::Uuid(bytes))
    }
}

/// Exact inverse of `Display`: only the canonical spelling is packed into 16 bytes.
impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        if text.len() == 36
            && let Ok(uuid) = uuid::Uuid::try_parse(text)
            && uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()) == text
        {
            return Self(Id::Uuid(*uuid.as_bytes()));
        }
        Self(Id::Text(text.into()))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Id::Uuid(bytes) => uuid::Uuid::from_bytes(*bytes).hyphenated().fmt(f),
            Id::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The header of a message (KubeEdge `beehive/pkg/core/model/message.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Unique to this message; a resend keeps it.
    pub id: MessageId,
    /// The message that this one answers or acknowledges.
    pub parent_id: Option<MessageId>,
    /// Unix time in milliseconds. For people; nothing decides by it.
    pub timestamp_ms: i64,
    /// The Kubernetes version of the object in the content.
    pub resource_version: Option<ResourceVersion>,
    /// An in-process flag of KubeEdge, carried through; never true on the wire.
    pub sync: bool,
    /// An in-process selector of KubeEdge, carried through; empty on the wire.
    pub kind: Arc<str>,
}

impl Header {
    /// A header with nothing but an id.
    pub fn new(id: MessageId) -> Self {
        Self {
            id,
            parent_id: None,
            timestamp_ms: 0,
            resource_version: None,
            sync: false,
            kind: "".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_an_id_and_prints_as_it_was() {
        for text in [
            "f9c7ef19-81d4-4a1f-b149-a08d4647724d",
            "F9C7EF19-81D4-4A1F-B149-A08D4647724D",
            "f9c7ef1981d44a1fb149a08d4647724d",
            "",
            "ä",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(MessageId::from(text).to_string(), text);
        }
        assert!(
            MessageId::from("f9c7ef19-81d4-4a1f-b149-a08d4647724d")
                .as_uuid()
                .is_some()
        );
        assert_eq!(
            MessageId::from("00000000-0000-0000-0000-000000000000"),
            MessageId::NIL
        );
    }
}
