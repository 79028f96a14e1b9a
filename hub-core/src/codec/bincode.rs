use super::*;
use bytes::Bytes;
pub(super) fn encode(_: &Message, _: Option<&Bytes>, _: bool, _: &CodecLimits) -> Result<Bytes, EncodeError> {
    todo!()
}
pub(super) fn decode(_: Bytes, _: &CodecLimits) -> Result<Received, DecodeError> {
    todo!()
}
