//! stub
#![allow(missing_docs)]
pub struct QuicConfig;
pub struct QuicListener;
pub struct QuicDialer;
