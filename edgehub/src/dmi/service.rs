//! What mappers call: the node's side of the device mapper interface.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tonic::{Request, Response, Status};

use super::catalogue::Catalogue;
use super::plan::{Kind, Told};
use super::registrations::Mapper;
use super::v1beta1 as wire;
use super::v1beta1::device_manager_service_server::DeviceManagerService;
use super::{RegisterError, ReportError, Shared, catalogue};

/// The service.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl DeviceManagerService for Service {
    async fn mapper_register(
        &self,
        request: Request<wire::MapperRegisterRequest>,
    ) -> Result<Response<wire::MapperRegisterResponse>, Status> {
        let answer = self.register(request).await;
        self.0.config.metrics.called(&answer);
        answer
    }

    async fn report_device_status(
        &self,
        request: Request<wire::ReportDeviceStatusRequest>,
    ) -> Result<Response<wire::ReportDeviceStatusResponse>, Status> {
        let answer = self.values(request).await;
        self.0.config.metrics.called(&answer);
        answer
    }

    async fn report_device_states(
        &self,
        request: Request<wire::ReportDeviceStatesRequest>,
    ) -> Result<Response<wire::ReportDeviceStatesResponse>, Status> {
        let answer = self.state(request).await;
        self.0.config.metrics.called(&answer);
        answer
    }
}

impl Service {
    async fn register(
        &self,
        request: Request<wire::MapperRegisterRequest>,
    ) -> Result<Response<wire::MapperRegisterResponse>, Status> {
        self.grant()?;
        let wire::MapperRegisterRequest { with_data, mapper } = request.into_inner();
        let mapper = read(mapper.unwrap_or_default())?;
        let (answer, took) = if with_data {
            self.all_of(&mapper)
        } else {
            // It may have been started anew, or not.
            let known = self.0.registrations.told(&mapper.protocol);
            (
                wire::MapperRegisterResponse::default(),
                known.into_keys().map(|key| (key, None)).collect(),
            )
        };
        tracing::info!(
            mapper = mapper.name,
            protocol = &*mapper.protocol,
            address = mapper.address,
            devices = answer.device_list.len(),
            "a mapper registered"
        );
        self.0.register(mapper, took).await.map_err(|error| match error {
            RegisterError::TooMany(_) => Status::resource_exhausted(error.to_string()),
            RegisterError::Store(_) => Status::unavailable(error.to_string()),
        })?;
        Ok(Response::new(answer))
    }

    async fn values(
        &self,
        request: Request<wire::ReportDeviceStatusRequest>,
    ) -> Result<Response<wire::ReportDeviceStatusResponse>, Status> {
        self.grant()?;
        let report = request.into_inner();
        let twins = report.reported_device.unwrap_or_default().twins;
        if twins.is_empty() {
            return Err(Status::invalid_argument("the report has no twins"));
        }
        let device = self.device(&report.device_namespace, &report.device_name)?;
        let mut values = Vec::with_capacity(twins.len());
        for twin in twins {
            if !device.has(&twin.property_name) {
                let (device, property) = (&report.device_name, shown(&twin.property_name));
                return Err(Status::invalid_argument(format!(
                    "device {device} has no property {property:?}"
                )));
            }
            let Some(reported) = twin.reported else {
                return Err(Status::invalid_argument(format!(
                    "{} has no reported value",
                    twin.property_name
                )));
            };
            values.push((twin.property_name, reported.value));
        }
        let taken = self
            .0
            .reports
            .values(&report.device_namespace, &report.device_name, values);
        taken.await.map_err(refusal)?;
        Ok(Response::new(wire::ReportDeviceStatusResponse {}))
    }

    async fn state(
        &self,
        request: Request<wire::ReportDeviceStatesRequest>,
    ) -> Result<Response<wire::ReportDeviceStatesResponse>, Status> {
        self.grant()?;
        let report = request.into_inner();
        self.device(&report.device_namespace, &report.device_name)?;
        let taken = self
            .0
            .reports
            .state(&report.device_namespace, &report.device_name, report.state);
        taken.await.map_err(refusal)?;
        Ok(Response::new(wire::ReportDeviceStatesResponse {}))
    }

    fn grant(&self) -> Result<(), Status> {
        let mut rate = self
            .0
            .rate
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if rate.grant(Instant::now()) {
            return Ok(());
        }
        let limit = self.0.config.calls_per_second;
        Err(Status::resource_exhausted(format!(
            "mappers make more than {limit} calls a second"
        )))
    }

    /// A device of this node; a mapper may report of no other (weak spot S5).
    fn device(&self, namespace: &str, name: &str) -> Result<super::convert::Device, Status> {
        let key = hub_core::object::ObjectKey::new(catalogue::devices(), Some(namespace), name);
        let stored = self.0.store.get(&key);
        stored
            .and_then(|stored| catalogue::device(&stored, &self.0.node))
            .ok_or_else(|| {
                Status::not_found(format!(
                    "this node has no device {}/{}",
                    shown(namespace),
                    shown(name)
                ))
            })
    }

    /// The models and devices of a mapper, as many as an answer may hold, and what of them it has then. The others follow in calls.
    fn all_of(&self, mapper: &Mapper) -> (wire::MapperRegisterResponse, Told) {
        let shared = &self.0;
        let mut catalogue =
            Catalogue::new(shared.store.clone(), shared.node.clone(), mapper.protocol.clone());
        let (mut answer, mut took) = (wire::MapperRegisterResponse::default(), Told::new());
        let mut room = shared.config.answer_bytes_max;
        // Models first, as they are ordered: no device is in the answer whose model is not.
        for key in catalogue.wanted().into_keys() {
            let Some(thing) = catalogue.thing(&key) else {
                continue;
            };
            let size = thing.size() + FRAMING;
            if size > room {
                if key.kind == Kind::Model {
                    // A device could be left without it.
                    return (wire::MapperRegisterResponse::default(), Told::new());
                }
                break;
            }
            room -= size;
            took.insert(key, Some(thing.hash()));
            match thing {
                catalogue::Thing::Model(model, _) => answer.model_list.push(model),
                catalogue::Thing::Device(device, _) => answer.device_list.push(device),
            }
        }
        (answer, took)
    }
}

fn read(mapper: wire::MapperInfo) -> Result<Mapper, Status> {
    let wrong = |what: &str| Err(Status::invalid_argument(what.to_owned()));
    let fits = |text: &str| (1..=NAME_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    if !fits(&mapper.name) {
        return wrong("the name of a mapper must have 1 to 253 bytes, and no control characters");
    }
    if !fits(&mapper.protocol) {
        return wrong("the protocol of a mapper must have 1 to 253 bytes, and no control characters");
    }
    let Ok(address) = String::from_utf8(mapper.address) else {
        return wrong("the address of a mapper is no text");
    };
    // What the kernel takes.
    if !Path::new(&address).is_absolute() || address.len() > 107 || address.contains('\0') {
        return wrong("the address of a mapper must be the full path of its socket, of at most 107 bytes");
    }
    Ok(Mapper {
        name: mapper.name,
        version: mapper.version.chars().take(NAME_MAX).collect(),
        protocol: mapper.protocol.into(),
        address,
    })
}

fn refusal(error: ReportError) -> Status {
    match error {
        ReportError::Invalid(why) => Status::invalid_argument(why),
        ReportError::Unavailable(why) => Status::unavailable(why),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(NAME_MAX).collect()
}

const NAME_MAX: usize = 253;
/// The most bytes that an entry of a list costs besides its own.
const FRAMING: usize = 8;
