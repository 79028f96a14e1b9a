//! What DynamicController answers (`cloud/pkg/dynamiccontroller/application`): one application after another, for all nodes.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Moods;
use super::api::{Api, by_plural, error_status, merge, part};

/// Executes an application, and gives it back with its answer.
pub fn execute(api: &mut Api, moods: Moods, application: &Value) -> Value {
    let key = application["Key"].as_str().unwrap();
    let verb = application["Verb"].as_str().unwrap();
    let (resource, namespace, name) = (part(key, 3), part(key, 4), part(key, 5));
    let mut answer = application.clone();
    let result = match by_plural(resource) {
        _ if moods.forbids_lists && verb == "list" => {
            let text = format!(
                "{resource} is forbidden: User \"system:node:edge-1\" cannot list resource \"{resource}\""
            );
            Err(error_status(403, "Forbidden", &text))
        }
        None if key == "/version" => Ok(json!({ "major": "1", "minor": "32" })),
        None => Err(error_status(404, "NotFound", UNKNOWN)),
        Some(kind) => {
            let route = |name: &str| format!("{namespace}/{}/{name}", kind.kind.to_lowercase());
            let there = |api: &Api, route: &str| {
                let text = format!("{resource} \"{}\" not found", part(route, 2));
                let object = api.objects.get(route).cloned();
                object.ok_or_else(|| error_status(404, "NotFound", &text))
            };
            match verb {
                "list" => {
                    let word = kind.kind.to_lowercase();
                    let of = |route: &&String| {
                        part(route, 1) == word && (namespace == "null" || part(route, 0) == namespace)
                    };
                    let selector = decoded(&application["Option"])["fieldSelector"].clone();
                    let node = selector
                        .as_str()
                        .and_then(|text| text.strip_prefix("spec.nodeName="));
                    let chosen = |object: &&Value| node.is_none_or(|node| object["spec"]["nodeName"] == node);
                    let objects = api.objects.keys().filter(of).map(|route| &api.objects[route]);
                    let items: Vec<_> = objects.filter(chosen).collect();
                    Ok(json!({
                        "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version,
                        "metadata": { "resourceVersion": api.version.to_string() }, "items": items,
                    }))
                }
                "watch" => Ok(Value::Null),
                "get" => there(api, &route(name)),
                "create" => {
                    let body = decoded(&application["ReqBody"]);
                    let route = route(body["metadata"]["name"].as_str().unwrap());
                    match api.objects.contains_key(&route) {
                        true => Err(error_status(409, "AlreadyExists", "it already exists")),
                        false => Ok(api.put(&route, body)),
                    }
                }
                "update" | "updatestatus" => {
                    let body = decoded(&application["ReqBody"]);
                    there(api, &route(name)).map(|_| api.put(&route(name), body))
                }
                "patch" => {
                    let patch = decoded(&application["Option"]);
                    there(api, &route(patch["Name"].as_str().unwrap())).map(|mut object| {
                        merge(&mut object, &decoded(&patch["Data"]));
                        api.put(&route(name), object)
                    })
                }
                "delete" => there(api, &route(name)).map(|_| {
                    api.delete(&route(name));
                    Value::Null
                }),
                other => panic!("no such verb: {other}"),
            }
        }
    };
    answer["Error"] = json!({ "ErrStatus": { "metadata": {} } });
    match result {
        Ok(body) => {
            answer["Status"] = "Approved".into();
            if !body.is_null() {
                answer["RespBody"] = BASE64_STANDARD.encode(body.to_string()).into();
            }
        }
        // The error of a list is wrapped, and so is no error of an API server any more.
        Err(error) if verb == "list" => {
            let text = error["ErrStatus"]["message"].as_str().unwrap();
            answer["Status"] = "Rejected".into();
            answer["Reason"] = format!("get current list error: {text}").into();
        }
        Err(error) => {
            answer["Status"] = "Rejected".into();
            answer["Error"] = error;
        }
    }
    answer
}

/// JSON in base64.
pub fn decoded(value: &Value) -> Value {
    let bytes = BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

const UNKNOWN: &str = "the server could not find the requested resource";
