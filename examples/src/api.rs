//! A client for a Kubernetes API over plain HTTP, just large enough for examples.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hub_core::registry::Registry;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// One connection to an API server.
pub struct Api {
    address: String,
    connection: SendRequest<Full<Bytes>>,
}

impl Api {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(driver);
        Ok(Self {
            address: address.into(),
            connection,
        })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> io::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("content-type", content_type)
            .body(Full::new(body.into()))
            .map_err(io::Error::other)?;
        self.connection.ready().await.map_err(io::Error::other)?;
        let response = self
            .connection
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(io::Error::other)?
            .to_bytes();
        Ok((status, body))
    }

    /// Reads a path as JSON. A status other than 200 is an error with the server's words.
    pub async fn get(&mut self, path: &str) -> io::Result<Value> {
        let (status, body) = self.send(Method::GET, path, "", "").await?;
        if status != StatusCode::OK {
            return Err(io::Error::other(format!(
                "GET {path}: {status}: {}",
                String::from_utf8_lossy(&body)
            )));
        }
        serde_json::from_slice(&body).map_err(io::Error::other)
    }

    /// Creates an object. That it exists already is no error: an embedded cluster may be kept from an earlier run.
    pub async fn create(&mut self, registry: &Registry, object: &Value) -> io::Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let known = registry
            .by_kind(&api_version, &kind)
            .ok_or_else(|| io::Error::other(format!("no kind {kind} in {api_version}")))?;
        let namespace = known
            .namespaced
            .then(|| object["metadata"]["namespace"].as_str().unwrap_or("default"));
        let path = known.resource.path(namespace, None);
        let (status, body) = self
            .send(Method::POST, &path, "application/json", object.to_string())
            .await?;
        if status.is_success() || status == StatusCode::CONFLICT {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "POST {path}: {status}: {}",
            String::from_utf8_lossy(&body)
        )))
    }
}

/// The objects in the YAML files of a folder, in the order of the files' names.
pub fn manifests(folder: &Path) -> io::Result<Vec<Value>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    files.sort_by_key(|file| file.file_name());
    let mut objects = Vec::new();
    for file in files
        .iter()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
    {
        let text = std::fs::read_to_string(&file)?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
            .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
        objects.extend(documents.into_iter().filter(|document| !document.is_null()));
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_are_objects_with_kinds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        let objects = manifests(&folder).unwrap();
        assert!(objects.len() >= 20, "{}", objects.len());
        assert!(
            objects
                .iter()
                .all(|object| object["kind"].is_string() && object["metadata"]["name"].is_string())
        );
    }
}
