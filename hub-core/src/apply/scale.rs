//! Who owns how many replicas an object wants: the same field, as the object has it and as its scale does.

use super::element::Element;
use super::managed::{Entry, Managed, Manager, Operation};
use super::set::FieldSet;

impl Managed {
    /// Who owns the number of replicas, as owners of the scale. `path` is where the object has it.
    pub fn of_scale(&self, path: &[&str]) -> Self {
        let path = fields(path);
        let owners = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.fields.contains(&path));
        let owners = owners.map(|(manager, entry)| {
            let entry = Entry {
                fields: FieldSet::of_fields(&[IN_SCALE]),
                api_version: SCALE_VERSION.to_owned(),
                time: entry.time.clone(),
            };
            (in_scale(manager), entry)
        });
        Self {
            entries: owners.collect(),
        }
    }

    /// The same owners of an object after its scale was written, whose owners are `scale` now.
    ///
    /// Who owns the number through the scale only has no time, as a kube-apiserver leaves it out.
    #[must_use]
    pub fn with_scale(mut self, mut scale: Self, path: &[&str], api_version: &str) -> Self {
        let number = FieldSet::of_fields(&[path]);
        let path = fields(path);
        for (manager, entry) in &mut self.entries {
            if entry.fields.contains(&path) && scale.entries.remove(&in_scale(manager)).is_none() {
                entry.fields = std::mem::take(&mut entry.fields).difference(&number);
            }
        }
        self.keep_owners();
        let replicas = fields(IN_SCALE);
        for (manager, _) in scale
            .entries
            .into_iter()
            .filter(|(_, entry)| entry.fields.contains(&replicas))
        {
            let operation: Operation = manager.operation;
            let subresource = Some(&*manager.subresource);
            let manager = Manager::new(&manager.name, operation, api_version, subresource);
            let time = self.entries.get(&manager).and_then(|entry| entry.time.clone());
            let entry = Entry {
                fields: number.clone(),
                api_version: api_version.to_owned(),
                time,
            };
            self.entries.insert(manager, entry);
        }
        self
    }
}

/// Who owns it, as conflicts about the scale name him.
fn in_scale(manager: &Manager) -> Manager {
    let subresource = Some(&*manager.subresource);
    Manager::new(&manager.name, manager.operation, SCALE_VERSION, subresource)
}

fn fields(path: &[&str]) -> Vec<Element> {
    path.iter().map(|name| Element::field(name)).collect()
}

const IN_SCALE: &[&str] = &["spec", "replicas"];
/// Group and version of every scale.
pub const SCALE_VERSION: &str = "autoscaling/v1";
