//! What a kube-apiserver checks before it connects a client to a pod, a service or a node (`pkg/registry/core/pod/strategy.go`).
//!
//! There are no containers here to connect to, so a request that passes these checks hears so.

use hub_core::api::{ApiResponse, Status};
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::store::{MemoryStore, ObjectStore};
use serde_json::Value;

use crate::cluster::embedded::call::Call;
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::values::clock;

/// Answers a request to one of the subresources that connect.
pub(in crate::cluster::embedded) fn connect(
    store: &MemoryStore,
    call: &Call<'_>,
    subresource: &str,
) -> Result<ApiResponse, Status> {
    let resource = &*call.kind.resource.resource;
    let first = subresource.split('/').next().unwrap_or_default();
    if (resource, first) == ("services", "proxy") {
        return service(store, call);
    }
    let key = call.named()?;
    let Some(stored) = store.get(&key) else {
        return Err(fault::not_found(&call.kind, &key.name));
    };
    let object: Value = serde_json::from_slice(&stored.served).unwrap_or_default();
    match (resource, first) {
        ("pods", "log") => {
            log_options(call, &key.name)?;
            container(call, &object)?;
            if !is_scheduled(&object) {
                // Nobody has written anything yet.
                return Ok(ApiResponse {
                    content_type: String::new(),
                    ..ApiResponse::json(204, "")
                });
            }
        }
        ("pods", "exec" | "attach" | "portforward") => {
            if first != "portforward" {
                container(call, &object)?;
            }
            if !is_scheduled(&object) {
                let name = &key.name;
                return Err(fault::bad_request(format!(
                    "pod {name} does not have a host assigned"
                )));
            }
        }
        ("pods", "proxy") if object["status"]["podIP"].as_str().unwrap_or_default().is_empty() => {
            return Err(fault::bad_request("address not allowed"));
        }
        _ => {}
    }
    Err(fault::not_implemented(&format!("{resource}/{first}")))
}

/// A service is named with a scheme before it and a port behind it; what it is asked for is found through its Endpoints.
fn service(store: &MemoryStore, call: &Call<'_>) -> Result<ApiResponse, Status> {
    let key = call.named()?;
    let name = match key.name.split(':').collect::<Vec<_>>()[..] {
        [name] | [name, _] | [_, name, _] => name,
        _ => {
            return Err(fault::bad_request(format!(
                "invalid service request {:?}",
                &*key.name
            )));
        }
    };
    let found = |resource: &str| {
        let resource = GroupVersionResource::core(resource);
        let key = ObjectKey::new(resource, key.namespace.as_deref(), name);
        store.get(&key).is_some()
    };
    if !found("services") || !found("endpoints") {
        return Err(fault::not_found(&call.kind, name));
    }
    Err(fault::not_implemented("services/proxy"))
}

fn is_scheduled(pod: &Value) -> bool {
    !pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty()
}

/// The container that is meant: the one that is named, or the only one.
fn container(call: &Call<'_>, pod: &Value) -> Result<(), Status> {
    let names = |field: &str| -> Vec<&str> {
        let all = pod["spec"][field].as_array().into_iter().flatten();
        all.filter_map(|container| container["name"].as_str()).collect()
    };
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let (containers, init) = (names("containers"), names("initContainers"));
    let ephemeral = names("ephemeralContainers");
    match call.parameter("container").filter(|name| !name.is_empty()) {
        Some(name)
            if [&containers, &init, &ephemeral]
                .iter()
                .any(|all| all.contains(&name)) =>
        {
            Ok(())
        }
        Some(name) => Err(fault::bad_request(format!(
            "container {name} is not valid for pod {pod_name}"
        ))),
        None if containers.len() == 1 => Ok(()),
        None => {
            let mut message = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                containers.join(" ")
            );
            if !init.is_empty() {
                message += &format!(" or one of the init containers: [{}]", init.join(" "));
            }
            Err(fault::bad_request(message))
        }
    }
}

/// Checks the options of a log (`pkg/apis/core/validation`, `ValidatePodLogOptions`).
fn log_options(call: &Call<'_>, name: &str) -> Result<(), Status> {
    let number = |option: &str| -> Result<Option<i64>, Status> {
        let Some(text) = call.parameter(option) else {
            return Ok(None);
        };
        let number = text
            .parse()
            .map_err(|_| fault::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        Ok(Some(number))
    };
    let mut errors = Vec::new();
    let mut at_least = |option: &str, least: i64, word: &str| -> Result<Option<i64>, Status> {
        let given = number(option)?;
        if let Some(given) = given.filter(|given| *given < least) {
            errors.push(FieldError::invalid(option, &given.into(), word));
        }
        Ok(given)
    };
    at_least("tailLines", 0, "must be greater than or equal to 0")?;
    at_least("limitBytes", 1, "must be greater than 0")?;
    let seconds = at_least("sinceSeconds", 1, "must be greater than 0")?;
    let time = call.parameter("sinceTime").filter(|text| !text.is_empty());
    if let Some(text) = time
        && !clock::is_time(text)
    {
        let (shown, first) = ("2006-01-02T15:04:05Z07:00", "2006");
        return Err(fault::bad_request(format!(
            "parsing time {text:?} as {shown:?}: cannot parse {text:?} as {first:?}"
        )));
    }
    if seconds.is_some() && time.is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden("[]", why));
    }
    // Only where a cluster splits the two streams of a container, which none does by itself.
    if call.parameter("stream").is_some_and(|stream| stream != "All") {
        errors.push(FieldError::forbidden("stream", "may not be specified"));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(fault::invalid_named("", "PodLogOptions", name, &errors)),
    }
}
