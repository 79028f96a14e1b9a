//! What KubeEdge's cloud says of devices in the group `twin`. The Devices themselves go to the store like all other objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_core::message::{Message, Operation, Resource, Subject};
use hub_core::service::{BoxError, Matcher, Reply, Request, Router};
use serde::Deserialize;

use super::keeper::{FromCloud, Which};
use super::name::DeviceId;
use super::{Twins, shape};

impl Twins {
    /// The routes of messages about twins, for [`EdgeHubBuilder::with_routes`](crate::EdgeHubBuilder::with_routes).
    pub fn routes(&self) -> Router {
        let twins = self.clone();
        let handle = tower::service_fn(move |request: Request| handle(twins.clone(), request.message));
        Router::new().route(Matcher::any().group("twin"), handle)
    }
}

async fn handle(twins: Twins, message: Message) -> Result<Reply, BoxError> {
    let route = &message.route;
    match said(&message) {
        Ok(Some(said)) => twins.said(said).await?,
        // A late confirmation; a word of a module that is not here.
        Ok(None) => {
            tracing::debug!(operation = %route.operation, resource = %route.resource, "nothing for the twins")
        }
        // It would be no better the next time.
        Err(error) => {
            tracing::warn!(resource = %route.resource, %error, "the cloud's message about devices cannot be read")
        }
    }
    Ok(Reply::Done)
}

/// What a message says of devices; None where that is nothing (KubeEdge `edge/pkg/devicetwin/process.go`).
fn said(message: &Message) -> Result<Option<FromCloud>, BoxError> {
    #[derive(Deserialize)]
    struct Attributes {
        #[serde(default)]
        attributes: BTreeMap<String, Option<shape::Attribute>>,
    }
    if message.header.parent_id.is_some() {
        return Ok(None);
    }
    let (content, resource) = (&message.content, &message.route.resource);
    Ok(Some(match resource.subject() {
        Subject::Membership => {
            let update: shape::MembershipUpdate = content.decode("devices that come and go")?;
            FromCloud::Membership {
                added: update.added_devices.unwrap_or_default(),
                removed: update.removed_devices.unwrap_or_default(),
            }
        }
        Subject::DeviceTwin { namespace, name } if resource.as_str().ends_with("/cloud_updated") => {
            FromCloud::Twin(which(namespace, name)?, content.decode("values of a device")?)
        }
        _ if resource.as_str().starts_with("membership/detail") => {
            let detail: shape::MembershipDetail = content.decode("the devices of the node")?;
            FromCloud::Detail(detail.devices.unwrap_or_default())
        }
        _ if message.route.operation == Operation::Updated => {
            let Some((namespace, name)) = device(resource) else {
                return Ok(None);
            };
            let Attributes { attributes } = content.decode("attributes of a device")?;
            FromCloud::Attributes(which(namespace, name)?, attributes)
        }
        _ => return Ok(None),
    }))
}

/// `device/[<namespace>/]<name>`.
fn device(resource: &Resource) -> Option<(Option<&str>, &str)> {
    let rest = resource.as_str().strip_prefix("device/")?;
    Some(match rest.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, rest),
    })
}

fn which(namespace: Option<&str>, name: &str) -> Result<Which, BoxError> {
    Ok(match namespace {
        Some(namespace) => Which::Id(DeviceId::new(namespace, name)?),
        None => Which::Name(Arc::from(name)),
    })
}
