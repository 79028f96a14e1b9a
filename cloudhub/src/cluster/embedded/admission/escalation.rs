//! Nobody makes a role of more than he may do himself, or binds one to anybody (Kubernetes `pkg/registry/rbac`, `policybased`), unless
//! he may `escalate` that role, or `bind` it.

use hub_core::api::Status;
use hub_core::rbac::{self, About, Attributes, Rbac, Rule};
use serde_json::Value;

use crate::cluster::embedded::call::{Call, meta};
use crate::cluster::embedded::fault;
use crate::cluster::embedded::state::State;

/// Whether who asks may make this role or binding what it is to be.
pub(in crate::cluster::embedded) fn admit(
    state: &State,
    call: &Call<'_>,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), Status> {
    let kind = &*call.kind;
    if &*kind.resource.group != rbac::GROUP || rbac::is_administrator(&call.user) {
        return Ok(());
    }
    if old.is_some_and(|old| same_rights(old, new)) {
        return Ok(());
    }
    let rbac = state.rules();
    match &*kind.resource.resource {
        "roles" | "clusterroles" => role(&rbac, call, old, new),
        "rolebindings" | "clusterrolebindings" => binding(&rbac, call, new),
        _ => Ok(()),
    }
}

fn role(rbac: &Rbac, call: &Call<'_>, old: Option<&Value>, new: &Value) -> Result<(), Status> {
    if may(rbac, call, "escalate", &call.kind.resource.resource, call.name) {
        return Ok(());
    }
    let rules: Vec<Rule> = serde_json::from_value(new["rules"].clone()).unwrap_or_default();
    confirm(rbac, call, new, &rules)?;
    // What is made of others can become anything.
    let aggregates = |role: &Value| {
        let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array();
        selectors.is_some_and(|selectors| !selectors.is_empty())
    };
    if (aggregates(new) || old.is_some_and(aggregates))
        && rbac
            .escalation(&call.user, call.namespace, &everything())
            .is_some()
    {
        return Err(refused(
            call,
            new,
            "must have cluster-admin privileges to use the aggregationRule",
        ));
    }
    Ok(())
}

fn binding(rbac: &Rbac, call: &Call<'_>, new: &Value) -> Result<(), Status> {
    let named = |field: &str| new["roleRef"][field].as_str().unwrap_or_default();
    let (resource, namespace) = match named("kind") {
        "ClusterRole" => ("clusterroles", None),
        "Role" => ("roles", call.namespace),
        // No role at all, which is told by those who look at the object.
        _ => return Ok(()),
    };
    if may(rbac, call, "bind", resource, Some(named("name"))) {
        return Ok(());
    }
    let Some(rules) = rbac.role(namespace, named("name")) else {
        return Err(fault::not_found(&call.kind, named("name")));
    };
    confirm(rbac, call, new, &rules)
}

fn confirm(rbac: &Rbac, call: &Call<'_>, new: &Value, rules: &[Rule]) -> Result<(), Status> {
    match rbac.escalation(&call.user, call.namespace, rules) {
        Some(why) => Err(refused(call, new, &why)),
        None => Ok(()),
    }
}

fn refused(call: &Call<'_>, new: &Value, why: &str) -> Status {
    fault::forbidden(&call.kind, meta(new, "name"), why)
}

fn may(rbac: &Rbac, call: &Call<'_>, verb: &str, resource: &str, name: Option<&str>) -> bool {
    let wanted = Attributes {
        verb,
        object: About::Resource {
            group: rbac::GROUP,
            resource,
            subresource: None,
            namespace: call.namespace,
            name,
        },
    };
    rbac.allows(&call.user, &wanted)
}

/// Whether a change is one of bookkeeping only, which the garbage collector does without having those rights.
fn same_rights(old: &Value, new: &Value) -> bool {
    let without = |value: &Value| {
        let mut value = value.clone();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            BOOKKEEPING.iter().for_each(|field| drop(metadata.remove(*field)));
        }
        value
    };
    without(old) == without(new)
}

fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule {
            verbs: all(),
            api_groups: all(),
            resources: all(),
            ..Rule::default()
        },
        Rule {
            verbs: all(),
            non_resource_urls: all(),
            ..Rule::default()
        },
    ]
}

const BOOKKEEPING: &[&str] = &["ownerReferences", "finalizers", "selfLink", "managedFields"];
