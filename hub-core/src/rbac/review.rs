//! Questions about who somebody is and what they may do (`authorization.k8s.io/v1`, `authentication.k8s.io/v1`), answered from
//! roles. The cloud's own cluster and a node without a cloud answer with this one code, so they agree.

use serde_json::{Value, json};

use crate::api::{Reason, Status, User};

use super::{About, Attributes, Rbac, Rule, is_administrator};

/// Whose rights a SubjectAccessReview asks about.
pub fn subject(review: &Value) -> Result<User, Status> {
    let spec = &review["spec"];
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra = spec["extra"].as_object().into_iter().flatten();
    let user = User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        extra: extra
            .map(|(key, values)| (key.to_ascii_lowercase(), texts(values)))
            .collect(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let why = "at least one of user or group must be specified";
        return Err(invalid("spec.user", "\"\"", why));
    }
    Ok(user)
}

/// What an access review asks for. Of a LocalSubjectAccessReview `namespace` is the one in the path.
pub fn wanted<'a>(review: &'a Value, namespace: Option<&str>) -> Result<Attributes<'a>, Status> {
    let (resource, path) = (
        &review["spec"]["resourceAttributes"],
        &review["spec"]["nonResourceAttributes"],
    );
    let text = |of: &'a Value, field: &str| of[field].as_str().unwrap_or_default();
    let given = |field: &str| Some(text(resource, field)).filter(|text| !text.is_empty());
    match (resource.is_object(), path.is_object()) {
        (true, false) => {
            if let Some(namespace) = namespace.filter(|namespace| given("namespace") != Some(namespace)) {
                let why = format!("spec.resourceAttributes.namespace must match namespace: {namespace}");
                return Err(Status::failure(Reason::BadRequest, why));
            }
            Ok(Attributes {
                verb: text(resource, "verb"),
                object: About::Resource {
                    group: text(resource, "group"),
                    resource: text(resource, "resource"),
                    subresource: given("subresource"),
                    namespace: given("namespace"),
                    name: given("name"),
                },
            })
        }
        (false, true) if namespace.is_none() => Ok(Attributes {
            verb: text(path, "verb"),
            object: About::Path(text(path, "path")),
        }),
        (false, true) => Err(invalid(
            "spec.nonResourceAttributes",
            &path.to_string(),
            "disallowed on this kind of request",
        )),
        _ => Err(invalid(
            "spec.resourceAttributes",
            "null",
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}

/// The `status` of an access review.
pub fn access(rbac: &Rbac, user: &User, wanted: &Attributes<'_>) -> Value {
    if is_administrator(user) {
        return json!({ "allowed": true });
    }
    match rbac.reason(user, wanted) {
        Some(reason) => json!({ "allowed": true, "reason": reason }),
        None => json!({ "allowed": false }),
    }
}

/// The answer to a SelfSubjectRulesReview.
pub fn rules(rbac: &Rbac, user: &User, review: &Value) -> Result<Value, Status> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::failure(Reason::BadRequest, "no namespace on request"));
    }
    let everything = [
        Rule {
            verbs: vec!["*".into()],
            api_groups: vec!["*".into()],
            resources: vec!["*".into()],
            ..Rule::default()
        },
        Rule {
            verbs: vec!["*".into()],
            non_resource_urls: vec!["*".into()],
            ..Rule::default()
        },
    ];
    let all = everything.iter().filter(|_| is_administrator(user));
    let all: Vec<&Rule> = all.chain(rbac.rules(user, Some(namespace))).collect();
    let (of_paths, of_resources): (Vec<&Rule>, Vec<&Rule>) = all
        .into_iter()
        .partition(|rule| !rule.non_resource_urls.is_empty());
    Ok(json!({
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": {},
        "status": { "resourceRules": of_resources, "nonResourceRules": of_paths, "incomplete": false },
    }))
}

/// The answer to a SelfSubjectReview. `now` is a time as Kubernetes writes it.
pub fn whoami(user: &User, now: &str) -> Value {
    json!({
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": { "creationTimestamp": now },
        "status": { "userInfo": info(user) },
    })
}

/// A user as reviews show one (`authentication.k8s.io/v1` UserInfo).
pub fn info(user: &User) -> Value {
    let mut info = json!({ "username": user.name });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        info["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn invalid(field: &str, value: &str, why: &str) -> Status {
    let cause = format!("Invalid value: {value}: {why}");
    let text = format!(".authorization.k8s.io \"\" is invalid: {field}: {cause}");
    Status::failure(Reason::Invalid, text)
        .about("authorization.k8s.io", "", "")
        .cause("FieldValueInvalid", &cause, field)
}
