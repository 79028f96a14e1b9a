//! What EdgeController answers (`cloud/pkg/edgecontroller/controller/upstream.go`).

use serde_json::{Value, json};

use super::Moods;
use super::api::{Api, error_status, merge, not_found, part, untyped};

/// What a message leads to.
#[derive(Default)]
pub struct Outcome {
    /// The answer: source, content, version. Some things are never answered.
    pub answer: Option<(&'static str, Value, Option<String>)>,
    /// What the informers then tell this node: operation and object.
    pub pushes: Vec<(&'static str, String, Value)>,
}

pub fn handle(api: &mut Api, moods: Moods, message: &Value) -> Outcome {
    let route = message["route"]["resource"].as_str().unwrap_or_default();
    let operation = message["route"]["operation"].as_str().unwrap_or_default();
    let content = &message["content"];
    let known = api.objects.get(route).cloned();
    match (operation, part(route, 1)) {
        // What it does not know it does not answer.
        ("insert", "node") | (_, "lease" | "nodepatch") if moods.old => Outcome::default(),
        (_, "nodestatus") => {
            let node_route = route.replacen("nodestatus", "node", 1);
            let known = api.objects.get(&node_route).cloned();
            let node = match (operation, known) {
                ("insert", None) => api.put(&node_route, content.clone()),
                ("insert", Some(known)) => known,
                (_, None) => return Outcome::default(),
                (_, Some(mut known)) => {
                    known["status"] = content["Status"].clone();
                    api.put(&node_route, known)
                }
            };
            answered("edgecontroller", "OK".into(), version(&node))
        }
        ("query", "ca.crt") => answered("cloudhub", CLUSTER_CA.into(), None),
        ("insert", "node" | "pod" | "lease") if known.is_some() => {
            let text = format!("{} \"{}\" already exists", part(route, 1), part(route, 2));
            failed(zero(route), error_status(409, "AlreadyExists", &text))
        }
        ("insert", kind @ ("node" | "pod" | "lease")) => {
            let object = api.put(route, content.clone());
            // No informer of EdgeController looks at leases.
            let pushes = (kind != "lease").then(|| ("update", route.to_owned(), object.clone()));
            Outcome {
                pushes: pushes.into_iter().collect(),
                ..response(&object, false)
            }
        }
        ("update", "node") => {
            // Of a node that is not there it says nothing.
            let Some(mut node) = known else {
                return Outcome::default();
            };
            merge(&mut node["metadata"], &content["metadata"]);
            let node = api.put(route, node);
            Outcome {
                pushes: vec![("update", route.into(), node.clone())],
                ..answered("edgecontroller", "OK".into(), version(&node))
            }
        }
        ("update", "lease") => match known {
            Some(known) if known["metadata"]["resourceVersion"] == content["metadata"]["resourceVersion"] => {
                response(&api.put(route, content.clone()), false)
            }
            Some(_) => failed(
                Value::Null,
                error_status(409, "Conflict", "the object has been modified"),
            ),
            None => failed(Value::Null, not_found(route)),
        },
        ("query", "lease") => match known {
            Some(lease) => response(&lease, false),
            None => failed(Value::Null, not_found(route)),
        },
        ("patch", word @ ("nodepatch" | "podpatch")) => {
            let route = route.replacen(word, word.trim_end_matches("patch"), 1);
            let Some(mut object) = api.objects.get(&route).cloned() else {
                return failed(zero(&route), not_found(&route));
            };
            // The patch is a string that holds JSON.
            let patch: Value = serde_json::from_str(content.as_str().unwrap()).unwrap();
            let uid = &patch["metadata"]["uid"];
            if !uid.is_null() && *uid != object["metadata"]["uid"] {
                return failed(
                    zero(&route),
                    error_status(409, "Conflict", "the uid in the precondition differs"),
                );
            }
            merge(&mut object, &patch);
            let object = api.put(&route, object);
            Outcome {
                pushes: vec![("update", route, object.clone())],
                ..response(&object, true)
            }
        }
        ("delete", "pod") => {
            let uid = &content["preconditions"]["uid"];
            let meant = known.is_some_and(|pod| pod["metadata"]["uid"] == *uid);
            let deleted = meant.then(|| api.delete(route)).flatten();
            Outcome {
                pushes: deleted
                    .map(|pod| ("delete", route.into(), pod))
                    .into_iter()
                    .collect(),
                ..answered("edgecontroller", "OK".into(), None)
            }
        }
        ("query", "configmap" | "secret" | "node") => match known {
            Some(object) => answered("edgecontroller", object.clone(), version(&object)),
            None => answered("edgecontroller", not_found(route), None),
        },
        ("query", "serviceaccounttoken") => {
            let mut token = content.clone();
            token["kind"] = "TokenRequest".into();
            token["apiVersion"] = "authentication.k8s.io/v1".into();
            token["status"] = json!({ "token": "a.b.c", "expirationTimestamp": "2030-01-01T00:00:00Z" });
            answered("edgecontroller", token, None)
        }
        // Events are taken without a word, and so is what nobody knows.
        _ => Outcome::default(),
    }
}

fn answered(source: &'static str, content: Value, version: Option<String>) -> Outcome {
    Outcome {
        answer: Some((source, content, version)),
        pushes: Vec::new(),
    }
}

/// `ObjectResp`. Both keys are always there, and the object says no kind.
fn response(object: &Value, with_version: bool) -> Outcome {
    let content = json!({ "Object": untyped(object), "Err": null });
    answered(
        "edgecontroller",
        content,
        version(object).filter(|_| with_version),
    )
}

fn failed(object: Value, error: Value) -> Outcome {
    answered("edgecontroller", json!({ "Object": object, "Err": error }), None)
}

/// Of nodes and pods an error shows an empty object, of leases none.
fn zero(route: &str) -> Value {
    match part(route, 1) {
        "lease" => Value::Null,
        _ => json!({ "metadata": { "creationTimestamp": null }, "spec": {}, "status": {} }),
    }
}

fn version(object: &Value) -> Option<String> {
    object["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

pub const CLUSTER_CA: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
