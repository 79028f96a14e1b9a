//! The options of a list or a watch, as query strings write them (Kubernetes `metav1.ListOptions`).

use std::borrow::Cow;
use std::time::Duration;

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, Metadata};
use hub_core::registry::ResourceKind;
use hub_core::scope::Scope;
use hub_core::selector::{FieldSelector, LabelSelector};
use hub_core::store::Stored;

use crate::fault;
use crate::request::{encode, query};

/// The options, checked.
#[derive(Debug, Default)]
pub(crate) struct ListOptions {
    /// Which objects.
    pub(crate) select: Selection,
    pub(crate) watch: bool,
    pub(crate) version: Version,
    pub(crate) exact: bool,
    /// Objects in a page; None for all.
    pub(crate) limit: Option<usize>,
    pub(crate) token: Option<String>,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
    pub(crate) timeout: Option<Duration>,
}

/// `resourceVersion`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Not given: the present.
    #[default]
    Newest,
    /// `0`: whatever is at hand.
    Any,
    /// Not older than this, or exactly this.
    At(u64),
}

impl Version {
    fn parse(text: &str, list: bool) -> Result<Self, Status> {
        match text {
            "" => Ok(Self::Newest),
            "0" => Ok(Self::Any),
            // Go's parser of numbers without a sign takes none.
            text => match text.parse() {
                Ok(0) => Ok(Self::Newest),
                Ok(number) if !text.starts_with('+') => Ok(Self::At(number)),
                _ => Err(fault::unparsed_version(text, list)),
            },
        }
    }

    /// Of a get: the only option that it has.
    pub(crate) fn of_get(text: &str, kind: &ResourceKind) -> Result<Self, Status> {
        let version = query(text).find(|(key, _)| key == "resourceVersion");
        let version = version.as_ref().map_or("", |(_, value)| value);
        match &*kind.kind {
            "ComponentStatus" if !kind.custom => Ok(Self::Newest),
            _ => Self::parse(version, is_uncached(kind)),
        }
    }
}

impl ListOptions {
    /// Reads and checks the options. `namespace` and `name` are those of the path; `watch` tells of the path's old prefix.
    pub(crate) fn parse(
        text: &str,
        kind: &ResourceKind,
        namespace: Option<&str>,
        name: Option<&str>,
        watch: bool,
    ) -> Result<Self, Status> {
        let mut options = Self {
            watch,
            ..Self::default()
        };
        let (mut version, mut matching, mut labels, mut fields) = Default::default();
        let mut seen: Vec<Cow<'_, str>> = Vec::new();
        for (key, value) in query(text) {
            if seen.contains(&key) {
                continue;
            }
            seen.push(key.clone());
            match &*key {
                "watch" => options.watch |= truth(&value),
                "resourceVersion" => version = value,
                "resourceVersionMatch" => matching = value,
                "labelSelector" => labels = value,
                "fieldSelector" => fields = value,
                "limit" => {
                    let limit: i64 = value.parse().map_err(|_| fault::unparsed_integer(&value))?;
                    options.limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
                }
                "timeoutSeconds" => {
                    let seconds: i64 = value.parse().map_err(|_| fault::unparsed_integer(&value))?;
                    options.timeout = u64::try_from(seconds)
                        .ok()
                        .filter(|seconds| *seconds > 0)
                        .map(Duration::from_secs);
                }
                "continue" => options.token = Some(value.into_owned()).filter(|token| !token.is_empty()),
                "allowWatchBookmarks" => options.bookmarks = truth(&value),
                "sendInitialEvents" => options.initial_events = Some(truth(&value)),
                _ => {}
            }
        }
        options.select = Selection::parse(kind, namespace, name, &labels, &fields)?;
        options.check(&version, &matching)?;
        options.version = match &*kind.kind {
            // They have no versions: what is behind the server is asked each time.
            "ComponentStatus" if !kind.custom => Version::Newest,
            _ => Version::parse(&version, !options.watch)?,
        };
        // Who wants bookmarks and begins anew gets the one that ends the initial events too.
        let anew = matches!(&*version, "" | "0") && matching.is_empty();
        if options.watch && options.bookmarks && anew && options.initial_events.is_none() {
            options.initial_events = Some(true);
        }
        // A page of a version is of exactly that version, unless the client says otherwise.
        options.exact = matching == "Exact" || matching.is_empty() && options.limit.is_some();
        Ok(options)
    }

    fn check(&self, version: &str, matching: &str) -> Result<(), Status> {
        let mut causes = Vec::new();
        let mut forbid = |field, why: &str| {
            causes.push(("FieldValueForbidden", format!("Forbidden: {why}"), field));
        };
        const MATCH: &str = "resourceVersionMatch";
        if self.watch {
            if self.initial_events.is_some() && matching != "NotOlderThan" {
                forbid(
                    MATCH,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
            }
            if !matching.is_empty() && self.initial_events.is_none() {
                forbid(
                    MATCH,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            if !matching.is_empty() && matching != "NotOlderThan" {
                causes.push((
                    "FieldValueNotSupported",
                    format!("Unsupported value: {matching:?}: supported values: \"NotOlderThan\""),
                    MATCH,
                ));
            }
            if self.token.is_some() {
                causes.push((
                    "FieldValueForbidden",
                    "Forbidden: resourceVersionMatch is forbidden when continue is provided".into(),
                    MATCH,
                ));
            }
        } else {
            if !matching.is_empty() {
                if version.is_empty() {
                    forbid(
                        MATCH,
                        "resourceVersionMatch is forbidden unless resourceVersion is provided",
                    );
                }
                if self.token.is_some() {
                    forbid(
                        MATCH,
                        "resourceVersionMatch is forbidden when continue is provided",
                    );
                }
                if matching == "Exact" && version == "0" {
                    forbid(
                        MATCH,
                        "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                    );
                }
                if !matches!(matching, "Exact" | "NotOlderThan") {
                    causes.push((
                        "FieldValueNotSupported",
                        format!(
                            "Unsupported value: {matching:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
                        ),
                        MATCH,
                    ));
                }
            }
            if self.initial_events.is_some() {
                causes.push((
                    "FieldValueForbidden",
                    "Forbidden: sendInitialEvents is forbidden for list".into(),
                    "sendInitialEvents",
                ));
            }
        }
        if causes.is_empty() {
            Ok(())
        } else {
            Err(fault::invalid_options(&causes))
        }
    }
}

/// Whether a real server reads a kind from its etcd each time, which says other things of versions than its cache does.
pub(crate) fn is_uncached(kind: &ResourceKind) -> bool {
    !kind.custom && &*kind.kind == "Event"
}

/// Kinds without namespaces whose own list of fields leaves `metadata.namespace` out; the others know it all the same.
fn without_namespace(kind: &ResourceKind) -> bool {
    let GroupVersionResource { group, resource, .. } = &kind.resource;
    let own_list = matches!(
        (&**group, &**resource),
        ("", "nodes" | "namespaces")
            | ("certificates.k8s.io", "certificatesigningrequests")
            | ("resource.k8s.io", "resourceslices")
    );
    !kind.namespaced && (kind.custom || own_list)
}

/// Kubernetes' idea of a boolean in a query: there, and not `0` or `false`.
pub(crate) fn truth(text: &str) -> bool {
    !(text == "0" || text.eq_ignore_ascii_case("false"))
}

/// The terms of a selector in order, so that clients who write them in any (Go's maps do) mean the same scope. A text with
/// brackets or escapes stays as it is.
fn sorted(text: &str) -> String {
    let text = text.trim();
    if text.contains(['(', '\\']) {
        return text.to_owned();
    }
    let mut terms: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|term| !term.is_empty())
        .collect();
    terms.sort_unstable();
    terms.join(",")
}

/// Which objects of a collection: by namespace, name, labels and fields.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    namespace: Option<String>,
    name: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    label_text: String,
    field_text: String,
}

impl Selection {
    fn parse(
        kind: &ResourceKind,
        namespace: Option<&str>,
        name: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Status> {
        let label_selector = LabelSelector::parse(labels).map_err(|error| fault::bad(error.to_string()))?;
        let field_selector = FieldSelector::parse(fields).map_err(|error| fault::bad(error.to_string()))?;
        for field in field_selector.fields() {
            let known = field == "metadata.name"
                || field == "metadata.namespace" && !without_namespace(kind)
                || kind
                    .selectable_fields
                    .iter()
                    .any(|known| **known == *field || (field == "spec.host" && &**known == "spec.nodeName"));
            if !known {
                return Err(fault::unknown_field(kind, field));
            }
        }
        let mut selection = Self {
            namespace: namespace.filter(|_| kind.namespaced).map(Into::into),
            name: name.map(Into::into),
            labels: label_selector,
            fields: FieldSelector::default(),
            label_text: sorted(labels),
            field_text: String::new(),
        };
        // One name or one namespace is a scope of its own, and needs no look into bodies.
        if let Some(name) = name
            && !field_selector.is_empty()
            && field_selector.required("metadata.name") != Some(name)
        {
            return Err(fault::bad(
                "fieldSelector metadata.name doesn't match requested name",
            ));
        }
        let mut names = field_selector.fields();
        let only = names.next().filter(|_| names.next().is_none());
        match only.and_then(|only| Some((only, field_selector.required(only)?))) {
            Some(("metadata.name", wanted)) if selection.name.is_none() => {
                selection.name = Some(wanted.into())
            }
            Some(("metadata.namespace", wanted)) if kind.namespaced && selection.namespace.is_none() => {
                selection.namespace = Some(wanted.into());
            }
            _ => {
                selection.field_text = sorted(fields);
                drop(names);
                selection.fields = field_selector;
            }
        }
        Ok(selection)
    }

    /// The namespace that all of it lies in.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Whether more than namespace and name decide.
    pub(crate) fn selects(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// What must be held to answer.
    pub(crate) fn scope(&self, kind: &ResourceKind) -> Scope {
        Scope {
            resource: kind.resource.clone(),
            namespace: self.namespace.as_deref().map(Into::into),
            name: self.name.as_deref().map(Into::into),
            labels: self.label_text.as_str().into(),
            fields: self.field_text.as_str().into(),
        }
    }

    /// The query string that asks a server for it.
    pub(crate) fn query(&self) -> String {
        let mut pairs = Vec::new();
        if !self.label_text.is_empty() {
            pairs.push(format!("labelSelector={}", encode(&self.label_text)));
        }
        let name = self.name.iter().map(|name| format!("metadata.name={name}"));
        let fields: Vec<String> = name
            .chain(Some(self.field_text.clone()).filter(|text| !text.is_empty()))
            .collect();
        if !fields.is_empty() {
            pairs.push(format!("fieldSelector={}", encode(&fields.join(","))));
        }
        pairs.join("&")
    }

    /// Whether an object belongs to it.
    pub(crate) fn matches(&self, stored: &Stored) -> bool {
        let key = &stored.object.key;
        if self
            .namespace
            .as_deref()
            .is_some_and(|namespace| key.namespace.as_deref() != Some(namespace))
            || self.name.as_deref().is_some_and(|name| *key.name != *name)
        {
            return false;
        }
        if !self.labels.is_empty() {
            let matches =
                Metadata::parse(&stored.served).is_ok_and(|metadata| self.labels.matches(&metadata.labels));
            if !matches {
                return false;
            }
        }
        self.fields.is_empty() || self.fields.matches(&stored.served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_terms_makes_no_other_scope() {
        assert_eq!(sorted("b=2, a=1"), "a=1,b=2");
        assert_eq!(sorted("b in (y,x),a"), "b in (y,x),a");
    }
}
