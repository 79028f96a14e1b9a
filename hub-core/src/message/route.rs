//! From which module, to which class of receivers, and about what.

use std::fmt;
use std::sync::Arc;

use super::{Group, Operation, Source};

/// The route of a message. All texts are carried through as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The module that made the message, such as `edgecontroller` or `edged`. Copied into answers.
    pub source: Arc<str>,
    /// Unused by KubeEdge; carried through.
    pub destination: Arc<str>,
    /// The routing class at the edge: `resource`, `meta`, `twin`, `user`, …
    pub group: Arc<str>,
    /// The verb.
    pub operation: Operation,
    /// What the verb is about.
    pub resource: Resource,
}

impl Route {
    /// A route without destination.
    pub fn new(
        source: impl Into<Arc<str>>,
        group: impl Into<Arc<str>>,
        operation: Operation,
        resource: impl Into<Resource>,
    ) -> Self {
        Self {
            source: source.into(),
            destination: "".into(),
            group: group.into(),
            operation,
            resource: resource.into(),
        }
    }

    /// The module that made the message.
    pub fn source(&self) -> Source<'_> {
        (&*self.source).into()
    }

    /// The class of receivers.
    pub fn group(&self) -> Group<'_> {
        (&*self.group).into()
    }

    /// The group that an answer needs where the group of the question would lose it: a KubeEdge edge drops what comes down with the
    /// groups `meta` and `dynamiccontroller` (`edge/pkg/edgehub/messagehandler`).
    pub(super) fn group_of_answers(&self) -> Option<Group<'static>> {
        let lost = matches!(self.group(), Group::Meta | Group::DynamicController);
        lost.then_some(Group::Resource)
    }
}

/// The resource text of a route, as it stands on the wire: `<namespace>/<type>[/<name>]` for Kubernetes objects
/// (`null` for no namespace), other shapes elsewhere (tunnel specification §3.6).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Resource(Arc<str>);

/// A resource text of the form `<namespace>/<type>[/<name>]`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceParts<'a> {
    /// None where the wire says `null`.
    pub namespace: Option<&'a str>,
    /// `pod`, `configmap`, `nodepatch`, …: a kind in lower case, or a word of KubeEdge's.
    pub kind: &'a str,
    /// None for a whole collection.
    pub name: Option<&'a str>,
}

impl Resource {
    /// The text for an object: `<namespace or null>/<kind>/<name>`.
    pub fn object(namespace: Option<&str>, kind: &str, name: &str) -> Self {
        Self(format!("{}/{kind}/{name}", namespace.unwrap_or("null")).into())
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the text apart when it has two or three segments, none of them empty.
    pub fn parts(&self) -> Option<ResourceParts<'_>> {
        let mut segments = self.0.split('/');
        let (namespace, kind, name) = (segments.next()?, segments.next()?, segments.next());
        if segments.next().is_some() || namespace.is_empty() || kind.is_empty() || name == Some("") {
            return None;
        }
        Some(ResourceParts {
            namespace: (namespace != "null").then_some(namespace),
            kind,
            name,
        })
    }
}

impl<T: Into<Arc<str>>> From<T> for Resource {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_s_resource_has_two_or_three_parts() {
        let r = Resource::object(Some("default"), "pod", "web-0");
        assert_eq!(r.as_str(), "default/pod/web-0");
        let parts = r.parts().unwrap();
        assert_eq!(
            (parts.namespace, parts.kind, parts.name),
            (Some("default"), "pod", Some("web-0"))
        );

        let node = Resource::from("null/node/edge-1");
        assert_eq!(node.parts().unwrap().namespace, None);
        assert_eq!(Resource::from("default/podstatus").parts().unwrap().name, None);
        for odd in ["", "null", "a//b", "a/b/c/d", "/a/b", "a/b/"] {
            assert_eq!(Resource::from(odd).parts(), None, "{odd}");
        }
    }
}
