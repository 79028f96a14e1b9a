//! stub
#![allow(missing_docs)]
pub struct WebSocketConfig;
pub struct WebSocketListener;
pub struct WebSocketDialer;
