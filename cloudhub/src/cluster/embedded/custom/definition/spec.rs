//! Everything about a definition but its schemas.

use serde_json::Value;

use super::hoist::{hoisted, shown};
use super::{Found, each, schema, text, versions};
use crate::cluster::embedded::call::meta;
use crate::cluster::embedded::fault::FieldError;
use crate::cluster::embedded::values::names;

/// Looks for all that is wrong.
pub(super) fn check(old: Option<&Value>, value: &Value, found: &mut Found) {
    let spec = &hoisted(&value["spec"]);
    let name = meta(value, "name");
    if old.is_none() && !name.is_empty() {
        for detail in names::subdomain(name) {
            found.invalid("metadata.name", &name.into(), &detail);
        }
        if name != format!("{}.{}", text(&spec["names"], "plural"), text(spec, "group")) {
            let detail = "must be spec.names.plural+\".\"+spec.group";
            found.invalid("metadata.name", &name.into(), detail);
        }
    }
    group(spec, found);
    match &spec["scope"] {
        scope if scope.as_str().unwrap_or_default().is_empty() => found.required("spec.scope", ""),
        scope if scope == "Namespaced" || scope == "Cluster" => {}
        scope => found.unsupported("spec.scope", scope, &["Cluster", "Namespaced"]),
    }
    if spec["validation"]["openAPIV3Schema"].is_null() {
        for (index, version) in each(spec, "versions") {
            if version["schema"]["openAPIV3Schema"].is_null() {
                found.required(format!("spec.versions[{index}].schema.openAPIV3Schema"), "");
            }
        }
    }
    let whole = versions::Shared {
        status: versions::has_status(spec)
            || each(spec, "versions").any(|(_, version)| versions::has_status(version)),
        subresources: &spec["subresources"],
    };
    all_versions(spec, &whole, found);
    names_of(spec, found);
    schema::check(&spec["validation"], whole.status, "spec.validation", found);
    versions::subresources(&spec["subresources"], "spec.subresources", found);
    versions::columns(spec, "spec", found);
    versions::selectable_fields(spec, &spec["validation"]["openAPIV3Schema"], "spec", found);
    conversion(&spec["conversion"], found);
    if let Some(old) = old {
        changes(&old["spec"], spec, found);
    }
    stored_versions(value, found);
    approval(value, old, found);
    if spec["preserveUnknownFields"] == true
        && old.is_none_or(|old| old["spec"]["preserveUnknownFields"] != true)
    {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        found.invalid("spec.preserveUnknownFields", &true.into(), detail);
    }
}

fn group(spec: &Value, found: &mut Found) {
    let group = text(spec, "group");
    let wrong = names::subdomain(group);
    if group.is_empty() {
        found.required("spec.group", "");
    } else if !wrong.is_empty() {
        found.invalid("spec.group", &group.into(), &wrong.join(","));
    } else if !group.contains('.') {
        found.invalid(
            "spec.group",
            &group.into(),
            "should be a domain with at least one dot",
        );
    }
}

fn all_versions(spec: &Value, whole: &versions::Shared<'_>, found: &mut Found) {
    let mut seen = Vec::new();
    let (mut unique, mut stored) = (true, 0);
    for (index, version) in each(spec, "versions") {
        stored += i32::from(version["storage"] == true);
        let name = text(version, "name");
        unique = unique && !seen.contains(&name);
        seen.push(name);
        let path = format!("spec.versions[{index}]");
        let wrong = names::label_1035(name);
        if !wrong.is_empty() {
            found.invalid(format!("{path}.name"), &name.into(), &wrong.join(","));
        }
        versions::check(version, whole, &path, found);
    }
    let shown = shown(spec);
    let shown = shown.as_str().unwrap_or("null");
    let mut wrong = |detail: &str| {
        found
            .errors
            .push(FieldError::invalid_shown("spec.versions", shown, detail));
    };
    if !unique {
        wrong("must contain unique version names");
    }
    if stored != 1 {
        wrong("must have exactly one version marked as storage version");
    }
    // The first is the one version that definitions once had.
    let first = text(&spec["versions"][0], "name");
    let odd = names::label_1035(first);
    if !first.is_empty() && !odd.is_empty() {
        found.invalid("spec.version", &first.into(), &odd.join(","));
    }
}

fn names_of(spec: &Value, found: &mut Found) {
    let of = &spec["names"];
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(of, field).is_empty() {
            found.required(format!("spec.names.{field}"), "");
        }
    }
    labels(of, "spec.names", found);
}

fn labels(of: &Value, path: &str, found: &mut Found) {
    for field in ["plural", "singular"] {
        let name = text(of, field);
        let wrong = names::label_1035(name);
        if !name.is_empty() && !wrong.is_empty() {
            found.invalid(format!("{path}.{field}"), &name.into(), &wrong.join(","));
        }
    }
    for field in ["kind", "listKind"] {
        let name = text(of, field);
        let wrong = names::label_1035(&name.to_lowercase());
        if !name.is_empty() && !wrong.is_empty() {
            let detail = format!(
                "may have mixed case, but should otherwise match: {}",
                wrong.join(",")
            );
            found.invalid(format!("{path}.{field}"), &name.into(), &detail);
        }
    }
    let list = |field: &str, found: &mut Found| {
        for (index, name) in each(of, field) {
            let wrong = names::label_1035(name.as_str().unwrap_or_default());
            if !wrong.is_empty() {
                found.invalid(format!("{path}.{field}[{index}]"), name, &wrong.join(","));
            }
        }
    };
    list("shortNames", found);
    let kind = text(of, "kind");
    if !kind.is_empty() && kind == text(of, "listKind") {
        let detail = "kind and listKind may not be the same";
        found.invalid(format!("{path}.listKind"), &kind.into(), detail);
    }
    list("categories", found);
}

fn conversion(conversion: &Value, found: &mut Found) {
    let strategy = &conversion["strategy"];
    match strategy.as_str() {
        None | Some("") => found.required("spec.conversion.strategy", ""),
        Some("None" | "Webhook") => {}
        Some(_) => found.unsupported("spec.conversion.strategy", strategy, &["None", "Webhook"]),
    }
    let webhook = &conversion["webhook"];
    let client = webhook.get("clientConfig").filter(|client| !client.is_null());
    let at = "spec.conversion.webhookClientConfig";
    let versions = "spec.conversion.conversionReviewVersions";
    if strategy != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            found.forbidden(at, detail);
        }
        if each(webhook, "conversionReviewVersions").next().is_some() {
            found.forbidden(versions, detail);
        }
        return;
    }
    match client {
        None => found.required(at, "required when strategy is set to Webhook"),
        Some(client) if client["url"].is_null() == client["service"].is_null() => {
            found.required(at, "exactly one of url or service is required");
        }
        Some(client) => {
            if let Some(url) = client["url"].as_str().filter(|url| !url.starts_with("https://")) {
                let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
                let detail = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
                found.invalid(format!("{at}.url"), &scheme.into(), detail);
            }
        }
    }
    let listed: Vec<&Value> = each(webhook, "conversionReviewVersions")
        .map(|(_, v)| v)
        .collect();
    if listed.is_empty() {
        found.required(versions, "");
        return;
    }
    for (index, version) in listed.iter().enumerate() {
        if listed[..index].contains(version) {
            found.invalid(format!("{versions}[{index}]"), version, "duplicate version");
            continue;
        }
        for detail in names::label_1035(version.as_str().unwrap_or_default()) {
            found.invalid(format!("{versions}[{index}]"), version, &detail);
        }
    }
    if !listed
        .iter()
        .any(|version| **version == "v1" || **version == "v1beta1")
    {
        let detail = "must include at least one of v1, v1beta1";
        found.invalid(versions, &webhook["conversionReviewVersions"], detail);
    }
}

/// What cannot be changed once the kind is there.
fn changes(old: &Value, spec: &Value, found: &mut Found) {
    for path in ["scope", "names.kind", "group", "names.plural"] {
        let steps = path.split('.');
        let of = |value: &Value| {
            steps
                .clone()
                .fold(value.clone(), |value, step| value[step].clone())
        };
        if of(old) != of(spec) {
            found.invalid(format!("spec.{path}"), &of(spec), "field is immutable");
        }
    }
}

fn stored_versions(value: &Value, found: &mut Found) {
    let path = "status.storedVersions";
    let stored: Vec<&str> = each(&value["status"], "storedVersions")
        .filter_map(|(_, version)| version.as_str())
        .collect();
    if stored.is_empty() {
        found.invalid(path, &Value::Null, "must have at least one stored version");
        return;
    }
    for (_, version) in each(&value["spec"], "versions") {
        let name = text(version, "name");
        if version["storage"] == true && !stored.contains(&name) {
            let detail = format!("must have the storage version {name}");
            found.invalid(path, &value["status"]["storedVersions"], &detail);
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if !each(&value["spec"], "versions").any(|(_, version)| text(version, "name") == *name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            found.invalid(format!("{path}[{index}]"), &(*name).into(), &detail);
        }
    }
}

/// Groups of Kubernetes itself are for those who were allowed to use them.
fn approval(value: &Value, old: Option<&Value>, found: &mut Found) {
    let group = text(&value["spec"], "group");
    let protected = [".k8s.io", ".kubernetes.io"]
        .iter()
        .any(|end| group.ends_with(end));
    let given = |value: &Value| value["metadata"]["annotations"][APPROVED].clone();
    if !protected || old.is_some_and(|old| given(old) == given(value)) {
        return;
    }
    let path = format!("metadata.annotations[{APPROVED}]");
    match given(value).as_str() {
        None | Some("") => found.required(
            path,
            &format!("protected groups must have approval annotation \"{APPROVED}\", see {WHERE}"),
        ),
        Some(given) if given.starts_with("unapproved") => {}
        Some(given) if given.contains("://") => {}
        Some(given) => {
            let detail = format!(
                "protected groups must have approval annotation \"{APPROVED}\" with either a URL or a reason starting with \"unapproved\", see {WHERE}"
            );
            found.invalid(path, &given.into(), &detail);
        }
    }
}

const APPROVED: &str = "api-approved.kubernetes.io";
const WHERE: &str = "https://github.com/kubernetes/enhancements/pull/1111";
