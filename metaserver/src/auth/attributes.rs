//! What a request wants, in the words of roles (Kubernetes `apiserver/pkg/endpoints/request/requestinfo.go`).
//!
//! Read from path and method alone: who may not have it learns nothing of which kinds there are.

use http::Method;
use http::request::Parts;
use hub_core::rbac::{About, Attributes};
use hub_core::selector::FieldSelector;

use crate::fit::wants_watch;
use crate::request::{ResourceRoute, Route, query};

/// What a request wants.
pub(super) struct Wanted<'a> {
    verb: String,
    route: Option<&'a ResourceRoute>,
    path: &'a str,
    /// The one name that a collection is searched for.
    selected: Option<String>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(head: &'a Parts, route: &'a Route) -> Self {
        let path = head.uri.path();
        let Route::Resource(route) = route else {
            return Self {
                verb: head.method.as_str().to_ascii_lowercase(),
                route: None,
                path,
                selected: None,
            };
        };
        let text = head.uri.query().unwrap_or_default();
        let named = route.name.is_some();
        let verb = match head.method {
            Method::GET | Method::HEAD if route.watch => "watch",
            Method::GET | Method::HEAD if named => "get",
            Method::GET | Method::HEAD if wants_watch(text) => "watch",
            Method::GET | Method::HEAD => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if named => "delete",
            Method::DELETE => "deletecollection",
            _ => "",
        };
        let searches = matches!(verb, "list" | "watch" | "deletecollection") && !named;
        Self {
            verb: verb.into(),
            route: Some(route),
            path,
            selected: searches.then(|| selected(text)).flatten(),
        }
    }

    pub(super) fn attributes(&self) -> Attributes<'_> {
        let object = match self.route {
            None => About::Path(self.path),
            Some(route) => About::Resource {
                group: &route.resource.group,
                resource: &route.resource.resource,
                subresource: route
                    .subresource
                    .as_deref()
                    .and_then(|below| below.split('/').next()),
                namespace: route.namespace.as_deref(),
                name: route.name.as_deref().or(self.selected.as_deref()),
            },
        };
        Attributes {
            verb: &self.verb,
            object,
        }
    }
}

fn selected(text: &str) -> Option<String> {
    let (_, fields) = query(text).find(|(key, _)| key == "fieldSelector")?;
    let fields = FieldSelector::parse(&fields).ok()?;
    fields.required("metadata.name").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, uri: &str, expected: &str) {
        let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
        let (head, ()) = request.into_parts();
        let route = Route::parse(head.uri.path());
        let wanted = Wanted::of(&head, &route);
        let wanted = wanted.attributes();
        let shown = match wanted.object {
            About::Path(path) => format!("{} {path}", wanted.verb),
            About::Resource {
                group,
                resource,
                subresource,
                namespace,
                name,
            } => {
                let or = |text: Option<&str>| text.unwrap_or("-").to_owned();
                let (sub, namespace, name) = (or(subresource), or(namespace), or(name));
                format!("{} {group:?} {resource} {sub} {namespace} {name}", wanted.verb)
            }
        };
        assert_eq!(shown, expected, "{method} {uri}");
    }

    #[test]
    fn a_request_wants_what_a_kube_apiserver_thinks_it_wants() {
        check("GET", "/api/v1/pods", "list \"\" pods - - -");
        check("HEAD", "/api/v1/pods", "list \"\" pods - - -");
        check("GET", "/api/v1/pods?watch=1", "watch \"\" pods - - -");
        check("GET", "/api/v1/watch/pods", "watch \"\" pods - - -");
        check(
            "GET",
            "/api/v1/namespaces/a/pods/b?watch=1",
            "get \"\" pods - a b",
        );
        check(
            "GET",
            "/api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3Db",
            "list \"\" secrets - a b",
        );
        check(
            "POST",
            "/api/v1/namespaces/a/pods/b/exec",
            "create \"\" pods exec a b",
        );
        check(
            "GET",
            "/api/v1/nodes/n/proxy/metrics/x",
            "get \"\" nodes proxy - n",
        );
        check("GET", "/api/v1/namespaces/a", "get \"\" namespaces - a a");
        check(
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/b/status",
            "patch \"apps\" deployments status a b",
        );
        check(
            "DELETE",
            "/api/v1/namespaces/a/pods",
            "deletecollection \"\" pods - a -",
        );
        check("OPTIONS", "/api/v1/pods", " \"\" pods - - -");
        check("GET", "/apis/apps/v1", "get /apis/apps/v1");
        check("HEAD", "/version/", "head /version/");
    }
}
