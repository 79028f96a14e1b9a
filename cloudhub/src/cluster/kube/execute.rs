//! A request of a node, put to the API server in the name of who asks.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};

use hub_core::api::{ApiRequest, ApiResponse, Reason, Status, Target, UpstreamError, User, Verb};
use hub_core::object::{GroupVersionResource, Metadata};

use super::door::{Answer, Door, Fault};
use super::rights::Right;

/// Executes a request. What the API server answers is passed on as it is, refusals too.
pub(super) async fn execute(door: &Door, request: ApiRequest) -> Result<ApiResponse, UpstreamError> {
    if request.verb == Verb::Watch || asks_for_a_watch(&request.query) {
        return Ok(
            Status::failure(Reason::BadRequest, "a watch is not executed, it is subscribed to").into(),
        );
    }
    if !is_path(&request.target) {
        return Ok(
            Status::failure(Reason::BadRequest, "the path of the request holds no valid names").into(),
        );
    }
    let is_read = request.verb.is_read();
    let http = to_http(&request).map_err(|error| UpstreamError::Protocol(error.to_string()))?;
    let answer = door.call(http).await.map_err(|fault| {
        tracing::debug!(%fault, verb = %request.verb, "a request has no answer");
        match fault {
            Fault::NotSent(_) => UpstreamError::Unreachable,
            // Nothing is lost by saying so: a read changes nothing.
            Fault::Broken(_) if is_read => UpstreamError::Unreachable,
            Fault::Broken(_) | Fault::Timeout => UpstreamError::Timeout,
            Fault::Overloaded => UpstreamError::Overloaded,
            Fault::TooLarge(_) => UpstreamError::Protocol(fault.to_string()),
        }
    })?;
    judge(door, is_read, &request, &answer)?;
    let content_type = answer.headers.get(header::CONTENT_TYPE);
    let warnings = answer.headers.get_all(header::WARNING).iter();
    let warnings = warnings.filter_map(|value| hub_core::api::warning(value.to_str().ok()?));
    Ok(ApiResponse {
        warnings: warnings.collect(),
        code: answer.code,
        content_type: content_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or("application/json")
            .to_owned(),
        body: answer.body,
    })
}

/// Some answers are none: they are about us, or do not come from the API server.
fn judge(door: &Door, is_read: bool, request: &ApiRequest, answer: &Answer) -> Result<(), UpstreamError> {
    match answer.code {
        // Whoever is impersonated was let in by us: it is our own credentials that are refused.
        401 => Err(UpstreamError::Unreachable),
        403 if door.is_settling() => {
            tracing::debug!(verb = %request.verb, target = ?request.target, "denied by an API server that has just come back; it counts as no answer");
            Err(UpstreamError::Unreachable)
        }
        403 if request.user.is_some() => match Right::of_impersonation(&answer.refusal().message) {
            Some(right) => {
                door.rights.report(right, &answer.refusal().message);
                Err(UpstreamError::Unreachable)
            }
            None => Ok(()),
        },
        403 => {
            if let Some(right) = Right::of_request(request) {
                door.rights.report(right, &answer.refusal().message);
            }
            Ok(())
        }
        // A load balancer in front of an API server that is away.
        502..=504 if !answer.refusal().is_status => Err(if is_read || answer.code == 503 {
            UpstreamError::Unreachable
        } else {
            UpstreamError::Timeout
        }),
        200..=299 if is_senseless(request, answer) => {
            door.metrics.garbage.inc();
            tracing::warn!(verb = %request.verb, target = ?request.target, "the API server answers with what is no object; it counts as no answer");
            Err(if is_read {
                UpstreamError::Unreachable
            } else {
                UpstreamError::Timeout
            })
        }
        _ => Ok(()),
    }
}

/// Whether this is the page of some proxy that calls itself a success. Whoever took it for one would forget a report that nobody took.
fn is_senseless(request: &ApiRequest, answer: &Answer) -> bool {
    let content_type = answer.headers.get(header::CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    // What stands behind a proxy says what it likes.
    let is_resource = match &request.target {
        Target::Resource { subresource, .. } => {
            let first = subresource.as_deref().and_then(|path| path.split('/').next());
            first != Some("proxy")
        }
        Target::Path(_) => false,
    };
    let is_json = content_type.is_empty() || content_type.contains("json");
    let is_page = content_type.contains("html") && !request.accept.contains("html");
    is_resource
        && (is_page
            || is_json && Metadata::parse(&answer.body).map_or(true, |metadata| metadata.kind.is_empty()))
}

fn to_http(request: &ApiRequest) -> Result<Request<Bytes>, http::Error> {
    let method = match request.verb {
        Verb::Get | Verb::List | Verb::Watch => Method::GET,
        Verb::Create => Method::POST,
        Verb::Update => Method::PUT,
        Verb::Patch => Method::PATCH,
        Verb::Delete | Verb::DeleteCollection => Method::DELETE,
    };
    let mut uri = match &request.target {
        Target::Resource {
            resource,
            namespace,
            name,
            subresource,
        } => path(
            resource,
            namespace.as_deref(),
            name.as_deref(),
            subresource.as_deref(),
        ),
        Target::Path(path) => path.split('/').map(segment).collect::<Vec<_>>().join("/"),
    };
    if !request.query.is_empty() {
        uri.push('?');
        uri.push_str(&request.query);
    }
    let accept = if request.accept.is_empty() {
        "application/json"
    } else {
        &request.accept
    };
    let mut http = Request::builder()
        .method(method)
        .uri(uri)
        .header(header::ACCEPT, accept);
    if !request.body.is_empty() {
        let content_type = if request.content_type.is_empty() {
            "application/json"
        } else {
            &request.content_type
        };
        http = http.header(header::CONTENT_TYPE, content_type);
    }
    for (name, value) in request.user.iter().flat_map(impersonation) {
        http = http.header(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    http.body(request.body.clone())
}

/// The headers that say in whose name the request is made (Kubernetes, "User impersonation").
fn impersonation(user: &User) -> Vec<(String, String)> {
    let mut headers = vec![("impersonate-user".to_owned(), user.name.clone())];
    let account = user.name.strip_prefix("system:serviceaccount:");
    let namespace = account
        .and_then(|account| account.split_once(':'))
        .map(|(namespace, _)| namespace);
    for group in &user.groups {
        // What the API server adds by itself needs no right of ours.
        let implied = match group.strip_prefix("system:serviceaccounts") {
            _ if group == "system:authenticated" => true,
            Some("") => namespace.is_some(),
            Some(rest) => rest.strip_prefix(':') == namespace && namespace.is_some(),
            None => false,
        };
        if !implied {
            headers.push(("impersonate-group".into(), group.clone()));
        }
    }
    if !user.uid.is_empty() {
        headers.push(("impersonate-uid".into(), user.uid.clone()));
    }
    for (key, values) in &user.extra {
        let name = format!(
            "impersonate-extra-{}",
            encode(&key.to_lowercase(), |byte| byte.is_ascii_alphanumeric()
                || b"!#$&'*+-.^_`|~".contains(&byte))
        );
        headers.extend(values.iter().map(|value| (name.clone(), value.clone())));
    }
    headers
}

fn asks_for_a_watch(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(key, value)| {
        key == "watch" && !matches!(&*value, "" | "0" | "false" | "False" | "f" | "F" | "FALSE")
    })
}

/// The path of a collection, an object or a subresource. Names come from nodes: none can become another path.
pub(super) fn path(
    resource: &GroupVersionResource,
    namespace: Option<&str>,
    name: Option<&str>,
    subresource: Option<&str>,
) -> String {
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", segment(&resource.version))
    } else {
        format!(
            "/apis/{}/{}",
            segment(&resource.group),
            segment(&resource.version)
        )
    };
    let parts = [
        namespace.map(|_| "namespaces"),
        namespace,
        Some(&*resource.resource),
        name,
    ];
    for part in parts.into_iter().flatten() {
        path.push('/');
        path.push_str(&segment(part));
    }
    for part in subresource.iter().flat_map(|subresource| subresource.split('/')) {
        path.push('/');
        path.push_str(&segment(part));
    }
    path
}

/// Whether a text may stand in a path. The API server decodes a path before it takes it apart, so encoding is no protection
/// (Kubernetes `apimachinery/pkg/api/validation/path`).
pub(super) fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains(['/', '%'])
}

fn is_path(target: &Target) -> bool {
    match target {
        Target::Resource {
            resource,
            namespace,
            name,
            subresource,
        } => {
            let parts = [
                namespace.as_deref(),
                name.as_deref(),
                Some(&resource.resource),
                Some(&resource.version),
            ];
            let subresource = subresource.iter().flat_map(|subresource| subresource.split('/'));
            let group = Some(&*resource.group).filter(|group| !group.is_empty());
            parts
                .into_iter()
                .chain([group])
                .flatten()
                .chain(subresource)
                .all(is_segment)
        }
        // A slash at the end is as good as none.
        Target::Path(path) => match path.strip_prefix('/') {
            Some(rest) => {
                rest.is_empty() || rest.strip_suffix('/').unwrap_or(rest).split('/').all(is_segment)
            }
            None => false,
        },
    }
}

/// One segment of a path (RFC 3986, section 3.3).
fn segment(text: &str) -> String {
    encode(text, |byte| {
        byte.is_ascii_alphanumeric() || b"-_.~:@!$&'()*+,;=".contains(&byte)
    })
}

fn encode(text: &str, is_plain: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> GroupVersionResource {
        GroupVersionResource::core("pods")
    }

    #[test]
    fn a_request_becomes_the_same_over_http() {
        let mut request = ApiRequest::resource(Verb::Patch, pods(), Some("d"), Some("a"))
            .with_subresource("status")
            .with_body("application/merge-patch+json", "{}");
        request.query = "fieldManager=x".into();
        request.user = Some(User {
            name: "system:node:edge-1".into(),
            groups: vec!["system:nodes".into(), "system:authenticated".into()],
            uid: "7".into(),
            extra: [(
                "authentication.kubernetes.io/pod-name".to_owned(),
                vec!["web".to_owned()],
            )]
            .into(),
        });
        let http = to_http(&request).unwrap();
        assert_eq!(http.method(), Method::PATCH);
        assert_eq!(http.uri(), "/api/v1/namespaces/d/pods/a/status?fieldManager=x");
        let headers: Vec<_> = http
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        assert_eq!(
            headers,
            [
                "accept: application/json",
                "content-type: application/merge-patch+json",
                "impersonate-user: system:node:edge-1",
                "impersonate-group: system:nodes",
                "impersonate-uid: 7",
                "impersonate-extra-authentication.kubernetes.io%2fpod-name: web",
            ]
        );
    }

    #[test]
    fn the_groups_of_a_service_account_need_no_right_of_ours() {
        let groups = [
            "system:serviceaccounts",
            "system:serviceaccounts:shop",
            "system:serviceaccounts:other",
            "system:authenticated",
        ];
        let user = User {
            name: "system:serviceaccount:shop:web".into(),
            groups: groups.map(str::to_owned).to_vec(),
            ..User::default()
        };
        let named: Vec<_> = impersonation(&user).into_iter().map(|(_, value)| value).collect();
        assert_eq!(
            named,
            ["system:serviceaccount:shop:web", "system:serviceaccounts:other"]
        );
    }

    #[test]
    fn no_name_becomes_another_path() {
        assert_eq!(
            path(&pods(), Some("a?b#c"), Some("d e"), None),
            "/api/v1/namespaces/a%3Fb%23c/pods/d%20e"
        );
        let target = |namespace, name| ApiRequest::resource(Verb::Get, pods(), namespace, name).target;
        assert!(
            is_path(&target(Some("shop"), Some("system:node:a")))
                && is_path(&Target::Path("/openapi/v3/".into()))
        );
        for odd in ["..", ".", "", "a/b", "a%2fb", "../../secrets"] {
            assert!(
                !is_path(&target(Some(odd), None)) && !is_path(&target(None, Some(odd))),
                "{odd}"
            );
        }
        for odd in [
            "",
            "version",
            "/api/../x",
            "/a%2e",
            "http://other/",
            "//other",
            "/a//b",
        ] {
            assert!(!is_path(&Target::Path(odd.into())), "{odd}");
        }
        let mut request = ApiRequest::resource(Verb::Get, pods(), None, None);
        request.user = Some(User {
            name: "a\r\nimpersonate-group: system:masters".into(),
            ..User::default()
        });
        assert!(to_http(&request).is_err());
    }

    #[test]
    fn a_hidden_watch_is_seen() {
        assert!(asks_for_a_watch("limit=1&watch=true") && asks_for_a_watch("w%61tch=1"));
        assert!(!asks_for_a_watch("watch=false&x=watch") && !asks_for_a_watch(""));
    }
}
