//! Requests as KubeEdge's application says them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::options::{options, options_kind, query};
use super::{Application, ApplicationError, Blob, Extension, InvalidApplication, null_is_default};
use crate::api::{ApiRequest, Target, Verb};
use crate::node::NodeId;
use crate::object::GroupVersionResource;

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
                warnings: Vec::new(),
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

/// Go's zero time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
