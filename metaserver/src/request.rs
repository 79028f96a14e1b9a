//! What a request is about, read from its path and method (Kubernetes `apiserver/pkg/endpoints/request/requestinfo.go`).
//!
//! Pure: no kind is looked up here. Whether such a collection exists is the registry's to say.

use std::borrow::Cow;

use hub_core::object::GroupVersionResource;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// A collection or something in it.
    Resource(ResourceRoute),
    /// Anything else, without trailing slashes: `/version`, `/apis/apps/v1`, and `/` for the root.
    Other(String),
    /// No path of an API server: it begins with two slashes, or has steps in it that lead elsewhere.
    Nowhere,
    /// No path at all: a percent sign stands there without two digits.
    Malformed,
}

/// A path below a group and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResourceRoute {
    /// The collection.
    pub(crate) resource: GroupVersionResource,
    /// As in the path. Of a Namespace itself too, as Kubernetes has it.
    pub(crate) namespace: Option<String>,
    /// Whether the path leaves the namespace empty, which means all of them: `/namespaces//pods`.
    pub(crate) all_namespaces: bool,
    /// The object, unless it is about the collection.
    pub(crate) name: Option<String>,
    /// All that follows the name, with its slashes.
    pub(crate) subresource: Option<String>,
    /// Whether the path has the old `/watch/` prefix.
    pub(crate) watch: bool,
}

impl Route {
    /// Reads the path of a URL, still percent-encoded.
    pub(crate) fn parse(path: &str) -> Self {
        if path.starts_with("//") {
            return Self::Nowhere;
        }
        if !is_escaped(path) {
            return Self::Malformed;
        }
        // Decoded first and split then, as a real server does: an escaped slash is a slash.
        let decoded = decode(path);
        let trimmed = decoded.trim_matches('/');
        let parts: Vec<&str> = trimmed.split('/').collect();
        if decoded.starts_with("//") || matches!(parts[..], ["apis", "", ..]) {
            return Self::Nowhere;
        }
        if let Some(route) = resource(&parts) {
            return Self::Resource(route);
        }
        // Such a path means another one to whoever reads it next.
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Self::Nowhere;
        }
        Self::Other(format!("/{}", parts.join("/")))
    }
}

fn resource(parts: &[&str]) -> Option<ResourceRoute> {
    let (group, version, mut rest) = match parts {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let watch = matches!(rest, ["watch", _, ..]);
    if watch {
        rest = &rest[1..];
    }
    let mut namespace = None;
    let all_namespaces = matches!(rest, ["namespaces", "", _, ..]);
    if let ["namespaces", name, after @ ..] = rest {
        namespace = Some(*name).filter(|name| !name.is_empty());
        if let [first, ..] = after
            && !matches!(*first, "status" | "finalize")
        {
            rest = after;
        }
    }
    let (collection, after) = rest.split_first()?;
    let (name, below) = after
        .split_first()
        .map_or((None, &[][..]), |(name, below)| (Some(*name), below));
    Some(ResourceRoute {
        resource: GroupVersionResource::new(group, version, *collection),
        namespace: namespace.map(Into::into),
        all_namespaces,
        name: name.filter(|name| !name.is_empty()).map(Into::into),
        subresource: Some(below.join("/")).filter(|below| !below.is_empty()),
        watch,
    })
}

/// The pairs of a query string, decoded, in order. Pairs that Go does not understand are not there: those with a semicolon, or
/// with a percent sign without two digits. Of pairs with the same key a real server reads the first.
pub(crate) fn query(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let understood = |pair: &&str| !pair.is_empty() && !pair.contains(';') && is_escaped(pair);
    text.split('&').filter(understood).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_form(key), decode_form(value))
    })
}

/// A text as it may stand in a query string.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Whether two digits follow each percent sign.
fn is_escaped(text: &str) -> bool {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| is_digit(bytes.get(at + 1)) && is_digit(bytes.get(at + 2)))
}

fn decode_form(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        Cow::Owned(decode(&text.replace('+', " ")).into_owned())
    } else {
        decode(text)
    }
}

/// Percent-decoding. What is no UTF-8 afterwards gets replacement characters, and so matches nothing.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |offset: usize| {
            bytes
                .get(at + offset)
                .and_then(|byte| (*byte as char).to_digit(16))
        };
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(path: &str, expected: &str) {
        let Route::Resource(route) = Route::parse(path) else {
            panic!("{path} is no resource")
        };
        let or = |text: Option<String>| text.unwrap_or("-".into());
        let watch = if route.watch { "watch " } else { "" };
        let (ns, name, sub) = (or(route.namespace), or(route.name), or(route.subresource));
        assert_eq!(
            format!("{watch}{} {ns} {name} {sub}", route.resource),
            expected,
            "{path}"
        );
    }

    #[test]
    fn resource_paths_are_read_as_a_real_server_reads_them() {
        check("/api/v1/pods", "v1/pods - - -");
        check("/api/v1/pods/", "v1/pods - - -");
        check("/api/v1/namespaces", "v1/namespaces - - -");
        check("/api/v1/namespaces/shop", "v1/namespaces shop shop -");
        check("/api/v1/namespaces/shop/status", "v1/namespaces shop shop status");
        check(
            "/api/v1/namespaces/shop/finalize",
            "v1/namespaces shop shop finalize",
        );
        check("/api/v1/namespaces/shop/pods", "v1/pods shop - -");
        check("/api/v1/namespaces//pods", "v1/pods - - -");
        check("/api/v1/namespaces/shop/pods/web", "v1/pods shop web -");
        check("/api/v1/namespaces/shop/pods/web/log", "v1/pods shop web log");
        check("/api/v1/nodes/n/proxy/metrics/a", "v1/nodes - n proxy/metrics/a");
        check(
            "/apis/apps/v1/watch/namespaces/shop/deployments/web",
            "watch apps/v1/deployments shop web -",
        );
        check("/api/v1/watch/pods", "watch v1/pods - - -");
        check(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "rbac.authorization.k8s.io/v1/clusterroles - system:node -",
        );
    }

    #[test]
    fn other_paths_are_kept_without_trailing_slashes() {
        for (path, expected) in [
            ("/", "/"),
            ("/version", "/version"),
            ("/api/", "/api"),
            ("/api/v1", "/api/v1"),
            ("/apis/apps/v1/", "/apis/apps/v1"),
            ("/healthz/ping", "/healthz/ping"),
            ("", "/"),
        ] {
            assert_eq!(Route::parse(path), Route::Other(expected.into()));
        }
        assert_eq!(Route::parse("//api/v1/pods"), Route::Nowhere);
        for path in [
            "/openapi/../api/v1/secrets",
            "/openapi/%2e%2E/api",
            "/openapi/v2%2f..%2fapi",
            "/%2F",
            "/apis//apps/v1/deployments",
        ] {
            assert_eq!(Route::parse(path), Route::Nowhere, "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let pairs: Vec<_> = query("a=b%3Dc+d&watch&&x=%C3%A4&y=%zz&z=1;limit=2").collect();
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(pairs, [("a", "b=c d"), ("watch", ""), ("x", "ä")]);
    }

    proptest! {
        #[test]
        fn no_path_and_no_query_panics(path in "(/|[a-z%/.~\u{e4}0-9]){0,40}", text in "[ -~]{0,40}") {
            let _ = Route::parse(&path);
            let _ = query(&text).count();
            let encoded = encode(&text);
            prop_assert_eq!(&*decode(&encoded), &*text);
        }
    }
}
