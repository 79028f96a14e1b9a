//! What fuzzing does to the upgrade and to WebSocket frames.

use super::frame::{Role, WebSocketFraming};
use super::head::{RequestHead, ResponseHead};
use crate::transport::Endpoint;
use crate::transport::fuzz::same_however_cut;

/// Heads of the HTTP upgrade: what is read of one cannot smuggle a header into the next.
pub(crate) fn upgrade_head(data: &[u8]) {
    let _ = ResponseHead::parse(data);
    let Ok(Some((head, size))) = RequestHead::parse(data) else {
        return;
    };
    assert!(size <= data.len());
    let endpoint = Endpoint {
        host: "cloud".into(),
        port: 10000,
    };
    let written = RequestHead::write(&head.request, &endpoint, "AAAAAAAAAAAAAAAAAAAAAA==");
    // A path of another alphabet may be cut to nothing, and then there is no request.
    if let Ok(Some((again, size))) = RequestHead::parse(written.as_bytes()) {
        assert_eq!(size, written.len());
        assert_eq!(again.request.capabilities, head.request.capabilities);
        assert!(head.request.node_id.starts_with(&*again.request.node_id));
    }
    assert!(head.accept(head.request.capabilities).ends_with("\r\n\r\n"));
}

/// WebSocket frames of a client.
pub(crate) fn websocket_frame(data: &[u8]) {
    same_however_cut(data, || WebSocketFraming::new(Role::Server, 64 << 10));
}
