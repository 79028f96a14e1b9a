//! How a client wants something deleted: in the body of its request, or in the query.

use hub_core::api::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use super::create;
use crate::cluster::embedded::call::Call;
use crate::cluster::embedded::controllers::propagation::Propagation;
use crate::cluster::embedded::fault::{self, FieldError};
use crate::cluster::embedded::kinds::conform;

/// What a client may say about how to delete.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cluster::embedded) struct DeleteOptions {
    pub(super) grace_period_seconds: Option<i64>,
    pub(super) preconditions: Option<Preconditions>,
    pub(super) propagation_policy: Option<String>,
    pub(super) orphan_dependents: Option<bool>,
    pub(super) dry_run: Option<Vec<String>>,
}

impl DeleteOptions {
    /// Whether nothing is to change.
    pub(in crate::cluster::embedded) fn is_dry_run(&self) -> bool {
        self.dry_run.is_some()
    }

    /// What the client says of dependents, if anything.
    pub(super) fn propagation(&self) -> Option<Propagation> {
        match (self.orphan_dependents, self.propagation_policy.as_deref()) {
            (Some(true), _) | (_, Some("Orphan")) => Some(Propagation::Orphan),
            (_, Some("Foreground")) => Some(Propagation::Foreground),
            (Some(false), _) | (_, Some(_)) => Some(Propagation::Background),
            (None, None) => None,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Preconditions {
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
}

pub(super) fn options(call: &Call<'_>) -> Result<DeleteOptions, Status> {
    let value = if call.request.body.is_empty() {
        let mut value = json!({});
        if let Some(policy) = call.parameter("propagationPolicy") {
            value["propagationPolicy"] = policy.into();
        }
        if let Some(grace) = call.parameter("gracePeriodSeconds") {
            let grace: i64 = grace.parse().map_err(|_| {
                fault::bad_request(format!("strconv.ParseInt: parsing {grace:?}: invalid syntax"))
            })?;
            value["gracePeriodSeconds"] = grace.into();
        }
        if let Some(orphan) = call.parameter("orphanDependents") {
            value["orphanDependents"] = (orphan == "true" || orphan == "1").into();
        }
        value
    } else {
        body_options(&call.request.body)?
    };
    let mut options = read_options(value)?;
    if call.dry_run {
        options.dry_run = Some(vec!["All".into()]);
    }
    Ok(options)
}

fn body_options(body: &[u8]) -> Result<Value, Status> {
    let unreadable = |why| fault::bad_request(format!("couldn't get version/kind; json parse error: {why}"));
    let value: Value =
        serde_json::from_slice(body).map_err(|error| unreadable(create::json_error(body, &error)))?;
    if !value.is_object() {
        return Err(unreadable(create::no_type_meta(&value)));
    }
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    if !matches!(text("kind"), "" | "DeleteOptions") {
        let version = text("apiVersion");
        return Err(fault::bad_request(fault::not_registered(version, text("kind"))));
    }
    Ok(value)
}

pub(in crate::cluster::embedded) fn read_options(value: Value) -> Result<DeleteOptions, Status> {
    check_types(&value)?;
    let options: DeleteOptions = serde_json::from_value(value)
        .map_err(|error| fault::bad_request(format!("DeleteOptions: {error}")))?;
    let refuse = |error| Err(fault::invalid_named("meta.k8s.io", "DeleteOptions", "", &[error]));
    if let Some(policy) = &options.propagation_policy {
        if options.orphan_dependents.is_some() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            return refuse(FieldError::invalid(
                "propagationPolicy",
                &policy.as_str().into(),
                detail,
            ));
        }
        if !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan") {
            let supported = r#""Foreground", "Background", "Orphan", "nil""#;
            return refuse(FieldError::unsupported(
                "propagationPolicy",
                &format!("{policy:?}"),
                supported,
            ));
        }
    }
    match options.dry_run.as_deref() {
        None | Some([]) => Ok(DeleteOptions {
            dry_run: None,
            ..options
        }),
        Some([all]) if all == "All" => Ok(options),
        Some(other) => refuse(FieldError::unsupported(
            "dryRun",
            &format!("{other:?}"),
            r#""All""#,
        )),
    }
}

/// As Go's decoder says it.
fn check_types(value: &Value) -> Result<(), Status> {
    for (field, wanted, fits) in [
        ("gracePeriodSeconds", "int64", Value::is_i64 as fn(&Value) -> bool),
        ("orphanDependents", "bool", Value::is_boolean),
        ("propagationPolicy", "v1.DeletionPropagation", Value::is_string),
        ("dryRun", "[]string", Value::is_array),
        ("preconditions", "v1.Preconditions", Value::is_object),
    ] {
        let given = &value[field];
        if !given.is_null() && !fits(given) {
            let found = conform::found(given);
            return Err(fault::bad_request(format!(
                "json: cannot unmarshal {found} into Go struct field DeleteOptions.{field} of type {wanted}"
            )));
        }
    }
    Ok(())
}
