//! What fuzzing does to the frames of our own transports.

use super::frame::{Frame, Framing};
use super::length_prefixed::LengthPrefixed;

pub(crate) use super::websocket::fuzz::{upgrade_head, websocket_frame};

/// QUIC's frames.
pub(crate) fn quic_frame(data: &[u8]) {
    same_however_cut(data, || LengthPrefixed::new(64 << 10));
}

/// Cuts `data` into frames at once and byte by byte, which must come to the same, the error too.
pub(super) fn same_however_cut<F: Framing>(data: &[u8], framing: impl Fn() -> F) {
    let (whole, bytes) = (frames(framing(), [data]), frames(framing(), data.chunks(1)));
    assert_eq!(whole, bytes);
}

fn frames<'a, F: Framing>(mut framing: F, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, bool) {
    let mut frames = Vec::new();
    for mut piece in pieces {
        loop {
            match framing.read(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
        assert!(piece.is_empty(), "no bytes are left behind");
    }
    (frames, true)
}
