//! The clauses of an `Accept`, read as kube-apiserver reads them (`munnerz/goautoneg`, `handlers/negotiation`).

use std::cmp::Ordering;

use crate::accept::{Media, Shape};

/// One of them.
pub(crate) struct Clause<'a> {
    group: &'a str,
    media: &'a str,
    weight: f32,
    pub(crate) convert: Option<Convert<'a>>,
    pub(crate) stream: &'a str,
    pub(crate) pretty: bool,
    /// Whether the version of the server's own kinds that is asked for is one that there is.
    pub(crate) server_version: bool,
}

/// The kind that an answer is to be turned into.
#[derive(Default, Clone, Copy)]
pub(crate) struct Convert<'a> {
    pub(crate) kind: &'a str,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
}

/// The clauses in the order in which a real server looks at them.
pub(crate) fn sorted(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = Vec::new();
    // Not by a sort of ours: this comparison is no order, and what comes out depends on how it is used.
    for clause in accept.split(',').filter_map(Clause::parse) {
        let mut place = clauses.len();
        while place > 0 && clause.before(&clauses[place - 1]) {
            place -= 1;
        }
        clauses.insert(place, clause);
    }
    clauses
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.trim_matches(' ').split(';');
        let (group, media) = match parts.next()?.split_once('/') {
            Some((group, media)) if !media.contains('/') && !media.is_empty() => (group, media),
            None => Some(("*", "*")).filter(|_| text.trim_matches(' ').starts_with('*'))?,
            _ => return None,
        };
        let mut clause = Self {
            group: group.trim_matches(' '),
            media: media.trim_matches(' '),
            weight: 1.0,
            convert: None,
            stream: "",
            pretty: false,
            server_version: true,
        };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else {
                continue;
            };
            if value.is_empty() || value.contains('=') {
                continue;
            }
            let trimmed = value.trim_matches(' ');
            match name.trim_matches(' ') {
                "q" => clause.weight = value.parse().unwrap_or_default(),
                "as" => clause.convert.get_or_insert_default().kind = trimmed,
                "g" => clause.convert.get_or_insert_default().group = trimmed,
                "v" => clause.convert.get_or_insert_default().version = trimmed,
                "stream" => clause.stream = trimmed,
                "pretty" => clause.pretty = trimmed == "1",
                "sv" => clause.server_version = trimmed == "v1",
                _ => {}
            }
        }
        Some(clause)
    }

    fn before(&self, other: &Self) -> bool {
        self.weight.partial_cmp(&other.weight) == Some(Ordering::Greater)
            || self.group != "*" && other.group == "*"
            || self.media != "*" && other.media == "*"
    }

    pub(crate) fn is(&self, media: Media) -> bool {
        let (group, name) = media.content_type().split_once('/').unwrap_or_default();
        match (self.group, self.media) {
            ("*", "*") => true,
            (own, "*") => own == group,
            (own, media) => own == group && media == name,
        }
    }

    /// The same as a server of OpenAPI compares: each half may be anything, and an `@` is as good as a dot.
    pub(crate) fn names(&self, content_type: &str) -> bool {
        let (group, name) = content_type.split_once('/').unwrap_or_default();
        let media = self.media.replace('@', ".");
        (self.group == "*" || self.group == group) && (media == "*" || media == name)
    }

    /// None when it is one that nobody has.
    pub(crate) fn shape(&self) -> Option<Shape> {
        let Some(convert) = self.convert else {
            return Some(Shape::Object);
        };
        let beta = match (convert.group, convert.version) {
            ("meta.k8s.io", "v1") => false,
            ("meta.k8s.io", "v1beta1") => true,
            _ => return None,
        };
        match convert.kind {
            "Table" => Some(Shape::Table { beta }),
            "PartialObjectMetadata" => Some(Shape::Metadata { beta, list: false }),
            "PartialObjectMetadataList" => Some(Shape::Metadata { beta, list: true }),
            _ => None,
        }
    }
}
