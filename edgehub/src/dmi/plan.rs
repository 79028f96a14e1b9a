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

/// What a mapper took, with the hash of each; None where it was perhaps told, [`SOME`] where it has one state or another.
pub(crate) type Told = BTreeMap<Key, Option<u64>>;

/// The hash of no state. What is about to be told anew is noted with it: if the answer is lost, and the old state is wanted again before the
/// new one was told for certain, the mapper must hear of that.
pub(crate) const SOME: u64 = 0;

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

/// What to note before a plan is carried out.
pub(crate) fn begun(stages: &[Vec<(Key, Step)>; 4]) -> Vec<(Key, Option<u64>)> {
    let steps = stages.iter().flatten();
    let begun = steps.filter_map(|(key, step)| match step {
        Step::Add | Step::Remove => Some((key.clone(), None)),
        Step::Update => Some((key.clone(), Some(SOME))),
        Step::AddAndUpdate => None,
    });
    begun.collect()
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

    /// A node, its mapper and the devices, by seed. Everything but what was noted ends with the program; the mapper loses all when it ends.
    struct World {
        seed: u64,
        wanted: Wanted,
        noted: Told,
        mapper: BTreeMap<Key, u64>,
    }

    impl World {
        fn random(&mut self, below: u64) -> u64 {
            let seed = self.seed.wrapping_mul(6_364_136_223_846_793_005);
            self.seed = seed.wrapping_add(1_442_695_040_888_963_407);
            (self.seed >> 33) % below
        }

        fn change(&mut self) {
            let (name, hash) = (format!("d{}", self.random(3)), 1 + self.random(100));
            let device = key(Kind::Device, &name);
            if self.random(3) == 0 {
                self.wanted.remove(&device);
            } else {
                self.wanted.insert(device, hash);
            }
            self.wanted.remove(&key(Kind::Model, "m"));
            if !self.wanted.is_empty() {
                let model = 1 + self.random(2);
                self.wanted.insert(key(Kind::Model, "m"), model);
            }
        }

        /// The mapper ends and registers anew: with all that there is, or asking for nothing.
        fn register(&mut self) {
            let forgets = self.random(2) == 0;
            if forgets {
                self.mapper.clear();
            }
            if self.random(2) == 0 {
                self.mapper.extend(self.wanted.clone());
                self.noted = self
                    .wanted
                    .iter()
                    .map(|(key, hash)| (key.clone(), Some(*hash)))
                    .collect();
                // What it has beside that it is not told of again: only one that forgets asks for all.
                let wanted = &self.wanted;
                self.mapper.retain(|key, _| wanted.contains_key(key));
            } else {
                self.noted.values_mut().for_each(|took| *took = None);
            }
        }

        /// A round of the worker, which may end between any two steps, with the program or with a mapper that falls silent.
        fn round(&mut self, ends: bool) {
            let stages = plan(&self.wanted, &self.noted);
            self.noted.extend(begun(&stages));
            for (key, step) in stages.into_iter().flatten() {
                if ends && self.random(4) == 0 {
                    return;
                }
                match step {
                    Step::Remove => {
                        self.mapper.remove(&key);
                    }
                    // KubeEdge's framework takes no new state from an addition of what it has.
                    Step::Add => {
                        self.mapper.entry(key.clone()).or_insert(self.wanted[&key]);
                    }
                    Step::AddAndUpdate | Step::Update => {
                        self.mapper.insert(key.clone(), self.wanted[&key]);
                    }
                }
                let has_model = self.mapper.contains_key(&self::key(Kind::Model, "m"));
                assert!(has_model || self.mapper.is_empty(), "a device without its model");
                if ends && self.random(4) == 0 {
                    // It was told, and that is not noted.
                    return;
                }
                match self.wanted.get(&key) {
                    Some(hash) => self.noted.insert(key, Some(*hash)),
                    None => self.noted.remove(&key),
                };
            }
        }
    }

    #[test]
    fn whoever_ends_when_a_mapper_comes_to_have_what_it_should_and_nothing_else() {
        for seed in 0..5000 {
            let mut world = World {
                seed,
                wanted: Wanted::new(),
                noted: Told::new(),
                mapper: BTreeMap::new(),
            };
            for _ in 0..60 {
                match world.random(6) {
                    0..=2 => world.change(),
                    3 => world.register(),
                    _ => world.round(true),
                }
            }
            world.round(false);
            assert_eq!(world.mapper, world.wanted, "seed {seed}");
        }
    }
}
