//! The one message that everything travels in, as KubeEdge has it.
//!
//! A message has a [`Header`] (who it is, whom it answers), a [`Route`] (from whom, which verb, about what) and a
//! [`Content`] (JSON text as shared bytes). Nothing here knows how it looks on the wire: that is [`codec`](crate::codec).
//! Operations and resources outside the catalogue are carried through.

mod content;
mod delivery;
mod header;
mod module;
mod operation;
mod route;
mod subject;

pub use content::{Content, ContentError};
pub use delivery::{needs_ack, resource_version_number};
pub use header::{Header, MessageId};
pub use module::{Group, Source};
pub use operation::Operation;
pub use route::{Resource, ResourceParts, Route};
pub use subject::{Kind, Subject};

/// One message between cloud and edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who it is and whom it answers.
    pub header: Header,
    /// Where from, which verb, about what.
    pub route: Route,
    /// The payload.
    pub content: Content,
}

impl Message {
    /// A message without id and time; the session gives it both when it is sent.
    pub fn new(route: Route, content: Content) -> Self {
        Self {
            header: Header::new(MessageId::NIL),
            route,
            content,
        }
    }

    /// The answer to `self`: its parent is `self`, source, group and resource are copied (tunnel specification §3.3).
    pub fn response(&self, content: Content) -> Self {
        let mut route = self.route.clone();
        route.operation = Operation::Response;
        let mut header = Header::new(MessageId::NIL);
        header.parent_id = Some(self.header.id.clone());
        Self {
            header,
            route,
            content,
        }
    }

    /// The answer that says why there is none: operation `error`, resource copied, a text a person can read. Its group is the one
    /// under which a KubeEdge edge takes it to the module that asked.
    pub fn error(&self, reason: &str) -> Self {
        let mut message = self.response(Content::string(reason));
        message.route.operation = Operation::Error;
        if let Some(group) = self.route.group_of_answers() {
            message.route.group = group.as_str().into();
        }
        message
    }

    /// Whether this answers or acknowledges another message.
    pub fn is_reply(&self) -> bool {
        self.header.parent_id.is_some()
    }
}
