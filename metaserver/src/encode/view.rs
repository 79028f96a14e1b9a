//! How one client sees the objects of one kind.

use std::sync::Arc;

use bytes::Bytes;
use hub_core::api::Status;
use hub_core::object::Revision;
use hub_core::registry::ResourceKind;
use hub_core::store::Stored;

use super::list::list;
use super::metadata::{internal, metadata, metadata_list};
use super::protobuf::{self, Cache};
use super::table::{IncludeObject, Table};
use super::{EncodeError, Page, cbor, line, transcode};
use crate::accept::{Form, Media, Shape};
use crate::body::Slices;

/// The kind, the form that the client wants, and what was made in that form for others before.
#[derive(Clone)]
pub(crate) struct View {
    kind: Arc<ResourceKind>,
    form: Form,
    include: IncludeObject,
    cache: Arc<Cache>,
    /// Whether a Table's columns have been described; of a watch that is done in its first event.
    described: bool,
}

impl View {
    pub(crate) fn new(
        kind: Arc<ResourceKind>,
        form: Form,
        include: IncludeObject,
        cache: Arc<Cache>,
    ) -> Self {
        Self {
            kind,
            form,
            include,
            cache,
            described: false,
        }
    }

    /// One object. Its revision, where it is one of the store's.
    pub(crate) fn object(&self, served: &Bytes, revision: Option<Revision>) -> Result<Slices, EncodeError> {
        if self.form.media == Media::Protobuf {
            return self.envelope(served, revision);
        }
        let json: Slices = match self.form.shape {
            Shape::Object => served.clone().into(),
            Shape::Metadata { beta, .. } => metadata(&internal(&self.kind, served), beta).into(),
            Shape::Table { beta } => self.table(beta).one(served, true).into(),
        };
        transcode(json, self.form)
    }

    /// A list.
    pub(crate) fn list(&self, page: &Page, objects: &[Arc<Stored>]) -> Result<Slices, EncodeError> {
        if self.form.media == Media::Protobuf {
            let (api_version, kind) = self.protobuf_kind();
            let messages = match self.form.shape {
                Shape::Metadata { .. } => objects
                    .iter()
                    .map(|stored| protobuf::raw(&api_version, kind, &internal(&self.kind, &stored.served)))
                    .collect::<Result<_, _>>()?,
                _ => self.messages(objects)?,
            };
            let list_kind = match self.form.shape {
                Shape::Metadata { .. } => "PartialObjectMetadataList",
                _ => &self.kind.list_kind,
            };
            let metadata = page.metadata(self.kind.custom);
            return Ok(protobuf::list(&api_version, list_kind, &metadata, &messages)?);
        }
        let json: Slices = match self.form.shape {
            Shape::Object => list(&self.kind, page, objects),
            Shape::Table { beta } => self.table(beta).list(page, objects).into(),
            Shape::Metadata { beta, .. } => metadata_list(&self.kind, page, objects, beta),
        };
        transcode(json, self.form)
    }

    /// Whether the form that the client wants is one that an event has: none is a list.
    pub(crate) fn has_events(&self) -> bool {
        !matches!(self.form.shape, Shape::Metadata { list: true, .. })
    }

    /// An event of a watch about an object.
    pub(crate) fn event(
        &mut self,
        slices: &mut Slices,
        event: &'static str,
        served: &Bytes,
        revision: Option<Revision>,
    ) -> Result<(), EncodeError> {
        if self.form.media == Media::Protobuf {
            let object = self.envelope(served, revision)?;
            protobuf::event(slices, event, object);
            return Ok(());
        }
        let object = match self.form.shape {
            Shape::Object => line(served),
            Shape::Metadata { beta, .. } => metadata(&internal(&self.kind, served), beta),
            Shape::Table { beta } => {
                let table = self.table(beta).one(served, !self.described);
                self.described = true;
                table
            }
        };
        self.framed(slices, event, object)
    }

    /// The event that ends a watch.
    pub(crate) fn error(&self, slices: &mut Slices, status: &Status) -> Result<(), EncodeError> {
        let status = Bytes::from(status.to_json());
        if self.form.media == Media::Protobuf {
            protobuf::event(slices, "ERROR", protobuf::transcode(&status)?);
            return Ok(());
        }
        self.framed(slices, "ERROR", status)
    }

    fn framed(&self, slices: &mut Slices, event: &'static str, object: Bytes) -> Result<(), EncodeError> {
        if self.form.media == Media::Cbor {
            slices.push(cbor::event(event, &object)?);
            return Ok(());
        }
        slices.push(Bytes::from_static(match event {
            "ADDED" => br#"{"type":"ADDED","object":"#,
            "MODIFIED" => br#"{"type":"MODIFIED","object":"#,
            "DELETED" => br#"{"type":"DELETED","object":"#,
            "BOOKMARK" => br#"{"type":"BOOKMARK","object":"#,
            _ => br#"{"type":"ERROR","object":"#,
        }));
        slices.push(object);
        slices.push(Bytes::from_static(b"}\n"));
        Ok(())
    }

    fn table(&self, beta: bool) -> Table<'_> {
        Table::new(&self.kind, self.include, beta)
    }

    /// The version and kind that an envelope names.
    fn protobuf_kind(&self) -> (String, &str) {
        match self.form.shape {
            Shape::Metadata { beta: true, .. } => ("meta.k8s.io/v1beta1".into(), "PartialObjectMetadata"),
            Shape::Metadata { beta: false, .. } => ("meta.k8s.io/v1".into(), "PartialObjectMetadata"),
            _ => (self.kind.resource.api_version(), &self.kind.kind),
        }
    }

    fn envelope(&self, served: &Bytes, revision: Option<Revision>) -> Result<Slices, EncodeError> {
        let (api_version, kind) = self.protobuf_kind();
        let kept = revision.filter(|_| self.form.shape == Shape::Object);
        if let Some(message) = kept.and_then(|revision| {
            self.cache
                .get(&self.kind.resource, [revision].into_iter())
                .pop()?
        }) {
            return Ok(protobuf::envelope(&api_version, kind, message.into()));
        }
        let message = match self.form.shape {
            Shape::Metadata { .. } => protobuf::raw(&api_version, kind, &internal(&self.kind, served))?,
            _ => protobuf::raw(&api_version, kind, served)?,
        };
        if let Some(revision) = kept {
            self.cache
                .put(&self.kind.resource, [(revision, message.clone())].into_iter());
        }
        Ok(protobuf::envelope(&api_version, kind, message.into()))
    }

    /// Each object as a message; those that were asked for before are there already.
    fn messages(&self, objects: &[Arc<Stored>]) -> Result<Vec<Bytes>, EncodeError> {
        let (api_version, kind) = self.protobuf_kind();
        let kept = self
            .cache
            .get(&self.kind.resource, objects.iter().map(|stored| stored.revision));
        let mut made = Vec::new();
        let messages: Result<Vec<Bytes>, EncodeError> = kept
            .into_iter()
            .zip(objects)
            .map(|(kept, stored)| {
                if let Some(message) = kept {
                    return Ok(message);
                }
                let message = protobuf::raw(&api_version, kind, &stored.served)?;
                made.push((stored.revision, message.clone()));
                Ok(message)
            })
            .collect();
        self.cache.put(&self.kind.resource, made.into_iter());
        messages
    }
}
