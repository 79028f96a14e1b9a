//! Which form of an answer a client wants (Kubernetes `apiserver/pkg/endpoints/handlers/negotiation`).

use hub_core::api::{Reason, Status};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The objects themselves.
    Object,
    /// A table, as kubectl prints it.
    Table {
        /// `v1beta1` was asked for.
        beta: bool,
    },
    /// Metadata only.
    Metadata {
        /// `v1beta1` was asked for.
        beta: bool,
    },
}

/// Picks the first acceptable form: by weight, then as listed. `list` tells which forms a refusal names.
pub(crate) fn negotiate(accept: &str, list: bool) -> Result<Shape, Status> {
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::parse).collect();
    if clauses.is_empty() {
        return Ok(Shape::Object);
    }
    clauses.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let mut refused = false;
    for clause in clauses {
        if !matches!(clause.media, "application/json" | "*/*") {
            refused |= clause.shape.is_some() && clause.media.starts_with("application/vnd.kubernetes");
            continue;
        }
        match clause.shape {
            None => return Ok(Shape::Object),
            Some(shape) => match shape.known(clause.media) {
                Some(shape) => return Ok(shape),
                None => refused = true,
            },
        }
    }
    Err(Status::failure(
        Reason::NotAcceptable,
        match (refused, list) {
            (true, _) => "only the following media types are accepted: application/json".to_owned(),
            (_, true) => "406: Not Acceptable\n\nAvailable representations: application/json, \
                 application/json;stream=watch"
                .to_owned(),
            _ => "406: Not Acceptable\n\nAvailable representations: application/json".to_owned(),
        },
    ))
}

/// Whether one of the clauses is this media type with these `g`, `v` and `as`.
pub(crate) fn discovery_version(accept: &str) -> Option<&'static str> {
    let clauses = accept.split(',').filter_map(Clause::parse);
    for clause in clauses.filter(|clause| clause.media == "application/json") {
        match clause.shape {
            Some(Conversion {
                kind: "APIGroupDiscoveryList",
                group: "apidiscovery.k8s.io",
                version: "v2",
            }) => {
                return Some("v2");
            }
            None => return None,
            Some(_) => {}
        }
    }
    None
}

struct Clause<'a> {
    media: &'a str,
    weight: f32,
    shape: Option<Conversion<'a>>,
}

struct Conversion<'a> {
    kind: &'a str,
    group: &'a str,
    version: &'a str,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|media| !media.is_empty())?;
        let mut clause = Self {
            media,
            weight: 1.0,
            shape: None,
        };
        let (mut kind, mut group, mut version) = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("q", weight)) => clause.weight = weight.parse().unwrap_or(1.0),
                Some(("as", text)) => kind = text,
                Some(("g", text)) => group = text,
                Some(("v", text)) => version = text,
                _ => {}
            }
        }
        if !kind.is_empty() {
            clause.shape = Some(Conversion { kind, group, version });
        }
        Some(clause)
    }
}

impl Conversion<'_> {
    fn known(&self, media: &str) -> Option<Shape> {
        let beta = match self.version {
            "v1" => false,
            "v1beta1" => true,
            _ => return None,
        };
        if self.group != "meta.k8s.io" || media != "application/json" {
            return None;
        }
        match self.kind {
            "Table" => Some(Shape::Table { beta }),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Shape::Metadata { beta }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(accept: &str) -> Result<Shape, u16> {
        negotiate(accept, true).map_err(|status| status.code)
    }

    #[test]
    fn the_first_acceptable_form_is_taken() {
        for (accept, expected) in [
            ("", Ok(Shape::Object)),
            ("*/*", Ok(Shape::Object)),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Ok(Shape::Object)),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Ok(Shape::Object),
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Ok(Shape::Table { beta: false }),
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                Ok(Shape::Table { beta: true }),
            ),
            (
                "application/json;as=Table;v=v2;g=meta.k8s.io,application/json",
                Ok(Shape::Object),
            ),
            (
                "application/json;q=0.5,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                Ok(Shape::Metadata { beta: false }),
            ),
            ("application/json;as=Foo;v=v1;g=meta.k8s.io", Err(406)),
            (
                "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1",
                Err(406),
            ),
            ("application/*", Err(406)),
            ("text/html", Err(406)),
        ] {
            assert_eq!(shape(accept), expected, "{accept}");
        }
    }

    #[test]
    fn discovery_is_aggregated_only_where_it_is_asked_for() {
        let aggregated =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery_version(aggregated), Some("v2"));
        assert_eq!(discovery_version("application/json"), None);
    }
}
