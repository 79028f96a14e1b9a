//! Turns every error below into an outcome that the peer can be told.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::{BoxError, Outcome, Reply, Request};

/// Makes a service infallible. The one place where boxed errors end.
#[derive(Debug, Clone, Copy, Default)]
pub struct RescueLayer;

/// See [`RescueLayer`].
#[derive(Debug, Clone)]
pub struct Rescue<S>(S);

impl<S> Layer<S> for RescueLayer {
    type Service = Rescue<S>;

    fn layer(&self, inner: S) -> Rescue<S> {
        Rescue(inner)
    }
}

impl<S> Service<Request> for Rescue<S>
where
    S: Service<Request, Response = Reply, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Outcome;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Outcome, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A stack that is not ready for good fails each message by itself, in `call`.
        self.0.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let message = request.message.route.clone();
        let node = request.node.clone();
        let reply = self.0.call(request);
        Box::pin(async move {
            Ok(match reply.await {
                Ok(reply) => Outcome::Replied(reply),
                Err(error) => {
                    tracing::debug!(%node, operation = %message.operation, resource = %message.resource, %error, "message refused");
                    Outcome::Failed(error.to_string())
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;
    use crate::service::test_request;

    #[tokio::test]
    async fn an_error_becomes_a_reason_for_the_peer() {
        let service = RescueLayer.layer(tower::service_fn(|_| async { Err("the disk is full".into()) }));
        let outcome = service
            .oneshot(test_request("insert", "default/pod/a"))
            .await
            .unwrap();
        assert!(matches!(outcome, Outcome::Failed(reason) if reason == "the disk is full"));
    }
}
