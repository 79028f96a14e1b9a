//! Fields that others own and that an apply would change.

use std::collections::BTreeMap;

use super::element::Element;
use super::managed::Manager;
use super::set::FieldSet;
use crate::api::{Reason, Status};

/// What others own and an apply would change. Whoever applies may force it, or give way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct Conflicts(pub(super) BTreeMap<Manager, FieldSet>);

impl Conflicts {
    /// All fields in question.
    pub fn fields(&self) -> FieldSet {
        self.0
            .values()
            .cloned()
            .fold(FieldSet::default(), FieldSet::union)
    }

    /// Those that are not about these fields. None when no conflict is left.
    pub(super) fn without(&self, fields: &FieldSet) -> Option<Self> {
        let left = self
            .0
            .iter()
            .map(|(manager, set)| (manager.clone(), set.clone().difference(fields)));
        let left: BTreeMap<_, _> = left.filter(|(_, set)| !set.is_empty()).collect();
        (!left.is_empty()).then_some(Self(left))
    }

    /// The answer of an API server: 409 with a cause for each field.
    pub fn to_status(&self) -> Status {
        let status = Status::failure(Reason::Conflict, self.message());
        self.each().fold(status, |status, (manager, path)| {
            status.cause("FieldManagerConflict", &format!("conflict with {manager}"), &path)
        })
    }

    fn message(&self) -> String {
        let all: Vec<_> = self.each().collect();
        if let [(manager, path)] = &all[..] {
            return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
        }
        let lines = self.0.iter().map(|(manager, fields)| {
            let paths = fields
                .paths()
                .into_iter()
                .map(|path| format!("\n- {}", shown(&path)));
            format!("conflicts with {}:{}", manager.shown(), paths.collect::<String>())
        });
        let lines: Vec<_> = lines.collect();
        format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n"))
    }

    /// Each field with who owns it.
    fn each(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().flat_map(|(manager, fields)| {
            fields
                .paths()
                .into_iter()
                .map(|path| (manager.shown(), shown(&path)))
        })
    }
}

fn shown(path: &[Element]) -> String {
    path.iter().map(Element::to_string).collect()
}
