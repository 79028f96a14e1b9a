//! Every key that KubeEdge has or had since its first configuration files, and what becomes of it here.
//!
//! One table a program, in runs of keys that share one fate. The programs, their log and the tables of `docs/operations.md` all
//! follow it. The defaults stand in `recorded/`.

mod cloudcore;
mod edgecore;
mod kubelet;

use super::kind::Kind;

/// The keys of one program's file.
#[derive(Debug)]
pub struct Catalogue {
    /// The program: `cloudcore`.
    pub program: &'static str,
    /// `kind` of its file.
    pub kind: &'static str,
    /// What the program of KubeEdge prints for `--defaultconfig`.
    pub default: &'static str,
    /// And for `--minconfig`.
    pub min: &'static str,
    /// The defaults of our own keys.
    pub ours: &'static str,
    /// The runs of keys.
    pub runs: &'static [&'static [Run]],
}

/// Keys below one path that share one fate.
#[derive(Debug)]
pub struct Run {
    /// The path above them; empty at the top.
    pub path: &'static str,
    /// Their names, with what they take.
    pub keys: Keys,
    /// What becomes of them.
    pub fate: Fate,
}

/// The names of a run.
#[derive(Debug)]
pub enum Keys {
    /// Names with what they take.
    Checked(&'static [(&'static str, Kind)]),
    /// Names, separated by spaces. Their values are compared with KubeEdge's defaults.
    Named(&'static str),
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does what it says.
    Honoured(&'static str),
    /// It has no effect; what to do instead.
    Ignored(&'static str),
    /// It switches on what is always on here; only `false` has no effect.
    Always(&'static str),
    /// It belongs to a part of KubeEdge that these programs do not have; what to do instead. Keys of a part that is switched off
    /// deserve no word.
    Absent(&'static str),
    /// A release of KubeEdge before this one had it.
    Earlier(&'static str),
    /// A release before this one had it elsewhere: it is taken as that key, unless that one is given too.
    Moved(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The run it is in.
    pub run: &'static Run,
    /// The name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
}

impl Catalogue {
    /// `cloudcore.yaml`.
    pub fn cloudcore() -> &'static Self {
        &cloudcore::CATALOGUE
    }

    /// `edgecore.yaml`.
    pub fn edgecore() -> &'static Self {
        &edgecore::CATALOGUE
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.runs.iter().copied().flatten().flat_map(Run::keys)
    }
}

impl Run {
    const fn honoured(
        path: &'static str,
        about: &'static str,
        keys: &'static [(&'static str, Kind)],
    ) -> Self {
        Self {
            path,
            keys: Keys::Checked(keys),
            fate: Fate::Honoured(about),
        }
    }

    const fn named(path: &'static str, fate: Fate, names: &'static str) -> Self {
        Self {
            path,
            keys: Keys::Named(names),
            fate,
        }
    }

    /// Its keys.
    pub fn keys(&'static self) -> Box<dyn Iterator<Item = Key>> {
        let run = self;
        match self.keys {
            Keys::Checked(keys) => Box::new(keys.iter().map(move |&(name, kind)| Key { run, name, kind })),
            Keys::Named(names) => Box::new(names.split_whitespace().map(move |name| {
                let kind = if name == "enable" { Kind::Switch } else { Kind::Any };
                Key { run, name, kind }
            })),
        }
    }
}

impl Key {
    /// The full path.
    pub fn path(&self) -> String {
        if self.run.path.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}.{}", self.run.path, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn both() -> [&'static Catalogue; 2] {
        [Catalogue::cloudcore(), Catalogue::edgecore()]
    }

    #[test]
    fn no_key_stands_in_two_runs() {
        for catalogue in both() {
            let mut seen = BTreeSet::new();
            for key in catalogue.keys() {
                assert!(seen.insert(key.path().to_lowercase()), "{} twice", key.path());
            }
        }
    }

    #[test]
    fn a_moved_key_moved_to_a_key_that_is_honoured() {
        for catalogue in both() {
            for key in catalogue.keys() {
                if let Fate::Moved(to) = key.run.fate {
                    let target = catalogue.keys().find(|key| key.path() == to);
                    let fate = target.map(|target| target.run.fate);
                    assert!(matches!(fate, Some(Fate::Honoured(_))), "{to}");
                }
            }
        }
    }
}
