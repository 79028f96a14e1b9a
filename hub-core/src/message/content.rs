//! The payload of a message: JSON text as shared bytes, never parsed on the way through.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The payload of a message: one JSON value as it stands on the wire. Cloning shares the bytes.
///
/// Equality is equality of bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Bytes);

/// The content is not what the reader expected. The peer's move.
#[derive(Debug, thiserror::Error)]
#[error("content is not {expected}: {source}")]
pub struct ContentError {
    expected: &'static str,
    source: serde_json::Error,
}

const NULL: &[u8] = b"null";

impl Content {
    /// No content: JSON `null`.
    pub const fn null() -> Self {
        Self(Bytes::from_static(NULL))
    }

    /// The word that acknowledges: the JSON string `"OK"`.
    pub const fn ok() -> Self {
        Self(Bytes::from_static(b"\"OK\""))
    }

    /// Bytes that are JSON text already, such as a Kubernetes object. Empty bytes stand for `null`.
    ///
    /// The text is not checked; a codec that must embed it in a JSON document checks it there.
    pub fn from_json(json: Bytes) -> Self {
        if json.is_empty() { Self::null() } else { Self(json) }
    }

    /// A JSON string.
    pub fn string(text: &str) -> Self {
        Self::encode(&text)
    }

    /// The JSON text of a value.
    pub fn encode<T: Serialize>(value: &T) -> Self {
        // Only a map with keys that are not strings, or a failing `Serialize`, could err; null tells the peer "nothing".
        Self(serde_json::to_vec(value).map_or(Bytes::from_static(NULL), Bytes::from))
    }

    /// Whether there is none.
    pub fn is_null(&self) -> bool {
        self.0.as_ref() == NULL
    }

    /// Whether this is the acknowledging word.
    pub fn is_ok(&self) -> bool {
        self.0.as_ref() == b"\"OK\""
    }

    /// The JSON text.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The characters, when the content is a JSON string.
    pub fn as_string(&self) -> Option<String> {
        serde_json::from_slice(&self.0).ok()
    }

    /// The JSON document inside: the content itself, or the text in it when it is a string that holds JSON.
    /// KubeEdge's consumers accept both, and its producers send both (tunnel specification §3.2).
    pub fn document(&self) -> Cow<'_, [u8]> {
        if self.0.first() == Some(&b'"')
            && let Some(text) = self.as_string()
        {
            return Cow::Owned(text.into_bytes());
        }
        Cow::Borrowed(&self.0)
    }

    /// The document as shared bytes; no copy is made of an object.
    pub fn document_bytes(&self) -> Bytes {
        match self.document() {
            Cow::Borrowed(_) => self.0.clone(),
            Cow::Owned(text) => text.into(),
        }
    }

    /// Parses the [document](Self::document).
    pub fn decode<T: DeserializeOwned>(&self, expected: &'static str) -> Result<T, ContentError> {
        serde_json::from_slice(&self.document()).map_err(|source| ContentError { expected, source })
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::null()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 120;
        let head = String::from_utf8_lossy(&self.0[..self.0.len().min(SHOWN)]);
        if self.0.len() > SHOWN {
            write!(f, "{head}… ({} bytes)", self.0.len())
        } else {
            f.write_str(&head)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_may_come_as_itself_or_inside_a_string() {
        let plain = Content::from_json(Bytes::from_static(br#"{"a":1}"#));
        let quoted = Content::string(r#"{"a":1}"#);
        assert_eq!(plain.document(), quoted.document());
        assert_eq!(quoted.document_bytes().as_ref(), br#"{"a":1}"#);
    }

    #[test]
    fn empty_bytes_are_null() {
        assert!(Content::from_json(Bytes::new()).is_null());
        assert!(Content::string("OK").is_ok());
    }
}
