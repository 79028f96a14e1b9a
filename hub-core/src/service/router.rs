//! Which handler a message goes to.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use super::{BoxError, Reply, Request};
use crate::message::{Message, Operation};

/// What a route wants of a message. What is left out may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matcher {
    group: Option<Arc<str>>,
    source: Option<Arc<str>>,
    operation: Option<Operation>,
    kind: Option<Arc<str>>,
    prefix: Option<Arc<str>>,
    suffix: Option<Arc<str>>,
}

impl Matcher {
    /// Any message.
    pub fn any() -> Self {
        Self::default()
    }

    /// Of this group.
    #[must_use]
    pub fn group(self, group: &str) -> Self {
        Self {
            group: Some(group.into()),
            ..self
        }
    }

    /// From this source.
    #[must_use]
    pub fn source(self, source: &str) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }

    /// With this operation.
    #[must_use]
    pub fn operation(self, operation: Operation) -> Self {
        Self {
            operation: Some(operation),
            ..self
        }
    }

    /// About this kind: the second segment of `<namespace>/<kind>[/<name>]`.
    #[must_use]
    pub fn kind(self, kind: &str) -> Self {
        Self {
            kind: Some(kind.into()),
            ..self
        }
    }

    /// With a resource text that begins like this.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        Self {
            prefix: Some(prefix.into()),
            ..self
        }
    }

    /// With a resource text that ends like this.
    #[must_use]
    pub fn suffix(self, suffix: &str) -> Self {
        Self {
            suffix: Some(suffix.into()),
            ..self
        }
    }

    fn matches(&self, message: &Message) -> bool {
        let route = &message.route;
        let is =
            |wanted: &Option<Arc<str>>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        is(&self.group, &route.group)
            && is(&self.source, &route.source)
            && self
                .operation
                .as_ref()
                .is_none_or(|wanted| *wanted == route.operation)
            && (self.kind.is_none() || is(&self.kind, route.resource.parts().map_or("", |p| p.kind)))
            && self
                .prefix
                .as_deref()
                .is_none_or(|prefix| route.resource.as_str().starts_with(prefix))
            && self
                .suffix
                .as_deref()
                .is_none_or(|suffix| route.resource.as_str().ends_with(suffix))
    }
}

type BoxHandler = BoxCloneSyncService<Request, Reply, BoxError>;

/// Hands each message to the first route that matches. A message that no route wants is an error, never silence.
#[derive(Clone, Default)]
pub struct Router {
    routes: Arc<Vec<(Matcher, BoxHandler)>>,
}

impl Router {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route behind the others.
    #[must_use]
    pub fn route<H>(mut self, matcher: Matcher, handler: H) -> Self
    where
        H: Service<Request, Response = Reply, Error = BoxError> + Clone + Send + Sync + 'static,
        H::Future: Send,
    {
        Arc::make_mut(&mut self.routes).push((matcher, BoxCloneSyncService::new(handler)));
        self
    }

    /// All routes of `self`, then those of `other`.
    #[must_use]
    pub fn merge(mut self, other: Router) -> Self {
        Arc::make_mut(&mut self.routes).extend(other.routes.iter().cloned());
        self
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.routes.iter().map(|(matcher, _)| matcher))
            .finish()
    }
}

/// No route wants the message.
#[derive(Debug, thiserror::Error)]
#[error("nobody here handles {operation:?} of {resource:?} (group {group:?}, source {origin:?})")]
struct NoRoute {
    operation: String,
    resource: String,
    group: String,
    origin: String,
}

impl Service<Request> for Router {
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Readiness is the chosen handler's own; `oneshot` waits for it.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self
            .routes
            .iter()
            .find(|(matcher, _)| matcher.matches(&request.message))
        {
            Some((_, handler)) => Box::pin(handler.clone().oneshot(request)),
            None => {
                let route = &request.message.route;
                let error = NoRoute {
                    operation: route.operation.to_string(),
                    resource: route.resource.to_string(),
                    group: route.group.to_string(),
                    origin: route.source.to_string(),
                };
                Box::pin(async { Err(error.into()) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Content;
    use crate::service::test_request;
    use crate::session::Lane;

    fn named(name: &'static str) -> BoxHandler {
        BoxCloneSyncService::new(tower::service_fn(move |request: Request| async move {
            Ok(Reply::Answer(
                request.message.response(Content::string(name)),
                Lane::Rest,
            ))
        }))
    }

    async fn check(router: &Router, operation: &str, resource: &str, expected: Option<&str>) {
        let found = match router.clone().oneshot(test_request(operation, resource)).await {
            Ok(Reply::Answer(answer, _)) => answer.content.as_string(),
            _ => None,
        };
        assert_eq!(found.as_deref(), expected, "{operation} {resource}");
    }

    #[tokio::test]
    async fn the_first_route_that_matches_handles_the_message() {
        let router = Router::new()
            .route(
                Matcher::any().kind("pod").operation(Operation::Delete),
                named("pod deletion"),
            )
            .route(Matcher::any().kind("pod"), named("pods"))
            .route(Matcher::any().prefix("sync/"), named("sync"));
        check(&router, "delete", "default/pod/a", Some("pod deletion")).await;
        check(&router, "insert", "default/pod/a", Some("pods")).await;
        check(&router, "query", "sync/have", Some("sync")).await;
        check(&router, "query", "default/secret/s", None).await;
    }
}
