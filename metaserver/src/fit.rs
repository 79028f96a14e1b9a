//! Whether method, path and kind of a request fit each other, and what is said where they do not.
//!
//! Built-in kinds and custom ones are refused by two different servers in one kube-apiserver, each in its own words.

use http::Method;
use hub_core::api::{Status, Verb};
use hub_core::object::GroupVersionResource;
use hub_core::registry::ResourceKind;

use crate::accept::Form;
use crate::fault;
use crate::options::truth;
use crate::reply::{self, Reply};
use crate::request::{ResourceRoute, query};

/// What is answered in place of what was asked for.
pub(crate) enum Refusal {
    Status(Box<Status>),
    Reply(Box<Reply>),
}

/// What a request wants of a collection or an object.
pub(crate) fn verb(
    method: &Method,
    route: &ResourceRoute,
    kind: &ResourceKind,
    query_text: &str,
) -> Result<Verb, Refusal> {
    let named = route.name.is_some();
    Ok(match *method {
        Method::GET if named && !route.watch => Verb::Get,
        Method::GET if route.watch || wants_watch(query_text) => Verb::Watch,
        Method::GET => Verb::List,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if named => Verb::Delete,
        Method::DELETE => Verb::DeleteCollection,
        _ if kind.custom && kind.namespaced && route.namespace.is_none() => return Err(nowhere()),
        _ if kind.custom => return Err(fault::unsupported(kind, "").into()),
        _ if !fits(kind, route, if named { Verb::Get } else { Verb::List })
            || !leads_somewhere(kind, route) =>
        {
            return Err(fault::no_resource().into());
        }
        _ => return Err(fault::not_allowed().into()),
    })
}

/// Whether there is such a place, and the verb means something there.
pub(crate) fn check(
    verb: Verb,
    route: &ResourceRoute,
    kind: &ResourceKind,
    form: Form,
) -> Result<(), Refusal> {
    let named = route.name.is_some();
    let has = |verb: &str| kind.verbs.iter().any(|known| **known == *verb);
    let lists = has("list");
    if !lists && !named && kind.namespaced && route.namespace.is_none() {
        return Err(fault::no_resource().into());
    }
    if !fits(kind, route, verb) {
        let whole = matches!(verb, Verb::Create | Verb::DeleteCollection)
            && route.namespace.is_none()
            && !named
            && kind.namespaced;
        return Err(match (whole, kind.custom) {
            (true, _) => fault::not_allowed().into(),
            (false, true) => nowhere(),
            (false, false) => fault::no_resource().into(),
        });
    }
    if let Some(below) = route.subresource.as_deref() {
        let first = first(below);
        let Some(known) = kind.subresources.iter().find(|known| *known.name == *first) else {
            return Err(match (&route.name, kind.custom) {
                (Some(name), true) => fault::not_found(&kind.resource, name),
                _ => fault::no_resource(),
            }
            .into());
        };
        if !leads_somewhere(kind, route) {
            return Err(fault::no_resource().into());
        }
        let connects = matches!(first, "proxy" | "exec" | "attach" | "portforward");
        if !connects && !known.verbs.iter().any(|known| **known == *verb.as_str()) {
            return Err(match kind.custom {
                true => fault::unsupported(kind, verb.as_str()),
                false => fault::not_allowed(),
            }
            .into());
        }
        return Ok(());
    }
    if matches!(verb, Verb::Update | Verb::Patch) && !named {
        return Err(match kind.custom {
            true => fault::bad("name must be provided"),
            false => fault::not_allowed(),
        }
        .into());
    }
    if !(verb == Verb::Create && named) && has(verb.as_str()) {
        return Ok(());
    }
    if verb != Verb::Watch || !lists {
        return Err(fault::not_allowed().into());
    }
    if route.watch {
        return Err(fault::no_resource().into());
    }
    let refused = reply::status(&fault::no_watch(kind), form);
    Err(Refusal::Reply(Box::new(warned(
        refused,
        deprecation(&kind.resource),
    ))))
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<Refusal> for Result<Reply, Status> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Status(status) => Err(*status),
            Refusal::Reply(reply) => Ok(*reply),
        }
    }
}

fn nowhere() -> Refusal {
    Refusal::Reply(Box::new(reply::nowhere()))
}

fn first(below: &str) -> &str {
    below.split('/').next().unwrap_or_default()
}

/// Whether a path below an object is one that a server of built-in kinds knows: only what is proxied goes on below a subresource.
fn leads_somewhere(kind: &ResourceKind, route: &ResourceRoute) -> bool {
    let Some(below) = route.subresource.as_deref().filter(|_| !kind.custom) else {
        return true;
    };
    let first = first(below);
    let ends = first.len() == below.len() || first == "proxy";
    ends && kind.subresources.iter().any(|known| *known.name == *first)
}

/// Whether path and kind agree on where its objects live.
fn fits(kind: &ResourceKind, route: &ResourceRoute, verb: Verb) -> bool {
    if kind.namespaced {
        route.namespace.is_some() || (route.name.is_none() && matches!(verb, Verb::List | Verb::Watch))
    } else {
        // A Namespace has itself as its namespace in the path.
        (route.namespace.is_none() || route.namespace == route.name) && (kind.custom || !route.all_namespaces)
    }
}

/// Whether a name can stand in a path (Kubernetes `apimachinery/pkg/api/validation/path`).
pub(crate) fn is_segment(name: &str) -> bool {
    !matches!(name, "." | "..") && !name.contains('%')
}

pub(crate) fn wants_watch(text: &str) -> bool {
    let first = query(text).find(|(key, _)| key == "watch");
    first.is_some_and(|(_, value)| truth(&value))
}

pub(crate) fn warned(reply: Reply, warning: Option<&str>) -> Reply {
    let warnings: Vec<String> = warning.into_iter().map(Into::into).collect();
    reply::warned(reply, &warnings)
}

/// What Kubernetes tells people who use an outdated kind.
pub(crate) fn deprecation(resource: &GroupVersionResource) -> Option<&'static str> {
    match (&*resource.group, &*resource.resource) {
        ("", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}
