//! The connections of mappers.

use std::sync::Arc;
use std::time::Duration;

use hub_core::socket::Socket;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::authority::AnyAuthority;
use super::service::Service;
use super::v1beta1::device_manager_service_server::DeviceManagerServiceServer;

/// Answers until told to stop, then ends what is under way in good order.
pub(crate) async fn serve(socket: &Socket, service: Service, stop: CancellationToken) {
    let config = service.0.config.clone();
    let room = Arc::new(Semaphore::new(config.connections_max.max(1)));
    let server = DeviceManagerServiceServer::new(service).max_decoding_message_size(config.call_bytes_max);
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    // A mapper that dies without a word does not keep its place.
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(STREAMS_MAX);
    let open = GracefulShutdown::new();
    loop {
        let accepted = async {
            let place = room
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (socket.accept().await, place)
        };
        let Some((accepted, place)) = stop.run_until_cancelled(accepted).await else {
            break;
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a mapper could not be let in");
                sleep(PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(server.clone());
        let connection = builder
            .serve_connection(TokioIo::new(AnyAuthority::new(stream)), service)
            .into_owned();
        let connection = open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a mapper's connection ended");
            }
            drop(place);
        });
    }
    let _ = timeout(FAREWELL, open.shutdown()).await;
}

/// Calls at a time on one connection.
const STREAMS_MAX: u32 = 64;
/// After a failed accept: out of file descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);
/// For calls that are under way at the end.
const FAREWELL: Duration = Duration::from_secs(2);
