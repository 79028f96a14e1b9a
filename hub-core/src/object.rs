//! A Kubernetes object on the path: a key, a version, and the bytes as they came.
//!
//! Nothing here parses a body but [`Metadata`], which borrows the few fields that routing needs and steps over the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Which collection an object lives in. Always from discovery or a request path, never guessed from a kind.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    /// Empty for the core group.
    pub group: Arc<str>,
    /// `v1`, `v2alpha1`, …
    pub version: Arc<str>,
    /// The plural of the path, such as `pods`.
    pub resource: Arc<str>,
}

impl GroupVersionResource {
    /// A collection; `group` is empty for the core group.
    pub fn new(
        group: impl Into<Arc<str>>,
        version: impl Into<Arc<str>>,
        resource: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
        }
    }

    /// A collection of the core group, version `v1`.
    pub fn core(resource: &str) -> Self {
        Self::new("", "v1", resource)
    }

    /// `v1` or `apps/v1`, as objects write it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of the collection, or of one object in it, on an API server.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        for part in [
            namespace.map(|_| "namespaces"),
            namespace,
            Some(&*self.resource),
            name,
        ]
        .into_iter()
        .flatten()
        {
            path.push('/');
            path.push_str(part);
        }
        path
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.group.is_empty() {
            write!(f, "{}/", self.group)?;
        }
        write!(f, "{}/{}", self.version, self.resource)
    }
}

impl fmt::Debug for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where an object is: collection, namespace and name. Orders as Kubernetes lists do, by namespace and name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The collection.
    pub resource: GroupVersionResource,
    /// None for a cluster-scoped object.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// A key.
    pub fn new(resource: GroupVersionResource, namespace: Option<&str>, name: &str) -> Self {
        Self {
            resource,
            namespace: namespace.map(Into::into),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.resource)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A version that the cloud gave. Opaque text; where it is a decimal number (always, on a real API server) versions of
/// one object can be compared. Not to be mixed up with our own [`Revision`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ResourceVersion(Arc<str>);

impl ResourceVersion {
    /// The text as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number, where the text is one. Never panics (KubeEdge weak spot P1).
    pub fn number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

impl<T: Into<Arc<str>>> From<T> for ResourceVersion {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A position in the history of one of our own stores. Only ever grows, over restarts too.
///
/// Local clients see it as `metadata.resourceVersion`; it is never 0 for a stored object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One version of an object, as the cloud has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    /// Where it is.
    pub key: ObjectKey,
    /// `metadata.uid`; empty when the sender named none.
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`.
    pub version: ResourceVersion,
    /// The JSON text, with `kind` and `apiVersion`.
    pub body: Bytes,
}

impl Object {
    /// Takes key parts, uid and version out of a body. The collection must be known already.
    pub fn from_body(resource: GroupVersionResource, body: Bytes) -> Result<Self, InvalidObject> {
        let metadata = Metadata::parse(&body)?;
        if metadata.name.is_empty() {
            return Err(InvalidObject::NoName);
        }
        let namespace = (!metadata.namespace.is_empty()).then_some(&*metadata.namespace);
        Ok(Self {
            key: ObjectKey::new(resource, namespace, &metadata.name),
            uid: (&*metadata.uid).into(),
            version: (&*metadata.resource_version).into(),
            body: body.clone(),
        })
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} ({} bytes)", self.key, self.version, self.body.len())
    }
}

/// The bytes are not a Kubernetes object.
#[derive(Debug, thiserror::Error)]
pub enum InvalidObject {
    /// Not JSON, or `metadata` is not as Kubernetes has it.
    #[error("not a Kubernetes object: {0}")]
    Json(#[from] serde_json::Error),
    /// `metadata.name` is missing.
    #[error("not a Kubernetes object: metadata.name is empty")]
    NoName,
}

/// The fields of an object that routing, selecting and versioning need; spec and status are stepped over.
#[derive(Debug, Default)]
pub struct Metadata<'a> {
    /// `kind`.
    pub kind: Cow<'a, str>,
    /// `apiVersion`.
    pub api_version: Cow<'a, str>,
    /// `metadata.name`.
    pub name: Cow<'a, str>,
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: Cow<'a, str>,
    /// `metadata.uid`.
    pub uid: Cow<'a, str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Cow<'a, str>,
    /// `metadata.deletionTimestamp`, when the object is being deleted.
    pub deletion_timestamp: Option<Cow<'a, str>>,
    /// `metadata.labels`.
    pub labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

impl<'a> Metadata<'a> {
    /// Reads the metadata of a JSON object.
    pub fn parse(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        // A struct may be written as a list in JSON, says serde; Kubernetes does not say so.
        if body.trim_ascii_start().first() == Some(&b'[') {
            return Err(serde::de::Error::invalid_type(
                serde::de::Unexpected::Seq,
                &"an object",
            ));
        }
        serde_json::from_slice::<Map<Skeleton<'a>>>(body).map(|map| map.0.into())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Skeleton<'a> {
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    metadata: Option<Map<ObjectMeta<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectMeta<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    resource_version: Cow<'a, str>,
    #[serde(borrow, default)]
    deletion_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

/// A JSON object and nothing else: what serde derives would also take an array, field by field.
struct Map<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapVisitor<T> {
            type Value = Map<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Map)
            }
        }

        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

impl<'a> From<Skeleton<'a>> for Metadata<'a> {
    fn from(s: Skeleton<'a>) -> Self {
        let m = s.metadata.map(|map| map.0).unwrap_or_default();
        Self {
            kind: s.kind,
            api_version: s.api_version,
            name: m.name,
            namespace: m.namespace,
            uid: m.uid,
            resource_version: m.resource_version,
            deletion_timestamp: m.deletion_timestamp,
            labels: m.labels.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_without_the_rest() {
        let body = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"d","uid":"u","resourceVersion":"7","labels":{"app":"w\u0041"},"managedFields":[{}]},"spec":{"x":[1,2]}}"#;
        let m = Metadata::parse(body).unwrap();
        assert_eq!(
            (&*m.kind, &*m.name, &*m.namespace, &*m.resource_version),
            ("Pod", "a", "d", "7")
        );
        assert_eq!(&*m.labels["app"], "wA");
        assert!(Metadata::parse(br#"{"metadata":null}"#).unwrap().name.is_empty());
        for list in ["[]", r#"["Pod","v1"]"#, r#"{"metadata":["a"]}"#] {
            assert!(Metadata::parse(list.as_bytes()).is_err(), "{list}");
        }
    }

    #[test]
    fn an_object_needs_a_name() {
        let gvr = GroupVersionResource::core("pods");
        assert!(Object::from_body(gvr.clone(), Bytes::from_static(b"{}")).is_err());
        let object = Object::from_body(
            gvr,
            Bytes::from_static(br#"{"metadata":{"name":"a","namespace":"d"}}"#),
        )
        .unwrap();
        assert_eq!(object.key.to_string(), "v1/pods d/a");
        assert_eq!(object.version.number(), None);
    }

    #[test]
    fn paths_are_those_of_an_api_server() {
        let pods = GroupVersionResource::core("pods");
        assert_eq!(pods.path(Some("d"), Some("a")), "/api/v1/namespaces/d/pods/a");
        let apps = GroupVersionResource::new("apps", "v1", "deployments");
        assert_eq!(apps.path(None, None), "/apis/apps/v1/deployments");
    }
}
