//! A mapper of simulated thermometers: what a program that speaks to devices must do, in one file.
//!
//! Each Device with its protocol becomes a room that warms up or cools down towards the device's `setpoint`. The mapper registers at
//! the node, is told of devices and of every new setpoint, and reports `temperature` and `setpoint` of each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use edgehub::dmi::v1beta1::device_manager_service_client::DeviceManagerServiceClient;
use edgehub::dmi::v1beta1::device_mapper_service_server::{DeviceMapperService, DeviceMapperServiceServer};
use edgehub::dmi::v1beta1::*;
use hub_core::socket::{Access, Socket};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// Where a thermometer mapper finds its node, and how it works.
#[derive(Debug, Clone)]
pub struct ThermometerConfig {
    /// The node's socket.
    pub node: PathBuf,
    /// Its own.
    pub socket: PathBuf,
    /// Devices with this protocol are its own.
    pub protocol: String,
    /// How often it measures and reports.
    pub every: Duration,
}

/// Serves and reports until the future is dropped, or until its socket fails. The node may come later.
pub async fn run(config: ThermometerConfig) -> Result<(), String> {
    let socket = Socket::bind(&config.socket, Access::GROUP).await;
    let socket = socket.map_err(|error| format!("cannot listen on {error}"))?;
    let incoming = futures::stream::unfold(socket, |socket| async { Some((socket.accept().await, socket)) });
    let rooms = Rooms::default();
    let serve =
        Server::builder().serve_with_incoming(DeviceMapperServiceServer::new(rooms.clone()), incoming);
    tokio::select! {
        ended = serve => ended.map_err(|error| error.to_string()),
        never = report(&config, &rooms) => match never {},
    }
}

async fn report(config: &ThermometerConfig, rooms: &Rooms) -> std::convert::Infallible {
    let mut node = client(config);
    register(config, &mut node, rooms).await;
    let mut tick = interval(config.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (status, state) in rooms.pass(config.every) {
            let name = status.device_name.clone();
            let told = match state {
                Some(state) => node.report_device_states(state).await.map(drop),
                None => Ok(()),
            };
            let told = match told {
                Ok(()) => node.report_device_status(status).await.map(drop),
                Err(status) => Err(status),
            };
            match told {
                Ok(()) => rooms.heard(&name),
                Err(status) => {
                    tracing::warn!(device = name, why = status.message(), "a report was not taken")
                }
            }
        }
    }
}

async fn register(config: &ThermometerConfig, node: &mut DeviceManagerServiceClient<Channel>, rooms: &Rooms) {
    let request = MapperRegisterRequest {
        with_data: true,
        mapper: Some(MapperInfo {
            name: format!("{}-mapper", config.protocol),
            version: env!("CARGO_PKG_VERSION").into(),
            api_version: "v1beta1".into(),
            protocol: config.protocol.clone(),
            address: config.socket.as_os_str().as_encoded_bytes().to_vec(),
            state: "ok".into(),
        }),
    };
    loop {
        match node.mapper_register(request.clone()).await {
            Ok(answer) => {
                for device in answer.into_inner().device_list {
                    rooms.put(device);
                }
                return;
            }
            Err(status) => {
                tracing::info!(why = status.message(), "the node does not answer yet");
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

fn client(config: &ThermometerConfig) -> DeviceManagerServiceClient<Channel> {
    let path = config.node.clone();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    DeviceManagerServiceClient::new(
        Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect),
    )
}

/// The rooms, by namespace and name of their thermometers.
#[derive(Debug, Clone, Default)]
struct Rooms(Arc<Mutex<BTreeMap<(String, String), Room>>>);

/// A room with a thermometer in it.
#[derive(Debug, Clone)]
struct Room {
    temperature: f64,
    setpoint: f64,
    /// The desired value as it was given.
    desired: String,
    /// Whether the node knows that the thermometer is there.
    known: bool,
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Room>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A thermometer is there, or its setpoint is another.
    fn put(&self, device: Device) {
        let spec = device.spec.unwrap_or_default();
        let setpoint = spec
            .properties
            .into_iter()
            .find(|property| property.name == SETPOINT);
        let desired = setpoint
            .and_then(|property| property.desired)
            .map(|desired| desired.value)
            .unwrap_or_default();
        let mut rooms = self.lock();
        let room = rooms.entry((device.namespace, device.name)).or_insert(Room {
            temperature: OUTSIDE,
            setpoint: OUTSIDE,
            desired: String::new(),
            known: false,
        });
        if let Ok(setpoint) = desired.parse() {
            room.setpoint = setpoint;
            room.desired = desired;
        }
    }

    /// Lets time pass, and measures. The state goes with the first report.
    fn pass(&self, time: Duration) -> Vec<(ReportDeviceStatusRequest, Option<ReportDeviceStatesRequest>)> {
        let mut rooms = self.lock();
        let measured = rooms.iter_mut().map(|((namespace, name), room)| {
            // Half of the way in three seconds.
            room.temperature +=
                (room.setpoint - room.temperature) * (1.0 - 0.5f64.powf(time.as_secs_f64() / 3.0));
            let value = |value: String| {
                Some(TwinProperty {
                    value,
                    ..TwinProperty::default()
                })
            };
            let twin = |name: &str, reported: f64, desired: &str| Twin {
                property_name: name.into(),
                observed_desired: value(desired.into()),
                reported: value(format!("{reported:.1}")),
            };
            let status = ReportDeviceStatusRequest {
                device_name: name.clone(),
                device_namespace: namespace.clone(),
                reported_device: Some(DeviceStatus {
                    twins: vec![
                        twin(TEMPERATURE, room.temperature, ""),
                        twin(SETPOINT, room.setpoint, &room.desired),
                    ],
                    ..DeviceStatus::default()
                }),
            };
            let state = (!room.known).then(|| ReportDeviceStatesRequest {
                device_name: name.clone(),
                device_namespace: namespace.clone(),
                state: "online".into(),
            });
            (status, state)
        });
        measured.collect()
    }

    fn heard(&self, name: &str) {
        let mut rooms = self.lock();
        for (_, room) in rooms.iter_mut().filter(|((_, known), _)| known == name) {
            room.known = true;
        }
    }
}

#[tonic::async_trait]
impl DeviceMapperService for Rooms {
    async fn register_device(
        &self,
        request: Request<RegisterDeviceRequest>,
    ) -> Result<Response<RegisterDeviceResponse>, Status> {
        let device = request.into_inner().device.unwrap_or_default();
        let answer = RegisterDeviceResponse {
            device_name: device.name.clone(),
            device_namespace: device.namespace.clone(),
        };
        self.put(device);
        Ok(Response::new(answer))
    }

    async fn update_device(
        &self,
        request: Request<UpdateDeviceRequest>,
    ) -> Result<Response<UpdateDeviceResponse>, Status> {
        self.put(request.into_inner().device.unwrap_or_default());
        Ok(Response::new(UpdateDeviceResponse {}))
    }

    async fn remove_device(
        &self,
        request: Request<RemoveDeviceRequest>,
    ) -> Result<Response<RemoveDeviceResponse>, Status> {
        let request = request.into_inner();
        self.lock()
            .remove(&(request.device_namespace, request.device_name));
        Ok(Response::new(RemoveDeviceResponse {}))
    }

    async fn get_device(
        &self,
        request: Request<GetDeviceRequest>,
    ) -> Result<Response<GetDeviceResponse>, Status> {
        let request = request.into_inner();
        let key = (request.device_namespace, request.device_name);
        if !self.lock().contains_key(&key) {
            return Err(Status::not_found(format!(
                "there is no thermometer {}/{}",
                key.0, key.1
            )));
        }
        let measured = self.pass(Duration::ZERO).into_iter().map(|(status, _)| status);
        let mut of_device =
            measured.filter(|status| (&status.device_namespace, &status.device_name) == (&key.0, &key.1));
        let (namespace, name) = key.clone();
        let device = Device {
            name,
            namespace,
            spec: None,
            status: of_device.next().and_then(|status| status.reported_device),
        };
        Ok(Response::new(GetDeviceResponse { device: Some(device) }))
    }

    // All thermometers are alike: their models say nothing that this mapper does not know.

    async fn create_device_model(
        &self,
        request: Request<CreateDeviceModelRequest>,
    ) -> Result<Response<CreateDeviceModelResponse>, Status> {
        let model = request.into_inner().model.unwrap_or_default();
        Ok(Response::new(CreateDeviceModelResponse {
            device_model_name: model.name,
            device_model_namespace: model.namespace,
        }))
    }

    async fn update_device_model(
        &self,
        _: Request<UpdateDeviceModelRequest>,
    ) -> Result<Response<UpdateDeviceModelResponse>, Status> {
        Ok(Response::new(UpdateDeviceModelResponse {}))
    }

    async fn remove_device_model(
        &self,
        _: Request<RemoveDeviceModelRequest>,
    ) -> Result<Response<RemoveDeviceModelResponse>, Status> {
        Ok(Response::new(RemoveDeviceModelResponse {}))
    }
}

const TEMPERATURE: &str = "temperature";
const SETPOINT: &str = "setpoint";
/// Degrees where nobody heats.
const OUTSIDE: f64 = 12.0;
