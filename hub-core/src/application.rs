//! KubeEdge's *application*: a request to the Kubernetes API as the content of a message (tunnel specification §6.5).
//!
//! Between our own ends an application carries one more field, `Tunnel`, with what KubeEdge's form cannot say: the query string as
//! it came, the media types, the HTTP status code. Stock peers ignore it, and it is ignored where it is missing.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::api::{ApiRequest, ApiResponse, Reason, Status, Target, User, Verb};
use crate::message::{Content, Message, Operation, Route};
use crate::node::NodeId;
use crate::object::GroupVersionResource;

/// The source of requests.
pub const SOURCE_EDGE: &str = "metaserver";
/// The source of answers, and of the events of watches.
pub const SOURCE_CLOUD: &str = "dynamiccontroller";
/// The resource of a message that carries all watches an edge still wants.
pub const WATCH_SYNC: &str = "watchapp/sync";
/// The resource of every other answer.
const ANSWER: &str = "ignore/Application/ignore";

/// A request, and its answer once there is one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Application {
    /// Hex SHA-256 of what is asked.
    #[serde(rename = "ID")]
    pub id: String,
    /// `/<group or core>/<version>/<resource>/<namespace or null>/<name or null>`, or a path such as `/version`.
    pub key: String,
    /// `get`, `list`, `watch`, `create`, `update`, `updatestatus`, `patch`, `delete`.
    pub verb: String,
    /// Who asks. The cloud goes by the connection, never by this.
    pub nodename: String,
    /// The options object of the verb, JSON.
    pub option: Blob,
    /// The object of the request, JSON.
    pub req_body: Blob,
    /// `status`, …
    pub subresource: String,
    /// The object or list of the answer.
    pub resp_body: Blob,
    /// `InApplying`, `Approved`, `Rejected`, …
    pub status: String,
    /// Why it failed, where the API server had no part in it.
    pub reason: String,
    /// Why it failed, in the API server's words.
    pub error: ApplicationError,
    /// Bookkeeping of KubeEdge's.
    #[serde(deserialize_with = "null_is_default")]
    pub timestamp: String,
    /// What KubeEdge's form cannot say; only between our own ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Extension>,
}

/// Bytes, as Go writes them: base64, or null for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Bytes);

/// The error of an application; always there, empty for success.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplicationError {
    /// A `metav1.Status`.
    #[serde(rename = "ErrStatus")]
    pub status: Option<Box<RawValue>>,
}

impl PartialEq for ApplicationError {
    fn eq(&self, other: &Self) -> bool {
        self.status.as_ref().map(|s| s.get()) == other.status.as_ref().map(|s| s.get())
    }
}

/// What our own ends add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Extension {
    /// The query string.
    pub query: String,
    /// The media type of the request's or the answer's body.
    pub content_type: String,
    /// What the client accepts.
    pub accept: String,
    /// The HTTP status code of the answer.
    pub code: u16,
    /// In whose name the node asks, where it does not ask for itself. The cloud decides what that is worth: a node can say
    /// anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
}

/// The content is no request that an API server could understand. The peer's move.
#[derive(Debug, thiserror::Error)]
pub enum InvalidApplication {
    /// Not the JSON of an application.
    #[error(transparent)]
    Content(#[from] crate::message::ContentError),
    /// `Verb` is none of KubeEdge's.
    #[error("unknown verb {0:?}")]
    Verb(String),
    /// `Key` is neither an object nor a path.
    #[error("unknown key {0:?}")]
    Key(String),
    /// `Option` does not fit the verb.
    #[error("malformed options: {0}")]
    Option(#[from] serde_json::Error),
}

impl Application {
    /// The application that asks for `request`, in KubeEdge's words and, for our own cloud, in ours too.
    pub fn request(node: &NodeId, request: &ApiRequest) -> Self {
        let mut application = Self {
            verb: request.verb.as_str().into(),
            nodename: node.as_str().into(),
            status: "InApplying".into(),
            timestamp: NO_TIME.into(),
            error: ApplicationError::none(),
            tunnel: Some(Extension {
                query: request.query.clone(),
                content_type: request.content_type.clone(),
                accept: request.accept.clone(),
                code: 0,
                user: request.user.clone(),
            }),
            ..Self::default()
        };
        let (mut name, mut subresource) = (None, None);
        application.key = match &request.target {
            Target::Path(path) => path.to_string(),
            Target::Resource {
                resource,
                namespace,
                name: named,
                subresource: sub,
            } => {
                (name, subresource) = (named.as_deref(), sub.as_deref());
                let group = if resource.group.is_empty() {
                    "core"
                } else {
                    &*resource.group
                };
                // A created object is named by its body.
                let named = named
                    .as_deref()
                    .filter(|_| request.verb != Verb::Create || sub.is_some());
                let (namespace, named) = (namespace.as_deref().unwrap_or("null"), named.unwrap_or("null"));
                format!(
                    "/{group}/{}/{}/{namespace}/{named}",
                    resource.version, resource.resource
                )
            }
        };
        application.subresource = subresource.unwrap_or("").into();
        match request.verb {
            Verb::Patch => {
                let patch = PatchInfo {
                    name: name.unwrap_or("").into(),
                    patch_type: request.content_type.clone(),
                    data: Blob(request.body.clone()),
                    options: Value::Object(options("PatchOptions", &request.query)),
                    subresources: vec![application.subresource.clone()],
                };
                application.option = Blob(serde_json::to_vec(&patch).unwrap_or_default().into());
            }
            verb => {
                let mut fields = options(options_kind(verb), &request.query);
                if verb == Verb::Watch {
                    fields.insert("watch".into(), true.into());
                }
                if matches!(verb, Verb::Delete | Verb::DeleteCollection)
                    && let Ok(body) = serde_json::from_slice::<Map<String, Value>>(&request.body)
                {
                    fields.extend(body);
                }
                if verb == Verb::Update && application.subresource == "status" {
                    application.verb = "updatestatus".into();
                }
                application.option = Blob(Value::Object(fields).to_string().into());
                if matches!(verb, Verb::Create | Verb::Update) {
                    application.req_body = Blob(request.body.clone());
                }
            }
        }
        application.id = application.digest();
        application
    }

    /// The request that is asked.
    pub fn to_request(&self) -> Result<ApiRequest, InvalidApplication> {
        let (verb, subresource) = match self.verb.as_str() {
            "get" => (Verb::Get, &*self.subresource),
            "list" => (Verb::List, ""),
            "watch" => (Verb::Watch, ""),
            "create" => (Verb::Create, &*self.subresource),
            "update" => (Verb::Update, &*self.subresource),
            "updatestatus" => (Verb::Update, "status"),
            "patch" => (Verb::Patch, &*self.subresource),
            "delete" => (Verb::Delete, &*self.subresource),
            "deletecollection" => (Verb::DeleteCollection, ""),
            other => return Err(InvalidApplication::Verb(other.into())),
        };
        let mut request = ApiRequest::new(verb, self.target(subresource)?);
        let option = if self.option.0.is_empty() {
            b"{}".as_slice()
        } else {
            &self.option.0
        };
        match verb {
            Verb::Patch => {
                let patch: PatchInfo = serde_json::from_slice(option)?;
                request.content_type = patch.patch_type;
                request.body = patch.data.0;
                if let Value::Object(fields) = &patch.options {
                    request.query = query(fields);
                }
                if let (Target::Resource { subresource, .. }, Some(first)) = (
                    &mut request.target,
                    patch.subresources.first().filter(|s| !s.is_empty()),
                ) {
                    *subresource = Some(first.as_str().into());
                }
            }
            Verb::Delete | Verb::DeleteCollection => {
                request.content_type = "application/json".into();
                request.body = Bytes::copy_from_slice(option);
            }
            _ => {
                let fields: Map<String, Value> = serde_json::from_slice(option)?;
                request.query = query(&fields);
                if !self.req_body.0.is_empty() {
                    request.content_type = "application/json".into();
                    request.body = self.req_body.0.clone();
                }
            }
        }
        if let Some(tunnel) = &self.tunnel {
            request.query = tunnel.query.clone();
            request.accept = tunnel.accept.clone();
            if !tunnel.content_type.is_empty() {
                request.content_type = tunnel.content_type.clone();
            }
            request.user = tunnel.user.clone();
        }
        Ok(request)
    }

    /// The same application with its answer.
    #[must_use]
    pub fn answered(&self, response: &ApiResponse) -> Self {
        let mut answer = self.clone();
        if response.is_success() {
            answer.status = "Approved".into();
            answer.resp_body = Blob(response.body.clone());
        } else {
            answer.status = "Rejected".into();
            answer.error.status = std::str::from_utf8(&response.body)
                .ok()
                .and_then(|text| RawValue::from_string(text.into()).ok())
                .filter(|raw| raw.get().starts_with('{'));
            if answer.error.status.is_none() {
                answer.error = ApplicationError::none();
                answer.reason = String::from_utf8_lossy(&response.body).into_owned();
            }
        }
        if let Some(tunnel) = &mut answer.tunnel {
            *tunnel = Extension {
                code: response.code,
                content_type: response.content_type.clone(),
                ..Extension::default()
            };
            // The asker knows what it asked.
            answer.option = Blob::default();
            answer.req_body = Blob::default();
        }
        answer
    }

    /// The answer in an application that came back.
    pub fn to_response(&self) -> ApiResponse {
        if self.status == "Approved" {
            if let Some(tunnel) = self.tunnel.as_ref().filter(|t| t.code != 0) {
                return ApiResponse {
                    code: tunnel.code,
                    content_type: tunnel.content_type.clone(),
                    body: self.resp_body.0.clone(),
                    warnings: Vec::new(),
                };
            }
            if self.resp_body.0.is_empty() {
                return Status::success().into();
            }
            return ApiResponse::json(
                if self.verb == "create" { 201 } else { 200 },
                self.resp_body.0.clone(),
            );
        }
        #[derive(Deserialize)]
        struct Code {
            #[serde(default)]
            code: u16,
        }
        if let Some(status) = &self.error.status
            && let Ok(Code {
                code: code @ 400..=599,
            }) = serde_json::from_str(status.get())
        {
            return ApiResponse::json(code, status.get().to_owned());
        }
        if let Some(tunnel) = self.tunnel.as_ref().filter(|t| t.code != 0) {
            return ApiResponse {
                code: tunnel.code,
                content_type: tunnel.content_type.clone(),
                body: self.reason.clone().into(),
                warnings: Vec::new(),
            };
        }
        // KubeEdge puts a client's error into the reason, an API server's into the error.
        const UNKNOWN: &str = "the server could not find the requested resource";
        // It wraps what an API server says to a list, and so loses the code.
        let reason = if self.reason.contains(UNKNOWN) {
            Reason::NotFound
        } else if self.reason.contains(" is forbidden: ") {
            Reason::Forbidden
        } else {
            Reason::InternalError
        };
        let text = if self.reason.is_empty() {
            "the cloud rejected the request without a reason"
        } else {
            &self.reason
        };
        Status::failure(reason, text).into()
    }

    /// The message that asks.
    pub fn to_message(&self) -> Message {
        Message::new(
            Route::new(SOURCE_EDGE, SOURCE_CLOUD, Operation::Null, "null"),
            Content::encode(self),
        )
    }

    /// The message that answers `request` with this application.
    pub fn to_answer(&self, request: &Message) -> Message {
        answer(request, ANSWER, Content::encode(self))
    }

    /// The application in a message.
    pub fn from_content(content: &Content) -> Result<Self, InvalidApplication> {
        Ok(content.decode("an application")?)
    }

    /// Hex SHA-256 over node, key, verb, options, body and subresource: equal questions have equal ids.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let parts: [&[u8]; 6] = [
            self.nodename.as_bytes(),
            self.key.as_bytes(),
            self.verb.as_bytes(),
            &self.option.0,
            &self.req_body.0,
            self.subresource.as_bytes(),
        ];
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn target(&self, subresource: &str) -> Result<Target, InvalidApplication> {
        let parts: Vec<_> = self.key.split('/').collect();
        let path = || Ok(Target::Path(self.key.as_str().into()));
        let [first, group, version, resource, namespace, name] = parts[..] else {
            return if self.key.starts_with('/') {
                path()
            } else {
                Err(InvalidApplication::Key(self.key.clone()))
            };
        };
        if !first.is_empty() || [version, resource].contains(&"") {
            return path();
        }
        let some = |text: &str| (text != "null" && !text.is_empty()).then(|| text.into());
        Ok(Target::Resource {
            resource: GroupVersionResource::new(if group == "core" { "" } else { group }, version, resource),
            namespace: some(namespace).filter(|_| resource != "namespaces"),
            name: some(name),
            subresource: some(subresource),
        })
    }
}

/// The answer to a `watchapp/sync`, or to another message with that resource: what could not be watched.
pub fn answer_watch_sync(request: &Message, failed: Content) -> Message {
    answer(request, WATCH_SYNC, failed)
}

fn answer(request: &Message, resource: &str, content: Content) -> Message {
    let mut message = request.response(content);
    message.route = Route::new(SOURCE_CLOUD, "resource", Operation::ApplicationResponse, resource);
    message
}

impl ApplicationError {
    /// What KubeEdge writes where there is no error.
    pub fn none() -> Self {
        Self {
            status: RawValue::from_string(r#"{"metadata":{}}"#.into()).ok(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct PatchInfo {
    name: String,
    patch_type: String,
    data: Blob,
    options: Value,
    #[serde(deserialize_with = "null_is_default")]
    subresources: Vec<String>,
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            serializer.serialize_none()
        } else {
            serializer.serialize_str(&BASE64.encode(&self.0))
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<Cow<'de, str>>::deserialize(deserializer)? {
            None => Ok(Self::default()),
            Some(text) => BASE64
                .decode(text.as_bytes())
                .map(|bytes| Self(bytes.into()))
                .map_err(serde::de::Error::custom),
        }
    }
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn options_kind(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
        _ => "",
    }
}

/// The options object that a query string stands for, as Go's typed options write it.
fn options(kind: &str, query: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    if !kind.is_empty() {
        fields.insert("kind".into(), kind.into());
        fields.insert("apiVersion".into(), "meta.k8s.io/v1".into());
    }
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = match &*name {
            "watch" | "allowWatchBookmarks" | "sendInitialEvents" | "force" | "orphanDependents" => {
                Value::Bool(!matches!(&*value, "false" | "0"))
            }
            "limit" | "timeoutSeconds" | "gracePeriodSeconds" => match value.parse::<i64>() {
                Ok(number) => number.into(),
                Err(_) => continue,
            },
            "dryRun" => Value::Array(vec![value.into_owned().into()]),
            "labelSelector"
            | "fieldSelector"
            | "resourceVersion"
            | "resourceVersionMatch"
            | "continue"
            | "fieldManager"
            | "fieldValidation"
            | "propagationPolicy" => value.into_owned().into(),
            _ => continue,
        };
        fields.insert(name.into_owned(), value);
    }
    fields
}

/// The query string that an options object stands for.
fn query(fields: &Map<String, Value>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        match value {
            _ if matches!(name.as_str(), "kind" | "apiVersion") => {}
            Value::String(text) => drop(query.append_pair(name, text)),
            Value::Bool(_) | Value::Number(_) => drop(query.append_pair(name, &value.to_string())),
            Value::Array(items) => {
                for item in items.iter().filter_map(Value::as_str) {
                    query.append_pair(name, item);
                }
            }
            _ => {}
        }
    }
    query.finish()
}

/// Go's zero time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        NodeId::new("edge1").unwrap()
    }

    /// As a stock edge sends it: without our field.
    fn stock(request: &ApiRequest) -> Application {
        Application {
            tunnel: None,
            ..Application::request(&node(), request)
        }
    }

    #[test]
    fn the_id_and_key_are_those_of_a_recorded_request() {
        let configmaps = GroupVersionResource::core("configmaps");
        let get = stock(&ApiRequest::resource(
            Verb::Get,
            configmaps.clone(),
            Some("default"),
            Some("web-w"),
        ));
        assert_eq!(get.key, "/core/v1/configmaps/default/web-w");
        assert_eq!(
            get.id,
            "dd5b619713953eec5f1f49e4049dcacb295bab5a2f08a5f98350eeeb55350f3d"
        );
        let list = stock(&ApiRequest::resource(
            Verb::List,
            configmaps,
            Some("default"),
            None,
        ));
        assert_eq!(
            list.id,
            "82bf5b11cd55164af8481e0d0981595bfc2f2ddf7c7d54ae05f124f7735c5b76"
        );
        let path = stock(&ApiRequest::new(Verb::Get, Target::Path("/api".into())));
        assert_eq!(
            path.id,
            "39977a7ecc6f58765cb2ba27eb87fb9d859c28a53eab8186508eb060f8ba8204"
        );
    }

    #[test]
    fn a_request_comes_back_from_its_application() {
        let pods = GroupVersionResource::core("pods");
        let body = Bytes::from_static(b"{\"a\":1}");
        let mut list = ApiRequest::resource(Verb::List, pods.clone(), None, None);
        list.query = "labelSelector=app%3Dweb&limit=5".into();
        let requests = [
            list,
            ApiRequest::resource(Verb::Patch, pods.clone(), Some("d"), Some("a"))
                .with_body("application/merge-patch+json", body.clone())
                .with_subresource("status"),
            ApiRequest::resource(Verb::Update, pods.clone(), Some("d"), Some("a"))
                .with_body("application/json", body.clone())
                .with_subresource("status"),
            ApiRequest::resource(Verb::Create, pods.clone(), Some("d"), None)
                .with_body("application/json", body),
            ApiRequest::resource(
                Verb::Get,
                GroupVersionResource::core("namespaces"),
                None,
                Some("d"),
            ),
            ApiRequest::new(Verb::Get, Target::Path("/version".into())),
        ];
        let of_somebody = requests.clone().map(|request| ApiRequest {
            user: Some(User::of_service_account("d", "agent")),
            ..request
        });
        for request in requests.into_iter().chain(of_somebody) {
            let sent = Content::encode(&Application::request(&node(), &request));
            let back = Application::from_content(&sent).unwrap();
            assert_eq!(back.to_request().unwrap(), request);
            let mut plain = stock(&request).to_request().unwrap();
            plain.query = request.query.clone();
            plain.user = request.user.clone();
            assert_eq!(plain, request, "without our field");
        }
    }

    #[test]
    fn answers_and_refusals_come_back_as_they_were() {
        let request = ApiRequest::resource(
            Verb::Get,
            GroupVersionResource::core("pods"),
            Some("d"),
            Some("a"),
        );
        for asked in [Application::request(&node(), &request), stock(&request)] {
            for response in [
                ApiResponse::json(200, "{\"kind\":\"Pod\"}"),
                Status::not_found("", "pods", "a").into(),
            ] {
                let travelled =
                    Application::from_content(&Content::encode(&asked.answered(&response))).unwrap();
                assert_eq!(travelled.to_response(), response);
            }
        }
        let text = ApiResponse {
            code: 404,
            content_type: "text/plain".into(),
            body: "404 page not found".into(),
            warnings: Vec::new(),
        };
        let travelled = Application::request(&node(), &request).answered(&text);
        assert_eq!(travelled.to_response(), text);
    }

    #[test]
    fn a_reason_without_a_status_is_an_error_all_the_same() {
        for (reason, code) in [
            (
                "get current list error: the server could not find the requested resource",
                404,
            ),
            (
                "get current list error: secrets is forbidden: User cannot list resource",
                403,
            ),
            ("converting kubeClient failed", 500),
        ] {
            let json = format!(
                r#"{{"ID":"x","Key":"/a/b","Verb":"list","Option":"e30=","ReqBody":null,"RespBody":"","Status":"Rejected",
                "Reason":"{reason}","Error":{{"ErrStatus":{{"metadata":{{}}}}}},"Timestamp":null}}"#
            );
            let application = Application::from_content(&Content::from_json(json.into())).unwrap();
            assert_eq!(application.to_response().code, code, "{reason}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (verb, key) in [("fly", "/core/v1/pods/null/null"), ("get", "core")] {
            let application = Application {
                verb: verb.into(),
                key: key.into(),
                ..Application::default()
            };
            assert!(application.to_request().is_err());
        }
        assert!(Application::from_content(&Content::string("x")).is_err());
    }
}
