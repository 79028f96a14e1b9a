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
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::http1;

/// Answers a GET, or a POST for what changes something, of a path with its query.
pub type Handler = Arc<dyn Fn(Method, String) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync>;

/// Serves until told to stop; then the socket's file goes.
pub async fn serve(socket: AdminSocket, handler: Handler, stop: CancellationToken) {
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
    let incoming = futures::stream::unfold(socket, |socket| async { Some((socket.accept().await, socket)) });
    http1::serve(incoming, service, "an operator", stop).await;
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

#[cfg(test)]
mod tests;
