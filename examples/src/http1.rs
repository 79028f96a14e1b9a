//! HTTP/1.1 for the few who look in: an operator, Prometheus.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Answers whoever comes until told to stop. `whom` says in a warning who could not be let in.
pub(crate) async fn serve<I, S>(
    incoming: impl Stream<Item = io::Result<I>>,
    service: S,
    whom: &'static str,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut incoming = std::pin::pin!(incoming);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, incoming.next().await)
        };
        let (place, stream) = tokio::select! {
            () = stop.cancelled() => return,
            (place, next) = next => match next {
                Some(Ok(stream)) => (place, stream),
                Some(Err(error)) => {
                    tracing::warn!(%error, "no connection for {whom}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                None => return,
            },
        };
        let (service, stop) = (service.clone(), stop.clone());
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

/// Connections at once. Who comes after them waits.
const CONNECTIONS_MAX: usize = 16;
/// After a failure to accept, such as too many open files: at once it would be the same again.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use futures::channel::mpsc::{UnboundedSender, unbounded};
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    type Door = UnboundedSender<io::Result<DuplexStream>>;

    fn served() -> (Door, AbortOnDropHandle<()>) {
        let (door, incoming) = unbounded();
        let service = service_fn(async |_| Ok(Response::new(Full::from("seen"))));
        let serving = serve(incoming, service, "a test", CancellationToken::new());
        (door, AbortOnDropHandle::new(tokio::spawn(serving)))
    }

    fn connect(door: &Door) -> DuplexStream {
        let (ours, theirs) = duplex(1024);
        door.unbounded_send(Ok(theirs)).unwrap();
        ours
    }

    async fn ask(stream: &mut DuplexStream) -> String {
        let request = b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_when_all_places_are_taken_is_answered_when_one_is_free() {
        let (door, _serving) = served();
        let mut idle: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(&door)).collect();
        let mut late = connect(&door);
        let asked = ask(&mut late);
        tokio::pin!(asked);
        let waited = tokio::time::timeout(Duration::from_secs(5), &mut asked).await;
        assert!(waited.is_err(), "{waited:?}");
        idle.pop();
        assert!(asked.await.ends_with("seen"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_failed_keeps_nobody_out() {
        let (door, _serving) = served();
        let failed = io::Error::other("too many open files");
        door.unbounded_send(Err(failed)).unwrap();
        assert!(ask(&mut connect(&door)).await.ends_with("seen"));
    }
}
