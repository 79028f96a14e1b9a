//! Which kinds this server knows, as clients ask for it: `/api`, `/apis`, their groups and versions, and all at once
//! ("aggregated") with an ETag.
//!
//! Both a metaServer and the embedded cluster answer with these. Documents are made of the registry when it has changed, and kept
//! until it changes again.

mod groups;
pub mod openapi;
pub mod version;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha512};

use groups::{groups, make};

use crate::registry::{Registry, ResourceKind};

/// Makes and keeps the documents.
#[derive(Debug, Default)]
pub struct Discovery {
    cached: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    generation: u64,
    made: Option<SystemTime>,
    documents: HashMap<(String, &'static str), Option<Arc<Document>>>,
}

/// One document.
#[derive(Debug)]
pub struct Document {
    /// JSON.
    pub body: Bytes,
    /// Of aggregated documents, and of those of OpenAPI but the index.
    pub etag: Option<String>,
}

impl Discovery {
    /// The document at a path: plain, or aggregated in a version of `apidiscovery.k8s.io`. None where there is none.
    pub fn document(
        &self,
        registry: &Registry,
        path: &str,
        aggregated: Option<&'static str>,
    ) -> Option<Arc<Document>> {
        let generation = registry.generation();
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached.follow(generation);
        let key = (path.to_owned(), aggregated.unwrap_or_default());
        if let Some(document) = cached.documents.get(&key) {
            return document.clone();
        }
        let made = make(&registry.all(), path, aggregated).map(|value| {
            let mut body = value.to_string().into_bytes();
            body.push(b'\n');
            let etag = aggregated.map(|_| tag(&body));
            Arc::new(Document {
                body: body.into(),
                etag,
            })
        });
        // Only paths that lead somewhere are kept, so that nobody can fill the memory with others.
        if made.is_some() {
            cached.documents.insert(key, made.clone());
        }
        made
    }
}

impl Discovery {
    /// When the documents were made: since then no kind came or went.
    pub fn made(&self, registry: &Registry) -> SystemTime {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached.follow(registry.generation());
        *cached.made.get_or_insert_with(SystemTime::now)
    }

    /// The document of OpenAPI at a path: `/openapi/v2`, `/openapi/v3`, which is an index, or one below it. None where there is none.
    pub fn openapi(&self, registry: &Registry, path: &str) -> Option<Arc<Document>> {
        let kinds = registry.all();
        let place = path
            .strip_prefix("/openapi/v3")
            .map(|place| place.trim_matches('/'));
        match place {
            None if path == "/openapi/v2" => self.kept(registry, path, || {
                Some(openapi::kept(&openapi::version_2(&kinds), true))
            }),
            None => None,
            Some("") => self.kept(registry, path, || {
                let documents: Vec<_> = openapi::places(&kinds)
                    .into_iter()
                    .filter_map(|place| Some((place.clone(), self.version_3(registry, &kinds, &place)?)))
                    .collect();
                let index = openapi::index(
                    documents
                        .iter()
                        .map(|(place, document)| (place.clone(), &**document)),
                );
                Some(openapi::kept(&index, false))
            }),
            Some(place) => self.version_3(registry, &kinds, place),
        }
    }

    /// The same in protobuf. The index is in JSON alone.
    pub fn openapi_protobuf(&self, registry: &Registry, path: &str) -> Option<Arc<Document>> {
        self.kept(registry, &format!("{path} in protobuf"), || {
            if path == "/openapi/v2" {
                return Some(openapi::in_protobuf_2(&openapi::version_2(&registry.all())));
            }
            let json = self.openapi(registry, path).filter(|json| json.etag.is_some())?;
            openapi::in_protobuf_3(&json)
        })
    }

    fn version_3(
        &self,
        registry: &Registry,
        kinds: &[Arc<ResourceKind>],
        place: &str,
    ) -> Option<Arc<Document>> {
        self.kept(registry, &format!("/openapi/v3/{place}"), || {
            Some(openapi::kept(&openapi::version_3(kinds, place)?, true))
        })
    }

    /// A document as it was made for this state of the registry. Only paths that lead somewhere are kept, so that nobody can fill
    /// the memory with others.
    fn kept(
        &self,
        registry: &Registry,
        path: &str,
        make: impl FnOnce() -> Option<Document>,
    ) -> Option<Arc<Document>> {
        let generation = registry.generation();
        let key = (path.to_owned(), "");
        {
            let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
            cached.follow(generation);
            if let Some(document) = cached.documents.get(&key) {
                return document.clone();
            }
        }
        let made = Arc::new(make()?);
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.generation == generation {
            cached.documents.insert(key, Some(made.clone()));
        }
        Some(made)
    }
}

impl Cached {
    /// Forgets what was made of another state of the registry.
    fn follow(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Self {
                generation,
                ..Self::default()
            };
        }
    }
}

/// The paths of the root document that come from kinds.
pub fn paths(registry: &Registry) -> Vec<String> {
    let mut paths = vec![
        "/api".to_owned(),
        "/api/v1".into(),
        "/apis".into(),
        "/apis/".into(),
    ];
    for (group, versions) in groups(&registry.all())
        .iter()
        .filter(|(group, _)| !group.is_empty())
    {
        paths.push(format!("/apis/{group}"));
        paths.extend(
            versions
                .iter()
                .map(|(version, _)| format!("/apis/{group}/{version}")),
        );
    }
    paths.sort();
    paths
}

/// The entity tag of a body: its SHA-512, as kube-apiserver makes it.
pub fn tag(body: &[u8]) -> String {
    let mut etag = String::with_capacity(130);
    etag.push('"');
    for byte in Sha512::digest(body) {
        // Writing to a String cannot fail.
        let _ = write!(etag, "{byte:02X}");
    }
    etag.push('"');
    etag
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn document(registry: &Registry, path: &str) -> Value {
        let document = Discovery::default().document(registry, path, None).unwrap();
        serde_json::from_slice(&document.body).unwrap()
    }

    #[test]
    fn built_in_kinds_are_found_at_their_paths() {
        let registry = Registry::builtin();
        let core = document(&registry, "/api/v1");
        let names: Vec<&str> = core["resources"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|r| r["name"].as_str())
            .collect();
        assert!(names.contains(&"pods") && names.contains(&"pods/log") && names.contains(&"nodes"));
        assert_eq!(
            document(&registry, "/apis/apps")["preferredVersion"]["groupVersion"],
            "apps/v1"
        );
        assert!(
            Discovery::default()
                .document(&registry, "/apis/no.such", None)
                .is_none()
        );
        assert!(
            Discovery::default()
                .document(&registry, "/apis/apps/v9", None)
                .is_none()
        );
    }

    #[test]
    fn an_aggregated_document_changes_its_tag_when_a_kind_comes() {
        let registry = Registry::builtin();
        let discovery = Discovery::default();
        let tag = || {
            discovery
                .document(&registry, "/apis", Some("v2"))
                .unwrap()
                .etag
                .clone()
                .unwrap()
        };
        let before = tag();
        assert_eq!((before.len(), &before), (130, &tag()));
        registry
            .apply_definition(
                br#"{"metadata":{"name":"widgets.demo.example.com"},"spec":{"group":"demo.example.com","scope":"Namespaced",
                "names":{"plural":"widgets","kind":"Widget"},"versions":[{"name":"v1","served":true}]}}"#,
            )
            .unwrap();
        assert_ne!(before, tag());
        assert_eq!(
            document(&registry, "/apis/demo.example.com/v1")["resources"][0]["kind"],
            "Widget"
        );
    }
}
