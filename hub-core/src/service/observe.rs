//! Counts and times what is handled.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tower::{Layer, Service};

use super::{BoxError, Reply, Request};
use crate::message::Operation;

/// Labels of a handled message. Only operations of the catalogue are named, so a peer cannot make new series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    operation: String,
    result: &'static str,
}

/// The numbers of a stack.
#[derive(Debug, Clone)]
pub struct ServiceMetrics {
    handled: Family<Labels, Counter>,
    seconds: Histogram,
}

impl Default for ServiceMetrics {
    fn default() -> Self {
        // 50 µs to 13 s.
        Self {
            handled: Family::default(),
            seconds: Histogram::new(exponential_buckets(50e-6, 4.0, 10)),
        }
    }
}

impl ServiceMetrics {
    /// Makes the numbers visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "messages_handled",
            "Messages handled, by operation and result",
            self.handled.clone(),
        );
        registry.register(
            "message_handling_seconds",
            "Time a handler took",
            self.seconds.clone(),
        );
    }

    /// How many messages ended with `ok` or `error`.
    pub fn handled(&self, operation: &Operation, result: &'static str) -> u64 {
        self.handled
            .get_or_create(&Labels {
                operation: name(operation),
                result,
            })
            .get()
    }
}

fn name(operation: &Operation) -> String {
    match operation {
        Operation::Other(_) => "other".into(),
        known => known.as_str().into(),
    }
}

/// Counts and times the service inside.
#[derive(Debug, Clone)]
pub struct ObserveLayer(ServiceMetrics);

impl ObserveLayer {
    /// Counts into `metrics`.
    pub fn new(metrics: ServiceMetrics) -> Self {
        Self(metrics)
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// See [`ObserveLayer`].
#[derive(Debug, Clone)]
pub struct Observe<S> {
    inner: S,
    metrics: ServiceMetrics,
}

impl<S> Service<Request> for Observe<S>
where
    S: Service<Request, Response = Reply, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let operation = name(&request.message.route.operation);
        let metrics = self.metrics.clone();
        let reply = self.inner.call(request);
        Box::pin(async move {
            let start = Instant::now();
            let reply = reply.await;
            metrics.seconds.observe(start.elapsed().as_secs_f64());
            let result = if reply.is_ok() { "ok" } else { "error" };
            metrics.handled.get_or_create(&Labels { operation, result }).inc();
            reply
        })
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;
    use crate::service::test_request;

    #[tokio::test]
    async fn results_are_counted_by_operation() {
        let metrics = ServiceMetrics::default();
        let service =
            ObserveLayer::new(metrics.clone()).layer(tower::service_fn(|request: Request| async move {
                if request.message.route.resource.as_str() == "good" {
                    Ok(Reply::Done)
                } else {
                    Err("no".into())
                }
            }));
        for resource in ["good", "good", "bad"] {
            let _ = service
                .clone()
                .oneshot(test_request("made-up-by-a-peer", resource))
                .await;
        }
        let other = Operation::from("made-up-by-a-peer");
        assert_eq!(
            (metrics.handled(&other, "ok"), metrics.handled(&other, "error")),
            (2, 1)
        );
    }
}
