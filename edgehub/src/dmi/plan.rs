//! What a mapper must be told, given what it should have and what it was told: a pure plan.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What mappers are told of. Models come first: devices need them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Model,
    Device,
}

/// A model or a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

/// What a mapper should have, with the hash of each.
pub(crate) type Wanted = BTreeMap<Key, u64>;

/// What a mapper took, with the hash of each; None where it was perhaps told.
pub(crate) type Told = BTreeMap<Key, Option<u64>>;

/// What to tell of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is new to the mapper.
    Add,
    /// It may be new to the mapper, or old there: mappers take no new state from an addition of what they have.
    AddAndUpdate,
    /// The mapper has it otherwise.
    Update,
    /// The mapper should not have it.
    Remove,
}

/// The steps of a round, in stages: all of a stage is taken before the next begins, so no device is ever without its model.
pub(crate) fn plan(wanted: &Wanted, told: &Told) -> [Vec<(Key, Step)>; 4] {
    let [mut models, mut gone, mut devices, mut unused] = [const { Vec::new() }; 4];
    for (key, hash) in wanted {
        let step = match told.get(key) {
            None => Step::Add,
            Some(None) => Step::AddAndUpdate,
            Some(Some(known)) if known != hash => Step::Update,
            Some(Some(_)) => continue,
        };
        match key.kind {
            Kind::Model => models.push((key.clone(), step)),
            Kind::Device => devices.push((key.clone(), step)),
        }
    }
    for key in told.keys().filter(|key| !wanted.contains_key(key)) {
        match key.kind {
            Kind::Model => unused.push((key.clone(), Step::Remove)),
            Kind::Device => gone.push((key.clone(), Step::Remove)),
        }
    }
    [models, gone, devices, unused]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, name: &str) -> Key {
        Key {
            kind,
            namespace: "shop".into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_mapper_is_told_what_it_lacks_in_an_order_that_never_leaves_a_device_without_its_model() {
        use Kind::{Device, Model};
        let wanted = Wanted::from([
            (key(Device, "changed"), 2),
            (key(Device, "new"), 1),
            (key(Device, "perhaps"), 1),
            (key(Device, "same"), 1),
            (key(Model, "new"), 1),
            (key(Model, "same"), 1),
        ]);
        let told = Told::from([
            (key(Device, "changed"), Some(1)),
            (key(Device, "old"), Some(1)),
            (key(Device, "perhaps"), None),
            (key(Device, "same"), Some(1)),
            (key(Model, "old"), None),
            (key(Model, "same"), Some(1)),
        ]);
        let expected = [
            vec![(key(Model, "new"), Step::Add)],
            vec![(key(Device, "old"), Step::Remove)],
            vec![
                (key(Device, "changed"), Step::Update),
                (key(Device, "new"), Step::Add),
                (key(Device, "perhaps"), Step::AddAndUpdate),
            ],
            vec![(key(Model, "old"), Step::Remove)],
        ];
        assert_eq!(plan(&wanted, &told), expected);
        let all = wanted
            .iter()
            .map(|(key, hash)| (key.clone(), Some(*hash)))
            .collect();
        assert_eq!(
            plan(&wanted, &all),
            [const { Vec::new() }; 4],
            "told everything, there is nothing left"
        );
    }
}
