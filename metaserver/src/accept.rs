//! Which form of an answer a client wants (Kubernetes `apiserver/pkg/endpoints/handlers/negotiation`, and go-restful before it).

use hub_core::api::{Reason, Status};
use hub_core::registry::ResourceKind;

use crate::clause::sorted;
use crate::fault;

/// How an answer is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Media {
    Json,
    Yaml,
    Protobuf,
    Cbor,
}

/// What of an object is shown.
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
        /// That of a list was asked for.
        list: bool,
    },
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) media: Media,
    pub(crate) shape: Shape,
    /// Whether JSON is laid out for people.
    pub(crate) pretty: bool,
}

/// What there is to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// An object.
    Object,
    /// A collection, which can be watched as well.
    List,
    /// An object or collection of a custom kind, which has no form in protobuf but for its metadata.
    Custom,
    /// An object that is not printed: the status of a definition or of an APIService.
    Unprinted,
}

impl Media {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::Cbor => "application/cbor",
        }
    }

    /// The type of a stream of events. None: there are no streams of it.
    pub(crate) fn stream_type(self) -> Option<&'static str> {
        match self {
            Self::Json => Some("application/json"),
            Self::Yaml => None,
            Self::Protobuf => Some("application/vnd.kubernetes.protobuf;stream=watch"),
            Self::Cbor => Some("application/cbor-seq"),
        }
    }

    /// What is offered, best first. CBOR only where it is switched on.
    fn offered(cbor: bool) -> &'static [Self] {
        let all = &[Self::Json, Self::Yaml, Self::Protobuf, Self::Cbor];
        if cbor { all } else { &all[..3] }
    }
}

impl Form {
    /// The form that a client gets who says nothing of it.
    pub(crate) const PLAIN: Self = Self {
        media: Media::Json,
        shape: Shape::Object,
        pretty: false,
    };

    /// Picks the first acceptable form.
    pub(crate) fn negotiate(accept: &str, offer: Offer, cbor: bool, pretty: bool) -> Result<Self, Status> {
        let offered = Media::offered(cbor);
        if offer != Offer::Custom {
            routed(accept, offer, offered)?;
        }
        let found = pick(accept, offered, |media, shape| match (shape, media) {
            (Shape::Object, Media::Protobuf) => offer != Offer::Custom,
            (Shape::Table { .. }, media) => {
                offer != Offer::Unprinted && matches!(media, Media::Json | Media::Yaml)
            }
            _ => true,
        });
        found.map(|form| form.or_pretty(pretty)).ok_or_else(|| {
            let types = offered.iter().map(|media| media.content_type());
            only(types)
        })
    }

    /// The same for the answers of discovery; whether they are found by go-restful's routes.
    pub(crate) fn of_discovery(accept: &str, pretty: bool, is_routed: bool) -> Result<Self, Status> {
        let offered = Media::offered(false);
        if is_routed {
            routed(accept, Offer::Object, offered)?;
        }
        let found = pick(accept, offered, |_, shape| shape == Shape::Object);
        let found = found.map(|form| form.or_pretty(pretty));
        found.ok_or_else(|| only(offered.iter().map(|media| media.content_type())))
    }

    /// The form of what went wrong. A client that accepts none of them gets JSON to read for itself.
    pub(crate) fn of_status(accept: &str, cbor: bool, pretty: bool) -> Self {
        let found = pick(accept, Media::offered(cbor), |_, shape| shape == Shape::Object);
        let unread = Self {
            pretty: true,
            ..Self::PLAIN
        };
        found.map_or(unread, |form| form.or_pretty(pretty))
    }

    /// Refuses to show one object as a list of them, or the other way round. `kind` is the kind of the object or of the list.
    pub(crate) fn suits(self, kind: &ResourceKind, is_list: bool) -> Result<Self, Status> {
        match self.shape {
            Shape::Metadata { list, .. } if list != is_list => Err(fault::other_shape(kind, is_list)),
            _ => Ok(self),
        }
    }

    /// Refuses what cannot be streamed.
    pub(crate) fn streamed(self, cbor: bool) -> Result<Self, Status> {
        if self.media.stream_type().is_some() {
            return Ok(self);
        }
        let types = Media::offered(cbor).iter().filter_map(|media| stream(*media));
        Err(only(types))
    }

    fn or_pretty(mut self, pretty: bool) -> Self {
        self.pretty |= pretty;
        self
    }
}

/// Whether, and in which version, the aggregated list of kinds is among the forms that are acceptable.
pub(crate) fn discovery_version(accept: &str) -> Option<(&'static str, Media)> {
    // Whoever reads the plain list too is given this one.
    sorted(accept).iter().find_map(|clause| {
        let media = [Media::Json, Media::Protobuf, Media::Yaml]
            .into_iter()
            .find(|media| clause.is(*media))?;
        let wanted = clause.convert.is_some_and(|convert| {
            (convert.kind, convert.group) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io")
                && convert.version == "v2"
        });
        wanted.then_some(("v2", media))
    })
}

/// Whether a client takes the only type that there is of a document.
pub(crate) fn takes(accept: &str, only: &str) -> Result<(), Status> {
    let known = |part: &str| {
        let media = part.split(';').next().unwrap_or_default().trim();
        media == "*/*" || media == only
    };
    if accept.is_empty() || accept.split(',').any(known) {
        return Ok(());
    }
    Err(Status::failure(
        Reason::NotAcceptable,
        format!("406: Not Acceptable\n\nAvailable representations: {only}"),
    )
    // Its details are there, and empty.
    .about("", "", ""))
}

/// What go-restful lets through to the negotiation: types without their parameters, and no wildcards but for all.
fn routed(accept: &str, offer: Offer, offered: &[Media]) -> Result<(), Status> {
    let streams = offered.iter().filter(|_| offer == Offer::List);
    let mut types: Vec<&str> = offered.iter().map(|media| media.content_type()).collect();
    types.extend(streams.filter_map(|media| stream(*media)));
    let known = |part: &str| {
        let media = part.split(';').next().unwrap_or_default().trim_matches(' ');
        media == "*/*" || types.contains(&media)
    };
    if accept.is_empty() || accept.split(',').any(known) {
        return Ok(());
    }
    let types = types.join(", ");
    Err(Status::failure(
        Reason::NotAcceptable,
        format!("{UNROUTED}{types}"),
    ))
}

/// Whether a request came no further than to go-restful's routes, which know no kinds.
pub(crate) fn is_unrouted(status: &Status) -> bool {
    status.message.starts_with(UNROUTED)
}

const UNROUTED: &str = "406: Not Acceptable\n\nAvailable representations: ";

/// How the type of a stream is named where types are listed.
fn stream(media: Media) -> Option<&'static str> {
    match media {
        Media::Json => Some("application/json;stream=watch"),
        other => other.stream_type(),
    }
}

fn only<'a>(types: impl Iterator<Item = &'a str>) -> Status {
    let types: Vec<&str> = types.collect();
    Status::failure(
        Reason::NotAcceptable,
        format!(
            "only the following media types are accepted: {}",
            types.join(", ")
        ),
    )
}

fn pick(accept: &str, offered: &[Media], allowed: impl Fn(Media, Shape) -> bool) -> Option<Form> {
    if accept.is_empty() {
        return Some(Form::PLAIN);
    }
    for clause in sorted(accept) {
        for media in offered.iter().copied().filter(|media| clause.is(*media)) {
            let streams =
                clause.stream.is_empty() || clause.stream == "watch" && media.stream_type().is_some();
            let Some(shape) = clause.shape() else { continue };
            if streams && clause.server_version && allowed(media, shape) {
                return Some(Form {
                    media,
                    shape,
                    pretty: clause.pretty && media == Media::Json,
                });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OBJECT: Shape = Shape::Object;
    const TABLE: Shape = Shape::Table { beta: false };

    fn form(accept: &str) -> Result<(Media, Shape), u16> {
        let form = Form::negotiate(accept, Offer::List, false, false);
        form.map(|form| (form.media, form.shape))
            .map_err(|status| status.code)
    }

    #[test]
    fn the_first_acceptable_form_is_taken() {
        for (accept, expected) in [
            ("", Ok((Media::Json, OBJECT))),
            ("*/*", Ok((Media::Json, OBJECT))),
            (
                "text/html,application/xhtml+xml,*/*;q=0.8",
                Ok((Media::Json, OBJECT)),
            ),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Ok((Media::Protobuf, OBJECT)),
            ),
            (
                "application/yaml;q=0.5, application/json;q=0.9",
                Ok((Media::Json, OBJECT)),
            ),
            ("application/cbor,application/json", Ok((Media::Json, OBJECT))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Ok((Media::Json, TABLE)),
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                Ok((Media::Json, Shape::Table { beta: true })),
            ),
            (
                "application/json;as=Table;v=v2;g=meta.k8s.io,application/json",
                Ok((Media::Json, OBJECT)),
            ),
            (
                "application/json;q=0.5,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                Ok((
                    Media::Json,
                    Shape::Metadata {
                        beta: false,
                        list: false,
                    },
                )),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/yaml;as=Table;g=meta.k8s.io;v=v1",
                Ok((Media::Yaml, TABLE)),
            ),
            // A wildcard comes after what is named, whatever the weights say.
            ("*/*,application/yaml;q=0.1", Ok((Media::Yaml, OBJECT))),
            ("application/json;stream=watch", Ok((Media::Json, OBJECT))),
            ("application/json;stream=other", Err(406)),
            ("application/json;as=Foo;v=v1;g=meta.k8s.io", Err(406)),
            (
                "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1",
                Err(406),
            ),
            ("application/*", Err(406)),
            ("text/html", Err(406)),
        ] {
            assert_eq!(form(accept), expected, "{accept}");
        }
    }

    #[test]
    fn custom_kinds_are_in_protobuf_only_by_their_metadata() {
        let form = |accept| Form::negotiate(accept, Offer::Custom, false, false).map(|form| form.media);
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        assert_eq!(form(metadata).unwrap(), Media::Protobuf);
        assert_eq!(
            form("application/vnd.kubernetes.protobuf,application/json").unwrap(),
            Media::Json
        );
        assert_eq!(
            form("application/vnd.kubernetes.protobuf").unwrap_err().message,
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        );
    }

    #[test]
    fn what_went_wrong_comes_in_a_form_that_is_read() {
        let form = |accept| Form::of_status(accept, false, false);
        assert_eq!(form("application/vnd.kubernetes.protobuf").media, Media::Protobuf);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!((form(table).media, form(table).pretty), (Media::Json, true));
        assert_eq!(form(&format!("{table},application/json")), Form::PLAIN);
    }

    #[test]
    fn cbor_is_there_where_it_is_switched_on() {
        let form = |accept, cbor| Form::negotiate(accept, Offer::List, cbor, false).map(|form| form.media);
        assert_eq!(form("application/cbor", true).unwrap(), Media::Cbor);
        assert!(form("application/cbor", false).is_err());
        assert!(
            form("application/cbor-seq", true)
                .unwrap_err()
                .message
                .starts_with("only")
        );
    }

    #[test]
    fn discovery_is_aggregated_only_where_it_is_asked_for() {
        let aggregated = |media: &str| format!("{media};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
        let both = format!("{},application/json", aggregated("application/json"));
        assert_eq!(discovery_version(&both), Some(("v2", Media::Json)));
        let protobuf = aggregated("application/vnd.kubernetes.protobuf");
        assert_eq!(discovery_version(&protobuf), Some(("v2", Media::Protobuf)));
        assert_eq!(discovery_version("application/json"), None);
    }

    proptest! {
        #[test]
        fn no_header_panics(accept in "[a-z*/;=,. 0-9]{0,60}") {
            let _ = Form::negotiate(&accept, Offer::List, true, false);
            let _ = discovery_version(&accept);
        }
    }
}
