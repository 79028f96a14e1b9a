//! The verb of a message.

use std::fmt;
use std::sync::Arc;

macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)?) => {
        /// What a message asks for or reports: the verbs of KubeEdge's catalogue (tunnel specification §3.4).
        ///
        /// An operation that is not in the catalogue is carried through as [`Operation::Other`].
        #[derive(Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Operation {
            $($(#[$doc])* $variant,)+
            /// A verb outside the catalogue, as it came.
            Other(Arc<str>),
        }

        impl Operation {
            /// The verb on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for Operation {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Other(other.into()),
                }
            }
        }

        #[cfg(test)]
        const ALL: &[&str] = &[$($text),+];
    };
}

operations! {
    /// No operation at all, as in some of KubeEdge's replies.
    None = "",
    /// An object that is new to the receiver.
    Insert = "insert",
    /// An object that changed.
    Update = "update",
    /// An object that is gone.
    Delete = "delete",
    /// A question by name.
    Query = "query",
    /// A patch of an object.
    Patch = "patch",
    /// An answer, or an acknowledgement.
    Response = "response",
    /// An answer that says why there is none.
    Error = "error",
    /// The edge is alive.
    Keepalive = "keepalive",
    /// Payload of a user's topic or service.
    Upload = "upload",
    /// A held pod upgrade may go on.
    UnholdUpgrade = "unhold-upgrade",
    /// MetaServer requests carry this literal text.
    Null = "null",
    /// The answer to a MetaServer request.
    ApplicationResponse = "applicationResponse",
    /// Membership and twin questions.
    Get = "get",
    /// Their answers.
    GetResult = "get_result",
    /// A list of members.
    List = "list",
    /// The details of a membership.
    Detail = "detail",
    /// A difference between expected and actual.
    Delta = "delta",
    /// Last and current state.
    Document = "document",
    /// Something was updated.
    Updated = "updated",
    /// Something was deleted.
    Deleted = "deleted",
    /// A node connected (inside the cloud).
    Connected = "connected",
    /// A node disconnected (inside the cloud).
    Disconnected = "disconnected",
    /// The tunnel came up or went down (inside the edge).
    Connect = "connect",
    /// A topic is wanted.
    Subscribe = "subscribe",
    /// A topic is no longer wanted.
    Unsubscribe = "unsubscribe",
    /// A message of a topic.
    Message = "message",
    /// A message for a topic.
    Publish = "publish",
    /// A service endpoint begins.
    Start = "start",
    /// A service endpoint ends.
    Stop = "stop",
    /// Node task: fetch images ahead.
    Prepull = "prepull",
    /// Node task: upgrade.
    Upgrade = "upgrade",
    /// Node task: back to the version before.
    Rollback = "rollback",
    /// Node task: keep a copy.
    Backup = "backup",
    /// Node task: report of a finished action.
    UpdateNodeActionStatus = "UpdateNodeActionStatus",
    /// CSI.
    CreateVolume = "createvolume",
    /// CSI.
    DeleteVolume = "deletevolume",
    /// CSI.
    ControllerPublishVolume = "controllerpublishvolume",
    /// CSI.
    ControllerUnpublishVolume = "controllerunpublishvolume",
    /// Connection control: headers. Answered, never dispatched.
    Header = "header",
    /// Connection control. Answered, never dispatched.
    Config = "config",
    /// Connection control. Answered, never dispatched.
    Ping = "ping",
    /// Connection control. Answered, never dispatched.
    Pong = "pong",
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_print_are_inverses() {
        for text in ALL.iter().chain(&["somethingNew", "INSERT", "GET"]) {
            assert_eq!(Operation::from(*text).as_str(), *text);
        }
        assert!(
            matches!(Operation::from("Insert"), Operation::Other(_)),
            "operations are case-sensitive"
        );
    }
}
