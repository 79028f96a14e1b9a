//! The frames of our own transports, QUIC and memory.
//!
//! A frame is a variable-length integer (RFC 9000, section 16) and its payload. The integer's two lowest bits are the kind, the
//! rest is the length: a ping is one byte, a message below a kilobyte has a header of two.

use bytes::Bytes;

use super::TransportError;
use super::frame::{CONTROL_MAX, Frame, Framing};
use super::outbox::Outbox;

/// Cuts frames by their length.
pub(super) struct LengthPrefixed {
    message_max: usize,
    /// The start of a header whose rest has not come.
    head: Vec<u8>,
    /// Kind and length of the frame that is coming.
    current: Option<(u8, usize)>,
    payload: Vec<u8>,
}

impl LengthPrefixed {
    pub(super) fn new(message_max: usize) -> Self {
        Self {
            message_max,
            head: Vec::new(),
            current: None,
            payload: Vec::new(),
        }
    }

    /// Reads a frame's header; false when it is not whole.
    fn begin(&mut self, input: &mut &[u8]) -> Result<bool, TransportError> {
        while let Some((byte, behind)) = input.split_first() {
            *input = behind;
            self.head.push(*byte);
            if let Some((value, _)) = read_varint(&self.head) {
                self.head = Vec::new();
                let kind = (value & 3) as u8;
                let max = if kind == MESSAGE {
                    self.message_max
                } else {
                    CONTROL_MAX
                };
                let length = usize::try_from(value >> 2)
                    .ok()
                    .filter(|length| *length <= max)
                    .ok_or_else(|| TransportError::Protocol("frame over the limit".to_owned()))?;
                self.current = Some((kind, length));
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Framing for LengthPrefixed {
    fn read(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, TransportError> {
        if self.current.is_none() && !self.begin(input)? {
            return Ok(None);
        }
        let Some((kind, length)) = self.current else {
            return Ok(None);
        };
        let missing = length - self.payload.len();
        let (come, behind) = input.split_at(input.len().min(missing));
        *input = behind;
        // Memory follows what came, by doubling, and ends at exactly what was announced.
        if self.payload.capacity() - self.payload.len() < come.len() {
            self.payload
                .reserve_exact(missing.min(come.len().max(self.payload.len())));
        }
        self.payload.extend_from_slice(come);
        if self.payload.len() < length {
            return Ok(None);
        }
        self.current = None;
        let payload = std::mem::take(&mut self.payload);
        Ok(Some(match kind {
            MESSAGE => Frame::Message(payload.into()),
            PING => Frame::Ping(payload.into()),
            PONG => Frame::Pong(payload.into()),
            _ => Frame::Close(close(&payload)?),
        }))
    }

    fn write(&mut self, frame: Frame, _text: bool, out: &mut Outbox) {
        let (kind, payload) = match frame {
            Frame::Message(bytes) => (MESSAGE, bytes),
            // Nobody writes these: messages are not cut here.
            Frame::Piece => return,
            Frame::Ping(bytes) => (PING, bytes),
            Frame::Pong(bytes) => (PONG, bytes),
            Frame::Close(None) => (CLOSE, Bytes::new()),
            Frame::Close(Some((code, text))) => {
                let mut payload = code.to_be_bytes().to_vec();
                payload.extend_from_slice(text.as_bytes());
                (CLOSE, payload.into())
            }
        };
        let (head, size) = varint((payload.len() as u64) << 2 | u64::from(kind));
        out.put(&head[..size]);
        out.share(payload);
    }
}

fn close(payload: &[u8]) -> Result<Option<(u16, String)>, TransportError> {
    if payload.is_empty() {
        return Ok(None);
    }
    payload
        .split_first_chunk()
        .and_then(|(code, text)| Some((u16::from_be_bytes(*code), std::str::from_utf8(text).ok()?)))
        .map(|(code, text)| Some((code, text.to_owned())))
        .ok_or_else(|| TransportError::Protocol("malformed close frame".to_owned()))
}

/// The bytes of an integer below 2^62, and how many they are.
fn varint(value: u64) -> ([u8; 8], usize) {
    let (size, tag) = match value {
        0..0x40 => (1, 0),
        0x40..0x4000 => (2, 1),
        0x4000..0x4000_0000 => (4, 2),
        _ => (8, 3),
    };
    let bits = value << (8 * (8 - size)) | tag << 62;
    (bits.to_be_bytes(), size)
}

/// The integer at the start of `bytes` and its size; `None` when it is not whole.
fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let size = 1 << (bytes.first()? >> 6);
    let mut value = [0; 8];
    value[8 - size..].copy_from_slice(bytes.get(..size)?);
    let mask = u64::MAX >> (64 - 8 * size + 2);
    Some((u64::from_be_bytes(value) & mask, size))
}

const MESSAGE: u8 = 0;
const PING: u8 = 1;
const PONG: u8 = 2;
const CLOSE: u8 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(framing: &mut LengthPrefixed, pieces: &[&[u8]]) -> Result<Vec<Frame>, TransportError> {
        let mut frames = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(frame) = framing.read(&mut input)? {
                frames.push(frame);
            }
            assert!(input.is_empty());
        }
        Ok(frames)
    }

    fn wire_of(frames: &[Frame]) -> Vec<u8> {
        let mut out = Outbox::default();
        for frame in frames {
            LengthPrefixed::new(0).write(frame.clone(), false, &mut out);
        }
        let mut wire = Vec::new();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(out.poll_write(&mut wire, &mut cx, &mut 0).is_ready());
        wire
    }

    #[test]
    fn a_sign_of_life_is_one_byte() {
        assert_eq!(wire_of(&[Frame::Ping(Bytes::new())]), [PING]);
        assert_eq!(wire_of(&[Frame::Message(vec![7; 1000].into())]).len(), 1002);
    }

    #[test]
    fn a_length_over_the_limit_ends_it_and_an_announced_one_takes_no_memory() {
        let mut framing = LengthPrefixed::new(1 << 20);
        let (head, size) = varint(((1 << 20) + 1) << 2);
        assert!(read_all(&mut framing, &[&head[..size]]).is_err());

        let mut framing = LengthPrefixed::new(1 << 20);
        let (head, size) = varint((1 << 20) << 2);
        assert!(
            read_all(&mut framing, &[&head[..size], b"ab"])
                .unwrap()
                .is_empty()
        );
        assert!(framing.payload.capacity() < 64);
        let (head, size) = varint(126 << 2 | u64::from(PING));
        assert!(read_all(&mut LengthPrefixed::new(1 << 20), &[&head[..size]]).is_err());
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let small = || prop::collection::vec(any::<u8>(), 0..=125).prop_map(Bytes::from);
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..70_000).prop_map(|b| Frame::Message(b.into())),
            small().prop_map(Frame::Ping),
            small().prop_map(Frame::Pong),
            Just(Frame::Close(None)),
            "[a-z]{0,120}".prop_map(|text| Frame::Close(Some((1001, text)))),
        ]
    }

    proptest! {
        #[test]
        fn integers_survive_the_wire(value in 0u64..1 << 62) {
            let (bytes, size) = varint(value);
            prop_assert_eq!(read_varint(&bytes[..size]), Some((value, size)));
            prop_assert_eq!(read_varint(&bytes[..size - 1]), None);
        }

        #[test]
        fn no_bytes_panic(wire in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let (a, b) = wire.split_at(cut.min(wire.len()));
            let _ = read_all(&mut LengthPrefixed::new(1 << 20), &[a, b]);
        }

        #[test]
        fn frames_survive_the_wire_however_it_is_cut(
            frames in prop::collection::vec(any_frame(), 0..5),
            step in 1usize..5000,
        ) {
            let wire = wire_of(&frames);
            let pieces: Vec<_> = wire.chunks(step).collect();
            prop_assert_eq!(read_all(&mut LengthPrefixed::new(1 << 20), &pieces).unwrap(), frames);
        }
    }
}
