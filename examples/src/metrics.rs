//! `GET /metrics` in the text form that Prometheus reads.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http1;

/// Serves until told to stop. `sample` runs before each answer, for the numbers that are only taken when somebody asks.
pub async fn serve<S>(
    listener: TcpListener,
    registry: Arc<Registry>,
    sample: impl Fn() -> S + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) where
    S: Future<Output = ()> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (registry, sample) = (registry.clone(), sample.clone());
        async move {
            if request.uri().path() == "/metrics" {
                sample().await;
            }
            Ok::<_, Infallible>(answer(&request, &registry))
        }
    });
    let incoming = futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await;
        Some((accepted.map(|(stream, _)| stream), listener))
    });
    http1::serve(incoming, service, "metrics", stop).await;
}

fn answer(request: &Request<Incoming>, registry: &Registry) -> Response<Full<Bytes>> {
    let mut text = String::new();
    let (status, body) = match request.uri().path() {
        "/metrics" if encode(&mut text, registry).is_ok() => (StatusCode::OK, text),
        "/healthz" => (StatusCode::OK, "ok".into()),
        _ => (StatusCode::NOT_FOUND, "see /metrics\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
