//! A mapper that writes down what it is told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgehub::dmi::v1beta1::device_manager_service_client::DeviceManagerServiceClient;
use edgehub::dmi::v1beta1::device_mapper_service_server::{DeviceMapperService, DeviceMapperServiceServer};
use edgehub::dmi::v1beta1::*;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// A mapper at a socket. It is gone when dropped, and its socket with it.
pub(crate) struct TestMapper {
    pub(crate) socket: PathBuf,
    calls: mpsc::UnboundedReceiver<String>,
    refuses: Arc<Mutex<BTreeSet<String>>>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Clone)]
struct Pen {
    calls: mpsc::UnboundedSender<String>,
    refuses: Arc<Mutex<BTreeSet<String>>>,
}

impl TestMapper {
    pub(crate) fn listen(socket: &Path) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let (sender, calls) = mpsc::unbounded_channel();
        let refuses = Arc::<Mutex<BTreeSet<String>>>::default();
        let pen = Pen {
            calls: sender,
            refuses: refuses.clone(),
        };
        let serving = tokio::spawn(async move {
            let service = DeviceMapperServiceServer::new(pen);
            let _ = Server::builder().serve_with_incoming(service, incoming).await;
        });
        Self {
            socket: socket.into(),
            calls,
            refuses,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// From now on this call is refused, such as `register shop/lamp`.
    pub(crate) fn refuse(&self, call: &str) {
        self.refuses.lock().unwrap().insert(call.into());
    }

    pub(crate) fn refuse_nothing(&self) {
        self.refuses.lock().unwrap().clear();
    }

    /// The next call, such as `register shop/lamp desired=20`.
    pub(crate) async fn next(&mut self) -> String {
        let call = tokio::time::timeout(Duration::from_secs(20), self.calls.recv());
        call.await.expect("the mapper is told something").unwrap()
    }

    /// Some calls; those of one kind may come in any order.
    pub(crate) async fn told(&mut self, count: usize) -> Vec<String> {
        let mut calls = Vec::new();
        for _ in 0..count {
            calls.push(self.next().await);
        }
        calls
    }

    pub(crate) fn silent(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }
}

impl Pen {
    fn note(&self, call: String, shown: &str) -> Result<(), Status> {
        let refused = self.refuses.lock().unwrap().contains(&call);
        let shown = if shown.is_empty() {
            call
        } else {
            format!("{call} {shown}")
        };
        self.calls.send(shown).map_err(|_| Status::unavailable("gone"))?;
        if refused {
            Err(Status::unknown("not today"))
        } else {
            Ok(())
        }
    }

    fn device(&self, call: &str, device: Option<Device>) -> Result<(), Status> {
        let device = device.unwrap();
        let properties = device.spec.unwrap().properties;
        // As KubeEdge's framework does it: without a look whether they are there.
        let desired = properties
            .first()
            .map(|property| property.desired.clone().unwrap().value);
        assert!(
            properties
                .iter()
                .all(|property| property.visitors.clone().unwrap().config_data.is_some())
        );
        self.note(
            format!("{call} {}/{}", device.namespace, device.name),
            &format!("desired={}", desired.unwrap_or_default()),
        )
    }
}

#[tonic::async_trait]
impl DeviceMapperService for Pen {
    async fn register_device(
        &self,
        request: Request<RegisterDeviceRequest>,
    ) -> Result<Response<RegisterDeviceResponse>, Status> {
        self.device("register", request.into_inner().device)?;
        Ok(Response::new(RegisterDeviceResponse::default()))
    }

    async fn update_device(
        &self,
        request: Request<UpdateDeviceRequest>,
    ) -> Result<Response<UpdateDeviceResponse>, Status> {
        self.device("update", request.into_inner().device)?;
        Ok(Response::new(UpdateDeviceResponse {}))
    }

    async fn remove_device(
        &self,
        request: Request<RemoveDeviceRequest>,
    ) -> Result<Response<RemoveDeviceResponse>, Status> {
        let request = request.into_inner();
        self.note(
            format!("remove {}/{}", request.device_namespace, request.device_name),
            "",
        )?;
        Ok(Response::new(RemoveDeviceResponse {}))
    }

    async fn create_device_model(
        &self,
        request: Request<CreateDeviceModelRequest>,
    ) -> Result<Response<CreateDeviceModelResponse>, Status> {
        let model = request.into_inner().model.unwrap();
        self.note(format!("create model {}/{}", model.namespace, model.name), "")?;
        Ok(Response::new(CreateDeviceModelResponse::default()))
    }

    async fn update_device_model(
        &self,
        request: Request<UpdateDeviceModelRequest>,
    ) -> Result<Response<UpdateDeviceModelResponse>, Status> {
        let model = request.into_inner().model.unwrap();
        self.note(format!("update model {}/{}", model.namespace, model.name), "")?;
        Ok(Response::new(UpdateDeviceModelResponse {}))
    }

    async fn remove_device_model(
        &self,
        request: Request<RemoveDeviceModelRequest>,
    ) -> Result<Response<RemoveDeviceModelResponse>, Status> {
        let request = request.into_inner();
        self.note(
            format!("remove model {}/{}", request.model_namespace, request.model_name),
            "",
        )?;
        Ok(Response::new(RemoveDeviceModelResponse {}))
    }

    async fn get_device(&self, _: Request<GetDeviceRequest>) -> Result<Response<GetDeviceResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

/// The node, as a mapper calls it.
pub(crate) fn node(socket: &Path) -> DeviceManagerServiceClient<Channel> {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    DeviceManagerServiceClient::new(
        Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect),
    )
}

/// A registration for a protocol, as KubeEdge's framework makes it.
pub(crate) fn registration(protocol: &str, socket: &Path) -> MapperRegisterRequest {
    MapperRegisterRequest {
        with_data: true,
        mapper: Some(MapperInfo {
            name: format!("{protocol}-mapper"),
            version: "v1.13.0".into(),
            api_version: "v1.0.0".into(),
            protocol: protocol.into(),
            address: socket.as_os_str().as_encoded_bytes().to_vec(),
            state: "ok".into(),
        }),
    }
}
