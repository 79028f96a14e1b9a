//! WebSocket frames.

use std::io::Cursor;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::random::Random;
use crate::transport::TransportError;
use crate::transport::frame::{CONTROL_MAX, Frame, Framing};
use crate::transport::outbox::Outbox;

/// Cuts WebSocket frames, puts fragments together and masks what a client sends.
///
/// Whether text is UTF-8 is left to the JSON reader, which looks at every byte anyway.
pub(super) struct WebSocketFraming {
    message_max: usize,
    role: Role,
    /// The start of a frame header whose rest has not come.
    head: Vec<u8>,
    /// The frame whose payload is coming.
    current: Option<Current>,
    /// The message so far, over all its fragments.
    message: Vec<u8>,
    /// A fragment came and its message has not ended.
    fragmented: bool,
}

/// Which end we are.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// Expects masked frames.
    Server,
    /// Masks its frames, with these masks.
    Client(Random),
}

struct Current {
    header: FrameHeader,
    /// Bytes of the payload still to come.
    missing: usize,
    /// Where in the mask the next byte stands.
    phase: usize,
    /// A control frame's payload; data goes to the message.
    control: Vec<u8>,
}

impl WebSocketFraming {
    pub(super) fn new(role: Role, message_max: usize) -> Self {
        Self {
            message_max,
            role,
            head: Vec::new(),
            current: None,
            message: Vec::new(),
            fragmented: false,
        }
    }

    /// Reads the header of a frame, checks it, and says whether one was whole.
    fn begin(&mut self, input: &mut &[u8]) -> Result<bool, TransportError> {
        // A header is parsed where it lies; only one that is cut apart is copied.
        let kept = self.head.len();
        let take = input.len().min(HEADER_MAX - kept);
        let parsed = if kept == 0 {
            parse(&input[..take])?
        } else {
            self.head.extend_from_slice(&input[..take]);
            parse(&self.head)?
        };
        let Some((header, length, size)) = parsed else {
            if kept == 0 {
                self.head.extend_from_slice(&input[..take]);
            }
            *input = &input[take..];
            return Ok(false);
        };
        *input = &input[size - kept..];
        self.head = Vec::new();
        self.check(&header, length)?;
        let missing = usize::try_from(length).map_err(|_| protocol("frame too large"))?;
        self.current = Some(Current {
            header,
            missing,
            phase: 0,
            control: Vec::new(),
        });
        Ok(true)
    }

    fn check(&self, header: &FrameHeader, length: u64) -> Result<(), TransportError> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(protocol("reserved bits are set"));
        }
        if header.mask.is_some() != matches!(self.role, Role::Server) {
            return Err(protocol("wrong masking"));
        }
        match header.opcode {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                Err(protocol("unknown opcode"))
            }
            OpCode::Control(_) if !header.is_final || length > CONTROL_MAX as u64 => {
                Err(protocol("control frame too long"))
            }
            OpCode::Control(_) => Ok(()),
            OpCode::Data(Data::Continue) if !self.fragmented => Err(protocol("nothing to continue")),
            OpCode::Data(Data::Text | Data::Binary) if self.fragmented => {
                Err(protocol("a fragment is missing"))
            }
            OpCode::Data(_) => {
                let size = (self.message.len() as u64).saturating_add(length);
                if size > self.message_max as u64 {
                    return Err(protocol("message over the limit"));
                }
                Ok(())
            }
        }
    }

    /// Takes payload of the current frame.
    fn fill(&mut self, input: &mut &[u8]) {
        let Some(current) = &mut self.current else { return };
        let take = input.len().min(current.missing);
        let (payload, behind) = input.split_at(take);
        *input = behind;
        let into = match current.header.opcode {
            OpCode::Control(_) => &mut current.control,
            OpCode::Data(_) => &mut self.message,
        };
        // Memory follows what came, by doubling. Where the end is known, it ends exactly there.
        if current.header.is_final && into.capacity() - into.len() < take {
            into.reserve_exact(current.missing.min(take.max(into.len())));
        }
        let start = into.len();
        into.extend_from_slice(payload);
        if let Some(mask) = current.header.mask {
            apply_mask(&mut into[start..], mask, current.phase);
            current.phase = (current.phase + take) % 4;
        }
        current.missing -= take;
    }

    /// The frame is whole. Of a message its last fragment gives all.
    fn end(&mut self, current: Current) -> Result<Option<Frame>, TransportError> {
        let header = current.header;
        Ok(match header.opcode {
            OpCode::Control(Control::Ping) => Some(Frame::Ping(current.control.into())),
            OpCode::Control(Control::Pong) => Some(Frame::Pong(current.control.into())),
            OpCode::Control(_) => Some(Frame::Close(close(&current.control)?)),
            OpCode::Data(_) if header.is_final => {
                self.fragmented = false;
                let mut message = std::mem::take(&mut self.message);
                message.shrink_to_fit();
                Some(Frame::Message(message.into()))
            }
            OpCode::Data(_) => {
                self.fragmented = true;
                Some(Frame::Piece)
            }
        })
    }

    /// One frame, or one fragment of a message.
    fn lay(&mut self, opcode: OpCode, is_final: bool, payload: Bytes, out: &mut Outbox) {
        let mask = match &mut self.role {
            Role::Server => None,
            Role::Client(masks) => Some(next_mask(masks)),
        };
        let header = FrameHeader {
            is_final,
            opcode,
            mask,
            ..FrameHeader::default()
        };
        let mut head = [0; HEADER_MAX];
        let mut cursor = Cursor::new(&mut head[..]);
        header
            .format(payload.len() as u64, &mut cursor)
            .expect("the longest header fits");
        let size = usize::try_from(cursor.position()).unwrap_or(HEADER_MAX);
        out.put(&head[..size]);
        match mask {
            None => out.share(payload),
            Some(mask) => apply_mask(out.put_mut(&payload), mask, 0),
        }
    }
}

impl Framing for WebSocketFraming {
    fn read(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, TransportError> {
        loop {
            if self.current.is_none() && (input.is_empty() || !self.begin(input)?) {
                return Ok(None);
            }
            self.fill(input);
            if let Some(whole) = self.current.take_if(|current| current.missing == 0) {
                if let Some(frame) = self.end(whole)? {
                    return Ok(Some(frame));
                }
            } else {
                return Ok(None);
            }
        }
    }

    fn write(&mut self, frame: Frame, text: bool, out: &mut Outbox) {
        let (opcode, mut payload) = match frame {
            Frame::Message(bytes) if text => (OpCode::Data(Data::Text), bytes),
            Frame::Message(bytes) => (OpCode::Data(Data::Binary), bytes),
            // Nobody writes these: a message is cut below.
            Frame::Piece => return,
            Frame::Ping(bytes) => (OpCode::Control(Control::Ping), bytes),
            Frame::Pong(bytes) => (OpCode::Control(Control::Pong), bytes),
            Frame::Close(None) => (OpCode::Control(Control::Close), Bytes::new()),
            Frame::Close(Some((code, text))) => {
                let mut payload = code.to_be_bytes().to_vec();
                payload.extend_from_slice(text.as_bytes());
                (OpCode::Control(Control::Close), payload.into())
            }
        };
        let mut opcode = opcode;
        while payload.len() > FRAGMENT {
            let piece = payload.split_to(FRAGMENT);
            self.lay(opcode, false, piece, out);
            out.end_frame();
            opcode = OpCode::Data(Data::Continue);
        }
        self.lay(opcode, true, payload, out);
        out.end_frame();
    }
}

/// The header at the start of `bytes`, the length of its payload and its own size. `None` when it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, TransportError> {
    let mut cursor = Cursor::new(bytes);
    let parsed =
        FrameHeader::parse(&mut cursor).map_err(|error| TransportError::Protocol(error.to_string()))?;
    let size = usize::try_from(cursor.position()).unwrap_or(HEADER_MAX);
    Ok(parsed.map(|(header, length)| (header, length, size)))
}

fn close(payload: &[u8]) -> Result<Option<(u16, String)>, TransportError> {
    let Some((code, text)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(protocol("malformed close frame"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(protocol("forbidden close code"));
    }
    let text = std::str::from_utf8(text).map_err(|_| protocol("malformed close frame"))?;
    Ok(Some((code, text.to_owned())))
}

fn apply_mask(bytes: &mut [u8], mut mask: [u8; 4], phase: usize) {
    mask.rotate_left(phase % 4);
    let mut words = bytes.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, mask) in word.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Masks guard plain-text proxies against chosen bytes; ours go through TLS, where no proxy sees them.
fn next_mask(masks: &mut Random) -> [u8; 4] {
    (masks.number() as u32).to_be_bytes()
}

fn protocol(text: &str) -> TransportError {
    TransportError::Protocol(text.to_owned())
}

/// Messages beyond this are cut, so that a pong can leave between two pieces.
const FRAGMENT: usize = 64 << 10;
/// The longest frame header: two bytes, eight of length, four of mask.
const HEADER_MAX: usize = 14;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server() -> WebSocketFraming {
        WebSocketFraming::new(Role::Server, 1 << 20)
    }

    fn client() -> WebSocketFraming {
        WebSocketFraming::new(Role::Client(Random::new(7)), 1 << 20)
    }

    fn bytes_of(out: &mut Outbox) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut written = 0;
        let waker = std::task::Waker::noop();
        let done = out.poll_write(
            &mut bytes,
            &mut std::task::Context::from_waker(waker),
            &mut written,
        );
        assert!(done.is_ready());
        assert_eq!(written, bytes.len() as u64);
        bytes
    }

    fn read_all(framing: &mut WebSocketFraming, pieces: &[&[u8]]) -> Result<Vec<Frame>, TransportError> {
        let mut frames = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(frame) = framing.read(&mut input)? {
                if frame != Frame::Piece {
                    frames.push(frame);
                }
            }
            assert!(input.is_empty());
        }
        Ok(frames)
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            n @ 0..=125 => bytes.push(n as u8),
            n => {
                bytes.push(126);
                bytes.extend_from_slice(&(n as u16).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn what_a_go_server_cuts_apart_comes_together_again() {
        let text = "x".repeat(9000);
        for cut in [4082, 9000] {
            let mut wire = frame(0x01, &text.as_bytes()[..cut]);
            wire.extend(frame(0x89, b"between"));
            wire.extend(frame(0x80, &text.as_bytes()[cut..]));
            let frames = read_all(&mut client(), &[&wire]).unwrap();
            assert_eq!(
                frames,
                [Frame::Ping("between".into()), Frame::Message(text.clone().into())]
            );
        }
    }

    #[test]
    fn a_pong_leaves_between_two_pieces_of_a_large_message() {
        for (mut from, mut to) in [(server(), client()), (client(), server())] {
            let large = Frame::Message(vec![b' '; 300_000].into());
            let (mut out, mut pong) = (Outbox::default(), Outbox::default());
            from.write(large.clone(), true, &mut out);
            from.write(Frame::Pong("there".into()), true, &mut pong);
            assert!(out.interpose(pong));
            let wire = bytes_of(&mut out);
            assert_eq!(
                read_all(&mut to, &[&wire[..80_000]]).unwrap(),
                [Frame::Pong("there".into())]
            );
            assert_eq!(read_all(&mut to, &[&wire[80_000..]]).unwrap(), [large]);
        }
    }

    #[test]
    fn each_piece_of_a_message_is_a_sign_of_life() {
        let (mut from, mut to, mut out) = (client(), server(), Outbox::default());
        from.write(Frame::Message(vec![b' '; 200_000].into()), true, &mut out);
        let wire = bytes_of(&mut out);
        let mut input = &wire[..70_000];
        assert_eq!(to.read(&mut input).unwrap(), Some(Frame::Piece));
    }

    #[test]
    fn broken_protocol_is_told() {
        let too_large = [0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 1];
        let cases: [(&str, Vec<u8>); 8] = [
            ("reserved bits", frame(0xc1, b"")),
            ("opcode", frame(0x83, b"")),
            ("continue", frame(0x80, b"")),
            ("missing", [frame(0x01, b"a"), frame(0x81, b"b")].concat()),
            ("control", frame(0x09, b"")),
            ("control", frame(0x89, &[0; 126])),
            ("limit", too_large.to_vec()),
            ("close", frame(0x88, &[1])),
        ];
        for (what, wire) in cases {
            let error = read_all(&mut client(), &[&wire]).unwrap_err().to_string();
            assert!(error.contains(what), "{what}: {error}");
        }
        let error = read_all(&mut server(), &[&frame(0x81, b"{}")]).unwrap_err();
        assert!(error.to_string().contains("masking"));
    }

    #[test]
    fn the_fragments_of_a_message_together_keep_the_limit() {
        let mut framing = WebSocketFraming::new(Role::Client(Random::new(7)), 1000);
        let mut wire = frame(0x01, &[b' '; 600]);
        assert!(read_all(&mut framing, &[&wire]).unwrap().is_empty());
        wire[0] = 0x00;
        assert!(read_all(&mut framing, &[&wire]).is_err());
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut framing = WebSocketFraming::new(Role::Client(Random::new(7)), 1 << 30);
        let wire = [0x82, 127, 0, 0, 0, 0, 0x3f, 0, 0, 0, b'a', b'b'];
        assert!(read_all(&mut framing, &[&wire]).unwrap().is_empty());
        assert!(framing.message.capacity() < 64);
    }

    #[test]
    fn a_whole_message_leaves_nothing_behind() {
        let mut framing = client();
        let wire = frame(0x81, &[b' '; 60_000]);
        let (a, b) = wire.split_at(30_000);
        assert_eq!(read_all(&mut framing, &[a, b]).unwrap().len(), 1);
        assert_eq!((framing.message.capacity(), framing.head.capacity()), (0, 0));
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let small = || prop::collection::vec(any::<u8>(), 0..125).prop_map(Bytes::from);
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
        fn no_bytes_panic(wire in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let (a, b) = wire.split_at(cut.min(wire.len()));
            let _ = read_all(&mut server(), &[a, b]);
            let _ = read_all(&mut client(), &[a, b]);
        }

        #[test]
        fn frames_survive_the_wire_however_it_is_cut(
            frames in prop::collection::vec(any_frame(), 0..5),
            step in 1usize..5000,
        ) {
            let (mut from, mut to) = (client(), server());
            let mut out = Outbox::default();
            for frame in &frames {
                from.write(frame.clone(), true, &mut out);
            }
            let wire = bytes_of(&mut out);
            let pieces: Vec<_> = wire.chunks(step).collect();
            prop_assert_eq!(read_all(&mut to, &pieces).unwrap(), frames);
        }
    }
}
