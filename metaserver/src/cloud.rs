//! The cloud, as far as it can be reached: requests that this node cannot answer itself.
//!
//! A dead link costs one request its timeout; those after it fail at once until the pause is over (metaserver goal G.2, 10).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hub_core::api::{ApiRequest, ApiResponse, Target, Upstream, UpstreamError};
use hub_core::scope::{HeldBack, Scope};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt as _;

/// The way to the cloud, and what is known of it.
#[derive(Debug)]
pub(crate) struct Cloud {
    upstream: Upstream,
    timeout: Duration,
    pause: Duration,
    link: Option<watch::Receiver<bool>>,
    held_back: Option<watch::Receiver<Arc<[HeldBack]>>>,
    source: Option<watch::Receiver<Option<std::time::Instant>>>,
    away: Mutex<Option<Away>>,
    seconds: Histogram,
    bytes: Family<ResourceLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabel {
    resource: String,
}

#[derive(Debug, Clone, Copy)]
struct Away {
    since: Instant,
    /// Nobody asks before this instant; the first who asks then is the probe.
    until: Instant,
}

impl Cloud {
    pub(crate) fn new(upstream: Upstream, timeout: Duration, pause: Duration) -> Self {
        Self {
            upstream,
            timeout,
            pause,
            link: None,
            held_back: None,
            source: None,
            away: Mutex::new(None),
            seconds: Histogram::new([0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]),
            bytes: Family::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("metaserver");
        registry.register(
            "cloud_seconds",
            "Time until the cloud answered a request",
            self.seconds.clone(),
        );
        registry.register(
            "cloud_bytes",
            "Bytes of answers of the cloud to requests",
            self.bytes.clone(),
        );
    }

    pub(crate) fn with_link(&mut self, link: watch::Receiver<bool>) {
        self.link = Some(link);
    }

    pub(crate) fn with_held_back(&mut self, held_back: watch::Receiver<Arc<[HeldBack]>>) {
        self.held_back = Some(held_back);
    }

    pub(crate) fn with_source(&mut self, source: watch::Receiver<Option<std::time::Instant>>) {
        self.source = Some(source);
    }

    /// For how long the cluster behind the cloud is known to be silent, where the cloud itself is there.
    pub(crate) fn silent(&self) -> Option<Duration> {
        if self.away().is_some() {
            return None;
        }
        let since = *self.source.as_ref()?.borrow();
        since.map(|since| since.elapsed())
    }

    /// The deletions that are not believed yet.
    pub(crate) fn held_back(&self) -> Arc<[HeldBack]> {
        let held_back = self.held_back.as_ref();
        held_back.map_or_else(|| Vec::new().into(), |held_back| held_back.borrow().clone())
    }

    /// Those among which there may be objects of a scope.
    pub(crate) fn doubt(&self, scope: &Scope) -> Option<HeldBack> {
        let touches = |doubt: &&HeldBack| {
            let (a, b) = (&doubt.scope, scope);
            let meet = |a: &Option<Arc<str>>, b: &Option<Arc<str>>| a.is_none() || b.is_none() || a == b;
            a.resource == b.resource && meet(&a.namespace, &b.namespace) && meet(&a.name, &b.name)
        };
        self.held_back.as_ref()?.borrow().iter().find(touches).cloned()
    }

    /// Puts a request to the cloud. Answers within the timeout, whatever state the cloud is in.
    pub(crate) async fn call(&self, request: ApiRequest) -> Result<ApiResponse, UpstreamError> {
        if self.link.as_ref().is_some_and(|link| !*link.borrow()) {
            self.note(false);
            return Err(UpstreamError::Unreachable);
        }
        {
            let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(away) = &mut *away {
                let now = Instant::now();
                if now < away.until {
                    return Err(UpstreamError::Unreachable);
                }
                away.until = now + self.timeout;
            }
        }
        // Only kinds that are known here are put to the cloud, so clients cannot invent series.
        let resource = match &request.target {
            Target::Resource { resource, .. } => resource.to_string(),
            Target::Path(_) => "none".into(),
        };
        let start = Instant::now();
        let answer = tokio::time::timeout(self.timeout, self.upstream.clone().oneshot(request))
            .await
            .unwrap_or(Err(UpstreamError::Timeout));
        if let Ok(response) = &answer {
            self.seconds.observe(start.elapsed().as_secs_f64());
            let bytes = self.bytes.get_or_create(&ResourceLabel { resource });
            bytes.inc_by(response.body.len() as u64);
        }
        self.note(!matches!(
            answer,
            Err(UpstreamError::Unreachable | UpstreamError::Timeout)
        ));
        answer
    }

    /// Since when the cloud is known to be away.
    pub(crate) fn away(&self) -> Option<Duration> {
        if let Some(link) = &self.link {
            self.note(*link.borrow());
        }
        let away = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.map(|away| away.since.elapsed())
    }

    /// Whether the link is there, where it tells of itself.
    pub(crate) fn link(&self) -> Option<watch::Receiver<bool>> {
        self.link.clone()
    }

    fn note(&self, reached: bool) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if reached {
            *away = None;
        } else {
            let now = Instant::now();
            let since = away.map_or(now, |away| away.since);
            // Where the link tells of itself, the first request after its return need not wait.
            let until = if self.link.is_some() {
                now
            } else {
                now + self.pause
            };
            *away = Some(Away { since, until });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hub_core::api::Verb;
    use tower::service_fn;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(2500);
    const PAUSE: Duration = Duration::from_secs(5);

    fn request() -> ApiRequest {
        ApiRequest::new(Verb::Get, Target::Path("/version".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_cloud_costs_one_timeout_and_then_nothing_until_the_pause_is_over() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let cloud = Cloud::new(
            Upstream::new(service_fn(move |_: ApiRequest| {
                let first = counter.fetch_add(1, Ordering::Relaxed) == 0;
                async move {
                    if first {
                        std::future::pending::<()>().await;
                    }
                    Ok(ApiResponse::json(200, "{}"))
                }
            })),
            TIMEOUT,
            PAUSE,
        );
        assert_eq!(cloud.call(request()).await, Err(UpstreamError::Timeout));
        let start = Instant::now();
        assert_eq!(cloud.call(request()).await, Err(UpstreamError::Unreachable));
        assert_eq!(
            (start.elapsed(), asked.load(Ordering::Relaxed)),
            (Duration::ZERO, 1)
        );
        tokio::time::advance(PAUSE).await;
        assert!(cloud.away().is_some());
        assert!(cloud.call(request()).await.is_ok());
        assert!(cloud.away().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_while_the_link_says_that_it_is_down() {
        let (link, told) = watch::channel(false);
        let mut cloud = Cloud::new(
            Upstream::new(service_fn(async |_: ApiRequest| Ok(ApiResponse::json(200, "{}")))),
            TIMEOUT,
            PAUSE,
        );
        cloud.with_link(told);
        assert_eq!(cloud.call(request()).await, Err(UpstreamError::Unreachable));
        link.send(true).unwrap();
        assert!(cloud.call(request()).await.is_ok());
    }
}
