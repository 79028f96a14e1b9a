//! Calls to a mapper, at its own socket.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::catalogue::Thing;
use super::plan::{Key, Kind, Step};
use super::v1beta1 as wire;
use super::v1beta1::device_mapper_service_client::DeviceMapperServiceClient;

/// Speaks to one mapper. Cheap to clone; the clones share a connection, which is made with the first call, and again when it breaks.
#[derive(Clone)]
pub(crate) struct Client {
    calls: DeviceMapperServiceClient<Channel>,
    timeout: Duration,
}

/// The mapper did not take what it was told.
#[derive(Debug)]
pub(crate) enum TellError {
    /// It is not there, or does not answer.
    Silent(String),
    /// It said no.
    Refused(String),
}

impl Client {
    pub(crate) fn new(socket: &Path, timeout: Duration) -> Self {
        let socket = socket.to_owned();
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // A name for the connection; the connector does not read it.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect);
        Self {
            calls: DeviceMapperServiceClient::new(channel),
            timeout,
        }
    }

    /// Tells the mapper of a thing that it should have.
    pub(crate) async fn tell(&self, step: Step, thing: Thing) -> Result<(), TellError> {
        match (thing, step) {
            // Models come without devices of their own, so what is there already is simply replaced.
            (Thing::Model(model, _), Step::Add | Step::AddAndUpdate) => self.create_model(model).await,
            (Thing::Model(model, _), _) => {
                let update = wire::UpdateDeviceModelRequest {
                    model: Some(model.clone()),
                };
                let updated = self.within(self.calls.clone().update_device_model(update)).await;
                match updated {
                    Err(TellError::Refused(_)) => self.create_model(model).await,
                    updated => updated,
                }
            }
            (Thing::Device(device, _), Step::Add) => self.register(device).await,
            (Thing::Device(device, _), Step::AddAndUpdate) => {
                self.register(device.clone()).await?;
                self.update(device).await
            }
            (Thing::Device(device, _), _) => match self.update(device.clone()).await {
                // It may have lost the device.
                Err(TellError::Refused(_)) => self.register(device).await,
                updated => updated,
            },
        }
    }

    /// Tells the mapper of a thing that it should not have any more.
    pub(crate) async fn remove(&self, key: &Key) -> Result<(), TellError> {
        let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
        match key.kind {
            Kind::Model => {
                let remove = wire::RemoveDeviceModelRequest {
                    model_name: name,
                    model_namespace: namespace,
                };
                self.within(self.calls.clone().remove_device_model(remove)).await
            }
            Kind::Device => {
                let remove = wire::RemoveDeviceRequest {
                    device_name: name,
                    device_namespace: namespace,
                };
                self.within(self.calls.clone().remove_device(remove)).await
            }
        }
    }

    async fn create_model(&self, model: wire::DeviceModel) -> Result<(), TellError> {
        let create = wire::CreateDeviceModelRequest { model: Some(model) };
        self.within(self.calls.clone().create_device_model(create)).await
    }

    async fn register(&self, device: wire::Device) -> Result<(), TellError> {
        let register = wire::RegisterDeviceRequest { device: Some(device) };
        self.within(self.calls.clone().register_device(register)).await
    }

    async fn update(&self, device: wire::Device) -> Result<(), TellError> {
        let update = wire::UpdateDeviceRequest { device: Some(device) };
        self.within(self.calls.clone().update_device(update)).await
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<(), TellError> {
        let Ok(answer) = timeout(self.timeout, call).await else {
            return Err(TellError::Silent("it does not answer".into()));
        };
        match answer {
            Ok(_) => Ok(()),
            Err(status) if is_silence(&status) => Err(TellError::Silent(status.message().into())),
            Err(status) => Err(TellError::Refused(status.message().into())),
        }
    }
}

/// Whether no mapper said this.
fn is_silence(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded
    ) || std::error::Error::source(status).is_some_and(|source| source.is::<tonic::transport::Error>())
}
