use super::*;
use bytes::Bytes;
pub(super) fn encode(_: &Message, _: &CodecLimits) -> Result<Bytes, EncodeError> {
    todo!()
}
pub(super) fn decode(_: Bytes) -> Result<Message, DecodeError> {
    todo!()
}
