//! An object from the cloud goes to the store, and is acknowledged once it is on the disk.
//!
//! All kinds take the same way. Which collection an object lives in is said by its own `apiVersion` and `kind`, looked up among
//! the kinds that this node knows; where a stock cloud leaves them out, by the kind in the route.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use hub_core::catch_up::{self, Complete, Refused};
use hub_core::message::{Content, Message, Operation, ResourceParts};
use hub_core::object::{InvalidObject, Metadata, Object, ObjectKey};
use hub_core::registry::{Registry, ResourceKind};
use hub_core::scope::Scope;
use hub_core::service::{BoxError, Matcher, Reply, Request, Router};
use hub_core::store::{Change, ObjectStore};
use hub_core::transport::Capabilities;
use tokio::sync::watch;
use tower::Service;

use crate::doubt::Doubts;
use crate::twin;

/// The routes of what comes down.
pub(crate) fn routes(store: Arc<dyn ObjectStore>, own: [Scope; 2], doubts: Arc<Doubts>) -> Router {
    let apply = Apply {
        store,
        own: Arc::new(own),
        doubts,
        defining: Arc::new(watch::channel(0).0),
    };
    let complete = apply.clone();
    let complete = tower::service_fn(move |request: Request| complete.clone().complete(request.message));
    let lost = apply.clone();
    let lost = tower::service_fn(move |request: Request| lost.clone().lost(request.message));
    let about = |resource: &str| {
        Matcher::any()
            .source(catch_up::SOURCE)
            .operation(Operation::Update)
            .prefix(resource)
    };
    let mut router = Router::new()
        .route(about(catch_up::COMPLETE), complete)
        .route(about(catch_up::LOST), lost);
    for operation in [Operation::Insert, Operation::Update, Operation::Delete] {
        router = router.route(
            Matcher::any().group("resource").operation(operation),
            apply.clone(),
        );
    }
    // What KubeEdge's other modules would take: device twins, rules, jobs. The cloud does not wait for an answer, and a node
    // without these modules is no error. An embedder's routes come before these.
    for group in ["resource", "twin", "user", "taskmanager", "func", "cloudhub"] {
        router = router.route(Matcher::any().group(group), tower::service_fn(ignore));
    }
    router
}

/// What the store holds of the object that a message is about, exactly as the cloud sent it.
pub(crate) fn held(store: &dyn ObjectStore, message: &Message) -> Option<Bytes> {
    let parts = message.route.resource.parts()?;
    let kinds = named(store.registry(), parts.kind);
    kinds
        .iter()
        .find_map(|kind| Some(store.get(&key(kind, &parts)?)?.object.body.clone()))
}

/// The object may not be stored. The cloud's move; the text goes to it.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("{0:?} names no object")]
    Route(String),
    #[error("the content says what went wrong elsewhere; it is no object")]
    ErrorStatus,
    #[error(transparent)]
    Object(#[from] InvalidObject),
    #[error("this node does not know the kind {kind} of {api_version} yet")]
    UnknownKind { api_version: String, kind: String },
    #[error("the content names no kind, and {0:?} is none, or more than one, that this node knows")]
    Untyped(String),
}

/// Stores, and removes. As a [`Service`] it hands the change to the store when first polled, so the store sees changes in the
/// order of their arrival.
#[derive(Clone)]
struct Apply {
    store: Arc<dyn ObjectStore>,
    /// What every node holds; complete when the cloud says that everything was sent.
    own: Arc<[Scope; 2]>,
    /// What a catch-up deletes waits for its end here.
    doubts: Arc<Doubts>,
    /// How many definitions of custom kinds are on their way to the disk.
    defining: Arc<watch::Sender<usize>>,
}

impl Apply {
    async fn apply(self, request: Request) -> Result<Reply, BoxError> {
        let Request {
            capabilities,
            message,
            ..
        } = request;
        let change = match self.change(&message) {
            // Its definition may be just before it.
            Err(Unfit::UnknownKind { .. } | Unfit::Untyped(_)) if *self.defining.borrow() > 0 => {
                let _ = self
                    .defining
                    .subscribe()
                    .wait_for(|defining| *defining == 0)
                    .await;
                self.change(&message)
            }
            change => change,
        };
        let change = match change {
            Ok(change) => change,
            // A stock cloud reads no refusal: it would send this for ever, and nothing else for 25 s each time (weak spot T1).
            // Nothing is lost by taking it: no second copy would fit either, and the lists of a scope fill what its kind lacks.
            Err(unfit) if capabilities == Capabilities::NONE => {
                let resource = &message.route.resource;
                tracing::warn!(%resource, %unfit, "the cloud sent what cannot be kept here; it is acknowledged and dropped");
                return Ok(Reply::Done);
            }
            Err(unfit) => return Err(unfit.into()),
        };
        match &change {
            Change::Put(object) => self.doubts.forget(&object.key),
            change if capabilities.resume && self.doubts.collect(change) => return Ok(Reply::Done),
            Change::Delete { key, .. } => self.doubts.forget(key),
            _ => {}
        }
        let _defining = Defining::of(&change, &self.defining);
        self.store.apply(vec![change]).await?;
        tracing::debug!(target: "way", "on the disk");
        Ok(Reply::Done)
    }

    fn change(&self, message: &Message) -> Result<Change, Unfit> {
        let registry = self.store.registry();
        if let Some(parts) = message.route.resource.parts() {
            twin::learn(registry, parts.kind);
        }
        if message.route.operation == Operation::Delete {
            return self.deletion(message);
        }
        if is_error_status(&message.content) {
            return Err(Unfit::ErrorStatus);
        }
        let body = message.content.document_bytes();
        let (kind, typed) = kind_of(registry, &*self.store, message, &body)?;
        let body = if typed { body } else { with_type(&kind, &body) };
        Ok(Change::Put(Object::from_body(kind.resource.clone(), body)?))
    }

    /// The content of a deletion may be the last state, a few fields of it, or nothing at all.
    fn deletion(&self, message: &Message) -> Result<Change, Unfit> {
        let body = message.content.document_bytes();
        let is_object = body.first() == Some(&b'{');
        let (kind, _) = kind_of(
            self.store.registry(),
            &*self.store,
            message,
            if is_object { &body } else { b"{}" },
        )?;
        let metadata = if is_object {
            Metadata::parse(&body).map_err(InvalidObject::from)?
        } else {
            Metadata::default()
        };
        let key = if metadata.name.is_empty() {
            let parts = message.route.resource.parts();
            let parts = parts.ok_or_else(|| Unfit::Route(message.route.resource.to_string()))?;
            key(&kind, &parts).ok_or_else(|| Unfit::Route(message.route.resource.to_string()))?
        } else {
            let namespace = (!metadata.namespace.is_empty()).then_some(&*metadata.namespace);
            ObjectKey::new(kind.resource.clone(), namespace, &metadata.name)
        };
        let version = message.header.resource_version.clone();
        Ok(Change::Delete {
            key,
            uid: (!metadata.uid.is_empty()).then(|| (&*metadata.uid).into()),
            version: version.or_else(|| {
                (!metadata.resource_version.is_empty()).then(|| (&*metadata.resource_version).into())
            }),
        })
    }

    /// The end of a catch-up: everything before it is on the disk, because the cloud waited for the acknowledgements.
    async fn complete(self, message: Message) -> Result<Reply, BoxError> {
        let complete: Complete = message.content.decode("the end of a catch-up")?;
        let refused = complete
            .refused
            .iter()
            .filter_map(|refused| refused.scope.scope());
        // First, so that nobody who follows such a scope takes its end for deletions.
        let dropped = complete.refused.iter().filter_map(dropped).collect();
        self.store.apply(dropped).await?;
        let settled = self
            .doubts
            .settle(&*self.store, &refused.map(|scope| scope.resource).collect());
        // In parts, so that other writers come between them.
        for batch in settled.deletions.chunks(BATCH_MAX) {
            self.store.apply(batch.to_vec()).await?;
        }
        let scopes = complete.scopes.iter().filter_map(catch_up::ScopeText::scope);
        let changes = self
            .own
            .iter()
            .cloned()
            .chain(scopes)
            .filter(|scope| !settled.doubted.contains(&scope.resource))
            .map(Change::Complete);
        self.store.apply(changes.collect()).await?;
        self.doubts.done(&settled);
        Ok(Reply::Done)
    }

    /// A scope that the cloud followed is followed no more. What is held of it is compared with the next catch-up.
    async fn lost(self, message: Message) -> Result<Reply, BoxError> {
        let lost: Refused = message.content.decode("what is followed no more")?;
        self.store.apply(dropped(&lost).into_iter().collect()).await?;
        Ok(Reply::Done)
    }
}

impl Service<Request> for Apply {
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.clone().apply(request).boxed()
    }
}

/// What follows from a scope that the cloud does not give.
fn dropped(refused: &Refused) -> Option<Change> {
    let scope = refused.scope.scope()?;
    tracing::warn!(
        %scope,
        reason = refused.reason,
        "the cloud does not give this node what a client of it wants; check the node's permissions"
    );
    Some(Change::Drop(scope))
}

/// Counts a definition that is on its way, so that objects of its kind wait for it instead of being refused.
struct Defining<'a>(&'a watch::Sender<usize>);

impl<'a> Defining<'a> {
    fn of(change: &Change, defining: &'a watch::Sender<usize>) -> Option<Self> {
        let Change::Put(object) = change else { return None };
        (&*object.key.resource.resource == "customresourcedefinitions").then(|| {
            defining.send_modify(|n| *n += 1);
            Self(defining)
        })
    }
}

impl Drop for Defining<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

async fn ignore(request: Request) -> Result<Reply, BoxError> {
    let route = &request.message.route;
    tracing::debug!(group = &*route.group, operation = %route.operation, resource = %route.resource, "not for this node's hub");
    Ok(Reply::Done)
}

/// The kind of an object, and whether its body says it.
fn kind_of(
    registry: &Registry,
    store: &dyn ObjectStore,
    message: &Message,
    body: &[u8],
) -> Result<(Arc<ResourceKind>, bool), Unfit> {
    let metadata = Metadata::parse(body).map_err(InvalidObject::from)?;
    if !metadata.kind.is_empty() && !metadata.api_version.is_empty() {
        let kind = registry.by_kind(&metadata.api_version, &metadata.kind);
        let unknown = || Unfit::UnknownKind {
            api_version: metadata.api_version.chars().take(SHOWN).collect(),
            kind: metadata.kind.chars().take(SHOWN).collect(),
        };
        return Ok((kind.ok_or_else(unknown)?, true));
    }
    let route = &message.route.resource;
    let parts = route.parts().ok_or_else(|| Unfit::Route(route.to_string()))?;
    let kinds = named(registry, parts.kind);
    let held = |kind: &&Arc<ResourceKind>| key(kind, &parts).is_some_and(|key| store.get(&key).is_some());
    let kind = match &kinds[..] {
        [only] => Some(only),
        // One name in several groups or versions: what is held already is meant.
        several => several.iter().find(held),
    };
    Ok((
        kind.ok_or_else(|| Unfit::Untyped(parts.kind.into()))?.clone(),
        false,
    ))
}

/// The kinds that a route may mean. Some of a Go cloud's controllers say the collection (`leases`) where others say the kind.
fn named(registry: &Registry, name: &str) -> Vec<Arc<ResourceKind>> {
    let kinds = registry.by_lower_kind(name);
    if !kinds.is_empty() {
        return kinds;
    }
    let all = registry.all().into_iter();
    all.filter(|kind| &*kind.resource.resource == name).collect()
}

fn key(kind: &ResourceKind, parts: &ResourceParts<'_>) -> Option<ObjectKey> {
    Some(ObjectKey::new(
        kind.resource.clone(),
        parts.namespace.filter(|_| kind.namespaced),
        parts.name?,
    ))
}

/// Whether this is `{"ErrStatus":…}`: a failure that stock edges take for an object (weak spot L7).
pub(crate) fn is_error_status(content: &Content) -> bool {
    content
        .document()
        .trim_ascii_start()
        .starts_with(b"{\"ErrStatus\"")
}

/// A JSON object with `kind` and `apiVersion` before its other fields.
pub(crate) fn with_type(kind: &ResourceKind, body: &[u8]) -> Bytes {
    let rest = body.trim_ascii_start();
    let rest = rest.strip_prefix(b"{").unwrap_or(rest).trim_ascii_start();
    let mut typed = BytesMut::with_capacity(body.len() + 64);
    // Neither can hold a quote: they come from discovery or from a definition that was parsed.
    let (name, version) = (
        serde_json::json!(&*kind.kind),
        serde_json::json!(kind.resource.api_version()),
    );
    typed.put_slice(format!("{{\"kind\":{name},\"apiVersion\":{version}").as_bytes());
    if !rest.starts_with(b"}") {
        typed.put_u8(b',');
    }
    typed.put_slice(rest);
    typed.freeze()
}

/// Deletions in one change of the store.
const BATCH_MAX: usize = 500;
/// Characters of a peer's text in our reasons.
const SHOWN: usize = 100;
