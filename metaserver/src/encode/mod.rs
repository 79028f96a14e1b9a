//! Stored objects as clients want to see them: as they are, their metadata only, or as rows of a table.

mod list;
mod metadata;
mod pretty;
pub(crate) mod protobuf;
mod table;

use bytes::Bytes;
use hub_core::registry::ResourceKind;

pub(crate) use list::{Page, list, with_type};
pub(crate) use metadata::{metadata, metadata_list};
pub(crate) use pretty::pretty;
pub(crate) use table::{IncludeObject, Table};

use crate::accept::Shape;
use crate::body::Slices;

/// One object in the wanted form.
pub(crate) fn object(kind: &ResourceKind, shape: Shape, include: IncludeObject, served: &Bytes) -> Slices {
    match shape {
        Shape::Object => served.clone().into(),
        Shape::Metadata { beta } => metadata(served, beta).into(),
        Shape::Table { beta } => Table::new(kind, include, beta).one(served, true).into(),
    }
}

/// An object on one line, as clients of a watch that read line by line need it. Almost always it is on one already.
pub(crate) fn line(served: &Bytes) -> Bytes {
    let trimmed = served.slice_ref(served.trim_ascii());
    if !trimmed.contains(&b'\n') {
        return trimmed;
    }
    // Between tokens a line break is only space; inside strings JSON cannot have one.
    trimmed
        .iter()
        .map(|byte| if *byte == b'\n' { b' ' } else { *byte })
        .collect()
}
