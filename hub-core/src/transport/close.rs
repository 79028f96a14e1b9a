//! Close reasons as a code and a text.
//!
//! The codes are those of WebSocket (RFC 6455, section 7.4), with the private ones between 4000 and 4999.

use super::CloseReason;
use super::frame::CONTROL_MAX;

impl CloseReason {
    /// Code and text on the wire; the text is cut to what a close frame holds.
    pub(super) fn to_wire(&self) -> (u16, String) {
        let (code, text) = match self {
            Self::Shutdown => (GOING_AWAY, "shutdown"),
            Self::Superseded => (SUPERSEDED, "superseded by a newer connection"),
            Self::NodeDeleted => (NODE_DELETED, "node deleted"),
            Self::Protocol(text) => (PROTOCOL, text.as_str()),
            Self::Silence => (SILENCE, "nothing heard for too long"),
            Self::Other(text) => (NORMAL, text.as_str()),
        };
        let mut end = text.len().min(CONTROL_MAX - 2);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        (code, text[..end].to_owned())
    }

    /// The reason in a close frame of the peer. Stock peers give none.
    pub(super) fn from_wire(frame: Option<(u16, String)>) -> Self {
        match frame {
            None => Self::Other(String::new()),
            Some((GOING_AWAY, _)) => Self::Shutdown,
            Some((SUPERSEDED, _)) => Self::Superseded,
            Some((NODE_DELETED, _)) => Self::NodeDeleted,
            Some((SILENCE, _)) => Self::Silence,
            Some((PROTOCOL, text)) => Self::Protocol(text),
            Some((_, text)) => Self::Other(text),
        }
    }
}

const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const PROTOCOL: u16 = 1002;
const SUPERSEDED: u16 = 4001;
const NODE_DELETED: u16 = 4002;
const SILENCE: u16 = 4003;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_the_wire() {
        for reason in [
            CloseReason::Shutdown,
            CloseReason::Superseded,
            CloseReason::NodeDeleted,
            CloseReason::Silence,
            CloseReason::Protocol("not a message".into()),
            CloseReason::Other("moved house".into()),
        ] {
            assert_eq!(CloseReason::from_wire(Some(reason.to_wire())), reason);
        }
        assert_eq!(CloseReason::from_wire(None), CloseReason::Other(String::new()));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let (_, text) = CloseReason::Other("ä".repeat(100)).to_wire();
        assert_eq!(text, "ä".repeat(61));
    }
}
