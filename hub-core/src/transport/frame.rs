//! The frames that all transports have in common, whatever they look like on the wire.

use bytes::Bytes;

use super::TransportError;
use super::outbox::Outbox;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A whole message, encoded.
    Message(Bytes),
    /// A piece of a message whose end has not come: a sign of life. Only read.
    Piece,
    /// Asks for a [`Frame::Pong`] with the same content. At most 125 bytes.
    Ping(Bytes),
    /// Answers a ping.
    Pong(Bytes),
    /// The last frame: a code and a text, or nothing.
    Close(Option<(u16, String)>),
}

/// How frames are cut out of a stream of bytes, and laid into one.
pub(super) trait Framing: Send + Unpin + 'static {
    /// Takes bytes off the front of `input` until a frame is whole. `None` means that all were taken and more are needed.
    ///
    /// Memory grows with the bytes that came, never with a length that was only announced. An error is final.
    fn read(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, TransportError>;

    /// Lays a frame into the outbox. Messages are text frames where the wire knows such and `text` is set.
    fn write(&mut self, frame: Frame, text: bool, out: &mut Outbox);
}

/// The longest content of a ping, pong or close frame (RFC 6455, section 5.5).
pub(super) const CONTROL_MAX: usize = 125;
