//! Asks a running program over its admin socket.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// GETs a path with its query. The error is a sentence for the operator.
pub async fn ask(program: &str, socket: &Path, path: &str) -> Result<Bytes, String> {
    send(program, socket, Method::GET, path).await
}

/// POSTs to a path with its query, which changes something. The error is a sentence for the operator.
pub async fn tell(program: &str, socket: &Path, path: &str) -> Result<Bytes, String> {
    send(program, socket, Method::POST, path).await
}

async fn send(program: &str, socket: &Path, method: Method, path: &str) -> Result<Bytes, String> {
    if socket.as_os_str().is_empty() {
        return Err(format!(
            "edgeTunnel.admin.socket is empty: give {program} a socket to be asked at"
        ));
    }
    let shown = socket.display();
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            format!("no {program} answers on {shown}: is it running, and with the same --config and --data-dir?")
        }
        ErrorKind::PermissionDenied => format!("{shown} may be opened only by the user that runs {program}: try sudo"),
        _ => format!("cannot open {shown}: {error}"),
    })?;
    let asked = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "admin")
            .body(Empty::<Bytes>::new());
        // The paths are ours.
        let response = sender.send_request(request.unwrap_or_default()).await?;
        let status = response.status();
        Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
    };
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    match answer.map_err(|_| format!("{program} does not answer on {shown}: it hangs"))? {
        Ok((status, body)) if status.is_success() => Ok(body),
        Ok((_, body)) => Err(String::from_utf8_lossy(&body).trim().to_owned()),
        Err(error) => Err(format!("{program} gave no answer on {shown}: {error}")),
    }
}

/// Longer than any session may take.
const PATIENCE: Duration = Duration::from_secs(10);
