//! The message, the session, the wire and the store that CloudHub, EdgeHub and metaServer share.
//!
//! | To | look at |
//! |---|---|
//! | send and receive messages of KubeEdge | [`message`], [`codec`], [`transport`] |
//! | deliver them over links that break | [`session`], and [`driver`], the task that owns one |
//! | handle what comes | [`service`]: a tower stack around a router |
//! | find out what a returning node lacks | [`catch_up`] |
//! | keep objects and follow their changes | [`store`], [`object`], [`scope`], [`selector`], [`registry`] |
//! | speak of requests to a Kubernetes API | [`api`], [`strategic`], [`apply`], and [`application`], KubeEdge's form of them |
//!
//! A [`Session`](session::Session) is a plain value, so a conversation needs neither a socket nor a clock:
//!
//! ```
//! use std::time::Instant;
//!
//! use hub_core::message::{Content, Message, Operation, Route};
//! use hub_core::session::{Delivery, Event, Lane, Outgoing, Session, SessionConfig};
//! use hub_core::transport::{Capabilities, Outbound};
//!
//! let now = Instant::now();
//! let mut cloud = Session::new(SessionConfig::cloud(), 1);
//! let mut edge = Session::new(SessionConfig::edge(), 2);
//! cloud.attach(Capabilities::ALL, 0, now);
//! edge.attach(Capabilities::ALL, 0, now);
//!
//! let route = Route::new("edgecontroller", "resource", Operation::Update, "default/configmap/colours");
//! let outgoing = Outgoing {
//!     key: "default/configmap/colours".into(),
//!     version: Some(7),
//!     lane: Lane::Own,
//!     delivery: Delivery::Acked,
//!     message: Message::new(route, Content::encode(&["blue", "green"])),
//!     previous: None,
//! };
//! cloud.send(outgoing, now)?;
//!
//! // What the cloud says goes to the edge, whose handler stores it.
//! while let Some(frame) = cloud.poll_transmit(now) {
//!     if let Outbound::Message { message, .. } = frame {
//!         edge.handle_message(message, now);
//!     }
//! }
//! let Some(Event::Inbound(message)) = edge.poll_event() else { panic!("nothing came") };
//! edge.ack(&message.header.id, now);
//!
//! // Only now, and however often the link breaks before, the message is delivered.
//! while let Some(frame) = edge.poll_transmit(now) {
//!     if let Outbound::Message { message, .. } = frame {
//!         cloud.handle_message(message, now);
//!     }
//! }
//! assert!(matches!(cloud.poll_event(), Some(Event::Delivered { version: Some(7), .. })));
//! # Ok::<(), hub_core::session::Full>(())
//! ```

pub mod api;
pub mod application;
pub mod apply;
pub mod backoff;
pub mod body;
pub mod catch_up;
pub mod clock;
pub mod codec;
pub mod credentials;
pub mod discovery;
pub mod driver;
pub mod handle;
pub mod message;
pub mod node;
pub mod object;
pub mod random;
pub mod rbac;
pub mod registry;
pub mod scope;
pub mod selector;
pub mod service;
pub mod service_account;
pub mod session;
pub mod socket;
pub mod source;
pub mod store;
pub mod strategic;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod transport;
