//! What happens to a message that came in: a [tower] stack around the hub's handlers.
//!
//! ```text
//!   rescue     every failure becomes an outcome the peer can be told
//!   observe    counts and times, refusals and time-outs included
//!   limit      handlers at work at once, over all nodes
//!   authorize  a node touches only what is its own (the hub's own layer)
//!   timeout    a handler that hangs is given up
//!   router     by group, source, operation and kind
//!   handler    the hub's, or yours
//! ```

mod observe;
mod rescue;
mod router;

use std::convert::Infallible;
use std::time::Duration;

use tower::limit::GlobalConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder};

pub use observe::{ObserveLayer, ServiceMetrics};
pub use rescue::RescueLayer;
pub use router::{Matcher, Router};

use crate::message::Message;
use crate::node::NodeId;
use crate::session::Lane;
use crate::transport::Capabilities;

/// A message to be handled.
#[derive(Debug, Clone)]
pub struct Request {
    /// The node whose session it came on.
    pub node: NodeId,
    /// What the peer can do.
    pub capabilities: Capabilities,
    /// The message.
    pub message: Message,
}

/// What a handler has to say. [`Done`](Reply::Done) means that what was asked has happened and, where that matters, is on disk.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved twice and dropped; a box would only add an allocation"
)]
pub enum Reply {
    /// It happened: acknowledge.
    Done,
    /// It happened, and this is the answer.
    Answer(Message, Lane),
}

/// How handling a message ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// As the handler said.
    Replied(Reply),
    /// Not at all; the peer is told this reason.
    Failed(String),
}

/// Any error of a handler or layer. Its text is told to the peer, so it must not hold secrets.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The whole stack, ready for a [`Driver`](crate::driver::Driver).
pub type Handler = BoxCloneSyncService<Request, Outcome, Infallible>;

/// Limits of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Handlers at work at once, over all nodes of a hub. More of them wait.
    pub concurrency: usize,
    /// How long a handler may take.
    pub timeout: Duration,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            concurrency: 1024,
            timeout: Duration::from_secs(30),
        }
    }
}

/// The stack: `rescue → observe → limit → authorize → timeout → router → handler`.
pub fn stack<A>(router: Router, authorize: A, config: ServiceConfig, metrics: ServiceMetrics) -> Handler
where
    A: Layer<tower::timeout::Timeout<Router>>,
    A::Service: Service<Request, Response = Reply, Error = BoxError> + Clone + Send + Sync + 'static,
    <A::Service as Service<Request>>::Future: Send,
{
    let stack = ServiceBuilder::new()
        // Outermost, so that no layer's error reaches the driver.
        .layer(RescueLayer)
        // Sees what the peers get to see, refusals too.
        .layer(ObserveLayer::new(metrics))
        // Before authorization, which may ask the cluster.
        .layer(GlobalConcurrencyLimitLayer::new(config.concurrency))
        .layer(authorize)
        // Around the handler only: waiting for a place is not the handler's fault.
        .layer(TimeoutLayer::new(config.timeout))
        .service(router);
    BoxCloneSyncService::new(stack)
}

#[cfg(test)]
fn test_request(operation: &str, resource: &str) -> Request {
    use crate::message::{Content, Route};
    Request {
        node: NodeId::new("edge-1").expect("a name"),
        capabilities: Capabilities::ALL,
        message: Message::new(
            Route::new("edged", "meta", operation.into(), resource),
            Content::null(),
        ),
    }
}
