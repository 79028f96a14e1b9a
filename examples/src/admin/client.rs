//! Asks a running program over its admin socket.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// GETs a path with its query. The error is a sentence for the operator.
pub async fn ask(program: &str, socket: &Path, path: &str) -> Result<Bytes, String> {
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
        let request = Request::get(path)
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
