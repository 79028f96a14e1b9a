//! Gets and lists: from the store where it surely knows, else from the cloud, once, and then kept.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, WARNING};
use hub_core::api::{ApiRequest, ApiResponse, Reason, Status, UpstreamError, Verb};
use hub_core::clock::{Clock as _, SystemClock};
use hub_core::object::{Metadata, Object, ObjectKey, Revision};
use hub_core::registry::ResourceKind;
use hub_core::scope::Scope;
use hub_core::store::{Change, Listing, StoreError, Stored};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Duration, Instant, sleep};

use crate::accept::{Offer, Shape};
use crate::api::{Api, Asked};
use crate::encode::{self, IncludeObject, Page};
use crate::fault::{self, away};
use crate::options::{ListOptions, Version, is_uncached};
use crate::page::{PageToken, listing_at};
use crate::reply::{self, Reply, Source};
use crate::request::query;

impl Api {
    /// One object.
    pub(crate) async fn get(&self, asked: &Asked) -> Result<Reply, Status> {
        let form = asked.form(Offer::Object)?;
        let view = self.view(asked, form)?;
        if query(&asked.query).any(|(key, value)| key == "export" && !matches!(&*value, "" | "0" | "false")) {
            return Err(fault::bad(
                "the export parameter, deprecated since v1.14, is no longer supported",
            ));
        }
        if let Version::At(version) = Version::of_get(&asked.query, &asked.kind)? {
            self.await_version(version, &asked.kind).await?;
        }
        let Some(key) = asked.key() else {
            return Err(fault::no_resource());
        };
        if let Some(stored) = self.store.get(&key) {
            form.suits(&asked.kind, false)?;
            let body = view.object(&stored.served, Some(stored.revision));
            let answer = self.cached(asked, &Scope::object(&key), reply::encoded(200, body, form));
            return Ok(self.marked(&key, asked, answer));
        }
        // Deleted here, or in the cloud.
        if self.is_pending(&key) || self.holds(&Scope::object(&key)) {
            return Err(fault::not_found(&key.resource, &key.name));
        }
        let request = asked.request(Verb::Get, Bytes::new());
        let response = self
            .cloud
            .call(request)
            .await
            .map_err(|error| away(&error, Verb::Get, &asked.kind, Some(&key.name)))?;
        if !response.is_success() {
            return Ok(reply::passed(response, form));
        }
        let served = self.keep_object(&asked.kind, &key, &response).await?;
        Ok(reply::from(
            reply::encoded(200, view.object(&served, None), form),
            Source::Cloud,
        ))
    }

    /// A collection, or a part of it.
    pub(crate) async fn list(&self, asked: &Asked) -> Result<Reply, Status> {
        let form = asked.form(Offer::List)?;
        let view = self.view(asked, form)?;
        let namespace = asked.namespace.as_deref().filter(|_| asked.kind.namespaced);
        let options = ListOptions::parse(&asked.query, &asked.kind, namespace, None, false)?;
        let token = match &options.token {
            Some(_) if matches!(options.version, Version::At(_)) => {
                return Err(fault::bad(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            Some(token) => Some(PageToken::decode(token)?),
            None => None,
        };
        if let Version::At(version) = options.version {
            self.await_version(version, &asked.kind).await?;
        }
        if let Some(at) = token.as_ref().and_then(PageToken::revision) {
            self.await_version(at.0, &asked.kind).await?;
        }
        let scope = options.select.scope(&asked.kind);
        let (listing, source, part) = if self.holds(&scope) {
            let listing = self.listing(&asked.kind, &options, token.as_ref())?;
            (listing, Source::Cache, None)
        } else {
            let mut request = ApiRequest::resource(Verb::List, scope.resource.clone(), namespace, None);
            request.query = options.select.query();
            request.user = asked.client.caller.user();
            match self.cloud.call(request).await {
                Ok(response) if !response.is_success() => return Ok(reply::passed(response, form)),
                Ok(response) => {
                    let kept = self.keep_list(&asked.kind, scope.clone(), &response.body).await;
                    (kept, Source::Cloud, None)
                }
                Err(error) => {
                    let Some(part) = self.part(asked, &options, &error) else {
                        return Err(away(&error, Verb::List, &asked.kind, None));
                    };
                    let listing = self.listing(&asked.kind, &options, token.as_ref())?;
                    (listing, Source::Cache, Some(part))
                }
            }
        };
        form.suits(&asked.kind, true)?;
        let (page, objects) = page(listing, &options, token.as_ref());
        let answer = reply::encoded(200, view.list(&page, &objects), form);
        Ok(match (source, part) {
            (Source::Cache, Some(part)) => reply::header(self.cached(asked, &scope, answer), WARNING, part),
            (Source::Cache, None) => self.cached(asked, &scope, answer),
            (other, _) => reply::from(answer, other),
        })
    }

    /// Whether a collection that is not held as a whole is answered all the same, as the cloud cannot be asked for the rest: with what
    /// its readers are told of that.
    pub(crate) fn part(
        &self,
        asked: &Asked,
        options: &ListOptions,
        error: &UpstreamError,
    ) -> Option<&'static str> {
        let is_away = matches!(error, UpstreamError::Unreachable | UpstreamError::Timeout);
        if !is_away || self.authoritative() {
            return None;
        }
        let resource = &asked.kind.resource;
        let is_own = |(group, plural): &(Cow<'_, str>, Cow<'_, str>)| {
            **group == *resource.group && **plural == *resource.resource
        };
        if self.config.own_parts.iter().any(is_own) {
            return Some(OWN_PART);
        }
        // A program takes what it is given for all that there is, and who asks for a name takes its absence for a deletion.
        let select = &options.select;
        if !asked.client.person || select.scope(&asked.kind).name.is_some() {
            return None;
        }
        let held = self.store.list(resource, select.namespace()).objects;
        held.iter()
            .any(|stored| select.matches(stored))
            .then_some(HELD_PART)
    }

    /// Waits until the store has come to a version, for a while.
    pub(crate) async fn await_version(&self, version: u64, kind: &ResourceKind) -> Result<(), Status> {
        if self.authoritative() && is_uncached(kind) && self.store.revision().0 < version {
            return Err(Status {
                retry_after_seconds: None,
                ..fault::version_too_large(version, self.store.revision())
            });
        }
        let deadline = Instant::now() + self.config.version_timeout;
        // Any collection may bring it, so there is no one watch to wait for.
        while self.store.revision().0 < version {
            if Instant::now() >= deadline {
                return Err(fault::version_too_large(version, self.store.revision()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Marks an answer out of the store with how fresh it is.
    fn cached(&self, asked: &Asked, scope: &Scope, answer: Reply) -> Reply {
        let answer = reply::from(answer, Source::Cache);
        if self.authoritative() {
            return answer;
        }
        let (away, doubt) = (self.cloud.away(), self.cloud.doubt(scope));
        let (mut mark, mut warnings) = (String::new(), Vec::new());
        if let Some(since) = away {
            let seconds = since.as_secs();
            mark = format!("stale;age={seconds}");
            warnings.push(format!(
                "served by this node, which has been without the cloud for {seconds}s"
            ));
        }
        if let Some(since) = self.cloud.silent() {
            let seconds = since.as_secs();
            mark = format!("stale;age={seconds}");
            warnings.push(format!(
                "served by this node: the cloud has heard nothing of its API server for {seconds}s"
            ));
        }
        if let Some(doubt) = doubt {
            if mark.is_empty() {
                let age = SystemClock.unix_ms().saturating_sub(doubt.since_ms).max(0) / 1000;
                mark = format!("stale;age={age}");
            }
            mark += &format!(";held-back={}", doubt.deletions);
            warnings.push(format!(
                "{} of {} objects held here may be gone in the cloud; they stay until that is confirmed",
                doubt.deletions, doubt.held
            ));
        }
        if mark.is_empty() {
            return reply::header(answer, X_EDGE_CACHE, "live");
        }
        let mut answer = reply::header(answer, X_EDGE_CACHE, &mark);
        let warnings = warnings.iter().filter(|_| asked.client.person);
        for warning in warnings {
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{warning}\"")) {
                answer.headers_mut().append(WARNING, value);
            }
        }
        answer
    }

    fn listing(
        &self,
        kind: &ResourceKind,
        options: &ListOptions,
        token: Option<&PageToken>,
    ) -> Result<Listing, Status> {
        let (store, namespace) = (&*self.store, options.select.namespace());
        if let Some((token, at)) = token.and_then(|token| Some((token, token.revision()?))) {
            return listing_at(store, &kind.resource, namespace, at)
                .map_err(|_| fault::page_too_old(token.in_the_present().encode()));
        }
        if let (Version::At(version), true) = (options.version, options.exact) {
            return listing_at(store, &kind.resource, namespace, Revision(version))
                .map_err(|_| fault::list_too_old());
        }
        Ok(store.list(&kind.resource, namespace))
    }

    /// Keeps an object that the cloud has answered with, and subscribes to it. Its bytes as clients see them.
    async fn keep_object(
        &self,
        kind: &ResourceKind,
        key: &ObjectKey,
        response: &ApiResponse,
    ) -> Result<Bytes, Status> {
        let object = typed(kind, &response.body)
            .and_then(|body| Object::from_body(kind.resource.clone(), body).ok())
            .filter(|object| object.key == *key)
            .ok_or_else(|| {
                Status::failure(Reason::InternalError, "the cloud answered with another object")
            })?;
        let body = object.body.clone();
        let kept = self
            .store
            .apply(vec![Change::Put(object), Change::Want(Scope::object(key))])
            .await;
        match kept {
            Ok(_) => Ok(self.store.get(key).map_or(body, |stored| stored.served.clone())),
            Err(error) => {
                // The answer is right all the same; its version is the cloud's, which writes understand too.
                tracing::warn!(%key, %error, "an object from the cloud could not be kept");
                Ok(body)
            }
        }
    }

    /// Keeps a list that the cloud has answered with, and subscribes to its scope. With a store that takes no more it is an answer
    /// all the same; its versions are then the cloud's, which writes understand too.
    pub(crate) async fn keep_list(&self, kind: &ResourceKind, scope: Scope, body: &Bytes) -> Listing {
        #[derive(Deserialize)]
        struct List<'a> {
            #[serde(borrow, default)]
            items: Option<Vec<&'a RawValue>>,
        }
        let list: List<'_> = serde_json::from_slice(body).unwrap_or(List { items: None });
        let objects: Vec<Object> = list
            .items
            .unwrap_or_default()
            .into_iter()
            .filter_map(|item| {
                Object::from_body(kind.resource.clone(), typed(kind, item.get().as_bytes())?).ok()
            })
            .collect();
        let mut keys: Vec<ObjectKey> = objects.iter().map(|object| object.key.clone()).collect();
        keys.sort();
        let mut changes: Vec<Change> = objects.iter().cloned().map(Change::Put).collect();
        changes.push(Change::Want(scope));
        match self.store.apply(changes).await {
            Ok(applied) => Listing {
                revision: applied.max(self.store.revision()),
                objects: keys.iter().filter_map(|key| self.store.get(key)).collect(),
            },
            Err(error) => {
                tracing::warn!(resource = %kind.resource, %error, "a list from the cloud could not be kept");
                let revision = self.store.revision();
                let shown = |object: Object| Stored {
                    served: object.body.clone(),
                    object,
                    revision,
                };
                let mut objects: Vec<_> = objects
                    .into_iter()
                    .map(|object| Arc::new(shown(object)))
                    .collect();
                objects.sort_by(|a, b| a.object.key.cmp(&b.object.key));
                Listing { revision, objects }
            }
        }
    }
}

/// What a Table's rows are to carry.
pub(crate) fn included(asked: &Asked, shape: Shape) -> Result<IncludeObject, Status> {
    if !matches!(shape, Shape::Table { .. }) {
        return Ok(IncludeObject::default());
    }
    IncludeObject::parse(&asked.query).map_err(|text| {
        fault::bad(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {text:?}: must be 'Metadata', \
             'Object', 'None', or empty"
        ))
    })
}

/// An object's bytes with kind and version, which items of lists lack. None for what is no object of the kind.
pub(crate) fn typed(kind: &ResourceKind, body: &[u8]) -> Option<Bytes> {
    let body = body.trim_ascii();
    let metadata = Metadata::parse(body).ok()?;
    if metadata.kind.is_empty() {
        return Some(encode::with_type(kind, body));
    }
    (*metadata.kind == *kind.kind).then(|| Bytes::copy_from_slice(body))
}

pub(crate) fn not_kept(error: &StoreError) -> Status {
    fault::no_room(error, "what was asked for could not be kept on this node")
}

fn page(listing: Listing, options: &ListOptions, token: Option<&PageToken>) -> (Page, Vec<Arc<Stored>>) {
    let select = &options.select;
    let namespace = select.namespace();
    let mut page = Page {
        revision: listing.revision,
        ..Page::default()
    };
    let follows =
        |stored: &Arc<Stored>| token.is_none_or(|token| token.reaches(namespace, &stored.object.key));
    // A list of "any" version comes whole, as on a real server.
    let limit = options.limit.filter(|_| options.version != Version::Any);
    let Some(limit) = limit else {
        let all = listing.objects.into_iter().filter(follows);
        return (page, all.filter(|stored| select.matches(stored)).collect());
    };
    let mut rest = listing.objects.into_iter().filter(follows);
    let objects: Vec<_> = rest
        .by_ref()
        .filter(|stored| select.matches(stored))
        .take(limit)
        .collect();
    // A real server does not look whether any of them belongs to the list.
    if rest.next().is_some()
        && let Some(last) = objects.last()
    {
        page.next = PageToken::after(listing.revision, namespace, &last.object.key).encode();
        page.remaining = (!select.selects()).then(|| rest.count() + 1);
    }
    (page, objects)
}

const X_EDGE_CACHE: HeaderName = HeaderName::from_static("x-edge-cache");
/// For people and programs alike: such a list is short of what other nodes have.
const OWN_PART: &str = "299 - \"only what is this node's own: the cloud, which has the others, is away\"";
/// For people.
const HELD_PART: &str = "299 - \"only what this node holds: the cloud, which has the rest, is away\"";
