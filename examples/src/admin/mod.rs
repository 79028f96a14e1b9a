//! How an operator asks a running program: HTTP over a unix socket that only its owner may open.
//!
//! ```text
//!   cloudcore nodes ── GET /nodes ──► edgeTunnel.admin.socket ──► cloudcore
//!   edgecore meta … ── GET /scopes … ► edgeTunnel.admin.socket ──► edgecore
//!   curl --unix-socket … http://admin/nodes
//! ```
//!
//! The room knows no questions of its own: a program gives it a [`Handler`].

mod client;
pub mod meta;
pub mod meta_table;
mod nodes;
mod print;
mod socket;
mod table;
pub mod twins;

pub use client::{ask, tell};
pub use nodes::{Nodes, answer_nodes};
pub use print::{Output, print};
pub use socket::AdminSocket;
pub use table::table;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Answers a GET, or a POST for what changes something, of a path with its query.
pub type Handler = Arc<dyn Fn(Method, String) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync>;

/// Serves until told to stop; then the socket's file goes.
pub async fn serve(socket: AdminSocket, handler: Handler, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (place, socket.accept().await)
        };
        let (place, stream) = tokio::select! {
            () = stop.cancelled() => return,
            (place, accepted) = accepted => match accepted {
                Ok(stream) => (place, stream),
                Err(error) => {
                    tracing::warn!(%error, "no connection for an operator");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let handler = handler.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let method = Some(request.method().clone());
            let method = method.filter(|method| matches!(*method, Method::GET | Method::POST));
            let answer = method
                .zip(request.uri().path_and_query())
                .map(|(method, path)| handler(method, path.to_string()));
            async move {
                Ok::<_, Infallible>(match answer {
                    Some(answer) => answer.await,
                    None => refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST are answered"),
                })
            }
        });
        let stop = stop.clone();
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
}

/// An answer as JSON.
pub fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = Response::new(Full::new(Bytes::from(body)));
            let json = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// No, and why.
pub fn refuse(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{why}\n"))));
    *response.status_mut() = status;
    response
}

/// Operators at once.
const CONNECTIONS_MAX: usize = 16;
/// After a failure to accept, such as too many open files.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests;
