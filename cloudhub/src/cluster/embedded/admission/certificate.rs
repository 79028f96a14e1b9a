//! CertificateSigningRequests: what one must say, and who may change what of it (Kubernetes
//! `pkg/apis/certificates/validation`, `plugin/pkg/admission/certificates`). Approving and signing is done outside
//! ([`CertificateRequests`](crate::pki::CertificateRequests)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub_core::api::Status;
use hub_core::node::NODES_GROUP;
use hub_core::registry::ResourceKind;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::cluster::embedded::call::{Call, is, meta};
use crate::cluster::embedded::fault::{self, FieldError};

/// Whether the kind is this one.
pub(in crate::cluster::embedded) fn concerns(kind: &ResourceKind) -> bool {
    is(kind, "certificates.k8s.io", "certificatesigningrequests")
}

/// Checks a new request, and writes into it who asks.
pub(in crate::cluster::embedded) fn create(call: &Call<'_>, value: &mut Value) -> Result<(), Status> {
    if !concerns(&call.kind) {
        return Ok(());
    }
    let name = meta(value, "name").to_owned();
    let invalid = |error| fault::invalid(&call.kind, &name, &[error]);
    let spec = &mut value["spec"];
    if !spec.is_object() {
        return Err(invalid(FieldError::required("spec", "")));
    }
    // Who asks is what the signer goes by, so the server says it.
    spec["username"] = call.user.name.as_str().into();
    spec["groups"] = json!(call.user.groups);
    let request = spec["request"].as_str().unwrap_or_default();
    let shown = request.into();
    let unfit = |detail: &str| FieldError::invalid("spec.request", &shown, detail);
    let pem = BASE64
        .decode(request)
        .ok()
        .and_then(|pem| CertificateSigningRequestDer::from_pem_slice(&pem).ok());
    let parsed = pem.as_ref().map(|pem| X509CertificationRequest::from_der(pem));
    let read = match parsed {
        None => Err(unfit("PEM block type must be CERTIFICATE REQUEST")),
        Some(Err(error)) => Err(unfit(&error.to_string())),
        Some(Ok((_, csr))) if csr.verify_signature().is_err() => {
            Err(unfit("the signature of the request is invalid"))
        }
        Some(Ok((_, csr))) => Ok(csr),
    };
    let signer = spec["signerName"].as_str().unwrap_or_default().to_owned();
    let mut errors: Vec<FieldError> = [usages(spec), signer_name(&signer)]
        .into_iter()
        .filter_map(Result::err)
        .collect();
    if let Some(seconds) = spec["expirationSeconds"]
        .as_i64()
        .filter(|seconds| *seconds < SECONDS_MIN)
    {
        let (path, detail) = (
            "spec.expirationSeconds",
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
        errors.push(FieldError::invalid(path, &seconds.into(), detail));
    }
    let csr = match read {
        Ok(csr) if errors.is_empty() => csr,
        read => {
            errors.splice(0..0, read.err());
            return Err(fault::invalid(&call.kind, &name, &errors));
        }
    };
    let subject = &csr.certification_request_info.subject;
    let organizations: Vec<_> = subject
        .iter_organization()
        .filter_map(|organization| organization.as_str().ok())
        .collect();
    if signer == CLIENT && organizations.contains(&MASTERS) {
        let why = format!("use of {CLIENT} signer with {MASTERS} group is not allowed");
        return Err(fault::forbidden(&call.kind, &name, &why));
    }
    if KUBELET.contains(&&*signer) {
        // A node asks in its own name, and for nothing else.
        let mut names = subject.iter_common_name().filter_map(|name| name.as_str().ok());
        let common = names.next().unwrap_or_default();
        let of_node = common.len() > NODE_PREFIX.len() && common.starts_with(NODE_PREFIX);
        if !of_node || organizations != [NODES_GROUP] {
            return Err(invalid(unfit(&format!(
                "the subject of a request to {signer} must be O={NODES_GROUP}, CN={NODE_PREFIX}<name of the node>"
            ))));
        }
        let is_node = call.user.groups.iter().any(|group| group == NODES_GROUP);
        if is_node && call.user.name != common {
            let why = format!(
                "{} may ask for its own certificate only, not for that of {common}",
                call.user.name
            );
            return Err(fault::forbidden(&call.kind, &name, &why));
        }
    }
    Ok(())
}

/// Leaves of a new state what the path may change: approvals the conditions, the signer the certificate, anybody else neither.
pub(in crate::cluster::embedded) fn restrict(
    call: &Call<'_>,
    old: &Value,
    new: &mut Value,
) -> Result<(), Status> {
    if !concerns(&call.kind) {
        return Ok(());
    }
    let name = meta(old, "name");
    let invalid = |errors: &[FieldError]| Err(fault::invalid(&call.kind, name, errors));
    match call.subresource {
        Some("approval") => {
            let held = old["status"].get("certificate").cloned();
            match (held, new["status"].as_object_mut()) {
                (Some(held), Some(status)) => drop(status.insert("certificate".into(), held)),
                (None, Some(status)) => drop(status.remove("certificate")),
                (_, None) => {}
            }
        }
        Some("status") => {
            for decided in ["Approved", "Denied"] {
                if condition(old, decided).is_none() && condition(new, decided).is_some() {
                    let detail = format!(
                        "Unsupported value {decided:?} on {}/status: use /approval",
                        fault::collection(&call.kind)
                    );
                    return invalid(&[FieldError::forbidden("status.conditions", &detail)]);
                }
            }
            let (held, given) = (&old["status"]["certificate"], &new["status"]["certificate"]);
            if held.as_str().is_some_and(|held| !held.is_empty()) && held != given {
                return invalid(&[FieldError::forbidden(
                    "status.certificate",
                    "updates may not modify an issued certificate",
                )]);
            }
        }
        _ => {
            if old["spec"] != new["spec"] {
                return invalid(&[FieldError::invalid("spec", &json!("…"), "field is immutable")]);
            }
            return Ok(());
        }
    }
    for decided in ["Approved", "Denied", "Failed"] {
        if condition(old, decided).is_some() && condition(new, decided).is_none() {
            let detail = format!("updates may not remove a condition of type {decided:?}");
            return invalid(&[FieldError::forbidden("status.conditions", &detail)]);
        }
    }
    if condition(new, "Approved").is_some() && condition(new, "Denied").is_some() {
        let detail = "Approved and Denied conditions are mutually exclusive";
        return invalid(&[FieldError::invalid("status.conditions", &json!("Denied"), detail)]);
    }
    for (index, given) in new["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        if given["type"].as_str().unwrap_or_default().is_empty() {
            return invalid(&[FieldError::required(
                format!("status.conditions[{index}].type"),
                "",
            )]);
        }
        let decision = matches!(given["type"].as_str(), Some("Approved" | "Denied" | "Failed"));
        if decision && given["status"] != "True" {
            let shown = given["status"].to_string();
            return invalid(&[FieldError::unsupported(
                format!("status.conditions[{index}].status"),
                &shown,
                r#""True""#,
            )]);
        }
    }
    Ok(())
}

fn condition<'v>(value: &'v Value, kind: &str) -> Option<&'v Value> {
    let mut conditions = value["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == kind)
}

fn usages(spec: &Value) -> Result<(), FieldError> {
    let usages = spec["usages"].as_array().map_or(&[][..], Vec::as_slice);
    if usages.is_empty() {
        return Err(FieldError::required("spec.usages", ""));
    }
    for (index, usage) in usages.iter().enumerate() {
        let field = format!("spec.usages[{index}]");
        if !USAGES.contains(&usage.as_str().unwrap_or_default()) {
            let mut known: Vec<_> = USAGES.iter().map(|usage| format!("{usage:?}")).collect();
            known.sort();
            return Err(FieldError::unsupported(
                field,
                &usage.to_string(),
                &known.join(", "),
            ));
        }
        if usages[..index].contains(usage) {
            return Err(FieldError::duplicate(field, usage));
        }
    }
    Ok(())
}

fn signer_name(signer: &str) -> Result<(), FieldError> {
    let field = "spec.signerName";
    if signer.is_empty() {
        return Err(FieldError::required(field, ""));
    }
    if signer == "kubernetes.io/legacy-unknown" {
        let detail = "the legacy signerName is not allowed via this API version";
        return Err(FieldError::invalid(field, &signer.into(), detail));
    }
    match signer.split_once('/') {
        Some((domain, path)) if domain.contains('.') && !path.is_empty() => Ok(()),
        _ => {
            let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            Err(FieldError::invalid(field, &signer.into(), detail))
        }
    }
}

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET: [&str; 2] = [
    "kubernetes.io/kube-apiserver-client-kubelet",
    "kubernetes.io/kubelet-serving",
];
const MASTERS: &str = "system:masters";
const NODE_PREFIX: &str = "system:node:";
const SECONDS_MIN: i64 = 600;
/// Kubernetes `pkg/apis/certificates`, `KeyUsage`.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
