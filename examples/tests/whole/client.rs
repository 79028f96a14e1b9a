//! A client like curl: one request a connection, and watches line by line.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::world::within;

/// A Kubernetes API: the node's own, or the embedded cluster's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api(pub(crate) SocketAddr);

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Api {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "", String::new()).await
    }

    /// Reads what must be there.
    pub(crate) async fn read(&self, path: &str) -> Value {
        self.get(path).await.ok(path)
    }

    /// Reads what is no JSON.
    pub(crate) async fn text(&self, path: &str) -> String {
        self.get(path).await.body.as_str().unwrap().to_owned()
    }

    /// The names in a collection.
    pub(crate) async fn names(&self, path: &str) -> Vec<String> {
        names(&self.read(path).await)
    }

    pub(crate) async fn create(&self, path: &str, object: Value) -> Value {
        let answer = self
            .send(Method::POST, path, "application/json", object.to_string())
            .await;
        answer.ok(path)
    }

    pub(crate) async fn merge(&self, path: &str, patch: Value) -> Value {
        let content_type = "application/merge-patch+json";
        self.send(Method::PATCH, path, content_type, patch.to_string())
            .await
            .ok(path)
    }

    pub(crate) async fn delete(&self, path: &str) {
        let now = json!({ "gracePeriodSeconds": 0 }).to_string();
        self.send(Method::DELETE, path, "application/json", now)
            .await
            .ok(path);
    }

    pub(crate) async fn send(&self, method: Method, path: &str, content_type: &str, body: String) -> Answer {
        within(path, async {
            let response = self.open(method, path, content_type, body).await;
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer {
                status: head.status,
                headers: head.headers,
                body: serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()),
            }
        })
        .await
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, path: &str) -> Events {
        let response = within(path, self.open(Method::GET, path, "", String::new())).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Events {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }

    async fn open(&self, method: Method, path: &str, content_type: &str, body: String) -> Response<Incoming> {
        let stream = TcpStream::connect(self.0).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut connection, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(driver);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.0.to_string())
            .header("content-type", content_type)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        connection.send_request(request).await.unwrap()
    }
}

impl Answer {
    /// The body of a success.
    pub(crate) fn ok(self, path: &str) -> Value {
        assert!(self.status.is_success(), "{path}: {}: {}", self.status, self.body);
        self.body
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The events of a watch.
pub(crate) struct Events {
    body: Incoming,
    rest: Vec<u8>,
}

impl Events {
    /// The next event, as `TYPE name`, and its object.
    pub(crate) async fn next(&mut self) -> (String, Value) {
        within("an event", async {
            loop {
                if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = self.rest.drain(..=end).collect();
                    let mut event: Value = serde_json::from_slice(&line).unwrap();
                    let said = format!(
                        "{} {}",
                        event["type"].as_str().unwrap(),
                        event["object"]["metadata"]["name"].as_str().unwrap_or_default()
                    );
                    return (said, event["object"].take());
                }
                let frame = self.body.frame().await.expect("the watch goes on").unwrap();
                self.rest.extend_from_slice(&frame.into_data().unwrap());
            }
        })
        .await
    }

    /// The next events without their objects.
    pub(crate) async fn told(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            told.push(self.next().await.0);
        }
        told
    }
}

pub(crate) fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}
