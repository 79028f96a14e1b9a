//! KubeEdge's *application*: a request to the Kubernetes API as the content of a message (tunnel specification §6.5).
//!
//! Between our own ends an application carries one more field, `Tunnel`, with what KubeEdge's form cannot say: the query string as
//! it came, the media types, the HTTP status code. Stock peers ignore it, and it is ignored where it is missing.

mod answer;
mod options;
mod request;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::api::User;
use crate::message::{Content, Message, Operation, Route};

/// The source of requests.
pub const SOURCE_EDGE: &str = "metaserver";
/// The source of answers, and of the events of watches.
pub const SOURCE_CLOUD: &str = "dynamiccontroller";
/// The resource of a message that carries all watches an edge still wants.
pub const WATCH_SYNC: &str = "watchapp/sync";
/// The resource of every other answer.
const ANSWER: &str = "ignore/Application/ignore";

/// A request, and its answer once there is one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Application {
    /// Hex SHA-256 of what is asked.
    #[serde(rename = "ID")]
    pub id: String,
    /// `/<group or core>/<version>/<resource>/<namespace or null>/<name or null>`, or a path such as `/version`.
    pub key: String,
    /// `get`, `list`, `watch`, `create`, `update`, `updatestatus`, `patch`, `delete`.
    pub verb: String,
    /// Who asks. The cloud goes by the connection, never by this.
    pub nodename: String,
    /// The options object of the verb, JSON.
    pub option: Blob,
    /// The object of the request, JSON.
    pub req_body: Blob,
    /// `status`, …
    pub subresource: String,
    /// The object or list of the answer.
    pub resp_body: Blob,
    /// `InApplying`, `Approved`, `Rejected`, …
    pub status: String,
    /// Why it failed, where the API server had no part in it.
    pub reason: String,
    /// Why it failed, in the API server's words.
    pub error: ApplicationError,
    /// Bookkeeping of KubeEdge's.
    #[serde(deserialize_with = "null_is_default")]
    pub timestamp: String,
    /// What KubeEdge's form cannot say; only between our own ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Extension>,
}

/// Bytes, as Go writes them: base64, or null for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Bytes);

/// The error of an application; always there, empty for success.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplicationError {
    /// A `metav1.Status`.
    #[serde(rename = "ErrStatus")]
    pub status: Option<Box<RawValue>>,
}

impl PartialEq for ApplicationError {
    fn eq(&self, other: &Self) -> bool {
        self.status.as_ref().map(|s| s.get()) == other.status.as_ref().map(|s| s.get())
    }
}

/// What our own ends add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Extension {
    /// The query string.
    pub query: String,
    /// The media type of the request's or the answer's body.
    pub content_type: String,
    /// What the client accepts.
    pub accept: String,
    /// The HTTP status code of the answer.
    pub code: u16,
    /// In whose name the node asks, where it does not ask for itself. The cloud decides what that is worth: a node can say
    /// anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// What the API server warns of in its answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The content is no request that an API server could understand. The peer's move.
#[derive(Debug, thiserror::Error)]
pub enum InvalidApplication {
    /// Not the JSON of an application.
    #[error(transparent)]
    Content(#[from] crate::message::ContentError),
    /// `Verb` is none of KubeEdge's.
    #[error("unknown verb {0:?}")]
    Verb(String),
    /// `Key` is neither an object nor a path.
    #[error("unknown key {0:?}")]
    Key(String),
    /// `Option` does not fit the verb.
    #[error("malformed options: {0}")]
    Option(#[from] serde_json::Error),
}

impl Application {
    /// The message that asks.
    pub fn to_message(&self) -> Message {
        Message::new(
            Route::new(SOURCE_EDGE, SOURCE_CLOUD, Operation::Null, "null"),
            Content::encode(self),
        )
    }

    /// The message that answers `request` with this application.
    pub fn to_answer(&self, request: &Message) -> Message {
        answer(request, ANSWER, Content::encode(self))
    }

    /// The application in a message.
    pub fn from_content(content: &Content) -> Result<Self, InvalidApplication> {
        Ok(content.decode("an application")?)
    }

    /// Hex SHA-256 over node, key, verb, options, body and subresource: equal questions have equal ids.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let parts: [&[u8]; 6] = [
            self.nodename.as_bytes(),
            self.key.as_bytes(),
            self.verb.as_bytes(),
            &self.option.0,
            &self.req_body.0,
            self.subresource.as_bytes(),
        ];
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The answer to a `watchapp/sync`, or to another message with that resource: what could not be watched.
pub fn answer_watch_sync(request: &Message, failed: Content) -> Message {
    answer(request, WATCH_SYNC, failed)
}

fn answer(request: &Message, resource: &str, content: Content) -> Message {
    let mut message = request.response(content);
    message.route = Route::new(SOURCE_CLOUD, "resource", Operation::ApplicationResponse, resource);
    message
}

impl ApplicationError {
    /// What KubeEdge writes where there is no error.
    pub fn none() -> Self {
        Self {
            status: RawValue::from_string(r#"{"metadata":{}}"#.into()).ok(),
        }
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            serializer.serialize_none()
        } else {
            serializer.serialize_str(&BASE64.encode(&self.0))
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<Cow<'de, str>>::deserialize(deserializer)? {
            None => Ok(Self::default()),
            Some(text) => BASE64
                .decode(text.as_bytes())
                .map(|bytes| Self(bytes.into()))
                .map_err(serde::de::Error::custom),
        }
    }
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
