//! The scripted cloud: a small API server with moods, and what carries its objects to the store of a node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hub_core::api::{ApiRequest, ApiResponse, Reason, Status, Target, UpstreamError, Verb};
use hub_core::object::{GroupVersionResource, Object, ObjectKey};
use hub_core::registry::Registry;
use hub_core::scope::Scope;
use hub_core::store::{Change, Coverage, MemoryStore, ObjectStore};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How the cloud behaves at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Up,
    Unreachable,
    Silent,
    Denies,
    /// Does what it is asked, but no answer arrives.
    LosesAnswers,
}

#[derive(Clone)]
pub struct Cloud {
    state: Arc<Mutex<State>>,
    mood: watch::Sender<Mood>,
    changed: watch::Sender<u64>,
    /// Which scopes it will not have followed.
    refused: Arc<Mutex<Vec<Scope>>>,
}

struct State {
    objects: BTreeMap<ObjectKey, Value>,
    version: u64,
    pub asked: Vec<ApiRequest>,
    registry: Registry,
    /// What is answered to other paths.
    documents: BTreeMap<String, String>,
    /// What is answered to reviews.
    pub reviews: Option<fn(&ApiRequest) -> Value>,
}

impl Default for Cloud {
    fn default() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                objects: BTreeMap::new(),
                version: 100,
                asked: Vec::new(),
                registry: Registry::builtin(),
                documents: BTreeMap::new(),
                reviews: None,
            })),
            mood: watch::Sender::new(Mood::Up),
            changed: watch::Sender::new(0),
            refused: Arc::default(),
        }
    }
}

impl Cloud {
    pub fn refuses(&self, scope: Scope) {
        self.refused.lock().unwrap().push(scope);
    }

    pub fn mood(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// The object, if it is there.
    pub fn get(&self, resource: &GroupVersionResource, namespace: Option<&str>, name: &str) -> Option<Value> {
        let state = self.state.lock().unwrap();
        state
            .objects
            .get(&ObjectKey::new(resource.clone(), namespace, name))
            .cloned()
    }

    /// Publishes a document at a path.
    pub fn publish(&self, path: &str, document: impl ToString) {
        let mut state = self.state.lock().unwrap();
        state.documents.insert(path.to_owned(), document.to_string());
    }

    /// Answers reviews from now on.
    pub fn reviews(&self, answer: fn(&ApiRequest) -> Value) {
        self.state.lock().unwrap().reviews = Some(answer);
    }

    /// The requests that came so far.
    pub fn asked(&self) -> Vec<ApiRequest> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Puts an object as somebody else would, with the next version.
    pub fn put(&self, resource: &str, mut object: Value) -> u64 {
        let mut state = self.state.lock().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let (group, version) = api.split_once('/').unwrap_or(("", &api));
        let gvr = GroupVersionResource::new(group, version, resource);
        if kind == "CustomResourceDefinition" {
            state
                .registry
                .apply_definition(object.to_string().as_bytes())
                .unwrap();
        }
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let name = text(&object["metadata"]["name"]);
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid-{name}").into();
        }
        let namespace = object["metadata"]["namespace"].as_str();
        let key = ObjectKey::new(gvr, namespace, &name);
        state.objects.insert(key, object);
        self.changed.send_replace(state.version);
        state.version
    }

    pub fn remove(&self, resource: GroupVersionResource, namespace: Option<&str>, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        state.objects.remove(&ObjectKey::new(resource, namespace, name));
        self.changed.send_replace(state.version);
    }

    pub(super) async fn call(self, request: ApiRequest) -> Result<ApiResponse, UpstreamError> {
        let mood = *self.mood.borrow();
        match mood {
            Mood::Unreachable => return Err(UpstreamError::Unreachable),
            Mood::Silent => std::future::pending().await,
            Mood::Up | Mood::Denies | Mood::LosesAnswers => {}
        }
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.asked.push(request.clone());
            if mood == Mood::Denies {
                return Ok(Status::failure(Reason::Forbidden, "no").into());
            }
            state.answer(request)
        };
        self.changed.send_replace(self.state.lock().unwrap().version);
        if mood == Mood::LosesAnswers {
            return Err(UpstreamError::Timeout);
        }
        Ok(answer)
    }
}

impl State {
    fn answer(&mut self, request: ApiRequest) -> ApiResponse {
        let Target::Resource {
            resource,
            namespace,
            name,
            ..
        } = &request.target
        else {
            let Target::Path(path) = &request.target else {
                unreachable!()
            };
            return match self.documents.get(&**path) {
                Some(document) => ApiResponse::json(200, document.clone()),
                None => Status::failure(Reason::NotFound, "no such path").into(),
            };
        };
        let is_review = matches!(&*resource.group, "authentication.k8s.io" | "authorization.k8s.io");
        if let (true, Some(answer)) = (is_review, self.reviews) {
            return ApiResponse::json(201, answer(&request).to_string());
        }
        let Some(kind) = self.registry.by_resource(resource) else {
            return Status::failure(
                Reason::NotFound,
                "the server could not find the requested resource",
            )
            .into();
        };
        // A collection that is deleted is listed too.
        if matches!(request.verb, Verb::List | Verb::DeleteCollection) {
            let of_list = |key: &&ObjectKey| {
                key.resource == *resource && (namespace.is_none() || key.namespace == *namespace)
            };
            let mut items: Vec<Value> = self
                .objects
                .keys()
                .filter(of_list)
                .map(|key| self.objects[key].clone())
                .collect();
            for item in &mut items {
                // As a real server lists built-in kinds.
                item.as_object_mut()
                    .unwrap()
                    .retain(|field, _| field != "kind" && field != "apiVersion");
            }
            let list = json!({ "kind": kind.list_kind, "apiVersion": resource.api_version(),
                "metadata": { "resourceVersion": self.version.to_string() }, "items": items });
            return ApiResponse::json(200, list.to_string());
        }
        if request.content_type.contains("protobuf") {
            return Status::failure(Reason::UnsupportedMediaType, "this cloud reads JSON only").into();
        }
        let mut body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let named = name.as_deref().map(str::to_owned);
        let named = named.unwrap_or_else(|| body["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        let key = ObjectKey::new(resource.clone(), namespace.as_deref(), &named);
        let current = self.objects.get(&key).cloned();
        let not_found = || Status::not_found(&resource.group, &resource.resource, &named).into();
        let expected = match request.verb {
            Verb::Delete => body["preconditions"]["resourceVersion"].clone(),
            _ => body["metadata"]["resourceVersion"].clone(),
        };
        if let (Some(current), Some(expected)) = (&current, expected.as_str())
            && request.verb != Verb::Create
            && current["metadata"]["resourceVersion"] != expected
        {
            return Status::failure(Reason::Conflict, format!("the cloud does not know {expected}")).into();
        }
        let (code, object) = match (request.verb, current) {
            (Verb::Get, Some(current)) => return ApiResponse::json(200, current.to_string()),
            (Verb::Create, None) => {
                body["metadata"]["name"] = named.clone().into();
                if let Some(namespace) = namespace.as_deref() {
                    body["metadata"]["namespace"] = namespace.into();
                }
                body["metadata"]["uid"] = format!("uid-{named}").into();
                body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
                (201, body)
            }
            (Verb::Create, Some(_)) => {
                return Status::failure(Reason::AlreadyExists, format!("{named} exists")).into();
            }
            (Verb::Update, Some(current)) => {
                body["metadata"]["uid"] = current["metadata"]["uid"].clone();
                (200, body)
            }
            (Verb::Patch, None) if request.content_type.contains("apply-patch") => {
                if body["metadata"]["uid"].is_string() {
                    return Status::failure(Reason::Conflict, "uid mismatch").into();
                }
                body["metadata"]["uid"] = format!("uid-{named}").into();
                if let Some(namespace) = namespace.as_deref() {
                    body["metadata"]["namespace"] = namespace.into();
                }
                (201, body)
            }
            (Verb::Patch, Some(mut current)) => {
                if let Value::Array(operations) = &body {
                    for operation in operations {
                        let path = operation["path"].as_str().unwrap();
                        let (parent, field) = path.rsplit_once('/').unwrap();
                        current.pointer_mut(parent).unwrap()[field] = operation["value"].clone();
                    }
                } else {
                    merge(&mut current, body);
                }
                (200, current)
            }
            (Verb::Delete, Some(mut current)) if waits(&current) => {
                current["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                current["metadata"]["deletionGracePeriodSeconds"] = 0.into();
                (200, current)
            }
            (Verb::Delete, Some(current)) => {
                self.objects.remove(&key);
                self.version += 1;
                let mut status = Status::success().about(&resource.group, &resource.resource, &named);
                status.uid = current["metadata"]["uid"].as_str().unwrap().into();
                return status.into();
            }
            _ => return not_found(),
        };
        if request.query.contains("dryRun=All") {
            return ApiResponse::json(code, object.to_string());
        }
        let mut object = object;
        self.version += 1;
        object["kind"] = (&*kind.kind).into();
        object["apiVersion"] = resource.api_version().into();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if object["metadata"]["deletionTimestamp"].is_string() && !waits(&object) {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, object.clone());
        }
        ApiResponse::json(code, object.to_string())
    }
}

/// Whether an object has finalizers.
fn waits(object: &Value) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|all| !all.is_empty())
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    for (field, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(&field);
        } else {
            merge(&mut target[&field], value);
        }
    }
}

/// What the tunnel does for a node: while the cloud is up, wanted scopes are kept equal to it.
pub(super) async fn replicate(store: MemoryStore, cloud: Cloud) {
    let (mut scopes, mut changed, mut mood) = (
        store.scopes_changed(),
        cloud.changed.subscribe(),
        cloud.mood.subscribe(),
    );
    loop {
        if *mood.borrow_and_update() == Mood::Up {
            scopes.borrow_and_update();
            changed.borrow_and_update();
            let refused = cloud.refused.lock().unwrap().clone();
            for (scope, _) in store.scopes() {
                if refused.contains(&scope) {
                    store.apply(vec![Change::Drop(scope)]).await.unwrap();
                    continue;
                }
                let mut changes: Vec<Change> = Vec::new();
                let here = store.list(&scope.resource, scope.namespace.as_deref());
                {
                    let state = cloud.state.lock().unwrap();
                    for (key, object) in state.objects.iter().filter(|(key, _)| scope.contains_key(key)) {
                        let body = object.to_string().into();
                        changes.push(Change::Put(
                            Object::from_body(key.resource.clone(), body).unwrap(),
                        ));
                    }
                    for stored in &here.objects {
                        let key = &stored.object.key;
                        if scope.contains_key(key) && !state.objects.contains_key(key) {
                            changes.push(Change::Delete {
                                key: key.clone(),
                                uid: None,
                                version: None,
                            });
                        }
                    }
                }
                changes.push(Change::Complete(scope));
                store.apply(changes).await.unwrap();
            }
        }
        tokio::select! {
            _ = scopes.changed() => {}
            _ = changed.changed() => {}
            _ = mood.changed() => {}
        }
    }
}
