//! Tokens of service accounts: made on request, and reviewed (Kubernetes `pkg/registry/core/serviceaccount/storage/token.go`,
//! `pkg/serviceaccount`).

use hub_core::api::{ApiResponse, Reason, Status, User};
use hub_core::node::NODES_GROUP;
use hub_core::object::{GroupVersionResource, ObjectKey};
use hub_core::rbac::review::info;
use hub_core::service_account::{About, Claims, Named};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::issuer::{ISSUER, Issuer};
use crate::cluster::embedded::call::{Call, meta};
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::state::State;
use crate::cluster::embedded::values::clock;
use crate::cluster::embedded::verbs::create;

/// `serviceaccounts/token`.
pub(in crate::cluster::embedded) fn issue(
    state: &State,
    issuer: &Issuer,
    call: &Call<'_>,
) -> Result<ApiResponse, Status> {
    let key = call.named()?;
    let body = create::read_typed(&call.request.body, ("authentication.k8s.io", "v1", KIND))?;
    let mut request = Request::deserialize(body).map_err(|error| fault::bad_request(error.to_string()))?;
    let Some(account) = state.value(&key)? else {
        return Err(fault::not_found(&call.kind, &key.name));
    };
    let spec = &mut request.spec;
    let own_audiences = spec
        .audiences
        .as_ref()
        .is_some_and(|audiences| !audiences.is_empty());
    if spec.audiences.as_ref().is_none_or(Vec::is_empty) {
        spec.audiences = Some(vec![ISSUER.into()]);
    }
    let seconds = *spec.expiration_seconds.get_or_insert(SECONDS_DEFAULT);
    check_seconds(seconds, request.metadata.name.as_str())?;
    check_name(&request.metadata.name, &key.name)?;

    let mut about = About {
        namespace: call.namespace.unwrap_or_default().into(),
        serviceaccount: named(&account),
        ..About::default()
    };
    bind(state, call, spec.bound_object_ref.as_ref(), &mut about)?;
    let bound = spec.bound_object_ref.as_ref().map(|bound| json!(bound));
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let claims = Claims {
        aud: spec.audiences.clone().unwrap_or_default(),
        exp: now + seconds,
        iat: now,
        nbf: now,
        iss: ISSUER.into(),
        jti: uuid::Uuid::new_v4().to_string(),
        sub: User::of_service_account(&about.namespace, &about.serviceaccount.name).name,
        about,
    };
    let token = issuer
        .sign(&claims)
        .map_err(|error| fault::internal(format!("the token could not be signed: {error}")))?;
    let mut answer = json!({
        "kind": KIND,
        "apiVersion": API_VERSION,
        "metadata": {
            "name": &*key.name,
            "namespace": call.namespace,
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": clock::now(),
        },
        "spec": spec,
        "status": { "token": token, "expirationTimestamp": clock::after(seconds) },
    });
    if let Some(manager) = call.parameter("fieldManager") {
        let mut fields = json!({"f:expirationSeconds": {}});
        if own_audiences {
            fields["f:audiences"] = json!({});
        }
        if let Some(bound) = bound.as_ref().and_then(Value::as_object) {
            let owned = bound.keys().map(|field| (format!("f:{field}"), json!({})));
            fields["f:boundObjectRef"] = owned.collect::<serde_json::Map<_, _>>().into();
        }
        answer["metadata"]["managedFields"] = json!([{
            "manager": manager, "operation": "Update", "apiVersion": API_VERSION, "time": clock::now(),
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}, "subresource": "token",
        }]);
    }
    Ok(ApiResponse::json(201, answer.to_string()))
}

/// What a TokenReview is answered.
pub(super) fn review(state: &State, issuer: &Issuer, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        let why = "token is required for TokenReview in authentication";
        return Err(fault::bad_request(why));
    }
    let refused = |error: String| Ok(json!({ "user": {}, "error": error }));
    let claims = match issuer.verify(token, OffsetDateTime::now_utc().unix_timestamp()) {
        Ok(claims) => claims,
        Err(error) => return refused(error),
    };
    let asked = spec["audiences"].as_array().into_iter().flatten();
    let mut asked: Vec<_> = asked.filter_map(Value::as_str).collect();
    if asked.is_empty() {
        asked.push(ISSUER);
    }
    let audiences: Vec<_> = asked
        .into_iter()
        .filter(|audience| claims.aud.iter().any(|meant| meant == audience))
        .collect();
    if audiences.is_empty() {
        return refused(format!(
            "[invalid bearer token, token audiences {:?} is invalid for the target audiences]",
            claims.aud
        ));
    }
    let about = &claims.about;
    for (resource, named) in [
        ("serviceaccounts", Some(&about.serviceaccount)),
        ("pods", about.pod.as_ref()),
        ("secrets", about.secret.as_ref()),
    ] {
        let Some(named) = named else { continue };
        let key = ObjectKey::new(
            GroupVersionResource::core(resource),
            Some(&about.namespace),
            &named.name,
        );
        if state.get(&key).is_none_or(|held| *held.uid != *named.uid) {
            return refused(format!(
                "[invalid bearer token, service account token has been invalidated: no {resource} {:?} of that uid]",
                named.name
            ));
        }
    }
    Ok(json!({
        "authenticated": true,
        "user": info(&claims.user()),
        "audiences": audiences,
    }))
}

/// Checks what the token is to be bound to. A node gets tokens for pods that it runs, and no others (NodeRestriction).
fn bind(
    state: &State,
    call: &Call<'_>,
    reference: Option<&Reference>,
    about: &mut About,
) -> Result<(), Status> {
    let node = call.user.name.strip_prefix("system:node:");
    let node = node.filter(|_| call.user.groups.iter().any(|group| group == NODES_GROUP));
    let denied = |why: &str| Err(fault::forbidden(&call.kind, &about.serviceaccount.name, why));
    let Some(reference) = reference else {
        return match node {
            Some(_) => denied("node requested token not bound to a pod"),
            None => Ok(()),
        };
    };
    let resource = match (reference.api_version.as_str(), reference.kind.as_str()) {
        ("v1" | "", "Pod") => "pods",
        ("v1" | "", "Secret") if node.is_none() => "secrets",
        ("v1" | "", "Node") if node.is_none() => "nodes",
        _ if node.is_some() => return denied("node requested token not bound to a pod"),
        (version, kind) => {
            let slash = if version.contains('/') { "" } else { "/" };
            let text = format!("cannot bind token to object of type {slash}{version}, Kind={kind}");
            return Err(fault::bad_request(text));
        }
    };
    let key = ObjectKey::new(
        GroupVersionResource::core(resource),
        call.namespace.filter(|_| resource != "nodes"),
        &reference.name,
    );
    let Some(object) = state.value(&key)? else {
        return Err(Status::not_found("", resource, &reference.name));
    };
    let uid = meta(&object, "uid");
    if !reference.uid.is_empty() && reference.uid != uid {
        let kind = &reference.kind;
        let text = format!(
            "Operation cannot be fulfilled on {kind} {:?}: the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            reference.name, reference.uid
        );
        return Err(Status::failure(Reason::Conflict, text).about("", kind, &reference.name));
    }
    if resource == "nodes" {
        about.node = Some(named(&object));
        return Ok(());
    }
    if resource == "secrets" {
        about.secret = Some(named(&object));
        return Ok(());
    }
    let running_as = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    if running_as != about.serviceaccount.name {
        return Err(fault::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            about.serviceaccount.name
        )));
    }
    let runs_on = object["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_some_and(|node| node != runs_on) {
        return denied("node requested token bound to a pod scheduled on a different node");
    }
    about.pod = Some(named(&object));
    if !runs_on.is_empty() {
        let key = ObjectKey::new(GroupVersionResource::core("nodes"), None, runs_on);
        about.node = Some(Named {
            name: runs_on.into(),
            uid: state
                .get(&key)
                .map(|node| node.uid.to_string())
                .unwrap_or_default(),
        });
    }
    Ok(())
}

fn check_name(given: &str, name: &str) -> Result<(), Status> {
    if given.is_empty() || given == name {
        return Ok(());
    }
    let detail = "must match the service account name if specified";
    let error = FieldError::invalid("metadata.name", &given.into(), detail);
    Err(fault::invalid_named(
        "authentication.k8s.io",
        KIND,
        name,
        &[error],
    ))
}

fn check_seconds(seconds: i64, name: &str) -> Result<(), Status> {
    let detail = if seconds < SECONDS_MIN {
        "may not specify a duration less than 10 minutes"
    } else if seconds > SECONDS_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let error = FieldError::invalid("spec.expirationSeconds", &seconds.into(), detail);
    Err(fault::invalid_named(
        "authentication.k8s.io",
        KIND,
        name,
        &[error],
    ))
}

fn named(object: &Value) -> Named {
    Named {
        name: meta(object, "name").into(),
        uid: meta(object, "uid").into(),
    }
}

/// `authentication.k8s.io/v1` TokenRequest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    metadata: OwnName,
    #[serde(default)]
    spec: Spec,
}

/// A request may say the name of its account, but no other.
#[derive(Deserialize, Default)]
struct OwnName {
    #[serde(default)]
    name: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    audiences: Option<Vec<String>>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<Reference>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reference {
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
}

const API_VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenRequest";
const SECONDS_DEFAULT: i64 = 3600;
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;
