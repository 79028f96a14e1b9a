//! What stands around messages: the envelope of an answer, a list, an event of a watch. Messages are pieces of it as they are.

use bytes::{Buf as _, Bytes};

use super::{EncodeError, raw, wire};
use crate::body::Slices;

/// An answer: the prefix and `runtime.Unknown`.
pub(crate) fn envelope(api_version: &str, kind: &str, message: Slices) -> Slices {
    let mut head = PREFIX.to_vec();
    let content = wire::open(&mut head, 1);
    wire::bytes(&mut head, 1, api_version.as_bytes());
    wire::bytes(&mut head, 2, kind.as_bytes());
    wire::close(&mut head, content);
    wire::tag(&mut head, 2, wire::BYTES);
    wire::varint(&mut head, message.remaining() as u64);
    let mut slices = Slices::from(Bytes::from(head));
    slices.append(message);
    // Content encoding and content type, empty.
    slices.push(Bytes::from_static(&[0x1a, 0, 0x22, 0]));
    slices
}

/// A list with its `metadata` as JSON and its items as messages.
pub(crate) fn list(
    api_version: &str,
    kind: &str,
    metadata: &str,
    items: &[Bytes],
) -> Result<Slices, EncodeError> {
    let metadata = raw("meta.k8s.io/v1", "ListMeta", metadata.as_bytes())?;
    // The first lists of metadata had their fields the other way round.
    let (of_metadata, of_items) =
        if (api_version, kind) == ("meta.k8s.io/v1beta1", "PartialObjectMetadataList") {
            (2, 1)
        } else {
            (1, 2)
        };
    let mut slices = Slices::default();
    let mut head = Vec::new();
    if of_metadata == 1 {
        wire::bytes(&mut head, 1, &metadata);
    }
    for item in items {
        wire::tag(&mut head, of_items, wire::BYTES);
        wire::varint(&mut head, item.len() as u64);
        slices.push(std::mem::take(&mut head));
        slices.push(item.clone());
    }
    if of_metadata == 2 {
        wire::bytes(&mut head, 2, &metadata);
    }
    slices.push(head);
    Ok(envelope(api_version, kind, slices))
}

/// An event of a watch: its length in four bytes and a `WatchEvent`. The object has its envelope already.
pub(crate) fn event(slices: &mut Slices, kind: &str, object: Slices) {
    let mut raw = Vec::new();
    wire::tag(&mut raw, 1, wire::BYTES);
    wire::varint(&mut raw, object.remaining() as u64);
    let mut event = Vec::new();
    wire::bytes(&mut event, 1, kind.as_bytes());
    wire::tag(&mut event, 2, wire::BYTES);
    wire::varint(&mut event, (raw.len() + object.remaining()) as u64);
    event.append(&mut raw);
    let length = event.len() + object.remaining();
    // An object of 4 GiB is refused long before it comes here.
    let mut head = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    head.append(&mut event);
    slices.push(head);
    slices.append(object);
}

const PREFIX: &[u8] = b"k8s\0";
